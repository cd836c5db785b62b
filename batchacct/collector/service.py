"""Following all sources of a configuration in one process, until it is told to end: what a unit, or a daemon of 2012, runs."""

from __future__ import annotations

import logging
import math
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from batchacct.collector.collecting import Collector
from batchacct.collector.kept import KEPT_OPEN
from batchacct.collector.running import DRAIN_S, FeedRunner, FileRunner, Outage, Runner, Surroundings, lock_name
from batchacct.completing import Rule, complete_parts
from batchacct.config import Collect
from batchacct.errors import BatchacctError, SchemaError, StoreError
from batchacct.notify import Notifier
from batchacct.signals import END, Signals
from batchacct.store import Store

log = logging.getLogger(__name__)

COMPLETE_S = 20.0
"""Time between two completions of records from parts, where parts came in."""
TICK_S = 1.0
MOST_OPEN = 16_384
KEPT_SHARE = 4
"""Of the files that may be open at most one in so many is kept open for its reading."""
SERVE_S = 30
"""An address at which metrics could not be served is tried again after so long."""
SILENT_S = 300.0
"""A source that has neither looked nor stored anything for so long hangs: its file system does not answer."""
END_S = DRAIN_S + 8.0
"""Runners that have not ended by then (their file system or database hangs) are left behind: nothing half done is committed."""


@dataclass(frozen=True)
class Plan:
    """What to follow: collectors by source, the rules that complete their parts, and settings.

    `known_by` is what each source was made of: of two plans the sources for which that is equal are followed on.
    """

    collectors: Sequence[Collector]
    rules: Sequence[Rule] = ()
    settings: Collect = field(default_factory=Collect)
    heartbeat_s: float = 0
    known_by: Mapping[str, object] = field(default_factory=dict)
    from_start: frozenset[str] = frozenset()


