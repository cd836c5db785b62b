"""What hinders making or changing a schema, and making partitions: it is said, and nothing is half done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from batchacct.errors import StoreError
from batchacct.store import Store, append, partitions, schema
from batchacct.store.months import Month
from batchacct.store.tables import job as job_table
from tests.records import NOW, ORIGIN, job, parsed, rows
from tests.store.schemas import Rows, create_at, differences, everything, fill


@pytest.fixture
def old(store_url: str, holding: Rows) -> Iterator[Store]:
    """A database of the first schema with rows in it, of a server."""
    if store_url.startswith("sqlite"):
        pytest.skip("SQLite has no users")
    made = Store(store_url)
    create_at(made, "0001")
    fill(made, holding)
    yield made
    made.close()


Helped = Callable[[Store], Store]
_ROLE = """
CREATE ROLE helper LOGIN; GRANT USAGE ON SCHEMA public TO helper; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO helper;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO helper
"""


@pytest.fixture
def helped(request: pytest.FixtureRequest) -> Iterator[Helped]:
    """A database as a user sees it who may read and write all tables there are, and change none."""
    made: list[Store] = []

    def open_as_helper(store: Store) -> Store:
        url = make_url(store.engine.url).set(username="helper")
        if store.dialect.name == "postgresql":
            with store.writing() as connection:
                connection.execute(text(_ROLE))
        else:
            rights = "SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES"
            user = f"helper@127.0.0.1 IDENTIFIED BY 'secret'; GRANT {rights} ON `{url.database}`.* TO helper@127.0.0.1"
            request.getfixturevalue("mariadb").execute(f"CREATE OR REPLACE USER {user}")
            url = url.set(password="secret")
        made.append(Store(url.render_as_string(hide_password=False)))
        return made[-1]

    yield open_as_helper
    for one in made:
        one.close()
        if one.dialect.name == "postgresql":
            owner = Store(one.engine.url.set(username="batchacct").render_as_string(hide_password=False))
            with owner.writing() as connection:
                connection.execute(text("DROP OWNED BY helper; DROP ROLE helper"))
            owner.close()
        else:
            request.getfixturevalue("mariadb").execute("DROP USER helper@127.0.0.1")


def test_who_may_not_change_tables_does_not_migrate(old: Store, holding: Rows, helped: Helped) -> None:
    helper = helped(old)
    with pytest.raises(StoreError, match=r"(must be owner.*member of that role|permission denied|command denied)"):
        helper.migrate()
    assert old._state().version == "0001"
    old.migrate()
    assert everything(old) == holding
    assert differences(old) == []


def test_who_may_not_change_tables_makes_no_partitions(store: Store, helped: Helped) -> None:
    if store.dialect.partitions is None:
        pytest.skip("SQLite has no partitions")
    append(store, ORIGIN, parsed([job(1, logged_at=NOW)]), NOW)
    helper = helped(store)
    assert rows(helper, job_table) == rows(store, job_table)
    append(helper, ORIGIN, parsed([job(2, logged_at=NOW)]), NOW)
    with pytest.raises(StoreError, match=r"(must be owner.*member of that role|permission denied|command denied)"):
        list(partitions.keep(helper, partitions.TABLES, 3, NOW))
    assert len(rows(store, job_table)) == 2
    with store.reading() as connection:
        assert partitions.months(store, connection, "job") == []
    list(partitions.keep(store, partitions.TABLES, 0, NOW))
    with store.reading() as connection:
        assert partitions.months(store, connection, "job") == [Month.at(NOW)]
    assert len(rows(store, job_table)) == 2


def test_permissions_outlive_the_migration(old: Store, holding: Rows, helped: Helped) -> None:
    """Who might read the tables before may read them after it."""
    helper = helped(old)
    old.migrate()
    assert len(rows(helper, job_table)) == len(holding["job"])


def test_wrong_credentials(store_url: str) -> None:
    if not store_url.startswith(("mariadb", "mysql")):
        pytest.skip("the PostgreSQL of the tests asks for no password; see test_errors.py")
    wrong = Store(make_url(store_url).set(username="nobody", password="wrong").render_as_string(hide_password=False))
    for attempt in (wrong.create, wrong.migrate):
        with pytest.raises(StoreError, match=r"(?i)access denied.*user name and password"):
            attempt()
    wrong.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_migration_without_room(tmp_path: Path, holding: Rows) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode:
        pytest.skip("may not mount")
    try:
        store = Store(f"sqlite:///{folder}/batchacct.db")
        create_at(store, "0001")
        fill(store, holding)
        store.close()
        used = sum(path.stat().st_size for path in folder.iterdir())
        remount = ["mount", "-o", f"remount,size={used + 65_536}", str(folder)]
        subprocess.run(remount, check=True)
        with pytest.raises(StoreError, match="full"):
            store.migrate()
        store.close()
        assert store._state() == schema.State("0001")
        subprocess.run([*remount[:2], "remount,size=64m", str(folder)], check=True)
        store.migrate()
        assert everything(store) == holding
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
