"""What is asked of process accounting: which processes, summed by what; and the groups a job file tells of."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from batchacct.errors import ConfigError
from batchacct.store.spans import Span
from procacct.asking.accounts import user_id_of

SUMMED_BY = {
    "user": "account",
    "command": "name of the program; with a * what was forked and never called exec, as `sa` has it",
    "group": "group of processes",
    "job": "batch job",
    "unix-group": "group of the account",
    "host": "host",
    "terminal": "terminal",
    "day": "day of the end, UTC",
}
"""What processes can be summed by, and what each means."""

SUMS = ("processes", "forks", "elapsed_s", "cpu_user_s", "cpu_system_s", "minor_faults", "major_faults", "swaps", "killed")
"""Sums of an answer: processes; those of them that never called exec; times in seconds; faults, swaps; those a signal ended."""
MOST = ("memory_real_kib", "memory_virtual_kib")
"""Of these the greatest, KiB."""

NO_GROUP = "(no group)"
NO_JOB = "(no job)"
UNKNOWN = "(unknown)"
SLACK_S = 1
"""The start of a process is known from accounting to this."""


@dataclass(frozen=True, slots=True)
class Question:
    """Processes that ended from `begin` to before `end` (Unix seconds; None: any), of these users, commands and terminals.

    Users are names or numbers, commands patterns with * and ?; of what is empty, all.
    """

    begin: int | None = None
    end: int | None = None
    users: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    terminals: tuple[str, ...] = ()

    @property
    def span(self) -> Span:
        return Span(self.begin, None if self.end is None else self.end - 1)

    @property
    def user_ids(self) -> list[int]:
        """The numbers of its users, of those that have one here."""
        return [number for number in map(user_id_of, self.users) if number is not None]


@dataclass(frozen=True, slots=True)
class Membership:
    """A process in a group, Unix seconds; `end` is None while it is there."""

    group: str
    start: int
    end: int | None

    def has(self, began: int, ended: int) -> bool:
        """Whether a process that lived then is the one, of those with its number."""
        return self.start - SLACK_S <= ended and (self.end is None or began <= self.end + SLACK_S)


@dataclass(frozen=True, slots=True)
class Groups:
    """The memberships of a job file, by process id."""

    by_pid: dict[int, list[Membership]] = field(default_factory=dict)

    def of(self, pid: int, began: int, ended: int) -> set[str]:
        return {m.group for m in self.by_pid.get(pid, ()) if m.has(began, ended)}


def read_groups(path: Path) -> Groups:
    """A job file as `jobmng dump` writes it: group, process id, start and end (or -) in Unix seconds, between tabs; # comments.

    Raises: ConfigError for a file that cannot be read, or a line that is none of this.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--groups-file {path} cannot be read: {error}") from error
    groups = Groups()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([^\t]+)\t(\d{1,10})\t(\d{1,12})\t(\d{1,12}|-)", line)
        if not match:
            raise ConfigError(
                f"--groups-file {path}, line {number}: {line[:80]!r} is no membership: it has a group, a process id, the start and "
                "the end (or -) in Unix seconds, with tabs between them"
            )
        group, pid, start, end = match.groups()
        groups.by_pid.setdefault(int(pid), []).append(Membership(group, int(start), None if end == "-" else int(end)))
    return groups


def like_any(text: str | None, patterns: Iterable[str]) -> bool:
    """Whether a text is like one of some patterns with * and ?."""
    return text is not None and any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
