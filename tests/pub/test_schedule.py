"""Publishing on a schedule, by real processes: each run once, never two at a time, made up for where it was missed."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from batchacct import insert as insert_records
from batchacct.clock import NOW_VARIABLE
from batchacct.config import PATH_VARIABLE, Config
from batchacct.errors import BusyError, ConfigError, PluginError, SchemaError
from batchacct.store.tables import message, setting, usage
from pub.schedule import BEGAN, Schedule, delay_s
from tests.apel_reader import read_message
from tests.forks import Forked, Forks
from tests.pristine import with_schema
from tests.pub.scheduled import FOLDER
from tests.pub.site import BASE, DAY, T0, a_job
from tests.scripts_2012 import until

NOW = T0 + 10 * DAY
ALWAYS, YEARLY = "* * * * * *", "0 0 1 1 *"

CONFIG = """\
site = "TEST-SITE"
[database]
url = "{url}"
[[cluster]]
name = "c1"
[[benchmark]]
type = "HEPscore23"
value = 10.0
[publish]
path = "{folder}/outgoing"
bunch = 1
schedule = "{schedule}"
schedule_jitter = 0
"""


class Site:
    """A database with local jobs, each of which is a message; publishers of it, which log to files of their own."""

    def __init__(self, folder: Path, url: str, forks: Forks) -> None:
        self.folder, self.url, self._forks = folder, url, forks
        self.store = with_schema(url)
        self.configure()
        self._jobs = 0
        self._started: list[Forked] = []

    def configure(self, schedule: str = ALWAYS, more: str = "") -> None:
        text = CONFIG.format(url=self.url, folder=self.folder, schedule=schedule)
        (self.folder / "batchacct.toml").write_text(text + more, encoding="utf-8")

    def add(self, jobs: int, loads: int = 1) -> None:
        for _ in range(loads):
            numbers = range(self._jobs + 1, self._jobs + jobs + 1)
            counts = insert_records(self.store, "job", [a_job(n, queue="short") for n in numbers], source="lsf")
            assert sum(c.recorded for c in counts) == jobs
            self._jobs += jobs

    def start(self, *arguments: str, log: str = "a", settings: dict[str, Any] | None = None, crash_at: str = "") -> Forked:
        """`batchacct publish`, or with the name of a receiver of `tests.pub.scheduled` and its options that."""
        started = self._forks.start(
            *(("tests.pub.scheduled", *arguments) if arguments else ("batchacct", "publish")),
            log=self.folder / log,
            environment={
                PATH_VARIABLE: str(self.folder / "batchacct.toml"),
                NOW_VARIABLE: str(NOW),
                FOLDER: str(self.folder),
                "BATCHACCT_CRASH_AT": crash_at,
            },
            settings=settings,
        )
        self._started.append(started)
        return started

    def said(self, log: str = "a") -> str:
        path = self.folder / log
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def until_said(self, what: str, log: str = "a", times: int = 1) -> None:
        until(lambda: self.said(log).count(what) >= times)

    def handed_over(self) -> Counter[object]:
        """How often each job is in a message that stands in the outgoing folder."""
        files = [p for p in (self.folder / "outgoing").rglob("*") if p.is_file() and not p.name.endswith(".tmp")]
        records = (record for path in files for record in read_message(path.read_bytes(), now=NOW))
        return Counter(record["LocalJobId"] for record in records)

    @property
    def files(self) -> int:
        return sum(p.is_file() and not p.name.endswith(".tmp") for p in (self.folder / "outgoing").rglob("*"))

    def all_once(self) -> None:
        """Each job is in one message, there and in the books."""
        assert self.handed_over() == Counter(str(n + 1) for n in range(self._jobs))
        assert self.confirmed() == (self._jobs, self._jobs)

    def confirmed(self) -> tuple[int, int]:
        """(confirmed, all) messages."""
        with self.store.reading() as connection:
            row = connection.execute(select(func.count(message.c.confirmed_at), func.count())).one()
        return row[0], row[1]

    def joined(self) -> int:
        with self.store.reading() as connection:
            return connection.scalar(select(func.count()).select_from(usage)) or 0

    def began(self) -> int | None:
        """When the last run that was done began."""
        with self.store.reading() as connection:
            value = connection.scalar(select(setting.c.value).where(setting.c.name == BEGAN))
        return None if value is None else int(value)

    def begin_at(self, at: float) -> None:
        with self.store.writing() as connection:
            values = {"value": str(int(at)), "since": int(at)}
            if not connection.execute(update(setting).where(setting.c.name == BEGAN).values(values)).rowcount:
                connection.execute(insert(setting).values(name=BEGAN, **values))

    def close(self) -> None:
        for process in self._started:
            if not process.has_ended():
                process.kill()
        self.store.close()


@pytest.fixture
def scheduled(tmp_path: Path, database_url: str, forks: Forks) -> Iterator[Site]:
    """On each database."""
    made = Site(tmp_path, database_url, forks)
    yield made
    made.close()


@pytest.fixture
def sqlite_scheduled(tmp_path: Path, sqlite_url: str, forks: Forks) -> Iterator[Site]:
    made = Site(tmp_path, sqlite_url, forks)
    yield made
    made.close()


def five_years_ago() -> float:
    return time.time() - 5 * 366 * DAY


# --- when ----------------------------------------------------------------------------------------------------------------------


def schedule_of(site: str, **publish: object) -> Schedule:
    return Schedule(Config.model_validate({**BASE, "site": site, "publish": publish}))


def test_a_thousand_sites_do_not_come_in_the_same_second() -> None:
    at = int(dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC).timestamp())
    due = Counter(schedule_of(f"SITE-{n}").first_after(at) for n in range(1000))
    assert None not in due
    assert max(due.values()) <= 8, "of 900 seconds"
    seconds = [int(second) - at for second in due if second is not None]
    assert min(seconds) >= 17 * 60 - 15 * 60
    assert max(seconds) < 17 * 60 + 15 * 60


def test_a_site_is_always_late_by_the_same_time() -> None:
    (delay,) = {delay_s("TEST-SITE", 900) for _ in range(3)}
    assert delay_s("TEST-SITE", 0) == 0
    plain, later = schedule_of("TEST-SITE", schedule_jitter=0), schedule_of("TEST-SITE")
    at = T0
    for _ in range(5):
        due = plain.first_after(at)
        assert due is not None
        assert later.first_after(due - 1 + delay) == due + delay
        assert later.first_after(due + delay) == plain.first_after(due + delay - delay) + delay  # type: ignore[operator]
        at = due


def test_the_zone_of_the_schedule() -> None:
    keys = {"schedule": "30 6 * * *", "schedule_jitter": 0, "schedule_zone": "Europe/Zurich"}
    for day, utc in ("2026-07-01", 4), ("2026-12-01", 5):
        midnight = dt.datetime.fromisoformat(f"{day}T00:00:00+00:00")
        assert schedule_of("S", **keys).first_after(int(midnight.timestamp())) == int(midnight.timestamp()) + utc * 3600 + 1800


# --- runs ----------------------------------------------------------------------------------------------------------------------


def test_it_publishes_whenever_its_time_has_come(scheduled: Site) -> None:
    scheduled.add(3)
    with scheduled.start():
        until(lambda: scheduled.files == 3)
        scheduled.add(2)
        until(lambda: scheduled.files == 5)
        scheduled.until_said("run done: jobs=2 records=2 messages=2 handed_over=2 refused=0")
    scheduled.all_once()
    assert scheduled.said().splitlines()[-1].endswith(" INFO ended")
    assert "WARNING" not in scheduled.said().replace("never read to its end", "")
    assert "ERROR" not in scheduled.said()


def test_the_first_start_waits_for_the_schedule(scheduled: Site) -> None:
    scheduled.configure(YEARLY)
    scheduled.add(1)
    before = int(time.time())
    with scheduled.start():
        scheduled.until_said("no run is due")
    year = dt.datetime.now(dt.UTC).year + 1
    assert f"next={year}-01-01 00:00:00Z" in scheduled.said()
    assert scheduled.files == 0
    began = scheduled.began()
    assert began is not None
    assert before <= began <= time.time(), "what the schedule comes to from now on is missed if nobody runs"


def test_what_was_missed_is_made_up_for_once_by_one_of_two_hosts(scheduled: Site) -> None:
    scheduled.configure(YEARLY)
    scheduled.add(20)
    scheduled.begin_at(five_years_ago())
    with scheduled.start("alone", log="a"), scheduled.start("alone", log="b"):
        until(lambda: scheduled.confirmed() == (20, 20))
        until(lambda: all(re.search("run done|left to another|no run is due", scheduled.said(log)) for log in "ab"))
    said = scheduled.said("a") + scheduled.said("b")
    assert said.count("missed=yes") == said.count("run done") == 1, said
    with scheduled.start("alone", log="c"):
        scheduled.until_said("no run is due", "c")
    assert "run begins" not in scheduled.said("c")
    assert not (scheduled.folder / "two").exists()


def test_a_run_that_was_killed_is_made_up_for_at_the_next_start(scheduled: Site) -> None:
    scheduled.configure(YEARLY)
    scheduled.add(10)
    scheduled.begin_at(five_years_ago())
    assert scheduled.start(crash_at="send.handed-over:3").wait() == -9
    assert 0 < scheduled.files < 10
    with scheduled.start(log="b"):
        scheduled.until_said("run done", "b")
    assert "left to another" not in scheduled.said("b")
    scheduled.all_once()


def test_a_publisher_that_is_killed_in_the_midst_leaves_no_lock(scheduled: Site) -> None:
    """It is stopped first, so that it is certain that the lock was held, and that it goes at the kill and not before."""
    jobs = 200
    scheduled.add(jobs)
    first = scheduled.start()
    until(lambda: scheduled.files > 0)
    first.send(signal.SIGSTOP)
    assert scheduled.files < jobs
    with scheduled.start(log="b"):
        scheduled.until_said("left to another publisher", "b", times=2)
        assert "run begins" not in scheduled.said("b")
        first.kill()
        refusals = scheduled.said("b").count("left to another publisher")
        scheduled.until_said("run begins", "b")
        assert scheduled.said("b").count("left to another publisher") <= refusals + 1, "at its next look it takes over"
        scheduled.until_said("run done", "b")
    scheduled.all_once()


def test_two_hosts_and_a_cron_job_never_publish_at_the_same_time(scheduled: Site) -> None:
    rounds = 4
    two = scheduled.folder / "two"
    with scheduled.start("alone", log="a"), scheduled.start("alone", log="b"):
        for _ in range(rounds):
            before = scheduled.confirmed()[0]
            scheduled.add(5)
            assert scheduled.start("alone", "--once", log="c").wait() in (0, BusyError.exit_code)
            until(lambda before=before: two.exists() or scheduled.confirmed()[0] == before + 5)  # type: ignore[misc]
    assert not two.exists()
    received = Counter((scheduled.folder / "received").read_text(encoding="ascii").split())
    assert sorted(received.values()) == [1] * 5 * rounds
    said = scheduled.said("a") + scheduled.said("b")
    assert "left to another publisher" in said or "put off" in said, "they did meet"
    assert "ERROR" not in said


def test_runs_that_are_due_while_one_goes_on_are_made_up_for_by_one(sqlite_scheduled: Site) -> None:
    site = sqlite_scheduled
    site.add(1)
    with site.start("slow"):
        site.until_said("run done", times=3)
    due = [dt.datetime.fromisoformat(found) for found in re.findall(r"run begins: due=(\S+ \S+)", site.said())]
    waits = [(after - before).total_seconds() for before, after in itertools.pairwise(due)]
    assert max(waits) >= 3, "what came after the first that was missed is not due any more"
    assert due == sorted(set(due))
    assert "ERROR" not in site.said()


@pytest.mark.parametrize("receiver", ["", "broken"])
def test_a_run_that_fails_is_told_and_the_schedule_goes_on(scheduled: Site, receiver: str) -> None:
    if not receiver:
        (scheduled.folder / "outgoing").write_text("no folder\n")
    scheduled.add(2)
    with scheduled.start(*([receiver] if receiver else [])):
        scheduled.until_said("ERROR run failed, the schedule goes on: next=")
        if not receiver:
            (scheduled.folder / "outgoing").unlink()
        until(lambda: scheduled.confirmed() == (2, 2))
    assert ("ZeroDivisionError" in scheduled.said()) == bool(receiver)


def test_a_database_that_goes_and_comes_back(sqlite_scheduled: Site) -> None:
    """A file can be taken away; of servers that go the collector's tests tell."""
    scheduled = sqlite_scheduled
    scheduled.add(2)
    scheduled.store.close()
    database = scheduled.folder / "batchacct.db"
    with scheduled.start():
        until(lambda: scheduled.files == 2)
        scheduled.store.close()
        database.rename(scheduled.folder / "away")
        scheduled.until_said("ERROR run failed")
        (scheduled.folder / "away").rename(database)
        done = scheduled.said().count("run done")
        scheduled.until_said("run done", times=done + 1)


