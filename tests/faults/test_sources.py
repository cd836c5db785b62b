"""The logs go away and come back, in any number, on any file system, and of any size."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from batchacct.following.opened import TAIL_BYTES
from batchacct.following.position import digest
from batchacct.store.tables import followed_file, job
from tests.crash.test_full_disk import NEEDS_ROOT
from tests.faults.farm import Farm, inotify_handles, source_table
from tests.faults.writer import Log, Style, job_line
from tests.forks import Forked

NOBODYS = 54_321
"""A user id that nobody has: what a process of it uses up is nobody else's."""
QUEUED_EVENTS = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
INSTANCES = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text(encoding="ascii"))


def following(farm: Farm, log: Log, user: int | None = None) -> Forked:
    """A collector that has stored what was in the log."""
    process = farm.start(user=user)
    log.append(20)
    farm.until_stored(log)
    return process


def until_told(farm: Farm, source: str = "lsf") -> None:
    """Waits until the store knows of an error of the source."""
    farm.until("an error is told", lambda: bool(farm.state(source).get("last_error")))


def until_mended(farm: Farm, source: str = "lsf") -> None:
    farm.until("the error is over", lambda: farm.state(source).get("last_error") is None)


# --- the logs go away ----------------------------------------------------------------------------------------------------------


def test_the_folder_is_renamed_away_and_back(farm: Farm) -> None:
    log = farm.log()
    process = following(farm, log)
    away = farm.folder / "away"
    farm.logs.rename(away)
    log.append(20)
    until_told(farm)
    farm.logs.mkdir()
    farm.logs.rmdir()
    away.rename(farm.logs)
    farm.until_stored(log)
    log.rotate(Style.RENAME)
    log.append(20)
    farm.until_stored(log)
    until_mended(farm)
    assert farm.said().count("no file matches") <= 1, "it is said once"
    assert process.terminate() == 0
    farm.check(log)


