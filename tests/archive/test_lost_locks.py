"""Locks are lost during the work (a restarted server, a session that was ended), and somebody else does the same, or publishes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select, text, update

from batchacct.archive import layout, purging, taking, whole_months
from batchacct.archive.holdings import archived
from batchacct.archive.leftovers import LOCKS, drop_leftover
from batchacct.archive.recalling import one_of, recall
from batchacct.archive.whole_months import recall_month
from batchacct.errors import StoreError
from batchacct.model import JOB
from batchacct.store import Store
from batchacct.store.dialects.mariadb import _lock_name
from batchacct.store.tables import archive_leftover, usage
from cpuhours.query import usage_by
from pub.joining import Joiner
from tests.archive.farms import archive, left, same
from tests.archive.test_archive import FILES, files
from tests.archive.test_purge import JULY, MARCH, found_names, purge, site_of
from tests.pub.site import DAY, Site, an_identity, dumped

LOST = "was lost|terminat|gone away|[Ll]ost connection|server closed"


def lose_locks(store: Store) -> None:
    """Ends the sessions that hold named work, or takes the locked files away."""
    if store.dialect.name == "sqlite":
        for path in Path(str(store.engine.url.database)).parent.glob("*.lock"):
            path.unlink()
        return
    with store.reading() as connection:
        if store.dialect.name == "postgresql":
            holders = "FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {holders}"))
        else:
            for number in {connection.scalar(func.is_used_lock(_lock_name(store.engine, n))) for n in LOCKS} - {None}:
                connection.execute(text(f"KILL {number}"))


def other_of(site: Site) -> Site:
    """The same site from another process."""
    other = Site(Store(site.store.engine.url.render_as_string(hide_password=False)))
    other.config, other.postbox = site.config, site.postbox
    return other


def after_verifying(monkeypatch: pytest.MonkeyPatch, module: object, act: Callable[[], None]) -> None:
    """Something happens when the first file was read back."""
    real, done = layout.verify, list[int]()

    def verify(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        if not done:
            done.append(1)
            act()

    monkeypatch.setattr(module, "verify", verify)


def told(store: Store) -> list[dict[Any, Any]]:
    return [row for by in ("vo", "user", "day") for row in usage_by(store, by=by).to_dict("records")]


def assert_whole(site: Site) -> None:
    """Every record is in force once: the next run archives what is left, and no other file stays."""
    site.assert_balanced()
    before = told(site.store)
    archive(site, JULY)
    assert left(site.store) == {"job": 0, "identity": 0, "part": 0}
    assert len(files(site)) == 2 * FILES
    with site.store.reading() as connection:
        assert connection.execute(select(archive_leftover)).all() == []
    assert same(told(site.store), before)
    site.assert_balanced()


@pytest.mark.parametrize("again", [False, True], ids=["first file", "one that replaces"])
def test_another_archived_meanwhile(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    site = site_of(store, tmp_path)
    before = told(store)
    if again:
        archive(site, JULY)
        with store.writing() as connection:
            recall(connection, JOB, one_of("join_id", ["10"]))
    other = other_of(site)

    def act() -> None:
        lose_locks(store)
        assert archive(other, JULY).taken

    after_verifying(monkeypatch, taking, act)
    with pytest.raises(StoreError, match=LOST):
        archive(site, JULY)
    assert same(told(store), before)
    assert_whole(site)
    other.store.close()


def test_it_was_published_meanwhile(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A correction, by an identity that came late, is not undone by what was written before it."""
    site = site_of(store, tmp_path)
    other = other_of(site)

    def act() -> None:
        lose_locks(store)
        other.identities(an_identity(12, "/CN=Late", vo="late", fqan="/late", vo_group="/late", recorded_at=MARCH + DAY))
        other.publish(JULY)

    after_verifying(monkeypatch, taking, act)
    with pytest.raises(StoreError, match=LOST):
        archive(site, JULY)
    assert "late" in usage_by(store, by="vo")["vo"].tolist()
    assert_whole(site)
    other.store.close()


def test_the_ledger_is_compared_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changed it: the file is written anew, with what it says now."""
    site = site_of(store, tmp_path)

    def act() -> None:
        with store.writing() as connection:
            first = connection.scalar(select(func.min(usage.c.job_id)).where(usage.c.outcome == "joined"))
            connection.execute(update(usage).where(usage.c.job_id == first).values(mapping_id=7_777))

    after_verifying(monkeypatch, taking, act)
    archive(site, JULY)
    with store.reading() as connection:
        file = archived(connection, JOB)[0].file
    assert file is not None
    assert pc.max(pq.read_table(file, partitioning=None)["mapping_id"]).as_py() == 7_777


def test_it_was_purged_meanwhile(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(store, tmp_path)
    archive(site, JULY)
    other = other_of(site)

    def act() -> None:
        lose_locks(store)
        purge(other)

    after_verifying(monkeypatch, purging, act)
    with pytest.raises(StoreError, match=LOST):
        purge(site)
    assert found_names(site) == {}
    assert_whole(site)
    other.store.close()


def test_it_was_recalled_and_archived_meanwhile(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(store, tmp_path)
    archive(site, JULY)
    before = told(store)
    other = other_of(site)

    def act() -> None:
        lose_locks(store)
        recall_month(other.store, other.config, MARCH, JULY)
        archive(other, JULY)

    after_verifying(monkeypatch, whole_months, act)
    with pytest.raises(StoreError, match=LOST):
        recall_month(store, site.config, MARCH, JULY)
    assert same(told(store), before)
    assert_whole(site)
    other.store.close()


def test_a_file_is_removed_by_whom_it_belongs_to(store: Store, tmp_path: Path) -> None:
    """What is in force, or somebody else has taken over, stays though a run that was overtaken wants it gone."""
    site = site_of(store, tmp_path)
    archive(site, JULY)
    with store.reading() as connection:
        month = archived(connection, JOB)[0]
    assert month.file is not None
    with store.lock("archive"):
        drop_leftover(store, month.file.parents[2], JOB, month.month, month.file.name)
    assert month.file.exists()


def test_publishing_stops_when_its_lock_is_lost(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step has joined is undone: an archive may be at work."""
    site = site_of(store, tmp_path)
    site.identities(an_identity(12, "/CN=Late", vo="late", fqan="/late", vo_group="/late", recorded_at=MARCH + DAY))
    before = dumped(store)
    real = Joiner.step

    def step(*arguments: object) -> object:
        done = real(*arguments)  # type: ignore[arg-type]
        lose_locks(store)
        return done

    monkeypatch.setattr(Joiner, "step", step)
    with pytest.raises(StoreError, match=LOST):
        site.publish(JULY)
    monkeypatch.undo()
    assert {name for name, rows in dumped(store).items() if rows != before[name]} <= {"setting", "load"}
    site.publish(JULY)
    assert "late" in usage_by(store, by="vo")["vo"].tolist()
    site.assert_balanced()
