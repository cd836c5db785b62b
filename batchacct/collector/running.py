"""A source, followed in a thread of its own until that is told to end: look, wait; where something fails, wait longer."""

from __future__ import annotations

import abc
import contextlib
import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from batchacct.collector.collecting import Collected, Collector
from batchacct.collector.follower import Follower
from batchacct.collector.once import ask
from batchacct.config import Collect
from batchacct.errors import BusyError, CheckpointError, SchemaError, StoreError
from batchacct.following.watching import Watch
from batchacct.store import HeldLocks, Store, note_state

log = logging.getLogger(__name__)

GATHER_S = 0.15
"""After the first change, so long more are gathered before the files are looked at."""
WHOLE_LOOK_S = 10.0
"""All files of a source are looked at at least so often, whatever was or was not told of them."""
REST = 4
LONGEST_REST_S = 2.0
"""After a look at all files, however many there are, it rests for so many times as long, and so many seconds at the most."""
CHECK_S = 10.0
"""How often it is asked whether the lock on the source is held still."""
LONGEST_PAUSE_S = 60.0
"""A failing database is tried again after 1, 2, 4 ... seconds, and so many at the most; a failing feed likewise."""
LONGEST_PAUSE_AFTER_ERROR_S = 3600.0
"""What nobody foresaw is tried again after a minute, two, four, and so long at the most."""
DRAIN_S = 2.0
"""When it is told to end, a runner stores what it can within this time."""


class Outage:
    """A database that does not answer: told once when it begins and once when it is over, however many threads notice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def noticed(self, error: StoreError) -> None:
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                log.error("%s. It is tried again until it answers; nothing is lost meanwhile", error.message)

    def over(self) -> None:
        if self._since is None:
            return
        with self._lock:
            if self._since is not None:
                log.warning("the database answers again, after %.0f s", time.monotonic() - self._since)
                self._since = None


class _Ended(BaseException):
    """Ends the reading between two blocks; it is no error, and nobody on the way is to take it for one."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the runners of a process share."""

    store: Store
    settings: Collect
    clock: Callable[[], int]
    locks: HeldLocks
    outage: Outage
    kept_open: int
    """How many files each may keep open."""
    stored: Callable[[], None]
    """Called after something new was stored: parts of it may be to complete."""


class Runner(threading.Thread, abc.ABC):
    """Collects from one source until `end`.

    `recorded` counts records; `turn_at` is when (monotonic) it last began to wait, to look or stored a block: a file system that
    hangs shows there. `trouble` is what keeps it from collecting now.
    """

    def __init__(self, collector: Collector, around: Surroundings) -> None:
        super().__init__(name=f"collect {collector.source.name}", daemon=True)
        self.source = collector.source.name
        self.recorded = 0
        self.turn_at = time.monotonic()
        self.trouble: str | None = None
        self._collector, self._around = collector, around
        self._ends_at = math.inf
        self._ended = threading.Event()
        self._checked_at = float("-inf")

    def end(self) -> None:
        """Has it store what it can within DRAIN_S, and end."""
        self._ends_at = time.monotonic() + DRAIN_S
        self._ended.set()

    def run(self) -> None:
        """The thread. What nobody foresaw in one source is told, and tried again: the others go on meanwhile."""
        pause_s = LONGEST_PAUSE_S
        try:
            while not self._ended.is_set():
                began = time.monotonic()
                try:
                    self._collect()
                except Exception as error:
                    pause_s = LONGEST_PAUSE_S if time.monotonic() - began > LONGEST_PAUSE_AFTER_ERROR_S else pause_s
                    log.exception("source=%s: an error that was not foreseen; it is tried again", self.source)
                    self._stopped_by(
                        f"an error that was not foreseen, please report it with the log: {type(error).__name__}: {error}"
                    )
                    self._pause(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_AFTER_ERROR_S)
        except _Ended:
            pass
        finally:
            self._close()
            self._around.locks.give(lock_name(self.source))

    @abc.abstractmethod
    def _collect(self) -> None:
        """Collects until `end`.  Raises: _Ended between two blocks, once it is time to."""

    def _stopped_by(self, trouble: str) -> None:
        self.trouble = trouble
        state = {"record_type": self._collector.parser.record_type.name, "last_error": trouble}
        with contextlib.suppress(StoreError):
            note_state(self._around.store, self.source, state | {"last_error_at": self._around.clock()})

    def _close(self) -> None:
        """Gives back what it holds."""

    def _attempt(self, collect: Callable[[], Collected]) -> Collected | None:
        """Collects with the source locked; None if that is not possible now."""
        self.turn_at = time.monotonic()
        try:
            self._lock()
            done = collect()
            if self._around.outage.lasts:
                with self._around.store.writing():
                    pass  # looking at files does not prove that the database takes anything
        except StoreError as error:
            self._around.outage.noticed(error)
            self._around.store.close()  # a connection that failed may lead to what is no longer there
            self._checked_at = float("-inf")
            self.trouble = "waits for the database"
            return None
        except (BusyError, SchemaError) as error:
            if self.trouble != error.message:
                log.warning("source=%s waits: %s", self.source, error.message)
            self.trouble = error.message
            return None
        self._around.outage.over()
        self.trouble = done.errors[-1].message if done.errors else None
        self.recorded += done.counts["recorded"]
        if done.counts["units"]:
            self._around.stored()
        return done

    def _lock(self) -> None:
        if time.monotonic() - self._checked_at < CHECK_S:
            return
        name = lock_name(self.source)
        if not self._around.locks.holds(name):
            self._around.locks.take(name)
            self._took_over()
        self._checked_at = time.monotonic()

    def _took_over(self) -> None:
        """The source was not locked for a while: another process may have collected from it."""

    def _unlock(self) -> None:
        self._around.locks.give(lock_name(self.source))
        self._checked_at = float("-inf")

    def _pause(self, seconds: float) -> None:
        self.turn_at = time.monotonic()
        self._ended.wait(seconds)

    def _after_block(self, _bytes: int) -> None:
        self.turn_at = time.monotonic()
        if self.turn_at > self._ends_at:
            raise _Ended


