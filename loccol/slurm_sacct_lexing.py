"""Fields of many sacct rows at once, as columns: the first half of the fast lane.

A block is an array of bytes; fields are spans between delimiters. What is not written as sacct writes it is marked as not plain,
for the careful lane to judge. NumPy and Arrow work without holding Python's lock, so that blocks parse in parallel.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from batchacct.model import LAST_INSTANT
from batchacct.parsing.columnar import spans_of
from loccol.slurm_sacct_layout import CPU_OR_RESERVED, Layout
from loccol.slurm_sacct_words import (
    CLOCK,
    DATE,
    DAY_AND_HOUR,
    TIME_LENGTH,
    WORD,
    Bools,
    Ints,
    clock_seconds,
    has_form,
    numbers_before,
    pairs,
    words_at,
)

if TYPE_CHECKING:
    Column = pa.Array[Any]

Bytes = npt.NDArray[np.uint8]
compute: Any = pyarrow.compute
"""Untyped: the stubs know fewer kinds of arguments than the kernels take."""

NEWLINE, ZERO, COLON, DASH, DOT = b"\n0:-."
DAY_S = 86_400
LONGEST_DAYS = 5
"""Digits of the days of a duration; 273 years are left to the careful lane."""
_KIB = ord("K")
_DAYS_IN_MONTH = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_TRES_AMOUNT = r"(?:cpu=(?:[0-9]{1,5}-)?[0-9]{2}:[0-9]{2}:[0-9]{2}|[a-bd-z][a-z]*(?:/[A-Za-z0-9_:.-]+)?=[0-9.KMGTP]+)"
_TRES = rf"^{_TRES_AMOUNT}(?:,{_TRES_AMOUNT})*$"
_MEMORY = r"^[0-9]{1,12}(?:\.[0-9]{1,2})?[KMGT]?$"


@dataclass(slots=True)
class Lines:
    """Lines of a block, and the delimiters in them; `regular` are those that have as many fields as the layout has names."""

    data: bytes
    array: Bytes
    layout: Layout
    starts: Ints
    ends: Ints
    delimiters: Ints
    first: Ints
    regular: Bools


def lex(data: bytes, layout: Layout) -> Lines:
    """All lines of a block; empty ones, and those with a NUL, a carriage return or broken UTF-8, are not regular."""
    array = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(array == NEWLINE)
    ends = newlines if data.endswith(b"\n") or not data else np.append(newlines, len(data))
    starts = np.append(0, newlines + 1)[: len(ends)]
    delimiters = np.flatnonzero(array == layout.delimiter[0])
    first = np.searchsorted(delimiters, starts)
    count = np.searchsorted(delimiters, ends) - first
    regular = count == len(layout.names) - 1 + layout.trailing
    if layout.trailing:
        regular &= array[ends - 1] == layout.delimiter[0]
    for odd in (0, ord("\r")):
        if bytes([odd]) in data:
            regular[np.searchsorted(ends, np.flatnonzero(array == odd))] = False
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            regular[np.searchsorted(ends, np.flatnonzero(array >= 0x80))] = False
    return Lines(data, array, layout, starts, ends, delimiters, first, regular)


@dataclass(slots=True)
class Rows:
    """Some regular lines of a block, by number."""

    lines: Lines
    at: Ints
    first: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.lines.first[self.at]

    def of(self, good: Bools) -> Rows:
        return Rows(self.lines, self.at[good])

    def has(self, *names: str) -> bool:
        return any(name in self.lines.layout.index for name in names)

    def spans(self, *names: str) -> tuple[Ints, Ints]:
        """Start and end of the first of the fields that is not empty, as in `SacctRow.text`; an empty span if there is none."""
        if len(names) == 1 and self.has(*names):
            return self._field(self.lines.layout.index[names[0]])
        starts = ends = np.zeros(len(self.at), np.int64)
        for name in names:
            index = self.lines.layout.index.get(name)
            if index is not None:
                empty = starts == ends
                field_starts, field_ends = self._field(index)
                starts, ends = np.where(empty, field_starts, starts), np.where(empty, field_ends, ends)
        return starts, ends

    def _field(self, index: int) -> tuple[Ints, Ints]:
        lines, first = self.lines, self.first
        starts = lines.delimiters[first + (index - 1)] + 1 if index else lines.starts[self.at]
        last = index == len(lines.layout.names) - 1 and not lines.layout.trailing
        return starts, lines.ends[self.at] if last else lines.delimiters[first + index]

    def text(self, *names: str) -> Column:
        """The field as text; null where it is empty."""
        if not self.has(*names):
            return picked([None], np.zeros(len(self.at), np.int64), pa.string())
        starts, ends = self.spans(*names)
        return spans_of(self.lines.data, starts, ends, pa.string(), ends > starts)

    def number(self, *names: str) -> tuple[Ints, Bools]:
        """Whole numbers of at most nine digits, -1 where there is none, and which are plain."""
        return whole_numbers(self.lines.data, *self.spans(*names)) if self.has(*names) else self._nothing()

    def durations(self, *names: str) -> tuple[Ints, Bools]:
        """Microseconds, -1 where there is none, and which are plain: empty, [D-]HH:MM:SS or MM:SS.mmm."""
        return durations(self.lines, *self.spans(*names)) if self.has(*names) else self._nothing()

    def cpu(self) -> tuple[Ints, Bools]:
        """TotalCPU, as `SacctRow.cpu_text` finds it: a whole number in APEL's list is no CPU time used."""
        total, plain = self.durations("totalcpu")
        if not self.has(CPU_OR_RESERVED):
            return total, plain
        text = self.text(CPU_OR_RESERVED)
        reserved = as_bools(compute.fill_null(compute.match_substring_regex(text, "^-*[0-9]+$"), False))
        used, used_plain = self.durations(CPU_OR_RESERVED)
        return np.where(reserved, -1, used), plain & (reserved | used_plain)

    def tres(self, name: str) -> Bools:
        """Which have a list of TRES that can be read, CPU time as a duration in it."""
        if not self.has(name):
            return np.ones(len(self.at), np.bool_)
        return as_bools(compute.fill_null(compute.match_substring_regex(self.text(name), _TRES), True))

    def memory(self, name: str) -> tuple[Ints, Bools]:
        """KiB, 0 where there is none, and which are plain."""
        return memory(self.lines.data, *self.spans(name))

    def instants(self, name: str, zone: dt.tzinfo) -> tuple[Ints, Bools]:
        """Unix seconds, -1 where there is no time, and which are plain: they have one meaning, and it is possible."""
        return instants(self.lines, *self.spans(name), zone) if self.has(name) else self._nothing()

    def _nothing(self) -> tuple[Ints, Bools]:
        """What is read of a field that the layout has not."""
        return np.full(len(self.at), -1), np.ones(len(self.at), np.bool_)


