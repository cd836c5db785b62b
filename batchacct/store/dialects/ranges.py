"""Partitions that have an upper bound alone, as MariaDB, MySQL and Oracle know them: each begins where the one before it ends.

A month between months that have partitions would be in the next one's. So what is before a month and of no partition of its own
has a catch-all of its own, `rest_` and the bound: a partition of a month holds that month alone, and may be dropped with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchacct.store.dialects.partitioning import REST, Partition
from batchacct.store.months import Month


@dataclass(frozen=True, slots=True)
class Piece:
    """A partition to be made: its name, and the first second after it (None: the end of time)."""

    name: str
    end: int | None


def rest_until(end: int) -> Piece:
    """The catch-all of what is before an instant, and in no partition before it."""
    return Piece(f"{REST}_{end}", end)


def from_bounds(bounds: Iterable[tuple[str, int | None]]) -> list[Partition]:
    """The partitions, from the upper bound of each in order."""
    found: list[Partition] = []
    start = None
    for name, end in bounds:
        found.append(Partition(name, start, end))
        start = end
    return found


def split_for(partitions: Sequence[Partition], table: str, month: Month) -> tuple[Partition, list[Piece]] | None:
    """The catch-all that a month is in, and what to make of it: what is before the month, the month, what is after it.

    None if the month has a partition of its own.
    """
    around = next(one for one in partitions if one.end is None or month.start < one.end)
    if around.month is not None:
        return None
    pieces = []
    if around.start is None or around.start < month.start:
        pieces.append(rest_until(month.start))
    pieces.append(Piece(month.partition(table), month.end))
    if around.end is None or month.end < around.end:
        pieces.append(Piece(around.name, around.end))
    return around, pieces


def pieces_of(table: str, months: Sequence[Month]) -> list[Piece]:
    """The partitions of a new table: the months, what is before and between them, and the rest."""
    pieces: list[Piece] = []
    end: int | None = None
    for month in sorted(months):
        if end != month.start:
            pieces.append(rest_until(month.start))
        pieces.append(Piece(month.partition(table), month.end))
        end = month.end
    return [*pieces, Piece(REST, None)]


def emptied(partitions: Sequence[Partition], table: str, month: Month) -> tuple[str, list[str]]:
    """The partition of a month that is to go, and the catch-all before it, if there is one, that takes its place as well."""
    name = month.partition(table)
    place = next(place for place, one in enumerate(partitions) if one.name == name)
    return name, [one.name for one in partitions[max(place - 1, 0) : place] if one.month is None]
