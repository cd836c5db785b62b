"""Figures of the configuration that hold for some days: cores of clusters, grams of CO2e a kWh. Instants are Unix seconds."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from batchacct.clock import midnight
from batchacct.config_reports import Capacity, Energy
from batchacct.usage.bins import DAY_S

T = TypeVar("T", Capacity, Energy)


@dataclass(frozen=True, slots=True)
class Stretch(Generic[T]):
    """From an instant to before another what is in force does not change; None where nothing is."""

    begin: int
    end: int
    in_force: T | None


def stretches(held: Sequence[T], begin: int, end: int) -> list[Stretch[T]]:
    """A period, cut where another figure begins to be in force: of several it is the one that began last."""
    bounds: set[int] = {midnight(day) for one in held for day in (one.valid_from, one.valid_until)}
    edges = [begin, *sorted(at for at in bounds if begin < at < end), end]
    found = [Stretch(since, until, _in_force(held, since)) for since, until in itertools.pairwise(edges) if since < until]
    return _merged(found)


def _in_force(held: Iterable[T], at: int) -> T | None:
    valid = [one for one in held if midnight(one.valid_from) <= at < midnight(one.valid_until)]
    return max(valid, key=lambda one: one.valid_from, default=None)


def _merged(found: Sequence[Stretch[T]]) -> list[Stretch[T]]:
    merged: list[Stretch[T]] = []
    for one in found:
        if merged and merged[-1].in_force is one.in_force:
            merged[-1] = Stretch(merged[-1].begin, one.end, one.in_force)
        else:
            merged.append(one)
    return merged


def capacity_core_s(capacity: Sequence[Capacity], cluster: str, begin: int, end: int) -> int | None:
    """Core seconds that a cluster offered in a period; None if for a part of it nobody says what it had."""
    parts = stretches([one for one in capacity if one.cluster == cluster], begin, end)
    if any(one.in_force is None for one in parts):
        return None
    return sum((one.end - one.begin) * one.in_force.cores for one in parts if one.in_force is not None)


def without_days(capacity: Sequence[Capacity], days: Sequence[int]) -> list[Capacity]:
    """The same, but that on some UTC days (their midnights, in order) the clusters have nothing to be used."""
    none = [
        one.in_force.model_copy(update={"cores": 0, "valid_from": _day(one.begin), "valid_until": _day(one.end)})
        for cluster in dict.fromkeys(one.cluster for one in capacity)
        for begin, end in runs(days)
        for one in stretches([held for held in capacity if held.cluster == cluster], begin, end)
        if one.in_force is not None
    ]
    return [*none, *capacity]


def runs(days: Iterable[int]) -> list[tuple[int, int]]:
    """Days in order (their midnights), those that follow each other as one: its begin, and its end."""
    found: list[tuple[int, int]] = []
    for day in days:
        begin = found.pop()[0] if found and found[-1][1] == day else day
        found.append((begin, day + DAY_S))
    return found


def _day(at: int) -> dt.date:
    return dt.datetime.fromtimestamp(at, dt.UTC).date()
