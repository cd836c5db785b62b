"""`batchacct publish` without `--once`: publishes on a schedule, in the foreground, until SIGTERM.

APScheduler says when to look, the database whether a run is due: it is if the schedule has come since the last run that was done
began, and when that was is a setting there. So whatever was missed (no process ran, the run before took long, the host slept) is
made up for by one run; and of several hosts with one database one does each run, and another when that one is gone. Who looks, and
publishes, holds a lock that is gone with its process, beside that of `publish --once`.

A run that fails is told, and is due again the next time; one that is told to end leaves what is built in the outbox.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import threading
import time
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar, cast

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from sqlalchemy import Connection, insert, select, update

from batchacct.clock import shown, unix_now
from batchacct.config import Config, load_config
from batchacct.cron import cron_trigger
from batchacct.errors import BatchacctError, BusyError, IncompleteError, PublishError
from batchacct.names_policy import Policy
from batchacct.notify import Notifier
from batchacct.options import opened_transport
from batchacct.parsing import registry
from batchacct.scripts import start_logging
from batchacct.signals import END, Signals
from batchacct.store import Store
from batchacct.store.tables import setting
from pub.command import Done, Joined, publish_once
from pub.outbox import Published
from pub.transports.contract import Transport
from pub.vo_map import vo_map

log = logging.getLogger(__name__)

T = TypeVar("T")

TURN = "publish on schedule"
"""The lock of who looks whether a run is due, until it is done."""
BEGAN = "publish.began"
"""The setting that says when (Unix time) the last run began that was done; before the first, since when there is a schedule."""
TICK_S = 1.0
END_S = 20.0
"""A run that has not ended so long after it was told to is left behind: nothing half done is committed."""
AGAIN_S = 60
"""A run that something else was in the way of (a republication, a dry run) is tried again after so long."""
LATE_S = 60
"""A run that is later than this was missed."""
STEP_S = 5
"""A clock that goes wrong by more in a tick was set, or stood still while the host slept."""
AHEAD_S = 300
"""A run that began so long from now, by the clock of whichever host, began by one that was wrong."""


def wall_clock() -> int:
    """Unix seconds by which runs are due, whatever the time is taken for otherwise."""
    return int(time.time())


def publish_on_schedule(config: Config) -> None:
    """Publishes until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Raises: ConfigError, PluginError, SchemaError or StoreError for what is wrong at the start.
    """
    start_logging("batchacct")
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    assert config.file is not None
    path = config.file.absolute()
    _check(config)

    def reload() -> Config:
        changed = load_config(path)
        _check(changed)
        if changed.database != config.database:
            log.warning("[database] has changed: that is for the next start")
        return changed

    with Signals() as signals, closing(EndingStore(config.database.resolved())) as store:
        store.check()
        Scheduled(store, config, reload).run(signals)
    log.info("ended")


def _check(config: Config) -> None:
    """Raises: ConfigError, PluginError for what every run would fail with. A destination that is broken stops only itself."""
    Policy.of(config)
    vo_map(config.vo)
    broken: list[BatchacctError] = []
    for one in config.destinations:
        try:
            registry.load(registry.FORMATS, one.format)
            cast("Transport", opened_transport(config, one)).close()
        except BatchacctError as error:
            broken.append(error)
            if len(config.destinations) > 1:
                log.error("destination=%s: %s", one.name, error.message)  # noqa: TRY400 - told to people
    if len(broken) == len(config.destinations):
        raise broken[0]


class Schedule(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """When runs are due: by the cron expression, and later by a time of the site's own, so that not all come at once."""

    def __init__(self, config: Config) -> None:
        keys = config.publish
        self._cron = cron_trigger(keys.schedule, zoneinfo.ZoneInfo(keys.schedule_zone))
        self._later = dt.timedelta(seconds=delay_s(config.site, keys.schedule_jitter))

    def get_next_fire_time(self, previous_fire_time: dt.datetime | None, now: dt.datetime) -> dt.datetime | None:
        """What the library asks: the first time after the previous one, if that was not after `now`, else from `now` on."""
        previous = None if previous_fire_time is None else previous_fire_time - self._later
        found: dt.datetime | None = self._cron.get_next_fire_time(previous, now - self._later)
        return None if found is None else found.astimezone(dt.UTC) + self._later

    def first_after(self, at: int) -> int | None:
        """The first time after that second, as Unix time."""
        found = self.get_next_fire_time(None, dt.datetime.fromtimestamp(at + 1, dt.UTC))
        return None if found is None else int(found.timestamp())


