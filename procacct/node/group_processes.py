"""What /proc says of running processes: as much as groups need, each fact read when it is asked for.

A process may end, and its pid be another's, between two looks: identity is pid and start (field 22 of /proc/PID/stat, clock ticks
since boot, proc_pid_stat(5)), and facts count only where the start was the same before and after reading them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SECOND_NS = 1_000_000_000
TICK_NS = SECOND_NS // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    """A process; `start_ticks` are clock ticks since boot, `has_ended` that it only waits to be waited for."""

    pid: int
    parent_pid: int
    session: int
    start_ticks: int
    has_ended: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules look at: real user, resolved path of the program, cgroup paths (without hierarchy), environment."""

    user_id: int
    program: str | None
    cgroups: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def running(pid: int, proc: Path = PROC) -> Running | None:
    """The process of this pid; None if there is none."""
    text = _read(proc / str(pid) / "stat")
    fields = text[text.rfind(b")") + 2 :].split()
    try:
        return Running(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in (b"Z", b"X"))
    except (IndexError, ValueError):
        return None


def all_running(proc: Path = PROC) -> Iterator[Running]:
    """Every process that /proc shows, in no order."""
    for folder in proc.iterdir():
        if folder.name.isdigit() and (found := running(int(folder.name), proc)) is not None:
            yield found


def start_ns(start_ticks: int) -> int:
    """When that was, as Unix ns by the clock of now; to the clock tick."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) + start_ticks * TICK_NS


def user_of(pid: int, proc: Path = PROC) -> int | None:
    """Its real user; None if there is no such process."""
    for line in _read(proc / str(pid) / "status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None


def facts_of(pid: int, proc: Path = PROC, *, environment: bool = False) -> Facts | None:
    """Facts of one process, all of the same; None if it ended meanwhile.

    What another user's process keeps from us is empty; of what has ended, and waits to be waited for, all but the user is.
    """
    before = running(pid, proc)
    user_id = user_of(pid, proc)
    if before is None or user_id is None:
        return None
    folder = proc / str(pid)
    found = Facts(
        user_id,
        _program(folder),
        tuple(line.split(":", 2)[-1] for line in _text(folder / "cgroup").splitlines()),
        tuple(_environment(folder)) if environment else (),
    )
    after = running(pid, proc)
    return found if after is not None and after.start_ticks == before.start_ticks else None


def _program(folder: Path) -> str | None:
    try:
        return str((folder / "exe").readlink())
    except OSError:
        return None


def _environment(folder: Path) -> Iterator[tuple[str, str]]:
    for one in _text(folder / "environ").split("\0"):
        name, equals, value = one.partition("=")
        if equals:
            yield name, value


def _text(path: Path) -> str:
    return os.fsdecode(_read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
