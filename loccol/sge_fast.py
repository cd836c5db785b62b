"""The fast lane of the SGE parser: the regular lines of a block of the classic file, column by column.

A line is regular if nothing about it needs judgement: no NUL and no CR is in it, bytes beyond ASCII are in the category and the
command only, it has 43 to 74 fields, the category holds no colon, and every number that is looked at is plain (no sign, no
exponent, no needless 0, at most 16 digits and 7 decimals). It is of a serial job, or a master's or task's of a parallel one, that
started. All else is left to the careful lane.

The block is an array of bytes; the numbers of its colons are all there is to a line, for field k of line i ends at
`colons[first[i] + k]`. NumPy and Arrow do it without holding Python's lock, so that blocks parse in parallel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchacct.model import JOB, LAST_INSTANT
from batchacct.parsing import LINES, Block, Regular, Source
from loccol.sge_colon import FIELDS_WITH_GRANTED, GRANTED, HEAD, MOST_SECONDS, NONE, PE_TASKID, TAIL
from loccol.sge_columns import Rows, jobs, parts
from loccol.sge_runs import MOST_CPU_S

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

CATEGORY = len(HEAD)
FIELD = {name: number for number, name in enumerate(HEAD)} | {name: CATEGORY + 1 + n for n, name in enumerate(TAIL)}
FEWEST_FIELDS = FIELD["maxvmem"] + 1
INTEGERS = ("job_number", "submission_time", "start_time", "end_time", "failed", "exit_status", "slots", "task_number")
REALS = ("ru_wallclock", "ru_maxrss", "cpu", "mem", "io", "iow", "maxvmem")
LATE_REALS = ("maxrss", "ioops")

LEAST_BLOCK = 64
"""Bytes of data below which columns are not worth the while (and words of eight bytes might reach beyond)."""
MOST_DIGITS = 16
MOST_DECIMALS = 7
LARGEST_TASK_NUMBER = 10**9

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONES, _HIGH_BITS, _DOTS, _ZEROS = (np.uint64(int(f"{byte:02x}" * 8, 16)) for byte in (0x01, 0x80, ord("."), ord("0")))
_TO_HIGH_BIT_FROM_TEN = np.uint64(int("76" * 8, 16))
_PLACES = np.array([10**n for n in range(MOST_DECIMALS + 1)])


def fast_lane(block: Block, source: Source, label: str) -> Regular:
    """The regular lines of a block as jobs and parts, and the spans of all other units."""
    data = block.data
    if len(data) < LEAST_BLOCK or source.cluster is None:
        return Regular(JOB.empty(), list(LINES.spans(data)))
    lexed = lex(data)
    rows = regular_rows(lexed)
    if rows is None:
        return Regular(JOB.empty(), list(LINES.spans(data)))
    serial = rows.is_none("granted_pe") & rows.is_none("pe_taskid")
    left = np.ones(len(lexed.starts), np.bool_)
    left[rows.lines] = False
    spans = zip(lexed.starts[left].tolist(), lexed.stops[left].tolist(), strict=True)
    return Regular(
        jobs(rows.of(serial), block.offset, source, label),
        [span for start, stop in spans for span in _unit(data, start, stop)],
        parts(rows.of(~serial), block.offset, source, label),
    )


def _unit(data: bytes, start: int, stop: int) -> list[tuple[int, int]]:
    """The span that `LineFraming` makes of a line: without CR, and none if it is empty."""
    stop -= data.endswith(b"\r", start, stop)
    return [(start, stop)] if data[start:stop].strip() else []


@dataclass(frozen=True, slots=True)
class Lexed:
    """A block's lines, `data[starts[i]:stops[i]]`, and its colons: those of line i are `counts[i]` from number `first[i]` on."""

    data: bytes
    array: Bytes
    starts: Ints
    stops: Ints
    colons: Ints
    first: Ints
    counts: Ints


def lex(data: bytes) -> Lexed:
    """Lines and colons of a block, which is not empty."""
    array = np.frombuffer(data, np.uint8)
    stops = np.flatnonzero(array == ord("\n"))
    if not data.endswith(b"\n"):
        stops = np.append(stops, len(data))
    starts = np.concatenate(([0], stops[:-1] + 1))
    colons = np.flatnonzero(array == ord(":"))
    first = np.searchsorted(colons, starts)
    counts = np.diff(first, append=len(colons))
    return Lexed(data, array, starts, stops, colons, first, counts)


