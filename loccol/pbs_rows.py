"""Some E lines of a block, and the values of their attributes as columns: numbers, times, durations, sizes, texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pyarrow as pa

from batchacct.model import INSTANT, LAST_INSTANT
from loccol.pbs_attributes import Fields
from loccol.pbs_lex import Bools, Ints, Lines, compute, integers
from loccol.pbs_slots import MARGIN, Values

LONGEST_SIZE = 15
"""Digits of a size in kb; a longer one is left to the careful lane, which knows what is impossible."""
LONGEST_COUNT = 9


class Rows:
    """Some lines of a block, those among them that are still thought regular (`good`), and their attributes."""

    def __init__(self, lines: Lines, fields: Fields, chosen: Ints) -> None:
        self.block = lines
        self.fields = fields
        self.lines = chosen
        self.good = np.ones(len(chosen), np.bool_)

    def at(self, name: bytes) -> Ints:
        """The number of each line's attribute; -1 where it has none."""
        return self.fields.attribute(name, self.lines)

    def keep(self) -> None:
        self.lines = self.lines[self.good]
        self.good = np.ones(len(self.lines), np.bool_)

    def text(self, name: bytes, kind: pa.DataType | None = None) -> pa.Array[Any]:
        """The values; null where empty, or where a line has none."""
        if not self.fields.has(name):
            return nulls(len(self.lines), kind or pa.string())
        at = self.at(name)
        starts, ends = self.fields.starts[at], self.fields.ends[at]
        return self.block.text(starts, ends, (at >= 0) & (ends > starts), kind)

    def values(self, name: bytes) -> Values:
        """The values that are not empty."""
        at = self.at(name)
        rows = np.flatnonzero((at >= 0) & (self.fields.ends[at] > self.fields.starts[at]))
        at = at[rows]
        texts = self.block.text(self.fields.starts[at], self.fields.ends[at] + 1, np.ones(len(at), np.bool_))
        offsets, data = cast("list[Any]", texts.buffers()[1:])
        if not len(at):
            return Values(np.zeros(2 * MARGIN, np.uint8), at, rows)
        ends = np.frombuffer(offsets, np.int32, len(at) + 1)[1:] + np.int64(MARGIN - 1)
        margin = np.zeros(MARGIN, np.uint8)
        return Values(np.concatenate((margin, np.frombuffer(data, np.uint8), margin)), ends, rows)

    def numbers(self, name: bytes, read: Callable[[Lines, Ints, Ints], tuple[Ints, Bools]]) -> tuple[Ints, Bools]:
        """What `read` makes of the values, and which lines have one; a line whose value it cannot read is not good."""
        if not self.fields.has(name):
            return np.zeros(len(self.lines), np.int64), np.zeros(len(self.lines), np.bool_)
        at = self.at(name)
        there = at >= 0
        if there.all():
            numbers, readable = read(self.block, self.fields.starts[at], self.fields.ends[at])
            self.good &= readable
            return numbers, there
        numbers = np.zeros(len(at), np.int64)
        some = at[there]
        numbers[there], readable = read(self.block, self.fields.starts[some], self.fields.ends[some])
        self.good[there] &= readable
        return numbers, there

    def of_distinct(self, name: bytes, judge: Callable[[bytes], object], kind: pa.DataType) -> pa.Array[Any]:
        """`judge` of each value, called once for each distinct one; null where there is none."""
        encoded = self.text(name, pa.binary()).dictionary_encode()
        judged = [judge(value) for value in cast("list[bytes]", encoded.dictionary.to_pylist())]
        taken: pa.Array[Any] = compute.take(pa.array(judged, kind), encoded.indices)
        return taken


def times(lines: Lines, fields: Fields, at: Ints) -> tuple[Ints, Bools]:
    """The attributes with these numbers as Unix seconds, and which are that."""
    return read_times(lines, fields.starts[at], fields.ends[at])


def read_times(lines: Lines, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    seconds, good = integers(lines.data, starts, ends)
    return seconds, good & (ends - starts <= 10) & (seconds <= LAST_INSTANT)


def read_counts(lines: Lines, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    counts, good = integers(lines.data, starts, ends)
    return counts, good & (ends - starts <= LONGEST_COUNT)


def read_signed(lines: Lines, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    negative = lines.array[starts] == ord("-")
    counts, good = read_counts(lines, starts + negative, ends)
    return np.where(negative, -counts, counts), good


def read_durations(lines: Lines, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """`HH:MM:SS` (two digits for minutes and seconds), or seconds."""
    array = lines.array
    colons = (array[ends - 3] == ord(":")) & (array[ends - 6] == ord(":")) & (ends - starts >= len("0:00:00"))
    whole, good = integers(lines.data, starts, np.where(colons, ends - 6, ends))
    good &= np.where(colons, ends - 6, ends) - starts <= 9
    digits = [array[ends - place].astype(np.int64) - ord("0") for place in (5, 4, 2, 1)]
    for digit in digits:
        good &= ~colons | ((digit >= 0) & (digit < 10))
    clock = whole * 3600 + (digits[0] * 10 + digits[1]) * 60 + digits[2] * 10 + digits[3]
    return np.where(colons, clock, whole), good


def read_sizes(lines: Lines, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """`12kb`, or `0b`."""
    array = lines.array
    kib, good = integers(lines.data, starts, ends - 2)
    good &= (array[ends - 2] == ord("k")) & (array[ends - 1] == ord("b")) & (ends - 2 - starts <= LONGEST_SIZE)
    nothing = (ends - starts == 2) & (array[starts] == ord("0")) & (array[ends - 1] == ord("b"))
    return np.where(nothing, 0, kib), good | nothing


def is_true(condition: pa.Array[Any]) -> Bools:
    truth: Bools = compute.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return truth


def nulls(count: int, kind: pa.DataType) -> pa.Array[Any]:
    make: Any = pa.nulls
    column: pa.Array[Any] = make(count, kind)
    return column


def same(text: str | None, count: int) -> pa.Array[Any]:
    return pa.repeat(pa.scalar(text, pa.string()), count)


def instants(seconds: Ints, known: Bools) -> pa.Array[Any]:
    return pa.array(seconds, mask=~known).view(INSTANT)
