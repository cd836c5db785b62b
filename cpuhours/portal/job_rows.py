"""Jobs one by one: those of a period, newest first and some at a time, those of an id, and one by the number of its record.

Jobs in the archive are found like those in the database. Whoever sees only the own jobs finds no other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from sqlalchemy import ColumnElement, Connection, FromClause, Select, func, or_, select

from batchacct.ledger.job_ids import JobId, naming
from batchacct.ledger.whose import VO_OF_JOB, with_ledger
from batchacct.store import Store
from batchacct.store.spans import Period, when_ended
from batchacct.store.tables import job, usage
from batchacct.usage.asking import answers
from batchacct.usage.dimensions import DIMENSIONS, OF_LEDGER, Where, named
from batchacct.usage.jobs import counted_jobs
from batchacct.usage.summing import within
from cpuhours.portal.viewers import Viewer

RUNS_SHOWN = 100
SCAN_S, SCANNED_AT_ONCE = 10.0, 1000
NUMBERS_AT_ONCE = 1000


class JobRow(NamedTuple):
    """A job as lists show it; instants in Unix seconds, times in seconds, None where it is not known."""

    id: int
    logged_at: int
    lrms_job_id: str
    array_index: int | None
    cluster: str | None
    queue: str | None
    user_name: str | None
    vo: str
    state: str
    outcome: str | None
    submit_at: int | None
    start_at: int | None
    end_at: int | None
    wall_duration_s: int | None
    cpu_duration_s: int | None
    processors: int | None
    exit_code: int | None
    exit_signal: int | None

    @property
    def shown_id(self) -> str:
        return self.lrms_job_id if self.array_index is None else f"{self.lrms_job_id}[{self.array_index}]"

    @property
    def efficiency(self) -> float | None:
        """CPU over core time."""
        if self.cpu_duration_s is None or not self.wall_duration_s or not self.processors:
            return None
        return self.cpu_duration_s / (self.wall_duration_s * self.processors)

    @property
    def place(self) -> tuple[int, int]:
        """Where it is in the order of the list."""
        return self.logged_at, self.id


_OF_LEDGER = {"vo": VO_OF_JOB, "outcome": usage.c.outcome}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Jobs that ended from `begin` to before `end` (Unix seconds) and are counted; `all_of_them`: those too that never started.

    `below`: those after a place in the list.
    """

    begin: int
    end: int
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    all_of_them: bool = False
    below: tuple[int, int] | None = None


def jobs_of(store: Store, viewer: Viewer, wanted: Wanted, limit: int) -> tuple[list[JobRow], tuple[int, int] | None]:
    """At most so many of the jobs, newest (by when they were logged) first, and the place to go on from; None: that was all.

    Patterns and hosts are decided here: it is looked for jobs until there are so many, or for `SCAN_S`; then there are fewer.
    """
    until = time.monotonic() + SCAN_S
    at_once = max(limit, SCANNED_AT_ONCE) if Where(wanted.where).inexact else limit
    found, place = _looked_at(store, viewer, wanted, at_once)
    while place is not None and len(found) < limit and time.monotonic() < until:
        more, place = _looked_at(store, viewer, replace(wanted, below=place), at_once)
        found += more
    return found[:limit], found[limit - 1].place if len(found) > limit else place


def _looked_at(store: Store, viewer: Viewer, wanted: Wanted, limit: int) -> tuple[list[JobRow], tuple[int, int] | None]:
    """Those that are meant of so many jobs that may be, and the place of the last of these, if there are more."""
    where = Where(wanted.where)
    ended = func.coalesce(job.c.end_at, job.c.logged_at) if wanted.all_of_them else job.c.end_at
    counted = [job.c.superseded_by.is_(None)] if wanted.all_of_them else counted_jobs()
    conditions = [*counted, *within(ended, wanted.begin, wanted.end), *where.conditions(), *_on_hosts(wanted.where)]
    if wanted.below is not None:
        at, number = wanted.below
        conditions += [job.c.logged_at <= at, or_(job.c.logged_at < at, job.c.id < number)]
    of_ledger = not OF_LEDGER.isdisjoint(where.dimensions)
    statement = partial(_statement, viewer, conditions, more=where.inexact, limit=limit + 1, of_ledger=of_ledger)

    def period(connection: Connection) -> Period:
        return Period() if wanted.all_of_them else when_ended(connection, wanted.begin, wanted.end)

    (rows,) = answers(store, [statement], period)
    rows.sort(key=lambda row: (-row[1], -row[0]))
    kept = _kept(rows[:limit], where)
    place = (rows[limit - 1][1], rows[limit - 1][0]) if len(rows) > limit else None
    return kept, place


