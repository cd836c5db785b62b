"""Oracle's own partitions, by range; its partitioning option has to be licensed. Tested as text: no server of it runs here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from batchacct.store.dialects.partitioning import Layout, Partition
from batchacct.store.dialects.ranges import Piece, emptied, from_bounds, pieces_of, rest_until, splits
from batchacct.store.months import Month


class OraclePartitions:
    def convert(self, layout: Layout) -> list[str]:
        """The table stays usable meanwhile (ONLINE, since 12.2); its indices become local ones where they can be."""
        name, by_range = layout.table, _by_range(layout.time, pieces_of(layout.table, ()))
        return [
            f"ALTER TABLE {name} DROP PRIMARY KEY",
            f"ALTER TABLE {name} ADD CONSTRAINT {name}_pk PRIMARY KEY (id, {layout.time})",
            f"ALTER TABLE {name} MODIFY {by_range} ONLINE",
        ]

    def clause(self, table: str, time: str, months: Sequence[Month]) -> tuple[str, list[str]]:
        return _by_range(time, pieces_of(table, months)), []

    def time_column(self, connection: Connection, table: str) -> str | None:
        asked = text("SELECT column_name FROM user_part_key_columns WHERE name = :name AND object_type = 'TABLE'")
        found = connection.scalar(asked, {"name": table.upper()})
        return None if found is None else str(found).lower()

    def partitions(self, connection: Connection, table: str) -> list[Partition]:
        asked = text(
            "SELECT partition_name, high_value FROM user_tab_partitions WHERE table_name = :name ORDER BY partition_position"
        )
        rows = connection.execute(asked, {"name": table.upper()})
        return from_bounds((name.lower(), None if bound.strip() == "MAXVALUE" else int(bound)) for name, bound in rows)

    def first_from(self, connection: Connection, table: str, partition: Partition, time: str, since: int | None) -> int | None:
        asked = f"SELECT min({time}) FROM {table} PARTITION ({partition.name})"  # noqa: S608 - names
        if since is not None:
            asked += f" WHERE {time} >= {since}"
        found: int | None = connection.scalar(text(asked))
        return found

    def add(self, connection: Connection, table: str, time: str, months: Sequence[Month]) -> list[str]:
        """A split has two halves: the catch-all, under the name it has at the end, becomes less with each of them."""
        del time
        statements = []
        for around, pieces in splits(self.partitions(connection, table), table, months):
            *split, last = pieces
            if around.name != last.name:
                statements.append(_renamed(table, around.name, last))
            statements += [
                f"ALTER TABLE {table} SPLIT PARTITION {last.name} AT ({piece.end}) "
                f"INTO (PARTITION {piece.name}, PARTITION {last.name}) UPDATE INDEXES"
                for piece in split
            ]
        return statements

    def drop(self, connection: Connection, table: str, month: Month) -> list[str]:
        """Leaves a catch-all in its place, or the one before it with its bound: else the month after it would begin earlier."""
        name, before = emptied(self.partitions(connection, table), table, month)
        rest = rest_until(month.end)
        merge = [f"ALTER TABLE {table} MERGE PARTITIONS {one}, {name} INTO PARTITION {rest.name} UPDATE INDEXES" for one in before]
        return [f"ALTER TABLE {table} TRUNCATE PARTITION {name} UPDATE INDEXES", *(merge or [_renamed(table, name, rest)])]

    def hidden_tables(self, connection: Connection) -> set[str]:
        del connection
        return set()

    def look_again(self, table: str) -> list[str]:
        """Its own nightly job does."""
        del table
        return []


def _renamed(table: str, name: str, piece: Piece) -> str:
    return f"ALTER TABLE {table} RENAME PARTITION {name} TO {piece.name}"


def _by_range(time: str, pieces: Iterable[Piece]) -> str:
    bounds = ((piece.name, "MAXVALUE" if piece.end is None else str(piece.end)) for piece in pieces)
    return f"PARTITION BY RANGE ({time}) (" + ", ".join(f"PARTITION {name} VALUES LESS THAN ({end})" for name, end in bounds) + ")"
