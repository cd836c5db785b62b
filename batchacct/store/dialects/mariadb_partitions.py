"""MariaDB's and MySQL's own partitions, BY RANGE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from batchacct.store.dialects.partitioning import Layout, Partition
from batchacct.store.dialects.ranges import Piece, emptied, from_bounds, pieces_of, rest_until, splits
from batchacct.store.months import Month


class MariadbPartitions:
    def convert(self, layout: Layout) -> list[str]:
        key, by_range = f"ADD PRIMARY KEY (id, {layout.time})", _by_range(layout.time, pieces_of(layout.table, ()))
        return [f"ALTER TABLE `{layout.table}` DROP PRIMARY KEY, {key} {by_range}"]

    def clause(self, table: str, time: str, months: Sequence[Month]) -> tuple[str, list[str]]:
        return _by_range(time, pieces_of(table, months)), []

    def time_column(self, connection: Connection, table: str) -> str | None:
        asked = text(
            "SELECT DISTINCT partition_expression FROM information_schema.partitions "
            "WHERE table_schema = DATABASE() AND table_name = :name AND partition_method = 'RANGE'"
        )
        found = connection.scalar(asked, {"name": table})
        return None if found is None else str(found).strip("`")

    def partitions(self, connection: Connection, table: str) -> list[Partition]:
        asked = text(
            "SELECT partition_name, partition_description FROM information_schema.partitions "
            "WHERE table_schema = DATABASE() AND table_name = :name AND partition_name IS NOT NULL "
            "ORDER BY partition_ordinal_position"
        )
        rows = connection.execute(asked, {"name": table})
        return from_bounds((name, None if bound == "MAXVALUE" else int(bound)) for name, bound in rows)

    def first_from(self, connection: Connection, table: str, partition: Partition, time: str, since: int | None) -> int | None:
        asked = f"SELECT min(`{time}`) FROM `{table}` PARTITION (`{partition.name}`)"  # noqa: S608 - names
        if since is not None:
            asked += f" WHERE `{time}` >= {since}"
        found: int | None = connection.scalar(text(asked))
        return found

    def add(self, connection: Connection, table: str, time: str, months: Sequence[Month]) -> list[str]:
        """All of a catch-all's in one statement: each copies what is in it."""
        del time
        return [
            f"ALTER TABLE `{table}` REORGANIZE PARTITION `{around.name}` INTO {_listed(pieces)}"
            for around, pieces in splits(self.partitions(connection, table), table, months)
        ]

    def drop(self, connection: Connection, table: str, month: Month) -> list[str]:
        """Leaves a catch-all in its place, or the one before it with its bound: else the month after it would begin earlier."""
        name, before = emptied(self.partitions(connection, table), table, month)
        merged = ", ".join(f"`{one}`" for one in (*before, name))
        return [
            f"ALTER TABLE `{table}` TRUNCATE PARTITION `{name}`",
            f"ALTER TABLE `{table}` REORGANIZE PARTITION {merged} INTO {_listed([rest_until(month.end)])}",
        ]

    def hidden_tables(self, connection: Connection) -> set[str]:
        del connection
        return set()

    def look_again(self, table: str) -> list[str]:
        del table
        return []


def _by_range(time: str, pieces: Iterable[Piece]) -> str:
    return f"PARTITION BY RANGE (`{time}`) {_listed(pieces)}"


def _listed(pieces: Iterable[Piece]) -> str:
    bounds = ((piece.name, "MAXVALUE" if piece.end is None else f"({piece.end})") for piece in pieces)
    return "(" + ", ".join(f"PARTITION `{name}` VALUES LESS THAN {bound}" for name, bound in bounds) + ")"
