"""The way out: messages are built, handed over and confirmed at the same time, each step by a thread of its own.

One thread reads records out of the store, one makes messages of them and commits, and one for each destination hands over what is
committed. So a message is in the store, with its number and its payload, before it leaves; and they leave in the order of their
numbers.

What a transport puts payloads into (a signature) is made before a message first leaves, and kept in the store until the message is
confirmed: each attempt has the same bytes. A message that the receiver will not take is kept with the reason, and stays behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, select, update
from zstandard import ZstdError

from batchacct.crashpoints import crash_point
from batchacct.errors import BatchacctError, IncompleteError, PublishError
from batchacct.store import Store, sent
from batchacct.store.payload import digest_of, packed, unpacked
from batchacct.store.tables import message, usage
from pub.again import send_again
from pub.outbox import Batch, Outbox, Published
from pub.transports.contract import Message, Receipt, Refusal, Transport, unfit

Found = Row[Any]

CONFIRM_EVERY = 50
"""Messages handed over between two commits of their confirmation; after a crash so many may be handed over again, unchanged."""


READ_AT_ONCE = 10
"""Messages read, and put into their envelopes, in one go; a transport that is ahead of its receipts asks for the next."""


@dataclass(frozen=True, slots=True)
class Way:
    """A destination at work: what builds its messages, what takes them, and what this run has done."""

    outbox: Outbox
    transport: Transport
    done: Published = field(default_factory=Published)

    @property
    def name(self) -> str:
        return self.outbox.name


def build_and_send(
    store: Store, ways: Sequence[Way], clock: Callable[[], int], *, require_lock: Callable[[], None] = lambda: None
) -> None:
    """Puts all that goes out into messages and hands them over, to each destination first those that an earlier run has left.

    One destination after the other gets its messages built; all are sent to at the same time, and one that fails does not hold up
    the others. `require_lock` raises where no other message may be stored, as another publisher may be at work.

    Raises: PublishError when a transport took no more, after all were built; IncompleteError if one will not take some of them.
    """
    queues: list[SimpleQueue[bool]] = [SimpleQueue() for _ in ways]
    with ThreadPoolExecutor(len(ways) + 1, "publish") as pool:
        senders = [pool.submit(_send_after_each, queue, store, way, clock) for queue, way in zip(queues, ways, strict=True)]
        try:
            for queue, way in zip(queues, ways, strict=True):
                for batch in _one_ahead(pool, way.outbox.batches(store.reading)):
                    with store.writing() as connection:
                        way.outbox.store(connection, batch, way.done)
                        require_lock()
                    queue.put(True)
                with store.writing() as connection:
                    sent.move_to_end(connection, way.name)
                    require_lock()
        finally:
            for queue in queues:
                queue.put(False)
    told = {way.name: error for way, sender in zip(ways, senders, strict=True) if (error := _failure(sender))}
    for error in told.values():
        if len(ways) == 1:
            raise error
        kind = type(error) if len({type(one) for one in told.values()}) == 1 else PublishError
        raise kind("; ".join(f"destination {name}: {one.message}" for name, one in told.items())) from error


def _failure(sender: Future[list[Refusal]]) -> BatchacctError | None:
    """What went wrong with a destination.  Raises: whatever is no error of ours."""
    try:
        refused = sender.result()
    except BatchacctError as error:
        return error
    if not refused:
        return None
    return IncompleteError(
        f"of the messages {len(refused)} will not be taken, first {refused[0].message_id}: {refused[0].reason}. They are kept, "
        "and in `batchacct status`; once the reason is gone, `batchacct publish --once --retry-refused` tries them again, built "
        "anew where the format was changed, or bunch made smaller"
    )


def _one_ahead(pool: Executor, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches; while one is worked on, the next is already being read."""
    following = pool.submit(next, batches, None)
    while (batch := following.result()) is not None:
        following = pool.submit(next, batches, None)
        yield batch


def _send_after_each(commits: SimpleQueue[bool], store: Store, way: Way, clock: Callable[[], int]) -> list[Refusal]:
    """Sends what waits at first, and what waits after each commit; False is the end of them. Returns what is refused."""
    refused = send(store, way, clock)
    while commits.get():
        refused += send(store, way, clock)
    return refused


def send(store: Store, way: Way, clock: Callable[[], int]) -> list[Refusal]:
    """Hands over what is in the outbox of a destination, oldest first, and returns what is refused.

    Raises: PublishError when the transport takes no more, after what was handed over before it has been confirmed.
    """
    refused: list[Refusal] = []
    outcomes: list[Receipt | Refusal] = []
    try:
        for outcome in way.transport.send(_waiting(store, way)):
            crash_point("send.handed-over")
            outcomes.append(outcome)
            if isinstance(outcome, Refusal):
                refused.append(outcome)
            if len(outcomes) == CONFIRM_EVERY:
                _settle(store, outcomes, clock(), way.done)
                outcomes = []
    except PublishError as error:
        _settle(store, outcomes, clock(), way.done)
        with store.writing() as connection:
            first = connection.scalar(select(message.c.id).where(_is_waiting(way.name)).order_by(message.c.id).limit(1))
            connection.execute(update(message).where(message.c.id == first).values(last_error=error.message))
        raise
    _settle(store, outcomes, clock(), way.done)
    return refused


