"""Which months are closed, what still happens in them, and which records stay where they are when their month is archived."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, false, func, not_, or_, select, true

from batchacct.archive.months import month_of, next_month
from batchacct.clock import shown
from batchacct.config import Join
from batchacct.errors import IncompleteError
from batchacct.model import IDENTITY, PART, RECORD_TYPES, RecordType
from batchacct.store import sent
from batchacct.store.spans import IS_OF_IDENTITY, IS_OF_JOB
from batchacct.store.tables import (
    RECORD_TABLES,
    ROWS_PER_LOAD,
    identity,
    job,
    load,
    message,
    part,
    usage,
)

DAY = 86_400
SILENT_S = 45 * DAY
"""A clock that is so much later than the newest record is not believed."""
AROUND_S = 60 * DAY
"""Beside the windows of the join: an identity stays where a job is that is so much nearer to it than any window asks."""


def check_clock(connection: Connection, now: int) -> None:
    """Raises: IncompleteError if the clock is far from all that was read: with a wrong one everything would look old."""
    newest = connection.scalar(select(func.max(load.c.last_record_at)))
    if newest is None or abs(now - newest) <= SILENT_S:
        return
    before = connection.scalar(select(func.max(load.c.last_record_at)).where(load.c.last_record_at <= now))
    if before is None or now - before > SILENT_S:
        of = shown(newest if before is None else before)
        raise IncompleteError(
            f"by this host's clock it is {shown(now)}, but the newest record is of {of}: "
            "nothing was done. Set the clock; if it is right, and the farm has been silent for so long, say --clock-is-right"
        )


def month_with_records(
    connection: Connection, limit: int, record_types: Iterable[RecordType] = tuple(RECORD_TYPES.values())
) -> list[int]:
    """The months before `limit` of which there are records (of some types) in the tables, oldest first."""
    found = set()
    for record_type in record_types:
        at = RECORD_TABLES[record_type.name].c[record_type.time_column]
        first = connection.scalar(select(func.min(at)))
        while first is not None and first < limit:
            found.add(month_of(first))
            first = connection.scalar(select(func.min(at)).where(at >= next_month(month_of(first))))
    return sorted(found)


def closed_limit(now: int, keep_s: int, before: int | None = None) -> int:
    """The first month that is not closed: months before it ended `keep_s` ago at least, and are before `before`."""
    limit = month_of(max(now - keep_s, 0))
    return limit if before is None else min(limit, before)


def of_month(record_type: RecordType, month: int) -> ColumnElement[bool]:
    """The records of a type that are of a month."""
    at = RECORD_TABLES[record_type.name].c[record_type.time_column]
    return at.between(month, next_month(month) - 1)


def why_held(connection: Connection, month: int) -> list[str]:
    """What still happens to jobs and identities of a month, and keeps it where it is; nothing for one that is at rest."""
    mine = of_month(RECORD_TYPES["job"], month)
    awaited = [place for place in sent.places(connection) if place.retired_at is None]
    behind_all = and_(true(), *(place.passed(usage) for place in awaited)) if awaited else false()
    of_usage = select(func.count()).select_from(job.join(usage, IS_OF_JOB)).where(mine)
    lost = (
        select(func.count())
        .select_from(job.join(usage, IS_OF_JOB).outerjoin(identity, IS_OF_IDENTITY))
        .where(mine, usage.c.identity_id.is_not(None), identity.c.id.is_(None))
    )
    in_force = and_(mine, job.c.superseded_by.is_(None))
    reasons = [
        (select(func.count()).where(in_force, ~exists().where(usage.c.job_id == job.c.id)), "jobs are not joined yet"),
        (_of_open_loads("job", month), "job records are in loads that are not joined yet"),
        (_of_open_loads("identity", month), "identities are not joined yet"),
        (of_usage.where(usage.c.outcome == "waiting"), "jobs wait for their identity"),
        (of_usage.where(sent.GOES_OUT, ~behind_all), "jobs are not in a message yet"),
        (lost, "jobs are joined with identities that are not there: `batchacct audit` tells more"),
    ]
    names = [place.name for place in awaited]
    told = [f"{count:,} {what}" for query, what in reasons if (count := connection.scalar(query) or 0)]
    unsent = sum(
        _of_message(connection, one, month) for one in sent.sent(connection, sent.IS_OPEN, message.c.destination.in_(names))
    )
    return told + ([f"{unsent:,} jobs are in messages that were not handed over"] if unsent else [])


def _of_message(connection: Connection, one: sent.Sent, month: int) -> int:
    """How many jobs of a month are in a message."""
    count = 0
    for start in range(0, len(one.jobs), 1000):
        some = usage.c.job_id.in_(one.jobs[start : start + 1000].tolist())
        within = usage.c.logged_at.between(month, next_month(month) - 1)
        count += connection.scalar(select(func.count()).where(some, within)) or 0
    return count


def has_open_loads(connection: Connection, record_type: RecordType, month: int) -> bool:
    """Whether there are records of a month that came after the last join."""
    return record_type in (RECORD_TYPES["job"], IDENTITY) and bool(connection.scalar(_of_open_loads(record_type.name, month)))


def _of_open_loads(record_type: str, month: int) -> Select[Any]:
    table = RECORD_TABLES[record_type]
    first = load.c.id * ROWS_PER_LOAD
    rows = load.join(table, table.c.id.between(first, first + (ROWS_PER_LOAD - 1)))
    is_open = and_(load.c.joined_at.is_(None), load.c.record_type == record_type)
    return select(func.count()).select_from(rows).where(is_open, of_month(RECORD_TYPES[record_type], month))


def stays(record_type: RecordType, join: Join, limit: int, jobs: ColumnElement[bool]) -> ColumnElement[bool]:
    """The records that stay in their table though their month is archived, as what is in the tables needs them.

    An identity, where there is a job (of `jobs`) it is or could be joined with: it may be told at the first submission of a chain
    of runs, of which the last is of months later. A part, that waits for others, or whose record was made lately.
    """
    if record_type is IDENTITY:
        around = AROUND_S + max(join.submit_window, join.accept_before, join.accept_after, join.end_window)
        at = identity.c.recorded_at
        submitted, ended = func.coalesce(job.c.submit_at, job.c.start_at, job.c.logged_at), job.c.logged_at
        near = and_(at >= submitted - around, at <= ended + around)
        joined = exists().where(IS_OF_JOB, IS_OF_IDENTITY).correlate(job, identity)
        of_id = and_(job.c.join_id == identity.c.join_id, job.c.cluster == identity.c.cluster)
        return exists().where(of_id, or_(near, joined), jobs)
    if record_type is PART:
        return and_(part.c.superseded_by.is_(None), or_(part.c.used_at.is_(None), part.c.used_at >= limit))
    return false()


def going(record_type: RecordType, join: Join, month: int, limit: int, jobs: ColumnElement[bool]) -> ColumnElement[bool]:
    """The records of a month that leave their table, where `jobs` do not."""
    return and_(of_month(record_type, month), not_(stays(record_type, join, limit, jobs)))


def jobs_that_stay(limit: int, held: Iterable[int]) -> ColumnElement[bool]:
    """The jobs that will be left, once those of the closed months that are not held have gone."""
    return or_(job.c.logged_at >= limit, *(of_month(RECORD_TYPES["job"], month) for month in held))
