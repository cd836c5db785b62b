"""PostgreSQL: COPY in its binary format straight into the table, and COPY as CSV out of a query."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from select import POLLIN, poll
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from sqlalchemy import URL, ColumnElement, Connection, Engine, SelectBase, Table, create_engine, event, func, literal, select, text

from batchacct.store.dialects.base import KnownRecordsError, Locks
from batchacct.store.dialects.csvrows import batch_of_csv
from batchacct.store.dialects.partitioning import Partitioning
from batchacct.store.dialects.pgcopy import as_copy_binary
from batchacct.store.dialects.postgresql_partitions import PostgresPartitions
from batchacct.store.dialects.sessionlocks import SessionLocks

LOCK_TIMEOUT_S = 60
_GONE_WITHIN_A_MINUTE = {
    "connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000,
}  # fmt: skip
"""A server that has vanished without a word (failover, a firewall) is noticed by then."""
_CLIENT_GONE_WITHIN_A_MINUTE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
"""So is a client by the server: the locks of a host that lost its power are nobody's any more."""


class PostgresDialect:
    name = "postgresql"
    driver_error: type[Exception] = psycopg.Error
    replaces_views = True
    commits_ddl = False
    partitions: Partitioning | None = PostgresPartitions()

    def is_deadlock(self, error: BaseException | None) -> bool:
        return isinstance(error, psycopg.errors.DeadlockDetected)

    def engine(self, url: URL) -> Engine:
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        # jit: compiling a step of the join costs more than it saves; work_mem: with the default its sorts go to disk
        settings = f"-c timezone=UTC -c synchronous_commit=on -c jit=off -c work_mem=64MB -c lock_timeout={LOCK_TIMEOUT_S}s"
        settings = f"{settings} {_CLIENT_GONE_WITHIN_A_MINUTE}"
        engine = create_engine(url, pool_pre_ping=True, connect_args={"options": settings, **_GONE_WITHIN_A_MINUTE})
        event.listen(engine, "begin", _begin)
        event.listen(engine, "before_cursor_execute", _in_binary, named=True)
        return engine

    def prepare(self, engine: Engine) -> None:
        """Nothing: the database is made by who runs the server."""

    def is_there(self, engine: Engine) -> bool:
        return True

    def missing_grant(self, connection: Connection) -> str | None:
        asked = "SELECT has_database_privilege(current_database(), 'TEMPORARY'), current_database(), current_user"
        may, database, user = connection.execute(text(asked)).one()
        quote = connection.dialect.identifier_preparer.quote_identifier
        return None if may else f"GRANT TEMPORARY ON DATABASE {quote(database)} TO {quote(user)}"

    def append_alone(self, connection: Connection) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(_lock_number("append"))))

    def bulk_insert(self, connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        columns = sql.SQL(", ").join(map(sql.Identifier, batch.schema.names))
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table.name), columns)
        try:
            with driver.cursor() as cursor, cursor.copy(copy) as stream:
                for piece in as_copy_binary(batch):
                    stream.write(piece)
        except psycopg.errors.UniqueViolation as error:
            raise KnownRecordsError(f"table {table.name}: {error}") from error

    def fetch(self, connection: Connection, query: SelectBase, schema: pa.Schema) -> pa.RecordBatch:
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        bound = psycopg.ClientCursor(driver).mogrify(str(compiled), compiled.params)
        return batch_of_csv(_copied(driver.pgconn, f"COPY ({bound}) TO STDOUT (FORMAT csv)"), schema, quote='"', null="")

    def locks(self, engine: Engine) -> Locks:
        return SessionLocks(
            engine,
            lambda name: func.pg_try_advisory_lock(_lock_number(name)),
            lambda name: func.pg_advisory_unlock(_lock_number(name)),
        )

    def readable_instant(self, column: ColumnElement[int]) -> ColumnElement[object]:
        return func.to_char(func.timezone("UTC", func.to_timestamp(column)), literal('YYYY-MM-DD"T"HH24:MI:SS"Z"'))

    def size_bytes(self, engine: Engine) -> int | None:
        with engine.connect() as connection:
            return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def _begin(connection: Connection) -> None:
    """A transaction that only reads sees one state of the database; one that writes sees what was committed before each step.

    The driver begins it with this first statement, so that one which goes past the driver (see `fetch`) is in it.
    """
    writing = connection.get_execution_options().get("writing", False)
    level = "READ COMMITTED" if writing else "REPEATABLE READ"
    connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {level}")
    if held := connection.get_execution_options().get("holding"):
        _hold(connection, held)


def _in_binary(*, cursor: psycopg.Cursor[Any], context: Any, **_: object) -> None:
    """Has what is asked with the option `in_binary` sent as it is: bytes are text of twice the length otherwise."""
    if context is not None and context.execution_options.get("in_binary"):
        cursor.format = psycopg.pq.Format.BINARY


def _hold(connection: Connection, tables: Sequence[str]) -> None:
    """Has who moves or drops partitions of some tables wait for this transaction, or this one for them, before it sees anything.

    LOCK TABLE takes no snapshot. A query takes its own before it waits for a table, and would then miss what was moved to another
    partition meanwhile, or was dropped: neither is there for an older snapshot. Where the tables are not, or may not be read, it
    is for the queries to say so.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    names = sql.SQL(", ").join(map(sql.Identifier, tables))
    driver.execute("SAVEPOINT holding")
    try:
        driver.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        driver.execute("ROLLBACK TO SAVEPOINT holding")
    driver.execute("RELEASE SAVEPOINT holding")


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"batchacct {name}".encode(), digest_size=8).digest(), signed=True)


def _copied(connection: psycopg.pq.abc.PGconn, statement: str) -> bytearray:
    """What a COPY TO STDOUT sends, one message a row: taken from the library itself, as the driver's generator costs more than
    the row. It is waited for here: the library would keep all threads from running meanwhile.

    Raises: psycopg.Error
    """
    started = connection.exec_(statement.encode())
    if started.status != psycopg.pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(started)
    content = bytearray()
    there = poll()
    there.register(connection.socket, POLLIN)
    while True:
        count, row = connection.get_copy_data(1)
        if count < 0:
            break
        if count:
            content += row
        else:
            there.poll()
            connection.consume_input()
    while (ended := connection.get_result()) is not None:
        if ended.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(ended)
    return content
