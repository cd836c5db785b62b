"""GNU dump-acct, sa and lastcomm: an independent reader of accounting files, and what it says as values."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import REQUIRED


@dataclass(frozen=True)
class Dumped:
    """A line of dump-acct; times are ticks."""

    command: str
    version: int
    user_ticks: float
    system_ticks: float
    elapsed_ticks: float
    user_id: int
    group_id: int
    memory_kib: float
    pid: int
    parent_pid: int
    flags: str
    exit_code: int
    terminal: str
    began: int


def dumped(text: str) -> list[Dumped]:
    """The lines of dump-acct run in UTC."""
    found = []
    for line in text.splitlines():
        fields = [field.rstrip() for field in line.rsplit("|", 14)]
        assert len(fields) == 15, line
        began = dt.datetime.strptime(fields[14], "%a %b %d %H:%M:%S %Y").replace(tzinfo=dt.UTC)
        user, system, elapsed = map(float, fields[2:5])
        uid, gid, pid, parent, code = (int(fields[at]) for at in (5, 6, 9, 10, 12))
        flags, terminal, at = fields[11].replace(" ", ""), fields[13], int(began.timestamp())
        version, memory = int(fields[1][1:]), float(fields[7])
        found.append(Dumped(fields[0], version, user, system, elapsed, uid, gid, memory, pid, parent, flags, code, terminal, at))
    return found


def run(program: str, *arguments: str | Path) -> str:
    """Output of a GNU accounting program, in UTC; the test skips where it is not installed, unless services are required."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        missing(f"{program} is not installed (package acct)")
    assert path is not None
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    return subprocess.run([path, *map(str, arguments)], env=environment, capture_output=True, text=True, check=True).stdout


def missing(what: str) -> None:
    """Skips the test for what the host does not have; fails it where everything has to be there."""
    if REQUIRED:
        pytest.fail(what)
    pytest.skip(what)


@dataclass(frozen=True)
class SaLine:
    """A line of `sa -a -l`: calls, and minutes to a hundredth."""

    calls: int
    elapsed: float
    user: float
    system: float


_SA = re.compile(r" *(\d+) +([\d.]+)re +([\d.]+)u +([\d.]+)s +[\d.]+avio +[\d.]+k *(.*)")


def sa_by_command(text: str) -> dict[str, SaLine]:
    """The lines of `sa -a -l` by command; the first, of all together, by an empty text."""
    found: dict[str, SaLine] = {}
    for line in text.splitlines():
        match = _SA.fullmatch(line)
        assert match, line
        calls, elapsed, user, system, command = match.groups()
        found[command.strip()] = SaLine(int(calls), float(elapsed), float(user), float(system))
    return found


def sa_by_user(text: str) -> dict[str, tuple[int, float, float]]:
    """The lines of `sa -m`: calls, elapsed and CPU minutes by account; of all together by an empty text."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(\S*) +(\d+) +([\d.]+)re +([\d.]+)cp +[\d.]+avio +[\d.]+k", line)
        assert match, line
        found[match[1]] = int(match[2]), float(match[3]), float(match[4])
    return found


def lastcomm_lines(text: str) -> Iterator[tuple[str, str, str, str, float]]:
    """The lines of lastcomm: command, flags, account, terminal, CPU seconds."""
    for line in text.splitlines():
        match = re.fullmatch(r"(.{16}) (.{4,6}?) (\S+) +(\S+) +([\d.]+) secs .*", line)
        assert match, line
        yield match[1].strip(), match[2].replace(" ", ""), match[3], match[4], float(match[5])
