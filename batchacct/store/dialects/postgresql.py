"""PostgreSQL: COPY in its binary format straight into the table, and COPY as CSV out of a query."""

from __future__ import annotations

import contextlib
import hashlib
import threading

import psycopg
import pyarrow as pa
from psycopg import sql
from sqlalchemy import URL, ColumnElement, Connection, Engine, SelectBase, Table, create_engine, event, func, literal, select, text
from sqlalchemy.exc import SQLAlchemyError

from batchacct.errors import BusyError
from batchacct.store.dialects.base import KnownRecordsError, Locks
from batchacct.store.dialects.csvrows import batch_of_csv
from batchacct.store.dialects.partitioning import Partitioning
from batchacct.store.dialects.pgcopy import as_copy_binary
from batchacct.store.dialects.postgresql_partitions import PostgresPartitions

LOCK_TIMEOUT_S = 60
_GONE_WITHIN_A_MINUTE = {
    "connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000,
}  # fmt: skip
"""A server that has vanished without a word (failover, a firewall) is noticed by then."""


class PostgresDialect:
    name = "postgresql"
    driver_error: type[Exception] = psycopg.Error
    commits_ddl = False
    partitions: Partitioning | None = PostgresPartitions()

    def engine(self, url: URL) -> Engine:
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        # jit: compiling a step of the join costs more than it saves
        settings = f"-c timezone=UTC -c synchronous_commit=on -c jit=off -c lock_timeout={LOCK_TIMEOUT_S}s"
        engine = create_engine(url, pool_pre_ping=True, connect_args={"options": settings, **_GONE_WITHIN_A_MINUTE})
        event.listen(engine, "begin", _begin)
        return engine

    def prepare(self, engine: Engine) -> None:
        """Nothing: the database is made by who runs the server."""

    def is_there(self, engine: Engine) -> bool:
        return True

    def append_alone(self, connection: Connection) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(_lock_number("append"))))

    def bulk_insert(self, connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        columns = sql.SQL(", ").join(map(sql.Identifier, batch.schema.names))
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table.name), columns)
        try:
            with driver.cursor() as cursor, cursor.copy(copy) as stream:
                stream.write(as_copy_binary(batch))
        except psycopg.errors.UniqueViolation as error:
            raise KnownRecordsError(f"table {table.name}: {error}") from error

    def fetch(self, connection: Connection, query: SelectBase, schema: pa.Schema) -> pa.RecordBatch:
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        bound = psycopg.ClientCursor(driver).mogrify(str(compiled), compiled.params)
        return batch_of_csv(_copied(driver.pgconn, f"COPY ({bound}) TO STDOUT (FORMAT csv)"), schema, quote='"', null="")

    def locks(self, engine: Engine) -> Locks:
        return _AdvisoryLocks(engine)

    def readable_instant(self, column: ColumnElement[int]) -> ColumnElement[object]:
        return func.to_char(func.timezone("UTC", func.to_timestamp(column)), literal('YYYY-MM-DD"T"HH24:MI:SS"Z"'))

    def size_bytes(self, engine: Engine) -> int | None:
        with engine.connect() as connection:
            return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)


class _AdvisoryLocks:
    """Advisory locks of one session, which is not of the pool and is for nothing else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._held: set[str] = set()
        self._turn = threading.RLock()

    def take(self, name: str) -> None:
        with self._turn:
            if not self._asked(func.pg_try_advisory_lock(_lock_number(name))):
                raise BusyError(f"another process is doing `{name}` on this database: wait for it, or end it")
            self._held.add(name)

    def give(self, name: str) -> None:
        with self._turn, contextlib.suppress(SQLAlchemyError):  # a connection that is lost holds nothing
            if name in self._held:
                self._held.remove(name)
                self._asked(func.pg_advisory_unlock(_lock_number(name)))

    def holds(self, name: str) -> bool:
        with self._turn:
            return name in self._held and bool(self._asked(literal(value=True)))

    def close(self) -> None:
        with self._turn:
            for name in tuple(self._held):  # a server may take a while to notice that a session has ended
                self.give(name)
            self._lose()

    def _asked(self, question: ColumnElement[bool]) -> bool | None:
        try:
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                self._connection.detach()
            return self._connection.scalar(select(question))
        except SQLAlchemyError:
            self._lose()
            raise

    def _lose(self) -> None:
        self._held.clear()
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None


def _begin(connection: Connection) -> None:
    """A transaction that only reads sees one state of the database; one that writes sees what was committed before each step.

    The driver begins it with this first statement, so that one which goes past the driver (see `fetch`) is in it.
    """
    writing = connection.get_execution_options().get("writing", False)
    level = "READ COMMITTED" if writing else "REPEATABLE READ"
    connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {level}")


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"batchacct {name}".encode(), digest_size=8).digest(), signed=True)


def _copied(connection: psycopg.pq.abc.PGconn, statement: str) -> bytearray:
    """What a COPY TO STDOUT sends, one message a row: taken from the library itself, as the driver's generator costs more than
    the row.

    Raises: psycopg.Error
    """
    started = connection.exec_(statement.encode())
    if started.status != psycopg.pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(started)
    content = bytearray()
    while True:
        count, row = connection.get_copy_data(0)
        if count < 0:
            break
        content += row
    while (ended := connection.get_result()) is not None:
        if ended.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(ended)
    return content