# --- signals -------------------------------------------------------------------------------------------------------------------


def test_told_to_end_in_the_midst_of_handing_over(scheduled: Site) -> None:
    jobs = 500
    scheduled.add(jobs)
    process = scheduled.start(settings={"pub.outbox.RECORDS_PER_STEP": 50})
    until(lambda: scheduled.files > 0)
    assert process.terminate() == 0
    assert "is left as it is stored" not in scheduled.said(), "it ended by itself, and in time"
    confirmed, built = scheduled.confirmed()
    assert 0 < scheduled.files == confirmed < jobs, "what was handed over is in the books"
    assert built <= jobs
    assert "the run has ended after its last step" in scheduled.said()
    assert "ERROR" not in scheduled.said()
    assert scheduled.began() is None or "run done" not in scheduled.said()
    with scheduled.start(log="b"):
        scheduled.until_said("run done", "b")
    scheduled.all_once()


def test_told_to_end_in_the_midst_of_joining(scheduled: Site) -> None:
    jobs, loads = 10, 25
    scheduled.add(jobs, loads)
    process = scheduled.start(settings={"pub.joining.RECORDS_PER_STEP": jobs})
    until(lambda: scheduled.joined() > 0)
    assert process.terminate() == 0
    joined = scheduled.joined()
    assert joined % jobs == 0, "whole steps"
    assert joined < jobs * loads
    assert scheduled.files == 0
    with scheduled.start(log="b"):
        scheduled.until_said("run done", "b")
    scheduled.all_once()


