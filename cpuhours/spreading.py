"""Usage spread over the time jobs ran, exactly: what all bins have together is what the jobs used, to the second.

A job uses what it used evenly from its start to its end, at a rate a second that is a whole number of 2^-`RATE_BITS`; what
rounding the rate down leaves is used in its last moment. What a group of jobs had used by an instant is a curve, and a bin has what
the curve, rounded down, rises by: whatever the bins, nothing is lost between them, and neighbouring periods add up.

The curve is straight between the borders of units of time, so that its bends can be summed by units in the database: that is one
pass over the jobs, however long they ran and however many bins there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from batchacct.usage.bins import Instants
from batchacct.usage.summing import AMOUNTS, RATE_BITS, Asked

Numbers = npt.NDArray[Any]
"""Integers of 64 bits, or Python's own where those would not do."""
_BITS = 63
_BENDS = frozenset(f"{name}{what}" for name in AMOUNTS for what in ("", "_rate", "_jump"))


def bends(asked: Asked, started: pd.DataFrame, stopped: pd.DataFrame) -> pd.DataFrame:
    """The bends of the curves: a row of groups, `at` (Unix seconds), and of each amount by how much its curve bends.

    `X_rate` is by how much it is steeper from there on, and `X_jump` how much was used by then beside the slopes, both times
    2^`RATE_BITS`; `X` is how much is done with, as measured. The frames are of `summing.starts` and `summing.stops`.
    """
    found = []
    for frame, is_start in ((started, True), (stopped, False)):
        columns: dict[str, Any] = {"at": (frame["unit"] + 1) * asked.unit_s}
        for name in AMOUNTS:
            rate = frame[f"{name}_rate"]
            columns[f"{name}_rate"] = rate if is_start else -rate
            columns[f"{name}_jump"] = frame[f"{name}_of_first"] if is_start else -(frame[f"{name}_before"] + rate * asked.unit_s)
            columns[name] = 0 if is_start else frame[name]
        found.append(frame[[*asked.names, *asked.levels]].assign(**columns))
    return pd.concat(found, ignore_index=True)


