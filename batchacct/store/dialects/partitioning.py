"""What the store asks of a database that can partition tables by ranges of a column of Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection

from batchacct.store.months import Month

REST = "rest"
"""The catch-all: rows of months without a partition of their own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A table to be partitioned as it is: its time column, its unique key, and its indices by name, each as SQL after its table."""

    table: str
    time: str
    key: Sequence[str]
    indices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition: what comes from `start` to before `end` (None: without bound). A catch-all is one that is no month."""

    name: str
    start: int | None
    end: int | None

    @property
    def month(self) -> Month | None:
        if self.start is None or self.end is None or self.name.startswith(f"{REST}_"):
            return None
        return Month.between(self.start, self.end)


class Partitioning(Protocol):
    """Statements are for one connection, in their order. Names are those of tables of the schema, or were checked."""

    def convert(self, layout: Layout) -> list[str]:
        """Makes a table that is there a partitioned one whose rows are all in the catch-all."""

    def clause(self, table: str, time: str, months: Sequence[Month]) -> tuple[str, list[str]]:
        """What CREATE TABLE ends with to make a table partitioned, and the statements that follow it."""

    def time_column(self, connection: Connection, table: str) -> str | None:
        """The column a table is partitioned by; None if it is not."""

    def partitions(self, connection: Connection, table: str) -> list[Partition]:
        """The partitions of a table by their starts, a catch-all without bounds last."""

    def first_from(self, connection: Connection, table: str, partition: Partition, time: str, since: int | None) -> int | None:
        """The first instant, not before `since`, of the rows in a partition."""

    def add(self, connection: Connection, table: str, time: str, months: Sequence[Month]) -> list[str]:
        """Makes the partitions of months that have none, with their rows moved out of the catch-all."""

    def drop(self, connection: Connection, table: str, month: Month) -> list[str]:
        """Drops the partition of a month, with its rows."""

    def hidden_tables(self, connection: Connection) -> set[str]:
        """Tables of the catalogue that are partitions of others."""

    def look_again(self, table: str) -> list[str]:
        """Has the planner's statistics of a partitioned table taken anew, where nothing else does."""
