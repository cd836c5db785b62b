"""The outbox: usage becomes messages, kept in the store before they leave; marked confirmed when the transport has said so."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Connection, FromClause, and_, delete, exists, insert, select, union_all, update

from batchacct.config import Config, Publish
from batchacct.crashpoints import crash_point
from batchacct.errors import ConfigError, PublishError
from batchacct.store.dialects import Dialect
from batchacct.store.store import Store
from batchacct.store.tables import left_out, message, refusal, setting, usage
from pub.formats.contract import Format
from pub.transports.contract import Message, Transport
from pub.usage_records import GATHERED, gathering, usage_records

log = logging.getLogger(__name__)

RECORDS_PER_STEP = 20_000
"""About how many records are built into messages in one transaction; memory grows with it."""

CONFIRM_EVERY = 50
"""Messages handed over between two commits of their confirmation; after a crash so many may be handed over again, unchanged."""

_GO_OUT = ("joined", "local")
_UNSENT = and_(usage.c.message_id.is_(None), ~exists().where(refusal.c.job_id == usage.c.job_id))


@dataclass
class Published:
    """What a run did: records and messages built, records refused by reason, optional values left out, messages confirmed."""

    records: int = 0
    messages: int = 0
    confirmed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Outbox:
    """Builds and sends the messages of one destination."""

    config: Config
    dialect: Dialect
    format: Format
    now: int

    def build_step(self, connection: Connection, done: Published) -> bool:
        """Puts the next records into messages, in the order of their jobs; False if none were left."""
        limit = max(RECORDS_PER_STEP // self.config.publish.bunch, 1) * self.config.publish.bunch
        gathered = self.dialect.fetch(connection, gathering(_next_sendable(limit), self.config), GATHERED)
        if not gathered.num_rows:
            return False
        rendered = self.format.render(usage_records(gathered, self.config), self.now)
        _note_left_out(connection, rendered.left_out)
        done.left_out.update(rendered.left_out)
        jobs = cast("list[int]", gathered.column("job_id").to_pylist())
        refused = [
            (number, reason) for number, reason in zip(jobs, rendered.reasons.to_pylist(), strict=True) if reason is not None
        ]
        if refused:
            columns = [{"job_id": number, "reason": reason, "refused_at": self.now} for number, reason in refused]
            connection.execute(insert(refusal), columns)
            done.refused.update(reason for _, reason in refused)
        accepted = [(number, text) for number, text in zip(jobs, rendered.records.to_pylist(), strict=True) if text is not None]
        bunch = self.config.publish.bunch
        for start in range(0, len(accepted), bunch):
            self._store_message(connection, accepted[start : start + bunch])
            done.messages += 1
        done.records += len(accepted)
        crash_point("build.before-commit")
        return True

    def _store_message(self, connection: Connection, records: list[tuple[int, str]]) -> None:
        values = {
            "destination": self.config.publish.transport,
            "format": self.format.name,
            "records": len(records),
            "created_at": self.now,
            "payload": self.format.message([text for _, text in records]),
        }
        key = connection.execute(insert(message).values(values)).inserted_primary_key
        assert key is not None
        in_range = usage.c.job_id.between(records[0][0], records[-1][0])
        marked = connection.execute(update(usage).where(usage.c.outcome.in_(_GO_OUT), in_range, _UNSENT).values(message_id=key[0]))
        if marked.rowcount != len(records):
            raise PublishError(f"message {key[0]} has {len(records)} records, but {marked.rowcount} were to be marked: run again")


def _next_sendable(limit: int) -> FromClause:
    """The first rows of `usage` that go out and have not, by their job.

    One walk an outcome, each along the index in the order wanted: asked for both at once, a database reads and sorts all there are.
    """
    walks = [
        select(usage).where(usage.c.outcome == outcome, _UNSENT).order_by(usage.c.job_id).limit(limit).subquery()
        for outcome in _GO_OUT
    ]
    both = union_all(*(select(walk) for walk in walks)).subquery()
    return select(both).order_by(both.c.job_id).limit(limit).subquery()


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
    """Forgets the refusals, so that this run tries those records again: a corrected setting or clock may have mended them."""
    connection.execute(delete(refusal))


def send(store: Store, transport: Transport, clock: Callable[[], int], done: Published) -> None:
    """Hands over what is in the outbox, oldest first; stops at the first message the transport does not take.

    Raises: PublishError, after what was handed over before it has been confirmed.
    """
    while True:
        with store.reading() as connection:
            waiting = list(_unsent(connection, CONFIRM_EVERY))
        if not waiting:
            return
        receipts: dict[int, str] = {}
        try:
            for unsent in waiting:
                receipts[unsent.id] = transport.send(unsent)
                crash_point("send.handed-over")
        except PublishError as error:
            _confirm(store, receipts, clock(), done)
            with store.writing() as connection:
                connection.execute(update(message).where(message.c.id == unsent.id).values(last_error=error.message))
            raise
        _confirm(store, receipts, clock(), done)


def _unsent(connection: Connection, limit: int) -> Iterator[Message]:
    columns = (message.c.id, message.c.created_at, message.c.payload)
    query = select(*columns).where(message.c.confirmed_at.is_(None)).order_by(message.c.id).limit(limit)
    for number, created_at, payload in connection.execute(query):
        yield Message(number, created_at, bytes(payload))


def _confirm(store: Store, receipts: dict[int, str], now: int, done: Published) -> None:
    if receipts:
        with store.writing() as connection:
            for number, receipt in receipts.items():
                confirmed = {"confirmed_at": now, "receipt": receipt, "last_error": None}
                connection.execute(update(message).where(message.c.id == number).values(confirmed))
            crash_point("send.before-confirm")
        done.confirmed += len(receipts)
