"""What is kept of days for sums: whatever happens to jobs and the ledger, questions are answered as from the rows."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pandas as pd
import pytest
from sqlalchemy import delete, insert, select, update

from batchacct.archive import purging
from batchacct.archive.whole_months import recall_month
from batchacct.clock import NOW_VARIABLE
from batchacct.errors import ArchiveError, ConfigError, HorizonError, IncompleteError, StoreError
from batchacct.store import HeldLocks, Store
from batchacct.store.tables import archived_month, job
from batchacct.store.usage_tables import usage_appended, usage_changed, usage_day, usage_pack
from batchacct.usage import keeping, packs
from batchacct.usage.packs import FACTS, pieces
from cpuhours.query import Bins, collection_gaps, ends, first_start, logged_span, usage_by
from pub.republishing import Period, decide_anew
from tests.archive import farms
from tests.archive.farms import archive, chance_farm, new_site
from tests.cpuhours.farm import DAY, HOUR, at, chance_jobs, fill, job_row, new_store
from tests.cpuhours.kept import as_rows_are, from_rows, keep
from tests.pub.site import Site, a_job, an_identity

ROOT = Path(__file__).parents[2]
NOVEMBER = at("2026-11-01 00:00")


def chance_question(chance: random.Random) -> dict[str, Any]:
    begin = farms.BEGIN + chance.randrange(90 * DAY) // (grid := chance.choice([1, 900, DAY])) * grid
    bins = chance.choice([None, Bins("day"), Bins("month", "Europe/Zurich"), Bins("hour")])
    return {
        "by": chance.sample(["vo", "user", "queue", "outcome", "ce", "state"], chance.choice([0, 1, 2])),
        "where": chance.choice([{}, {"user": ["%b%", "alice"]}, {"vo": ["atlas"], "queue": ["grid_%"]}]),
        "begin": chance.choice([None, begin]),
        "end": chance.choice([None, begin + 30 * DAY]),
        "bins": bins,
        "counted": chance.choice(["ended", "started", "spread"]),
        "normalise": chance.choice([None, "HEPscore23"]),
    }


def assert_as_rows(store: Store, question: dict[str, Any]) -> None:
    days = question.get("begin") or farms.BEGIN, question.get("end") or farms.END
    found, gaps, times = usage_by(store, **question), collection_gaps(store, *days), times_of(store)
    with from_rows():
        pd.testing.assert_frame_equal(found, usage_by(store, **question), rtol=1e-9, obj=str(question))
        assert (collection_gaps(store, *days), times_of(store)) == (gaps, times)


def times_of(store: Store) -> tuple[object, ...]:
    return ends(store), first_start(store), logged_span(store)


class History:
    """What may happen to a site, by chance; names of the methods that do not begin with an underscore are what there is."""

    def __init__(self, store: Store, folder: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self._site = new_site(store, folder)
        self._arrivals = chance_farm(seed, jobs=25).arrivals
        self._folder = folder

    def _come(self, now: int) -> None:
        for one in [one for one in self._arrivals if one.at < now]:
            self._arrivals.remove(one)
            with suppress(HorizonError):
                (self._site.jobs if one.kind == "job" else self._site.identities)(one.record)

    def publish(self, now: int) -> None:
        self._site.read_to_end(now)
        self._site.publish(now)

    def keep(self, now: int) -> None:
        keep(self._site.store)

    def republish(self, now: int) -> None:
        """... with another benchmark and other VOs."""
        value = self._chance.choice([10.0, 11.0])
        vo = {"rule": [{"vo": self._chance.choice(["foo", "bar"]), "queue": "normal"}]}
        with suppress(IncompleteError):
            site = new_site(self._site.store, self._folder)
            benchmark = [site.config.benchmark[0].model_copy(update={"value": value}), *site.config.benchmark[1:]]
            config = site.config.model_copy(update={"vo": site.config.vo.model_validate(vo), "benchmark": benchmark})
            decide_anew(site.store, config, Period(farms.BEGIN, now), now)

    def archive(self, now: int) -> None:
        archive(self._site, now)

    def recall(self, now: int) -> None:
        with self._site.store.reading() as connection:
            months = sorted(set(connection.scalars(select(archived_month.c.month))))
        with suppress(ArchiveError, ConfigError):
            recall_month(self._site.store, self._site.config, self._chance.choice([*months, farms.BEGIN]), now)

    def purge_names(self, now: int) -> None:
        self._purge(now, personal_data="60d")

    def purge_files(self, now: int) -> None:
        self._purge(now, archive_for="90d")

    def _purge(self, now: int, **retention: str) -> None:
        config = new_site(self._site.store, self._folder).config
        config = config.model_copy(update={"retention": config.retention.model_validate({"keep": 0, **retention})})
        purging.purge(self._site.store, config, now, trust_clock=True)

    def _happens(self, events: int) -> None:
        acts = [name for name in dir(self) if not name.startswith("_")]
        assert len(acts) == 7
        for number, now in enumerate(sorted(self._chance.randrange(farms.BEGIN + 20 * DAY, farms.END) for _ in range(events))):
            with mock.patch.dict(os.environ, {NOW_VARIABLE: str(now)}):
                self._come(now)
                getattr(self, ["publish", "keep"][number % 2] if number % 3 else self._chance.choice(acts))(now)
            as_rows_are(self._site.store)
            assert_as_rows(self._site.store, chance_question(self._chance))


HISTORIES = int(os.environ.get("BATCHACCT_FARMS", "2"))
"""More than a few: `make crash`."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_history(sqlite_store: Store, tmp_path: Path, seed: int) -> None:
    History(sqlite_store, tmp_path, seed)._happens(9)