class Closeable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Ends it."""


class Service:
    """`reload` makes another plan of the configuration as it is then; if that raises a BatchacctError, the old plan stays.

    `serve_metrics` begins to serve them.  Raises from it: a BatchacctError; then it is tried again.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        clock: Callable[[], int],
        reload: Callable[[], Plan] | None = None,
        serve_metrics: Callable[[], Closeable] | None = None,
    ) -> None:
        self._plan, self._clock, self._reload = plan, clock, reload
        self._store, self._locks, self._outage = store, store.locks(), Outage()
        self._runners: dict[str, Runner] = {}
        self._notifier = Notifier.from_environment()
        self._completer = _Completer(store, plan.rules, clock, self._outage)
        self._recorded_by_ended = 0
        self._beat_at = time.monotonic()
        self._beat_count = 0
        self._said = ""
        self._serve_metrics, self._serve_at = serve_metrics, 0.0
        self._endpoint: Closeable | None = None

    def run(self, signals: Signals) -> None:
        """Follows until SIGTERM or SIGINT.  Raises: BusyError if one of the sources is followed by another process already."""
        try:
            for collector in self._plan.collectors:
                self._locks.take(lock_name(collector.source.name))
            log.info("following %s", ", ".join(collector.source.name for collector in self._plan.collectors))
            self._start(self._plan.collectors)
            self._completer.start()
            self._notifier.ready()
            self._follow(signals)
        finally:
            self._notifier.stopping()
            if self._endpoint is not None:
                self._endpoint.close()
            self._end(list(self._runners))
            self._completer.end()
            closing = threading.Thread(target=self._locks.close, name="give locks back", daemon=True)
            closing.start()
            closing.join(DRAIN_S)  # a database that hangs does not hinder the end: the locks end with the process

    @property
    def recorded(self) -> int:
        """Records that came into the store since the start."""
        return self._recorded_by_ended + sum(runner.recorded for runner in self._runners.values())

    def _follow(self, signals: Signals) -> None:
        tick_s = min(TICK_S, self._notifier.watchdog_s or TICK_S)
        while True:
            number = signals.wait(tick_s)
            if number in END:
                log.info("told to end")
                return
            if number is not None:
                self._take_over_configuration()
            self._notifier.watchdog()
            self._serve()
            self._say()
            self._beat()

    # --- runners ----------------------------------------------------------------------------------------------------------

    def _start(self, collectors: Sequence[Collector]) -> None:
        kept_open = max(min(_most_open_files() // KEPT_SHARE // max(len(self._plan.collectors), 1), KEPT_OPEN), 1)
        around = Surroundings(
            self._store, self._plan.settings, self._clock, self._locks, self._outage, kept_open, self._completer.something_came
        )
        for collector in collectors:
            if collector.feed is None:
                runner: Runner = FileRunner(collector, around, self._plan.from_start)
            else:
                runner = FeedRunner(collector, around)
            self._runners[collector.source.name] = runner
            runner.start()

    def _end(self, names: Sequence[str]) -> None:
        ending = [self._runners.pop(name) for name in names]
        for runner in ending:
            runner.end()
        at_the_latest = time.monotonic() + END_S
        for runner in ending:
            runner.join(max(at_the_latest - time.monotonic(), 0))
            self._recorded_by_ended += runner.recorded
            if runner.is_alive():
                log.warning("source=%s does not answer, and is left as it is stored", runner.source)

    def _take_over_configuration(self) -> None:
        if self._reload is None:
            return
        self._notifier.reloading()
        try:
            plan = self._reload()
        except BatchacctError as error:
            log.error("the configuration stays as it was: %s", error.message)  # noqa: TRY400 - told to people
        else:
            of_sources = {"watch", "poll_interval", "feed_interval"}
            same_settings = plan.settings.model_dump(include=of_sources) == self._plan.settings.model_dump(include=of_sources)
            kept = {n for n in self._runners if same_settings and n in plan.known_by and plan.known_by[n] == self._plan.known_by[n]}
            ended = [name for name in self._runners if name not in kept]
            begun = [collector for collector in plan.collectors if collector.source.name not in kept]
            self._plan = plan
            self._completer.rules = plan.rules
            self._end(ended)
            self._start(begun)
            log.info("configuration read again: %d sources go on, %d ended, %d begun", len(kept), len(ended), len(begun))
        self._notifier.ready()

    # --- what is told -----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Serves metrics once the address is free: that somebody else listens there keeps nothing from being collected."""
        if self._serve_metrics is None or self._endpoint is not None or time.monotonic() < self._serve_at:
            return
        try:
            self._endpoint = self._serve_metrics()
        except BatchacctError as error:
            if self._serve_at == 0:
                log.error("%s. It is tried again every %d s", error.message, SERVE_S)  # noqa: TRY400 - told to people
            self._serve_at = time.monotonic() + SERVE_S

    def _beat(self) -> None:
        every_s = self._plan.heartbeat_s
        if not every_s or time.monotonic() - self._beat_at < every_s:
            return
        count = self.recorded
        log.info("Inserted %d records in the last %g minutes", count - self._beat_count, every_s / 60)
        self._beat_at, self._beat_count = time.monotonic(), count

    def _say(self) -> None:
        """The status text of the unit: how many sources, how many records, and what is wrong."""
        now = time.monotonic()
        troubled = [f"{name}: {r.trouble}" for name, r in self._runners.items() if r.trouble]
        troubled += [f"{name}: its file system does not answer" for name, r in self._runners.items() if self._hangs(r, now)]
        sources = "1 source" if len(self._runners) == 1 else f"{len(self._runners)} sources"
        text = f"{sources}, {self.recorded} records" + "".join(f"; {told}" for told in troubled)
        if text != self._said:
            self._notifier.status(text)
            self._said = text

    @staticmethod
    def _hangs(runner: Runner, now: float) -> bool:
        return isinstance(runner, FileRunner) and now - runner.turn_at > SILENT_S


def _most_open_files() -> int:
    """How many files the process may have open, once it has taken what it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_OPEN if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


class _Completer(threading.Thread):
    """Makes records of the parts that came in, every COMPLETE_S."""

    def __init__(self, store: Store, rules: Sequence[Rule], clock: Callable[[], int], outage: Outage) -> None:
        super().__init__(name="complete", daemon=True)
        self.rules = rules
        self._store, self._clock, self._outage = store, clock, outage
        self._came = threading.Event()
        self._ended = threading.Event()
        self._ends_at = math.inf

    def something_came(self) -> None:
        self._came.set()

    def run(self) -> None:
        self._came.set()
        while not self._ended.wait(COMPLETE_S):
            self._complete()
        if not self._outage.lasts:
            self._complete()

    def end(self) -> None:
        """Completes what came last, as far as there is time, and ends."""
        self._ends_at = time.monotonic() + DRAIN_S
        self._ended.set()
        if self.is_alive():
            self.join(END_S)

    def _complete(self) -> None:
        if not (self._came.is_set() and self.rules):
            return
        self._came.clear()
        try:
            complete_parts(self._store, self.rules, self._clock(), enough=lambda: time.monotonic() > self._ends_at)
            self._outage.over()
        except StoreError as error:
            self._came.set()
            self._outage.noticed(error)
        except SchemaError as error:
            log.warning("records are not completed from parts: %s", error.message)
        except Exception:
            log.exception("records could not be completed from parts, by an error that was not foreseen; it is tried again")
            self._came.set()
