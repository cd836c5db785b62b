"""Where the fields of many SGE accounting lines lie in a block of bytes: the first half of the fast lane.

The block is an array of bytes; the numbers of its colons are all there is to a line, for field k of line i ends at
`colons[first[i] + k]`. What is asked of a field is found when it is first asked, for all lines at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from batchacct.model import TEXT
from batchacct.parsing.columnar import spans_of
from loccol.sge_colon import FIELDS_WITH_GRANTED, GRANTED, HEAD, TAIL

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

if TYPE_CHECKING:
    Column = pa.Array[Any]

compute: Any = pyarrow.compute
"""Untyped: the stubs know fewer kinds of arguments than the kernels take."""

CATEGORY = len(HEAD)
FIELD = {name: number for number, name in enumerate(HEAD)} | {name: CATEGORY + 1 + n for n, name in enumerate(TAIL)}
FIELD |= {"category": CATEGORY, "granted": CATEGORY + 1 + GRANTED}
FEWEST_FIELDS = FIELD["maxvmem"] + 1

_NONE_WORD = int.from_bytes(b"NONE", "little")


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


class Rows:
    """Some lines of a block, each of FEWEST_FIELDS at least, and what was read of them.

    numbers: by name of field the number in it, rounded down;  fractions: the digits behind its point as a number.
    """

    def __init__(
        self, lexed: Lexed, lines: Ints, numbers: dict[str, Ints] | None = None, fractions: dict[str, Ints] | None = None
    ) -> None:
        self.data, self.lexed, self.lines = lexed.data, lexed, lines
        self.starts, self.stops = lexed.starts[lines], lexed.stops[lines]
        self.first, self.colons = lexed.first[lines], lexed.counts[lines]
        self.numbers, self.fractions = numbers or {}, fractions or {}
        self._least, self._most = int(self.colons.min(initial=FIELDS_WITH_GRANTED)), int(self.colons.max(initial=0))
        self._spans: dict[str, tuple[Ints, Ints]] = {}
        self._nones: dict[str, Bools] = {}

    def __len__(self) -> int:
        return len(self.lines)

    def at(self, which: Ints) -> Rows:
        """Those of the rows whose numbers are given, ascending."""
        return Rows(
            self.lexed,
            self.lines[which],
            {name: numbers[which] for name, numbers in self.numbers.items()},
            {name: digits[which] for name, digits in self.fractions.items()},
        )

    def has(self, name: str) -> bool:
        """Whether any line is of a version that has this field."""
        return self._most >= FIELD[name] and (name != "granted" or self._most == FIELDS_WITH_GRANTED - 1)

    def absent(self, name: str) -> Bools:
        """Which lines are of a version without this field."""
        absent: Bools = self.colons < (FIELDS_WITH_GRANTED - 1 if name == "granted" else FIELD[name])
        return absent

    def span(self, name: str) -> tuple[Ints, Ints]:
        """Where a field begins and ends in each line; one that a line does not have is empty, at its end."""
        if name not in self._spans:
            self._spans[name] = self._span(name)
        return self._spans[name]

    def _span(self, name: str) -> tuple[Ints, Ints]:
        number, colons = FIELD[name], self.lexed.colons
        if not self.has(name):
            return self.stops, self.stops
        if not number:
            return self.starts, colons[self.first]
        if number < self._least and name != "granted":
            return colons[self.first + (number - 1)] + 1, colons[self.first + number]
        last = len(colons) - 1
        begins = np.where(self.absent(name), self.stops, colons[np.minimum(self.first + (number - 1), last)] + 1)
        return begins, np.where(number < self.colons, np.maximum(begins, colons[np.minimum(self.first + number, last)]), self.stops)

    def is_none(self, name: str) -> Bools:
        """Whether a field is empty, absent, or `NONE`."""
        if name not in self._nones:
            starts, ends = self.span(name)
            lengths = ends - starts
            none = lengths == 0
            of_four = np.flatnonzero(lengths == len(b"NONE"))
            none[of_four] = np.ndarray(len(self.data) - 3, "<u4", self.data, strides=(1,))[starts[of_four]] == _NONE_WORD
            self._nones[name] = none
        return self._nones[name]

    def texts(self, name: str, kind: pa.DataType = TEXT) -> Column:
        """The texts of a field; null where it says nothing."""
        if not self.has(name):
            return same(None, len(self), kind)
        return spans_of(self.data, *self.span(name), kind, ~self.is_none(name))

    def written(self, first: str, last: str | None = None) -> Column:
        """A field as it is written, whatever it says; or all from one field to another, with the colons between."""
        return spans_of(self.data, self.span(first)[0], self.span(last or first)[1], TEXT)

    def encoded(self, name: str) -> tuple[list[bytes], Column]:
        """The different values of a field, and which of them each line has."""
        found: Any = spans_of(self.data, *self.span(name), pa.binary()).dictionary_encode()
        return found.dictionary.to_pylist(), found.indices


def same(value: object, count: int, kind: pa.DataType = TEXT) -> Column:
    """A column that says the same of all lines."""
    scalar: Any = pa.scalar(value, kind)
    column: Column = pa.repeat(scalar, count)
    return column
