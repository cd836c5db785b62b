"""Sums of processes by a key, added up from wherever they come: batches of a file, or the rows of a query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from procacct.asking.accounting_question import MOST, SUMS

Key = tuple[object, ...]
Number = int | float | None

COLUMNS = (*SUMS, *MOST)


@dataclass
class Totals:
    """By key what its processes come to: a number for each of `COLUMNS`, None where nothing is known."""

    by_key: dict[Key, list[Number]] = field(default_factory=dict)

    def add(self, key: Key, numbers: Sequence[Number]) -> None:
        """Takes in the numbers (as `COLUMNS` are ordered) of some processes."""
        known = self.by_key.get(key)
        if known is None:
            self.by_key[key] = list(numbers)
            return
        for at, number in enumerate(numbers):
            known[at] = _together(known[at], number, most=at >= len(SUMS))

    def renamed(self, names: Iterable[tuple[Key, str]]) -> Totals:
        """The same by names; what has one name is one."""
        totals = Totals()
        for key, name in names:
            totals.add((name,), self.by_key[key])
        return totals


def _together(one: Number, other: Number, *, most: bool) -> Number:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other) if most else one + other
