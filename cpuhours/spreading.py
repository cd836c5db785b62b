"""Usage spread over the time jobs ran, exactly: what all bins have together is what the jobs used, to the second.

A job uses what it used evenly from its start to its end, at a rate a second that is a whole number of 2^-`RATE_BITS`; what
rounding the rate down leaves is used in its last moment. What a group of jobs had used by an instant is a curve, and a bin has what
the curve, rounded down, rises by: whatever the bins, nothing is lost between them, and neighbouring periods add up.

The curve is straight between the borders of units of time, so that its bends can be summed by units in the database: that is one
pass over the jobs, however long they ran and however many bins there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cpuhours.bins import Instants
from cpuhours.summing import AMOUNTS, RATE_BITS, Asked

Numbers = npt.NDArray[Any]
"""Integers of 64 bits, or Python's own where those would not do."""
_BITS = 63


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
    found = []
    for key, of_group in _grouped(bent, groups):
        curves = _Curves.of(asked, of_group.sort_values("at", kind="stable"))
        if curves is None:
            continue
        values = {name: rises(curves, name) for name, rises in amounts.items()}
        frame = pd.DataFrame({"bin": curves.begins, **values})
        frame = frame[(frame[list(amounts)] != 0).any(axis=1)]
        found.append(frame.assign(**dict(zip(groups, key, strict=True))))
    columns = [*groups, "bin", *amounts]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def _grouped(bent: pd.DataFrame, groups: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    if groups:
        yield from bent.groupby(list(groups), dropna=False, sort=False)
    elif len(bent):
        yield (), bent


@dataclass(frozen=True, slots=True)
class _Curves:
    """The bends of a group in order of time, where its bins begin, and where, within the period asked for, the curves are read."""

    bent: pd.DataFrame
    begins: Instants
    edges: Instants

    @classmethod
    def of(cls, asked: Asked, bent: pd.DataFrame) -> _Curves | None:
        """None if nothing is in the period."""
        at = bent["at"].to_numpy()
        first = int(at[0]) - asked.unit_s
        last = int(at[-1]) - 1
        first = first if asked.begin is None else max(first, asked.begin)
        last = last if asked.end is None else min(last, asked.end - 1)
        if first > last:
            return None
        edges = np.array([first, last + 1]) if asked.bins is None else asked.bins.edges(first, last)
        begins = np.zeros(1, np.int64) if asked.bins is None else edges[:-1]
        return cls(bent, begins, np.clip(edges, asked.begin, asked.end) if (asked.begin, asked.end) != (None, None) else edges)

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
        at = self.bent["at"].to_numpy(np.int64)
        amount = self.bent[name].to_numpy(np.int64)
        fits = float(amount.sum(dtype=float)) * 2**RATE_BITS < 2 ** (_BITS - 1)
        kind: Any = np.int64 if fits else object
        rate = self.bent[f"{name}_rate"].to_numpy(np.int64).astype(kind)
        jump = self.bent[f"{name}_jump"].to_numpy(np.int64).astype(kind)
        read = np.searchsorted(at, self.edges, side="right")
        origin = at[0]
        steepness = _summed(rate)[read]
        risen = _summed(jump - rate * (at - origin).astype(kind))[read]
        return _summed(amount.astype(kind))[read], risen + steepness * (self.edges - origin).astype(kind)


def _summed(values: Numbers) -> Numbers:
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
