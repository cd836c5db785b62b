"""Killed anywhere while it archives, recalls or purges, and run again: nothing is lost, nothing doubled, no half file believed.

`make crash` kills 500 times on each database (BATCHACCT_KILLS); the counts are told at the end of the run.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

import batchacct
from batchacct.archive.recalling import one_of, recall
from batchacct.clock import NOW_VARIABLE
from batchacct.config import PATH_VARIABLE
from batchacct.errors import BusyError
from batchacct.model import JOB
from batchacct.store import Store, partitions
from batchacct.store.months import Month
from batchacct.store.tables import RECORD_TABLES, archive_leftover, archived_month, metadata, recalled
from batchacct.store.usage_tables import usage_changed
from cpuhours.query import usage_by
from tests.archive.farms import same
from tests.archive.test_purge import APRIL, JULY, MARCH, found_names, site_of
from tests.fix_counts import RecordProperty, record_counts
from tests.forks import Forked, Forks
from tests.pub.site import DAY, Site, a_job, an_identity, dumped

ARCHIVE_POINTS = (
    "archive.begun",
    "archive.writing",
    "archive.written",
    "archive.compared",
    "archive.before-commit",
    "archive.in-force",
    "archive.partition",
    "archive.removed",
)
PURGE_POINTS = (
    "purge.rows-before-commit",
    "purge.writing",
    "purge.written",
    "purge.before-commit",
    "purge.table-before-commit",
    "purge.mappings-before-commit",
    "purge.file-before-commit",
)
RECALL_POINTS = ("recall.before-commit",)
KILLS = int(os.environ.get("BATCHACCT_KILLS", "4"))
SIGKILLED = -9
CONFIGURATION = """\
site = "TEST-SITE"
[database]
url = "{url}"
[archive]
path = "{archive}"
[retention]
keep = 0
{more}
"""


@dataclass
class Interrupted:
    """A site whose archive and purge are processes that can be killed, and what it has to come to."""

    site: Site
    folder: Path
    forks: Forks
    wanted: dict[str, Any]

    def start(self, *arguments: str, crash_at: str = "") -> Forked:
        environment = {
            PATH_VARIABLE: str(self.folder / "batchacct.toml"), NOW_VARIABLE: str(JULY), "BATCHACCT_CRASH_AT": crash_at,
        }  # fmt: skip
        return self.forks.start("batchacct", "db", *arguments, log=self.folder / "log", environment=environment, folder=self.folder)

    def is_killed(self, point: str, *arguments: str) -> bool:
        """Whether it came to a point, and was killed there; everything is as it was all the same."""
        status = self.run(*arguments, crash_at=point)
        assert status in {SIGKILLED, 0}, self.said()
        self.check()
        return status == SIGKILLED

    def run(self, *arguments: str, crash_at: str = "") -> int:
        """Until it is done: a server may notice only after a while that a killed process holds nothing any more."""
        for _ in range(100):
            status = self.start(*arguments, crash_at=crash_at).wait()
            if status != BusyError.exit_code:
                return status
            time.sleep(0.1)
        return status

    def check(self) -> dict[str, int]:
        """Everything is as it was before, wherever it is; how many records are in the tables, and in the archive."""
        assert same(asked(self.site), self.wanted), self.said()
        with self.site.store.reading() as connection:
            there = {name: connection.scalar(select(func.count()).select_from(t)) or 0 for name, t in RECORD_TABLES.items()}
            files = connection.scalar(select(func.sum(archived_month.c.records))) or 0
            back = connection.scalar(select(func.count()).select_from(recalled)) or 0
        return {"in tables": sum(there.values()), "archived": int(files) - back}

    def said(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8") if (self.folder / "log").exists() else ""


def asked(site: Site, begin: int | None = None) -> dict[str, Any]:
    """The books, and what ended since by VO, day and user, whose names may change: in one question, as each takes its time."""
    sums = usage_by(site.store, by=("vo", "day", "user"), begin=begin).drop(columns=["user"])
    return {"sums": sorted(map(repr, sums.itertuples(index=False, name=None))), "books": site.books()}


@pytest.fixture
def interrupted(store: Store, tmp_path: Path, forks: Forks) -> Callable[..., Interrupted]:
    """Makes a site with an empty database, each time it is called, with months that have partitions where there are such."""

    def make(more: str = "") -> Interrupted:
        for name in partitions.TABLES:
            partitions.add(store, name, [Month.at(MARCH), Month.at(APRIL)])
        site = site_of(store, tmp_path)
        numbers = range(100, 160)
        site.jobs(*(a_job(number, submit_at=MARCH + number * 3600, queue="normal") for number in numbers))
        site.identities(*(an_identity(number, recorded_at=MARCH + number * 3600) for number in numbers))
        site.publish(APRIL + 40 * DAY)
        archive = tmp_path / "archive"
        url = store.engine.url.render_as_string(hide_password=False)
        (tmp_path / "batchacct.toml").write_text(CONFIGURATION.format(url=url, archive=archive, more=more))
        return Interrupted(site, tmp_path, forks, asked(site))

    return make


def test_every_point_is_known() -> None:
    folder = Path(batchacct.__file__).parent / "archive"
    named = {name for path in folder.glob("*.py") for name in re.findall(r'crash_point\("([^"]+)"\)', path.read_text())}
    assert named == {*ARCHIVE_POINTS, *PURGE_POINTS, *RECALL_POINTS}


def test_killed_at_each_point_of_archiving(interrupted: Callable[..., Interrupted]) -> None:
    at = interrupted()
    reached = {point for point in ARCHIVE_POINTS if at.is_killed(point, "archive", "--clock-is-right")}
    is_maria = at.site.store.dialect.name == "mariadb"
    assert reached == {*ARCHIVE_POINTS[:6], *(["archive.partition"] if is_maria else [])}
    assert at.run("archive", "--clock-is-right") == 0, at.said()
    finished(at)
    with at.site.store.writing() as connection:
        recall(connection, JOB, one_of("join_id", ["100", "10"]))
    assert at.check()["in tables"] == 4, "each brings its identity"
    for point in (*ARCHIVE_POINTS[:6], "archive.removed"):
        assert at.is_killed(point, "archive", "--clock-is-right"), point
    assert at.run("archive", "--clock-is-right") == 0, at.said()
    finished(at)


def finished(at: Interrupted) -> None:
    """Everything is archived, with no file that is not in force, and no partition of what has left."""
    assert at.check() == {"in tables": 0, "archived": 6 + 2 + 60 + 60}
    with at.site.store.reading() as connection:
        assert connection.execute(select(archive_leftover)).all() == []
        named = set(connection.scalars(select(archived_month.c.file_name)))
        left = [month for name in ("job", "identity") for month in partitions.months(at.site.store, connection, name)]
    there = [path for path in at.site.config.archive.path.rglob("*") if path.is_file()]
    assert {path.name for path in there if path.suffix == ".parquet"} == named
    assert len(there) == 2 * 4, there
    assert not {Month.at(MARCH), Month.at(APRIL)} & set(left)


@pytest.mark.parametrize("is_archived", [True, False], ids=["archived", "in the tables"])
def test_killed_at_each_point_of_purging(interrupted: Callable[..., Interrupted], is_archived: bool) -> None:
    at = interrupted("personal_data = 0")
    if is_archived:
        assert at.run("archive", "--clock-is-right") == 0, at.said()
    points = [*(PURGE_POINTS[1:4] if is_archived else PURGE_POINTS[:1]), *PURGE_POINTS[4:6]]
    for point in points:
        assert at.is_killed(point, "purge", "--clock-is-right"), at.said()
    assert at.run("purge", "--clock-is-right") == 0, at.said()
    at.check()
    assert found_names(at.site) == {}


def test_killed_while_files_are_deleted(interrupted: Callable[..., Interrupted]) -> None:
    at = interrupted("archive_for = 0")
    books = at.wanted["books"]
    assert at.run("archive", "--clock-is-right") == 0, at.said()
    for times in (1, 2, 1):
        assert at.start("purge", "--clock-is-right", crash_at=f"purge.file-before-commit:{times}").wait() in {SIGKILLED, 12}
        assert at.site.books() == books
    assert at.run("purge", "--clock-is-right") == 0, at.said()
    assert at.site.books() == books
    assert list(at.site.config.archive.path.rglob("*.parquet")) == []


def test_killed_while_a_month_is_recalled(interrupted: Callable[..., Interrupted]) -> None:
    at = interrupted()
    assert at.run("archive", "--clock-is-right") == 0, at.said()
    assert at.is_killed("recall.before-commit:2", "recall", "2025-03")
    assert at.run("recall", "2025-03") in {0, 3}, at.said()
    assert at.run("archive", "--clock-is-right") == 0, at.said()
    finished(at)


@dataclass
class Chance:
    """Kills commands at moments of what each takes when it is left alone."""

    at: Interrupted
    moments: random.Random
    takes_s: dict[str, float] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)

    def undisturbed(self, *arguments: str) -> None:
        began = time.monotonic()
        assert self.at.run(*arguments) == 0, self.at.said()
        self.takes_s[arguments[0]] = time.monotonic() - began

    def has_ended(self, *arguments: str) -> bool:
        """Whether the command came to its end, and did what it is for; else it was killed, or refused."""
        process = self.at.start(*arguments)
        if not process.has_ended(within_s=self.takes_s[arguments[0]] * self.moments.random()):
            process.kill()
            self.told[f"kills of {arguments[0]}"] += 1
            return False
        status = process.wait()
        assert status in {0, BusyError.exit_code}, self.at.said()
        self.told["refused as the lock was still held"] += status != 0
        assert self.told["refused as the lock was still held"] < 10 + self.kills, self.at.said()
        return status == 0

    @property
    def kills(self) -> int:
        return sum(count for what, count in self.told.items() if what.startswith("kills"))


def test_killed_at_any_moment(interrupted: Callable[..., Interrupted], record_property: RecordProperty) -> None:
    """Archived, recalled, archived again ..., and killed in the middle of it."""
    at = interrupted()
    chance = Chance(at, random.Random(5))
    chance.undisturbed("archive", "--clock-is-right")
    chance.undisturbed("recall", "2025-03")
    while chance.kills < KILLS:
        if at.check()["in tables"]:
            chance.told["times archived"] += chance.has_ended("archive", "--clock-is-right")
        else:
            chance.has_ended("recall", chance.moments.choice(("2025-03", "2025-04")))
    assert at.run("archive", "--clock-is-right") == 0, at.said()
    finished(at)
    record_counts(record_property, f"kills while archiving on {at.site.store.dialect.name}", chance.told)


@dataclass
class Saved:
    """A site's database and archive as they were, to begin with them anew."""

    site: Site
    kept: Path

    def __post_init__(self) -> None:
        self.tables = dumped(self.site.store)
        shutil.copytree(self.site.config.archive.path, self.kept)

    def restore(self) -> None:
        self.site.emptied()
        with self.site.store.writing() as connection:
            for table in metadata.sorted_tables:
                rows = [dict(zip(table.c.keys(), row, strict=True)) for row in self.tables[table.name]]
                if table is usage_changed:  # PostgreSQL would give the same numbers again
                    rows = [{"day": row["day"]} for row in rows]
                if rows:
                    connection.execute(insert(table), rows)
        shutil.rmtree(self.site.config.archive.path)
        shutil.copytree(self.kept, self.site.config.archive.path)