@contextmanager
def mounted(source: Path, at: Path) -> Iterator[None]:
    """A folder mounted at another."""
    if subprocess.run(["mount", "--bind", str(source), str(at)], check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@NEEDS_ROOT
def test_the_file_system_is_unmounted_and_mounted_again(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    disk = farm.folder / "disk"
    disk.mkdir()
    log = Log(disk / "lsb.acct")
    with mounted(disk, farm.logs):
        process = following(farm, log)
    log.append(20)
    until_told(farm)
    log.rotate(Style.COMPRESS)
    log.append(20)
    assert not process.has_ended()
    with mounted(disk, farm.logs):
        farm.until_stored(log)
        until_mended(farm)
        assert process.terminate() == 0
    farm.check(log)


@NEEDS_ROOT
@pytest.mark.parametrize("what", ["file", "folder"])
def test_permission_is_lost_and_restored(sqlite_farm: Farm, tmp_path: Path, what: str) -> None:
    farm = sqlite_farm
    theirs(farm, tmp_path)
    log = farm.log()
    process = following(farm, log, NOBODYS)
    hindered = log.path if what == "file" else farm.logs
    mode = hindered.stat().st_mode
    hindered.chmod(0)
    log.append(20)
    until_told(farm)
    assert not process.has_ended()
    hindered.chmod(mode)
    farm.until_stored(log)
    until_mended(farm)
    assert process.terminate() == 0
    farm.check(log)


def theirs(farm: Farm, tmp_path: Path) -> None:
    """Gives the farm and its database to `NOBODYS`, and lets that user come to it."""
    farm.store.close()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o711)
    for path in (tmp_path, farm.folder, farm.logs, *tmp_path.glob("batchacct.db*")):
        os.chown(path, NOBODYS, NOBODYS)


# --- being told of changes -----------------------------------------------------------------------------------------------------


def test_the_kernel_drops_what_it_had_to_tell(sqlite_farm: Farm) -> None:
    """More happens while the collector is stopped than the kernel remembers for it: it is told that there was more."""
    farm = sqlite_farm
    log = farm.log()
    process = following(farm, log)
    farm.until("it is told of changes", lambda: inotify_handles(process.pid) == 1)
    process.send(signal.SIGSTOP)
    others = [os.open(farm.logs / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("lsb.other-1", "lsb.other-2")]
    for turn in range(QUEUED_EVENTS + 100):
        os.write(others[turn % 2], b"#")
    log.append(20)
    log.rotate(Style.RENAME)
    log.append(20)
    process.send(signal.SIGCONT)
    assert farm.until_stored(log) < 9, "sooner than it looks at everything anyway"
    for handle in others:
        os.close(handle)
    assert process.terminate() == 0
    farm.check(log)


@NEEDS_ROOT
def test_the_user_may_have_no_more_inotify_instances(sqlite_farm: Farm, tmp_path: Path) -> None:
    farm = sqlite_farm
    theirs(farm, tmp_path)
    hog = subprocess.Popen(
        ["python3", "-c", _HOG, str(INSTANCES)], user=NOBODYS, group=NOBODYS, stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd="/"
    )
    assert hog.stdout is not None
    assert hog.stdout.readline() == b"none left\n"
    try:
        log = farm.log()
        process = following(farm, log, NOBODYS)
        assert inotify_handles(process.pid) == 0
        log.append(20)
        assert farm.until_stored(log) < 5
        assert process.terminate() == 0
    finally:
        hog.communicate()
    farm.check(log)


_HOG = """
import ctypes, sys
libc = ctypes.CDLL(None)
while libc.inotify_init() >= 0:
    pass
print("none left", flush=True)
sys.stdin.read()
"""


def test_polling_as_on_nfs(farm: Farm) -> None:
    farm.configure(source_table("lsf", "lsf", farm.logs / "lsb.acct*"), collect={"watch": "poll", "poll_interval": "1s"})
    log = farm.log()
    process = following(farm, log)
    assert inotify_handles(process.pid) == 0
    for style in (None, Style.RENAME, None, Style.COPY, Style.SHIFT):
        if style is not None:
            log.rotate(style)
        log.append(20)
        assert farm.until_stored(log) < 5, "the interval, a second, and what a busy machine takes"
    assert process.terminate() == 0
    farm.check(log)


# --- many, and large -----------------------------------------------------------------------------------------------------------


def test_thousands_of_files_in_one_folder(sqlite_farm: Farm) -> None:
    """Most of them are empty, until they grow: that a file is read takes its time, that there are many must not."""
    farm = sqlite_farm
    chance = random.Random(4)
    logs = [Log(farm.logs / f"lsb.acct-{n:05d}", first=1 + 100 * n) for n in range(3000)]
    for log in logs:
        log.close()
    began = logs[:100]
    for log in began:
        grow(log)
    process = farm.start()
    written = len(began)
    farm.until("all are stored", lambda: farm.count() == written)
    for _ in range(10):
        chosen = chance.sample(logs, 3)
        for log in chosen:
            grow(log)
        written += len(chosen)
        farm.until("what was written is stored", lambda written=written: farm.count() >= written)  # type: ignore[misc]
    before = process.cpu_s()
    assert not process.has_ended(within_s=2)
    assert process.cpu_s() - before < 1, "looking at thousands of idle files takes less than half of a core"
    assert process.terminate() == 0
    farm.check(*logs)


def grow(log: Log) -> None:
    """Writes a line to a log that is not held open."""
    number = log.written[-1] + 1 if log.written else int(log.path.name.rpartition("-")[2]) * 100 + 1
    with log.path.open("ab") as file:
        file.write(job_line(number))
    log.written.append(number)


def test_a_file_grows_past_four_gibibytes(farm: Farm) -> None:
    """Read from just before 2^32 on, as if it had been read up to there: a hole stands for what was read."""
    log = farm.log()
    log.append(20)
    with farm.start() as process:
        farm.until_stored(log)
    assert process.status == 0
    size = 2**32 - 1000
    log.append(5)
    tail = log.path.read_bytes()[-TAIL_BYTES:]
    move_end(log.path, size)
    with farm.store.writing() as connection:
        assert connection.execute(update(followed_file).values(offset=size, size=size, tail_hash=digest(tail))).rowcount == 1
    del log.written[-5:]
    log.append(20)
    with farm.start() as process:
        farm.until_stored(log)
        log.append(5)
        log.begin()
        farm.until("the whole lines are stored", lambda: farm.count() == len(log.written) - 1)
        log.finish()
        farm.until_stored(log)
    with farm.store.reading() as connection:
        offset, file_size = connection.execute(select(followed_file.c.offset, followed_file.c.size)).one()
        highest, last = connection.execute(select(func.max(job.c.source_offset), func.max(job.c.logged_at))).one()
    assert offset == file_size == log.path.stat().st_size > 2**32
    assert highest == offset - len(job_line(log.written[-1]))
    assert farm.run("batchacct", "trace", "unit", str(log.path), str(highest), output="trace.out").wait() == 0
    assert str(log.written[-1]) in farm.said("trace.out")
    farm.check(log)
    assert last


def move_end(path: Path, size: int) -> None:
    """Makes the file so long, with its last 2000 bytes at its new end and a hole before them."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(size - 2000)
        file.write(content[-2000:])


def test_a_log_that_was_truncated_under_a_writer_past_four_gibibytes(sqlite_farm: Farm) -> None:
    """Such a writer goes on at its old place: the file begins with a hole of that size."""
    farm = sqlite_farm
    path = farm.logs / "lsb.acct"
    path.touch()
    os.truncate(path, 2**32 + 5)
    log = farm.log()
    process = following(farm, log)
    log.append(20)
    farm.until_stored(log)
    assert process.terminate() == 0
    with farm.store.reading() as connection:
        assert connection.scalar(select(func.min(job.c.source_offset))) == 2**32 + 5
    farm.check(log)
