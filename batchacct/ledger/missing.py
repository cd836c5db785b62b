"""Rows that should be there and are not, or that do not fit, by name: the books tell that something is wrong, this tells what.

Months that are archived are left out: their records are not in the tables, and their files are checked when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, Table, and_, case, exists, func, or_, select, true
from sqlalchemy import false as never

from batchacct.archive.holdings import archived
from batchacct.archive.months import next_month
from batchacct.ledger.outgoing import NAMED, named
from batchacct.model import IDENTITY, JOB, PART, RecordType
from batchacct.store.spans import ANYTIME, IS_OF_IDENTITY, IS_OF_JOB, Span, when_logged
from batchacct.store.tables import (
    RECORD_TABLES,
    ROWS_PER_LOAD,
    ROWS_PER_LOAD_BITS,
    benchmark,
    identity,
    job,
    load,
    usage,
    vo_mapping,
)


def missing(connection: Connection, since: int, until: int) -> Iterator[str]:
    """What is missing of the jobs that were logged from `since` to before `until`, and of their identities; of loads, whenever."""
    of_period = usage.c.logged_at.between(since, until - 1)
    logged, recorded = job.c.logged_at.between(since, until - 1), when_logged(connection, since, until).identities
    no_job = and_(of_period, ~_in_archive(connection, JOB, usage.c.logged_at), ~exists().where(IS_OF_JOB, logged))
    lost = connection.scalars(select(usage.c.job_id).where(no_job).order_by(usage.c.job_id)).all()
    if lost:
        yield f"{len(lost):,} job records are in the ledger and not in their table: {_read_from(connection, lost[:NAMED])}"
    named_identity = and_(of_period, usage.c.identity_id.is_not(None), ~_in_archive(connection, IDENTITY, usage.c.identity_at))
    no_identity = ~exists().where(IS_OF_IDENTITY, recorded.has(identity.c.recorded_at))
    alone = select(usage.c.job_id, usage.c.identity_id).where(named_identity, no_identity)
    rows = connection.execute(alone.order_by(usage.c.job_id)).all()
    if rows:
        jobs = named(connection, [row.job_id for row in rows])
        where = _read_from(connection, [row.identity_id for row in rows[:NAMED]])
        yield f"{len(rows):,} jobs are joined with identities that are not in their table: {jobs}; {where}"
    joined = exists().where(load.c.id == _load_of(job), load.c.joined_at.is_not(None))
    in_force = and_(logged, job.c.superseded_by.is_(None))
    left = select(job.c.id).where(in_force, joined, ~exists().where(usage.c.job_id == job.c.id)).order_by(job.c.id)
    unknown = connection.scalars(left).all()
    if unknown:
        yield f"{len(unknown):,} jobs were joined and are not in the ledger: {named(connection, unknown)}"


def unfitting(connection: Connection, since: int, until: int) -> Iterator[str]:
    """What the ledger joins that does not belong together, or that is not there, of the jobs that were logged in a period."""
    of_period = usage.c.logged_at.between(since, until - 1)
    for what, table, column in (("VO mappings", vo_mapping, usage.c.mapping_id), ("benchmarks", benchmark, usage.c.benchmark_id)):
        gone = select(usage.c.job_id).where(of_period, column.is_not(None), ~exists().where(table.c.id == column))
        jobs = connection.scalars(gone.order_by(usage.c.job_id)).all()
        if jobs:
            yield f"{len(jobs):,} jobs have {what} that are not in their table: {named(connection, jobs)}"
    has_none = or_(
        and_(usage.c.outcome == "joined", usage.c.identity_id.is_(None)),
        and_(usage.c.outcome.in_(["local", "waiting"]), usage.c.identity_id.is_not(None)),
    )
    odd = connection.scalars(select(usage.c.job_id).where(of_period, has_none).order_by(usage.c.job_id)).all()
    if odd:
        yield f"{len(odd):,} jobs are joined without an identity, or have one and are not joined: {named(connection, odd)}"
    another = or_(
        identity.c.join_id != job.c.join_id,
        identity.c.cluster != job.c.cluster,
        and_(identity.c.array_index.is_not(None), identity.c.array_index.is_distinct_from(job.c.array_index)),
    )
    columns = (usage.c.job_id, identity.c.id, identity.c.lrms_job_id, identity.c.cluster)
    joined = usage.join(job, IS_OF_JOB).join(identity, IS_OF_IDENTITY)
    recorded = when_logged(connection, since, until).identities
    within = and_(of_period, job.c.logged_at.between(since, until - 1), recorded.has(identity.c.recorded_at))
    rows = connection.execute(select(*columns).select_from(joined).where(within, another).order_by(usage.c.job_id)).all()
    if rows:
        told = ", ".join(f"record {row.id} of job {row.lrms_job_id} on {row.cluster}" for row in rows[:NAMED])
        jobs = named(connection, [row.job_id for row in rows])
        yield f"{len(rows):,} jobs are joined with identities of other jobs: {jobs}; {told}"


def replaced_by_none(connection: Connection, record_type: RecordType, since: int, until: int) -> Iterator[str]:
    """Records that are out of force, and that no later revision has replaced."""
    table = RECORD_TABLES[record_type.name]
    newer, at = table.alias("newer"), record_type.time_column
    same = and_(newer.c[at] == table.c[at], newer.c.record_key == table.c.record_key, newer.c.revision > table.c.revision)
    same = and_(same, newer.c[at].between(since, until - 1))
    within = and_(table.c[at].between(since, until - 1), ~_in_archive(connection, record_type, table.c[at]))
    alone = select(table.c.id).where(within, table.c.superseded_by.is_not(None), ~exists().where(same))
    numbers = connection.scalars(alone.order_by(table.c.id)).all()
    if numbers:
        told = _read_from(connection, numbers[:NAMED])
        yield f"{len(numbers):,} {record_type.name} records are marked as replaced, and none has replaced them: {told}"


def wrong_of_loads(
    connection: Connection, record_type: RecordType, since: int | None = None, until: int | None = None
) -> Iterator[str]:
    """The loads of which there are other than as many records as they stored, and records that are of no load.

    Of all, or of those with records of a period. Loads with records of archived months are left out.
    """
    table = RECORD_TABLES[record_type.name]
    at, number = table.c[record_type.time_column], _load_of(table)
    said = load.c.merged if record_type is PART else load.c.recorded + load.c.completed
    of_type = load.c.record_type == record_type.name if record_type is not PART else load.c.merged > 0
    which = and_(of_type, _of_time(since, until), ~_reaches_archive(connection, record_type))
    untold = func.sum(case((load.c.first_row_at.is_(None), 1), else_=0))
    ends = (func.min(load.c.id), func.max(load.c.id), func.min(load.c.first_row_at), func.max(load.c.last_row_at), untold)
    first, last, begin, end, without = connection.execute(select(*ends).where(which)).one()
    if first is not None:
        ids = table.c.id.between(first << ROWS_PER_LOAD_BITS, ((last + 1) << ROWS_PER_LOAD_BITS) - 1)
        their = and_(ids, (ANYTIME if without else Span(begin, end)).has(at))
        counts = select(number.label("load_id"), func.count().label("there")).where(their).group_by(number).subquery()
        there = func.coalesce(counts.c.there, 0)
        columns = (load.c.id, load.c.source, load.c.path, load.c.start_offset, load.c.end_offset)
        query = select(*columns, said.label("said"), there.label("there")).where(which, said != there).order_by(load.c.id)
        rows = connection.execute(query.select_from(load.outerjoin(counts, counts.c.load_id == load.c.id))).all()
        for row in rows[:NAMED]:
            yield (
                f"load {row.id} of source {row.source} ({row.path}, bytes {row.start_offset} to {row.end_offset}) stored "
                f"{row.said:,} {record_type.name} records, {row.there:,} are there"
            )
        if len(rows) > NAMED:
            yield f"... and so have {len(rows) - NAMED:,} more loads"
    within = true() if since is None or until is None else at.between(since, until - 1)
    numbers = select(number.label("load_id"), func.min(table.c.id).label("first"), func.count().label("there"))
    groups = numbers.where(within).group_by(number).subquery()
    unknown = select(groups.c.first, groups.c.there).where(~exists().where(load.c.id == groups.c.load_id)).order_by(groups.c.first)
    for number_of_first, records in connection.execute(unknown.limit(NAMED)):
        yield f"{records:,} {record_type.name} records are of no load that there is: record {number_of_first} is the first of them"


def _of_time(since: int | None, until: int | None) -> ColumnElement[bool]:
    """The loads with rows of a period; what a collector of an older version has stored does not tell."""
    if since is None or until is None:
        return true()
    return or_(load.c.first_row_at.is_(None), and_(load.c.last_row_at >= since, load.c.first_row_at < until))


def _reaches_archive(connection: Connection, record_type: RecordType) -> ColumnElement[bool]:
    """The loads that may have had records of archived months."""
    months = [month.month for month in archived(connection, record_type)]
    if not months:
        return never()
    overlaps = (and_(load.c.last_row_at >= month, load.c.first_row_at < next_month(month)) for month in months)
    return or_(load.c.first_row_at.is_(None), *overlaps)


def _load_of(table: Table) -> ColumnElement[int]:
    """The load a record came with: the whole part of its number divided by the most rows a load can have."""
    return table.c.id // ROWS_PER_LOAD


def _in_archive(connection: Connection, record_type: RecordType, at: ColumnElement[int]) -> ColumnElement[bool]:
    months = [month.month for month in archived(connection, record_type)]
    return or_(never(), *(at.between(month, next_month(month) - 1) for month in months))


def _read_from(connection: Connection, records: Sequence[int]) -> str:
    """Records that are not there, by their numbers and the loads that brought them."""
    told = []
    for number in records:
        found = connection.execute(select(load.c.source, load.c.path).where(load.c.id == number >> ROWS_PER_LOAD_BITS)).first()
        told.append(f"record {number}" + ("" if found is None else f" (source {found.source}, {found.path})"))
    return ", ".join(told)
