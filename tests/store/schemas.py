"""Schemas of databases: how they differ from the tables, and databases of older versions with rows in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, Table, func, inspect, select

from batchacct.demo.farm import write_logs
from batchacct.model import RECORD_TYPES
from batchacct.store import Origin, Store, append, migrating
from batchacct.store.columns import hash_of
from batchacct.store.sent import Numbers, packed_rows, unpacked_rows
from batchacct.store.tables import RECORD_TABLES, metadata
from batchacct.usage.keeping import LOCK, refresh
from tests.crash.site import END_AT, Site
from tests.forks import Forks
from tests.records import NOW, ORIGIN, job, loaded_object, membership, parsed, part, process

Rows = dict[str, list[dict[str, Any]]]

PROCESSES = {"process": process, "object": loaded_object, "process_group": membership}


def differences(store: Store) -> list[object]:
    """What of a database is not as the tables say: columns, types, defaults, indices, keys, partitioning."""
    with store.engine.connect() as connection:
        partitions = store.dialect.partitions
        hidden = set() if partitions is None else partitions.hidden_tables(connection)

        def include(_object: object, name: str | None, kind: str, reflected: bool, _compare_to: object) -> bool:
            return not (kind == "table" and reflected and name in hidden)

        options = {"compare_type": True, "compare_server_default": True, "include_object": include}
        found: list[object] = list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
        return found + _other_keys(connection, store) + _not_by_month(connection, store)


_DESCRIPTIONS = {
    "sqlite": ["SELECT name, sql FROM sqlite_master ORDER BY name"],
    "postgresql": [
        """SELECT table_name, ordinal_position, column_name, data_type, column_default, is_nullable, collation_name
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2""",
        """SELECT relname, relkind, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), pg_get_viewdef(oid)
        FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1""",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        """SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
    ],
}


def described(store: Store) -> list[object]:
    """All that the database itself says of its tables, indices, partitions and views."""
    with store.engine.connect() as connection:
        asked = _DESCRIPTIONS.get(store.dialect.name)
        if asked is None:
            names = inspect(connection).get_table_names()
            asked = [f"SHOW CREATE TABLE `{name}`" for name in names]
            asked += [f"SHOW FULL COLUMNS FROM `{name}`" for name in inspect(connection).get_view_names()]
        return [tuple(row) for statement in asked for row in connection.exec_driver_sql(statement)]


def _other_keys(connection: Connection, store: Store) -> list[object]:
    found: list[object] = []
    for table in metadata.sorted_tables:
        wanted = [column.name for column in table.primary_key.columns]
        if store.dialect.name == "sqlite" and table.name in RECORD_TABLES:
            wanted = ["id"]
        is_there = inspect(connection).has_table(table.name)
        there = inspect(connection).get_pk_constraint(table.name)["constrained_columns"] if is_there else wanted
        if there != wanted:
            found.append(f"{table.name}: primary key ({', '.join(there)}), not ({', '.join(wanted)})")
    return found


def _not_by_month(connection: Connection, store: Store) -> list[object]:
    partitions = store.dialect.partitions
    if partitions is None:
        return []
    times = {name: partitions.time_column(connection, name) for name in RECORD_TABLES}
    return [f"{name}: partitioned by {time}" for name, time in times.items() if time != RECORD_TYPES[name].time_column]


def create_at(store: Store, version: str) -> None:
    """Makes the schema as it was in an older version."""
    store.dialect.prepare(store.engine)
    migrating.upgrade(store.engine, store.dialect, version)


def everything(store: Store, tables: MetaData = metadata) -> Rows:
    """Every row of every table, in the order of the tables' keys."""
    with store.reading() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()]
            for table in tables.sorted_tables
        }


