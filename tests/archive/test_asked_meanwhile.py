"""Questions to the archive while a month is archived anew: the file that was to be read is gone, and another is in force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchacct.archive import holdings, querying, recalling
from batchacct.archive.recalling import one_of, recall
from batchacct.errors import ArchiveError
from batchacct.ledger import stories
from batchacct.ledger.archived import with_archived
from batchacct.ledger.job_ids import JobId
from batchacct.model import JOB
from batchacct.store import Store
from cpuhours.query import usage_by
from tests.archive.farms import archive, same
from tests.archive.test_lost_locks import other_of
from tests.archive.test_purge import JULY, site_of
from tests.pub.site import Site


def archived_anew(site: Site) -> Callable[[], None]:
    """Has a job of March recalled, and archived once more, by another process."""
    other = other_of(site)

    def act() -> None:
        with other.store.writing() as connection:
            recall(connection, JOB, one_of("join_id", ["10"]))
        assert archive(other, JULY).taken
        other.store.close()

    return act


def before_each(monkeypatch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[], None], times: int) -> None:
    """Has something happen before a function of a module is called, so many times."""
    real, done = getattr(module, name), list[int]()

    def called(*arguments: Any) -> Any:
        if len(done) < times:
            done.append(1)
            act()
        return real(*arguments)

    monkeypatch.setattr(module, name, called)


def test_a_report(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(store, tmp_path)
    archive(site, JULY)
    before = usage_by(store, by="vo").to_dict("records")
    before_each(monkeypatch, querying, "dataset_of", archived_anew(site), 1)
    assert same(usage_by(store, by="vo").to_dict("records"), before)


def test_a_story(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(store, tmp_path)
    archive(site, JULY)
    job_id = JobId.of("10")

    def told() -> list[str]:
        with with_archived(store, lambda wanted: wanted.of_job(job_id)) as (connection, _):
            return list(stories.why(connection, job_id))

    before = told()
    before_each(monkeypatch, recalling, "batches_of", archived_anew(site), 1)
    assert told() == before


def test_an_archive_that_does_not_come_to_rest(sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(sqlite_store, tmp_path)
    archive(site, JULY)
    before_each(monkeypatch, querying, "dataset_of", archived_anew(site), holdings.TRIES)
    with pytest.raises(ArchiveError, match="run it again"):
        usage_by(sqlite_store, by="vo")
    usage_by(sqlite_store, by="vo")
