"""Oracle, by python-oracledb (thin mode) or, where the URL says so, cx_Oracle. No Oracle server was at hand when this was written:
docs/how-to/oracle.md says what was tested, and how.

Rows go in by array binds, which python-oracledb takes as Arrow batches; direct path load would commit by itself. Named work is
locked by rows of the table `batchacct_turn`, one session a lock, as a grant for DBMS_LOCK is not everybody's to have.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import threading
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    PoolProxiedConnection,
    Select,
    SelectBase,
    Table,
    create_engine,
    event,
    func,
    literal,
    literal_column,
    text,
)

from batchacct.errors import BusyError, ConfigError, SchemaError
from batchacct.store.dialects.base import KnownRecordsError, Locks
from batchacct.store.dialects.oracle_partitions import OraclePartitions
from batchacct.store.dialects.oracle_sql import DRIVERS, EMPTY, EMPTY_BYTES, is_lob, scratch_ddl, stored_text
from batchacct.store.dialects.partitioning import Partitioning
from batchacct.store.scratch import scratch_tables

LOCK_TIMEOUT_S = 60
ROWS_PER_ROUND_TRIP = 5_000

UNIQUE_VIOLATED, BUSY, DEADLOCK, THERE_ALREADY = "ORA-00001", "ORA-00054", "ORA-00060", "ORA-00955"

_TURNS = "CREATE TABLE batchacct_turn (name VARCHAR2(400 CHAR) NOT NULL PRIMARY KEY)"
_NEW_TURN = "INSERT INTO batchacct_turn (name) VALUES (:name)"
_TAKE_TURN = "SELECT name FROM batchacct_turn WHERE name = :name FOR UPDATE NOWAIT"
_APPEND_TURN = f"SELECT name FROM batchacct_turn WHERE name = 'append' FOR UPDATE WAIT {LOCK_TIMEOUT_S}"  # noqa: S608 - a number

_OURS = "batchacct "

_SESSION = ("ALTER SESSION SET TIME_ZONE = 'UTC'", "ALTER SESSION SET NLS_COMP = BINARY", "ALTER SESSION SET NLS_SORT = BINARY")
"""Texts are the same if their bytes are, and are ordered by these."""


class OracleDialect:
    name = "oracle"
    commits_ddl = True
    replaces_views = True
    partitions: Partitioning | None = OraclePartitions()

    def __init__(self, driver: str) -> None:
        """Raises: ConfigError for a driver that is not one of `DRIVERS`, ImportError if it is not installed."""
        if driver not in DRIVERS:
            raise ConfigError(f"no store by the Oracle driver {driver}: use {' or '.join(f'oracle+{name}://' for name in DRIVERS)}")
        self.driver = driver
        self._module = importlib.import_module({"cx_oracle": "cx_Oracle"}.get(driver, driver))
        self.driver_error: type[Exception] = self._module.Error

    def is_deadlock(self, error: BaseException | None) -> bool:
        return isinstance(error, self.driver_error) and _code(error) == DEADLOCK

    def engine(self, url: URL) -> Engine:
        made = create_engine(url.set(drivername=f"oracle+batchacct_{self.driver}"), pool_pre_ping=True)
        event.listen(made, "connect", _configure)
        event.listen(made, "begin", _begin)
        return made

    def prepare(self, engine: Engine) -> None:
        """The table of turns, the turn of appending, and the tables of transactions."""
        with engine.connect():
            pass  # SQLAlchemy asks the server what it is
        with contextlib.closing(engine.raw_connection()) as connection, contextlib.closing(connection.cursor()) as cursor:
            with self._unless(THERE_ALREADY):
                cursor.execute(_TURNS)
            with self._unless(UNIQUE_VIOLATED):
                cursor.execute(_NEW_TURN, {"name": "append"})
            connection.commit()
            for table in scratch_tables():
                _make_scratch(cursor, table, scratch_ddl(table, engine.dialect))

    def is_there(self, engine: Engine) -> bool:
        return True

    def missing_grant(self, connection: Connection) -> str | None:
        """None is needed: temporary tables are made with the schema."""
        del connection
        return None

    def append_alone(self, connection: Connection) -> None:
        connection.exec_driver_sql(_APPEND_TURN)

    def bulk_insert(self, connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
        is_long = {name: is_lob(table.c[name].type, connection.dialect) for name in batch.schema.names}
        # Oracle refuses short values that are bound after long ones (ORA-24816)
        batch = batch.select(sorted(batch.schema.names, key=lambda name: is_long[name]))
        quoted = connection.dialect.identifier_preparer
        columns = ", ".join(quoted.quote(name) for name in batch.schema.names)
        binds = ", ".join(f":{number}" for number in range(1, batch.num_columns + 1))
        statement = f"INSERT INTO {quoted.format_table(table)} ({columns}) VALUES ({binds})"  # noqa: S608 - names of columns
        stored = pa.RecordBatch.from_arrays([_stored(column) for column in batch.columns], batch.schema.names)
        driver: Any = connection.connection.driver_connection
        with contextlib.closing(driver.cursor()) as cursor:
            try:
                if self.driver == "oracledb":
                    cursor.executemany(statement, pa.Table.from_batches([stored]))
                else:
                    cursor.setinputsizes(*(self._input_type(stored.column(name), is_long[name]) for name in stored.schema.names))
                    cursor.executemany(statement, list(zip(*(column.to_pylist() for column in stored.columns), strict=True)))
            except self._module.IntegrityError as error:
                if _code(error) != UNIQUE_VIOLATED:
                    raise
                raise KnownRecordsError(f"table {table.name}: {error}") from error

    def fetch(self, connection: Connection, query: SelectBase, schema: pa.Schema) -> pa.RecordBatch:
        if self.driver != "oracledb":
            rows = connection.execute(cast("Select[Any]", query)).all()
            values: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * len(schema)
            arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
            return pa.RecordBatch.from_arrays(arrays, schema=schema)
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        names = compiled.escaped_bind_names
        binds = {names.get(name, name): _bound(value) for name, value in compiled.params.items()}
        driver: Any = connection.connection.driver_connection
        frame = driver.fetch_df_all(str(compiled), binds, ROWS_PER_ROUND_TRIP, requested_schema=schema)
        if not frame.num_columns() or not frame.num_rows():
            return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
        read = pa.table(frame).combine_chunks()
        columns = [_as_read(column.combine_chunks(), field) for column, field in zip(read.columns, schema, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def locks(self, engine: Engine) -> Locks:
        return _Turns(self, engine)

    def readable_instant(self, column: ColumnElement[int]) -> ColumnElement[object]:
        begin: ColumnElement[Any] = literal_column("DATE '1970-01-01'")
        at = begin.op("+")(func.numtodsinterval(column, literal("SECOND")))
        return func.to_char(at, literal('YYYY-MM-DD"T"HH24:MI:SS"Z"'))

    def size_bytes(self, engine: Engine) -> int | None:
        with engine.connect() as connection:
            return int(connection.scalar(text("SELECT SUM(bytes) FROM user_segments")) or 0)

    def _input_type(self, column: pa.Array[Any], is_long: bool) -> Any:
        """What cx_Oracle is to bind a column as; it would take the first value's length for that of all."""
        if pa.types.is_integer(column.type):
            return int
        if pa.types.is_floating(column.type):
            return self._module.NATIVE_FLOAT
        if is_long:
            return self._module.LONG_BINARY if pa.types.is_binary(column.type) else self._module.LONG_STRING
        return max(map(len, filter(None, column.to_pylist())), default=1)

    @contextlib.contextmanager
    def _unless(self, code: str) -> Iterator[None]:
        """Passes over one error of the database, by its number."""
        try:
            yield
        except self.driver_error as error:
            if _code(error) != code:
                raise


