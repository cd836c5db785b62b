"""Which run of which job a process was of: the one join of processes with jobs, which everything here asks by.

A process carries the id of its job, and ids come again: after a wrap, on a requeue, for each element of an array. So a process is
of the run of that id (cluster, `join_id`, `array_index`) which its start falls to. Time is shared out among the runs of an id:

- of the runs that had started, the one that started last has it, if it was still running;
- else that run or the next one, whichever is nearer (the one before if both are as near), within `SLACK_S`: the clocks of nodes
  differ from that of the batch system, prologues run before a job starts and epilogues after it;
- what is further away from any run is of none.

So a process is of one run or of none, whatever the records say. Only its start counts: what a job leaves behind is still of it.
Runs of one id do not overlap. The components of a heterogeneous Slurm job, `12+0`, `12+1` and so on, have one `join_id`, and run at
one time: they are told apart by the job's id as it is shown, and what is shown without a component is of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Subquery, and_, case, func, select

from batchacct.ledger.whose import VO_OF_JOB, with_ledger
from batchacct.store.spans import LATE, NEVER, Period, Span, has_partitions, when_ended
from batchacct.store.tables import job, process, seen_hour

SLACK_S = 300
"""How long before its start or after its end a process of a run may have started, by the clock of the node."""

EVERYWHERE = Period()
NEAR_S = 3 * SLACK_S
"""Runs that are further away than this from a process neither have it nor bound the time of one that has."""
_NO_INDEX = -1
SLURM, _FIRST = "Slurm", "+0"
_OF_JOB = ("logged_at", "cluster", "join_id", "array_index", "lrms_job_id", "user_name", "start_at", "end_at", "cpu_duration_s")


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs that processes may be of which started from `first` to `last` (Unix seconds; None: no bound).

    `period` tells where in the database their records are; `which` are further conditions, which have to hold for all runs of an id
    or for none of them, as these share time; `more` are columns of `batchacct.ledger.whose.with_ledger` beside the usual ones.
    """

    first: int | None = None
    last: int | None = None
    period: Period = EVERYWHERE
    which: ColumnElement[bool] | None = None
    more: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)

    def shared_out(self) -> Subquery:
        """A row a run: `run_id`, columns of the job, `vo`, and from when to before when (`from_at`, `until_at`) starts are its."""
        one_id = (job.c.cluster, job.c.join_id, func.coalesce(job.c.array_index, _NO_INDEX), _component(job))
        in_order = (job.c.start_at, job.c.end_at, job.c.id)
        timed = (
            select(
                job.c.id.label("run_id"),
                *(job.c[name] for name in _OF_JOB),
                _component(job).label("component"),
                VO_OF_JOB.label("vo"),
                *(column.label(name) for name, column in self.more.items()),
                func.lag(job.c.end_at).over(partition_by=one_id, order_by=in_order).label("ended_before"),
                func.lead(job.c.start_at).over(partition_by=one_id, order_by=in_order).label("started_after"),
            )
            .select_from(with_ledger(self.period))
            .where(*self._conditions())
            .subquery("timed")
        )
        since, until = _border(timed.c.ended_before, timed.c.start_at), _border(timed.c.end_at, timed.c.started_after)
        first, last = timed.c.start_at - SLACK_S, timed.c.end_at + SLACK_S + 1
        return select(
            *(column for column in timed.c if column.name not in {"ended_before", "started_after"}),
            case((since > first, since), else_=first).label("from_at"),
            case((until < last, until), else_=last).label("until_at"),
        ).subquery("run")

    def _conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [job.c.superseded_by.is_(None), job.c.start_at.is_not(None), job.c.end_at.is_not(None)]
        found.append(self.period.logged.has(job.c.logged_at))
        if self.first is not None:
            found.append(job.c.end_at >= self.first - NEAR_S)
        if self.last is not None:
            found.append(job.c.start_at <= self.last + NEAR_S)
        return found if self.which is None else [*found, self.which]


def _border(end: ColumnElement[Any], start: ColumnElement[Any]) -> ColumnElement[Any]:
    """The first instant that is of the later of two runs of an id; null if there is only one of them."""
    return case((end >= start, start), else_=(end + start) // 2 + 1)


def _component(rows: FromClause) -> ColumnElement[Any]:
    """The id of a component of a heterogeneous job but the first; the same of all else."""
    shown = rows.c.lrms_job_id
    return case((and_(rows.c.lrms == SLURM, shown.like("%+%"), shown.notlike("%+0")), shown), else_=_FIRST)


def is_of_run(run: FromClause, rows: FromClause = process) -> ColumnElement[bool]:
    """Whether a row of `process` is of a row of `Runs.shared_out`; of one at most."""
    return and_(
        rows.c.cluster == run.c.cluster,
        rows.c.join_id == run.c.join_id,
        func.coalesce(rows.c.array_index, _NO_INDEX) == func.coalesce(run.c.array_index, _NO_INDEX),
        _component(rows) == run.c.component,
        rows.c.started_at >= run.c.from_at,
        rows.c.started_at < run.c.until_at,
    )


def runs_of_processes(connection: Connection, logged: Span) -> Runs:
    """The runs of the processes that were logged in a span."""
    of_jobs = (process.c.join_id.is_not(None), logged.has(process.c.logged_at))
    first, last = connection.execute(select(func.min(process.c.started_at), func.max(process.c.started_at)).where(*of_jobs)).one()
    if first is None:
        return Runs(1, 0, Period(NEVER, NEVER))
    return Runs(first, last, where_runs_are(connection, first, last))


def where_runs_are(connection: Connection, first: int, last: int) -> Period:
    """Where in the database the runs are of processes that started from `first` to `last`.

    A run that had started by then was submitted by then, and how long jobs took from submission to the log is known for each hour.
    One of more than `LATE` whose record does not tell when it was submitted is not looked for beyond that.
    """
    period = when_ended(connection, first - NEAR_S, None, identities=True)
    if not has_partitions(connection) or period.logged is NEVER:
        return period
    begun = last + NEAR_S
    newest = connection.scalar(select(func.max(seen_hour.c.last_at)).where(seen_hour.c.first_at - seen_hour.c.longest_s <= begun))
    bound = max(begun + LATE, newest or 0)
    known = period.logged.last
    return Period(Span(period.logged.first, bound if known is None else min(bound, known)), period.identities)
