"""Between which times what is asked for has to be: a database that knows it leaves the partitions of other months alone.

A join tells it for each row (`usage.logged_at = job.logged_at`), which helps where the database looks up one row after the other;
bounds that are in the statement help always. SQLite has no partitions and is told none: it would choose its indices by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, FromClause, and_, case, false, func, or_, select, true

from batchacct.store.tables import ROWS_PER_LOAD, ROWS_PER_LOAD_BITS, identity, job, load, usage

DAY = 86_400
LATE = 31 * DAY
"""A job whose record does not tell when it ended is logged no longer than this before it was submitted: clocks differ."""

IS_OF_JOB = and_(usage.c.job_id == job.c.id, usage.c.logged_at == job.c.logged_at)
IS_OF_IDENTITY = and_(identity.c.id == usage.c.identity_id, identity.c.recorded_at == usage.c.identity_at)
"""How the ledger is joined with the tables of records."""
IS_OF_IDENTITY_OF_MANY = and_(
    identity.c.id == func.coalesce(usage.c.identity_id, -usage.c.job_id), identity.c.recorded_at == usage.c.identity_at
)
"""The same for an outer join over millions of rows. Those without an identity all look alike to a hash join, and PostgreSQL 15,
which keeps them with the hashed side, split them into ever more batches: ten million jobs took all memory. So each has a number.
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Instants from `first` to `last`, both included; None: without bound."""

    first: int | None = None
    last: int | None = None

    def has(self, at: ColumnElement[int] | Column[Any]) -> ColumnElement[bool]:
        bounds = [] if self.first is None else [at >= self.first]
        bounds += [] if self.last is None else [at <= self.last]
        return and_(true(), *bounds)

    def meets(self, first: int | None, last: int | None) -> bool:
        """Whether one of its instants is from `first` to `last`, both included."""
        after = self.first is not None and last is not None and self.first > last
        return not after and (self.last is None or first is None or first <= self.last)


@dataclass(frozen=True, slots=True)
class Spans(Span):
    """Instants in any of some spans."""

    of: tuple[Span, ...] = ()

    def has(self, at: ColumnElement[int] | Column[Any]) -> ColumnElement[bool]:
        return or_(false(), *(span.has(at) for span in self.of))

    def meets(self, first: int | None, last: int | None) -> bool:
        return any(span.meets(first, last) for span in self.of)

    @property
    def ends(self) -> tuple[int | None, int | None]:
        """The first and the last of their instants, where there is a bound; of none at all there are no ends."""
        return self.of[0].first, self.of[-1].last


ANYTIME = Span()
NEVER = Span(1, 0)


def has_partitions(connection: Connection) -> bool:
    """Of SQLite, and where the archive is asked beside the tables (`batchacct.archive.together`), there are none."""
    return connection.dialect.name not in {"sqlite", "duckdb"}


def of_rows(connection: Connection, rows: FromClause, at: ColumnElement[Any], which: ColumnElement[bool] | None = None) -> Span:
    """From the first to the last of the times of some rows."""
    if not has_partitions(connection):
        return ANYTIME
    asked = select(func.min(at), func.max(at)).select_from(rows)
    first, last = connection.execute(asked if which is None else asked.where(which)).one()
    return NEVER if first is None else Span(first, last)


def of_times(connection: Connection, rows: FromClause, *times: ColumnElement[Any]) -> list[Span]:
    """For each of several times of some rows, from the first to the last; the rows are read once."""
    if not has_partitions(connection):
        return [ANYTIME] * len(times)
    ends = connection.execute(select(*(end(at) for at in times for end in (func.min, func.max))).select_from(rows)).one()
    return [NEVER if first is None else Span(first, last) for first, last in zip(ends[::2], ends[1::2], strict=True)]


def of_loads(connection: Connection, numbers: Iterable[int]) -> dict[int, Span]:
    """For each of some loads between which times its rows are; what a collector of an older version has stored does not tell."""
    numbers = list(numbers)
    if not has_partitions(connection):
        return dict.fromkeys(numbers, ANYTIME)
    asked = select(load.c.id, load.c.first_row_at, load.c.last_row_at).where(load.c.id.in_(numbers))
    found = {number: Span(first, last) for number, first, last in connection.execute(asked)}
    return {number: found.get(number, ANYTIME) for number in numbers}


def of_load(at: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a time is one of those of the rows of `load`, which a record is joined with."""
    first, last = func.coalesce(load.c.first_row_at, -(2**62)), func.coalesce(load.c.last_row_at, 2**62)
    return at.between(first, last)


@dataclass(frozen=True, slots=True)
class Period:
    """Of the jobs of a period: when they were logged, and, where that was asked for, when their identities were recorded.

    `ids` are within what numbers they are.
    """

    logged: Span = ANYTIME
    identities: Span = ANYTIME
    ids: Span = ANYTIME


def when_ended(connection: Connection, begin: int | None, end: int | None, *, identities: bool = False) -> Period:
    """For the jobs that ended from `begin` to before `end`: the loads say when what ended then was logged."""
    if not has_partitions(connection) or (begin is None and end is None):
        return Period()
    ended = [true() if begin is None else load.c.last_end_at >= begin, true() if end is None else load.c.first_end_at < end]
    return _period(connection, and_(load.c.first_end_at.is_not(None), *ended), identities=identities)


def since(connection: Connection, at: int) -> Span:
    """When jobs were logged that were submitted, or ended, at that time or later.

    All of these ended since then, and the loads tell when such jobs were logged; those alone whose end is unknown, or before
    their submission, are taken to be logged within `LATE`.
    """
    if not has_partitions(connection):
        return ANYTIME
    logged = when_ended(connection, at, None).logged
    if logged is NEVER:
        return Span(at - LATE)
    return ANYTIME if logged.first is None else Span(min(at - LATE, logged.first))


def all_logged(connection: Connection) -> Span:
    """When all jobs there are were logged, by the loads: on every database, for who can do without asking the rows."""
    return _period(connection, true(), identities=False).logged


def when_logged(connection: Connection, begin: int, end: int) -> Period:
    """For the jobs that were logged from `begin` to before `end`."""
    if not has_partitions(connection):
        return Period()
    found = _period(connection, and_(load.c.last_row_at >= begin, load.c.first_row_at < end), identities=True)
    return Period(Span(begin, end - 1), found.identities)


def _period(connection: Connection, which: ColumnElement[bool], *, identities: bool) -> Period:
    unknown = load.c.first_row_at.is_(None)
    columns = (
        *(func.min(load.c.first_row_at), func.max(load.c.last_row_at), func.min(load.c.id), func.max(load.c.id)),
        func.sum(case((unknown, 1), else_=0)),
    )
    some = and_(load.c.record_type == "job", load.c.next_row > 0, or_(which, unknown))
    first, last, first_load, last_load, untold = connection.execute(select(*columns).where(some)).one()
    if first_load is None:
        return Period(NEVER, NEVER)
    logged = ANYTIME if untold else Span(first, last)
    if not identities:
        return Period(logged)
    ids = usage.c.job_id.between(first_load << ROWS_PER_LOAD_BITS, (last_load << ROWS_PER_LOAD_BITS) + ROWS_PER_LOAD - 1)
    return Period(logged, of_rows(connection, usage, usage.c.identity_at, and_(ids, logged.has(usage.c.logged_at))))
