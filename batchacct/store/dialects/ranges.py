"""Partitions that have an upper bound alone, as MariaDB, MySQL and Oracle know them: each begins where the one before it ends.

A month between months that have partitions would be in the next one's. So what is before a month and of no partition of its own
has a catch-all of its own, `rest_` and the bound: a partition of a month holds that month alone, and may be dropped with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def splits(partitions: Sequence[Partition], table: str, months: Sequence[Month]) -> Iterator[tuple[Partition, list[Piece]]]:
    """Each catch-all that some of the months are in, and what to make of it: the months, and what is before and after each."""
    for one in partitions:
        inside = [
            month
            for month in months
            if (one.start is None or one.start <= month.start) and (one.end is None or month.start < one.end)
        ]
        if inside and one.month is None:
            yield one, pieces_of(table, inside, one)


def pieces_of(table: str, months: Sequence[Month], around: Partition = Partition(REST, None, None)) -> list[Piece]:  # noqa: B008
    """What a catch-all becomes: the months, what is before and between them, and what is left."""
    pieces: list[Piece] = []
    reached = around.start
    for month in sorted(months):
        if reached is None or reached < month.start:
            pieces.append(rest_until(month.start))
        pieces.append(Piece(month.partition(table), month.end))
        reached = month.end
    if around.end is None or reached is None or reached < around.end:
        pieces.append(Piece(around.name, around.end))
    return pieces


def emptied(partitions: Sequence[Partition], table: str, month: Month) -> tuple[str, list[str]]:
    """The partition of a month that is to go, and the catch-all before it, if there is one, that takes its place as well."""
    name = month.partition(table)
    place = next(place for place, one in enumerate(partitions) if one.name == name)
    return name, [one.name for one in partitions[max(place - 1, 0) : place] if one.month is None]
