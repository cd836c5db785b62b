"""The outbox: usage becomes messages, kept in the store before they leave; marked confirmed when the transport has said so.

A destination goes through the ledger in the order of its rows (`batchacct.store.sent`). What a message holds is written with it,
and how far the destination has come, in one transaction; the ledger itself is not written to.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, cast

import numpy as np
import pyarrow as pa
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    union_all,
    update,
)

from batchacct.config import Config, Destination, Publish
from batchacct.crashpoints import crash_point
from batchacct.errors import ConfigError
from batchacct.model import INTEGER
from batchacct.store import sent
from batchacct.store.dialects import Dialect
from batchacct.store.imports import published_elsewhere
from batchacct.store.payload import digest_of, packed
from batchacct.store.sent import ELSEWHERE, GO_OUT, NOT_FOR_IT, NOT_THERE, REFUSED, UNCHANGED, Numbers, Place
from batchacct.store.spans import of_times
from batchacct.store.tables import destination, kept_back, left_out, message, setting, usage, usage_history
from pub.destinations import is_for
from pub.formats.contract import Format
from pub.usage_records import gathered_for, gathering, usage_records

log = logging.getLogger(__name__)

RECORDS_PER_STEP = 5_000
"""About how many records are built into messages in one transaction; memory grows with it."""

SLICES_SOUGHT = 100
"""The rows of so many transactions are sought at once: a database that walks no index in the order wanted sorts all for it."""

RANGES_AT_ONCE = 30
"""A transaction is over rows of so many steps of the join at most, each a range of jobs."""

Reading = Callable[[], AbstractContextManager[Connection]]
"""A connection to read with, for a while."""

NO_JOB = "its job record is archived: after `batchacct db recall`, `batchacct republish` sends it"

_NEWEST = select(message.c.created_at).where(message.c.id == select(func.max(message.c.id)).scalar_subquery())
"""A message is named by its time: where a clock was set back, none comes before an older one."""

_NO_ROWS: Numbers = np.empty(0, np.int64)
_SOUGHT = pa.schema([("step", INTEGER), ("job_id", INTEGER)])


@dataclass
class Published:
    """What a run did: records and messages built, records refused by reason, optional values left out, messages confirmed.

    `not_for_it`: records that the destination's filter passed over; `elsewhere`: those that another program has published.
    """

    records: int = 0
    messages: int = 0
    confirmed: int = 0
    not_for_it: int = 0
    elsewhere: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Batch:
    """Usage records on their way into messages, in the order of their rows in the ledger.

    `gathered` is what they are made of, by whoever asks for them: the thread that reads is to go on with the next.

    `missing`: steps and jobs of rows whose job record is not there. `ends_at`: the last row (step, job) that was looked at; None if
    they are some that were refused before.
    """

    steps: Numbers
    jobs: Numbers
    gathered: pa.RecordBatch
    config: Config
    missing: tuple[Numbers, Numbers]
    ends_at: tuple[int, int] | None

    @cached_property
    def records(self) -> pa.RecordBatch:
        return usage_records(self.gathered, self.config)


@dataclass(frozen=True, slots=True)
class Outbox:
    """Builds the messages of one destination."""

    config: Config
    destination: Destination
    dialect: Dialect
    format: Format
    now: int

    @property
    def name(self) -> str:
        return self.destination.name

    @property
    def _per_step(self) -> int:
        bunch = self.destination.bunch
        return max(RECORDS_PER_STEP // bunch, 1) * bunch

    def batches(self, reading: Reading) -> Iterator[Batch]:
        """All records that go out and have not, a step's worth at a time; each is read for itself.

        First those that were refused before: a corrected setting or clock may have mended them.
        """
        with reading() as connection:
            place = place_of(connection, self.name)
            skips = connection.scalar(
                select(func.count()).where(kept_back.c.destination == self.name, kept_back.c.kind == UNCHANGED)
            )
        yield from self._refused_before(reading)
        step, job_id = place.step, place.job_id
        limit = SLICES_SOUGHT * self._per_step
        wanted = ~sent.is_kept(self.name, UNCHANGED) if skips else true()
        while True:
            with reading() as connection:
                found = self.dialect.fetch(connection, _ahead(step, job_id, wanted, limit), _SOUGHT)
            steps, jobs = numbers(found, "step"), numbers(found, "job_id")
            for start, end in slices(steps, self._per_step):
                sought = steps[start:end], jobs[start:end]
                step, job_id = int(steps[end - 1]), int(jobs[end - 1])
                yield self.gathered(reading, and_(or_(*ranges(*sought)), wanted), sought, (step, job_id))
            if found.num_rows < limit:
                return

    def _refused_before(self, reading: Reading) -> Iterator[Batch]:
        """The records that the format refused so far, of rows that are in the ledger still and jobs that are in their table."""
        after = -1
        while True:
            with reading() as connection:
                refused = select(kept_back.c.job_id).where(
                    kept_back.c.destination == self.name, kept_back.c.kind == REFUSED, kept_back.c.job_id > after
                )
                jobs = connection.scalars(refused.order_by(kept_back.c.job_id).limit(self._per_step)).all()
            if not jobs:
                return
            again = and_(usage.c.job_id.between(jobs[0], jobs[-1]), sent.is_kept(self.name, REFUSED))
            yield self.gathered(reading, again, (_NO_ROWS, _NO_ROWS), None)
            after = jobs[-1]

    def gathered(
        self,
        reading: Reading,
        which: ColumnElement[bool],
        sought: tuple[Numbers, Numbers],
        ends_at: tuple[int, int] | None,
    ) -> Batch:
        rows = _that_go_out(select(usage).where(which)).subquery()
        schema = gathered_for(self.format.wants)
        with reading() as connection:
            logged, recorded = of_times(connection, rows, rows.c.logged_at, rows.c.identity_at)
            gathered = self.dialect.fetch(connection, gathering(rows, self.config, logged, recorded, self.format.wants), schema)
        steps, jobs = numbers(gathered, "step"), numbers(gathered, "job_id")
        order = np.lexsort((jobs, steps))
        if (np.diff(order) != 1).any():
            gathered, steps, jobs = gathered.take(pa.array(order, INTEGER)), steps[order], jobs[order]
        is_missing = ~np.isin(sought[1], jobs)
        missing = sought[0][is_missing], sought[1][is_missing]
        return Batch(steps, jobs, gathered, self.config, missing, ends_at)

    def store(self, connection: Connection, batch: Batch, done: Published, *, dry_run: bool = False) -> None:
        """Renders the records, and puts them into messages; what is refused is noted by itself.

        In a dry run, which is undone, no message is stored: the numbers of messages are not given back where a database counts.
        """
        if batch.ends_at is None:
            self._forget_refusals(connection, batch.jobs)
        else:
            sent.move_to(connection, self.name, *batch.ends_at)
        self._keep_back(connection, NOT_THERE, *batch.missing, [NO_JOB] * len(batch.missing[1]))
        done.refused.update([NO_JOB] * len(batch.missing[1]))
        steps, jobs, records = batch.steps, batch.jobs, batch.records
        if told := published_elsewhere(connection, jobs):
            gone = np.isin(jobs, list(told))
            self._keep_back(connection, ELSEWHERE, steps[gone], jobs[gone], [told[number] for number in jobs[gone].tolist()])
            done.elsewhere += len(told)
            steps, jobs, records = steps[~gone], jobs[~gone], records.take(pa.array(np.flatnonzero(~gone), INTEGER))
        if (mask := is_for(self.destination, records)) is not None:
            self._keep_back(connection, NOT_FOR_IT, steps[~mask], jobs[~mask], None)
            done.not_for_it += int((~mask).sum())
            steps, jobs, records = steps[mask], jobs[mask], records.take(pa.array(np.flatnonzero(mask), INTEGER))
        rendered = self.format.render(records, self.now)
        _note_left_out(connection, rendered.left_out)
        done.left_out.update(rendered.left_out)
        texts = rendered.records
        if texts.null_count:
            taken = texts.is_valid().to_numpy(zero_copy_only=False)
            reasons = cast("list[str]", rendered.reasons.drop_null().to_pylist())
            self._keep_back(connection, REFUSED, steps[~taken], jobs[~taken], reasons)
            done.refused.update(reasons)
            steps, jobs, texts = steps[taken], jobs[taken], texts.drop_null()
        bunch = self.destination.bunch
        created_at = max(self.now, connection.scalar(_NEWEST) or 0)
        for start in range(0, len(jobs), bunch):
            if not dry_run:
                within = slice(start, start + bunch)
                self._store_message(connection, created_at, steps[within], jobs[within], texts.slice(start, bunch))
            done.messages += 1
        done.records += len(jobs)
        crash_point("build.before-commit")

    def _forget_refusals(self, connection: Connection, jobs: Numbers) -> None:
        numbers = jobs.tolist()
        for start in range(0, len(numbers), 1000):
            of_these = kept_back.c.job_id.in_(numbers[start : start + 1000])
            current = exists().where(usage.c.job_id == kept_back.c.job_id, usage.c.step == kept_back.c.step)
            mine = and_(kept_back.c.destination == self.name, kept_back.c.kind == REFUSED)
            connection.execute(delete(kept_back).where(mine, of_these, current))

    def _keep_back(self, connection: Connection, kind: str, steps: Numbers, jobs: Numbers, reasons: Sequence[str] | None) -> None:
        said = [kind] * len(jobs) if reasons is None else reasons
        rows = [
            {"destination": self.name, "job_id": number, "step": step, "kind": kind, "reason": reason, "since": self.now}
            for step, number, reason in zip(steps.tolist(), jobs.tolist(), said, strict=True)
        ]
        if rows:
            connection.execute(insert(kept_back), rows)

    def _store_message(self, connection: Connection, created_at: int, steps: Numbers, jobs: Numbers, texts: pa.Array[Any]) -> None:
        payload = self.format.message(texts)
        values = {
            "destination": self.name,
            "format": self.format.name,
            "records": len(jobs),
            "jobs": sent.packed_rows(steps, jobs),
            "first_job": int(jobs.min()),
            "last_job": int(jobs.max()),
            "created_at": created_at,
            "payload": packed(payload),
            "digest": digest_of(payload),
        }
        connection.execute(insert(message).values(values))


def _that_go_out(rows: Select[Any]) -> CompoundSelect[Any]:
    """Those of some rows of `usage` that go out: a walk an outcome, each along the index; asked for both, a database would sort."""
    return union_all(*(rows.where(usage.c.outcome == outcome) for outcome in GO_OUT))


def _ahead(step: int, job_id: int, wanted: ColumnElement[bool], limit: int) -> CompoundSelect[Any]:
    """The next rows behind a place that go out, as (step, job): the rest of that step, and the steps after it."""
    columns = select(usage.c.step, usage.c.job_id).where(wanted)
    rest, after = and_(usage.c.step == step, usage.c.job_id > job_id), usage.c.step > step
    walks = union_all(*(columns.where(usage.c.outcome == outcome, part) for outcome in GO_OUT for part in (rest, after)))
    return walks.order_by(walks.selected_columns.step, walks.selected_columns.job_id).limit(limit)


def slices(steps: Numbers, length: int) -> Iterator[tuple[int, int]]:
    """Pieces of at most so many rows, and of few steps."""
    begins = np.flatnonzero(np.diff(steps, prepend=-1))
    start = 0
    while start < len(steps):
        later = begins[np.searchsorted(begins, start, side="right") :]
        end = min(start + length, len(steps))
        if len(later) >= RANGES_AT_ONCE:
            end = min(end, int(later[RANGES_AT_ONCE - 1]))
        yield start, end
        start = end


def ranges(steps: Numbers, jobs: Numbers) -> Iterator[ColumnElement[bool]]:
    """The rows of `usage` of some steps, each a range of jobs."""
    for step, rows in groupby(range(len(steps)), key=lambda n: int(steps[n])):
        numbers = list(rows)
        yield and_(usage.c.step == step, usage.c.job_id.between(int(jobs[numbers[0]]), int(jobs[numbers[-1]])))


def numbers(rows: pa.RecordBatch, name: str) -> Numbers:
    return cast("pa.Int64Array", rows.column(name)).to_numpy()


def _note_left_out(connection: Connection, counts: Mapping[str, int]) -> None:
    for what, records in counts.items():
        known = connection.execute(update(left_out).where(left_out.c.what == what).values(records=left_out.c.records + records))
        if not known.rowcount:
            connection.execute(insert(left_out).values(what=what, records=records))


def place_of(connection: Connection, name: str) -> Place:
    """How far a destination has come."""
    return next((place for place in sent.places(connection) if place.name == name), Place(name, 0, 0, 0, None))


def keep_destinations(connection: Connection, configured: Sequence[Destination], now: int) -> None:
    """Notes which destinations there are: a new one begins with the first row; nothing is awaited of one that is gone."""
    known = {place.name: place for place in sent.places(connection)}
    for name in (one.name for one in configured):
        if name not in known:
            missed = connection.scalar(select(func.count()).select_from(usage_history)) or 0
            values = {"name": name, "done_step": 0, "done_job": 0, "missed": missed, "since": now}
            connection.execute(insert(destination).values(values))
        elif known[name].retired_at is not None:
            connection.execute(update(destination).where(destination.c.name == name).values(retired_at=None))
    for name in known.keys() - {one.name for one in configured}:
        if known[name].retired_at is None:
            connection.execute(update(destination).where(destination.c.name == name).values(retired_at=now))


def fixed_templates(connection: Connection) -> list[str] | None:
    """The templates of LocalJobId, of jobs and of array elements, when records were last published; None if none ever were."""
    fixed = connection.scalar(select(setting.c.value).where(setting.c.name == "local_job_id"))
    return None if fixed is None else list(json.loads(fixed))


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
