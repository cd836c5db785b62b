"""Databases with the schema, copied from one that was migrated: to migrate each anew takes seconds on a server.

That a copy is what the migrations make is tested in `store/test_schema.py`.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

from sqlalchemy import URL, Connection, NullPool, create_engine, event, inspect, make_url, text

from batchacct.store import Store

PRISTINE = "batchacct_pristine"


def with_schema(url: str) -> Store:
    """The store of a database without rows; what was in it is gone, and who was connected is not."""
    place = make_url(url)
    make = {"sqlite": _copy_file, "postgresql": _copy_database, "mariadb": _copy_tables}[place.get_backend_name()]
    make(place)
    return Store(url)


def prepare(url: str) -> None:
    """Migrates the database that others of a server are copied from: before any test has changed what that depends on."""
    place = make_url(url).set(database=PRISTINE)
    _pristine_database(place) if place.get_backend_name() == "postgresql" else _table_statements(place)


def _migrated(place: URL) -> list[str]:
    """The statements that were run; a user may not be allowed to ask a server for those of views."""
    store = Store(place.render_as_string(hide_password=False))
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    store.create()
    store.close()
    return statements


def _connected(place: URL, database: str) -> Connection:
    """To the database of a server from which others are made; closing it leaves no connection."""
    return create_engine(place.set(database=database), isolation_level="AUTOCOMMIT", poolclass=NullPool).connect()


def _copy_file(place: URL) -> None:
    assert place.database is not None
    path = Path(place.database)
    for earlier in path.parent.glob(f"{path.name}*"):
        earlier.unlink()
    with path.open("wb") as file:  # on the disk, as what is migrated there would be
        file.write(_file())
        file.flush()
        os.fsync(file.fileno())


@functools.cache
def _file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        _migrated(make_url(f"sqlite:///{folder}/pristine.db"))
        return Path(folder, "pristine.db").read_bytes()


def _copy_database(place: URL) -> None:
    _pristine_database(place.set(database=PRISTINE))
    with _connected(place, "template1") as server:
        server.execute(text(f"DROP DATABASE IF EXISTS {place.database} WITH (FORCE)"))
        server.execute(text(f"CREATE DATABASE {place.database} TEMPLATE {PRISTINE}"))


@functools.cache
def _pristine_database(place: URL) -> None:
    with _connected(place, "template1") as server:
        server.execute(text(f"CREATE DATABASE {PRISTINE}"))
    _migrated(place)


def _copy_tables(place: URL) -> None:
    statements = _table_statements(place.set(database=PRISTINE))
    with _connected(place, PRISTINE) as server:
        server.execute(text(f"DROP DATABASE IF EXISTS {place.database}"))
        server.execute(text(f"CREATE DATABASE {place.database}"))
        server.execute(text(f"USE {place.database}"))
        for statement in statements:
            server.exec_driver_sql(statement)


@functools.cache
def _table_statements(place: URL) -> list[str]:
    """What copies each table, its rows (of the version alone), and each view."""
    with _connected(place, "") as server:
        server.execute(text(f"CREATE DATABASE {PRISTINE}"))
    views = [statement for statement in _migrated(place) if " VIEW " in statement]
    with _connected(place, PRISTINE) as connection:
        tables = inspect(connection).get_table_names()
        copies = [f"CREATE TABLE `{name}` LIKE {PRISTINE}.`{name}`" for name in tables]
        filled = [name for name in tables if connection.scalar(text(f"SELECT count(*) FROM `{name}`"))]
        copies += [f"INSERT INTO `{name}` SELECT * FROM {PRISTINE}.`{name}`" for name in filled]
        return copies + views
