"""SQLite: the embedded default. WAL, `synchronous=FULL`, the standard library's driver and no other SQLite in the process."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import URL, ColumnElement, Connection, Engine, SelectBase, Table, create_engine, event, func, literal
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from batchacct.errors import BusyError, ConfigError, StoreError
from batchacct.store.dialects.base import KnownRecordsError, Locks
from batchacct.store.dialects.csvrows import batch_of_csv
from batchacct.store.dialects.partitioning import Partitioning

BUSY_TIMEOUT_S = 30
CACHE_KIB = 32_768
"""A connection; publishing has three of them at work."""


class SqliteDialect:
    name = "sqlite"
    driver_error: type[Exception] = sqlite3.Error
    replaces_views = False
    commits_ddl = False
    partitions: Partitioning | None = None

    def is_deadlock(self, error: BaseException | None) -> bool:
        """None: one transaction writes at a time."""
        del error
        return False

    def engine(self, url: URL) -> Engine:
        if not url.database or url.database == ":memory:":
            raise ConfigError("an SQLite database needs a file: sqlite:////var/lib/batchacct/batchacct.db (four slashes)")
        path = Path(url.database).resolve()
        if not path.parent.is_dir():
            raise StoreError(f"the folder of the database, {path.parent}, does not exist: make it, or correct [database] url")
        engine = create_engine(url, creator=lambda: _connected(path))
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        return engine

    def prepare(self, engine: Engine) -> None:
        with contextlib.suppress(OSError):  # it holds names of people; what is wrong with the place is told at the first use
            Path(engine.url.database or "").touch(mode=0o640)

    def is_there(self, engine: Engine) -> bool:
        return Path(engine.url.database or "").exists()

    def missing_grant(self, connection: Connection) -> str | None:
        del connection
        return None

    def append_alone(self, connection: Connection) -> None:
        """Nothing to do: a transaction that writes has the database to itself (see `_begin`)."""

    def bulk_insert(self, connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
        filled = [name for name in batch.schema.names if batch.column(name).null_count < batch.num_rows]
        if not filled:
            return
        columns = ", ".join(f'"{name}"' for name in filled)
        statement = f'INSERT INTO "{table.name}" ({columns}) VALUES ({", ".join("?" * len(filled))})'  # noqa: S608 - names of columns
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        rows = zip(*(_values(batch.column(name)) for name in filled), strict=False)
        try:
            driver.executemany(statement, itertools.islice(rows, batch.num_rows))
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname != "SQLITE_CONSTRAINT_UNIQUE":
                raise
            raise KnownRecordsError(f"table {table.name}: {error}") from error

    def fetch(self, connection: Connection, query: SelectBase, schema: pa.Schema) -> pa.RecordBatch:
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        parameters = [compiled.params[name] for name in compiled.positiontup or ()]
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        rows = f"SELECT CAST(group_concat({_csv_row(schema)}, char(10)) AS BLOB) FROM ({compiled})"  # noqa: S608 - names of columns
        (content,) = driver.execute(rows, parameters).fetchone()
        return batch_of_csv(content or b"", schema, quote="'", null="NULL")

    def locks(self, engine: Engine) -> Locks:
        return _FileLocks(str(engine.url.database))

    def readable_instant(self, column: ColumnElement[int]) -> ColumnElement[object]:
        return func.strftime(literal("%Y-%m-%dT%H:%M:%SZ"), column, literal("unixepoch"))

    def size_bytes(self, engine: Engine) -> int | None:
        path = Path(engine.url.database or "")
        return sum(p.stat().st_size for p in (path, Path(f"{path}-wal")) if p.exists())


def _connected(path: Path) -> sqlite3.Connection:
    """A connection to a database that is there: only `prepare` makes one, which then is for `create` to fill."""
    if not path.exists():
        raise StoreError(f"database {path} does not exist: restore it, or make a new one with `batchacct db create`")
    uri = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)


class _FileLocks:
    """A locked file beside the database for each name."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._handles: dict[str, int] = {}
        self._place: tuple[int, int] | None = None

    def _path(self, name: str) -> Path:
        return Path(f"{self._database}.{name.replace(' ', '-')}.lock")

    def take(self, name: str) -> None:
        path = self._path(name)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StoreError(f"lock {path}: {error.strerror}. Give this user write permission on the database's folder") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise BusyError(f"another process is doing `{name}` on this database (lock {path}): wait for it, or end it") from error
        self._handles[name] = handle
        self._place = self._place_now()

    def give(self, name: str) -> None:
        if (handle := self._handles.pop(name, None)) is not None:
            os.close(handle)

    def holds(self, name: str) -> bool:
        """Not if the file was deleted, or its file system unmounted: another process may have made, and locked, another."""
        handle = self._handles.get(name)
        if handle is None:
            return False
        if self._place_now() != self._place:
            self.close()
            raise StoreError(
                f"the database file {self._database} was deleted or replaced while it was in use. What was stored since then went "
                "with the old file: restore it, or create a new one with `batchacct db create`"
            )
        try:
            is_there = os.path.samestat(os.fstat(handle), self._path(name).stat())
        except OSError:
            is_there = False
        if not is_there:
            self.give(name)
        return is_there

    def _place_now(self) -> tuple[int, int] | None:
        """Device and inode of the database file; None if there is none."""
        try:
            state = os.stat(self._database)  # noqa: PTH116 - a name as it was given
        except OSError:
            return None
        return state.st_dev, state.st_ino

    def close(self) -> None:
        for name in list(self._handles):
            self.give(name)


def _csv_row(schema: pa.Schema) -> str:
    """An SQL expression: a row's values as SQLite quotes them, with commas between; a real number with all its digits."""
    real = [pa.types.is_floating(field.type) for field in schema]
    pieces = ",".join("%s" if is_real else "%Q" for is_real in real)
    names = (f'quote("{field.name}")' if is_real else f'"{field.name}"' for field, is_real in zip(schema, real, strict=True))
    return f"printf('{pieces}', {', '.join(names)})"


def _values(column: pa.Array[Any]) -> Iterable[object]:
    """The column's values for the driver (None, or NaN for a real one, is NULL), by the quickest way Arrow has for each kind."""
    if not column.null_count and pc.all(pc.equal(column, column[0])).as_py():
        return itertools.repeat(column[0].as_py())
    if column.null_count and pa.types.is_integer(column.type):
        return cast("list[object]", column.to_pandas(integer_object_nulls=True).tolist())
    return cast("list[object]", column.to_numpy(zero_copy_only=False).tolist())


def _configure(driver: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(driver, sqlite3.Connection)
    driver.isolation_level = None  # the driver shall not open transactions of its own: `_begin` does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"cache_size=-{CACHE_KIB}"):
        driver.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """A transaction that will write takes the write lock at once: one that read first could not get it any more.

    Its temporary tables are in memory; what one that only reads has to sort may be all there is, and goes to a file.
    """
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql(f"PRAGMA temp_store={'MEMORY' if writing else 'FILE'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
