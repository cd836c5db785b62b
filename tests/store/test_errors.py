"""Databases that cannot be used: what is said, and that it is always one of batchacct's own errors."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from sqlalchemy import text

from batchacct.connection import database_url
from batchacct.errors import BatchacctError, ConfigError, StoreError
from batchacct.store import Store
from tests.servers import free_port


def told(url: str) -> BatchacctError:
    """What using the database says; the same from each way in."""
    store = Store(url)

    def lock() -> None:
        with store.lock("publish"):
            pass

    with pytest.raises(StoreError) as caught:
        store.check()
    for use in (store.create, lock, store.size_bytes) if url.startswith("postgresql") else (store.create,):
        with pytest.raises(StoreError):
            use()
    store.close()
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_is_not_there(host: str) -> None:
    message = told(f"postgresql+psycopg://me:secret@{host}:{free_port()}/accounts").message
    assert "Is the server running, and the address right?" in message
    assert f"postgresql+psycopg://me:***@{host}" in message
    assert "secret" not in message


def test_a_user_or_a_database_that_is_not_there(postgresql_url: str) -> None:
    for url in (postgresql_url.replace("batchacct@", "nobody@"), postgresql_url.replace("/postgres", "/accounts")):
        message = told(url).message
        assert "does not exist. Create it, or correct the database URL" in message


def test_postgresql_asks_whether_the_host_that_holds_a_lock_is_still_there(postgresql_url: str) -> None:
    """On a connection by TCP, within a minute; what the kernel then does is its own affair."""
    store = Store(postgresql_url)
    with store.reading() as connection:
        seconds = [int(connection.scalar(text(f"SHOW tcp_keepalives_{name}")) or 0) for name in ("idle", "interval", "count")]
    store.close()
    assert 0 < seconds[0] + seconds[1] * seconds[2] <= 60


def test_a_table_that_is_not_there(store_url: str) -> None:
    store = Store(store_url)
    with pytest.raises(StoreError, match="`batchacct db create`"), store.reading() as connection:
        connection.execute(text("SELECT * FROM job"))
    store.close()


def test_a_statement_that_is_none(store: Store) -> None:
    with pytest.raises(StoreError, match=r"(?i)\bsyntax\b"), store.writing() as connection:
        connection.execute(text("SELEKT"))


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"folder of the database, .*/missing, does not exist: make it"):
        Store(f"sqlite:///{tmp_path}/missing/batchacct.db")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    assert "unable to open database file. Give this user write permission" in told(f"sqlite:///{tmp_path}").message


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "batchacct.db").write_bytes(b"accounts of 2012, on paper\n" * 400)
    message = told(f"sqlite:///{tmp_path}/batchacct.db").message
    assert "file is not a database. The file is something else, or damaged: restore it from a backup" in message


def test_a_file_that_is_damaged(sqlite_store: Store, tmp_path: Path) -> None:
    sqlite_store.close()
    path = tmp_path / "batchacct.db"
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 20_000)
    message = told(f"sqlite:///{path}").message
    assert "restore it from a backup" in message


def test_a_lock_that_cannot_be_taken(sqlite_store: Store, tmp_path: Path) -> None:
    (tmp_path / "batchacct.db.publish.lock").mkdir()
    with pytest.raises(StoreError, match="Give this user write permission on the database's folder"), sqlite_store.lock("publish"):
        pass


@pytest.mark.parametrize(
    "url", ["batchacct.db", "postgresql", "://", "mssql://me@host/accounts", "sqlite://", "sqlite:///:memory:"]
)
def test_what_is_no_url_of_a_store(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///"):
        Store(url)


def connection_file(folder: Path, content: bytes, mode: int = 0o640) -> Path:
    path = folder / "connection"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_connection_file_with_a_url(tmp_path: Path) -> None:
    path = connection_file(tmp_path, b"  postgresql://me:p@ss@host/accounts  \nsecond line\n")
    assert database_url(path) == "postgresql://me:p@ss@host/accounts"


@pytest.mark.parametrize("content", [b"accounting/secret@lcg_db\n", b"accounting/a://b@lcg_db\n"])
def test_a_connection_file_of_2012_means_oracle(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"means Oracle, whose driver is missing: pip install 'batchacct\[oracle\]'"):
        database_url(connection_file(tmp_path, content))


def test_a_connection_file_of_2012_where_the_driver_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    url = database_url(connection_file(tmp_path, b"accounting/s/e:c@lcg_db\n"))
    assert url.startswith("oracle+oracledb://accounting:s%2Fe%3Ac@lcg_db")
    assert Store(url).shown_url == "oracle+oracledb://accounting:***@lcg_db"


def test_a_connection_file_everybody_may_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="may be read by everybody and holds a password: run `chmod o-r"):
        database_url(connection_file(tmp_path, b"postgresql://me:secret@host/accounts\n", 0o644))


@pytest.mark.parametrize("content", [b"", b"\n", b"accounting@lcg_db\n", b"accounting/secret\n", b"\xff\xfe\n"])
def test_a_connection_file_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"neither a database URL nor username/password@dsn|cannot be read"):
        database_url(connection_file(tmp_path, content))


def test_no_connection_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        database_url(tmp_path / "missing")