def test_a_history_on_each_database(store: Store, tmp_path: Path) -> None:
    History(store, tmp_path, 7)._happens(4)


# --- each writer ----------------------------------------------------------------------------------------------------------


def _site(store: Store, folder: Path) -> Site:
    """Two jobs of March, one of them waiting for its identity; what is kept is as the rows are."""
    site = new_site(store, folder)
    day = farms.BEGIN + DAY
    site.jobs(a_job(1, submit_at=day), a_job(2, submit_at=day, queue="normal"))
    site.publish(day + DAY)
    keep(store)
    assert as_rows_are(store) == 1
    return site


def _appends(site: Site) -> None:
    site.jobs(a_job(3, submit_at=farms.BEGIN + DAY + HOUR))


def _revises(site: Site) -> None:
    site.jobs(a_job(1, submit_at=farms.BEGIN + DAY, cpu_duration_s=1))


def _joins(site: Site) -> None:
    site.identities(an_identity(1, recorded_at=farms.BEGIN + DAY))
    site.publish(farms.BEGIN + 3 * DAY)


def _gives_up(site: Site) -> None:
    """No identity came."""
    site.read_to_end(farms.BEGIN + 60 * DAY)
    site.publish(farms.BEGIN + 60 * DAY)


def _republishes(site: Site) -> None:
    config = site.config.model_copy(update={"vo": site.config.vo.model_validate({"rule": [{"vo": "new", "queue": "normal"}]})})
    decide_anew(site.store, config, Period(farms.BEGIN, farms.BEGIN + 5 * DAY), farms.BEGIN + 9 * DAY)


def _takes_names_out(site: Site) -> None:
    _gives_up(site)
    keep(site.store)
    config = site.config.model_copy(update={"retention": site.config.retention.model_validate({"keep": 0, "personal_data": 0})})
    assert purging.purge(site.store, config, farms.BEGIN + 90 * DAY, trust_clock=True).gone