def test_purging_is_killed_at_any_moment(interrupted: Callable[..., Interrupted], record_property: RecordProperty) -> None:
    """Files of March go, names go out of those of April and of a job of it in the table; from the same state again and again."""
    at = interrupted('personal_data = 0\narchive_for = "80d"')
    store = at.site.store
    assert at.run("archive", "--clock-is-right") == 0, at.said()
    with store.writing() as connection:
        recall(connection, JOB, one_of("join_id", ["20"]))
    saved, wanted = Saved(at.site, at.folder / "kept"), asked(at.site, APRIL)
    assert found_names(at.site).keys() >= {"job", "identity"}
    chance = Chance(at, random.Random(7))
    chance.undisturbed("purge", "--clock-is-right")
    purged(at)
    saved.restore()
    while chance.kills < KILLS:
        if chance.has_ended("purge", "--clock-is-right"):
            chance.told["times purged"] += 1
            purged(at)
            saved.restore()
        assert same(asked(at.site, APRIL), wanted), at.said()
    assert at.run("purge", "--clock-is-right") == 0, at.said()
    purged(at)
    assert same(asked(at.site, APRIL), wanted)
    record_counts(record_property, f"kills while purging on {store.dialect.name}", chance.told)


def purged(at: Interrupted) -> None:
    """No name is left, and no file but those in force; what was in the files of March is in the books."""
    assert found_names(at.site) == {}, at.said()
    with at.site.store.reading() as connection:
        assert connection.execute(select(archive_leftover)).all() == []
        rows = connection.execute(select(archived_month)).all()
    assert sorted(row.purged_records for row in rows) == [0, 0, 61, 63]
    there = {path.name for path in at.site.config.archive.path.rglob("*.parquet")}
    assert there == {row.file_name for row in rows} - {None}
    assert len(there) == 2
