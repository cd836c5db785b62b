"""Stores for tests: `store` is each backend in turn, empty, with its schema; `sqlite_store` the embedded one alone.

The servers do not wait for the disk: nobody cuts their power.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from batchacct.store import Store
from tests.forks import Forks
from tests.pristine import prepare, with_schema
from tests.servers import REQUIRED, MariaServer, MissingServerError, mariadb_server, postgres_server
from tests.store.schemas import Rows, rows_of_a_site


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """One PostgreSQL for the session; its tests skip where it is not installed, unless services are required."""
    try:
        with postgres_server("-c fsync=off", "-c full_page_writes=off") as server:
            prepare(server.url)
            yield server.url
    except MissingServerError as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaServer]:
    """One MariaDB for the session, as `postgresql_url`."""
    try:
        with mariadb_server(in_memory=True) as server:
            prepare(server.url)
            yield server
    except MissingServerError as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def mariadb_url(mariadb: MariaServer) -> str:
    return mariadb.url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/batchacct.db"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """The URL of a database of each backend, with whatever is in it; that of `store`, where a test asks for both."""
    return sqlite_url if request.param == "sqlite" else str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def store_url(database_url: str) -> str:
    """The URL of an empty database of each backend."""
    if not database_url.startswith("sqlite"):
        empty(database_url)
    return database_url


def empty(url: str) -> None:
    """Empties a database of a server, once that has noticed that a killed process is gone."""
    server = Store(url)
    name = server.engine.url.database
    anew = ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    with server.writing() as connection:
        for statement in anew if server.dialect.name == "postgresql" else (f"DROP DATABASE {name}", f"CREATE DATABASE {name}"):
            connection.execute(text(statement))
    server.close()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    made = with_schema(database_url)
    yield made
    made.close()


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    made = with_schema(sqlite_url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def holding(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Rows:
    """Every row of a site's database, by table."""
    return rows_of_a_site(tmp_path_factory.mktemp("holding"), forks)