def whole_numbers(data: bytes, starts: Ints, ends: Ints, digits: int = 9) -> tuple[Ints, Bools]:
    """Whole numbers, -1 where there is none or it is not plain, and which are plain."""
    found, plain = numbers_before(data, starts, ends)
    empty = starts == ends
    found[empty], plain[empty] = -1, True
    rest = np.flatnonzero(~plain)
    if len(rest):
        text = spans_of(data, starts[rest], ends[rest], pa.string(), ends[rest] > starts[rest])
        good = compute.fill_null(compute.match_substring_regex(text, f"^[0-9]{{1,{digits}}}$"), True)
        found[rest] = as_ints(compute.cast(compute.if_else(good, text, pa.scalar(None, pa.string())), pa.int64()))
        plain[rest] = as_bools(good)
    return found, plain


def as_ints(column: Column, absent: int = -1) -> Ints:
    numbers: Ints = compute.fill_null(column, absent).to_numpy(zero_copy_only=False)
    return numbers


def as_bools(column: Column) -> Bools:
    bools: Bools = column.to_numpy(zero_copy_only=False)
    return bools


def by_distinct(text: Column, judge: Callable[[str], object], absent: str = "") -> tuple[list[object], Ints]:
    """`judge` of each distinct text (null counts as `absent`), and which of the judgements is that of each row."""
    encoded = compute.fill_null(text, absent).dictionary_encode()
    return [judge(value) for value in encoded.dictionary.to_pylist()], as_ints(encoded.indices)


