"""Jobs one by one, the version of the records, and a store that is only read, on every database; and jobs in the archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, literal_column, select, text

from batchacct.errors import StoreError
from batchacct.ledger.job_ids import JobId
from batchacct.store import Store
from batchacct.store.read_only import read_only_store, was_too_long
from batchacct.store.tables import job, setting
from batchacct.store.version import version
from cpuhours.portal.job_rows import Wanted, job_numbered, jobs_numbered, jobs_of, runs_named
from cpuhours.portal.viewers import Role, Viewer
from tests.cli.site import DAY, NOW, Site, blah, lsf
from tests.cpuhours.farm import at, fill, job_row, join

ADMIN = Viewer("admin", Role.ADMINISTRATOR)
ATLAS = Viewer("a", Role.USER, ("atlas001",))
BEGIN, END = at("2026-11-01 00:00"), at("2026-12-01 00:00")


def some_jobs(store: Store) -> None:
    """1 to 4 ended one a day, 3 of somebody else, 5 never started; 1 is joined to atlas."""
    rows = [job_row(number, at(f"2026-11-0{number} 12:00")) for number in range(1, 5)]
    rows[2] |= {"user_name": "cms_1", "queue": "grid_cms", "exec_hosts": '["2*n7"]'}
    fill(store, [*rows, job_row(5, at("2026-11-05 12:00"), start_at=None)])
    join(store, {"1": ("joined", "atlas"), "2": ("local", "local-nonlcg")})


def names(store: Store, viewer: Viewer, wanted: Wanted, limit: int = 10) -> list[str]:
    return [one.lrms_job_id for one in jobs_of(store, viewer, wanted, limit)[0]]


def test_lists_of_jobs(store: Store) -> None:
    some_jobs(store)
    assert names(store, ADMIN, Wanted(BEGIN, END)) == ["4", "3", "2", "1"]
    assert names(store, ADMIN, Wanted(BEGIN, END, all_of_them=True)) == ["5", "4", "3", "2", "1"]
    assert names(store, ATLAS, Wanted(BEGIN, END)) == ["4", "2", "1"]
    assert names(store, ADMIN, Wanted(BEGIN, END, {"vo": ("atlas",)})) == ["1"]
    assert names(store, ADMIN, Wanted(BEGIN, END, {"queue": ("grid_c%",)})) == ["3"]
    assert names(store, ADMIN, Wanted(BEGIN, END, {"host": ("n7",)})) == ["3"]
    assert names(store, ADMIN, Wanted(BEGIN, at("2026-11-03 00:00"))) == ["2", "1"]
    first, place = jobs_of(store, ADMIN, Wanted(BEGIN, END), 3)
    assert place == first[-1].place
    assert names(store, ADMIN, Wanted(BEGIN, END, below=place)) == ["1"]
    (one,) = runs_named(store, ADMIN, JobId.of("1"))
    assert (one.vo, one.outcome, one.efficiency) == ("atlas", "joined", 0.5)
    assert job_numbered(store, ADMIN, one.id) == one
    theirs = jobs_of(store, ADMIN, Wanted(BEGIN, END, {"user": ("cms_1",)}), 1)[0][0]
    assert job_numbered(store, ATLAS, theirs.id) is None
    assert runs_named(store, ATLAS, JobId.of("3")) == []


@pytest.fixture
def archived(sqlite_url: str) -> Iterator[Site]:
    """A site whose jobs of October are in the archive."""
    site = Site(Path(sqlite_url.removeprefix("sqlite:///")).parent)
    (site.folder / "logs").mkdir()
    site.configure(ce='"ce01.example.org:8443/*" = "lsf1"', more=f'[archive]\npath = "{site.folder}/archive"')
    site.write([lsf(1), lsf(2, user=b"bruno")], [blah(1)])
    for words in (("db", "create"), ("collect", "--once"), ("publish", "--once")):
        site.good(*words)
    done = site.run("db", "archive", "--clock-is-right", now=NOW + 500 * DAY)
    assert done.status == 0, done.err
    yield site


def test_archived_jobs_are_found_like_others(archived: Site) -> None:
    store = Store(f"sqlite:///{archived.folder}/batchacct.db")
    try:
        with store.reading() as connection:
            assert connection.scalar(select(func.count()).select_from(job)) == 0
        wanted = Wanted(NOW - 30 * DAY, NOW)
        assert sorted(names(store, ADMIN, wanted)) == ["1", "2"]
        assert names(store, Viewer("b", Role.USER, ("bruno",)), wanted) == ["2"]
        ada = Viewer("g", Role.USER, (), ("/DC=ch/DC=cern/CN=Ada Lovelace",))
        assert names(store, ada, wanted) == [], "the archive names nobody"
        (one,) = runs_named(store, ADMIN, JobId.of("1"))
        assert job_numbered(store, ADMIN, one.id) == one
        assert jobs_numbered(store, Viewer("b", Role.USER, ("bruno",)), [one.id]) == []
    finally:
        store.close()


def test_the_version_changes_with_the_records(store: Store) -> None:
    def now() -> str:
        with store.reading() as connection:
            return version(connection)

    seen = [now()]
    assert now() == seen[0]
    fill(store, [job_row(1, BEGIN)])
    seen.append(now())
    with store.writing() as connection:
        connection.execute(insert(setting).values(name="step", value="1", since=0))
    seen.append(now())
    assert len(set(seen)) == 3


def test_a_store_that_is_only_read(store: Store) -> None:
    some_jobs(store)
    url = store.engine.url.render_as_string(hide_password=False)
    ours = read_only_store(url, 1)
    try:
        ours.check()
        assert names(ours, ADMIN, Wanted(BEGIN, END)) == ["4", "3", "2", "1"]
        with pytest.raises(StoreError) as refused, ours.writing() as connection:
            connection.execute(insert(setting).values(name="x", value="1", since=0))
        assert not was_too_long(refused.value)
        with pytest.raises(StoreError) as ended, ours.reading() as connection:
            connection.execute(_long(store.dialect.name)).all()
        assert was_too_long(ended.value)
        assert len(names(ours, ADMIN, Wanted(BEGIN, END))) == 4, "the next question is answered again"
    finally:
        ours.close()


def _long(dialect: str) -> Any:
    """A statement that would take minutes."""
    if dialect == "postgresql":
        return select(func.pg_sleep(60))
    if dialect == "mariadb":
        return text("SELECT count(*) FROM seq_1_to_100000 AS a JOIN seq_1_to_100000 AS b ON a.seq * b.seq % 7 = 3")
    endless = select(literal_column("1").label("n")).cte("n", recursive=True)
    endless = endless.union_all(select(endless.c.n + 1).where(endless.c.n < 10**10))
    return select(func.count()).select_from(endless)
