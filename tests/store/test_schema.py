"""The schema: made once, equal to the tables, which are equal to the record types; and what is said where it is not there."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, inspect, text

from batchacct.errors import SchemaError
from batchacct.model import RECORD_TYPES
from batchacct.store import Store, append
from batchacct.store.tables import RECORD_TABLES
from tests.pristine import with_schema
from tests.records import NOW, ORIGIN, holdings, job, parsed
from tests.store.schemas import described, differences


def test_creating_twice_changes_nothing(store: Store) -> None:
    append(store, ORIGIN, parsed([job(1)]), NOW)
    before = holdings(store)
    assert store.create() is False
    store.check()
    assert holdings(store) == before


def test_the_migrations_lead_to_the_tables(store_url: str) -> None:
    """And so does what other tests get, a copy of a migrated database."""
    migrated = Store(store_url)
    migrated.create()
    assert differences(migrated) == []
    made, rows = described(migrated), holdings(migrated)
    migrated.close()
    copy = with_schema(store_url)
    assert differences(copy) == []
    assert (described(copy), holdings(copy)) == (made, rows)
    copy.close()


def test_a_column_too_few_is_a_difference(store: Store) -> None:
    """The comparisons above can fail."""
    before = described(store)
    with store.writing() as connection:
        connection.execute(text("ALTER TABLE setting DROP COLUMN since"))
    assert differences(store) != []
    assert described(store) != before


def test_another_primary_key_is_a_difference(store: Store) -> None:
    """... in what Alembic does not compare."""
    if store.dialect.name == "sqlite":
        pytest.skip("SQLite cannot change a key")
    drop = "PRIMARY KEY" if store.dialect.name == "mariadb" else "CONSTRAINT left_out_pkey"
    with store.writing() as connection:
        connection.execute(text(f"ALTER TABLE left_out DROP {drop}, ADD PRIMARY KEY (what, records)"))
    assert differences(store) == ["left_out: primary key (what, records), not (what)"]


@pytest.mark.parametrize("name", list(RECORD_TYPES))
def test_a_record_table_has_the_columns_of_its_type_in_their_order(store: Store, name: str) -> None:
    record_type, table = RECORD_TYPES[name], RECORD_TABLES[name]
    wanted = ["id", "revision", "superseded_by", *record_type.schema.names, *(["used_at"] if name == "part" else [])]
    assert [c.name for c in table.columns] == wanted
    assert [c["name"] for c in inspect(store.engine).get_columns(name)] == wanted
    assert {c.name for c in table.columns if not c.nullable} - {"id", "revision"} == {
        c.name for c in record_type.columns if c.required
    }


def test_a_database_without_a_schema(store_url: str) -> None:
    store = Store(store_url)
    with pytest.raises(SchemaError, match=r"(has no batchacct schema|does not exist): run `batchacct db create`"):
        store.check()
    assert store.create() is True
    store.check()
    store.close()


def test_a_database_of_something_else(store_url: str) -> None:
    store = Store(store_url)
    store.dialect.prepare(store.engine)
    with store.writing() as connection:
        Table("load", MetaData(), Column("id", Integer)).create(connection)
    with pytest.raises(SchemaError, match="table named `load` that batchacct did not make"):
        store.create()
    assert inspect(store.engine).get_table_names() == ["load"]
    store.close()


def test_a_schema_of_a_newer_program(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="has schema 9999, this program needs"):
        store.check()
    for change in (store.create, store.migrate):
        with pytest.raises(SchemaError, match="which a newer batchacct made: upgrade this program"):
            change()


def test_who_runs_on_over_a_migration_stores_nothing(store: Store) -> None:
    """It would not say what later programs say of a record, as that its day is to be summed anew."""
    append(store, ORIGIN, parsed([job(1)]), NOW)
    before = holdings(store)
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match=r"was brought to schema 9999 while this program, which needs .*: restart it"):
        append(store, ORIGIN, parsed([job(2)]), NOW)
    assert holdings(store) == before
