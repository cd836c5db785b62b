"""Numbers and clock times in a block of bytes, eight bytes at once: those from one byte on are one little-endian word.

Bytes that are not looked at are masked to 0, and neighbouring digits joined: eight to four pairs, two fours, one number.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

WORD = 8
"""Bytes."""
CLOCK = b"00:00:00"
DATE, DAY_AND_HOUR = b"0000-00-", b"00T00:00"
"""The first eight bytes of a time, and the next; its last eight are a clock."""
TIME_LENGTH = len("2020-06-30T13:41:42")

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ZEROS, _HIGH_BITS, _TO_HIGH_BIT_FROM_TEN = (np.uint64(int(f"{byte:02x}" * WORD, 16)) for byte in (ord("0"), 0x80, 0x76))


def words_at(data: bytes, at: Ints) -> Words:
    """The words that begin at `at`; of `data`, which has a word at least, the first or the last for what is not within."""
    return np.ndarray(len(data) - WORD + 1, "<u8", data, strides=(1,))[np.clip(at, 0, len(data) - WORD)]


@lru_cache(maxsize=16)
def _parts(form: bytes) -> tuple[np.uint64, np.uint64]:
    """Of a form the mask of its digits, and what is between them."""
    masks = bytes(0xFF if byte == ord("0") else 0 for byte in form), bytes(0 if byte == ord("0") else byte for byte in form)
    digits, others = (np.uint64(int.from_bytes(mask, "little")) for mask in masks)
    return digits, others


def has_form(words: Words, form: bytes) -> Bools:
    """Whether a word has a digit wherever the form has a 0, and the form's own byte elsewhere."""
    digits, others = _parts(form)
    same: Bools = _are_digits((words ^ _ZEROS) & digits) & ((words & ~digits) == others)
    return same


def pairs(words: Words, form: bytes, *at: int) -> tuple[Ints, ...]:
    """Of words of this form the numbers that the two digits at each of these bytes spell."""
    values = (words ^ _ZEROS) & _parts(form)[0]
    values = values * np.uint64(10) + (values >> np.uint64(8))
    return tuple(((values >> np.uint64(8 * byte)) & np.uint64(0xFF)).astype(np.int64) for byte in at)


def clock_seconds(words: Words) -> Ints:
    """Seconds of HH:MM:SS, in words of this form."""
    hours, minutes, seconds = pairs(words, CLOCK, 0, 3, 6)
    return (hours * 60 + minutes) * 60 + seconds


def numbers_before(data: bytes, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """The numbers that fields spell, and whether each is one to eight digits."""
    lengths = ends - starts
    masked = np.clip(lengths, 1, WORD)
    words = (words_at(data, ends - WORD) ^ _ZEROS) & (_ALL << (64 - 8 * masked).astype(np.uint64))
    good = _are_digits(words) & (lengths >= 1) & (lengths <= WORD) & (ends >= WORD)
    words = (words * np.uint64(10 * 256 + 1)) >> np.uint64(8)
    words = ((words & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 65536 + 1)) >> np.uint64(16)
    words = ((words & np.uint64(0x0000FFFF0000FFFF)) * np.uint64((10000 << 32) + 1)) >> np.uint64(32)
    return words.astype(np.int64), good


def are_clocks(data: bytes, starts: Ints, ends: Ints) -> Bools:
    """Which fields are HH:MM:SS."""
    clocks: Bools = (ends - starts == len(CLOCK)) & has_form(words_at(data, starts), CLOCK)
    return clocks


def are_times(data: bytes, starts: Ints, ends: Ints) -> Bools:
    """Which fields are YYYY-MM-DDTHH:MM:SS."""
    forms = ((DATE, 0), (DAY_AND_HOUR, len(DATE)), (CLOCK, TIME_LENGTH - len(CLOCK)))
    times: Bools = ends - starts == TIME_LENGTH
    for form, place in forms:
        times &= has_form(words_at(data, starts + place), form)
    return times


def are_numbers(data: bytes, starts: Ints, ends: Ints) -> Bools:
    """Which fields are one to eight digits."""
    return numbers_before(data, starts, ends)[1]


def _are_digits(values: Words) -> Bools:
    digits: Bools = ((values + _TO_HIGH_BIT_FROM_TEN) | values) & _HIGH_BITS == 0
    return digits
