"""MariaDB and MySQL: LOAD DATA straight into the table, which has to do that without a warning.

LOAD DATA LOCAL, as INSERT IGNORE, cuts what is too long and passes over known keys with a mere warning, whatever the SQL mode: so
a load that gives one is undone as a whole. A table of its own in between, with room for everything, would show no more than
that, and take as long again. What is few rows, and all of them where the server takes no LOAD DATA LOCAL, goes as a strict INSERT.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    SelectBase,
    Table,
    create_engine,
    event,
    func,
    literal_column,
    text,
)
from sqlalchemy.exc import DisconnectionError, OperationalError, ProgrammingError

from batchacct.errors import StoreError
from batchacct.store.dialects.base import KnownRecordsError, Locks
from batchacct.store.dialects.csvrows import batch_of_csv
from batchacct.store.dialects.mariadb_partitions import MariadbPartitions
from batchacct.store.dialects.mariadb_rows import LINES, as_lines, as_values
from batchacct.store.dialects.mariadb_sql import adapt, collation
from batchacct.store.dialects.partitioning import Partitioning
from batchacct.store.dialects.sessionlocks import SessionLocks

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 10
LONGEST_WAIT_S = 31_536_000
FEW_ROWS = 500
"""So many go as one INSERT, which asks the server for one thing and not for two."""
STATEMENT_BYTES = 1 << 20
ROWS_PER_PIECE, PIPE_BYTES = 500, 1 << 20
PACKET_BYTES_KEPT = 1024
"""Of the longest statement a server takes, for what is around it."""
DUPLICATE_KEY, DEADLOCK = 1062, 1213
DENIED_DATABASE, DENIED_TABLE = 1044, 1142

STRICT = "STRICT_ALL_TABLES"
SQL_MODE = f"{STRICT},NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"
"""Of every session: nothing is cut, rounded to fit or made up. Without ANSI_QUOTES and NO_BACKSLASH_ESCAPES."""

_SETTINGS = (
    f"SET SESSION time_zone = '+00:00', wait_timeout = {LONGEST_WAIT_S}, sql_notes = 1, max_error_count = 64",
    f"SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT_S}, lock_wait_timeout = {LOCK_TIMEOUT_S}",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
)
_ASKED = ("sql_mode", "version", "local_infile", "max_allowed_packet", "innodb_flush_log_at_trx_commit")
_GONE_WITHIN_A_MINUTE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
"""A server that has vanished without a word (failover, a firewall) is noticed by then."""


class MariaDialect:
    name = "mariadb"
    driver_error: type[Exception]
    replaces_views = False
    commits_ddl = True
    partitions: Partitioning | None = MariadbPartitions()

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._loads, self._packet_bytes, self._statement_bytes = True, STATEMENT_BYTES, STATEMENT_BYTES

    def is_deadlock(self, error: BaseException | None) -> bool:
        return isinstance(error, self.driver_error) and error.args[:1] == (DEADLOCK,)

    def engine(self, url: URL) -> Engine:
        if url.drivername in {"mysql", "mariadb"}:
            url = url.set(drivername=f"{url.drivername}+pymysql")
        settings = {"sql_mode": SQL_MODE, "connect_timeout": CONNECT_TIMEOUT_S, "local_infile": True}
        engine = create_engine(url.update_query_dict({"charset": "utf8mb4"}), pool_pre_ping=True, connect_args=settings)
        self.driver_error = engine.dialect.loaded_dbapi.Error
        adapt(engine)
        event.listen(engine, "connect", self._configure)
        event.listen(engine, "checkout", _refuse_spoiled)
        event.listen(engine, "begin", _begin)
        event.listen(engine, "rollback", _spoil)
        return engine

    def prepare(self, engine: Engine) -> None:
        """Nothing: the database is made by who runs the server."""

    def is_there(self, engine: Engine) -> bool:
        return True

    def missing_grant(self, connection: Connection) -> str | None:
        """Tried out, as rights may be a role's: the server tells of no right whether one has it."""
        try:
            connection.exec_driver_sql("CREATE TEMPORARY TABLE batchacct_may_make (n INT)")
            connection.exec_driver_sql("DROP TEMPORARY TABLE batchacct_may_make")
        except (OperationalError, ProgrammingError) as error:
            if error.orig is None or error.orig.args[:1] not in {(DENIED_DATABASE,), (DENIED_TABLE,)}:
                raise
        else:
            return None
        database, account = connection.exec_driver_sql("SELECT DATABASE(), CURRENT_USER()").one()
        user, _, host = account.rpartition("@")
        return f"GRANT CREATE TEMPORARY TABLES ON `{database}`.* TO '{user}'@'{host}'"

    def append_alone(self, connection: Connection) -> None:
        """The one row there is of the schema's version is locked: a migration waits for it, too."""
        connection.execute(text("SELECT version_num FROM alembic_version FOR UPDATE")).all()

    def bulk_insert(self, connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        with contextlib.closing(connection.connection.cursor()) as cursor:
            if self._loads and (batch.num_rows > FEW_ROWS or batch.nbytes > self._statement_bytes):
                self._load(cursor, table.name, batch)
            else:
                self._insert(cursor, table.name, batch)

    def _load(self, cursor: Any, table: str, batch: pa.RecordBatch) -> None:
        """By LOAD DATA LOCAL.

        Raises: KnownRecordsError, and StoreError for any other warning: something was cut, or is not what it was.
        """
        with _streamed(batch) as path, _giving_files(cursor.connection):
            cursor.execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE `{table}` {LINES} ({_names(batch)})")
        loaded = cursor.rowcount
        cursor.execute("SHOW WARNINGS")
        warnings = cursor.fetchall()
        if any(code == DUPLICATE_KEY for _, code, _ in warnings):
            raise KnownRecordsError(f"table {table}: {warnings[0][2]}")
        if warnings:
            raise StoreError(f"table {table}: {warnings[0][2]}. Nothing of these rows was stored")
        if loaded != batch.num_rows:
            raise StoreError(f"table {table}: of {batch.num_rows} rows {loaded} were loaded. Nothing of them was stored")

    def _insert(self, cursor: Any, table: str, batch: pa.RecordBatch) -> None:
        statement = f"INSERT INTO `{table}` ({_names(batch)}) VALUES ".encode()  # noqa: S608 - names of columns
        with _known_records(self.driver_error, table):
            for values in as_values(batch, self._statement_bytes):
                if len(statement) + len(values) > self._packet_bytes - PACKET_BYTES_KEPT:
                    raise StoreError(
                        f"table {table}: a row of {len(values):,} bytes is too long for a statement: set local_infile = ON on the "
                        f"database server, or its max_allowed_packet, which is {self._packet_bytes:,}, to more"
                    )
                cursor.execute(statement + values)

    def fetch(self, connection: Connection, query: SelectBase, schema: pa.Schema) -> pa.RecordBatch:
        """As lines of CSV, each put together by the server: a value a cell takes the driver longer."""
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        parameters = compiled.params if compiled.positiontup is None else [compiled.params[name] for name in compiled.positiontup]
        rows = f"SELECT CAST({_csv_row(schema)} AS BINARY) FROM ({compiled}) AS fetched"  # noqa: S608 - names of columns
        with contextlib.closing(connection.connection.cursor()) as cursor:
            cursor.execute(rows, parameters)
            content = b"".join(row[0] for row in cursor.fetchall())
        return batch_of_csv(content, schema, quote='"', null="")

    def locks(self, engine: Engine) -> Locks:
        return SessionLocks(
            engine,
            lambda name: func.get_lock(_lock_name(engine, name), 0),
            lambda name: func.release_lock(_lock_name(engine, name)),
        )

    def readable_instant(self, column: ColumnElement[int]) -> ColumnElement[object]:
        at = func.timestampadd(literal_column("SECOND"), column, "1970-01-01")
        return func.date_format(at, "%Y-%m-%dT%H:%i:%sZ")

    def size_bytes(self, engine: Engine) -> int | None:
        tables = "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
        with engine.connect() as connection:
            return int(connection.scalar(text(tables)) or 0)

    def _configure(self, driver: Any, _entry: object) -> None:
        """A new connection.  Raises: StoreError if the server does not take to being strict."""
        with contextlib.closing(driver.cursor()) as cursor:
            for setting in _SETTINGS:
                cursor.execute(setting)
            cursor.execute("SELECT " + ", ".join(f"@@{name}" for name in _ASKED))
            found = dict(zip(_ASKED, cursor.fetchone(), strict=True))
            is_mariadb = "mariadb" in str(found["version"]).lower()
            if not is_mariadb:
                self._tell("batchacct was never run on MySQL, and is known not to do all of its work there: use MariaDB")
            cursor.execute(f"SET NAMES utf8mb4 COLLATE {collation(is_mariadb=is_mariadb)}")
        driver.autocommit(True)
        with _giving_files(driver):
            pass  # from now on it does not
        _keep_alive(getattr(driver, "_sock", None))
        if STRICT not in str(found["sql_mode"]).split(","):
            raise StoreError(
                f"the database server does not keep to sql_mode {STRICT}, without which it cuts values to fit: let this user set "
                "its session's sql_mode, or connect past the proxy that does not"
            )
        self._loads = bool(found["local_infile"])
        self._packet_bytes = int(found["max_allowed_packet"])
        self._statement_bytes = min(self._packet_bytes // 2, STATEMENT_BYTES)
        if not self._loads:
            self._tell(
                "the database server takes no LOAD DATA LOCAL, so loading is slower than it could be: set local_infile = ON there"
            )
        if int(found["innodb_flush_log_at_trx_commit"]) != 1:
            self._tell(
                "the database server does not wait for its disk (innodb_flush_log_at_trx_commit is not 1): what it said to be "
                "stored may be lost with a power cut, and is not read again"
            )

    def _tell(self, warning: str) -> None:
        if warning not in self._told:
            self._told.add(warning)
            log.warning("%s", warning)


def _begin(connection: Connection) -> None:
    """A transaction that only reads sees one state of the database; one that writes sees what was committed before each step."""
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT":
        return
    if options.get("writing", False):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.exec_driver_sql("START TRANSACTION")
    elif held := options.get("holding"):
        connection.exec_driver_sql("START TRANSACTION")
        _hold(connection, held)
    else:
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT")


def _hold(connection: Connection, tables: Sequence[str]) -> None:
    """Has who changes some tables wait for this transaction, whose snapshot is taken with its first row.

    A table that was changed since the snapshot cannot be read any more (error 1412). Where the tables are not, or may not be read,
    it is for the queries to say so.
    """
    names = ", ".join(f"`{name}`" for name in tables)
    with contextlib.suppress(ProgrammingError, OperationalError):
        connection.exec_driver_sql(f"SELECT 1 FROM {names} LIMIT 0")  # noqa: S608 - names


def _spoil(connection: Connection) -> None:
    """Temporary tables outlive a rollback here: the connection is not used again."""
    if not connection.invalidated:
        connection.info["spoiled"] = True


def _refuse_spoiled(_driver: object, entry: Any, _proxy: object) -> None:
    if entry.info.pop("spoiled", False):
        raise DisconnectionError("temporary tables may be left in it")


@contextlib.contextmanager
def _known_records(driver_error: type[Exception], table: str) -> Iterator[None]:
    """Raises: KnownRecordsError for a violated unique key."""
    try:
        yield
    except driver_error as error:
        if error.args and error.args[0] == DUPLICATE_KEY:
            raise KnownRecordsError(f"table {table}: {error.args[-1]}") from error
        raise


@contextlib.contextmanager
def _streamed(batch: pa.RecordBatch) -> Iterator[str]:
    """The path of a pipe with the lines of a batch: while the server reads some of them, the next ones are made."""
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        thread = threading.Thread(target=_write_lines, args=(writing, batch), name="rows to load")
        thread.start()
        stack.callback(thread.join)
        stack.callback(os.close, reading)  # a writer that nobody listens to any more ends
        yield f"/proc/self/fd/{reading}"


def _write_lines(pipe: int, batch: pa.RecordBatch) -> None:
    with contextlib.suppress(BrokenPipeError), open(pipe, "wb", buffering=0) as stream:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        for first in range(0, batch.num_rows, ROWS_PER_PIECE):
            lines = as_lines(batch.slice(first, ROWS_PER_PIECE))
            while lines:
                lines = lines[stream.write(lines) :]


@contextlib.contextmanager
def in_memory(content: memoryview) -> Iterator[str]:
    """The path of a file that is in memory alone, for the driver to read."""
    handle = os.memfd_create("batchacct")
    try:
        while content:
            content = content[os.write(handle, content) :]
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


@contextlib.contextmanager
def _giving_files(driver: Any) -> Iterator[None]:
    """The driver gives the server files that this asks for, meanwhile alone. (mysqlclient cannot be told to stop.)"""
    if hasattr(driver, "_local_infile"):
        driver._local_infile = True  # noqa: SLF001
    try:
        yield
    finally:
        if hasattr(driver, "_local_infile"):
            driver._local_infile = False  # noqa: SLF001


def _keep_alive(connected: socket.socket | None) -> None:
    if connected is not None and connected.family in {socket.AF_INET, socket.AF_INET6}:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _GONE_WITHIN_A_MINUTE.items():
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _names(batch: pa.RecordBatch) -> str:
    return ", ".join(f"`{name}`" for name in batch.schema.names)


def _csv_row(schema: pa.Schema) -> str:
    """An SQL expression: a row's values with commas between them and a line's end behind them, texts in double quotes."""
    cells = []
    for field in schema:
        value = f"`{field.name}`"
        if pa.types.is_string(field.type):
            value = f"""CONCAT('"', REPLACE({value}, '"', '""'), '"')"""
        cells.append(f"IFNULL({value}, '')")
    return "CONCAT(" + ", ',', ".join(cells) + ", '\\n')"


def _lock_name(engine: Engine, name: str) -> str:
    """Names of locks are the server's, of 64 characters at most."""
    said = f"batchacct {engine.url.database} {name}"
    return "batchacct " + hashlib.blake2b(said.encode(), digest_size=20).hexdigest()
