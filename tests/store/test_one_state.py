"""Several questions of one state of the database, on each kind of it."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from batchacct.errors import StoreError
from batchacct.store import Store
from batchacct.store.tables import job
from tests.cpuhours.farm import at, fill, job_row


def jobs(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.scalar(select(func.count()).select_from(job)) or 0)


def test_what_is_stored_meanwhile_is_not_seen(store: Store) -> None:
    fill(store, [job_row(1, at("2026-11-01 12:00"))])
    with store.one_state() as as_it_is:
        assert jobs(as_it_is) == 1
        fill(store, [job_row(2, at("2026-11-01 13:00"))])
        assert (jobs(as_it_is), jobs(store)) == (1, 2)
        with as_it_is.one_state() as same:
            assert jobs(same) == 1
    assert jobs(store) == 2


def test_its_errors_are_those_of_a_store(sqlite_store: Store) -> None:
    with sqlite_store.one_state() as as_it_is, pytest.raises(StoreError), as_it_is.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")
