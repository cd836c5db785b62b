"""What the policy asks for and was not done yet: for whoever watches whether archiving and purging go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from batchacct.archive import closing
from batchacct.archive.holdings import Archived, archived
from batchacct.config import Config
from batchacct.model import JOB, OBJECT, PROCESS, PROCESS_GROUP, RECORD_TYPES, RecordType
from batchacct.store.tables import RECORD_TABLES


@dataclass(frozen=True, slots=True)
class Due:
    """Closed months whose jobs are in the database still, the newest archived one, and records that are there for too long.

    `overdue` has what is to be done with them; there is nothing for a part of the policy that is not set.
    """

    months: int
    last_month: int | None
    overdue: dict[str, int]


def read_due(connection: Connection, config: Config, now: int) -> Due:
    """Counted by months, along the index of the times: what of a purged month is left in the tables has no names."""
    policy = config.retention
    limit = closing.closed_limit(now, policy.keep)
    months = closing.month_with_records(connection, limit, [JOB])
    overdue = {"jobs to archive": _records_of(connection, JOB, months)}
    overdue["processes to archive"] = sum(
        _records_of(connection, kind, closing.month_with_records(connection, limit, [kind]))
        for kind in (PROCESS, OBJECT, PROCESS_GROUP)
    )
    there = [one for record_type in RECORD_TYPES.values() for one in archived(connection, record_type)]
    kept_from = 0
    if policy.archive_for is not None:
        kept_from = closing.closed_limit(now, policy.archive_for)
        overdue["records in files to delete"] = sum(one.sums.rows for one in there if one.month < kept_from)
    if policy.personal_data is not None:
        limit = closing.closed_limit(now, policy.personal_data)
        named = [one for one in there if kept_from <= one.month < limit and one.anonymised_at is None]
        overdue["records to take names out of"] = sum(one.sums.rows for one in named) + _named(connection, there, limit)
    last = max((one.month for one in there if one.record_type is JOB), default=None)
    return Due(len(months), last, overdue)


def _named(connection: Connection, there: Iterable[Archived], limit: int) -> int:
    """The records in the tables of the months before `limit` whose names were not taken out."""
    purged = {(one.record_type.name, one.month) for one in there if one.anonymised_at is not None}
    count = 0
    for record_type in RECORD_TYPES.values():
        months = closing.month_with_records(connection, limit, [record_type])
        count += _records_of(connection, record_type, [month for month in months if (record_type.name, month) not in purged])
    return count


def _records_of(connection: Connection, record_type: RecordType, months: Iterable[int]) -> int:
    table = RECORD_TABLES[record_type.name]
    counts = (select(func.count()).select_from(table).where(closing.of_month(record_type, month)) for month in months)
    return sum(connection.scalar(count) or 0 for count in counts)