def delay_s(site: str, jitter_s: int) -> int:
    """By how much a site is later than its schedule: the same on all its hosts, at every start."""
    return int.from_bytes(hashlib.sha256(site.encode()).digest()[:8]) % jitter_s if jitter_s else 0


class EndingStore(Store):
    """A store on which, once told to `end`, no step of a run begins: no step of the join, no reading of what goes out.

    What was handed over can still be marked so.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.ends = threading.Event()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        self._go_on()
        with super().reading() as connection:
            yield connection

    def untangled(self, transaction: Callable[[], T]) -> T:
        self._go_on()
        return super().untangled(transaction)

    def _go_on(self) -> None:
        if self.ends.is_set():
            raise PublishError("the publisher was told to end before this left: the next run goes on with it")


class Scheduled:
    """`reload` gives the configuration as it is then; if that raises a BatchacctError, the old one stays."""

    def __init__(self, store: EndingStore, config: Config, reload: Callable[[], Config]) -> None:
        self._store, self._config, self._reload = store, config, reload
        self._schedule = Schedule(config)
        self._notifier = Notifier.from_environment()
        self._idle = threading.Event()
        self._idle.set()
        self._came_to, self._said = "", ""
        self._offset_s = wall_clock() - time.monotonic()
        # one thread: a run that is due while another goes on waits for its end, and then looks whether it is due still
        defaults = {"coalesce": True, "max_instances": 2, "misfire_grace_time": None}
        self._scheduler = BackgroundScheduler(timezone=dt.UTC, executors={"default": ThreadPoolExecutor(1)}, job_defaults=defaults)

    def run(self, signals: Signals) -> None:
        """Until SIGTERM or SIGINT."""
        told_to = False
        self._scheduler.start()
        try:
            self._look()
            self._notifier.ready()
            self._follow(signals)
            told_to = True
        finally:
            self._notifier.stopping()
            self._store.ends.set()
            self._scheduler.remove_all_jobs()  # so that none comes while its thread is going
            self._scheduler.shutdown(wait=False)
            if not self._idle.wait(END_S):
                log.warning("the run does not end (database, or receiver, does not answer), and is left as it is stored")
                logging.shutdown()
                os._exit(0 if told_to else 1)  # the interpreter would wait for it

    def _follow(self, signals: Signals) -> None:
        tick_s = min(TICK_S, self._notifier.watchdog_s or TICK_S)
        while True:
            number = signals.wait(tick_s)
            if number in END:
                log.info("told to end")
                return
            if number is not None:
                self._take_over_configuration()
            if self._clock_was_set():
                log.warning("the clock was set, or the host slept: looking whether a run is due")
                self._look()
            self._notifier.watchdog()
            self._say()

    def _look(self) -> None:
        """Looks now whether a run is due, and from now on whenever the schedule comes."""
        now = dt.datetime.now(dt.UTC)
        self._scheduler.add_job(self._turn, self._schedule, id="publish", replace_existing=True, next_run_time=now)

    def _take_over_configuration(self) -> None:
        self._notifier.reloading()
        try:
            self._config = self._reload()
        except BatchacctError as error:
            log.error("the configuration stays as it was: %s", error.message)  # noqa: TRY400 - told to people
        else:
            self._schedule = Schedule(self._config)
            log.info("configuration read again: schedule=%r", self._config.publish.schedule)
            self._look()
        self._notifier.ready()

    def _clock_was_set(self) -> bool:
        offset_s = wall_clock() - time.monotonic()
        was_set = abs(offset_s - self._offset_s) > STEP_S
        self._offset_s = offset_s
        return was_set

    def _say(self) -> None:
        """The status text of the unit."""
        doing = f"next run {self._next()}" if self._idle.is_set() else "publishing"
        text = f"{doing}{self._came_to}"
        if text != self._said:
            self._notifier.status(text)
            self._said = text

    def _next(self) -> str:
        return shown(self._schedule.first_after(wall_clock()))

    # --- a turn, in the thread of the scheduler ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._idle.clear()
        try:
            if not self._store.ends.is_set():
                with self._store.lock(TURN):
                    self._publish_or_put_off()
        except BusyError as error:
            log.info("left to another publisher: %s", error.message)
        except BatchacctError as error:
            if self._store.ends.is_set():
                log.info("the run has ended after its last step; what is built is in the outbox")
            else:
                self._failed(error.message)
        except Exception as error:
            log.exception("an error that was not foreseen")
            self._failed(f"an error that was not foreseen, please report it with the log: {type(error).__name__}: {error}")
        finally:
            self._store.close()  # its connections would be idle until the next run
            self._idle.set()

    def _publish_or_put_off(self) -> None:
        """Publishes if a run is due; one that a dry run, say, is in the way of is not left to the next schedule."""
        try:
            self._publish_if_due()
        except BusyError as error:
            log.info("put off by %d s: %s", AGAIN_S, error.message)
            at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=AGAIN_S)
            self._scheduler.add_job(self._turn, "date", run_date=at, id="again", replace_existing=True)

    def _publish_if_due(self) -> None:
        now, last = wall_clock(), self._last_began()
        if last is None:
            last = now
            self._note_began(now)
        due = self._schedule.first_after(last) if last <= now + AHEAD_S else now
        if due is None or due > now:
            log.info("no run is due: last=%s next=%s", shown(last), self._next())
        else:
            missed = " missed=yes, made up for now" if now - due > LATE_S else ""
            log.info("run begins: due=%s%s", shown(due), missed)
            self._publish(now)

    def _publish(self, now: int) -> None:
        began = time.monotonic()
        try:
            joined, done = publish_once(self._store, self._config, unix_now)
        except IncompleteError:
            if not self._store.ends.is_set():
                self._note_began(now)
            raise
        self._note_began(now)
        self._done(joined, done, time.monotonic() - began)

    def _done(self, joined: Joined, done: Done, took_s: float) -> None:
        for name, one in done.items() if len(done) > 1 else ():
            log.info("destination=%s: %s", name, _counts(one))
        total = Published()
        for one in done.values():
            total.records += one.records
            total.messages += one.messages
            total.confirmed += one.confirmed
            total.refused += one.refused
        log.info("run done: jobs=%d %s seconds=%.1f next=%s", joined.total(), _counts(total), took_s, self._next())
        self._came_to = f"; {shown(wall_clock())}: {total.records} records, {total.confirmed} messages handed over"

    def _failed(self, why: str) -> None:
        log.error("run failed, the schedule goes on: next=%s: %s", self._next(), why)
        self._came_to = f"; {shown(wall_clock())} failed: {why}"

    def _last_began(self) -> int | None:
        with self._store.reading() as connection:
            value = connection.scalar(select(setting.c.value).where(setting.c.name == BEGAN))
        return None if value is None else int(value)

    def _note_began(self, at: int) -> None:
        values = {"value": str(at), "since": wall_clock()}
        with self._store.writing() as connection:
            known = connection.execute(update(setting).where(setting.c.name == BEGAN).values(values))
            if not known.rowcount:
                connection.execute(insert(setting).values(name=BEGAN, **values))


def _counts(done: Published) -> str:
    refused = done.refused.total()
    return f"records={done.records} messages={done.messages} handed_over={done.confirmed} refused={refused}"
