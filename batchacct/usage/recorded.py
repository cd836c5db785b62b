"""Of which time there are records of jobs: from what is kept of days, and from the rows of those that changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Executable, func, select

from batchacct.archive.holdings import despite_archiving
from batchacct.archive.layout import countable_files
from batchacct.archive.querying import rows_of_files
from batchacct.model import JOB
from batchacct.store.spans import ANYTIME, DAY, Period, Span, when_ended
from batchacct.store.tables import job
from batchacct.store.usage_tables import usage_day
from batchacct.usage.asking import Rows, Source, Statement, rows_in
from batchacct.usage.beside import Beside
from batchacct.usage.jobs import counted_jobs
from batchacct.usage.keeping import of_longest_runs, of_others, outside, unchanged_days
from batchacct.usage.packs import PIECES_AT_ONCE, RECORDS, pieces

T = TypeVar("T")


def days_with_records(source: Source, first: int, last: int) -> dict[str, set[int]]:
    """The days (numbers, from one to before another) on which any job of a cluster ended, or its record was logged.

    Raises: StoreError, ArchiveError.
    """

    def found_in(place: _Place) -> dict[str, set[int]]:
        ended, logged = place.when_ended(first * DAY, last * DAY), Span(first * DAY, last * DAY - 1)
        rows = [*place.rows(partial(_ended, first, last), ended), *place.rows(partial(_logged, first, last), logged)]
        near = [day for day in place.kept() if any(span.meets(day, day + DAY - 1) for span in (ended, logged))]
        for record in place.records(near):
            rows += [(record["cluster"], record["first_at"] // DAY), (record["cluster"], record["unit"])]
        found: dict[str, set[int]] = {}
        for cluster, day in rows:
            if day is not None and first <= day < last:
                found.setdefault(cluster, set()).add(int(day))
        return found

    return _asked(source, found_in)


def when_counted(source: Source) -> tuple[int, int, int] | None:
    """When the first of the jobs that are counted started, and when the first and the last ended (Unix seconds); None of none."""

    def found_in(place: _Place) -> tuple[int, int, int] | None:
        rows = [row for row in place.rows(_counted) if row[0] is not None]
        rows += [(day["first_start_at"], day["first_end_at"], day["last_end_at"]) for day in place.days() if day["jobs"]]
        return (min(row[0] for row in rows), min(row[1] for row in rows), max(row[2] for row in rows)) if rows else None

    return _asked(source, found_in)


def when_recorded(source: Source) -> tuple[int, int] | None:
    """When the first and the last record of a job were logged (Unix seconds); None if there is none."""

    def found_in(place: _Place) -> tuple[int, int] | None:
        rows = [row for row in place.rows(_recorded) if row[0] is not None]
        for days in (place.kept(), place.kept()[::-1]):
            rows += [(record["first_at"], record["last_at"]) for record in _of_first_of(place, days)]
        return (min(row[0] for row in rows), max(row[1] for row in rows)) if rows else None

    return _asked(source, found_in)


def _of_first_of(place: _Place, days: Sequence[int]) -> list[Mapping[Any, Any]]:
    """The records of the first of some days that have any, and of some after it."""
    for start in range(0, len(days), PIECES_AT_ONCE):
        if found := list(place.records(days[start : start + PIECES_AT_ONCE])):
            return found
    return []


def _ended(first: int, last: int, period: Period) -> Executable:
    in_period = (job.c.end_at >= first * DAY, job.c.end_at < last * DAY)
    return select(job.c.cluster, job.c.end_at // DAY).where(*in_period, period.logged.has(job.c.logged_at)).distinct()


def _logged(first: int, last: int, period: Period) -> Executable:
    in_period = (job.c.logged_at >= first * DAY, job.c.logged_at < last * DAY)
    return select(job.c.cluster, job.c.logged_at // DAY).where(*in_period, period.logged.has(job.c.logged_at)).distinct()


def _counted(period: Period) -> Executable:
    extremes = func.min(job.c.start_at), func.min(job.c.end_at), func.max(job.c.end_at)
    return select(*extremes).where(*counted_jobs(), period.logged.has(job.c.logged_at))


def _recorded(period: Period) -> Executable:
    return select(func.min(job.c.logged_at), func.max(job.c.logged_at)).where(period.logged.has(job.c.logged_at))


class _Place(Protocol):
    """What holds jobs, in one state."""

    def when_ended(self, begin: int, end: int) -> Span:
        """When jobs that ended then were logged."""

    def rows(self, statement: Statement, logged: Span = ANYTIME) -> Rows:
        """Of the jobs that were logged on days that are not kept."""

    def days(self) -> Iterable[Mapping[Any, Any]]:
        """What `usage_day` says of those that are."""

    def kept(self) -> Sequence[int]:
        """Those that are, in order (Unix seconds)."""

    def records(self, days: Collection[int]) -> Iterator[Mapping[Any, Any]]:
        """The records of some of those, by `RECORDS_SCHEMA`."""


def _asked(source: Source, answer: Callable[[_Place], T]) -> T:
    if isinstance(source, Path):
        return answer(_Folder(source))

    def ask() -> T:
        with source.reading() as connection:
            return answer(_Tables(connection))

    return despite_archiving(source, ask)


class _Tables:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clean = of_longest_runs(unchanged_days(connection))

    def when_ended(self, begin: int, end: int) -> Span:
        return when_ended(self._connection, begin, end).logged

    def rows(self, statement: Statement, logged: Span = ANYTIME) -> Rows:
        others = of_others(self._connection, self._clean, logged)
        return rows_in(self._connection, [statement], others, outside(self._clean, ANYTIME))[0]

    def days(self) -> Iterable[Mapping[Any, Any]]:
        clean = set(self._clean)
        return [row for row in self._connection.execute(select(usage_day)).mappings() if row["day"] in clean]

    def kept(self) -> Sequence[int]:
        return self._clean

    def records(self, days: Collection[int]) -> Iterator[Mapping[Any, Any]]:
        for _, piece in pieces(self._connection, RECORDS, set(days)):
            yield from piece.to_pylist()


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._files = [(file, manifest, Beside.of(file, manifest)) for file, manifest in countable_files(folder, JOB)]

    def when_ended(self, begin: int, end: int) -> Span:
        del begin, end
        return ANYTIME

    def rows(self, statement: Statement, logged: Span = ANYTIME) -> Rows:
        found: Rows = []
        for file, manifest, beside in self._files:
            others = outside([row["day"] for row in beside.days] if beside else [], logged)
            if others.meets(manifest.first_at, manifest.last_at):
                found += rows_of_files([(file, manifest)], statement(Period(others)))
        return found

    def days(self) -> Iterable[Mapping[Any, Any]]:
        return [row for _, _, beside in self._files if beside is not None for row in beside.days]

    def kept(self) -> Sequence[int]:
        return sorted({row["day"] for row in self.days()})

    def records(self, days: Collection[int]) -> Iterator[Mapping[Any, Any]]:
        for _, _, beside in self._files:
            if beside is not None:
                for _, piece in beside.pieces(RECORDS, {row["day"] for row in beside.days}.intersection(days)):
                    yield from piece.to_pylist()
