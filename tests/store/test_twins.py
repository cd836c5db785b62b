"""A run that was imported and a run in a log are the same by id, start and end: whichever comes second adds nothing."""

from __future__ import annotations

import numpy as np
from sqlalchemy import func, select

import batchacct
from batchacct.store import Store
from batchacct.store.imports import Import, imports, note_import, published_elsewhere
from batchacct.store.tables import ROWS_PER_LOAD, identity, job
from batchacct.store.twin_table import corrected

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


def logged(number: int, *, start: int, cpu: int) -> dict[str, object]:
    """What a log says of a run under a key of its own, which a correction has, too."""
    content = start * 10 + cpu
    return run(number, start=start) | {"record_key": f"log:{number}", "cpu_duration_s": cpu, "content_hash": content}


def in_force(store: Store) -> int:
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(job).where(job.c.superseded_by.is_(None))) or 0


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


def test_elements_that_come_in_blocks_of_their_own_stand_for_one_each(store: Store) -> None:
    """Each import and the logs have one of a stored record, whatever else came before or comes again."""
    noted(store)
    noted(store, "old", family="old")
    assert put(store, "apel", run(1)) == (1, 0)
    elements = [run(1, index=index) for index in (1, 2, 3)]
    assert [put(store, "log", element) for element in elements] == [(0, 1), (1, 0), (1, 0)]
    assert [put(store, "log", element) for element in reversed(elements)] == [(0, 1)] * 3
    assert put(store, "apel", run(1)) == (0, 1)
    assert [put(store, "old", element) for element in elements] == [(0, 1)] * 3
    assert in_force(store) == 3


def test_what_was_known_stays_known_when_its_log_corrects_it(store: Store) -> None:
    """The first stays; never are two of one run in force."""
    noted(store)
    put(store, "apel", run(1))
    first, other_use, other_start = (logged(1, start=AT + late, cpu=cpu) for late, cpu in ((0, 1), (0, 2), (5, 2)))
    assert [put(store, "log", one) for one in (first, other_use, other_start, first, other_start)] == [(0, 1)] * 5
    with store.reading() as connection:
        assert corrected(connection) == 1
    assert put(store, "log", logged(2, start=AT + 5, cpu=1)) == (1, 0)
    put(store, "apel", run(3))
    assert put(store, "log", logged(3, start=AT + 5, cpu=1), logged(3, start=AT, cpu=1)) == (0, 2), "in one block, in any order"
    assert in_force(store) == 3


def test_a_correction_under_the_same_key_replaces_what_was_imported(store: Store) -> None:
    """As of LSF, whose keys the tables of 2012 have all fields of."""
    noted(store)
    row = run(1) | {"record_key": "lsf:1", "content_hash": 1}
    put(store, "apel", row)
    assert put(store, "log", row | {"content_hash": 2}) == (0, 1)
    assert put(store, "log", row | {"content_hash": 3, "start_at": AT + 5}) == (1, 0)
    assert put(store, "log", row | {"content_hash": 2}, row | {"content_hash": 3, "start_at": AT + 5}) == (0, 2)
    assert put(store, "apel", row) == (0, 1)
    with store.reading() as connection:
        rows = connection.execute(select(job.c.start_at, job.c.source).where(job.c.superseded_by.is_(None))).all()
        assert corrected(connection) == 0
    assert rows == [(AT + 5, "log")]


def test_what_a_log_said_before_it_was_corrected_is_the_same_run(store: Store) -> None:
    noted(store)
    put(store, "log", logged(1, start=AT, cpu=1))
    put(store, "log", logged(1, start=AT + 5, cpu=1))
    assert put(store, "apel", run(1)) == (0, 1)
    assert put(store, "apel", run(1)) == (0, 1)
    assert in_force(store) == 1


def test_what_was_logged_long_after_its_end_is_found(store: Store) -> None:
    noted(store)
    put(store, "apel", run(1))
    late = [run(number) | {"logged_at": AT + 20 * 86_400} for number in (1, 2)]
    assert put(store, "log", *late) == (1, 1)
    assert put(store, "apel", run(2)) == (0, 1)


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
    told = {"lrms_job_id": str(number), "cluster": "c1", "recorded_at": at, "time_kind": kind, "ce_id": ce}
    return told | {"record_key": f"blah:{kind}:{number}:{at}:{ce}"}


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
