"""Loading alone: parsed batches into the store, beside the database's own bulk path with the very same rows.

Ours is `append` as a collection calls it, so with the position, the load's row and one durable commit a batch. The reference
reads nothing, converts nothing and books nothing: COPY or LOAD DATA of bytes, or `executemany` of tuples, that were taken from our
own tables before the clock started, into tables of the same columns, keys and indexes, the same rows a commit, one connection.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psycopg
import pyarrow as pa
import pymysql
from sqlalchemy import Float, LargeBinary, Table, Text, make_url, select

from batchacct.following import Position
from batchacct.parsing import Parsed, registry
from batchacct.store import Origin, Store, append
from batchacct.store.columns import KeyText
from batchacct.store.dialects.mariadb import SQL_MODE, in_memory
from batchacct.store.dialects.mariadb_rows import LINES, as_lines
from batchacct.store.tables import ROWS_PER_LOAD_BITS, job
from benchmarks.farm import MARIADB, POSTGRESQL, SQLITE, Databases, Logs, now
from benchmarks.figures import Figures, Stopwatch, alternating
from benchmarks.parse import parsed_file

MOST_JOBS = 400_000
"""Of larger logs no more are loaded here: the rows of the reference are all held in memory."""


@dataclass(frozen=True)
class Load:
    """What is loaded: the batches of a file, by their parser, into a table."""

    parser: str
    source: str
    path: Path
    table: Table
    batches: list[Parsed]

    @property
    def rows(self) -> int:
        return sum(parsed.records.num_rows for parsed in self.batches)


@dataclass
class _Loading:
    """One database: our way and the reference, each on fresh tables."""

    kind: str
    databases: Databases
    logs: Logs
    what: Load
    prepared: list[bytes] | list[list[tuple[object, ...]]] | None = None
    commits: list[tuple[int, int]] = field(default_factory=list)
    """The first and the last id of each batch."""

    def ours_s(self) -> float:
        with self.databases.empty(self.kind, self.logs) as site:
            watch = Stopwatch()
            self.commits.clear()
            with watch.running():
                self._append_all(site.store)
            if self.prepared is None:
                self.prepared = _PREPARED[self.kind](site.store, self.what.table, self.commits)
        return watch.elapsed_s

    def _append_all(self, store: Store) -> None:
        what, parser = self.what, registry.parser(self.what.parser)
        position: Position | None = Position(what.source, str(what.path), 0, 0, what.path.stat().st_size)
        head = tail = what.batches[0].records.column("native")[0].as_py()
        next_id = 0
        for parsed in what.batches:
            assert position is not None
            origin = Origin(what.source, what.table.name, parser.label, str(what.path), position)
            counts, position = append(store, origin, parsed, now(), position.moved(parsed.end_offset, head, tail))
            if counts.recorded != parsed.records.num_rows:
                raise RuntimeError(f"of {parsed.records.num_rows} new rows {counts.recorded} were recorded")
            first = max(next_id, counts.load_id << ROWS_PER_LOAD_BITS)  # a load may take several batches
            next_id = first + counts.recorded
            self.commits.append((first, next_id - 1))

    def reference_s(self) -> float:
        assert self.prepared is not None
        watch = Stopwatch()
        with self.databases.empty(self.kind, self.logs) as site:
            site.store.close()
            url = str(site.config.database.url)
            ways = {POSTGRESQL: self._copy, MARIADB: self._load_data, SQLITE: self._execute_many}
            ways[self.kind](url, watch)
        return watch.elapsed_s

    def _copy(self, url: str, watch: Stopwatch) -> None:
        with psycopg.connect(url.replace("+psycopg", "")) as connection, watch.running():
            for piece in self.prepared or ():
                with connection.cursor() as cursor, cursor.copy(f"COPY {self.what.table.name} FROM STDIN (FORMAT csv)") as stream:
                    stream.write(piece)  # type: ignore[arg-type]
                connection.commit()

    def _load_data(self, url: str, watch: Stopwatch) -> None:
        asked = make_url(url)
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(
                pymysql.connect(
                    host=asked.host, port=asked.port, user=asked.username, database=asked.database, sql_mode=SQL_MODE,
                    charset="utf8mb4", local_infile=True,
                )
            )  # fmt: skip
            paths = [stack.enter_context(in_memory(memoryview(piece))) for piece in self.prepared or ()]  # type: ignore[arg-type]
            cursor = connection.cursor()
            with watch.running():
                for path in paths:
                    cursor.execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {self.what.table.name} {LINES}")
                    connection.commit()

    def _execute_many(self, url: str, watch: Stopwatch) -> None:
        connection = sqlite3.connect(make_url(url).database or "", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}")
        statement = f"INSERT INTO {self.what.table.name} VALUES ({', '.join('?' * len(self.what.table.columns))})"
        with watch.running():
            for rows in self.prepared or ():
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(statement, rows)  # type: ignore[arg-type]
                connection.execute("COMMIT")
            connection.close()


def measure(figures: Figures, logs: Logs, databases: Databases) -> None:
    """Median of three on fresh tables, ours and the reference in turn."""
    load = Load("lsf", "lsf-master", logs.acct, job, _batches(logs))
    if load.rows < logs.jobs:
        figures.note(f"of {logs.jobs:,} jobs the first {load.rows:,} were loaded to compare, as all rows are held in memory for it")
    measure_load(figures, logs, databases, load, "jobs")


def measure_load(figures: Figures, logs: Logs, databases: Databases, what: Load, unit: str) -> None:
    """The same of whatever rows; `logs` are those of the site's configuration."""
    against = {
        POSTGRESQL: "COPY of prepared bytes",
        MARIADB: "LOAD DATA of prepared bytes",
        SQLITE: "executemany of prepared tuples",
    }
    for kind in databases.kinds():
        loading = _Loading(kind, databases, logs, what)
        ours_s, reference_s = alternating(loading.ours_s, loading.reference_s)
        step = f"load {unit}, {kind}" if unit != "jobs" else f"load, {kind}"
        compared = f"{against[kind]}, same table, rows and commits"
        figures.add(step, what.rows / ours_s, f"{unit}/s", what.rows / reference_s, compared)