def picked(values: Sequence[object], which: Ints, kind: pa.DataType) -> Column:
    """A column of one of few values in each row."""
    column: Column = compute.take(pa.array(list(values), kind), pa.array(which))
    return column


def digits_at(array: Bytes, at: Ints, count: int) -> tuple[Ints, Bools]:
    """The number that `count` bytes from each of `at` on spell, and whether all are digits."""
    number = np.zeros(len(at), np.int64)
    plain = np.ones(len(at), np.bool_)
    for place in range(count):
        digit = array[at + place] - np.uint8(ZERO)
        plain &= digit < 10
        number = number * 10 + digit
    return number, plain


def durations(lines: Lines, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """See `Rows.durations`."""
    array = lines.array
    lengths = ends - starts
    found = np.full(len(starts), -1, np.int64)
    plain = lengths == 0
    clock = np.flatnonzero((lengths == len(CLOCK)) | ((lengths >= 10) & (lengths <= 9 + LONGEST_DAYS)))
    words = words_at(lines.data, ends[clock] - WORD)
    found[clock], plain[clock] = clock_seconds(words) * 1_000_000, has_form(words, CLOCK)
    long = np.flatnonzero((lengths >= 10) & plain)
    if len(long):
        days, good_days = _days(array, starts[long], ends[long] - 9)
        found[long] += days * (DAY_S * 1_000_000)
        plain[long] &= good_days
    short = np.flatnonzero((lengths == 9) & (array[np.maximum(ends - 4, 0)] == DOT))
    at = starts[short]
    parts = [digits_at(array, at + place, count) for place, count in ((0, 2), (3, 2), (6, 3))]
    (minutes, _), (seconds, _), (milliseconds, _) = parts
    found[short] = (minutes * 60 + seconds) * 1_000_000 + milliseconds * 1000
    plain[short] = parts[0][1] & parts[1][1] & parts[2][1] & (array[at + 2] == COLON)
    return np.where(plain, found, -1), plain


def _days(array: Bytes, starts: Ints, dashes: Ints) -> tuple[Ints, Bools]:
    """The number before each dash; 0 where the dash would be before the start."""
    days = np.zeros(len(starts), np.int64)
    lengths = dashes - starts
    plain = (lengths < 0) | (array[np.maximum(dashes, 0)] == DASH)
    for place in range(LONGEST_DAYS):
        there = lengths > place
        digit = array[np.where(there, starts + place, 0)] - np.uint8(ZERO)
        plain &= ~there | (digit < 10)
        days = np.where(there, days * 10 + digit, days)
    return days, plain


def memory(data: bytes, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """See `Rows.memory`. The most are whole KiB, or 0."""
    array = np.frombuffer(data, np.uint8)
    has_unit = array[np.maximum(ends - 1, 0)] == _KIB
    found, plain = numbers_before(data, starts, ends - has_unit)
    found = np.where(has_unit, found, found // 1024)
    empty = starts == ends
    found[empty], plain[empty] = 0, True
    rest = np.flatnonzero(~plain)
    if len(rest):
        found[rest], plain[rest] = _memory(spans_of(data, starts[rest], ends[rest], pa.string(), ends[rest] > starts[rest]))
    return found, plain


def _memory(text: Column) -> tuple[Ints, Bools]:
    """Any others. Two decimals and powers of two: a double holds enough of the product to be rounded down."""
    plain = compute.fill_null(compute.match_substring_regex(text, _MEMORY), True)
    number = compute.cast(compute.utf8_rtrim(compute.if_else(plain, text, None), "KMGT"), pa.float64())
    amounts = compute.fill_null(number, 0.0).to_numpy(zero_copy_only=False)
    kib = amounts / 1024
    for exponent, unit in enumerate("KMGT"):
        has_unit = as_bools(compute.fill_null(compute.ends_with(text, unit), False))
        kib = np.where(has_unit, amounts * 1024**exponent, kib)
    return np.floor(kib).astype(np.int64), as_bools(plain) & (kib < 1 << 43)


def instants(lines: Lines, starts: Ints, ends: Ints, zone: dt.tzinfo) -> tuple[Ints, Bools]:
    """See `Rows.instants`."""
    lengths = ends - starts
    found = np.full(len(starts), -1, np.int64)
    local = np.flatnonzero(lengths == TIME_LENGTH)
    plain = lengths == 0
    if len(local) < len(lengths):
        plain |= _is_no_time(lines.array, starts, lengths)
    found[local], plain[local] = _local_instants(lines.data, starts[local], zone)
    for digits in (9, 10):
        epoch = np.flatnonzero(lengths == digits)
        found[epoch], plain[epoch] = digits_at(lines.array, starts[epoch], digits)
    plain &= (found == -1) | ((found > 0) & (found <= LAST_INSTANT))
    return np.where(plain, found, -1), plain


def _is_no_time(array: Bytes, starts: Ints, lengths: Ints) -> Bools:
    """Empty, `Unknown`, `None`."""
    plain: Bools = lengths == 0
    for word in (b"Unknown", b"None"):
        same = lengths == len(word)
        at = np.where(same, starts, 0)
        for place, byte in enumerate(word):
            same = same & (array[np.where(same, at + place, 0)] == byte)
        plain = plain | same
    return plain


def _local_instants(data: bytes, at: Ints, zone: dt.tzinfo) -> tuple[Ints, Bools]:
    dates, days_hours, clocks = (words_at(data, at + place) for place in (0, len(DATE), TIME_LENGTH - len(CLOCK)))
    plain = has_form(dates, DATE) & has_form(days_hours, DAY_AND_HOUR) & has_form(clocks, CLOCK)
    century, short_year, month = pairs(dates, DATE, 0, 2, 5)
    (day,) = pairs(days_hours, DAY_AND_HOUR, 0)
    hour, minute, second = pairs(clocks, CLOCK, 0, 3, 6)
    year, seconds = century * 100 + short_year, (hour * 60 + minute) * 60 + second
    plain &= (hour < 24) & (minute < 60) & (second < 60) & (year > 1970) & (year < 2100)
    plain &= (month >= 1) & (month <= 12) & (day >= 1)
    month, year, day = (np.where(plain, part, 1) for part in (month, year, day))
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    plain &= day <= np.where((month == 2) & ~leap, 28, _DAYS_IN_MONTH[month - 1])
    days = _days_of(np.where(plain, year, 1970), np.where(plain, month, 1), np.where(plain, day, 1))
    distinct, which = np.unique(days, return_inverse=True)
    offsets = [offset_of_day(zone, int(number)) for number in distinct]
    known = np.array([offset is not None for offset in offsets], np.bool_)
    offset = np.array([offset or 0 for offset in offsets], np.int64)
    return days * DAY_S + seconds - offset[which], plain & known[which]


def _days_of(year: Ints, month: Ints, day: Ints) -> Ints:
    """Days since 1970-01-01."""
    months = np.array(year - 1970, "datetime64[Y]").astype("datetime64[M]") + (month - 1)
    days: Ints = months.astype("datetime64[D]").astype(np.int64) + day - 1
    return days


@lru_cache(maxsize=1 << 16)
def offset_of_day(zone: dt.tzinfo, day: int) -> int | None:
    """Seconds east of UTC on a local day (days since 1970-01-01); None for a day on which they change, or a fraction."""
    midnight = dt.datetime(1970, 1, 1, tzinfo=zone) + dt.timedelta(days=day)
    offsets = {(midnight + dt.timedelta(hours=hours)).utcoffset() for hours in (0, 12, 24)}
    offset = offsets.pop()
    if offsets or (offset and offset.microseconds):
        return None
    return int(offset.total_seconds()) if offset else 0
