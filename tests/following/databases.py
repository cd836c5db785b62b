"""A database for many histories: emptied quickly, and made to fail as a real one does."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from batchacct.store import Store
from batchacct.store.tables import metadata
from tests.pristine import with_schema
from tests.servers import MariaServer


class SqliteFile:
    """An SQLite file, which another connection locks; the store must not wait for that long (BUSY_TIMEOUT_S)."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o777)
        self._path = folder / "batchacct.db"
        self.store = Store(f"sqlite:///{self._path}")
        self._other: sqlite3.Connection | None = None

    def empty(self) -> None:
        self.store.close()
        with_schema(f"sqlite:///{self._path}").close()
        self._path.chmod(0o666)

    def hinder(self) -> bool:
        other = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            other.close()
            return False
        self._other = other
        return True

    def release(self) -> None:
        if self._other is not None:
            self._other.close()
            self._other = None

    def close(self) -> None:
        self.store.close()


class PostgresServer:
    """A PostgreSQL database, whose connections are cut."""

    def __init__(self, url: str) -> None:
        self.store = with_schema(url)
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def empty(self) -> None:
        self._do("; ".join(f'DELETE FROM "{name}"' for name in metadata.tables))

    def hinder(self) -> bool:
        in_a_transaction = "FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
        with self._engine.connect() as connection:
            return bool(connection.execute(text(f"SELECT pg_terminate_backend(pid, 1000) {in_a_transaction}")).all())

    def release(self) -> None:
        """What was cut can be made anew."""

    def close(self) -> None:
        self.store.close()
        self._engine.dispose()

    def _do(self, *statements: str) -> None:
        with self._engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))


class MariaDatabase:
    """A MariaDB database, whose connections are ended while they are in a transaction."""

    def __init__(self, server: MariaServer) -> None:
        self._server = server
        url = make_url(server.url).set(database="batchacct_histories")
        self.store = with_schema(url.render_as_string(hide_password=False))

    def empty(self) -> None:
        self._server.execute("; ".join(f"DELETE FROM `{name}`" for name in metadata.tables), "batchacct_histories")

    def hinder(self) -> bool:
        in_a_transaction = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_mysql_thread_id > 0"
        found = self._server.execute(in_a_transaction).split()
        for number in found:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._server.execute(f"KILL {number}")
        return bool(found)

    def release(self) -> None:
        """What was ended can be made anew."""

    def close(self) -> None:
        self.store.close()
