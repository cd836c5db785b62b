"""Logs as their programs write them, and as logrotate turns them; each keeps a ledger of what was written, in order."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from batchacct.demo.lines import BlahIdentity, LsfJob, blah_line, lsf_line

_ID, _END = 1_234_567_890, 1_987_654_321
FIRST_END = 1_790_000_000
"""When the first job of a log ended, Unix seconds; each later one a second after it."""


_JOB = LsfJob(
    "normal", "anna", 20_410, _END, 1_789_000_000, 1_789_000_060, _ID, cpu_us=(500_000_000, 0), memory_kib=81_920, swap_kib=204_800,
    exec_hosts=("lxb0001.example.org",), command="./run.sh --with some --arguments", cwd="/home/anna/work",
)  # fmt: skip
_IDENTITY = BlahIdentity(
    0, "/DC=ch/DC=cern/OU=Users/CN=anna", ("/atlas/Role=pilot",), "ce01.example.org:8443/cream-lsf-grid", 1, _ID, 20_410
)
FIRST_DAY = dt.date(2024, 1, 1)
"""That of the first file of a log with a file a day; a longer test goes through years."""


def _format(line: bytes, **fields: str) -> bytes:
    """The line with places for numbers, by what stands there now."""
    for place, now in fields.items():
        assert now.encode() in line
        line = line.replace(now.encode(), b"%%(%s)d" % place.encode())
    return line


_LSF_FORMAT = _format(lsf_line(_JOB), end=str(_END), id=str(_ID), cpu="500")
_BLAH_FORMAT = _format(blah_line(_IDENTITY), id=str(_ID)).replace(
    b"1970-01-01 00:00:00", b"2026-09-21 %(hour)02d:%(minute)02d:%(second)02d"
)


def job_line(number: int) -> bytes:
    """The record of job `number`, which took 100 + number % 900 s of CPU time."""
    return _LSF_FORMAT % {b"end": FIRST_END + number, b"id": number, b"cpu": cpu_of(number)}


def cpu_of(number: int) -> int:
    """CPU seconds of job `number`."""
    return 100 + number % 900


def identity_line(number: int) -> bytes:
    """What BLAH says of job `number`."""
    minute, second = divmod(number, 60)
    hour, minute = divmod(minute, 60)
    return _BLAH_FORMAT % {b"id": number, b"hour": hour % 24, b"minute": minute, b"second": second}


class Style(Enum):
    """How a log is turned."""

    RENAME = "renamed to a name of its own, and made anew"
    SHIFT = "numbers shifted: .1 to .2, the log to .1, and made anew"
    COMPRESS = "shifted, and what was .1 before compressed as gzip does it"
    COPY = "shifted, copied to .1 and truncated"
    DAILY = "the next file has another name"


class Log:
    """A log at `path`, of lines made by `make`; not to be used by two threads.

    `written` is the ledger: the numbers of the lines written, in order, each line once.
    """

    def __init__(self, path: Path, make: Callable[[int], bytes] = job_line, first: int = 1) -> None:
        self.path = path
        self.written: list[int] = []
        self.rotations = 0
        self._make = make
        self._next = first
        self._begun = b""
        self._handle = self._opened()

    def _opened(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, count: int = 1) -> None:
        """Writes so many lines at once; first what is left of one that was begun."""
        numbers = range(self._next, self._next + count)
        self._next += count
        self._write(self._begun + b"".join(map(self._make, numbers)))
        self._begun = b""
        self.written.extend(numbers)

    def begin(self, share: float = 0.5) -> None:
        """Writes the first part of a line; `append` writes the rest of it before anything else."""
        if self._begun:
            return
        line = self._make(self._next)
        at = max(1, min(len(line) - 1, int(share * len(line))))
        self._write(line[:at])
        self._begun = line[at:]
        self.written.append(self._next)
        self._next += 1

    def finish(self) -> None:
        """Writes the rest of a line that was begun."""
        self.append(0)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._handle, data) :]

    def rotate(self, style: Style, late: int = 0) -> None:
        """Turns the log, whose last line must be whole; `late` lines are still written to the old file after that was renamed."""
        self.finish()
        self.rotations += 1
        if style is Style.RENAME:
            self.path.rename(self.path.with_name(f"{self.path.name}-20261126-{self.rotations:06d}"))
        elif style is Style.DAILY:
            stem = self.path.name.rpartition("-")[0]
            day = FIRST_DAY + dt.timedelta(days=self.rotations)
            self.path = self.path.with_name(f"{stem}-{day:%Y%m%d}")
        else:
            self._shift(compress=style is Style.COMPRESS)
            if style is Style.COPY:
                shutil.copyfile(self.path, self._numbered(1))
                os.truncate(self.path, 0)
                return
            self.path.rename(self._numbered(1))
        self.append(late)
        os.close(self._handle)
        self._handle = self._opened()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _shift(self, *, compress: bool) -> None:
        """Makes room for a new .1: each file gets the next number, the oldest first."""
        there = 0
        while self._numbered(there + 1).exists() or self._compressed(there + 1).exists():
            there += 1
        for number in range(there, 0, -1):
            if self._compressed(number).exists():
                self._compressed(number).rename(self._compressed(number + 1))
            else:
                self._numbered(number).rename(self._numbered(number + 1))
        plain = self._numbered(2)
        if compress and plain.exists():
            with plain.open("rb") as content, gzip.open(self._compressed(2), "wb", compresslevel=1) as stream:
                shutil.copyfileobj(content, stream, 64 << 10)
            shutil.copystat(plain, self._compressed(2))
            plain.unlink()

    def _compressed(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}.gz")

    def close(self) -> None:
        os.close(self._handle)


class Load(threading.Thread):
    """Writes to logs and turns them, until it is told to stop; about `rate` lines a second to each.

    `styles`: how each log may be turned. A turn comes every `turn_s` on average. The seed decides what is done, but not when.
    """

    def __init__(self, logs: dict[Log, list[Style]], *, rate: int = 500, turn_s: float = 0.7, seed: int = 1) -> None:
        super().__init__(daemon=True)
        self._logs = logs
        self._rate = rate
        self._turn_s = turn_s
        self._random = random.Random(seed)
        self._enough = threading.Event()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 - told by `finish`, in the thread that waits for it
            self.failed = error

    def _write(self) -> None:
        chance = self._random
        began, written = time.monotonic(), 0
        turned = dict.fromkeys(self._logs, began)
        while not self._enough.wait(chance.uniform(0.002, 0.02)):
            due = int((time.monotonic() - began) * self._rate) - written
            written += due
            for log, styles in self._logs.items():
                log.append(due)
                if chance.random() < 0.3:
                    log.begin(chance.random())
                if time.monotonic() - turned[log] > self._turn_s * chance.uniform(0.5, 1.5):
                    log.rotate(chance.choice(styles), late=chance.choice((0, 0, 1, 7)))
                    turned[log] = time.monotonic()
        for log in self._logs:
            log.finish()

    def finish(self) -> None:
        """Ends it; every line is whole then.  Raises: what went wrong in it."""
        self._enough.set()
        self.join()
        if self.failed is not None:
            raise self.failed
