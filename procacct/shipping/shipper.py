"""`procacct ship`: sends the lines of the spool to a broker, each range at least once and in order.

A range is confirmed by the broker's receipt, which says that it is stored there; then the state file says so, and only then may a
file that nobody writes to be deleted. Killed at any moment, what was not in the state file is sent again, which the receiver knows.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from batchacct.brokers.links import Brokers
from batchacct.brokers.pipeline import Links, Pipeline, Refusal
from batchacct.brokers.stomp_session import Login, Session
from batchacct.crashpoints import crash_point
from batchacct.errors import BatchacctError, ConfigError, PublishError, SourceError
from batchacct.notify import Notifier
from batchacct.reload import reload
from batchacct.signals import END, Signals
from procacct.shipping.config import Ship
from procacct.shipping.ranges import CONTENT_TYPE, Range, SpoolName, is_host_name
from procacct.shipping.sent_state import SentState
from procacct.shipping.spool import Cursor, Replaced, Spool, TooLong

log = logging.getLogger(__name__)

POLL_S = 1.0
SAVE_S = 1.0
"""The state file is written at most so often while receipts come."""
LONGEST_PAUSE_S = 60.0


class _Session(Session):
    """A session that sends ranges to the queue."""

    def __init__(self, host: str, port: int, login: Login, destination: str, user_id: str | None) -> None:
        super().__init__(host, port, login)
        self._destination = destination
        self._of_user = {} if user_id is None else {"user-id": user_id}

    def send(self, message: Range) -> None:
        headers, body = message.packed()
        self.put(self._destination, message.name, body, CONTENT_TYPE, headers | self._of_user)


class ClosingLinks(Links[Range], Protocol):
    def close(self) -> None: ...


def broker_links(keys: Ship) -> ClosingLinks:
    """To the brokers of the configuration.  Raises: ConfigError for files that cannot be used."""
    user_id = keys.user_id or keys.login
    return Brokers(keys, lambda host, port, login: _Session(host, port, login, keys.destination, user_id))


@dataclass(slots=True)
class Sent:
    """What a round did."""

    ranges: int = 0
    bytes: int = 0
    refused: int = 0
    files_removed: int = 0


class Shipper:
    """One spool to one queue."""

    def __init__(
        self, keys: Ship, node: str, spool: Spool, links: ClosingLinks, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`node`: what the host is called.  Raises: ConfigError, SourceError."""
        self._keys = keys
        self._node = keys.host or node
        if not is_host_name(self._node):
            raise ConfigError(f"this host is called {self._node!r}, which is no host name: set host in [ship]")
        self._spool = spool
        self._links = links
        self._clock = clock
        self._state = _opened_state(keys, spool.boot)
        self._flying: dict[int, tuple[Range, Cursor]] = {}
        self._waiting_since: dict[SpoolName, float] = {}
        self._stuck: set[SpoolName] = set()
        self._finished: set[SpoolName] = set()
        self._saved_at = clock()

    def round(self, *, everything: bool = False, gets_on: Callable[[], None] = lambda: None) -> Sent:
        """Sends what there is to send, with `everything` also what could wait for more to come; what became of it.

        `gets_on` is called whenever a message came to its end.

        Raises: PublishError when nothing goes any more, SourceError for a spool or a state file that cannot be used.
        """
        sent = Sent()
        self._flying.clear()
        self._stuck.clear()
        try:
            try:
                names = self._spool.names()
                self._finished = self._spool.finished(names)
                self._state.meet(names)
                pipeline = Pipeline(
                    self._links, self._ranges(names, everything=everything), self._keys.window, self._keys.retry_for
                )
                for outcome in pipeline.outcomes():
                    self._settle(outcome.message_id, outcome.reason if isinstance(outcome, Refusal) else None, sent)
                    gets_on()
            finally:
                self._state.save()
            crash_point("ship.state-saved")
            if self._keys.remove:
                self._remove_confirmed(sent)
        except OSError as error:
            raise SourceError(
                f"{error.filename or self._spool.folder}: {error.strerror or error}. See to it; nothing is lost"
            ) from error
        return sent

    def send_again(self, file: SpoolName) -> None:
        """The next round sends a file from its beginning, as a broker may have lost it.  Raises: SourceError if it is not there."""
        name = replace(file, again=1)
        self._state.meet(self._spool.names())
        at = self._state.files.get(name)
        if at is None or at.again != file.again:
            raise SourceError(
                f"{file} is not in the spool {self._spool.folder}: what the broker had confirmed is deleted ([ship] remove). "
                f"On the central host `procacct missing --give-up {self._node} {file}` goes on without it"
            )
        self._state.files[name] = Cursor(again=at.again)
        self._state.save()

    def close(self) -> None:
        self._links.close()

    def _ranges(self, names: list[SpoolName], *, everything: bool) -> Iterator[Range]:
        for name in names:
            cursor = self._state.files[name]
            while name not in self._stuck:
                found = self._next_range(name, cursor, everything=everything)
                if found is None:
                    break
                one, cursor = found
                self._flying[one.seq] = found
                yield one

    def _next_range(self, name: SpoolName, cursor: Cursor, *, everything: bool) -> tuple[Range, Cursor] | None:
        """The next range of a file and the cursor behind it; None where there is nothing to send now."""
        is_finished = name in self._finished
        try:
            read = self._spool.read(name, cursor, self._keys.message_bytes, is_finished=is_finished)
        except Replaced:
            log.error("%s was cut short or replaced: it is sent anew from its beginning, under a name of its own", name)  # noqa: TRY400
            cursor = self._state.replaced(name)
            read = self._spool.read(name, cursor, self._keys.message_bytes, is_finished=is_finished)
        except TooLong:
            log.error("%s has a line at byte %d that is too long to be sent: take it out of the spool", name, cursor.offset)  # noqa: TRY400
            return None
        except FileNotFoundError:
            log.warning("%s was deleted before all of it was sent", name)
            return None
        if not read.content:
            self._waiting_since.pop(name, None)
            return None
        since = self._waiting_since.setdefault(name, self._clock())
        if not (everything or is_finished or read.is_full) and self._clock() - since < self._keys.wait:
            return None
        del self._waiting_since[name]
        self._state.seq += 1
        sent_as = replace(name, again=cursor.again)
        one = Range(self._node, sent_as, cursor.offset, read.content, self._state.seq)
        return one, cursor.after(read.content, read.before)

    def _settle(self, number: int, refused: str | None, sent: Sent) -> None:
        one, behind = self._flying.pop(number)
        name = replace(one.file, again=1)
        if refused is not None:
            log.error("the broker does not take %s, %d bytes: %s", one.name, len(one.content), refused)
            self._stuck.add(name)
            sent.refused += 1
            return
        at = self._state.files[name]
        if (at.offset, at.again) == (one.offset, behind.again):
            self._state.files[name] = behind
        sent.ranges += 1
        sent.bytes += len(one.content)
        crash_point("ship.receipt")
        if self._clock() - self._saved_at >= SAVE_S:
            self._state.save()
            self._saved_at = self._clock()

    def _remove_confirmed(self, sent: Sent) -> None:
        for name in sorted(self._finished):
            if name in self._state.files and self._state.files[name].offset == self._spool.size(name):
                self._spool.remove(name)
                crash_point("ship.removed")
                del self._state.files[name]
                sent.files_removed += 1
        self._state.save()


