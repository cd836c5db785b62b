"""Whether the kernel of this host writes process accounting at all: it pauses where disk space is short, and no file says so.

`/proc/sys/kernel/acct` holds three numbers (proc(5), kernel/acct.c): accounting goes on again above the first percentage of free
space, pauses at the second or below, and space is looked at no more often than every so many seconds, the third, when a process
ends. Free space is what is left to everybody but root. Only the kernel's log tells of a pause.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LIMITS = Path("/proc/sys/kernel/acct")


@dataclass(frozen=True, slots=True)
class Limits:
    """Percentages of free space, and seconds between two looks at it."""

    resume: int
    suspend: int
    every_s: int


@dataclass(frozen=True, slots=True)
class Space:
    """Blocks of a file system: all, and those free to everybody."""

    blocks: int
    available: int

    def is_at_most(self, percentage: int) -> bool:
        return self.available <= self.blocks * percentage // 100

    @property
    def shown(self) -> str:
        return f"{100 * self.available / self.blocks:.1f} % free" if self.blocks else "no space at all"


def trouble(path: str, limits_file: Path = LIMITS) -> str | None:
    """Why the kernel may write no accounting into the file at `path` now; None if nothing speaks against it.

    Of a file that is not there nothing is told: who follows it is told that by others.
    """
    try:
        state = os.statvfs(path)
    except OSError:
        return None
    try:
        limits = Limits(*(int(number) for number in limits_file.read_text(encoding="ascii").split()))
    except FileNotFoundError:
        return f"the kernel of this host has no process accounting ({limits_file} is not there): {path} will not grow"
    except (OSError, TypeError, ValueError):
        return f"{limits_file} cannot be read: nobody knows whether process accounting is paused"
    return told(path, Space(state.f_blocks, state.f_bavail), limits)


def told(path: str, space: Space, limits: Limits) -> str | None:
    """What so much free space means for process accounting into `path`."""
    again = f"it goes on above {limits.resume} %, at most {limits.every_s} s after there is so much"
    if space.is_at_most(limits.suspend):
        return (
            f"the kernel has paused process accounting into {path}, or will at the next process that ends: its file system has "
            f"{space.shown}, and it pauses at {limits.suspend} % ({LIMITS}). Processes that end meanwhile are in no record. Free "
            f"some space: {again}"
        )
    if space.is_at_most(limits.resume):
        return (
            f"process accounting into {path} is paused if it was before: its file system has {space.shown}, and {again} "
            f"({LIMITS}). Free some space"
        )
    return None
