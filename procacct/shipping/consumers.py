"""Sessions that take messages from all brokers of a queue at once, each in a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from batchacct.addresses import host_and_port
from batchacct.brokers.keys import Receive
from batchacct.brokers.links import login_of
from batchacct.brokers.pipeline import Ended
from batchacct.brokers.stomp_session import Delivery, Session

log = logging.getLogger(__name__)

RENEW_S = 300.0
"""A connection that was quiet for so long is made anew: a message that the library has lost in reading comes again then."""
LONGEST_PAUSE_S = 30.0
JOIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A message, and the session to acknowledge it to."""

    session: Session
    delivery: Delivery


class Consumers:
    """One session a broker, made again whenever it ends."""

    def __init__(self, keys: Receive) -> None:
        """Raises: ConfigError for files that cannot be used."""
        self._keys = keys
        self._login = login_of(keys)
        self._taken: SimpleQueue[Taken] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()

    def start(self) -> None:
        """Connects, and connects again, until `stop`."""
        self._stopping = threading.Event()
        self._taken = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._follow, args=(*host_and_port(one), self._stopping, self._taken), daemon=True)
            for one in self._keys.brokers
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leaves all brokers: what was not acknowledged is theirs again."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(JOIN_S)
        self._threads.clear()

    def taken(self, within_s: float, at_most: int) -> list[Taken]:
        """What has come, as soon as there is something."""
        found: list[Taken] = []
        try:
            found.append(self._taken.get(timeout=within_s))
            while len(found) < at_most:
                found.append(self._taken.get_nowait())
        except Empty:
            pass
        return found

    def _follow(self, host: str, port: int, stopping: threading.Event, taken: SimpleQueue[Taken]) -> None:
        failures = 0
        while not stopping.is_set():
            session: Session | None = None
            try:
                session = Session(host, port, self._login)
                session.subscribe(self._keys.destination, self._keys.prefetch)
                log.info("broker %s: taking from %s", session.receiver, self._keys.destination)
                failures = 0
                self._deliver(session, stopping, taken)
                session.close()
            except Ended as end:
                if session is not None:
                    session.abandon()
                failures += 1
                pause_s = min(0.5 * 2**failures, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                log.warning("%s; again in %.0f s", end.why, pause_s)
                stopping.wait(pause_s)

    def _deliver(self, session: Session, stopping: threading.Event, taken: SimpleQueue[Taken]) -> None:
        """Until it is to stop, or was quiet for long.  Raises: Ended."""
        heard_at = time.monotonic()
        while not stopping.is_set() and time.monotonic() - heard_at < RENEW_S:
            if (delivery := session.received(0.5)) is not None:
                taken.put(Taken(session, delivery))
                heard_at = time.monotonic()