def test_a_receiver_that_hangs_does_not_hinder_the_end(sqlite_scheduled: Site) -> None:
    sqlite_scheduled.add(1)
    process = sqlite_scheduled.start("hanging", settings={"pub.schedule.END_S": 0.5})
    until((sqlite_scheduled.folder / "hangs").exists)
    assert process.terminate(within_s=60) == 0
    assert "is left as it is stored" in sqlite_scheduled.said()


def test_it_reads_its_configuration_again(sqlite_scheduled: Site) -> None:
    site = sqlite_scheduled
    site.configure(YEARLY)
    site.add(1)
    with site.start() as process:
        site.until_said("no run is due")
        site.configure(ALWAYS)
        process.send(signal.SIGHUP)
        until(lambda: site.files == 1)
        for broken in ('schedule_zone = "Mars/Olympus"\n', 'transport = "pigeon"\n'):
            before = site.said().count("the configuration stays as it was")
            site.configure(YEARLY, more=broken)
            process.send(signal.SIGHUP)
            site.until_said("the configuration stays as it was", times=before + 1)
        site.add(1)
        until(lambda: site.files == 2)
        site.configure(YEARLY)
        process.send(signal.SIGHUP)
        site.until_said(f"configuration read again: schedule='{YEARLY}'")
    site.all_once()