@pytest.mark.parametrize("act", [_appends, _revises, _joins, _gives_up, _republishes, _takes_names_out])
def test_who_changes_a_day_says_so(sqlite_store: Store, tmp_path: Path, act: Callable[[Site], None]) -> None:
    site = _site(sqlite_store, tmp_path)
    before = usage_by(sqlite_store, by=("vo", "user"))
    act(site)
    assert as_rows_are(sqlite_store) == 0, "the day is not taken for unchanged"
    found = usage_by(sqlite_store, by=("vo", "user"))
    with pytest.raises(AssertionError):
        pd.testing.assert_frame_equal(found, before)
    assert_as_rows(sqlite_store, {"by": ("vo", "user")})
    keep(sqlite_store)
    assert as_rows_are(sqlite_store) in {1, 31}, "of a month without names all days are summed anew"
    pd.testing.assert_frame_equal(usage_by(sqlite_store, by=("vo", "user")), found)


def test_archiving_and_recalling_change_nothing(sqlite_store: Store, tmp_path: Path) -> None:
    site = _site(sqlite_store, tmp_path)
    _gives_up(site)
    keep(sqlite_store)
    now = farms.BEGIN + 90 * DAY
    assert archive(site, now).taken
    assert as_rows_are(sqlite_store) == 1
    recall_month(sqlite_store, site.config, farms.BEGIN, now)
    assert as_rows_are(sqlite_store) == 1


def test_what_is_purged_is_kept_no_longer(sqlite_store: Store, tmp_path: Path) -> None:
    site = _site(sqlite_store, tmp_path)
    _gives_up(site)
    archive(site, farms.BEGIN + 90 * DAY)
    keep(sqlite_store)
    config = site.config.model_copy(update={"retention": site.config.retention.model_validate({"keep": 0, "archive_for": 0})})
    assert purging.purge(sqlite_store, config, farms.BEGIN + 90 * DAY, trust_clock=True).gone
    assert usage_by(sqlite_store, by="vo").empty
    with sqlite_store.reading() as connection:
        assert not list(connection.execute(select(usage_pack)))


_WRITES = re.compile(r"\b(?:insert|update|delete)\((?:tables\.)?(?:job|identity|usage|benchmark|vo_mapping|table)\)")
_WRITERS = {
    "batchacct/store/append.py": "says so",
    "batchacct/archive/purging.py": "says so",
    "pub/joining.py": "says so",
    "batchacct/archive/taking.py": "what leaves the tables counts in its file",
    "batchacct/archive/recalling.py": "what comes back counts in its table",
    "batchacct/archive/whole_months.py": "the books of the archive alone",
    "batchacct/store/positions.py": "other tables",
    "batchacct/usage/keeping.py": "what is kept",
    "pub/again.py": "the step of a row, which is in no sum",
    "pub/benchmarks.py": "which benchmarks are given from now on",
    "pub/mapping.py": "new mappings, which no row has yet",
}


def test_no_other_writer_is_there() -> None:
    """Whoever comes to write jobs, or what the ledger says of them, has to say which days change (`store.changed_days`)."""
    folders = ("batchacct", "loccol", "cecol", "pub", "cpuhours", "procacct")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if "migrations" not in path.parts]
    found = {str(path.relative_to(ROOT)) for path in files if _WRITES.search(path.read_text())}
    assert found == set(_WRITERS)


# --- keeping --------------------------------------------------------------------------------------------------------------


