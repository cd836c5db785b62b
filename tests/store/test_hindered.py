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
from tests.store.schemas import Rows, as_migrated, create_at, differences, everything, fill


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
    assert everything(old) == as_migrated(holding, "0001")
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
    """Who might read the tables and views before may read them after it."""
    helper = helped(old)
    old.migrate()
    assert len(rows(helper, job_table)) == len(holding["job"])
    with helper.reading() as connection:
        for name in ("job", "identity"):
            assert connection.scalar(text(f"SELECT count(*) FROM {name}_readable")) == len(holding[name])


def test_who_may_read_a_view_alone_may_after_the_migration(
    old: Store, holding: Rows, request: pytest.FixtureRequest, helped: Helped
) -> None:
    helper = helped(old)
    if old.dialect.name == "postgresql":
        with old.writing() as connection:
            connection.execute(
                text("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM helper; GRANT SELECT ON job_readable TO helper")
            )
            connection.execute(text("CREATE VIEW mine AS SELECT lrms_job_id FROM job_readable"))
    else:
        database = old.engine.url.database
        grants = f"REVOKE ALL ON `{database}`.* FROM {{0}}; GRANT SELECT ON `{database}`.job_readable TO {{0}}"
        request.getfixturevalue("mariadb").execute(grants.format("helper@127.0.0.1"))
    old.migrate()
    with helper.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM job_readable")) == len(holding["job"])
    with pytest.raises(StoreError, match="denied"):
        rows(helper, job_table)
    if old.dialect.name == "postgresql":
        with old.writing() as connection:
            assert connection.scalar(text("SELECT count(*) FROM mine")) == len(holding["job"]), "a view of the site's own goes on"
            connection.execute(text("DROP VIEW mine"))


def test_who_may_not_make_temporary_tables_is_told_what_to_grant(
    store: Store, helped: Helped, request: pytest.FixtureRequest
) -> None:
    """Without the right nothing of what may be known is stored; with it, and with nothing else that was missing, it is."""
    store.check_rights()
    if store.dialect.name == "sqlite":
        return
    helper, database = helped(store), store.engine.url.database

    def run(statement: str) -> None:
        if store.dialect.name == "mariadb":
            request.getfixturevalue("mariadb").execute(statement)
            return
        with store.writing() as connection:
            connection.execute(text(statement))

    helper.check_rights()
    on_mariadb = store.dialect.name == "mariadb"
    append(store, ORIGIN, parsed([job(1)]), NOW)
    run(
        f"REVOKE CREATE TEMPORARY TABLES ON `{database}`.* FROM helper@127.0.0.1"
        if on_mariadb
        else f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"
    )
    try:
        helper.close()
        grant = (
            f"GRANT CREATE TEMPORARY TABLES ON `{database}`.* TO 'helper'@'127.0.0.1'"
            if on_mariadb
            else f'GRANT TEMPORARY ON DATABASE "{database}" TO "helper"'
        )
        with pytest.raises(StoreError) as told:
            helper.check_rights()
        assert "this account may not make temporary tables" in told.value.message
        assert told.value.message.endswith(f"Have an administrator run: {grant};")
        with pytest.raises(StoreError, match=r"GRANT TEMPORARY on the database|Grant this user the rights"):
            append(helper, ORIGIN, parsed([job(1)]), NOW)
        run(grant)
        helper.close()
        helper.check_rights()
        assert append(helper, ORIGIN, parsed([job(1)]), NOW)[0].known == 1
    finally:
        if not on_mariadb:
            run(f"GRANT TEMPORARY ON DATABASE {database} TO PUBLIC")


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
        assert everything(store) == as_migrated(holding, "0001")
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
