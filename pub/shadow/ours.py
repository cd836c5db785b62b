"""Our side: what would be published of the jobs that ended in a period, by the very join and format that publish it, all undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
from sqlalchemy import Connection, and_, exists, func, select

from batchacct.clock import unix_now
from batchacct.config import Config
from batchacct.store import Store
from batchacct.store.sent import GOES_OUT
from batchacct.store.spans import IS_OF_JOB, of_times, when_ended
from batchacct.store.tables import job, usage
from pub.command import LOCK, begun
from pub.formats.apel import FIELDS, checked
from pub.formats.text import Sheet
from pub.joining import Joiner
from pub.republishing import Period
from pub.shadow.record import Record, as_kept
from pub.shadow.spool import Spool
from pub.usage_records import GATHERED, gathering, usage_records

RECORDS_AT_ONCE = 5_000


@dataclass
class NotOut:
    """What of the period goes out as no record: jobs by (outcome, reason), and records that the format refuses, by reason."""

    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class _Undo(Exception):  # noqa: N818 - ends a transaction that is only to be looked at
    pass


def spool_ours(store: Store, config: Config, period: Period, spool: Spool) -> NotOut:
    """Puts our records of the period into the spool; jobs that are not joined yet are, and all of that is undone.

    Raises: BusyError if a publisher runs, ConfigError, StoreError.
    """
    not_out, now = NotOut(), unix_now()
    with store.lock(LOCK):
        try:
            with store.writing() as connection:
                joiner = Joiner.of(config, now)
                _, last_load = begun(connection, config, joiner, now)
                while joiner.step(connection, last_load) is not None:
                    pass
                for records in _records(store, connection, config, period):
                    spool.add(_taken(records, now, not_out))
                not_out.jobs = _not_going(connection, period)
                raise _Undo  # noqa: TRY301 - leaving by an exception is what rolls the transaction back
        except _Undo:
            pass
    return not_out


def _records(store: Store, connection: Connection, config: Config, period: Period) -> Iterator[pa.RecordBatch]:
    logged = when_ended(connection, period.since, period.until).logged
    of_period = and_(GOES_OUT, logged.has(usage.c.logged_at), exists().where(IS_OF_JOB, period.ended()))
    after = -1
    while True:
        numbers = select(usage.c.job_id).where(of_period, usage.c.job_id > after).order_by(usage.c.job_id).limit(RECORDS_AT_ONCE)
        found = connection.scalars(numbers).all()
        if not found:
            return
        rows = select(usage).where(of_period, usage.c.job_id.between(found[0], found[-1])).subquery()
        job_times, identity_times = of_times(connection, rows, rows.c.logged_at, rows.c.identity_at)
        gathered = store.dialect.fetch(connection, gathering(rows, config, job_times, identity_times), GATHERED)
        yield usage_records(gathered, config)
        after = found[-1]


def _taken(records: pa.RecordBatch, now: int, not_out: NotOut) -> Iterator[Record]:
    sheet = Sheet(records.num_rows)
    lines = {label: texts.to_pylist() for label, texts in checked(sheet, FIELDS, records, now).items()}
    for row, reason in enumerate(sheet.rendered([]).reasons.to_pylist()):
        if reason is None:
            yield as_kept({label: texts[row] for label, texts in lines.items()})
        else:
            not_out.refused[reason] += 1


def _not_going(connection: Connection, period: Period) -> Counter[tuple[str, str]]:
    logged = when_ended(connection, period.since, period.until).logged
    kinds = (usage.c.outcome, func.coalesce(usage.c.reason, ""))
    rows = select(*kinds, func.count()).select_from(usage.join(job, IS_OF_JOB))
    found = connection.execute(rows.where(~GOES_OUT, logged.has(usage.c.logged_at), period.ended()).group_by(*kinds))
    return Counter({(row[0], row[1]): int(row[2]) for row in found})
