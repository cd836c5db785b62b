"""The fast lane of the SGE parser: the regular lines of a block of the classic file, column by column.

A line is regular if nothing about it needs judgement: no NUL and no CR is in it, bytes beyond ASCII are in the category and the
command only, it has 43 to 74 fields, the category holds no colon, and every number that is looked at is plain (no sign, no
exponent, no needless 0, at most 16 digits and 7 decimals). It is of a serial job, or a master's or task's of a parallel one, that
started; or of a job that did not and bears no time, which is skipped. All else is left to the careful lane.

`loccol.sge_rows` finds the fields, this module reads their numbers, and `loccol.sge_columns` makes the columns. NumPy and Arrow do
it without holding Python's lock, so that blocks parse in parallel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchacct.model import JOB, LAST_INSTANT
from batchacct.parsing import LINES, Block, Regular, Source
from loccol.sge_colon import FIELDS_WITH_GRANTED, MOST_SECONDS, PE_TASKID
from loccol.sge_columns import TIMES, jobs, parts
from loccol.sge_rows import FEWEST_FIELDS, Bools, Bytes, Ints, Lexed, Rows, compute, lex
from loccol.sge_runs import MOST_CPU_S, TIMELESS

Words = npt.NDArray[np.uint64]

INTEGERS = ("job_number", *TIMES, "failed", "exit_status", "slots", "task_number")
REALS = ("ru_wallclock", "ru_maxrss", "cpu", "mem", "io", "iow", "maxvmem")
LATE_REALS = ("maxrss", "ioops")
KEPT = ("ru_wallclock", "ru_maxrss", "cpu", "maxvmem", "maxrss")
"""Of the reals those whose value matters; the others stand in `resources` as they are written, or nowhere."""

LEAST_BLOCK = 64
"""Bytes of data below which columns are not worth the while (and words of eight bytes might reach beyond)."""
MOST_DIGITS = 16
MOST_DECIMALS = 7
LARGEST_TASK_NUMBER = 10**9

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONES, _HIGH_BITS, _DOTS, _ZEROS = (np.uint64(int(f"{byte:02x}" * 8, 16)) for byte in (0x01, 0x80, ord("."), ord("0")))
_TO_HIGH_BIT_FROM_TEN = np.uint64(int("76" * 8, 16))
_TASK_ID = rf"\A{PE_TASKID.pattern.decode()}\z"
_PLACES = np.array([10**n for n in range(MOST_DECIMALS + 1)])


def fast_lane(block: Block, source: Source, label: str) -> Regular:
    """The regular lines of a block as jobs and parts, and the spans of all other units."""
    data = block.data
    if len(data) < LEAST_BLOCK or source.cluster is None:
        return Regular(JOB.empty(), list(LINES.spans(data)))
    lexed = lex(data)
    rows = _plain_rows(lexed)
    if not len(rows):
        return Regular(JOB.empty(), list(LINES.spans(data)))
    good, started = _is_regular(rows), rows.numbers["start_time"] > 0
    serial = rows.is_none("granted_pe") & rows.is_none("pe_taskid")
    timeless = (
        good & ~started & rows.is_none("pe_taskid") & (rows.numbers["submission_time"] == 0) & (rows.numbers["end_time"] == 0)
    )
    good &= started & ((rows.numbers["slots"] <= 1) | ~serial)
    left = np.ones(len(lexed.starts), np.bool_)
    left[rows.lines[good | timeless]] = False
    spans = zip(lexed.starts[left].tolist(), lexed.stops[left].tolist(), strict=True)
    return Regular(
        jobs(rows.at(np.flatnonzero(good & serial)), block.offset, source, label),
        [span for start, stop in spans for span in _unit(data, start, stop)],
        parts(rows.at(np.flatnonzero(good & ~serial)), block.offset, source, label),
        {TIMELESS: int(np.count_nonzero(timeless))},
    )


def _unit(data: bytes, start: int, stop: int) -> list[tuple[int, int]]:
    """The span that `LineFraming` makes of a line: without CR, and none if it is empty."""
    stop -= data.endswith(b"\r", start, stop)
    return [(start, stop)] if data[start:stop].strip() else []


def _plain_rows(lexed: Lexed) -> Rows:
    """The lines with the fields of a record and nothing odd in them."""
    plain = (lexed.counts >= FEWEST_FIELDS - 1) & (lexed.counts < FIELDS_WITH_GRANTED)
    plain &= ~_begins_otherwise(lexed)
    for odd in (b"\0", b"\r"):
        if odd in lexed.data:
            plain[np.searchsorted(lexed.stops, np.flatnonzero(lexed.array == ord(odd)))] = False
    return Rows(lexed, np.flatnonzero(plain))


def _begins_otherwise(lexed: Lexed) -> Bools:
    """Lines that may be a comment, or an event of a reporting file (which begins with a time)."""
    first, ninth = (lexed.array[np.minimum(lexed.starts + at, len(lexed.array) - 1)] for at in (0, 8))
    otherwise: Bools = (first == ord("#")) | ((first - np.uint8(ord("0")) < 10) & (ninth - np.uint8(ord("0")) < 10))
    return otherwise


def _is_regular(rows: Rows) -> Bools:
    """Whether a line is as the careful lane would have it, whether its job started or not; reads the numbers."""
    good = rows.span("job_number")[1] > MOST_DIGITS
    if not rows.data.isascii():
        good &= _is_ascii_elsewhere(rows.lexed.array, rows)
    good &= _read_integers(rows) & _read_reals(rows) & _read_times(rows) & _has_task_id(rows)
    good &= (rows.numbers["job_number"] > 0) & (rows.numbers["task_number"] < LARGEST_TASK_NUMBER)
    good &= rows.numbers["cpu"] < int(MOST_CPU_S)
    return good


def _is_ascii_elsewhere(array: Bytes, rows: Rows) -> Bools:
    """Whether all bytes beyond ASCII are where UGE puts them for a colon."""
    high = np.flatnonzero(array >= 0x80)

    def count(starts: Ints, stops: Ints) -> Ints:
        within: Ints = np.searchsorted(high, stops) - np.searchsorted(high, starts)
        return within

    rows.numbers["beyond_ascii"] = count(*rows.span("submit_cmd"))
    free = count(*rows.span("category")) + rows.numbers["beyond_ascii"]
    same: Bools = count(rows.starts, rows.stops) == free
    return same


def _has_task_id(rows: Rows) -> Bools:
    """Whether pe_taskid is that of a task, `1.node07`, or none."""
    is_id: Bools = np.asarray(
        compute.fill_null(compute.match_substring_regex(rows.texts("pe_taskid", pa.binary()), _TASK_ID), True)
    )
    return is_id


def _read_integers(rows: Rows) -> Bools:
    """Reads the INTEGERS; whether all of a line are plain."""
    starts, ends = (np.concatenate([rows.span(name)[side] for name in INTEGERS]) for side in (0, 1))
    numbers, good = _digits(rows.data, starts, ends)
    rows.numbers |= dict(zip(INTEGERS, numbers.reshape(len(INTEGERS), -1), strict=True))
    return _every(good, len(INTEGERS))


def _read_reals(rows: Rows) -> Bools:
    """Reads the REALS, rounded down, and their fractions; whether all of a line are plain. A late one may be absent (0)."""
    late = [name for name in LATE_REALS if rows.has(name)]
    names = (*REALS, *late)
    starts, ends = (np.concatenate([rows.span(name)[side] for name in names]) for side in (0, 1))
    words = _words(rows.data, ends)
    decimals = _decimals(words, ends - starts)
    fractions, good = _last_digits(words, decimals)
    numbers, good_whole = _digits(rows.data, starts, ends - decimals - (decimals > 0))
    good &= good_whole
    by_name = {name: nth for nth, name in enumerate(names) if name in KEPT}
    shape = len(names), -1
    rows.numbers |= {name: numbers.reshape(shape)[nth] for name, nth in by_name.items()}
    rows.fractions |= {name: fractions.reshape(shape)[nth] for name, nth in by_name.items()}
    rows.numbers["cpu_places"] = _PLACES[decimals.reshape(shape)[names.index("cpu")]]
    for name in late:
        absent = rows.absent(name)
        good.reshape(shape)[names.index(name)] |= absent
        if name in KEPT:
            rows.numbers[name][absent] = 0
    return _every(good, len(names))


def _every(good: Bools, count: int) -> Bools:
    every: Bools = np.asarray(good.reshape(count, -1).all(axis=0))
    return every


def _words(data: bytes, ends: Ints) -> Words:
    """The eight bytes before each of `ends`, as one little-endian word."""
    return np.ndarray(len(data) - 7, "<u8", data, strides=(1,))[np.maximum(ends - 8, 0)]


def _mask(digits: Ints) -> Words:
    """The last `digits` (0 to 8) of eight bytes."""
    mask: Words = _ALL << (64 - 8 * digits).astype(np.uint64)
    return mask


def _decimals(words: Words, lengths: Ints) -> Ints:
    """How many bytes follow the last full stop among the last eight (`words`) of each field; 0 if there is none.

    A full stop at the very end, and what else is no plain number, is found by whoever reads the digits.
    """
    words = words ^ _DOTS
    words |= ~_mask(np.minimum(lengths, 8))
    dots = (words - _ONES) & ~words & _HIGH_BITS
    lowest = dots & (~dots + np.uint64(1))
    byte = np.frexp(lowest.astype(np.float64))[1].astype(np.int64) // 8
    return np.where(dots == 0, 0, 8 - byte)


def _last_digits(words: Words, digits: Ints) -> tuple[Ints, Bools]:
    """The number that the last `digits` (0 to 8) of each eight bytes spell, and whether they are digits.

    The eight bytes are one word; bytes before the digits are masked to 0, and neighbours joined: to 4 pairs, 2 fours, 1 number.
    """
    words = (words ^ _ZEROS) & _mask(digits)
    good: Bools = ~(((words + _TO_HIGH_BIT_FROM_TEN) | words) & _HIGH_BITS).astype(np.bool_)
    words = (words * np.uint64(10 * 256 + 1)) >> np.uint64(8)
    words = ((words & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 65536 + 1)) >> np.uint64(16)
    words = ((words & np.uint64(0x0000FFFF0000FFFF)) * np.uint64((10000 << 32) + 1)) >> np.uint64(32)
    return words.astype(np.int64), good


def _digits(data: bytes, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """The numbers that whole fields spell, and whether each is 1 to 16 digits without a needless 0 at the front."""
    lengths = ends - starts
    numbers, good = _last_digits(_words(data, ends), np.clip(lengths, 0, 8))
    long = np.flatnonzero(lengths > 8)
    if len(long):
        upper, upper_good = _last_digits(_words(data, ends[long] - 8), np.minimum(lengths[long] - 8, 8))
        numbers[long] += upper * 100_000_000
        good[long] &= upper_good
    leading = np.frombuffer(data, np.uint8)[np.minimum(starts, len(data) - 1)] == ord("0")
    good &= (lengths > 0) & (lengths <= MOST_DIGITS) & ~(leading & (lengths > 1))
    return numbers, good


def _read_times(rows: Rows) -> Bools:
    """Turns the times into seconds; whether they are possible: none after 2099, the end not before the start."""
    good = np.ones(len(rows), np.bool_)
    for name in TIMES:
        times = rows.numbers[name]
        while (too_large := times > MOST_SECONDS).any():
            times = np.where(too_large, times // 1000, times)
        rows.numbers[name] = times
        good &= times <= LAST_INSTANT
    good &= rows.numbers["start_time"] <= rows.numbers["end_time"]
    return good
