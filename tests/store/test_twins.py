"""A run that was imported and a run in a log are the same by id, start and end: whichever comes second adds nothing."""

from __future__ import annotations

import numpy as np
from sqlalchemy import func, select

import batchacct
from batchacct.store import Store
from batchacct.store.imports import Import, imports, note_import, published_elsewhere
from batchacct.store.tables import ROWS_PER_LOAD, identity, job

AT = 1_351_382_400
"""2012-10-28 00:00:00Z: in Zurich clocks go back an hour later, from 03:00 to 02:00."""
HOUR = 3600


def noted(store: Store, source: str = "apel", record_type: str = "job", **more: object) -> None:
    values = {"family": "apel", "last_at": AT + 30 * 86_400} | more
    with store.writing() as connection:
        note_import(connection, Import(source, record_type=record_type, **values), 1)  # type: ignore[arg-type]


def run(
    number: int, *, index: int | None = None, start: int | None = AT, end: int = AT + 60, cluster: str = "c1"
) -> dict[str, object]:
    times = {"start_at": start, "end_at": end, "logged_at": end}
    return {"lrms_job_id": str(number), "array_index": index, "cluster": cluster, "state": "unknown", **times}


def put(store: Store, source: str, *runs: dict[str, object], record_type: str = "job") -> tuple[int, int]:
    """How many were stored, and how many known."""
    (counts,) = batchacct.insert(store, record_type, runs, source=source)
    return counts.recorded, counts.known


def test_whichever_comes_second_is_known(store: Store) -> None:
    noted(store)
    assert put(store, "log", run(1), run(2, start=None)) == (2, 0)
    assert put(store, "apel", run(1), run(2, start=None), run(3), run(4, cluster="c2"), run(5, end=AT + 61)) == (3, 2)
    assert put(store, "log", run(3), run(4), run(5), run(6)) == (3, 1), "another cluster, another end"
    assert put(store, "apel", run(3), run(6)) == (0, 2), "its own by key, the log's by what it is"


def test_elements_of_an_array_stand_for_one_each(store: Store) -> None:
    noted(store)
    assert put(store, "apel", run(1), run(2, index=7)) == (2, 0)
    assert put(store, "log", run(1, index=1), run(1, index=2), run(2, index=6), run(2, index=7)) == (2, 2)
    assert put(store, "log", run(1, index=1), run(1, index=2), run(2, index=6), run(2, index=7)) == (0, 4)
    assert put(store, "later", run(8, index=1), run(8, index=2)) == (2, 0)
    assert put(store, "apel", run(8)) == (0, 1)


def test_two_imports_know_each_other(store: Store) -> None:
    noted(store)
    noted(store, "old", family="old")
    assert put(store, "apel", run(1)) == (1, 0)
    assert put(store, "old", run(1), run(2)) == (1, 1)
    assert put(store, "log", run(1), run(2)) == (0, 2)


def test_the_hour_that_comes_twice_is_one(store: Store) -> None:
    """Of an import with local times; what is an hour apart at another time of the day is another run."""
    noted(store, zone="Europe/Zurich")
    twice, once = AT + 600, AT + 5 * HOUR
    assert put(store, "apel", run(1, end=twice), run(2, start=twice, end=twice + 60), run(3, start=once, end=once + 60)) == (3, 0)
    later = (run(1, end=twice + HOUR), run(2, start=twice + HOUR, end=twice + HOUR + 60))
    assert put(store, "log", *later, run(3, start=once + HOUR, end=once + HOUR + 60)) == (1, 2)


def test_what_is_newer_than_every_import_is_not_looked_at(store: Store) -> None:
    noted(store, last_at=AT)
    assert put(store, "apel", run(1)) == (1, 0)
    assert put(store, "log", run(1)) == (1, 0)
    with store.reading() as connection:
        assert [one.last_at for one in imports(connection)] == [AT]


def asked(number: int, at: int, kind: str = "submit", ce: str = "ce1") -> dict[str, object]:
    return {"lrms_job_id": str(number), "cluster": "c1", "recorded_at": at, "time_kind": kind, "ce_id": ce}


def test_identities(store: Store) -> None:
    noted(store, "apel-blah", "identity")
    noted(store, "apel-who", "identity", of_jobs=True)
    noted(store)
    assert put(store, "blah", asked(1, AT), record_type="identity") == (1, 0)
    assert put(store, "apel-blah", asked(1, AT), asked(1, AT, ce="ce2"), asked(2, AT), record_type="identity") == (2, 1)
    assert put(store, "blah", asked(2, AT), asked(2, AT + 1), record_type="identity") == (1, 1)
    put(store, "log", run(1))
    put(store, "apel", run(2))
    of_jobs = [asked(1, AT + 60, "end"), asked(2, AT + 60, "end")]
    assert put(store, "apel-who", *of_jobs, record_type="identity") == (1, 1), "job 1 is here from its log"
    with store.reading() as connection:
        found = connection.scalars(select(identity.c.lrms_job_id).where(identity.c.source == "apel-who")).all()
    assert found == ["2"]


def test_jobs_that_were_published_are_told_from_others(store: Store) -> None:
    noted(store, "apel-published", published_by="published by APEL")
    noted(store)
    put(store, "apel-published", run(1), run(2))
    put(store, "apel", run(3))
    with store.reading() as connection:
        numbers = connection.execute(select(job.c.id, job.c.lrms_job_id).order_by(job.c.id)).all()
        told = published_elsewhere(connection, np.array([number for number, _ in numbers]))
        assert connection.scalar(select(func.count()).select_from(job)) == 3
    assert told == {number: "published by APEL" for number, name in numbers if name in ("1", "2")}
    assert all(number // ROWS_PER_LOAD for number in told)