def test_what_comes_while_a_day_is_summed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not in what was read, and the day stays one that changed."""
    fill(store, [job_row(1, NOVEMBER + HOUR), job_row(2, NOVEMBER + DAY)])
    come = [job_row(3, NOVEMBER + 2 * HOUR)]

    def comes(name: str) -> None:
        if name == "usage.summed" and come:
            fill(store, [come.pop()])

    monkeypatch.setattr(keeping, "crash_point", comes)
    keep(store)
    assert as_rows_are(store) == 1
    assert usage_by(store, by="cluster")["jobs"].tolist() == [3]
    keep(store)
    assert as_rows_are(store) == 2
    assert usage_by(store, by="cluster")["jobs"].tolist() == [3]


def test_many_appends_to_a_day_say_it_once(store: Store) -> None:
    for number in range(5):
        fill(store, [job_row(number, NOVEMBER + number)])
    with store.reading() as connection:
        assert list(connection.scalars(select(usage_appended.c.day))) == [NOVEMBER]
    keep(store)
    with store.reading() as connection:
        assert not list(connection.execute(select(usage_appended)))
        assert not list(connection.execute(select(usage_changed)))


def test_a_few_jobs_are_left_to_their_rows(tmp_path: Path) -> None:
    store = new_store(tmp_path, [job_row(1, NOVEMBER)])
    with store.lock(keeping.LOCK) as locks:
        assert keeping.refresh(store, locks) == 0
    assert usage_by(store, by="cluster")["jobs"].tolist() == [1]


def test_days_without_jobs_between_others_are_known(tmp_path: Path) -> None:
    """Those of short breaks, so that no question looks for rows there."""
    store = new_store(tmp_path, [job_row(1, NOVEMBER), job_row(2, NOVEMBER + 3 * DAY), job_row(3, NOVEMBER + 300 * DAY)])
    assert keep(store) == 5
    assert as_rows_are(store) == 5
    fill(store, [job_row(4, NOVEMBER + DAY)])
    assert usage_by(store, by=("cluster",), bins=Bins("day"))["jobs"].tolist() == [1, 1, 1, 1]


def test_any_number_of_runs_of_days(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a statement can name: some of the days that are kept are answered from their rows, and no job twice or never."""
    ends = [NOVEMBER + n * DAY + HOUR for n in range(12)]
    fill(sqlite_store, [job_row(n, end) for n, end in enumerate(ends)])
    keep(sqlite_store)
    monkeypatch.setattr(keeping, "MOST_RUNS", 3)
    fill(sqlite_store, [job_row(100 + n, ends[n]) for n in (1, 4, 7, 9, 11)])
    assert usage_by(sqlite_store, by="user")["jobs"].tolist() == [17]
    assert_as_rows(sqlite_store, {"by": "user", "bins": Bins("day")})
    assert_as_rows(sqlite_store, {"by": "host", "counted": "spread", "begin": ends[2], "end": ends[8], "bins": Bins("hour")})
    assert keep(sqlite_store) == 5
    assert as_rows_are(sqlite_store) == 12


def test_a_thousand_runs_of_days(sqlite_store: Store) -> None:
    """SQLite refuses a condition of as many parts."""
    fill(sqlite_store, [job_row(1, NOVEMBER + HOUR), job_row(2, NOVEMBER + DAY + HOUR)])
    keep(sqlite_store)
    fill(sqlite_store, [job_row(3, NOVEMBER + HOUR)])
    days = [NOVEMBER + 2 * n * DAY for n in range(1, 1_100)]
    with sqlite_store.writing() as connection:
        connection.execute(insert(usage_day), [{"day": day + DAY, "jobs": 0} for day in days])
        connection.execute(insert(usage_changed), [{"day": day} for day in days])
    assert usage_by(sqlite_store, by="user", bins=Bins("day"))["jobs"].tolist() == [2, 1]
    assert keep(sqlite_store) == 1_100
    assert usage_by(sqlite_store, by="user", bins=Bins("day"))["jobs"].tolist() == [2, 1]


def test_a_day_of_very_many_jobs_is_summed_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path, [job_row(n, NOVEMBER + n * HOUR) for n in range(24)])
    monkeypatch.setattr(keeping, "JOBS_AT_ONCE", 5)
    keep(store)
    with store.reading() as connection:
        assert len(list(pieces(connection, FACTS, {NOVEMBER}))) == 5
    assert as_rows_are(store) == 1
    assert_as_rows(store, {"by": "user", "bins": Bins("day")})
    assert_as_rows(store, {"by": "host", "counted": "spread"})


