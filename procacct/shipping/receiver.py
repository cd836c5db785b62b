"""`procacct receive`: takes what the nodes sent from all brokers, and acknowledges each message once it is on the disk.

A broker that acknowledgements do not reach (a connection ends, this process is killed) sends the messages again, which are known
then. A message that is damaged is put back once, by leaving the connection: it may have been read wrongly. What cannot be written
(the disk is full, too much is kept ahead for a node) is put back in the same way, and after a pause tried again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase

from batchacct.brokers.keys import Receive
from batchacct.brokers.stomp_session import Delivery
from batchacct.crashpoints import crash_point
from batchacct.errors import SourceError
from batchacct.notify import Notifier
from batchacct.reload import reload
from batchacct.signals import END, Signals
from procacct.shipping.ahead import MOST_RANGES, Full
from procacct.shipping.consumers import Consumers, Taken
from procacct.shipping.mirror import Mirror
from procacct.shipping.own_rows import require_own_rows
from procacct.shipping.ranges import Range, Unusable, unpacked
from procacct.shipping.recent import Recent
from procacct.shipping.refused import Refused

log = logging.getLogger(__name__)

PAUSE_S = 30.0
"""So long after what was put back it is asked for again."""
DEFER_S = 10.0
"""So long what may not be kept ahead waits in memory for what else comes; there are no more than were asked for ahead."""
TELL_S = 600.0
"""What is waited for is told so often."""
MOST_AT_ONCE = 500

DAMAGED_KEPT = 1000
"""Damaged messages that were put back once, by what their headers say."""


class PutBack(Exception):  # noqa: N818 - told of messages
    """Messages are to go back to their brokers, for a reason."""

    def __init__(self, reason: str, *, pause_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause_s = pause_s


class Receiver:
    """The queue of all brokers into one folder."""

    def __init__(self, keys: Receive, read_again: Callable[[], Receive] | None = None) -> None:
        """`read_again`: the keys as they are then, for SIGHUP.

        Raises: ConfigError, SourceError for a folder that cannot be used.
        """
        self._keys = keys
        self._read_again = read_again or (lambda: keys)
        self.counts: Counter[str] = Counter()
        self._damaged = Recent(DAMAGED_KEPT)
        try:
            self._mirror = Mirror(keys.folder, keys.ahead_bytes)
            self._refused = Refused(keys.folder)
        except OSError as error:
            raise SourceError(
                f"{error.filename or keys.folder}: {error.strerror or error}: [receive] folder cannot be used"
            ) from error
        self._consumers = Consumers(keys)
        self._deferred: list[Taken] = []
        self._came_at = time.monotonic()
        self._pause_s = 0.0

    def run(self, signals: Signals, notifier: Notifier, *, idle_s: float | None = None) -> None:
        """Until SIGTERM or SIGINT; with `idle_s`, until nothing has come for so long."""
        notifier.ready()
        self._consumers.start()
        quiet_since = told_at = time.monotonic()
        try:
            while (number := signals.wait(0)) not in END:
                if number is not None:
                    reload(self._take_over, notifier)
                if self._turn():
                    quiet_since = time.monotonic()
                elif idle_s is not None and time.monotonic() - quiet_since >= idle_s:
                    break
                if time.monotonic() - told_at >= TELL_S:
                    self.tell(notifier)
                    told_at = time.monotonic()
                notifier.watchdog()
                if self._pause_s and self._paused(signals, notifier):
                    break
        finally:
            notifier.stopping()
            self._consumers.stop()
            self._mirror.close()
            self.tell(notifier)

    def _paused(self, signals: Signals, notifier: Notifier) -> bool:
        """Whether it was told to end meanwhile."""
        until = time.monotonic() + self._pause_s
        self._pause_s = 0.0
        while (left_s := until - time.monotonic()) > 0:
            number = signals.wait(min(left_s, 10.0))
            if number in END:
                return True
            if number is not None:
                former = self._consumers
                reload(self._take_over, notifier)
                if self._consumers is not former:  # and what was wrong may be mended
                    return False
            notifier.watchdog()
        self._consumers.start()
        return False

    def _take_over(self) -> None:
        """Goes on by the configuration of now: what is not acknowledged is asked for again.

        Raises: ConfigError, and nothing changes.
        """
        keys = self._read_again()
        consumers = Consumers(keys)
        self._put_back(len(self._deferred))
        self._keys, self._consumers = keys, consumers
        self._mirror.ahead.at_most = keys.ahead_bytes
        self._consumers.start()

    def _turn(self) -> bool:
        """Takes what has come, and acknowledges it; whether that went well, and anything had come."""
        new = self._consumers.taken(within_s=0.5, at_most=MOST_AT_ONCE)
        batch = [*new, *self._deferred] if new else []
        try:
            done = self._taken(batch) if batch else []
            if self._deferred and time.monotonic() - self._came_at > DEFER_S:
                raise self._too_much_ahead()
        except (OSError, PutBack) as error:
            told = f"{error.filename or self._keys.folder}: {error.strerror}" if isinstance(error, OSError) else error.reason
            self._pause_s = error.pause_s if isinstance(error, PutBack) else PAUSE_S
            log.error("%s; messages go back to their brokers, and are taken again in %.0f s", told, self._pause_s)  # noqa: TRY400
            self._put_back(len(batch) or len(self._deferred))
            return False
        for one in done:
            one.session.acknowledge(one.delivery)
            crash_point("receive.acknowledged")
        return bool(new)

    def _taken(self, batch: list[Taken]) -> list[Taken]:
        """Those that are on the disk now; others are deferred: what they wait for may come later.  Raises: PutBack, OSError."""
        self._came_at = time.monotonic()
        self._deferred = []
        done: list[Taken] = []
        for one in batch:
            try:
                self._take(one.delivery)
            except Full:
                self._deferred.append(one)
            else:
                done.append(one)
        self._mirror.sync()
        return done

    def _too_much_ahead(self) -> PutBack:
        host = self._deferred[0].delivery.headers.get("host")
        return PutBack(
            f"host={host}: more than ahead_bytes ({self._keys.ahead_bytes}) or {MOST_RANGES} messages would wait for what stands "
            "before it. "
            "Is a broker away that has it?",
            pause_s=PAUSE_S,
        )

    def _put_back(self, count: int) -> None:
        self._consumers.stop()
        self._deferred = []
        self._mirror.abandon()
        self.counts["put back"] += count

    def _take(self, delivery: Delivery) -> None:
        """Raises: PutBack, Full, OSError."""
        try:
            one = unpacked(delivery.headers, delivery.body)
            self._require_sender(one, delivery)
            require_own_rows(one, _of_host(self._keys.rows, one.host))
            outcome = self._mirror.take(one)
        except Unusable as unusable:
            if unusable.is_damaged and self._is_first(delivery):
                raise PutBack(
                    f"a message of {delivery.headers.get('host')} is damaged: {unusable.reason}", pause_s=1.0
                ) from unusable
            self.counts["refused"] += self._refused.put(delivery.headers, delivery.body, unusable.reason)
        else:
            self.counts[outcome.value] += 1
            self.counts["bytes"] += len(one.content)

    def _is_first(self, delivery: Delivery) -> bool:
        name = " ".join(delivery.headers.get(key, "")[:300] for key in ("host", "file", "offset", "sha256"))
        return self._damaged.count(name) == 1

    def _require_sender(self, one: Range, delivery: Delivery) -> None:
        """Raises: Unusable for a node that may not send, or a user who is not that node."""
        if not any(fnmatchcase(one.host, pattern) for pattern in self._keys.hosts):
            raise Unusable(f"host {one.host} is none of [receive] hosts")
        if self._keys.sender_header is None:
            return
        said = delivery.headers.get(self._keys.sender_header)
        if said is None:
            raise Unusable(f"the broker vouches for nobody: there is no header {self._keys.sender_header}")
        if not fnmatchcase(said, _of_host(self._keys.sender, one.host)):
            raise Unusable(f"user {said[:100]!r} is not host {one.host}, as [receive] sender says")

    def tell(self, notifier: Notifier) -> None:
        """What came, and what is waited for, in the log and to systemd."""
        text = " ".join(f"{name.replace(' ', '_')}={count}" for name, count in sorted(self.counts.items())) or "nothing came"
        log.info("received: %s", text)
        notifier.status(text)
        waiting, sizes = self._mirror.ahead.waiting(), self._mirror.sizes()
        for (host, file), (begin, count) in sorted(waiting.items()):
            log.warning(
                "host=%s file=%s: bytes %d to %d have not come, %d wait for them", host, file, sizes[host, file], begin, count
            )


def _of_host(pattern: str, host: str) -> str:
    return pattern.format(host=host, short=host.partition(".")[0])
