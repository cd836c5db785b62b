"""Runs of a requeued job whose batch system writes the time of the requeue for the time of submission: Slurm (sacct, `-D`).

The identity of such a job was told when it was first submitted, so the join looks for it around that time. A run is the next of
another one where it was submitted within an hour of the other's end, and the other was put back into the queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, MetaData, Row, Table, and_, exists, insert, select

from batchacct.store.columns import BigKey
from batchacct.store.spans import ANYTIME, Span, of_rows, when_ended
from batchacct.store.tables import job

LRMS = "Slurm"
PUT_BACK = ("requeued", "preempted", "node_fail")
WITHIN_S = 3600
IDS_PER_QUERY = 500

scratch = MetaData()
first_submit = Table(
    "first_submit",
    scratch,
    Column("job_id", BigKey, primary_key=True, autoincrement=False),
    Column("submit_at", BigInteger),
    prefixes=["TEMPORARY"],
)
"""For runs that continue others: when the first of them was submitted."""

_earlier = job.alias("earlier")


def note_first_submits(connection: Connection, todo: Table, logged: Span) -> None:
    """Fills `first_submit` for the runs of `LRMS` among `todo`, whose jobs were logged in that span."""
    of_lrms = todo.c.lrms == LRMS
    if connection.scalar(select(todo.c.job_id).where(of_lrms).limit(1)) is None:
        return
    submitted = of_rows(connection, todo, todo.c.submit_at, of_lrms)
    if submitted.first is not None and submitted.last is not None:
        before = when_ended(connection, submitted.first - WITHIN_S, submitted.last + WITHIN_S + 1).logged
    else:
        before = ANYTIME
    same_job = and_(_earlier.c.join_id == job.c.join_id, _earlier.c.cluster == job.c.cluster, _earlier.c.id != job.c.id)
    put_back = and_(
        _earlier.c.state.in_(PUT_BACK), _earlier.c.end_at.between(job.c.submit_at - WITHIN_S, job.c.submit_at + WITHIN_S)
    )
    continued = exists().where(same_job, put_back, before.has(_earlier.c.logged_at))
    runs = and_(job.c.id.in_(select(todo.c.job_id).where(of_lrms)), logged.has(job.c.logged_at))
    asked = connection.execute(select(job.c.id, job.c.join_id).where(runs, continued)).all()
    ids = sorted({row.join_id for row in asked})
    first: dict[int, int] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        of_jobs = select(job).where(
            job.c.join_id.in_(ids[start : start + IDS_PER_QUERY]), job.c.superseded_by.is_(None), job.c.lrms == LRMS
        )
        first |= _first_of_chains(connection.execute(of_jobs).all())
    rows = [{"job_id": row.id, "submit_at": first[row.id]} for row in asked if row.id in first]
    if rows:
        connection.execute(insert(first_submit), rows)


def _first_of_chains(runs: Iterable[Row[Any]]) -> dict[int, int]:
    """By record: the submit time of the run its chain begins with, for those that do not begin one."""
    by_job: dict[tuple[object, ...], list[Row[Any]]] = {}
    for run in runs:
        if run.submit_at is not None:
            by_job.setdefault((run.cluster, run.join_id, run.array_index), []).append(run)
    first: dict[int, int] = {}
    for of_job in by_job.values():
        ordered = sorted(of_job, key=lambda run: (run.submit_at, run.submit_at if run.end_at is None else run.end_at))
        for position, run in enumerate(ordered):
            before = _continued(run, ordered[:position])
            if before is not None:
                first[run.id] = first.get(before.id, before.submit_at)
    return first


def _continued(run: Row[Any], earlier: Sequence[Row[Any]]) -> Row[Any] | None:
    """The latest run that was put back into the queue when this one was submitted."""
    put_back = (e for e in reversed(earlier) if e.state in PUT_BACK and e.end_at is not None)
    return next((before for before in put_back if abs(run.submit_at - before.end_at) <= WITHIN_S), None)
