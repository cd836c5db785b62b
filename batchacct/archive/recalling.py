"""Archived records back in their tables, under their own numbers: for the join, for a story.

A recalled record does not count in its file any more; the next `db archive` takes it out once more, into a new file of its month.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, func, insert, select

from batchacct.archive.holdings import Archived, archived, batches_of, recalled_ids, without_ids
from batchacct.config import Join
from batchacct.model import IDENTITY, INTEGER, JOB, TEXT, RecordType
from batchacct.store.tables import RECORD_TABLES, ROWS_PER_LOAD_BITS, archived_month, identity, job, recalled, usage

DAY = 86_400
IDS_AT_ONCE = 1_000
Found = dict[str, Any]
NOTHING = pc.scalar(value=False)
"""No record is so."""


def find(
    connection: Connection,
    record_type: RecordType,
    where: pc.Expression,
    columns: Sequence[str] = (),
    *,
    first: int | None = None,
    last: int | None = None,
) -> list[tuple[Archived, list[Found]]]:
    """The archived records that are so, by months: `id` and `columns` of each; of months between two instants, if given.

    Raises: ArchiveError if a file is missing or damaged.
    """
    found = []
    months = [] if where is NOTHING else archived(connection, record_type, first, last)
    for month in months:
        if month.file is None:
            continue
        back = recalled_ids(connection, record_type, month.month)
        rows: list[Found] = []
        for batch in batches_of(month, ["id", *columns], where):
            rows += without_ids(batch, back).to_pylist()
        if rows:
            found.append((month, rows))
    return found


def bring_back(connection: Connection, month: Archived, ids: Iterable[int]) -> list[Found]:
    """Puts records of a file into their table again; returns them as they are there.

    A job brings the identity it was joined with: what is in the job table has its identity in the other.
    """
    table = RECORD_TABLES[month.record_type.name]
    wanted = sorted(ids)
    returned: list[Found] = []
    for start in range(0, len(wanted), IDS_AT_ONCE):
        some = wanted[start : start + IDS_AT_ONCE]
        within = (pc.field("id") >= some[0]) & (pc.field("id") <= some[-1])
        for batch in batches_of(month, None, within & pc.field("id").isin(some)):
            rows = [stored(row, [c.name for c in table.columns]) for row in batch.to_pylist()]
            if rows:
                connection.execute(insert(table), rows)
                marks = [{"id": row["id"], "revision": row["revision"]} for row in rows]
                of_month = {"record_type": month.record_type.name, "month": month.month}
                connection.execute(insert(recalled), [of_month | mark for mark in marks])
            returned += rows
    if month.record_type is JOB:
        _recall_their_identities(connection, wanted)
    return returned


def stored(row: Found, names: Sequence[str]) -> Found:
    """A row of a file as its table has it: instants as Unix seconds."""
    return {name: int(row[name].timestamp()) if isinstance(row[name], dt.datetime) else row[name] for name in names}


def recall(connection: Connection, record_type: RecordType, where: pc.Expression) -> list[Found]:
    """Puts the archived records that are so into their table again, and returns them."""
    return [
        row
        for month, rows in find(connection, record_type, where)
        for row in bring_back(connection, month, [found["id"] for found in rows])
    ]


def _recall_their_identities(connection: Connection, jobs: Sequence[int]) -> None:
    """Puts the identities back that some jobs were joined with."""
    told: set[int] = set()
    for start in range(0, len(jobs), IDS_AT_ONCE):
        some = jobs[start : start + IDS_AT_ONCE]
        joined = select(usage.c.identity_id).where(usage.c.job_id.in_(some), usage.c.identity_id.is_not(None))
        told |= set(connection.scalars(joined))
    recall(connection, IDENTITY, one_of("id", sorted(told)))


def one_of(column: str, values: Iterable[object]) -> pc.Expression:
    """Records of which a column (an integer, or a text) has one of some values."""
    listed = list(values)
    return pc.field(column).isin(pa.array(listed, TEXT if isinstance(listed[0], str) else INTEGER)) if listed else NOTHING


# --- for the join ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Span:
    """The time in which the jobs and identities of an id could belong together."""

    first: int
    last: int

    def reaches(self, first: int, last: int) -> bool:
        return first <= self.last and last >= self.first

    def widen(self, first: int, last: int) -> None:
        self.first, self.last = min(self.first, first), max(self.last, last)


def recall_for_join(connection: Connection, record_type: str, loads: Sequence[int], join: Join) -> int:
    """Recalls whatever the join could ask for when it looks at some loads; how many records that were.

    That is everything of the same ids, in the time its windows reach to: a late identity of an archived job with the identities
    that are rivals of it, an archived identity of a job that ran for long, and the earlier runs of a requeued one.
    """
    there = archived_month.c
    of_both = (there.file_name.is_not(None), there.record_type.in_([JOB.name, IDENTITY.name]))
    newest = connection.scalar(select(func.max(there.last_at)).where(*of_both))
    if newest is None:
        return 0
    around = 2 * DAY + max(join.submit_window, join.accept_before, join.accept_after, join.end_window, 28 * DAY)
    spans = _spans(connection, record_type, loads, around, newest)
    count = 0
    while spans:
        jobs = _recall_within(connection, JOB, spans, _ran)
        count += len(jobs)
        for row in jobs:
            first, last = _ran(row)
            spans[row["join_id"]].widen(first - around, last + around)
        if not jobs:
            break
    if spans:
        count += len(_recall_within(connection, IDENTITY, spans, _told))
    return count


def _spans(connection: Connection, record_type: str, loads: Sequence[int], around: int, newest: int) -> dict[str, _Span]:
    """The ids in some loads that reach into what is archived, each with its time."""
    spans: dict[str, _Span] = {}
    for number in loads:
        table = RECORD_TABLES[record_type]
        within = table.c.id.between(number << ROWS_PER_LOAD_BITS, ((number + 1) << ROWS_PER_LOAD_BITS) - 1)
        if record_type == JOB.name:
            first, last = func.coalesce(job.c.submit_at, job.c.start_at, job.c.logged_at), job.c.logged_at
        else:
            first = last = identity.c.recorded_at  # type: ignore[assignment]
        rows = select(table.c.join_id, func.min(first), func.max(last)).where(within, first - around <= newest)
        for join_id, begin, end in connection.execute(rows.group_by(table.c.join_id)):
            spans.setdefault(join_id, _Span(begin - around, end + around)).widen(begin - around, end + around)
    return spans


def _recall_within(
    connection: Connection, record_type: RecordType, spans: dict[str, _Span], when: Callable[[Found], tuple[int, int]]
) -> list[Found]:
    earliest = min(span.first for span in spans.values())
    columns = ["join_id", record_type.time_column, *(["submit_at"] if record_type is JOB else [])]
    recalled_now: list[Found] = []
    for month, rows in find(connection, record_type, one_of("join_id", spans), columns, first=earliest):
        candidates = [stored(row, ["id", *columns]) for row in rows]
        near = [row["id"] for row in candidates if spans[row["join_id"]].reaches(*when(row))]
        recalled_now += bring_back(connection, month, near)
    return recalled_now


def _ran(row: Found) -> tuple[int, int]:
    logged: int = row["logged_at"]
    return (logged if row["submit_at"] is None else min(row["submit_at"], logged)), logged


def _told(row: Found) -> tuple[int, int]:
    return row["recorded_at"], row["recorded_at"]
