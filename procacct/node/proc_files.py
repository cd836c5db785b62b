"""What /proc says of a process (proc_pid_stat(5) and its neighbours), believed only if the process was the same before and after.

A pid may be another process's between two looks: what identifies one is pid and start, field 22 of /proc/PID/stat in clock ticks
since boot. Each fact may be missing: a process that ends meanwhile has no `exe`, and an empty `cmdline` and `environ`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
KERNEL_THREAD, NEVER_EXECUTED = 0x200000, 0x40
"""Field 9 of stat (include/linux/sched.h): PF_KTHREAD, PF_FORKNOEXEC."""
MOST_BYTES = 65_536
"""Of a file that a process can fill (command line, environment): the rest is not looked at."""
DELETED = " (deleted)"

Arguments = Literal["none", "program", "redacted", "all"]
"""What of a command line is kept: nothing; its first word, and the script of an interpreter; as `program` from /proc, and what
the sensor redacted; all of it."""


@dataclass(frozen=True, slots=True)
class Stat:
    """/proc/PID/stat. `start_ticks`: clock ticks since boot; `device` of the controlling terminal, 0 for none;
    `read_mono`: just before it was read (CLOCK_MONOTONIC, ns)."""

    pid: int
    comm: str
    state: str
    parent_pid: int
    device: int
    flags: int
    threads: int
    start_ticks: int
    read_mono: int = 0

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & KERNEL_THREAD)

    @property
    def is_gone(self) -> bool:
        """It has ended and waits to be waited for; a zombie whose threads live has not."""
        return self.state in "ZX" and self.threads <= 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of one process: absent where it could not be."""

    stat: Stat
    program: str | None
    identity: tuple[int, int] | None
    """Device and inode of the program."""
    arguments: tuple[str, ...] | None
    cgroup: str | None
    environment: dict[str, str] | None
    user_id: int | None
    group_id: int | None


def text_of(raw: bytes) -> str:
    """As text; bytes that are no UTF-8 as `\\xNN`."""
    return raw.decode("utf-8", "backslashreplace")


def stat_of(pid: int) -> Stat | None:
    """None if there is no such process."""
    read_mono = time.monotonic_ns()
    raw = _read(f"/proc/{pid}/stat")
    if not raw:
        return None
    opening, closing = raw.find(b"("), raw.rfind(b")")
    fields = raw[closing + 2 :].split()
    try:
        parent_pid, device, flags, threads, start = (int(fields[at]) for at in (1, 4, 6, 17, 19))
        comm, state = text_of(raw[opening + 1 : closing]), text_of(fields[0])
        return Stat(pid, comm, state, parent_pid, device, flags, threads, start, read_mono)
    except (IndexError, ValueError):
        return None


def facts_of(pid: int, start: tuple[int, int] | None, arguments: Arguments, *, environment: bool = False) -> Facts | None:
    """What /proc says of the process of this pid that started within these ticks (None: whatever process it is).

    None if it is gone, another one, or was replaced while it was read.
    """
    before = stat_of(pid)
    if before is None or (start is not None and not start[0] <= before.start_ticks <= start[1]):
        return None
    program, identity = program_of(pid)
    user_id, group_id = ids_of(pid)
    words = None if arguments == "none" else words_of(pid)
    found = Facts(
        before,
        program,
        identity,
        None if words is None else kept_words(words, arguments, program),
        text_of(_read(f"/proc/{pid}/cgroup")) or None,
        environment_of(pid) if environment else None,
        user_id,
        group_id,
    )
    after = stat_of(pid)
    return found if after is not None and after.start_ticks == before.start_ticks else None


def program_of(pid: int) -> tuple[str | None, tuple[int, int] | None]:
    """Path of the program a process runs, and its device and inode."""
    link = f"/proc/{pid}/exe"
    try:
        path = os.readlink(os.fsencode(link))  # noqa: PTH115 - bytes: a path may be of any
    except OSError:
        return None, None
    try:
        found = Path(link).stat()
    except OSError:
        return text_of(path).removesuffix(DELETED), None
    return text_of(path).removesuffix(DELETED), (found.st_dev, found.st_ino)


def ids_of(pid: int) -> tuple[int | None, int | None]:
    """Real user and group."""
    user = group = None
    for line in _read(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"Uid:"):
            user = int(line.split()[1])
        elif line.startswith(b"Gid:"):
            group = int(line.split()[1])
            break
    return user, group


def words_of(pid: int) -> tuple[str, ...] | None:
    """Its command line; None if there is none (a kernel thread, a process at its end)."""
    raw = _read(f"/proc/{pid}/cmdline")
    return tuple(text_of(word) for word in raw.rstrip(b"\0").split(b"\0")) if raw.strip(b"\0") else None


def environment_of(pid: int) -> dict[str, str] | None:
    """The environment as it was when the program was executed: its user's word."""
    raw = _read(f"/proc/{pid}/environ")
    pairs = (text_of(one).partition("=") for one in raw.split(b"\0"))
    return {name: value for name, equals, value in pairs if equals} if raw else None


INTERPRETERS = re.compile(r"-?(sh|bash|dash|ash|ksh|zsh|csh|tcsh|fish|python|pypy|perl|ruby|Rscript|node|lua|tclsh|php)[0-9.]*")
"""Names of interpreters, a version behind: those of `sensor/interpreters.c`, and fish."""


def kept_words(words: tuple[str, ...], arguments: Arguments, program: str | None) -> tuple[str, ...]:
    """The words that may be kept: all, or the first, and the second if the program is an interpreter and that is a script's
    name."""
    if arguments == "all" or len(words) < 2:
        return words
    name = (program or words[0]).rpartition("/")[2]
    script = words[1]
    if INTERPRETERS.fullmatch(name) and not script.startswith("-") and not any(c.isspace() or c in "=;&|$" for c in script):
        return words[:2]
    return words[:1]


def terminal_of(device: int) -> str | None:
    """`pts/3`, `ttyS0`-like numbers as `major:minor`; None for no terminal (devices.txt of the kernel)."""
    if device == 0:
        return None
    major, minor = (device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xFFF00)
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    return f"tty{minor}" if major == 4 and minor < 64 else f"{major}:{minor}"


def pids() -> Iterator[int]:
    """Every process that /proc shows, in no order."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - it is done often, and names are all that is wanted
        if name.isdigit():
            yield int(name)


def boot_id() -> str:
    """What names this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def forks_since_boot() -> int | None:
    """How many processes and threads were ever made; None if the kernel does not say."""
    return _of_stat(b"processes")


def booted_s() -> int | None:
    """When this host began to run, Unix seconds; None if the kernel does not say."""
    return _of_stat(b"btime")


def _of_stat(name: bytes) -> int | None:
    """A number of /proc/stat (proc_stat(5))."""
    for line in _read("/proc/stat").split(b"\n"):
        if line.startswith(name + b" "):
            return int(line.split()[1])
    return None


def _read(path: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        pieces = [os.read(handle, MOST_BYTES)]
        while pieces[-1] and sum(map(len, pieces)) < MOST_BYTES:
            pieces.append(os.read(handle, MOST_BYTES))
        return b"".join(pieces)
    except OSError:
        return b""
    finally:
        os.close(handle)