def regular_rows(lexed: Lexed) -> Rows | None:
    """The regular lines, with the numbers in them; None if there is none."""
    plain = (lexed.counts >= FEWEST_FIELDS - 1) & (lexed.counts < FIELDS_WITH_GRANTED)
    plain &= ~_begins_otherwise(lexed)
    for odd in (b"\0", b"\r"):
        if odd in lexed.data:
            _mark(plain, lexed, np.flatnonzero(lexed.array == ord(odd)))
    rows = _rows(lexed, np.flatnonzero(plain))
    if not len(rows.lines):
        return None
    good = rows.spans["job_number"][1] > MOST_DIGITS
    if not lexed.data.isascii():
        good &= _is_ascii_elsewhere(lexed.array, rows)
    good &= _read_integers(rows) & _read_reals(rows) & _read_times(rows)
    good &= (rows.numbers["job_number"] > 0) & (rows.numbers["task_number"] < LARGEST_TASK_NUMBER)
    is_parallel = ~(rows.is_none("granted_pe") & rows.is_none("pe_taskid"))
    good &= (rows.numbers["slots"] <= 1) | is_parallel
    good &= (rows.numbers["cpu"] < int(MOST_CPU_S)) & _has_task_id(rows)
    rows = rows.of(good)
    return rows if len(rows.lines) else None


def _begins_otherwise(lexed: Lexed) -> Bools:
    """Lines that may be a comment, or an event of a reporting file (which begins with a time)."""
    first, ninth = (lexed.array[np.minimum(lexed.starts + at, len(lexed.array) - 1)] for at in (0, 8))
    otherwise: Bools = (first == ord("#")) | ((first - np.uint8(ord("0")) < 10) & (ninth - np.uint8(ord("0")) < 10))
    return otherwise


def _mark(plain: Bools, lexed: Lexed, bad: Ints) -> None:
    plain[np.searchsorted(lexed.stops, bad)] = False


def _rows(lexed: Lexed, lines: Ints) -> Rows:
    """The given lines with the spans of all fields that are looked at; one that a line does not have is empty."""
    first, counts = lexed.first[lines], lexed.counts[lines]
    starts, stops = lexed.starts[lines], lexed.stops[lines]
    spans: dict[str, tuple[Ints, Ints]] = {"qname": (starts, lexed.colons[first])}
    names = ("hostname", "group", "owner", "job_name", "account", "project", "granted_pe", *INTEGERS, *REALS, *LATE_REALS)
    for name in (*names, "pe_taskid", "qdel_info", "submit_host", "submit_cmd"):
        number = FIELD[name]
        begins, ends = _span(lexed.colons, first, counts, stops, number)
        spans[name] = begins, ends
    spans["category"] = _span(lexed.colons, first, counts, stops, CATEGORY)
    granted, granted_end = _span(lexed.colons, first, counts, stops, CATEGORY + 1 + GRANTED)
    has_granted = counts + 1 == FIELDS_WITH_GRANTED
    spans["granted"] = np.where(has_granted, granted, stops), np.where(has_granted, granted_end, stops)
    return Rows(lexed.data, lines, starts, stops, counts + 1, spans, {}, {})


def _span(colons: Ints, first: Ints, counts: Ints, stops: Ints, number: int) -> tuple[Ints, Ints]:
    if number < FEWEST_FIELDS - 1:
        return colons[first + number - 1] + 1, colons[first + number]
    last = len(colons) - 1
    begins = np.where(number <= counts, colons[np.minimum(first + number - 1, last)] + 1, stops)
    return begins, np.where(number < counts, colons[np.minimum(first + number, last)], stops)


def _is_ascii_elsewhere(array: Bytes, rows: Rows) -> Bools:
    """Whether all bytes beyond ASCII are where UGE puts them for a colon."""
    high = np.flatnonzero(array >= 0x80)

    def count(starts: Ints, stops: Ints) -> Ints:
        within: Ints = np.searchsorted(high, stops) - np.searchsorted(high, starts)
        return within

    rows.numbers["beyond_ascii"] = count(*rows.spans["submit_cmd"])
    free = count(*rows.spans["category"]) + rows.numbers["beyond_ascii"]
    same: Bools = count(rows.starts, rows.stops) == free
    return same


def _has_task_id(rows: Rows) -> Bools:
    """Whether pe_taskid is that of a task, `1.node07`, or none."""
    found, which = rows.encoded("pe_taskid")
    good = np.array([raw in NONE or PE_TASKID.fullmatch(raw) is not None for raw in found], np.bool_)
    every: Bools = good[np.asarray(which)]
    return every


