"""The SQLite database cannot be written for a while: no room, read-only, locked. The collector waits, says so once, and goes on."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import text

from batchacct.errors import BusyError, StoreError
from batchacct.store import schema
from tests.crash.test_full_disk import NEEDS_ROOT, make_larger, mount
from tests.faults.farm import Farm
from tests.faults.writer import Style
from tests.forks import Forks


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """On a disk: in memory, who has a file open goes on writing when it becomes immutable."""
    with TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for the database, with room for its schema and little more."""
    path = tmp_path / "disk"
    path.mkdir()
    mount(path, "1200k")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def farm(disk: Path, tmp_path: Path, forks: Forks) -> Iterator[Farm]:
    made = Farm(tmp_path / "farm", f"sqlite:///{disk}/batchacct.db", forks)
    yield made
    made.close()


def failures(farm: Farm) -> int:
    """How often it said that the database failed."""
    return sum("database sqlite" in line for line in farm.said().splitlines())


@NEEDS_ROOT
def test_the_file_system_is_full_until_there_is_room(farm: Farm, disk: Path) -> None:
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    while not failures(farm):
        assert not process.has_ended()
        log.append(300)
        process.has_ended(within_s=0.1)
    assert "full" in farm.said()
    assert not process.has_ended(within_s=3), "it tries again in the meantime, and says nothing more"
    log.rotate(Style.SHIFT)
    log.append(300)
    make_larger(disk)
    farm.until_stored(log)
    assert failures(farm) == 1, farm.said()
    assert process.terminate() == 0
    farm.check(log)


@NEEDS_ROOT
def test_a_file_system_that_is_read_only_when_the_collector_starts(farm: Farm, disk: Path) -> None:
    """Then it ends, and says so; its unit starts it again."""
    log = farm.log()
    log.append(20)
    farm.store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert farm.start().wait() == StoreError.exit_code
    assert "Give this user write permission on the database and its folder" in farm.said()
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    process = farm.start()
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


@contextmanager
def immutable(*paths: Path) -> Iterator[None]:
    """Nobody may write to the files, not even who has them open; skips where that cannot be."""
    if subprocess.run(["chattr", "+i", *map(str, paths)], check=False, capture_output=True).returncode:
        pytest.skip("may not make files immutable here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *map(str, paths)], check=True)


@NEEDS_ROOT
def test_the_database_becomes_read_only_while_the_collector_follows(sqlite_farm: Farm, tmp_path: Path) -> None:
    farm = sqlite_farm
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    with immutable(tmp_path / "batchacct.db", tmp_path / "batchacct.db-wal"):
        log.append(20)
        farm.until("it says so", lambda: failures(farm) > 0)
        log.rotate(Style.RENAME)
        log.append(20)
        assert not process.has_ended(within_s=1)
    farm.until_stored(log)
    assert failures(farm) == 1, farm.said()
    assert process.terminate() == 0
    farm.check(log)


def test_another_process_holds_the_database_for_longer_than_it_is_waited_for(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    farm.settings["batchacct.store.dialects.sqlite.BUSY_TIMEOUT_S"] = 1
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    other = sqlite3.connect(farm.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log.append(20)
    farm.until("it says so", lambda: "locked" in farm.said())
    log.rotate(Style.SHIFT)
    log.append(20)
    other.execute("COMMIT")
    other.close()
    farm.until_stored(log)
    assert failures(farm) == 1, farm.said()
    assert process.terminate() == 0
    farm.check(log)


def test_a_stop_while_another_process_holds_the_database(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    farm.settings["batchacct.collector.service.END_S"] = 3.0
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    other = sqlite3.connect(farm.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log.append(20)
    assert not process.has_ended(within_s=1)
    assert process.terminate(within_s=60) == 0
    other.execute("COMMIT")
    other.close()
    process = farm.start()
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def test_the_file_of_its_lock_is_deleted(sqlite_farm: Farm, tmp_path: Path) -> None:
    farm = sqlite_farm
    farm.settings["batchacct.collector.running.CHECK_S"] = 0.1
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    (lock,) = (path for path in tmp_path.glob("batchacct.db.*.lock") if "migrate" not in path.name)
    lock.unlink()
    log.append(20)
    farm.until("it has made its lock anew", lock.exists)
    assert farm.start("lsf", output="second.log").wait() == BusyError.exit_code
    assert process.terminate() == 0
    farm.check(log)


def test_it_runs_on_over_a_migration(sqlite_farm: Farm) -> None:
    """It stores nothing and says so, once; restarted it goes on where it stopped."""
    farm = sqlite_farm
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    _set_version(farm, "9999")
    log.append(20)
    farm.until("it says so", lambda: "restart it" in farm.said())
    assert process.terminate(within_s=60) == 0
    assert farm.said().count("waits: ") == 1
    _set_version(farm, schema.head())
    process = farm.start()
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def _set_version(farm: Farm, version: str) -> None:
    with farm.store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


class _Loop:
    """An ext4 file system in a file."""

    def __init__(self, folder: Path) -> None:
        self.image, self.place = folder / "image", folder / "loop"
        self.place.mkdir()
        with self.image.open("wb") as file:
            file.truncate(32 << 20)
        if not _succeeds("mkfs.ext4", "-q", "-F", self.image) or not self.mount():
            pytest.skip("may not mount a file")

    def mount(self) -> bool:
        return _succeeds("mount", "-o", "loop", self.image, self.place)

    def unmount(self) -> bool:
        return _succeeds("umount", "-l", self.place)

    def fail(self) -> None:
        """As after an error of the disk: the kernel lets nothing more be written, and only mounting it anew mends that."""
        assert _succeeds("mount", "-o", "remount,abort", self.place)


def _succeeds(*command: object) -> bool:
    return subprocess.run(list(map(str, command)), check=False, capture_output=True).returncode == 0


@NEEDS_ROOT
def test_the_file_system_of_the_database_fails_and_is_mounted_anew(tmp_path: Path, forks: Forks) -> None:
    loop = _Loop(tmp_path)
    farm = Farm(tmp_path / "farm", f"sqlite:///{loop.place}/batchacct.db", forks)
    try:
        log = farm.log()
        process = farm.start()
        log.append(20)
        farm.until_stored(log)
        loop.fail()
        log.append(20)
        farm.until("it says so", lambda: failures(farm) > 0)
        farm.store.close()
        loop.unmount()
        farm.until("nothing holds the old file system any more", lambda: not _in_use(loop.image))
        assert loop.mount()
        farm.until_stored(log)
        assert process.terminate() == 0
        farm.check(log)
    finally:
        farm.close()
        loop.unmount()


def _in_use(image: Path) -> bool:
    """Whether a loop device still has the file: it has as long as a process has a file open in a file system on it."""
    listed = subprocess.run(["losetup", "-j", str(image)], check=True, capture_output=True, text=True).stdout
    return bool(listed.strip())