class FileRunner(Runner):
    """Follows the files of a source."""

    def __init__(self, collector: Collector, around: Surroundings, from_start: frozenset[str] = frozenset()) -> None:
        super().__init__(collector, around)
        self._watch = Watch(around.settings.watch, around.settings.poll_interval)
        self._follower = Follower(
            around.store, collector, around.clock, from_start=from_start, progress=self._after_block, kept_open=around.kept_open
        )
        self._followed: set[str] = set()
        self._folders: dict[str, int | None] = {}

    def end(self) -> None:
        super().end()
        self._watch.wake()

    def _took_over(self) -> None:
        self._follower.forget_positions()

    def _close(self) -> None:
        self._follower.close()
        self._watch.close()

    def _collect(self) -> None:
        changed: Collection[str] | None = None
        whole_at = float("-inf")
        pause_s = 1.0
        while not self._ended.is_set():
            is_whole = changed is None
            done = self._attempt(functools.partial(self._follower.look, changed))
            if done is None:
                changed = None
                self._pause(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = 1.0
            if any(isinstance(error, CheckpointError) for error in done.errors):
                self._unlock()  # `collect --once --from-start` is to be possible
            if is_whole:
                took_s, whole_at = time.monotonic() - self.turn_at, time.monotonic()
                self._ended.wait(0 if done.again or done.bytes_read else min(REST * took_s, LONGEST_REST_S))
                self._followed = self._follower.folders
                self._watch.follow(self._followed)
            changed = None if done.again else self._next_change(whole_at + WHOLE_LOOK_S)
        if not self._around.outage.lasts:
            self._attempt(self._follower.look)

    def _next_change(self, at_the_latest: float) -> Collection[str] | None:
        """Waits for the next change, and gathers those that follow at once; None when it is time to look at all files."""
        self.turn_at = time.monotonic()
        changed = self._watch.wait(max(at_the_latest - self.turn_at, 0))
        if changed and not self._ended.wait(GATHER_S):
            more = self._watch.wait(0)
            changed = None if more is None else changed | more
        if time.monotonic() >= at_the_latest:
            return None
        return self._alive() if changed is None and set(self._watch.polled) == self._followed else changed

    def _alive(self) -> Collection[str] | None:
        """Where all folders are polled: the files that are alive, as long as the folders hold no others."""
        before, self._folders = self._folders, {folder: _modified_ns(folder) for folder in self._watch.polled}
        return self._follower.live if self._folders == before else None


class FeedRunner(Runner):
    """Asks the feed of a source, at the configured pace."""

    def _collect(self) -> None:
        around, feed = self._around, self._collector.feed
        assert feed is not None
        pause_s = 1.0
        while not self._ended.is_set():
            done = self._attempt(
                functools.partial(ask, around.store, self._collector, feed, around.clock, progress=self._after_block)
            )
            if done is not None and not done.errors:
                pause_s = 1.0
                self._pause(around.settings.feed_interval)
            else:
                self._pause(min(pause_s, around.settings.feed_interval))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def lock_name(source: str) -> str:
    """The lock that whoever collects a source holds."""
    return f"collect {source}"


def _modified_ns(folder: str) -> int | None:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return None