def test_sums_of_more_than_64_bits_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of them is always summed from its rows, and no other with it."""
    real = packs.kept_of

    def kept_of(duck: Any, table: Any) -> Any:
        if NOVEMBER // DAY in table.column("day").to_pylist():
            raise duckdb.ConversionException("too large")
        return real(duck, table)

    monkeypatch.setattr(keeping, "kept_of", kept_of)
    store = new_store(tmp_path, [job_row(1, NOVEMBER), job_row(2, NOVEMBER + DAY)])
    assert keep(store) == 1
    assert as_rows_are(store) == 1
    assert usage_by(store, by="cluster")["jobs"].tolist() == [2]


def test_a_product_of_more_than_64_bits_is_not_kept(tmp_path: Path) -> None:
    """No parser takes such numbers, but a database may have them; nor is such a day taken for as its rows are."""
    store = new_store(tmp_path, [job_row(1, NOVEMBER), job_row(2, NOVEMBER + DAY)])
    with store.writing() as connection:
        connection.execute(update(job).where(job.c.lrms_job_id == "2").values(processors=2**62))
    assert keep(store) == 1
    with store.reading() as connection:
        assert keeping.changed_days(connection) == [NOVEMBER + DAY]
    assert usage_by(store, by="cluster", end=NOVEMBER + HOUR)["jobs"].tolist() == [1]
    with store.writing() as connection:
        connection.execute(delete(usage_changed))
        connection.execute(insert(usage_day).values(day=NOVEMBER + DAY, jobs=1))
    days, differing = keeping.differing(store)
    assert (days, set(differing)) == (2, {NOVEMBER + DAY})


@pytest.mark.parametrize("error", [ArchiveError("no file"), StoreError("no room"), duckdb.OutOfMemoryException("no memory")])
def test_what_hinders_sums_keeps_nothing_from_being_sent(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    site = Site(sqlite_store)
    site.jobs(a_job(1, queue="short"))

    def fails(name: str) -> None:
        raise error

    monkeypatch.setattr(keeping, "FEW", 0)
    monkeypatch.setattr(keeping, "crash_point", fails)
    site.publish()
    assert len(site.postbox.taken) == 1
    (told,) = [record.getMessage() for record in caplog.records if "sums of usage" in record.getMessage()]
    assert str(error) in told
    assert "db summarise" in told


def test_who_loses_its_lock_while_it_sums_sends_nothing(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another publisher may send the same."""
    site = Site(sqlite_store)
    site.jobs(a_job(1, queue="short"))
    monkeypatch.setattr(keeping, "FEW", 0)
    monkeypatch.setattr(keeping, "crash_point", lambda name: monkeypatch.setattr(HeldLocks, "holds", lambda *_: False))
    with pytest.raises(StoreError, match="the lock on `publish` was lost"):
        site.publish()
    assert not site.postbox.taken


def test_no_name_is_in_the_piece_of_another_day(tmp_path: Path) -> None:
    """So that those of a month can be taken out of it alone."""
    store = new_store(tmp_path, [job_row(1, NOVEMBER, user_name="alice"), job_row(2, NOVEMBER + DAY, user_name="bob")])
    keep(store)
    with store.reading() as connection:
        for kind in (FACTS, "day.ended"):
            found = {day: piece.column("user").chunk(0).dictionary.to_pylist() for day, piece in _pieces(connection, kind)}
            assert found == {NOVEMBER: ["alice"], NOVEMBER + DAY: ["bob"]}, kind


def _pieces(connection: Any, kind: str) -> list[tuple[int, Any]]:
    return list(pieces(connection, kind, {NOVEMBER, NOVEMBER + DAY}))


def test_a_piece_that_is_not_as_the_rows_are_is_found(tmp_path: Path) -> None:
    store = new_store(tmp_path, chance_jobs(20, DAY))
    days = keep(store)
    with store.writing() as connection:
        first, second = connection.scalars(select(usage_day.c.day).where(usage_day.c.jobs > 0).limit(2)).all()
        other = select(usage_pack.c.packed).where(usage_pack.c.day == second, usage_pack.c.kind == "day.ended")
        content = connection.scalar(other)
        which = (usage_pack.c.day == first, usage_pack.c.kind == "day.ended")
        connection.execute(update(usage_pack).where(*which).values(packed=content))
    assert keeping.differing(store) == (days, {first: ["day.ended"]})
