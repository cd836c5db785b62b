"""The outbox: usage becomes messages, kept in the store before they leave; marked confirmed when the transport has said so."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, CompoundSelect, Connection, and_, delete, exists, insert, select, union_all, update

from batchacct.config import Config, Publish
from batchacct.crashpoints import crash_point
from batchacct.errors import ConfigError, PublishError
from batchacct.model import INTEGER
from batchacct.store.dialects import Dialect
from batchacct.store.spans import of_rows
from batchacct.store.tables import job, left_out, message, refusal, setting, usage
from pub.formats.contract import Format
from pub.payload import packed
from pub.usage_records import gathered_for, gathering, usage_records

log = logging.getLogger(__name__)

RECORDS_PER_STEP = 5_000
"""About how many records are built into messages in one transaction; memory grows with it."""

STEPS_SOUGHT = 100
"""The jobs of so many steps are sought at once: a database that walks no index in the order wanted sorts all there are for it."""

Reading = Callable[[], AbstractContextManager[Connection]]
"""A connection to read with, for a while."""

_GO_OUT = ("joined", "local")
_JOB_IDS = pa.schema([("job_id", INTEGER)])


@dataclass
class Published:
    """What a run did: records and messages built, records refused by reason, optional values left out, messages confirmed."""

    records: int = 0
    messages: int = 0
    confirmed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Batch:
    """Usage records on their way into messages, in the order of their jobs: rows of the ledger, and what a format is to write."""

    jobs: pa.Int64Array
    records: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Outbox:
    """Builds the messages of one destination."""

    config: Config
    dialect: Dialect
    format: Format
    now: int

    def batches(self, reading: Reading) -> Iterator[Batch]:
        """All records that go out and have not, a step's worth at a time; each step is read for itself.

        A record that is refused is not met again: the steps only go forward.
        """
        bunch = self.config.publish.bunch
        step = max(RECORDS_PER_STEP // bunch, 1) * bunch
        after = 0
        while True:
            with reading() as connection:
                found = self.dialect.fetch(connection, _unsent_jobs(after, STEPS_SOUGHT * step), _JOB_IDS).column(0)
            for start in range(0, len(found), step):
                last = found[min(start + step, len(found)) - 1].as_py()
                yield self._gathered(reading, after, last)
                after = last
            if len(found) < STEPS_SOUGHT * step:
                return

    def _gathered(self, reading: Reading, after: int, last: int) -> Batch:
        rows = _unsent(after, last).subquery()
        with reading() as connection:
            logged, recorded = (of_rows(connection, rows, rows.c[name]) for name in ("logged_at", "identity_at"))
            query = gathering(rows, self.config, logged, recorded, self.format.wants)
            gathered = self.dialect.fetch(connection, query, gathered_for(self.format.wants))
        jobs = cast("pa.Int64Array", gathered.column("job_id"))
        if (np.diff(jobs.to_numpy()) < 0).any():
            gathered = gathered.take(pc.sort_indices(jobs))
        return Batch(cast("pa.Int64Array", gathered.column("job_id")), usage_records(gathered, self.config))

    def store(self, connection: Connection, batch: Batch, done: Published, *, dry_run: bool = False) -> None:
        """Renders the records, and puts them into messages; what is refused is noted by itself.

        In a dry run, which is undone, no message is stored: the numbers of messages are not given back where a database counts.
        """
        rendered = self.format.render(batch.records, self.now)
        _note_left_out(connection, rendered.left_out)
        done.left_out.update(rendered.left_out)
        jobs, texts = batch.jobs, rendered.records
        if texts.null_count:
            self._store_refusals(connection, jobs.filter(texts.is_null()), rendered.reasons.drop_null(), done)
            jobs, texts = jobs.filter(texts.is_valid()), texts.drop_null()
        bunch = self.config.publish.bunch
        for start in range(0, len(jobs), bunch):
            if not dry_run:
                self._store_message(connection, jobs.slice(start, bunch), texts.slice(start, bunch))
            done.messages += 1
        done.records += len(jobs)
        crash_point("build.before-commit")

    def _store_refusals(self, connection: Connection, jobs: pa.Int64Array, reasons: pa.StringArray, done: Published) -> None:
        rows = [
            {"job_id": number, "reason": reason, "refused_at": self.now}
            for number, reason in zip(jobs.to_pylist(), reasons.to_pylist(), strict=True)
        ]
        connection.execute(insert(refusal), rows)
        done.refused.update(cast("list[str]", reasons.to_pylist()))

    def _store_message(self, connection: Connection, jobs: pa.Int64Array, texts: pa.Array[Any]) -> None:
        values = {
            "destination": self.config.publish.transport,
            "format": self.format.name,
            "records": len(jobs),
            "created_at": self.now,
            "payload": packed(self.format.message(texts)),
        }
        key = connection.execute(insert(message).values(values)).inserted_primary_key
        assert key is not None
        in_range = usage.c.job_id.between(jobs[0].as_py(), jobs[-1].as_py())
        unsent = and_(usage.c.message_id.is_(None), ~exists().where(refusal.c.job_id == usage.c.job_id))
        marked = connection.execute(update(usage).where(usage.c.outcome.in_(_GO_OUT), in_range, unsent).values(message_id=key[0]))
        if marked.rowcount != len(jobs):
            raise PublishError(f"message {key[0]} has {len(jobs)} records, but {marked.rowcount} were to be marked: run again")


def _unsent_jobs(after: int, limit: int) -> CompoundSelect[Any]:
    """The first jobs above `after` that go out and have not."""
    walks = union_all(*(select(usage.c.job_id).where(_goes_out(outcome), usage.c.job_id > after) for outcome in _GO_OUT))
    return walks.order_by(walks.selected_columns.job_id).limit(limit)


def _unsent(after: int, last: int) -> CompoundSelect[Any]:
    """The rows of `usage` that go out and have not, for the jobs above `after` up to `last`, mostly in the order of their jobs.

    One walk an outcome, each along the index in the order wanted: asked for both at once, a database would sort.
    """
    within = and_(usage.c.job_id > after, usage.c.job_id <= last)
    walks = union_all(*(select(usage).where(_goes_out(outcome), within) for outcome in _GO_OUT))
    return walks.order_by(walks.selected_columns.job_id)


def _goes_out(outcome: str) -> ColumnElement[bool]:
    return and_(usage.c.outcome == outcome, usage.c.message_id.is_(None))


def _note_left_out(connection: Connection, counts: Mapping[str, int]) -> None:
    for what, records in counts.items():
        known = connection.execute(update(left_out).where(left_out.c.what == what).values(records=left_out.c.records + records))
        if not known.rowcount:
            connection.execute(insert(left_out).values(what=what, records=records))


def keep_template(connection: Connection, settings: Publish, now: int) -> None:
    """LocalJobId is part of the receiver's key: its templates are fixed once records are in messages under them.

    Raises: ConfigError if they have changed since.
    """
    templates = json.dumps([settings.local_job_id, settings.local_job_id_array])
    fixed = connection.scalar(select(setting.c.value).where(setting.c.name == "local_job_id"))
    if fixed is None:
        connection.execute(insert(setting).values(name="local_job_id", value=templates, since=now))
    elif fixed != templates and connection.scalar(select(message.c.id).limit(1)) is None:
        connection.execute(update(setting).where(setting.c.name == "local_job_id").values(value=templates, since=now))
    elif fixed != templates:
        was = json.loads(fixed)
        raise ConfigError(
            f"records were published with local_job_id = {was[0]!r} and local_job_id_array = {was[1]!r}; with others the receiver "
            "would count them again. Set them back in [publish]"
        )


def retry_refused(connection: Connection) -> None:
    """Forgets the refusals, so that this run tries those records again: a corrected setting or clock may have mended them.

    Of an archived job the refusal stands: it would have to be recalled first.
    """
    logged = of_rows(connection, refusal.join(usage, usage.c.job_id == refusal.c.job_id), usage.c.logged_at)
    connection.execute(delete(refusal).where(exists().where(job.c.id == refusal.c.job_id, logged.has(job.c.logged_at))))