class _Turns:
    """Rows that are locked: each in a transaction of a session of its own, which ends with the process."""

    def __init__(self, dialect: OracleDialect, engine: Engine) -> None:
        self._dialect = dialect
        self._engine = engine
        self._held: dict[str, PoolProxiedConnection] = {}
        self._turn = threading.RLock()

    def take(self, name: str) -> None:
        with self._turn:
            if name in self._held:
                return
            connection = self._engine.raw_connection()
            connection.detach()
            try:
                self._lock(connection, name)
            except BaseException:
                _close(connection)
                raise
            self._held[name] = connection

    def _lock(self, connection: PoolProxiedConnection, name: str) -> None:
        with contextlib.closing(connection.cursor()) as cursor:
            with self._dialect._unless(UNIQUE_VIOLATED):  # noqa: SLF001 - of this module
                cursor.execute(_NEW_TURN, {"name": name})
            connection.commit()
            try:
                cursor.execute(_TAKE_TURN, {"name": name})
                cursor.fetchall()
            except self._dialect.driver_error as error:
                if _code(error) != BUSY:
                    raise
                raise BusyError(f"another process is doing `{name}` on this database: wait for it, or end it") from error

    def give(self, name: str) -> None:
        with self._turn:
            if (connection := self._held.pop(name, None)) is not None:
                _close(connection)

    def holds(self, name: str) -> bool:
        with self._turn:
            if (connection := self._held.get(name)) is None:
                return False
            try:
                with contextlib.closing(connection.cursor()) as cursor:
                    cursor.execute("SELECT 1 FROM DUAL")
                    cursor.fetchall()
            except self._dialect.driver_error:
                self.give(name)
                raise
            return True

    def close(self) -> None:
        with self._turn:
            for name in tuple(self._held):
                self.give(name)


