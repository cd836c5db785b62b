"""Rows that should be there and are not, by name: the books tell that something is missing, this tells what.

Months that are archived are left out: their records are not in the tables, and their files are checked when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, Table, and_, exists, func, or_, select
from sqlalchemy import false as never

from batchacct.archive.holdings import archived
from batchacct.archive.months import next_month
from batchacct.ledger.outgoing import NAMED, named
from batchacct.model import IDENTITY, JOB, PART, RecordType
from batchacct.store.spans import IS_OF_IDENTITY, IS_OF_JOB, when_logged
from batchacct.store.tables import RECORD_TABLES, ROWS_PER_LOAD, ROWS_PER_LOAD_BITS, identity, job, load, usage


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


def missing_of_loads(connection: Connection, record_type: RecordType) -> Iterator[str]:
    """The loads of which there are other than as many records as they stored; nothing once some of that type are archived."""
    if archived(connection, record_type):
        return
    table = RECORD_TABLES[record_type.name]
    number = _load_of(table)
    counts = select(number.label("load_id"), func.count().label("there")).group_by(number).subquery()
    said = load.c.merged if record_type is PART else load.c.recorded + load.c.completed
    of_type = load.c.record_type == record_type.name if record_type is not PART else load.c.merged > 0
    there = func.coalesce(counts.c.there, 0)
    query = (
        select(
            load.c.id, load.c.source, load.c.path, load.c.start_offset, load.c.end_offset, said.label("said"), there.label("there")
        )
        .select_from(load.outerjoin(counts, counts.c.load_id == load.c.id))
        .where(of_type, said != there)
        .order_by(load.c.id)
    )
    rows = connection.execute(query).all()
    for row in rows[:NAMED]:
        yield (
            f"load {row.id} of source {row.source} ({row.path}, bytes {row.start_offset} to {row.end_offset}) stored {row.said:,} "
            f"{record_type.name} records, {row.there:,} are there"
        )
    if len(rows) > NAMED:
        yield f"... and so have {len(rows) - NAMED:,} more loads"


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
