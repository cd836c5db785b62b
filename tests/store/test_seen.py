"""What was seen in short: the same however it came, how often, and in which order; numbers as each batch system counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from batchacct.errors import StoreError
from batchacct.model import IDENTITY, Record
from batchacct.parsing import RejectedUnit
from batchacct.store import Origin, Store, append
from batchacct.store.seen import HOUR, WEEK
from batchacct.store.tables import IDS_PER_BLOCK, IDS_PER_TIME, metadata, seen_hour, seen_ids
from tests.records import LOGGED_AT, NOW, ORIGIN, job, parsed, part

Seen = set[tuple[str, str, int, int]]
"""(cluster, series, number, week it was submitted in)."""


def numbers(store: Store) -> Seen:
    with store.reading() as connection:
        rows = connection.execute(select(seen_ids)).all()
    found = set()
    for row in rows:
        bits = np.unpackbits(np.frombuffer(row.seen, np.uint8))
        assert len(bits) == IDS_PER_BLOCK
        times = np.repeat(np.frombuffer(row.submitted, "<u4"), IDS_PER_TIME)
        assert set(times[bits == 1] // WEEK) <= {row.week}
        found |= {(row.cluster, row.series, row.block * IDS_PER_BLOCK + int(n), row.week) for n in np.flatnonzero(bits)}
    return found


def hours(store: Store) -> dict[tuple[str, int], tuple[int, int, int]]:
    with store.reading() as connection:
        return {(r.source, r.hour): (r.first_at, r.last_at, r.longest_s) for r in connection.execute(select(seen_hour))}


def some_job(number: int, at: int, *, took: int = 60) -> Record:
    return job(number, record_key=f"{number}:{at}", submit_at=at - took, logged_at=at)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(LOGGED_AT, LOGGED_AT + 3 * WEEK)), max_size=30), st.data())
def test_it_is_the_same_in_whatever_batches_it_came(store: Store, runs: list[tuple[int, int]], data: st.DataObject) -> None:
    runs = list(dict.fromkeys(runs))
    _empty(store)
    order = data.draw(st.permutations(runs))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(runs)), max_size=5)))
    for first, last in zip([0, *cuts], [*cuts, len(order)], strict=True):
        append(store, ORIGIN, parsed([some_job(*run) for run in order[first:last]]), NOW)
    assert numbers(store) == {("lsf1", "", number, (at - 60) // WEEK) for number, at in runs}
    of_hour: dict[int, list[int]] = {}
    for _, at in runs:
        of_hour.setdefault(at // HOUR, []).append(at)
    assert hours(store) == {("lsf-master", hour): (min(times), max(times), 60) for hour, times in of_hour.items()}


def _empty(store: Store) -> None:
    with store.writing() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))


@pytest.mark.parametrize(
    ("lrms", "columns", "expected"),
    [
        ("LSF", {"lrms_job_id": "4242"}, ("", 4242)),
        ("SGE", {"lrms_job_id": "7", "array_index": 3}, ("", 7)),
        ("PBS", {"lrms_job_id": "4242.server.example.org"}, ("", 4242)),
        ("PBS", {"lrms_job_id": "Moab.123"}, None),
        ("Slurm", {"lrms_job_id": "12", "array_index": 3, "record_key": "slurm:c1:4711:100:200"}, ("", 4711)),
        ("Slurm", {"lrms_job_id": "12", "record_key": "slurm:c1:12::200:1-9%2"}, ("", 12)),
        ("Slurm", {"lrms_job_id": "12+1", "record_key": "slurm:c1:12+1:100:200"}, ("", 12)),
        ("HTCondor", {"lrms_job_id": "ce.example.org#2376.3#1790000000"}, ("ce.example.org", 2376)),
        ("HTCondor", {"lrms_job_id": "2376.3"}, None),
        ("own", {"lrms_job_id": "run-7"}, None),
        ("own", {"lrms_job_id": "9" * 30}, None),
    ],
)
def test_the_number_is_that_of_the_counter(
    sqlite_store: Store, lrms: str, columns: dict[str, object], expected: tuple[str, int] | None
) -> None:
    append(sqlite_store, ORIGIN, parsed([job(1) | {"lrms": lrms, "submit_at": LOGGED_AT - 5} | columns]), NOW)
    assert numbers(sqlite_store) == (set() if expected is None else {("lsf1", *expected, (LOGGED_AT - 5) // WEEK)})


def test_a_task_of_a_slurm_array_is_numbered_when_it_starts(sqlite_store: Store) -> None:
    """... not when the array was submitted, as other jobs are."""
    waited = {"lrms": "Slurm", "submit_at": LOGGED_AT - 3 * WEEK, "start_at": LOGGED_AT - 5}
    task = job(1) | waited | {"array_index": 3, "record_key": "slurm:c1:4711:100:200"}
    own = job(2) | waited | {"record_key": "slurm:c1:4712:100:200"}
    unstarted = task | {"start_at": None, "record_key": "slurm:c1:4713::200"}
    append(sqlite_store, ORIGIN, parsed([task, own, unstarted]), NOW)
    now, then = (LOGGED_AT - 5) // WEEK, (LOGGED_AT - 3 * WEEK) // WEEK
    assert numbers(sqlite_store) == {("lsf1", "", 4711, now), ("lsf1", "", 4712, then), ("lsf1", "", 4713, then)}


def test_clusters_schedds_and_batch_systems_are_told_apart(sqlite_store: Store) -> None:
    jobs = [
        job(1),
        job(2, cluster="other"),
        job(3, lrms="HTCondor", lrms_job_id="a#9.0#1"),
        job(4, lrms="HTCondor", lrms_job_id="b#9.0#1"),
    ]
    append(sqlite_store, ORIGIN, parsed(jobs), NOW)
    found = {seen[:3] for seen in numbers(sqlite_store)}
    assert found == {("lsf1", "", 1), ("other", "", 2), ("lsf1", "a", 9), ("lsf1", "b", 9)}


def test_parts_and_identities_have_hours_and_no_numbers(sqlite_store: Store) -> None:
    append(sqlite_store, ORIGIN, parsed(parts=[part(1)]), NOW)
    who = {
        **{k: v for k, v in job(1).items() if k not in {"state", "logged_at"}},
        "time_kind": "submit", "recorded_at": LOGGED_AT, "source": "ce",
    }  # fmt: skip
    append(sqlite_store, Origin("ce", "identity", "test/1", "/ce"), parsed([who], record_type=IDENTITY), NOW)
    hour = LOGGED_AT // HOUR
    assert hours(sqlite_store) == {(name, hour): (LOGGED_AT, LOGGED_AT, 0) for name in ("lsf-master", "ce")}
    assert numbers(sqlite_store) == set()


def test_it_is_stored_with_the_records_or_not_at_all(store: Store) -> None:
    refused = RejectedUnit(0, 1, b"x", None)  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        append(store, ORIGIN, parsed([job(1)], rejects=[refused]), NOW)
    assert (numbers(store), hours(store)) == (set(), {})