def _batches(logs: Logs) -> list[Parsed]:
    blocks = max(1, round(MOST_JOBS / logs.jobs * logs.acct.stat().st_size / (4 << 20)))
    return list(islice(parsed_file(registry.parser("lsf"), logs.acct, 2), blocks))


def _copied_out(store: Store, table: Table, commits: list[tuple[int, int]]) -> list[bytes]:
    """The rows of each batch as PostgreSQL itself writes them, bytes in its shorter spelling."""
    pieces = []
    with psycopg.connect(store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        connection.execute("SET bytea_output = 'escape'")
        for first, last in commits:
            rows = f"COPY (SELECT * FROM {table.name} WHERE id BETWEEN {first} AND {last} ORDER BY id) TO STDOUT (FORMAT csv)"
            with connection.cursor() as cursor, cursor.copy(rows) as stream:
                pieces.append(b"".join(bytes(piece) for piece in stream))
    return pieces


def _lines(store: Store, table: Table, commits: list[tuple[int, int]]) -> list[bytes]:
    """The rows of each batch as MariaDB reads them."""
    schema = pa.schema([(column.name, _ARROW.get(type(column.type), pa.int64())) for column in table.columns])
    pieces = []
    with store.reading() as connection:
        for first, last in commits:
            rows = connection.execute(select(table).where(table.c.id.between(first, last)).order_by(table.c.id)).all()
            columns = zip(*rows, strict=True)
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            pieces.append(bytes(as_lines(pa.RecordBatch.from_arrays(arrays, schema=schema))))
    return pieces


def _selected(store: Store, table: Table, commits: list[tuple[int, int]]) -> list[list[tuple[object, ...]]]:
    connection = sqlite3.connect(store.engine.url.database or "")
    query = f"SELECT * FROM {table.name} WHERE id BETWEEN ? AND ? ORDER BY id"
    rows = [connection.execute(query, bounds).fetchall() for bounds in commits]
    connection.close()
    return rows


_ARROW: dict[type, pa.DataType] = {Text: pa.string(), KeyText: pa.string(), LargeBinary: pa.binary(), Float: pa.float64()}
_PREPARED: dict[str, Callable[[Store, Table, list[tuple[int, int]]], list[bytes] | list[list[tuple[object, ...]]]]] = {
    POSTGRESQL: _copied_out,
    MARIADB: _lines,
    SQLITE: _selected,
}
