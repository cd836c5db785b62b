"""The attributes of many lines at once, for the fast lane.

What follows a blank is the name of an attribute up to the next separator, which must be `=`, and its value ends at the next blank.
Most lines of a log have the same names in the same order. So the names of a line, `user=group=jobname=`, are looked at as one text,
its layout, each distinct one is judged once, and an attribute is found by the place its name has there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pyarrow as pa

from batchacct.parsing.columnar import spans_of
from loccol.pbs_lex import APOSTROPHE, BLANK, EQUALS, QUOTE, Bools, Ints, Lines, after
from loccol.pbs_line import FAMILIES, NAMES, USED

LONGEST_KEPT = 4096
"""Bytes of a layout that is remembered from one block to the next."""

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of attributes in their order: the place of each, and those of the first and the last `resources_used` (-1: none).

    It is `regular` if all names are known and none comes twice, `together` if nothing else is among the resources_used.
    """

    places: Mapping[bytes, int]
    regular: bool
    first_used: int
    last_used: int
    together: bool


@dataclass(slots=True)
class Fields:
    """The attributes of some lines. Attribute k is `name=value`: the name from `names[k]` on, the value (`starts[k]` to `ends[k]`)
    without quotes.

    `quoted` says that there were quotes around the value, `at` is the separator before the attribute, and one more the end of all.
    By line: the number of its `first` attribute, the separator that `closes` its last, and its layout.
    """

    at: Ints
    names: Ints
    starts: Ints
    ends: Ints
    quoted: Bools
    first: Ints
    closes: Ints
    layout: Ints
    layouts: list[Layout]

    def has(self, name: bytes) -> bool:
        """Whether any line has it."""
        return any(name in layout.places for layout in self.layouts)

    def attribute(self, name: bytes, lines: Ints) -> Ints:
        """By line the number of the attribute of this name; -1 where it has none."""
        place = self.by_layout([layout.places.get(name, -1) for layout in self.layouts], lines)
        return np.where(place < 0, place, self.first[lines] + place)

    def by_layout(self, said: list[int], lines: Ints) -> Ints:
        """By line what is said of its layout."""
        return np.array(said, np.int64)[self.layout[lines]]


def fields_of(lines: Lines, chosen: Bools) -> tuple[Fields, Bools]:
    """The attributes of the chosen lines, and which lines are regular to their end."""
    good, which = chosen.copy(), np.flatnonzero(chosen)
    at, counts, closes = _bounds(lines, chosen)
    behind = np.cumsum(counts)
    first = behind - counts
    before, equals = lines.separators[at[:-1]], lines.separators[at[:-1] + 1]
    names, ends = before + 1, np.append(before[1:], 0)
    ends[behind - 1] = lines.separators[closes]
    irregular = np.flatnonzero(lines.separator_kinds[at[:-1] + 1] != EQUALS)
    good[which[np.searchsorted(behind, irregular, "right")]] = False
    equals[irregular] = names[irregular]
    starts = equals + 1
    mark = lines.array[np.minimum(starts, len(lines.array) - 1)]
    quoted: Bools = (mark == QUOTE) | (mark == APOSTROPHE)
    some = np.flatnonzero(quoted)
    if len(some):
        open_ended = (lines.array[ends[some] - 1] != mark[some]) | (ends[some] - starts[some] < len('""'))
        good[which[np.searchsorted(behind, some[open_ended], "right")]] = False
        starts, ends = starts + quoted, ends - quoted
    codes, layouts = _layouts(lines, names, equals, behind)
    good[which] &= np.array([layout.regular for layout in layouts], np.bool_)[codes]
    first, closes, codes = (_by_line(chosen, values) for values in (first, closes, codes))
    return Fields(at, names, starts, ends, quoted, first, closes, codes, layouts), good


def _by_line(chosen: Bools, values: Ints) -> Ints:
    column = np.zeros(len(chosen), np.int64)
    column[chosen] = values
    return column


def _bounds(lines: Lines, chosen: Bools) -> tuple[Ints, Ints, Ints]:
    """The separators before each attribute of the chosen lines (the fourth, and every blank after it), and the end of all; by
    chosen line how many it has, and the separator that closes the last.

    One blank at the end of a line (S lines, and E lines of some Torque 6) begins none.
    """
    kinds, newlines = lines.separator_kinds, lines.newlines
    first = after(newlines)
    begins = kinds == BLANK
    begins[first] = False
    begins[first[chosen] + 3] = True
    if not chosen.all():
        begins &= np.repeat(chosen, newlines - first + 1)
    closes = newlines[chosen]
    adjacent = lines.separators[closes] - lines.separators[closes - 1] == 1
    blank_last = begins[closes - 1] & (kinds[closes - 1] == BLANK) & adjacent
    closes = closes - blank_last
    begins[closes[blank_last]] = False
    at = np.flatnonzero(begins)
    counts = np.diff(np.searchsorted(at, closes), prepend=0)
    return np.append(at, len(kinds)), counts, closes


def _layouts(lines: Lines, names: Ints, equals: Ints, behind: Ints) -> tuple[Ints, list[Layout]]:
    """The layout of each chosen line, of which `behind` is the number of the first attribute of the next, and all layouts."""
    keys = spans_of(lines.data, names, equals + 1, pa.binary())
    _, offsets, data = cast("list[Any]", keys.buffers())
    bounds = np.frombuffer(offsets, np.int32, len(names) + 1)[np.append(0, behind)]
    joined = pa.Array.from_buffers(pa.binary(), len(behind), [None, pa.py_buffer(bounds), data]).dictionary_encode()
    distinct = cast("list[bytes]", joined.dictionary.to_pylist())
    codes: Ints = joined.indices.to_numpy()
    return codes, [_layout(text) if len(text) <= LONGEST_KEPT else _layout_of(text) for text in distinct]


def _layout_of(text: bytes) -> Layout:
    names = text.split(b"=")[:-1]
    places = {name: place for place, name in enumerate(names)}
    used = [place for place, name in enumerate(names) if name.startswith(USED)]
    first, last = (used[0], used[-1]) if used else (-1, -1)
    regular = len(places) == len(names) and all(map(_is_known, names))
    return Layout(places, regular, first, last, not used or last - first + 1 == len(used))


_layout = lru_cache(maxsize=1 << 10)(_layout_of)


def _is_known(name: bytes) -> bool:
    return _NAME.fullmatch(name) is not None and (name in NAMES or name.startswith(FAMILIES))
