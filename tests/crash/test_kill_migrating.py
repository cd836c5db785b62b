"""Killed while it migrates, or makes partitions, and run again: every row is there once, in the schema of this program.

`make crash` kills 500 times on each database (BATCHACCT_KILLS); the counts are told at the end of the run.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import inspect

from batchacct.errors import BusyError
from batchacct.ledger.books import read_books
from batchacct.store import Store, partitions
from batchacct.store.months import Month
from tests.fix_counts import RecordProperty, record_counts
from tests.fix_stores import empty
from tests.forks import Forked, Forks
from tests.records import NOW
from tests.store.schemas import Rows, as_migrated, create_at, differences, everything, fill

POINTS = ("migrate.step", "migrate.recorded", "migrate.before-commit", "partition.statement")
KILLS = int(os.environ.get("BATCHACCT_KILLS", "4"))
SIGKILLED = -9
PATIENCE_S = 180


@dataclass
class Site:
    """A database of the first schema with rows in it, each time it is made anew."""

    url: str
    folder: Path
    holding: Rows
    forks: Forks
    busy: int = field(default=0)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def anew(self) -> None:
        if self.url.startswith("sqlite"):
            for path in self.folder.glob("*.db*"):
                path.unlink()
        else:
            empty(self.url)
        store = Store(self.url)
        create_at(store, "0001")
        fill(store, self.holding)
        store.close()

    def start(self, crash_at: str = "") -> Forked:
        environment = {"BATCHACCT_CRASH_AT": crash_at}
        return self.forks.start("tests.crash.migrating", self.url, str(NOW), log=self.log, environment=environment)

    def finish(self) -> None:
        """Runs it to its end; a server may notice only after a while that the one that was killed is gone."""
        deadline = time.monotonic() + PATIENCE_S
        while (status := self.start().wait(PATIENCE_S)) == BusyError.exit_code:
            self.busy += 1
            assert time.monotonic() < deadline, self.log.read_text()
        assert status == 0, self.log.read_text()

    def check(self) -> None:
        """Every row is there, once, and the schema is whole."""
        store = Store(self.url)
        store.check()
        assert differences(store) == []
        assert everything(store) == as_migrated(self.holding, "0001")
        with store.reading() as connection:
            assert not inspect(connection).has_table("migration_step")
            assert read_books(connection).problems == []
            if store.dialect.partitions is not None:
                months = {Month.at(row["logged_at"]) for row in self.holding["job"]}
                assert {month for month in months if month <= Month.at(NOW) + 1} <= set(partitions.months(store, connection, "job"))
        store.close()


@pytest.fixture
def site(store_url: str, tmp_path: Path, holding: Rows, forks: Forks) -> Site:
    made = Site(store_url, tmp_path, holding, forks)
    made.anew()
    return made


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(site: Site, point: str) -> None:
    store = Store(site.url)
    is_met = {
        "migrate.recorded": store.dialect.commits_ddl,
        "partition.statement": store.dialect.partitions is not None,
    }.get(point, True)
    store.close()
    if not is_met:
        pytest.skip(f"{point} is not on the way here")
    for times in (1, 1, 2) if point in {"migrate.step", "migrate.recorded"} else (1, 1):
        ended = site.start(f"{point}:{times}").wait(PATIENCE_S)
        assert ended in {SIGKILLED, BusyError.exit_code}, site.log.read_text()
    site.finish()
    site.check()


def test_killed_at_any_moment(site: Site, record_property: RecordProperty) -> None:
    began = time.monotonic()
    site.finish()
    seconds = time.monotonic() - began
    site.check()
    site.anew()
    moments = random.Random(5)
    kills = databases = 0
    while kills < KILLS:
        process = site.start()
        if not process.has_ended(within_s=moments.random() * seconds):
            process.kill()
            kills += 1
        elif (status := process.wait()) == BusyError.exit_code:
            site.busy += 1
        else:
            assert status == 0, site.log.read_text()
            site.check()
            databases += 1
            site.anew()
    site.finish()
    site.check()
    kind = site.url.partition(":")[0].partition("+")[0]
    counts = {"kills": kills, "databases": databases + 1, "refused as the lock was still held": site.busy}
    record_counts(record_property, f"kills while migrating on {kind}", counts)
