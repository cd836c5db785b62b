"""PostgreSQL's own partitions: a table for each month, and a DEFAULT one for the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import BigInteger, ColumnElement, Connection, column, func, inspect, select, table, text

from batchacct.store.dialects.partitioning import REST, Layout, Partition
from batchacct.store.months import Month

_BOUNDS = re.compile(r"FOR VALUES FROM \('?(-?\d+|MINVALUE)'?\) TO \('?(-?\d+|MAXVALUE)'?\)")


class PostgresPartitions:
    def convert(self, layout: Layout) -> list[str]:
        name, time, rest = layout.table, layout.time, f"{layout.table}_{REST}"
        key = ", ".join(layout.key)
        renamed = [f"ALTER INDEX {index} RENAME TO {rest}{index.removeprefix(name)}" for index in layout.indices]
        created = [f"CREATE INDEX {index} ON {name} {what}" for index, what in layout.indices.items()]
        return [
            f"ALTER TABLE {name} RENAME TO {rest}",
            f"ALTER TABLE {rest} DROP CONSTRAINT {name}_pkey",
            f"ALTER TABLE {rest} ADD CONSTRAINT {rest}_pkey PRIMARY KEY (id, {time})",
            f"ALTER TABLE {rest} RENAME CONSTRAINT {name}_key TO {rest}_key",
            *renamed,
            f"CREATE TABLE {name} (LIKE {rest} INCLUDING DEFAULTS) PARTITION BY RANGE ({time})",
            f"ALTER TABLE {name} ADD CONSTRAINT {name}_pkey PRIMARY KEY (id, {time})",
            f"ALTER TABLE {name} ADD CONSTRAINT {name}_key UNIQUE ({key})",
            *created,
            f"ALTER TABLE {name} ATTACH PARTITION {rest} DEFAULT",
            _granted_as(rest, name),
        ]

    def clause(self, table: str, time: str, months: Sequence[Month]) -> tuple[str, list[str]]:
        parts = [
            f"CREATE TABLE {month.partition(table)} PARTITION OF {table} FOR VALUES FROM ({month.start}) TO ({month.end})"
            for month in months
        ]
        return f"PARTITION BY RANGE ({time})", [*parts, f"CREATE TABLE {table}_{REST} PARTITION OF {table} DEFAULT"]

    def time_column(self, connection: Connection, table: str) -> str | None:
        asked = text(
            "SELECT attname FROM pg_partitioned_table JOIN pg_attribute ON attrelid = partrelid AND attnum = partattrs[0] "
            "WHERE partrelid = to_regclass(:name) AND partstrat = 'r' AND partnatts = 1"
        )
        found: str | None = connection.scalar(asked, {"name": f'"{table}"'})
        return found

    def partitions(self, connection: Connection, table: str) -> list[Partition]:
        asked = text(
            "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class JOIN pg_inherits ON inhrelid = oid "
            "WHERE inhparent = to_regclass(:name)"
        )
        rows = connection.execute(asked, {"name": f'"{table}"'})
        # one that was dropped since this transaction's snapshot is in the catalogue still, and its bounds are not
        found = [_partition(name, bound) for name, bound in rows if bound is not None]
        return sorted(found, key=lambda one: (one.start is None and one.end is None, one.start or 0))

    def first_from(self, connection: Connection, table: str, partition: Partition, time: str, since: int | None) -> int | None:
        del table
        return _first(connection, partition.name, time, since)

    def add(self, connection: Connection, table: str, time: str, months: Sequence[Month]) -> list[str]:
        rest = next((one.name for one in self.partitions(connection, table) if one.month is None), None)
        return [statement for month in months for statement in self._added(connection, table, time, month, rest)]

    def _added(self, connection: Connection, table: str, time: str, month: Month, rest: str | None) -> list[str]:
        """The new table is filled before it is attached: until then nobody waits who reads.

        With its own CHECK the database need not look whether its rows are of the month; it looks through the catch-all, while
        nobody may use it, for others of the month.
        """
        made, within = month.partition(table), f"{time} >= {month.start} AND {time} < {month.end}"
        create = f"CREATE TABLE {made} (LIKE {table} INCLUDING ALL, CONSTRAINT {made}_month CHECK ({within}))"
        attach = [
            f"ALTER TABLE {table} ATTACH PARTITION {made} FOR VALUES FROM ({month.start}) TO ({month.end})",
            f"ALTER TABLE {made} DROP CONSTRAINT {made}_month",
        ]
        if rest is None or not self._has_rows(connection, rest, time, month):
            return [create, *attach]
        columns = ", ".join(f'"{one["name"]}"' for one in inspect(connection).get_columns(table))
        move = (
            f"WITH moved AS (DELETE FROM {rest} WHERE {within} RETURNING {columns}) "  # noqa: S608 - names
            f"INSERT INTO {made} ({columns}) SELECT {columns} FROM moved"
        )
        return [create, move, *attach, f"ANALYZE {made}"]

    def drop(self, connection: Connection, table: str, month: Month) -> list[str]:
        del connection
        return [f"DROP TABLE {month.partition(table)}"]

    def hidden_tables(self, connection: Connection) -> set[str]:
        return set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition AND relkind IN ('r', 'p')")))

    def look_again(self, table: str) -> list[str]:
        """A partitioned table's own statistics are taken by nobody but who asks for them."""
        return [f"ANALYZE {table}"]

    def _has_rows(self, connection: Connection, rest: str, time: str, month: Month) -> bool:
        first = _first(connection, rest, time, month.start)
        return first is not None and first < month.end


def _first(connection: Connection, name: str, time: str, since: int | None) -> int | None:
    at: ColumnElement[int] = column(time, BigInteger)
    first = select(func.min(at)).select_from(table(name))
    found: int | None = connection.scalar(first if since is None else first.where(at >= since))
    return found


def _partition(name: str, bound: str) -> Partition:
    match = _BOUNDS.fullmatch(bound)
    if match is None:
        return Partition(name, None, None)
    start, end = (None if word in {"MINVALUE", "MAXVALUE"} else int(word) for word in match.groups())
    return Partition(name, start, end)


def _granted_as(old: str, new: str) -> str:
    """Gives who may do what with `old` the same permissions on `new`."""
    return (
        "DO $$ DECLARE one record; BEGIN "  # noqa: S608 - names
        "FOR one IN SELECT privilege_type AS what, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS who, "
        f"is_grantable FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = '{old}'::regclass AND grantee <> relowner LOOP "
        f"EXECUTE 'GRANT ' || one.what || ' ON {new} TO ' || one.who || CASE WHEN one.is_grantable THEN ' WITH GRANT OPTION' "
        "ELSE '' END; END LOOP; END $$"
    )