def _is_waiting(name: str) -> ColumnElement[bool]:
    return and_(sent.IS_OPEN, message.c.refused_at.is_(None), message.c.destination == name)


def _waiting(store: Store, way: Way) -> Iterator[Message]:
    """The messages that are to leave, in the order of their numbers.  Raises: PublishError at one that cannot leave."""
    names = ("id", "created_at", "format", "payload", "digest", "sealed", "sealed_by")
    query: Select[Any] = select(*(message.c[name] for name in names))
    last = 0
    while True:
        with store.reading() as connection:
            ahead = query.where(_is_waiting(way.name), message.c.id > last).order_by(message.c.id).limit(READ_AT_ONCE)
            rows = connection.execute(ahead).all()
        if not rows:
            return
        leaving, hindrance = _leaving(store, way, rows)
        yield from leaving
        if hindrance is not None:
            raise hindrance
        last = rows[-1].id


def _leaving(store: Store, way: Way, rows: Sequence[Found]) -> tuple[list[Message], PublishError | None]:
    """Messages as they leave, what is put into an envelope kept in the store, up to the first of which that cannot be done."""
    envelope, expected = way.transport.envelope, way.outbox.format.name
    leaving: list[Message] = []
    new: dict[int, bytes] = {}
    hindrance = None
    for row in rows:
        try:
            is_kept = envelope is not None and row.sealed_by == envelope.label
            payload = _as_built(row, expected)
            if is_kept:
                payload = _unpacked(row.id, row.sealed)
            if envelope is not None and not is_kept and unfit(payload) is None:
                payload = envelope.sealed(payload)
                new[row.id] = packed(payload)
        except PublishError as error:
            hindrance = error
            break
        leaving.append(Message(row.id, row.created_at, payload))
    if envelope is not None and new:
        with store.writing() as connection:
            for number, sealed in new.items():
                kept = {"sealed": sealed, "sealed_by": envelope.label}
                connection.execute(update(message).where(message.c.id == number).values(kept))
        crash_point("send.sealed")
    return leaving, hindrance


def _as_built(row: Found, expected: str) -> bytes:
    """The payload of a message.  Raises: PublishError if it is not what was built, or of another format than is expected."""
    if row.format != expected:
        raise PublishError(
            f"message {row.id} of the outbox was built as {row.format}, and its destination has format {expected} now: set the "
            "format back until it has been sent, or give the destination another name, under which it gets everything anew"
        )
    payload = _unpacked(row.id, row.payload)
    if row.digest is not None and digest_of(payload) != row.digest:
        raise PublishError(
            f"message {row.id} of the outbox was changed in the database since it was built: restore the database from a backup, "
            f"or see what should be in it with `batchacct trace message {row.id}`"
        )
    return payload


def _unpacked(number: int, stored: bytes) -> bytes:
    try:
        return unpacked(bytes(stored))
    except ZstdError as error:
        raise PublishError(
            f"message {number} of the outbox is damaged in the database ({error}): restore the database from a backup"
        ) from error


def _settle(store: Store, outcomes: Sequence[Receipt | Refusal], now: int, done: Published) -> None:
    """Marks what was handed over as confirmed, and what was refused with the reason."""
    if not outcomes:
        return
    with store.writing() as connection:
        for outcome in outcomes:
            if isinstance(outcome, Receipt):
                values = {"confirmed_at": now, "receipt": outcome.receipt, "last_error": None, "sealed": None, "sealed_by": None}
            else:
                values = {"refused_at": now, "last_error": outcome.reason}
            connection.execute(update(message).where(message.c.id == outcome.message_id).values(values))
        crash_point("send.before-confirm")
    done.confirmed += sum(isinstance(outcome, Receipt) for outcome in outcomes)


def retry_refused_messages(connection: Connection, ways: Sequence[Way], now: int) -> None:
    """Messages that a receiver would not take are to leave again, unchanged.

    But not one of which a record has been corrected since: the old one would take the place of the new. Nor one of another format
    than its destination has now, or of more records than it is to have. Such a message never leaves, and what of it is to leave
    still gets into new ones.
    """
    outboxes = {way.name: way.outbox for way in ways}
    for one in sent.sent(connection, _IS_REFUSED):
        outbox = outboxes.get(one.destination)
        if outbox is None:
            continue
        current = sent.current_of(connection, one)
        fits = one.format == outbox.format.name and one.records <= outbox.destination.bunch
        if fits and len(current) == len(one.jobs):
            connection.execute(update(message).where(message.c.id == one.id).values(refused_at=None))
            continue
        connection.execute(update(message).where(message.c.id == one.id).values(withdrawn_at=now))
        for start in range(0, len(current), 1000):
            of_these = usage.c.job_id.in_(current[start : start + 1000])
            send_again(connection, of_these, f"message {one.id} was refused, and is outdated", now, only=one.destination)


_IS_REFUSED = and_(message.c.refused_at.is_not(None), message.c.confirmed_at.is_(None), message.c.withdrawn_at.is_(None))