def fill(store: Store, rows: Rows) -> None:
    """Puts rows into a database of whatever version, as far as it has columns for them."""
    tables = MetaData()
    sent = {job_id: number for number, _, jobs in _members(rows) for job_id in jobs.tolist()}
    with store.writing() as connection:
        there = set(inspect(connection).get_table_names())
        before = None if "destination" in there else ("setting", "step")
        rows = rows if "process" in there else _without_processes(rows)
        for name, some in ((name, some) for name, some in rows.items() if name in there):
            table = Table(name, tables, autoload_with=connection)
            known = [{"message_id": sent.get(row.get("job_id")), **row} for row in some if before != (name, row.get("name"))]
            if known:
                connection.execute(table.insert(), [{c.name: row[c.name] for c in table.columns} for row in known])
            if some and store.dialect.name == "postgresql" and table.c.keys()[0] == "id":
                sequence = func.pg_get_serial_sequence(name, "id")
                connection.execute(select(func.setval(sequence, max(row["id"] for row in some))))


def _members(rows: Rows) -> Iterator[tuple[int, Numbers, Numbers]]:
    """Each message with the steps and jobs of its rows."""
    for row in rows["message"]:
        yield row["id"], *unpacked_rows(row["id"], row["jobs"])


def _without_processes(rows: Rows) -> Rows:
    loads = [row for row in rows["load"] if row["record_type"] not in PROCESSES]
    return {**rows, **{name: [] for name in PROCESSES}, "load": loads}


def as_migrated(rows: Rows, version: str) -> Rows:
    """What the rows are after a migration from that version, before 0005 of which the ledger knew no steps: 1 is what was sent.

    Before 0007 there were no processes, before 0008 nothing was kept of days or twins.
    """
    if version < "0008":
        rows = {**rows, **{name: [] for name in ("usage_day", "usage_pack", "usage_changed", "usage_appended", "twin")}}
    if version < "0007":
        rows = _without_processes(rows)
    if version < "0002":
        texts = ("rules_hash", "user_name", "group_name", "project", "issuer", "subject")
        rows = {
            **rows,
            "vo_mapping": [{**row, "asked_hash": hash_of(*(row[name] for name in texts))} for row in rows["vo_mapping"]],
        }
    if version >= "0005":
        return rows
    sent = {job_id for _, _, jobs in _members(rows) for job_id in jobs.tolist()}
    packed = {number: packed_rows(np.ones_like(jobs), np.sort(jobs)) for number, _, jobs in _members(rows)}
    place = {"done_step": 1, "done_job": 2**62, "missed": 0, "retired_at": None}
    first = min(row["created_at"] for row in rows["message"])
    steps = {"name": "step", "value": "2", "since": 0}
    return {
        **rows,
        "usage": [{**row, "step": 1 if row["job_id"] in sent else 2} for row in rows["usage"]],
        "message": [{**row, "jobs": packed[row["id"]]} for row in rows["message"]],
        "destination": [{"name": "main", "since": first, **place}],
        "setting": [steps if row["name"] == "step" else row for row in rows["setting"]],
    }


def rows_of_a_site(folder: Path, forks: Forks) -> Rows:
    """Rows of every table: a farm's jobs and identities, joined and published, and parts, revisions and a load of both."""
    write_logs(folder / "logs", jobs=500, seed=3, end_at=END_AT)
    site = Site(folder / "site", folder / "logs", f"sqlite:///{folder}/batchacct.db", forks)
    assert site.run()[0] == 0
    with site.store.lock(LOCK) as locks:
        refresh(site.store, locks, at_least=0)
    records = [job(n, logged_at=NOW + n * 86_400, end_at=NOW + n * 86_400 - 5) for n in range(1, 80)]
    append(site.store, ORIGIN, parsed(records, parts=[part(1, logged_at=NOW - 10), part(2, logged_at=NOW + 9_000_000)]), NOW)
    append(site.store, ORIGIN, parsed([job(1, unit=b"another", logged_at=NOW + 86_400)]), NOW)
    append(site.store, ORIGIN, parsed(parts=[part(3)]), NOW)
    for name, made in PROCESSES.items():
        of_type = RECORD_TYPES[name]
        append(site.store, Origin(name, name, "test/1", "/spool"), parsed([made(1), made(2)], record_type=of_type), NOW)
    rows = everything(site.store)
    site.close()
    empty = {name for name, some in rows.items() if not some}
    assert empty == {
        "feed_cursor",
        "left_out",
        "kept_back",
        "usage_history",
        "archived_month",
        "recalled",
        "archive_leftover",
        "usage_changed",
        "twin",
    }
    return rows
