"""What others say of processes that ran: the kernel's event log, its accounting file, strace. Nothing of procacct is used here."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.procacct.event_log import EXEC, EXIT, FORK, Event

ACCOUNTING_LOCK = Path("/tmp/batchacct-acct.lock")
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Told:
    """A process as the events tell it, times by CLOCK_MONOTONIC; `status` is the wait status of its leader, `threads` those of
    its last program."""

    pid: int
    parent: int
    forked_ns: int
    executed_ns: list[int] = field(default_factory=list)
    ended_ns: int | None = None
    status: int | None = None
    threads: int = 1


def processes_below(root: int, events: list[Event]) -> list[Told]:
    """The root and all its descendants, in the order they were forked: of the root the fork has to be among the events."""
    found: list[Told] = []
    now: dict[int, Told] = {}
    alive: dict[int, set[int]] = {}
    for event in events:
        if event.what == FORK and event.pid == event.thread:
            if event.pid == root or event.parent in now:
                now[event.pid] = Told(event.pid, event.parent, event.at_ns)
                alive[event.pid] = {event.pid}
                found.append(now[event.pid])
            elif event.pid in now:
                raise AssertionError(f"the end of {event.pid} was not told")
        elif event.pid not in now:
            continue
        elif event.what == FORK:
            now[event.pid].threads += 1
            alive[event.pid].add(event.thread)
        elif event.what == EXEC:
            now[event.pid].executed_ns.append(event.at_ns)
            now[event.pid].threads = 1
            alive[event.pid] = {event.pid}
        elif event.what == EXIT:
            alive[event.pid].discard(event.thread)
            if event.thread == event.pid:
                now[event.pid].status = event.status
            if not alive[event.pid]:
                now.pop(event.pid).ended_ns = event.at_ns
    return found


class Accounted(NamedTuple):
    """A record of the kernel's accounting, version 3 (struct acct_v3 in linux/acct.h); seconds, but the status."""

    flag: int
    status: int
    user_id: int
    group_id: int
    pid: int
    parent: int
    began: int
    elapsed: float
    user: float
    system: float
    command: str


def accounted(path: Path) -> Iterator[Accounted]:
    """Records of a file."""
    for record in struct.iter_unpack("=BBHIIIIIIf8H16s", path.read_bytes()):
        flag, version, _, status, user_id, group_id, pid, parent, began, ticks, user, system = record[:12]
        assert version == 3
        name = record[-1].split(b"\0")[0].decode(errors="backslashreplace")
        yield Accounted(
            flag, status, user_id, group_id, pid, parent, began, ticks / 100, _ticks(user) / 100, _ticks(system) / 100, name
        )


def _ticks(value: int) -> int:
    return (value & 0x1FFF) << 3 * (value >> 13)


@contextmanager
def accounting(path: Path) -> Iterator[None]:
    """The kernel's accounting of this pid namespace goes into the file; one test at a time."""
    with ACCOUNTING_LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.touch()
        _switch(os.fsencode(path))
        try:
            yield
        finally:
            _switch(None)


def _switch(path: bytes | None) -> None:
    if LIBC.acct(path):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Used(NamedTuple):
    """What wait4(2) told of a process and its children; seconds, KiB."""

    pid: int
    status: int
    user: float
    system: float
    memory: int
    minor: int
    major: int


def used(path: Path) -> list[Used]:
    """As the workload noted it."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return [Used(int(pid), int(status), float(user), float(system), *map(int, rest)) for pid, status, user, system, *rest in lines]


@dataclass(slots=True)
class Traced:
    """A process as strace tells it: the programs it executed successfully, as it named them; its wait status without the core."""

    pid: int
    parent: int | None = None
    programs: list[str] = field(default_factory=list)
    exit_code: int | None = None
    signal: int | None = None


CALL = re.compile(r"(\d+) +(\w+)\((.*)")
RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
ENDED = re.compile(r"(\d+) +\+\+\+ (?:exited with (\d+)|killed by SIG(\w+).*) \+\+\+")
UNFINISHED = re.compile(r"(.*)<(?:unfinished|pid changed to (\d+)) \.\.\.>$")
SUPERSEDED = re.compile(r"(\d+) +\+\+\+ superseded by execve in pid (\d+) \+\+\+")
MADE = re.compile(r".*\) += (\d+)$")
ENDED_CALL = "ended"
UNKNOWN = ""
"""Of a thread's execution whose beginning strace wrote under a pid that it does not name at its end."""
FORKS = {"fork", "vfork", "clone", "clone3"}


def traced(path: Path) -> list[Traced]:
    """Processes in the order they appear in a log of `strace -f -q -e trace=process`; threads are left out.

    No pid may come twice in it.
    """
    if not path.exists():
        return []
    lines = list(_whole(path.read_text(errors="replace").splitlines()))
    made = [(pid, text, int(match[1])) for pid, call, text in lines if call in FORKS and (match := MADE.match(text))]
    threads: dict[int, int] = {}
    for pid, text, child in made:
        if "CLONE_THREAD" in text:
            threads[child] = threads.get(pid, pid)
    found: dict[int, Traced] = {}
    for pid, call, text in lines:
        one = found.setdefault(threads.get(pid, pid), Traced(threads.get(pid, pid)))
        if call == "execve" and text.endswith(" = 0"):
            one.programs.append(text.split('"')[1] if '"' in text else UNKNOWN)
        elif call == ENDED_CALL and pid not in threads:
            code, name = text.split()
            one.exit_code = None if code == "None" else int(code)
            one.signal = None if name == "None" else signal.Signals[f"SIG{name}"].value
    for pid, _, child in made:
        if child in found:
            found[child].parent = threads.get(pid, pid)
    return list(found.values())


def _whole(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    """Pid, name and rest of each call; those that strace told in two parts once their second part is there."""
    unfinished: dict[int, str] = {}
    for line in lines:
        if match := ENDED.match(line):
            yield int(match[1]), ENDED_CALL, f"{match[2]} {match[3]}"
        elif match := SUPERSEDED.match(line):  # a thread that executes a program gets the pid of its process
            if int(match[2]) in unfinished:
                unfinished[int(match[1])] = unfinished.pop(int(match[2]))
        elif match := RESUMED.match(line) or CALL.match(line):
            text = (unfinished.pop(int(match[1]), "") if "resumed>" in match[0] else "") + match[3]
            if parts := UNFINISHED.match(text):
                unfinished[int(parts[2] or match[1])] = parts[1]
            else:
                yield int(match[1]), match[2], text
