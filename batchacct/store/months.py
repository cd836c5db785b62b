"""Months in UTC, and the names of their partitions."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

MONTHS_A_YEAR = 12


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def at(cls, instant: int) -> Month:
        """The month of an instant (Unix seconds)."""
        moment = dt.datetime.fromtimestamp(instant, dt.UTC)
        return cls(moment.year, moment.month)

    @classmethod
    def between(cls, start: int, end: int) -> Month | None:
        """The month that begins at `start` and ends before `end`; None if these are not the bounds of one."""
        found = cls.at(start)
        return found if (found.start, found.end) == (start, end) else None

    def __add__(self, months: int) -> Month:
        year, month = divmod(self.year * MONTHS_A_YEAR + self.month - 1 + months, MONTHS_A_YEAR)
        return Month(year, month + 1)

    def __sub__(self, other: Month) -> int:
        return (self.year - other.year) * MONTHS_A_YEAR + self.month - other.month

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    @property
    def start(self) -> int:
        """Its first second."""
        return int(dt.datetime(self.year, self.month, 1, tzinfo=dt.UTC).timestamp())

    @property
    def end(self) -> int:
        """The first second after it."""
        return (self + 1).start

    def partition(self, table: str) -> str:
        """The name of its partition of a table, as in 2012: the table's, and the first second after the month."""
        return f"{table}{self.end}"
