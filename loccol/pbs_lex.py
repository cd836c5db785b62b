"""A block of a PBS accounting log as lines, all at once: the first step of the fast lane (`loccol.pbs_attributes` is the second).

Four bytes divide a line: blank, `=`, `;` and newline. Their positions in the block are found once; the fourth separator of a
regular line ends its job id. Lines with any byte outside printable ASCII, a `;` in the message, a name that is not known for one, a
name twice, or a quoted value with a blank in it are not regular, and left to the careful lane.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from batchacct.parsing import Reject
from batchacct.parsing.columnar import spans_of
from loccol.pbs_line import instant

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

compute: Any = pyarrow.compute
"""Untyped: the stubs know fewer kinds of arguments than the kernels take."""

NEWLINE, BLANK, QUOTE, APOSTROPHE, SEMICOLON, EQUALS, BACKSLASH, BRACKET, CLOSING_BRACKET, DOT = b"\n \"';=\\[]."
LONGEST_NUMBER, LONGEST_INDEX = 18, 9
"""Digits of a job's number, and of an array index."""
CLOCK_AT, KIND_AT, ID_AT = 14, 20, 22
SHORTEST_LINE = 24

_CLOCK = int.from_bytes(b"00:00;\0;", "little")
"""What follows hour and colon at the beginning of a line: minutes, seconds, kind."""
_CLOCK_SIGNS = int.from_bytes(b"\0\0\xff\0\0\xff\0\xff", "little")
_CLOCK_DIGITS = int.from_bytes(b"\xf0\xf0\0\xf0\xf0\0\0\0", "little")
_CLOCK_OVER = int.from_bytes(b"\x06\x06\0\x06\x06\0\0\0", "little")


@dataclass(slots=True)
class Lines:
    """The lines of a block: line i is `data[starts[i]:ends[i]]`, its message begins at `messages[i]`.

    Where a line is not `regular`, its kind, time and id mean nothing.
    """

    data: bytes
    array: Bytes
    starts: Ints
    ends: Ints
    messages: Ints
    kinds: Bytes
    logged_at: Ints
    regular: Bools
    separators: Ints
    separator_kinds: Bytes
    newlines: Ints

    def text(self, starts: Ints, ends: Ints, there: Bools, kind: pa.DataType | None = None) -> pa.Array[Any]:
        """Spans of the block, ascending, as texts (or as another kind); null where nothing is there."""
        return spans_of(self.data, starts, ends, kind or pa.string(), there)


def lex(data: bytes, whole: int, zone: dt.tzinfo) -> Lines:
    """The first `whole` bytes of `data`, complete lines."""
    array = np.frombuffer(data, np.uint8, whole)
    separators = np.flatnonzero((array == BLANK) | (array == EQUALS) | (array == SEMICOLON) | (array == NEWLINE))
    kinds = array[separators]
    newlines = np.flatnonzero(kinds == NEWLINE)
    ends = separators[newlines]
    starts = after(ends)
    first = after(newlines)
    regular = (newlines - first >= 4) & (ends - starts >= SHORTEST_LINE)
    semicolons = np.diff(np.searchsorted(np.flatnonzero(kinds == SEMICOLON), newlines), prepend=0)
    regular &= semicolons == 3
    fourth = np.where(regular, first + 3, 0)
    regular &= (kinds[fourth] == SEMICOLON) & (separators[np.where(regular, first + 2, 0)] == starts + ID_AT - 1)
    if np.count_nonzero(array - np.uint8(BLANK) > 94) != len(newlines):
        odd = np.flatnonzero((array - np.uint8(BLANK) > 94) & (array != NEWLINE))
        regular[np.searchsorted(ends, odd)] = False
    logged_at = np.zeros(len(starts), np.int64)
    _read_times(array, starts, zone, regular, logged_at)
    kind = np.where(regular, array[np.where(regular, starts + KIND_AT, 0)], np.uint8(0))
    messages = separators[fourth] + 1
    return Lines(data, array, starts, ends, messages, kind, logged_at, regular, separators, kinds, newlines)


