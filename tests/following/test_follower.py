"""What reviewers found of the follower, each as a test by name; random histories are in test_histories.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select, text

from batchacct.collector import Collector, Follower, collect_once
from batchacct.errors import SourceError, StoreError
from batchacct.insertion import insert
from batchacct.parsing import Source
from batchacct.store import Store
from batchacct.store.tables import job, reject, source_state
from tests.following.test_position import grow, log, numbers
from tests.records import NOW, rows


@dataclass
class Site:
    """A folder of logs, a store, and a follower with a clock of its own."""

    store: Store
    folder: Path
    pattern: str = "acct*"
    ticks: float = 0.0
    followers: list[Follower] = field(default_factory=list)

    @property
    def collector(self) -> Collector:
        return Collector(numbers, Source("farm"), (f"{self.folder}/{self.pattern}",))

    def follower(self, *from_start: Path) -> Follower:
        made = Follower(
            self.store, self.collector, lambda: NOW, ticks=lambda: self.ticks, from_start=frozenset(map(str, from_start))
        )
        self.followers.append(made)
        return made

    def stored(self) -> int:
        return len(rows(self.store, job))

    def state(self) -> dict[str, object]:
        with self.store.reading() as connection:
            return dict(connection.execute(select(source_state)).mappings().one())


@pytest.fixture
def site(sqlite_store: Store, tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "logs"
    folder.mkdir()
    made = Site(sqlite_store, folder)
    yield made
    for follower in made.followers:
        follower.close()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize("pattern", ["acct", "acct*"])
def test_what_is_no_file_is_in_nobodys_way(site: Site, kind: str, pattern: str) -> None:
    """A pipe would be waited at until somebody writes into it."""
    site.pattern = pattern
    (site.folder / "acct").write_bytes(log(0, 10))
    other = site.folder / "acct.1"
    os.mkfifo(other) if kind == "pipe" else other.mkdir()
    done = site.follower().look()
    assert (done.counts["recorded"], done.errors) == (10, [])


def test_a_path_that_is_a_pipe_is_told(site: Site) -> None:
    site.pattern = "pipe"
    os.mkfifo(site.folder / "pipe")
    (error,) = site.follower().look().errors
    assert isinstance(error, SourceError)
    assert "is no file, but a pipe, socket or device" in error.message


def test_an_error_of_a_file_whose_name_is_no_utf_8(site: Site) -> None:
    Path(os.fsdecode(os.fsencode(site.folder) + b"/acct-\xff.gz")).write_bytes(b"\x1f\x8b\x08\0cut short")
    (site.folder / "acct").write_bytes(log(0, 10))
    done = collect_once(site.store, site.collector, lambda: NOW)
    assert (done.counts["recorded"], len(done.errors)) == (10, 1)
    assert "acct-\\xff.gz cannot be read to its end" in str(site.state()["last_error"])


def test_a_name_with_brackets_has_siblings_too(site: Site) -> None:
    """Such a path looks like a pattern; what it was rotated to while nobody looked is read all the same."""
    site.pattern = "acct[1]"
    path = site.folder / "acct[1]"
    path.write_bytes(log(0, 10))
    site.follower().look()
    grow(path, log(10, 20))
    path.rename(site.folder / "acct[1].1")
    path.write_bytes(log(20, 30))
    site.follower().look()
    assert site.stored() == 30


def test_reading_from_the_start_is_not_forgotten_when_the_database_fails(site: Site) -> None:
    path = site.folder / "acct"
    path.write_bytes(log(0, 300))
    site.follower().look()
    path.write_bytes(log(0, 200) + log(500, 605))
    follower = site.follower(path)
    with without_loads(site.store), pytest.raises(StoreError):
        follower.look()
    done = follower.look()
    assert (done.errors, done.counts["known"], done.counts["recorded"]) == ([], 200, 105)


@contextmanager
def without_loads(store: Store) -> Iterator[None]:
    """While nothing can be appended."""
    with store.writing() as connection:
        connection.execute(text("ALTER TABLE load RENAME TO gone"))
    try:
        yield
    finally:
        with store.writing() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO load"))


def test_a_file_that_was_never_there_is_told_at_once_and_one_that_is_rotated_a_minute_later(site: Site) -> None:
    site.pattern = "acct"
    follower = site.follower()
    assert "does not exist" in follower.look().errors[0].message
    (site.folder / "acct").write_bytes(log(0, 10))
    site.ticks += 100
    assert follower.look().errors == []
    (site.folder / "acct").rename(site.folder / "acct.1")
    assert follower.look().errors == []
    site.ticks += 61
    assert "does not exist" in follower.look().errors[0].message


def test_handles_of_files_that_rest_are_given_back(site: Site) -> None:
    for number in range(20):
        (site.folder / f"acct-{number}").write_bytes(log(number, number + 1)[:-1])
    follower = site.follower()
    site.store.check()  # it keeps its connection from then on
    before = handles()
    follower.look()
    assert handles() == before + 20
    site.ticks += 3700
    follower.look()
    site.ticks += 1
    follower.look()
    assert handles() <= before + 20
    follower.close()
    assert handles() == before


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("column", ["lrms_job_id", "user_name"])
def test_a_value_too_long_for_an_index_is_a_reject_of_its_own(store: Store, column: str) -> None:
    """PostgreSQL refuses a row of an index of more than 2,704 bytes, and with it the whole block, for ever."""

    long = "".join(chr(97 + (n * n) % 26) for n in range(5000))
    good = {"lrms_job_id": "1", "cluster": "c", "logged_at": NOW, "end_at": NOW}
    insert(store, "job", [good, good | {"lrms_job_id": "2", column: long}, good | {"lrms_job_id": "3"}])
    assert sorted(str(row["lrms_job_id"]) for row in rows(store, job)) == ["1", "3"]
    (refused,) = rows(store, reject)
    assert "has 5,000 bytes; more than" in str(refused["reason"])
