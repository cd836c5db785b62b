"""The join of processes with runs of jobs against a slow reference: ids that come again, arrays, requeues, clocks that differ."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from batchacct.store import Store
from batchacct.store.months import Month
from batchacct.store.partitions import TABLES
from batchacct.store.partitions import add as add_partitions
from batchacct.store.spans import Span
from batchacct.store.tables import job, process
from procacct.asking.runs import SLACK_S, Runs, is_of_run, runs_of_processes
from tests.procacct.workload import DAY, HOUR, T0, a_job, a_process, add, add_processes
from tests.store.explains import touched

Run = tuple[str, int | None, int, int]
"""Job id, index, start, end."""

_examples = itertools.count()


def owner(runs: list[tuple[int, int]], at: int) -> int | None:
    """Which of the runs of one id, in order, has a process that started at an instant: the reference, straight from the rule."""
    begun = [n for n, (start, _) in enumerate(runs) if start <= at]
    coming = [n for n, (start, _) in enumerate(runs) if start > at]
    last = begun[-1] if begun else None
    if last is not None and runs[last][1] >= at:
        return last
    since = None if last is None else at - runs[last][1]
    until = None if not coming else runs[coming[0]][0] - at
    if since is not None and since <= SLACK_S and (until is None or since <= until):
        return last
    if until is not None and until <= SLACK_S and (since is None or until < since):
        return coming[0]
    return None


def found(store: Store, runs: Runs, ids: list[str]) -> dict[str, list[int]]:
    """For each process, by its key, the runs it is of."""
    run = runs.shared_out()
    asked = select(process.c.record_key, run.c.run_id).select_from(process.outerjoin(run, is_of_run(run)))
    of: dict[str, list[int]] = {}
    with store.reading() as connection:
        for key, number in connection.execute(asked.where(process.c.join_id.in_(ids))):
            of.setdefault(key, [])
            of[key] += [] if number is None else [number]
    return of


def expected(store: Store, ids: list[str]) -> dict[str, list[int]]:
    with store.reading() as connection:
        jobs = connection.execute(
            select(job.c.id, job.c.join_id, job.c.array_index, job.c.start_at, job.c.end_at)
            .where(job.c.join_id.in_(ids), job.c.superseded_by.is_(None), job.c.start_at.is_not(None))
            .order_by(job.c.start_at, job.c.end_at, job.c.id)
        ).all()
        rows = connection.execute(
            select(process.c.record_key, process.c.join_id, process.c.array_index, process.c.started_at).where(
                process.c.join_id.in_(ids)
            )
        ).all()
    of = {}
    for key, join_id, index, at in rows:
        same = [row for row in jobs if (row.join_id, row.array_index) == (join_id, index)]
        which = owner([(row.start_at, row.end_at) for row in same], at)
        of[key] = [] if which is None else [same[which].id]
    return of


INSTANTS = st.builds(lambda grid, off: 50 * grid + off, st.integers(1, 40), st.sampled_from([-1, 0, 0, 1]))
"""Close to each other and often as far from two of them: the borders are where mistakes are."""
IDS = st.sampled_from("aab"), st.sampled_from([None, None, 0])
RUNS = st.lists(st.tuples(*IDS, INSTANTS, st.integers(0, 12).map(lambda n: 50 * n)), min_size=2, max_size=9)
STARTS = st.lists(st.tuples(*IDS, INSTANTS), min_size=10, max_size=40)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=RUNS, starts=STARTS)
def test_a_process_is_of_the_run_that_the_rule_says(
    store: Store, runs: list[tuple[str, int | None, int, int]], starts: list[tuple[str, int | None, int]]
) -> None:
    """Whatever the runs, also such that overlap."""
    mark = f"x{next(_examples)}"
    ids = [mark + letter for letter in "abc"]
    jobs = [
        a_job(mark + letter, T0 + at, T0 + at + length, array_index=index, record_key=f"{mark}/{n}")
        for n, (letter, index, at, length) in enumerate(runs)
    ]
    if jobs:
        add(store, *jobs)
    add_processes(store, *(a_process(mark + letter, T0 + at, array_index=index) for letter, index, at in starts))
    want = expected(store, ids)
    assert found(store, Runs(which=job.c.join_id.in_(ids)), ids) == want
    assert found(store, Runs(), ids) == want


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 5000)), min_size=1, max_size=6),
    offsets=st.lists(st.integers(-500, 32_000), min_size=1, max_size=12),
    cut=st.tuples(st.integers(0, 30_000), st.integers(1, 8000)),
)
def test_a_period_gives_its_processes_the_same_runs(
    store: Store, gaps: list[tuple[int, int]], offsets: list[int], cut: tuple[int, int]
) -> None:
    """Requeues and ids that come again, looked at through the runs of a period alone."""
    name = f"y{next(_examples)}"
    at, jobs = T0, []
    for number, (pause, length) in enumerate(gaps):
        at += pause
        jobs.append(a_job(name, at, at + length, record_key=f"{name}/{number}"))
        at += length
    add(store, *jobs)
    add_processes(store, *(a_process(name, T0 + offset) for offset in offsets))
    span = Span(T0 + cut[0], T0 + sum(cut))
    with store.reading() as connection:
        runs = runs_of_processes(connection, span)
        inside = set(
            connection.scalars(select(process.c.record_key).where(span.has(process.c.logged_at), process.c.join_id == name))
        )
    want = expected(store, [name])
    got = found(store, runs, [name])
    assert {key: got[key] for key in inside} == {key: want[key] for key in inside}


def test_every_second_between_two_runs(store: Store) -> None:
    """Pauses of every kind, also such that the second run starts before the first one ended, nearer and further than the slack."""
    pauses = (-60, -1, 0, 1, 2, 3, 50, 299, 300, 301, 599, 600, 601, 602, 640)
    ids = [f"p{pause}" for pause in pauses]
    jobs, rows = [], []
    for name, pause in zip(ids, pauses, strict=True):
        jobs += [
            a_job(name, T0, T0 + 100, record_key=f"{name}/1"),
            a_job(name, T0 + 100 + pause, T0 + 1000, record_key=f"{name}/2"),
        ]
        rows += [a_process(name, T0 + at) for at in range(min(95, 98 + pause), 104 + pause)]
    add(store, *jobs)
    add_processes(store, *rows)
    assert found(store, Runs(), ids) == expected(store, ids)


def test_an_id_that_comes_again_is_another_job(store: Store) -> None:
    add(store, a_job("7", T0, T0 + HOUR, user_name="alice"), a_job("7", T0 + 90 * DAY, T0 + 90 * DAY + HOUR, user_name="bob"))
    add_processes(store, a_process("7", T0 + 5), a_process("7", T0 + 90 * DAY + 5), a_process("7", T0 + 45 * DAY))
    run = Runs().shared_out()
    asked = select(process.c.started_at, run.c.user_name).select_from(process.outerjoin(run, is_of_run(run)))
    with store.reading() as connection:
        assert dict(map(tuple, connection.execute(asked))) == {T0 + 5: "alice", T0 + 90 * DAY + 5: "bob", T0 + 45 * DAY: None}


def test_jobs_of_another_cluster_are_others(store: Store) -> None:
    add(store, a_job("7", T0, T0 + HOUR, cluster="c2"))
    add_processes(store, a_process("7", T0 + 5))
    assert found(store, Runs(), ["7"]) == {key: [] for key in found(store, Runs(), ["7"])}


def test_a_run_that_was_replaced_has_no_processes(store: Store) -> None:
    add(store, a_job("7", T0, T0 + HOUR, record_key="k"))
    add(store, a_job("7", T0, T0 + 2 * HOUR, record_key="k", logged_at=T0 + HOUR + 1))
    add_processes(store, a_process("7", T0 + HOUR + 1800))
    with store.reading() as connection:
        last = connection.scalar(select(func.max(job.c.id)))
    assert list(found(store, Runs(), ["7"]).values()) == [[last]]


FIRST = Month(2026, 3)
MONTHS = [FIRST + n for n in range(9)]


def test_only_the_months_of_a_period_are_looked_into(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.dialect.partitions is None:
        pytest.skip("SQLite has no partitions")
    for table in TABLES:
        add_partitions(store, table, MONTHS)
    for number, month in enumerate(MONTHS):
        at = month.start + 10 * DAY
        add(store, a_job(str(number), at, at + HOUR))
        add_processes(store, a_process(str(number), at + 5))
    month = MONTHS[3]
    with touched(store, monkeypatch) as seen, store.reading() as connection:
        span = Span(month.start, month.end - 1)
        run = runs_of_processes(connection, span).shared_out()
        rows = process.outerjoin(run, is_of_run(run))
        asked = select(func.count(run.c.run_id)).select_from(rows).where(span.has(process.c.logged_at))
        assert connection.scalar(asked) == 1
    assert seen["process"] == {str(month)}
    assert seen["job"] <= {str(one) for one in MONTHS[3:6]}


def test_components_of_a_heterogeneous_job_have_their_own_processes(store: Store) -> None:
    """They run at one time, under one `join_id`; what names none is of the first. One that runs again is a run of its own."""
    components = (a_job("50", T0, T0 + HOUR, lrms_job_id=f"50+{n}") for n in range(3))
    add(store, *components, a_job("50", T0 + DAY, T0 + DAY + HOUR, lrms_job_id="50+1"))
    shown = ("50+0", "50+1", "50+2", "50", "50+7")
    add_processes(store, *(a_process("50", T0 + 60, lrms="Slurm", lrms_job_id=one, record_key=one) for one in shown))
    add_processes(store, a_process("50", T0 + DAY - 5, lrms="Slurm", lrms_job_id="50+1", record_key="later"))
    with store.reading() as connection:
        ran = {row.id: (row.lrms_job_id, row.start_at) for row in connection.execute(select(job))}
    of = {key: [ran[number] for number in numbers] for key, numbers in found(store, Runs(), ["50"]).items()}
    assert of == {
        "50+0": [("50+0", T0)], "50+1": [("50+1", T0)], "50+2": [("50+2", T0)], "50": [("50+0", T0)], "50+7": [],
        "later": [("50+1", T0 + DAY)],
    }  # fmt: skip