def after(ends: Ints) -> Ints:
    """Where each piece begins that ends before the next separator: behind the separator before."""
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    return starts


def _read_times(array: Bytes, starts: Ints, zone: dt.tzinfo, regular: Bools, logged_at: Ints) -> None:
    """Times of the regular lines; in an hour in which the zone's offset changes they are not regular, nor if it does not exist.

    Lines of the same hour mostly follow each other.
    """
    lines = np.flatnonzero(regular)
    if not len(lines):
        return
    starts = starts[lines]
    words = words_of(array)
    dates, hours, clocks = words[starts], words[starts + 6], words[starts + CLOCK_AT]
    first = np.flatnonzero(np.append(True, (dates[1:] != dates[:-1]) | (hours[1:] != hours[:-1])))
    stamps = (array[start : start + CLOCK_AT].tobytes() for start in starts[first].tolist())
    begins = np.repeat(np.array([_hour_begins(stamp, zone) for stamp in stamps], np.int64), np.diff(first, append=len(lines)))
    signs, digits = np.uint64(_CLOCK_SIGNS), np.uint64(_CLOCK_DIGITS)
    good = (begins > 0) & ((clocks & signs) == np.uint64(_CLOCK & _CLOCK_SIGNS))
    good &= (clocks & digits) == np.uint64(_CLOCK & _CLOCK_DIGITS)
    good &= ((clocks + np.uint64(_CLOCK_OVER)) & digits) == np.uint64(_CLOCK & _CLOCK_DIGITS)
    tens, ones, ten_seconds, seconds = ((clocks >> np.uint64(8 * at)).astype(np.int64) & 0xF for at in (0, 1, 3, 4))
    good &= (tens < 6) & (ten_seconds < 6)
    regular[lines] = good
    logged_at[lines] = begins + (tens * 10 + ones) * 60 + ten_seconds * 10 + seconds


@lru_cache(maxsize=1 << 12)
def _hour_begins(stamp: bytes, zone: dt.tzinfo) -> int:
    """Unix seconds of the beginning of the hour `MM/DD/YYYY HH:`; 0 if it does not exist, or is not one hour of 3600 s."""
    try:
        first, last = instant(stamp + b"00:00", zone), instant(stamp + b"59:59", zone)
    except Reject:
        return 0
    return first if last - first == 3599 else 0


def words_of(array: Bytes) -> Any:
    """The eight bytes from every place on, as a little-endian number; the last seven places have none."""
    return np.ndarray(max(len(array) - 7, 0), "<u8", array.data, strides=(1,))


def ids(lines: Lines, chosen: Ints) -> tuple[dict[str, pa.Array[Any]], Bools]:
    """Ids of those of the chosen lines that have a regular one (`number` or `number[index]`, and `.server` or not), and which.

    By name: as `written`, its `number`, its `index` (an integer) and its `element` (`number[index]`), both null for a job that is
    no element of an array, and all of it `without` index.
    """
    begins, ends = lines.starts[chosen] + ID_AT, lines.messages[chosen] - 1
    number_ends, good = past_digits(lines.array, begins, LONGEST_NUMBER)
    is_element: Bools = lines.array[number_ends] == BRACKET
    stops = number_ends
    if is_element.any():
        index_ends, has_index = past_digits(lines.array, number_ends + 1, LONGEST_INDEX)
        has_index &= (lines.array[number_ends + 1] != ord("0")) | (index_ends - number_ends == 2)
        good &= ~is_element | (has_index & (lines.array[index_ends] == CLOSING_BRACKET))
        stops = np.where(is_element, index_ends + 1, number_ends)
    good &= (stops == ends) | (lines.array[stops] == DOT)
    begins, number_ends, stops, ends = (places[good] for places in (begins, number_ends, stops, ends))
    is_element = is_element[good]
    everywhere = np.ones(len(begins), np.bool_)
    written, number = lines.text(begins, ends, everywhere), lines.text(begins, number_ends, everywhere)
    index = np.zeros(len(begins), np.int64)
    index[is_element], _ = integers(lines.data, number_ends[is_element] + 1, stops[is_element] - 1)
    found = {"written": written, "number": number, "without": written}
    found |= {"index": pa.array(index, mask=~is_element), "element": lines.text(begins, stops, is_element)}
    if is_element.any():
        joined = compute.binary_join_element_wise(number, lines.text(stops, ends, everywhere), "")
        found["without"] = compute.if_else(pa.array(is_element), joined, written)
    return found, good