def _close(connection: PoolProxiedConnection) -> None:
    with contextlib.suppress(Exception):  # whatever ended the session has given the lock back
        connection.rollback()
    with contextlib.suppress(Exception):
        connection.close()


def _make_scratch(cursor: Any, table: Table, statements: list[str]) -> None:
    """Makes a table of transactions, anew if it was made for others; its comment says for which.

    Raises: SchemaError if there is one that is not ours.
    """
    place, mark = {"name": table.name.upper()}, _OURS + hashlib.blake2b(";".join(statements).encode(), digest_size=8).hexdigest()
    cursor.execute("SELECT comments FROM user_tab_comments WHERE table_name = :name", place)
    there = cursor.fetchall()
    if there and there[0][0] == mark:
        return
    if there and str(there[0][0] or "").startswith(_OURS):
        cursor.execute(f"DROP TABLE {table.name}")
    elif there:
        cursor.execute("SELECT column_name FROM user_tab_columns WHERE table_name = :name", place)
        if {row[0].lower() for row in cursor.fetchall()} != set(table.columns.keys()):
            raise SchemaError(f"there is a table {table.name} that batchacct did not make: use a user (schema) of its own")
        statements = []  # making it was interrupted
    for statement in (*statements, f"COMMENT ON TABLE {table.name} IS '{mark}'"):
        cursor.execute(statement)


def _configure(driver: Any, _entry: object) -> None:
    with contextlib.closing(driver.cursor()) as cursor:
        for setting in _SESSION:
            cursor.execute(setting)


def _begin(connection: Connection) -> None:
    """A transaction that only reads sees one state of the database; one that writes sees what was committed before each step."""
    if not connection.get_execution_options().get("writing", False):
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")


def _code(error: BaseException) -> str:
    """`ORA-00001` of what a driver raises; both give the database's error as the exception's argument."""
    return next((code for told in error.args if isinstance(code := getattr(told, "full_code", None), str)), "") or _number(error)


def _number(error: BaseException) -> str:
    """The same from the number alone, which is what cx_Oracle has for some errors."""
    number = next((code for told in error.args if isinstance(code := getattr(told, "code", None), int)), 0)
    return f"ORA-{number:05}"


def _stored(column: pa.Array[Any]) -> pa.Array[Any]:
    """Values as Oracle keeps them: an empty one would be null."""
    if pa.types.is_string(column.type):
        return _replaced(column, "", EMPTY)
    return _replaced(column, b"", EMPTY_BYTES) if pa.types.is_binary(column.type) else column


def _as_read(column: pa.Array[Any], field: pa.Field[Any]) -> pa.Array[Any]:
    column = column.cast(field.type)
    return _replaced(column, EMPTY, "") if pa.types.is_string(column.type) else column


def _replaced(column: pa.Array[Any], value: str | bytes, other: str | bytes) -> pa.Array[Any]:
    compute: Any = pc
    is_it = compute.fill_null(compute.equal(column, pa.scalar(value, column.type)), False)
    if not compute.any(is_it).as_py():
        return column
    replaced: pa.Array[Any] = compute.if_else(is_it, pa.scalar(other, column.type), column)
    return replaced


def _bound(value: object) -> object:
    return stored_text(value) if isinstance(value, str) else value
