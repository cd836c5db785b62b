"""Where the processes asked about are: in the tables alone, or in the archive, too.

Which rows of a host and day count, and which run a process was of, may depend on rows that are elsewhere. So where the archive has
anything that could matter, the tables and its files are asked as one; else the database alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from batchacct.archive.holdings import archive_path, archived, despite_archiving, told_purged
from batchacct.model import JOB, OBJECT, PROCESS, PROCESS_GROUP, RecordType
from batchacct.store import Store
from batchacct.store.large_joins import large_joins
from batchacct.store.spans import DAY, LATE, Span, when_ended
from batchacct.store.tables import job, object_, process, process_group
from procacct.asking.asked import Asked
from procacct.asking.options import asked_for
from procacct.asking.runs import NEAR_S

T = TypeVar("T")
ASKED_OF = (JOB, PROCESS, OBJECT, PROCESS_GROUP)


def answered(
    store: Store, begin: str | None, end: str | None, question: Callable[[Connection, Asked], T], **which: Any
) -> tuple[T, Asked, list[str]]:
    """The answer to a question about the processes of a period (see `asked_for`), what was asked, and what was purged of it.

    Raises: ConfigError, IncompleteError if there is no process, ArchiveError if a file of the archive is missing or damaged.
    """

    def ask() -> tuple[T, Asked, list[str]]:
        with store.reading() as connection, large_joins(connection):
            asked = asked_for(connection, begin, end, **which)
            told = [line for kind in (PROCESS, JOB) for line in told_purged(connection, asked.begin, asked.end, kind)]
            if archive_path(connection) is None:
                return question(connection, asked), asked, told
            since = _since(connection, asked)
            if not any(month.file for kind in ASKED_OF for month in archived(connection, kind, first=since)):
                return question(connection, asked), asked, told
            from batchacct.archive.together import together  # noqa: PLC0415 - slow to import

            with together(connection, _rows(asked, since), since) as both:
                return question(both, asked), asked, told

    return despite_archiving(store, ask)


def _since(connection: Connection, asked: Asked) -> int:
    """From when on records may matter: sets of objects told of before, and the jobs that processes of the period ran in.

    Those, too, that ended in the period, and what ran in them.
    """
    started = select(func.min(process.c.started_at)).where(asked.logged.has(process.c.logged_at))
    ended = when_ended(connection, asked.begin, asked.end).logged
    of_jobs = select(func.min(job.c.start_at)).where(job.c.end_at >= asked.begin, job.c.end_at < asked.end)
    found = [
        _least(connection, started, started, PROCESS, asked),
        _least(connection, of_jobs.where(ended.has(job.c.logged_at)), of_jobs, JOB, asked),
    ]
    first = min([asked.begin, *(at for at in found if at is not None)])
    return min(first - NEAR_S, asked.objects_told.first or 0)


def _least(
    connection: Connection, of_table: Select[Any], of_files: Select[Any], record_type: RecordType, asked: Asked
) -> int | None:
    """The least of a table and of the archived months that reach the period."""
    from batchacct.archive.querying import archived_rows  # noqa: PLC0415 - slow to import

    rows = [connection.execute(of_table).one(), *archived_rows(connection, of_files, record_type, first=asked.begin)]
    return min((int(row[0]) for row in rows if row[0] is not None), default=None)


def _rows(asked: Asked, since: int) -> dict[RecordType, ColumnElement[bool]]:
    """Which rows of the tables may matter; processes by whole days, of which the best source counts."""
    last = asked.end + LATE
    return {
        JOB: and_(job.c.end_at >= since - NEAR_S, job.c.start_at <= last + NEAR_S),
        PROCESS: Span(since // DAY * DAY, last).has(process.c.logged_at),
        OBJECT: asked.objects_told.has(object_.c.seen_at),
        PROCESS_GROUP: Span(asked.begin - 1).has(process_group.c.left_at),
    }
