"""Rows fetched as Arrow are those that were inserted, whatever is in them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Select, Table, column, func, insert, literal, select

from batchacct.errors import StoreError
from batchacct.model import INTEGER, REAL, TEXT, RecordType
from batchacct.model import Column as Field
from batchacct.store import Store
from batchacct.store.tables import record_columns, setting
from tests.store.test_round_trip import ODD_TEXTS, VALUES, few

FIELDS = (Field("text", TEXT, ""), Field("number", INTEGER, ""), Field("real", REAL, ""), Field("note", TEXT, ""))
SCHEMA = pa.schema([(field.name, field.type) for field in FIELDS])
ROW = st.fixed_dictionaries({field.name: st.none() | VALUES[field.type] for field in FIELDS})


def fetched(store: Store, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    columns: list[Column[object]] = record_columns(RecordType("fetched", "", "", FIELDS))
    table = Table("fetched", MetaData(), *columns, prefixes=["TEMPORARY"])
    with store.writing() as connection:
        table.create(connection)
        if rows:
            connection.execute(insert(table), rows)
        batch = store.dialect.fetch(connection, select(table), SCHEMA)
        table.drop(connection)
    assert batch.schema.equals(SCHEMA)
    return batch.to_pylist()


@few
@given(rows=st.lists(ROW, max_size=5))
@example(rows=[{"text": text, "number": 0, "real": None, "note": text} for text in ODD_TEXTS])
@example(rows=[dict.fromkeys(SCHEMA.names)])
@example(rows=[dict.fromkeys(SCHEMA.names) | {"text": "\ufeff"}])
def test_odd_values_come_out_as_they_went_in(store: Store, rows: list[dict[str, object]]) -> None:
    assert fetched(store, rows) == rows


def test_an_error_of_the_query_is_told_as_the_stores_own(store: Store) -> None:
    absent: Select[Any] = select(column("absent")).select_from(Table("nowhere", MetaData()))
    with pytest.raises(StoreError, match="nowhere"), store.reading() as connection:
        store.dialect.fetch(connection, absent, pa.schema([("absent", TEXT)]))


def test_an_error_behind_rows_that_were_sent_already_ends_the_fetch(postgresql_url: str) -> None:
    numbers = func.generate_series(1, 1000, type_=Integer).column_valued("number")
    divided = select((1000 / (1000 - numbers)).label("number"))
    store = Store(postgresql_url)
    with pytest.raises(StoreError, match="division by zero"), store.reading() as connection:
        store.dialect.fetch(connection, divided, pa.schema([("number", INTEGER)]))
    with store.reading() as connection:
        assert store.dialect.fetch(connection, select(literal(1).label("number")), pa.schema([("number", INTEGER)])).num_rows == 1
    store.close()


def test_two_fetches_of_one_reading_see_one_state(store: Store) -> None:
    query = select(func.count().label("number")).select_from(setting)
    schema = pa.schema([("number", INTEGER)])
    with store.reading() as connection:
        before = store.dialect.fetch(connection, query, schema)
        with store.writing() as other:
            other.execute(insert(setting).values(name="n", value="v", since=0))
        assert store.dialect.fetch(connection, query, schema) == before
