"""The way out: messages are built, handed over and confirmed at the same time, each step by a thread of its own.

One thread reads records out of the store, one makes messages of them and commits, one hands over what is committed. So a message
is in the store, with its number and its payload, before it leaves; and they leave in the order of their numbers.

What a transport puts payloads into (a signature) is made before a message first leaves, and kept in the store until the message is
confirmed: each attempt has the same bytes. A message that the receiver will not take is kept with the reason, and stays behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, select, update
from zstandard import ZstdError

from batchacct.crashpoints import crash_point
from batchacct.errors import IncompleteError, PublishError
from batchacct.store import Store
from batchacct.store.tables import message
from pub.outbox import Batch, Outbox, Published
from pub.payload import packed, unpacked
from pub.transports.contract import Envelope, Message, Receipt, Refusal, Transport, unfit

Found = Row[Any]

CONFIRM_EVERY = 50
"""Messages handed over between two commits of their confirmation; after a crash so many may be handed over again, unchanged."""


READ_AT_ONCE = 10
"""Messages read, and put into their envelopes, in one go; a transport that is ahead of its receipts asks for the next."""


def build_and_send(
    store: Store,
    outbox: Outbox,
    transport: Transport,
    clock: Callable[[], int],
    done: Published,
    *,
    require_lock: Callable[[], None] = lambda: None,
) -> None:
    """Puts all that goes out into messages and hands them over, first those that an earlier run has left.

    `require_lock` raises where no other message may be stored, as another publisher may be at work.

    Raises: PublishError when the transport took no more, after all were built; IncompleteError if it will not take some of them.
    """
    commits: SimpleQueue[bool] = SimpleQueue()
    refused: list[Refusal] = []
    with ThreadPoolExecutor(2, "publish") as pool:
        sending = pool.submit(_send_after_each, commits, lambda: refused.extend(send(store, transport, clock, done)))
        try:
            for batch in _one_ahead(pool, outbox.batches(store.reading)):
                with store.writing() as connection:
                    outbox.store(connection, batch, done)
                    require_lock()
                commits.put(True)
        finally:
            commits.put(False)
        sending.result()
    if refused:
        first = refused[0]
        raise IncompleteError(
            f"of the messages {len(refused)} will not be taken, first {first.message_id}: {first.reason}. They are kept, and in "
            "`batchacct status`; once the reason is gone, `batchacct publish --once --retry-refused` tries them again"
        )


def _one_ahead(pool: Executor, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches; while one is worked on, the next is already being read."""
    following = pool.submit(next, batches, None)
    while (batch := following.result()) is not None:
        following = pool.submit(next, batches, None)
        yield batch


def _send_after_each(commits: SimpleQueue[bool], send_waiting: Callable[[], None]) -> None:
    """Sends what waits at first, and what waits after each commit; False is the end of them."""
    send_waiting()
    while commits.get():
        send_waiting()


def send(store: Store, transport: Transport, clock: Callable[[], int], done: Published) -> list[Refusal]:
    """Hands over what is in the outbox, oldest first, and returns what is refused.

    Raises: PublishError when the transport takes no more, after what was handed over before it has been confirmed.
    """
    refused: list[Refusal] = []
    outcomes: list[Receipt | Refusal] = []
    try:
        for outcome in transport.send(_waiting(store, transport.envelope)):
            crash_point("send.handed-over")
            outcomes.append(outcome)
            if isinstance(outcome, Refusal):
                refused.append(outcome)
            if len(outcomes) == CONFIRM_EVERY:
                _settle(store, outcomes, clock(), done)
                outcomes = []
    except PublishError as error:
        _settle(store, outcomes, clock(), done)
        with store.writing() as connection:
            first = connection.scalar(select(message.c.id).where(_IS_WAITING).order_by(message.c.id).limit(1))
            connection.execute(update(message).where(message.c.id == first).values(last_error=error.message))
        raise
    _settle(store, outcomes, clock(), done)
    return refused


_IS_WAITING = and_(message.c.confirmed_at.is_(None), message.c.refused_at.is_(None))


def _waiting(store: Store, envelope: Envelope | None) -> Iterator[Message]:
    """The messages that are to leave, in the order of their numbers.  Raises: PublishError at one that cannot leave."""
    query: Select[Any] = select(message.c.id, message.c.created_at, message.c.payload, message.c.sealed, message.c.sealed_by)
    last = 0
    while True:
        with store.reading() as connection:
            ahead = query.where(_IS_WAITING, message.c.id > last).order_by(message.c.id).limit(READ_AT_ONCE)
            rows = connection.execute(ahead).all()
        if not rows:
            return
        leaving, hindrance = _leaving(store, envelope, rows)
        yield from leaving
        if hindrance is not None:
            raise hindrance
        last = rows[-1].id


def _leaving(store: Store, envelope: Envelope | None, rows: Sequence[Found]) -> tuple[list[Message], PublishError | None]:
    """Messages as they leave, what is put into an envelope kept in the store, up to the first of which that cannot be done."""
    leaving: list[Message] = []
    new: dict[int, bytes] = {}
    hindrance = None
    for row in rows:
        try:
            is_kept = envelope is not None and row.sealed_by == envelope.label
            payload = _unpacked(row.id, row.sealed if is_kept else row.payload)
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
    return leaving, hindrance


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


def retry_refused_messages(connection: Connection) -> None:
    """Messages that a receiver would not take are to leave again."""
    connection.execute(update(message).where(message.c.refused_at.is_not(None)).values(refused_at=None))