def test_a_clock_that_is_set_is_noticed(sqlite_scheduled: Site) -> None:
    site = sqlite_scheduled
    site.configure(YEARLY)
    site.add(1)
    with site.start("alone"):
        site.until_said("no run is due")
        (site.folder / "new").write_text(str(366 * DAY), encoding="ascii")
        (site.folder / "new").rename(site.folder / "step")
        site.until_said("the clock was set")
        site.until_said("run done")
        (site.folder / "step").unlink()
        site.until_said("the clock was set", times=2)
        site.until_said("run done", times=2)
    began = site.began()
    assert began is not None
    assert began <= time.time(), "a run that began a year ahead does not keep those of a year from being due"


# --- what is wrong at the start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        ('transport = "pigeon"\n', PluginError.exit_code, "transport 'pigeon' is not installed"),
        ('format = "apel-9"\n', PluginError.exit_code, "format 'apel-9' is not installed"),
        ("options = { speed = 9 }\n", ConfigError.exit_code, "publish.options.speed: there is no such key"),
        ('schedule_zone = "Mars/Olympus"\n', ConfigError.exit_code, "publish.schedule_zone: no such time zone"),
    ],
)
def test_what_every_run_would_fail_with_is_told_at_once(sqlite_scheduled: Site, more: str, status: int, told: str) -> None:
    sqlite_scheduled.configure(more=more)
    assert sqlite_scheduled.start().wait() == status
    assert told in sqlite_scheduled.said()


def test_without_a_schema(sqlite_scheduled: Site) -> None:
    sqlite_scheduled.store.close()
    (sqlite_scheduled.folder / "batchacct.db").unlink()
    assert sqlite_scheduled.start().wait() == SchemaError.exit_code
    assert "run `batchacct db create`" in sqlite_scheduled.said()