def past_digits(array: Bytes, starts: Ints, most: int) -> tuple[Ints, Bools]:
    """Where the digits end that begin at each of `starts`, and whether there are any, and `most` (18 at the most) at the most.

    Eight bytes are one little-endian word; of what is no digit the highest bit is set, and the first such byte counts. An addition
    that overflows changes only bytes behind it. What is behind the array is no digit.
    """
    words = words_of(array)
    ones, zeros, rest, high = (np.uint64(byte * 0x0101010101010101) for byte in (0x01, 0x30, 0x76, 0x80))
    ends = starts.copy()
    going = np.arange(len(starts))
    for _ in range(most // 8 + 1):
        beyond = np.clip(ends[going] - (len(array) - 8), 0, 8)
        word = words[ends[going] - beyond]
        word = np.where(beyond < 8, word >> (8 * np.minimum(beyond, 7)).astype(np.uint64), 0) ^ zeros
        other = ((word + rest) | word) & high
        before = ((other & (~other + np.uint64(1))) - np.uint64(1)) >> np.uint64(7)
        ends[going] += (((before & ones) * ones) >> np.uint64(56)).astype(np.int64)
        going = going[other == 0]
        if not len(going):
            break
    count = ends - starts
    return ends, (count > 0) & (count <= most)


def integers(data: Any, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """Numbers of one to sixteen digits, and which spans are that; a span ends sixteen bytes or more after the data begins."""
    if not len(starts):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    count = ends - starts
    numbers, good = _eight_digits(data, ends - 8, np.clip(count, 1, 8))
    good &= (count > 0) & (count <= 16)
    if count.max() > 8:
        long = count > 8
        high, also = _eight_digits(data, ends - 16, np.clip(count - 8, 1, 8))
        numbers += np.where(long, high, 0) * 100_000_000
        good &= also | ~long
    return np.where(good, numbers, 0), good


def _eight_digits(data: Any, at: Ints, digits: Ints) -> tuple[Ints, Bools]:
    """The number that the last `digits` (1 to 8) of the eight bytes from each of `at` on spell, and whether they are digits.

    The eight bytes are one little-endian word, bytes before the digits set to `0`; then neighbours are joined: 8 digits to 4
    pairs, to 2 fours, to one number.
    """
    words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))[at]
    mask = np.uint64(0xFFFFFFFFFFFFFFFF) << (64 - 8 * digits).astype(np.uint64)
    words = (words & mask) | (np.uint64(0x3030303030303030) & ~mask)
    tens, zeros = np.uint64(0xF0F0F0F0F0F0F0F0), np.uint64(0x3030303030303030)
    good = ((words & tens) == zeros) & (((words + np.uint64(0x0606060606060606)) & tens) == zeros)
    words &= np.uint64(0x0F0F0F0F0F0F0F0F)
    words = (words * np.uint64(10 * 256 + 1)) >> np.uint64(8)
    words = ((words & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 65536 + 1)) >> np.uint64(16)
    words = ((words & np.uint64(0x0000FFFF0000FFFF)) * np.uint64((10000 << 32) + 1)) >> np.uint64(32)
    return words.astype(np.int64), good