def _read_integers(rows: Rows) -> Bools:
    """Reads the INTEGERS; whether all of a line are plain."""
    starts, ends = (np.concatenate([rows.spans[name][side] for name in INTEGERS]) for side in (0, 1))
    numbers, good = _digits(rows.data, starts, ends)
    rows.numbers |= dict(zip(INTEGERS, numbers.reshape(len(INTEGERS), -1), strict=True))
    return _every(good, len(INTEGERS))


def _read_reals(rows: Rows) -> Bools:
    """Reads the REALS, rounded down, and their fractions; whether all of a line are plain. A late one may be absent (0)."""
    names = REALS + LATE_REALS
    starts, ends = (np.concatenate([rows.spans[name][side] for name in names]) for side in (0, 1))
    decimals = _decimals(rows.data, starts, ends)
    whole, good = _digits(rows.data, starts, ends - decimals - (decimals > 0))
    fractions, good_fractions = _last_digits(rows.data, ends, decimals)
    absent = np.concatenate([rows.fields <= FIELD[name] for name in names])
    shape = len(names), -1
    rows.numbers |= dict(zip(names, np.where(absent, 0, whole).reshape(shape), strict=True))
    rows.fractions |= dict(zip(names, fractions.reshape(shape), strict=True))
    rows.numbers["cpu_places"] = _PLACES[decimals.reshape(shape)[names.index("cpu")]]
    return _every((good & good_fractions) | absent, len(names))


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


def _decimals(data: bytes, starts: Ints, ends: Ints) -> Ints:
    """How many bytes follow the last full stop among the last eight of each field; 0 if there is none.

    A full stop at the very end, and what else is no plain number, is found by whoever reads the digits.
    """
    words = _words(data, ends) ^ _DOTS
    words |= ~_mask(np.minimum(ends - starts, 8))
    dots = (words - _ONES) & ~words & _HIGH_BITS
    lowest = dots & (~dots + np.uint64(1))
    byte = np.frexp(lowest.astype(np.float64))[1].astype(np.int64) // 8
    return np.where(dots == 0, 0, 8 - byte)


def _last_digits(data: bytes, ends: Ints, digits: Ints) -> tuple[Ints, Bools]:
    """The number that the last `digits` (0 to 8) bytes before each of `ends` spell, and whether they are digits.

    The eight bytes are one word; bytes before the digits are masked to 0, and neighbours joined: to 4 pairs, 2 fours, 1 number.
    """
    words = (_words(data, ends) ^ _ZEROS) & _mask(digits)
    good: Bools = ~(((words + _TO_HIGH_BIT_FROM_TEN) | words) & _HIGH_BITS).astype(np.bool_)
    words = (words * np.uint64(10 * 256 + 1)) >> np.uint64(8)
    words = ((words & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 65536 + 1)) >> np.uint64(16)
    words = ((words & np.uint64(0x0000FFFF0000FFFF)) * np.uint64((10000 << 32) + 1)) >> np.uint64(32)
    return words.astype(np.int64), good


def _digits(data: bytes, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """The numbers that whole fields spell, and whether each is 1 to 16 digits without a needless 0 at the front."""
    lengths = ends - starts
    numbers, good = _last_digits(data, ends, np.clip(lengths, 0, 8))
    if lengths.max(initial=0) > 8:
        upper, upper_good = _last_digits(data, ends - 8, np.clip(lengths - 8, 0, 8))
        numbers += upper * 100_000_000
        good &= upper_good
    leading = np.frombuffer(data, np.uint8)[np.minimum(starts, len(data) - 1)] == ord("0")
    good &= (lengths > 0) & (lengths <= MOST_DIGITS) & ~(leading & (lengths > 1))
    return numbers, good


def _read_times(rows: Rows) -> Bools:
    """Turns the times into seconds; whether they are those of a job that ran, and possible."""
    good = np.ones(len(rows.lines), np.bool_)
    for name in ("submission_time", "start_time", "end_time"):
        times = rows.numbers[name]
        while (too_large := times > MOST_SECONDS).any():
            times = np.where(too_large, times // 1000, times)
        rows.numbers[name] = times
        good &= times <= LAST_INSTANT
    good &= (rows.numbers["start_time"] > 0) & (rows.numbers["start_time"] <= rows.numbers["end_time"])
    return good
