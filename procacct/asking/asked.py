"""Which processes are asked about, and the columns they are counted by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, String, and_, case, cast, func, or_

from batchacct.errors import ConfigError
from batchacct.ledger.whose import UNKNOWN
from batchacct.store.spans import Span
from batchacct.store.tables import process
from procacct.asking.one_source import counted_once, is_program

NO_JOB = "(no batch job)"
NO_RECORD = "(job not recorded)"

_TOLD_AHEAD_S = 62 * 86_400
"""A set of shared objects is told again each month: so that of a process at most so long before it ended."""

NUMBER_TEXT = String(20)
"""A number as a text."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Processes that ended from `begin` to before `end` (Unix seconds), of these VOs if any are given, a cluster, a user."""

    begin: int
    end: int
    vo: tuple[str, ...] = ()
    cluster: str | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        if self.begin >= self.end:
            raise ConfigError("--from is not before --to: there is no time between them")

    @property
    def logged(self) -> Span:
        return Span(self.begin, self.end - 1)

    @property
    def objects_told(self) -> Span:
        """When the sets of shared objects of these processes were told."""
        return Span(self.begin - _TOLD_AHEAD_S, self.end)

    def processes(self, logged: Span | None = None, *, of_every_source: bool = False) -> list[ColumnElement[bool]]:
        """Which rows of `process` count: as asked, but of those logged in another span where one is given.

        `of_every_source`: those too that do not count, as a better source tells of the same day.
        """
        span = logged or self.logged
        found = [is_program(), span.has(process.c.logged_at)]
        found += [] if of_every_source else [counted_once(span)]
        found += [] if self.cluster is None else [process.c.cluster == self.cluster]
        return found if self.user is None else [*found, USER.in_([self.user])]

    def of_vo(self, run: FromClause) -> list[ColumnElement[bool]]:
        """Which of them, by their runs (of `Runs.shared_out`, outer joined)."""
        return [vo_of(run).in_(self.vo)] if self.vo else []

    @property
    def who(self) -> str:
        """`, VO atlas, user alice`: what is not everybody."""
        told = [f"VO {', '.join(self.vo)}"] if self.vo else []
        told += [f"cluster {self.cluster}"] if self.cluster else []
        return "".join(f", {one}" for one in [*told, *([f"user {self.user}"] if self.user else [])])


def vo_of(run: FromClause) -> ColumnElement[Any]:
    """The VO of a process, by its run, where it has one."""
    return case((run.c.run_id.is_not(None), run.c.vo), (process.c.join_id.is_(None), NO_JOB), else_=NO_RECORD)


_UID = case((process.c.user_id.is_not(None), "uid " + cast(process.c.user_id, NUMBER_TEXT)))
USER: ColumnElement[Any] = func.coalesce(process.c.user_name, _UID, UNKNOWN)
"""The account a process ran under."""

PROGRAM: ColumnElement[Any] = func.coalesce(process.c.program, process.c.command, UNKNOWN)
"""Its path; where the source has none, the name the kernel has for it."""

CPU: ColumnElement[Any] = func.coalesce(process.c.cpu_user_s, 0.0) + func.coalesce(process.c.cpu_system_s, 0.0)
"""CPU seconds of a row. That of a process stands with the last of its programs, so sums of rows are those of processes."""

CPU_UNKNOWN: ColumnElement[Any] = case(
    (
        and_(process.c.ended_by != "exec", process.c.cpu_user_s.is_(None), process.c.cpu_system_s.is_(None)),
        process.c.processes,
    ),
    else_=0,
)
"""Executions of a row that ended a process whose CPU nobody told."""


def like(column: ColumnElement[Any], pattern: str, *, is_path: bool = False) -> ColumnElement[bool]:
    """Whether a text matches a pattern with * and ?; a pattern for a path without / is for the name of the file."""
    escaped = "".join(f"\\{one}" if one in "\\%_" else one for one in pattern).replace("*", "%").replace("?", "_")
    matches = column.like(escaped, escape="\\")
    return or_(matches, column.like(f"%/{escaped}", escape="\\")) if is_path and "/" not in pattern else matches
