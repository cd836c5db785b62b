"""The way out: messages are built, handed over and confirmed at the same time, each step by a thread of its own.

One thread reads records out of the store, one makes messages of them and commits, one hands over what is committed. So a message
is in the store, with its number and its payload, before it leaves; and they leave in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from queue import SimpleQueue

from sqlalchemy import select, update
from zstandard import ZstdError

from batchacct.crashpoints import crash_point
from batchacct.errors import PublishError
from batchacct.store import Store
from batchacct.store.tables import message
from pub.outbox import Batch, Outbox, Published
from pub.payload import unpacked
from pub.transports.contract import Message, Transport

CONFIRM_EVERY = 50
"""Messages handed over between two commits of their confirmation; after a crash so many may be handed over again, unchanged."""


_WAITING = (
    select(message.c.id, message.c.created_at, message.c.payload).where(message.c.confirmed_at.is_(None)).order_by(message.c.id)
)


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

    Raises: PublishError for the first message the transport did not take, after all were built.
    """
    commits: SimpleQueue[bool] = SimpleQueue()
    with ThreadPoolExecutor(2, "publish") as pool:
        sending = pool.submit(_send_after_each, commits, lambda: send(store, transport, clock, done))
        try:
            for batch in _one_ahead(pool, outbox.batches(store.reading)):
                with store.writing() as connection:
                    outbox.store(connection, batch, done)
                    require_lock()
                commits.put(True)
        finally:
            commits.put(False)
        sending.result()


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


def send(store: Store, transport: Transport, clock: Callable[[], int], done: Published) -> None:
    """Hands over what is in the outbox, oldest first; stops at the first message the transport does not take.

    Raises: PublishError, after what was handed over before it has been confirmed.
    """
    while True:
        with store.reading() as connection:
            waiting = connection.execute(_WAITING.limit(CONFIRM_EVERY)).all()
        if not waiting:
            return
        receipts: dict[int, str] = {}
        try:
            for number, created_at, stored in waiting:
                receipts[number] = transport.send(Message(number, created_at, _payload(number, bytes(stored))))
                crash_point("send.handed-over")
        except PublishError as error:
            _confirm(store, receipts, clock(), done)
            with store.writing() as connection:
                connection.execute(update(message).where(message.c.id == number).values(last_error=error.message))
            raise
        _confirm(store, receipts, clock(), done)


def _payload(number: int, stored: bytes) -> bytes:
    try:
        return unpacked(stored)
    except ZstdError as error:
        raise PublishError(
            f"message {number} of the outbox is damaged in the database ({error}): restore the database from a backup"
        ) from error


def _confirm(store: Store, receipts: dict[int, str], now: int, done: Published) -> None:
    if receipts:
        with store.writing() as connection:
            for number, receipt in receipts.items():
                confirmed = {"confirmed_at": now, "receipt": receipt, "last_error": None}
                connection.execute(update(message).where(message.c.id == number).values(confirmed))
            crash_point("send.before-confirm")
        done.confirmed += len(receipts)