def _on_hosts(where: Mapping[str, Sequence[str]]) -> list[ColumnElement[bool]]:
    """What the database can say of hosts, of which `_kept` decides: that the name is somewhere in the list."""
    names = where.get("host", ())
    if not names or any("%" in name or name.startswith("(") for name in names):
        return []
    return [or_(*(job.c.exec_hosts.contains(name, autoescape=True) for name in names))]


def _kept(rows: Sequence[tuple[Any, ...]], where: Where) -> list[JobRow]:
    width = len(JobRow._fields)
    if where.inexact and rows:
        texts = pd.DataFrame([row[width:] for row in rows], columns=where.inexact)
        rows = [rows[number] for number in where.keep(named(texts)).index]
    return [JobRow(*row[:width]) for row in rows]


def _own(viewer: Viewer) -> list[ColumnElement[bool]]:
    """Which jobs a viewer may see."""
    if not viewer.own_only:
        return []
    mine = [job.c.user_name.in_(viewer.accounts)]
    mine += [DIMENSIONS["identity"].in_(viewer.identities)] if viewer.identities else []
    return [or_(*mine)]


def _statement(
    viewer: Viewer,
    conditions: Sequence[ColumnElement[bool]],
    period: Period,
    *,
    limit: int,
    more: Sequence[str] = (),
    of_ledger: bool = False,
) -> Select[Any]:
    """The newest few jobs, and only then what the ledger says of them, unless the conditions are `of_ledger`.

    The few have all that is told of a job: were they joined with `job` for it, PostgreSQL would take them for thousands, and read
    every identity there is.
    """
    own = _own(viewer)
    rows: FromClause = with_ledger(period) if of_ledger or (viewer.own_only and viewer.identities) else job
    few = (
        select(*(job.c[name] for name in JobRow._fields if name not in _OF_LEDGER))
        .add_columns(*(DIMENSIONS[name].label(f"is_{name}") for name in more))
        .select_from(rows)
        .where(*conditions, *own, period.logged.has(job.c.logged_at))
        .order_by(job.c.logged_at.desc(), job.c.id.desc())
        .limit(limit)
        .subquery("few")
    )
    columns = [_OF_LEDGER[name].label(name) if name in _OF_LEDGER else few.c[name] for name in JobRow._fields]
    texts = [few.c[f"is_{name}"] for name in more]
    return select(*columns, *texts).select_from(with_ledger(period, few)).order_by(few.c.logged_at.desc(), few.c.id.desc())


def runs_named(store: Store, viewer: Viewer, job_id: JobId) -> list[JobRow]:
    """The runs of a job that a viewer may see, newest first."""
    for condition in naming(job_id):
        if found := _sorted(store, viewer, condition, RUNS_SHOWN):
            return found[:RUNS_SHOWN]
    return []


def _sorted(store: Store, viewer: Viewer, which: ColumnElement[bool], limit: int) -> list[JobRow]:
    (rows,) = answers(store, [partial(_statement, viewer, [which], limit=limit)], lambda _: Period())
    return sorted((JobRow(*row) for row in rows), key=lambda row: row.place, reverse=True)


def job_numbered(store: Store, viewer: Viewer, number: int) -> JobRow | None:
    """The job of a record; None if there is none that this viewer may see."""
    found = jobs_numbered(store, viewer, [number])
    return found[0] if found else None


def jobs_numbered(store: Store, viewer: Viewer, numbers: Sequence[int]) -> list[JobRow]:
    """The jobs of some records, as far as a viewer may see them, newest first."""
    found: list[JobRow] = []
    for start in range(0, len(numbers), NUMBERS_AT_ONCE):
        some = list(numbers[start : start + NUMBERS_AT_ONCE])
        found += _sorted(store, viewer, job.c.id.in_(some), len(some))
    return sorted(found, key=lambda row: row.place, reverse=True)
