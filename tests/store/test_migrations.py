"""Migrations: from the first schema with rows in it to this program's, and what happens when one is hindered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from batchacct.errors import BusyError, SchemaError
from batchacct.ledger.books import read_books
from batchacct.store import Store, append, migrating, schema
from tests.records import NOW, ORIGIN, holdings, job, parsed
from tests.store.schemas import Rows, as_migrated, create_at, differences, everything, fill

OLDER = [script.revision for script in migrating._wanting(None)][:-1]


@pytest.fixture
def old(store_url: str, holding: Rows, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A database of an older version, with the rows in it."""
    store = Store(store_url)
    create_at(store, request.param)
    fill(store, holding)
    yield store
    store.close()


@pytest.mark.parametrize("old", OLDER, indirect=True)
def test_an_older_schema_with_rows_in_it(old: Store, holding: Rows) -> None:
    with pytest.raises(SchemaError, match=r"has schema 000\d, this program needs 000\d: run `batchacct db migrate`"):
        old.check()
    with pytest.raises(SchemaError, match="run `batchacct db migrate`"):
        old.create()
    before = old._state().version
    assert before is not None
    assert old.migrate() == (before, schema.head())
    old.check()
    assert differences(old) == []
    assert everything(old) == as_migrated(holding, before)
    with old.reading() as connection:
        assert read_books(connection).problems == []
        assert connection.scalar(text("SELECT count(*) FROM job_readable")) == len(holding["job"])
    assert old.migrate() == (schema.head(), schema.head())
    append(old, ORIGIN, parsed([job(1000)]), NOW)
    assert holdings(old)["job"] == len(holding["job"]) + 1


@pytest.mark.parametrize("old", OLDER[:1], indirect=True)
def test_a_migration_that_fails_leaves_the_old_schema(old: Store, holding: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """... where the database changes its schema in a transaction; elsewhere it goes on from the step reached."""

    def fail(_name: str) -> None:
        raise SchemaError("no room")

    monkeypatch.setattr("batchacct.store.migrating.crash_point", fail)
    with pytest.raises(SchemaError, match="no room"):
        old.migrate()
    if not old.dialect.commits_ddl:
        assert old._state() == schema.State("0001")
    monkeypatch.undo()
    old.migrate()
    assert everything(old) == as_migrated(holding, "0001")
    assert differences(old) == []


def test_there_is_nothing_to_migrate(store_url: str) -> None:
    store = Store(store_url)
    with pytest.raises(SchemaError, match="no batchacct schema: run `batchacct db create`"):
        store.migrate()
    store.close()


@pytest.mark.parametrize("old", OLDER[:1], indirect=True)
def test_two_at_once(old: Store) -> None:
    other = Store(old.engine.url.render_as_string(hide_password=False))
    with other.lock("migrate"), pytest.raises(BusyError, match="another process is doing `migrate` on this database"):
        old.migrate()
    assert old._state() == schema.State("0001")
    other.close()


@pytest.mark.parametrize("old", OLDER[:1], indirect=True)
@pytest.mark.parametrize("name", ["job_rest", "part_rest"])
def test_a_foreign_table_of_a_name_that_a_migration_needs(old: Store, name: str) -> None:
    with old.writing() as connection:
        connection.execute(text(f"CREATE TABLE {name} (id INTEGER)"))
    with pytest.raises(SchemaError, match=f"table named `{name}` that batchacct did not make"):
        old.migrate()
    assert old._state() == schema.State("0001")


@pytest.mark.parametrize("old", OLDER[:1], indirect=True)
def test_the_sql_is_shown_and_not_run(old: Store, tmp_path: Path) -> None:
    shown = "\n".join(old.preview_migration()).replace("`", "")
    assert "ALTER TABLE load ADD COLUMN first_row_at BIGINT" in shown
    assert "UPDATE alembic_version SET version_num='0002'" in shown
    assert ("PARTITION BY RANGE (logged_at)" in shown) == (old.dialect.partitions is not None)
    assert old._state() == schema.State("0001")
    old.migrate()
    assert old.preview_migration() == []
