"""On which days there are records of a cluster's jobs: from what is kept of days, and from the rows of those that changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Executable, select

from batchacct.archive.holdings import despite_archiving
from batchacct.archive.layout import countable_files
from batchacct.archive.querying import rows_of_files
from batchacct.model import JOB
from batchacct.store.spans import ANYTIME, DAY, Period, when_ended
from batchacct.store.tables import job
from batchacct.usage.asking import Source, rows_in
from batchacct.usage.beside import Beside
from batchacct.usage.keeping import of_longest_runs, outside, unchanged_days
from batchacct.usage.packs import RECORDS, pieces

Rows = Iterable[Sequence[Any]]
"""Of a cluster and the number of a day (Unix seconds / `DAY`)."""


def days_with_records(source: Source, first: int, last: int) -> dict[str, set[int]]:
    """The days (numbers, from one to before another) on which any job of a cluster ended, or its record was logged.

    Raises: StoreError, ArchiveError.
    """
    if isinstance(source, Path):
        return _by_cluster(_of_folder(source, first, last), first, last)

    def ask() -> dict[str, set[int]]:
        with source.reading() as connection:
            return _by_cluster(_of_store(connection, first, last), first, last)

    return despite_archiving(source, ask)


def _by_cluster(rows: Rows, first: int, last: int) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for cluster, day in rows:
        if day is not None and first <= day < last:
            found.setdefault(cluster, set()).add(int(day))
    return found


def _of_store(connection: Connection, first: int, last: int) -> Rows:
    clean = of_longest_runs(unchanged_days(connection))
    others = outside(clean, ANYTIME)
    period = when_ended(connection, first * DAY, last * DAY)
    yield from rows_in(connection, [lambda p: _ended(p, first, last)], Period(outside(clean, period.logged)), others)[0]
    yield from rows_in(connection, [lambda p: _logged(p, first, last)], Period(others), others)[0]
    yield from _of_pieces(pieces(connection, RECORDS, set(clean)))


def _of_folder(folder: Path, first: int, last: int) -> Rows:
    for file, manifest in countable_files(folder, JOB):
        beside = Beside.of(file, manifest)
        clean = [] if beside is None else [row["day"] for row in beside.days]
        others = outside(clean, ANYTIME)
        if others.meets(manifest.first_at, manifest.last_at):
            for statement in (_ended, _logged):
                yield from rows_of_files([(file, manifest)], statement(Period(others), first, last))
        if beside is not None:
            yield from _of_pieces(beside.pieces(RECORDS, set(clean)))


def _of_pieces(found: Iterable[tuple[int, Any]]) -> Rows:
    for logged, piece in found:
        for cluster, ended in zip(piece.column("cluster").to_pylist(), piece.column("unit").to_pylist(), strict=True):
            yield cluster, logged // DAY
            yield cluster, ended


def _ended(period: Period, first: int, last: int) -> Executable:
    in_period = (job.c.end_at >= first * DAY, job.c.end_at < last * DAY)
    return select(job.c.cluster, job.c.end_at // DAY).where(*in_period, period.logged.has(job.c.logged_at)).distinct()


def _logged(period: Period, first: int, last: int) -> Executable:
    in_period = (job.c.logged_at >= first * DAY, job.c.logged_at < last * DAY)
    return select(job.c.cluster, job.c.logged_at // DAY).where(*in_period, period.logged.has(job.c.logged_at)).distinct()