def _opened_state(keys: Ship, boot: str) -> SentState:
    try:
        return SentState(keys.state, boot)
    except OSError as error:
        raise SourceError(f"state file {keys.state} cannot be used: {error.strerror or error}") from error


def ship_until_told(make: Callable[[], Shipper], signals: Signals, notifier: Notifier) -> None:
    """Rounds until SIGTERM or SIGINT; after one that fails a pause, which is longer from one to the next.

    `make`: a shipper by the configuration as it is then; on SIGHUP another one goes on.
    """
    shipper = make()
    notifier.ready()
    failures = 0
    while True:
        try:
            sent = shipper.round(gets_on=notifier.watchdog)
        except BatchacctError as error:
            failures += 1
            pause_s = min(2.0**failures, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            level = logging.WARNING if isinstance(error, PublishError) else logging.ERROR
            log.log(level, "%s; again in %.0f s", error.message, pause_s)
            notifier.status(error.message)
        else:
            pause_s = LONGEST_PAUSE_S if sent.refused else POLL_S
            failures = 0
            if sent.ranges:
                log.info("sent: ranges=%d bytes=%d files_removed=%d", sent.ranges, sent.bytes, sent.files_removed)
                notifier.status(f"last sent: {sent.bytes} bytes in {sent.ranges} messages")
        notifier.watchdog()
        number = signals.wait(pause_s)
        if number in END:
            notifier.stopping()
            shipper.close()
            return
        if number is not None:
            shipper = _made_again(make, shipper, notifier)


def _made_again(make: Callable[[], Shipper], shipper: Shipper, notifier: Notifier) -> Shipper:
    """The one that goes on: the former where the configuration of now cannot be used."""
    made = [shipper]
    reload(lambda: made.append(make()), notifier)
    if made[-1] is not shipper:
        shipper.close()
    return made[-1]