def in_bins(asked: Asked, bent: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """The amounts of groups in the bins they were used in, those with any: `groups`, `bin` (Unix seconds), `AMOUNTS`."""
    return _frame(asked, bent, groups, dict.fromkeys(AMOUNTS, _Curves.whole))


def cpu_in_bins(asked: Asked, bent: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """The CPU seconds of groups in the bins they were used in, with what `in_bins` rounds: `groups`, `bin`, `cpu_s` (real)."""
    return _frame(asked, bent, groups, {"cpu_s": _Curves.fractional})


def _frame(asked: Asked, bent: pd.DataFrame, groups: Sequence[str], amounts: Mapping[str, Any]) -> pd.DataFrame:
    """Group by group in plain arrays: there may be thousands, and a frame of each takes longer than what is done with it."""
    found: dict[str, list[Numbers]] = {name: [] for name in ("bin", *amounts)}
    rows: list[int] = []
    lengths: list[int] = []
    edges = _edges(asked, bent["at"].to_numpy(np.int64))
    for row, arrays in _of_groups(bent, groups):
        curves = _Curves.of(asked, arrays, edges)
        if curves is None:
            continue
        values = {name: rises(curves, name) for name, rises in amounts.items()}
        used = np.logical_or.reduce([value != 0 for value in values.values()])
        for name, value in {"bin": curves.begins, **values}.items():
            found[name].append(value[used])
        rows.append(row)
        lengths.append(int(used.sum()))
    if not rows:
        return pd.DataFrame(columns=[*groups, "bin", *amounts])
    keys = bent[list(groups)].iloc[np.repeat(rows, lengths)].reset_index(drop=True)
    return keys.assign(**{name: np.concatenate(arrays) for name, arrays in found.items()})


def _within(asked: Asked, at: Numbers) -> tuple[int, int]:
    """The first and the last second in which something of some bends is used in the period; in the wrong order if nothing is."""
    first, last = int(at.min()) - asked.unit_s, int(at.max()) - 1
    return first if asked.begin is None else max(first, asked.begin), last if asked.end is None else min(last, asked.end - 1)


def _edges(asked: Asked, at: Numbers) -> Instants:
    """The edges of all bins that something is in."""
    first, last = _within(asked, at) if len(at) else (0, -1)
    return np.empty(0, np.int64) if asked.bins is None or first > last else asked.bins.edges(first, last)


def _of_groups(bent: pd.DataFrame, groups: Sequence[str]) -> Iterator[tuple[int, dict[str, Numbers]]]:
    """For each group the place of one of its rows, and its columns in order of time."""
    if not len(bent):
        return
    numbers = bent.groupby(list(groups), dropna=False, sort=False).ngroup().to_numpy() if groups else np.zeros(len(bent), np.int64)
    order = np.lexsort((bent["at"].to_numpy(np.int64), numbers))
    columns = {name: bent[name].to_numpy(np.int64)[order] for name in ("at", *(n for n in bent.columns if n in _BENDS))}
    borders = [0, *(np.flatnonzero(np.diff(numbers[order])) + 1).tolist(), len(bent)]
    for first, last in itertools.pairwise(borders):
        yield int(order[first]), {name: column[first:last] for name, column in columns.items()}


@dataclass(frozen=True, slots=True)
class _Curves:
    """The bends of a group in order of time, where its bins begin, and where, within the period asked for, the curves are read.

    `read`: how many of the bends are up to each of these edges.
    """

    bent: Mapping[str, Numbers]
    begins: Instants
    edges: Instants
    read: Numbers

    @classmethod
    def of(cls, asked: Asked, bent: Mapping[str, Numbers], every: Instants) -> _Curves | None:
        """None if nothing is in the period; `every` edge there is, of whatever group."""
        first, last = _within(asked, bent["at"])
        if first > last:
            return None
        begin, end = np.searchsorted(every, [first, last], side="right")
        edges = np.array([first, last + 1]) if asked.bins is None else every[begin - 1 : end + 1]
        begins = np.zeros(1, np.int64) if asked.bins is None else edges[:-1]
        edges = np.clip(edges, asked.begin, asked.end) if (asked.begin, asked.end) != (None, None) else edges
        return cls(bent, begins, edges, np.searchsorted(bent["at"], edges, side="right"))

    def whole(self, name: str) -> Numbers:
        """What each bin has of an amount, so that all bins together have what the curve rises by, rounded down."""
        done, going_on = self._read(name)
        used: Numbers = done + (going_on >> RATE_BITS)
        rises: Numbers = np.diff(used)
        return rises

    def fractional(self, name: str) -> Numbers:
        """The same without rounding, as real numbers."""
        done, going_on = self._read(name)
        used: Numbers = (np.diff(done) + np.diff(going_on) / 2**RATE_BITS).astype(float)
        return used

    def _read(self, name: str) -> tuple[Numbers, Numbers]:
        """At each edge what ended jobs had used, and what running ones had, times 2^`RATE_BITS`.

        Sums of 64 bits may run over on the way; what comes out is right if it fits, and it is no more than all of the jobs.
        """
        at, amount = self.bent["at"], self.bent[name]
        bends = [self.bent[f"{name}_{what}"] for what in ("rate", "jump")]
        if not any(one.any() for one in (amount, *bends)):
            nothing = np.zeros(len(self.edges), np.int64)
            return nothing, nothing
        fits = float(amount.sum(dtype=float)) * 2**RATE_BITS < 2 ** (_BITS - 1)
        kind: Any = np.int64 if fits else object
        rate, jump = (one.astype(kind) for one in bends)
        read, origin = self.read, at[0]
        steepness = _summed(rate)[read]
        risen = _summed(jump - rate * (at - origin).astype(kind))[read]
        return _summed(amount.astype(kind))[read], risen + steepness * (self.edges - origin).astype(kind)


def _summed(values: Numbers) -> Numbers:
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
