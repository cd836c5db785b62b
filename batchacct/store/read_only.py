"""A store for programs that answer strangers' questions: the database lets it write nothing, and ends what takes too long."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError

from batchacct.errors import StoreError
from batchacct.store.store import Store

_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock."""


def read_only_store(url: str, deadline_s: int) -> Store:
    """The store of a URL in which nothing can be written and each statement ends after `deadline_s`, with a StoreError.

    Raises: ConfigError as `Store`.
    """
    store = Store(url)
    if store.dialect.name == "sqlite":
        event.listen(store.engine, "connect", lambda driver, _: driver.execute("PRAGMA query_only=ON"))
        event.listen(store.engine, "before_cursor_execute", _sqlite_deadline(deadline_s))
    else:
        event.listen(store.engine, "connect", lambda driver, _: _prepare(store.dialect.name, driver, deadline_s))
    return store


def was_too_long(error: StoreError) -> bool:
    """Whether it is of a statement that was ended because it took too long."""
    cause = error.__cause__
    told = f"{cause.orig if isinstance(cause, DBAPIError) else cause}".lower()
    return any(sign in told for sign in _SIGNS)


_SIGNS = ("interrupted", "statement timeout", "max_statement_time", "maximum statement execution time", "(1969,", "dpy-4024")
"""Words of SQLite, PostgreSQL, MariaDB (1969), MySQL and Oracle."""


def _sqlite_deadline(deadline_s: int) -> Any:
    def start(connection: Connection, *_: Any) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        until = time.monotonic() + deadline_s
        driver.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)

    return start


def _prepare(dialect: str, driver: Any, deadline_s: int) -> None:
    if dialect == "oracle":
        driver.call_timeout = deadline_s * 1000
        return
    with driver.cursor() as cursor:
        if dialect == "postgresql":
            cursor.execute(f"SET statement_timeout = {deadline_s * 1000}")
            cursor.execute("SET default_transaction_read_only = on")
        else:
            cursor.execute("SELECT @@version")
            is_mariadb = "mariadb" in str(cursor.fetchone()[0]).lower()
            limit = f"max_statement_time = {deadline_s}" if is_mariadb else f"max_execution_time = {deadline_s * 1000}"
            cursor.execute(f"SET SESSION {limit}")
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
    driver.commit()
