"""Stories of what is archived: its records are put back into their tables for the telling, in a transaction that is undone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import or_

import pyarrow.compute as pc
from sqlalchemy import Connection, and_, select

from batchacct.archive.holdings import Archived, archived
from batchacct.archive.recalling import NOTHING, Found, bring_back, find, one_of
from batchacct.ledger import stories
from batchacct.model import IDENTITY, JOB, PART, RECORD_TYPES, RecordType, whole_key
from batchacct.store import Store
from batchacct.store.tables import RECORD_TABLES, ROWS_PER_LOAD_BITS, identity, job, load, part, usage

_ORIGIN = ("source", "source_offset")


class _Undo(Exception):  # noqa: N818 - ends a transaction that is not to be kept
    pass


@contextmanager
def with_archived(store: Store, wanted: Callable[[Wanted], None]) -> Iterator[tuple[Connection, list[Archived]]]:
    """A connection that sees the archived records that are `wanted`, too, and the months they are of.

    Only if there are any, it is one that may write. Raises: ArchiveError if a file is missing or damaged.
    """
    with store.reading() as connection:
        asked = Wanted(connection)
        if any(archived(connection, record_type) for record_type in RECORD_TYPES.values()):
            wanted(asked)
        if not asked.found:
            yield connection, []
            return
    try:
        with store.writing() as connection:
            for month, ids in sorted(asked.found.values(), key=lambda found: found[0].record_type is JOB):
                bring_back(connection, month, ids)  # jobs last: they bring identities themselves
            yield connection, [month for month, _ in asked.found.values()]
            raise _Undo  # noqa: TRY301 - leaving by an exception is what rolls the transaction back
    except _Undo:
        pass


class Wanted:
    """The archived records that a story tells of."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.found: dict[tuple[str, int], tuple[Archived, set[int]]] = {}

    def of_job(self, job_id: stories.JobId) -> None:
        """Everything that `why` tells of a job."""
        published = pc.field("lrms_job_id")
        named = (published == job_id.typed) | pc.match_substring(published, f"#{job_id.typed}#")
        self._add(JOB, (pc.field("join_id") == job_id.join_id) | named)
        self._add(IDENTITY, pc.field("join_id") == job_id.join_id)
        key = whole_key(job_id.join_id, job_id.array_index)
        of_elements = [pc.starts_with(pc.field("part_key"), f"{job_id.join_id}{mark}") for mark in "[."]
        self._add(PART, reduce(or_, of_elements, pc.field("part_key") == key))
        self._of_runs([job.c.join_id == job_id.join_id])

    def of_message(self, number: int) -> None:
        """Everything that `trace message` tells of."""
        rows = [row for row, _ in stories.usage_in_message(self._connection, number)]
        self._add(JOB, one_of("id", [row.job_id for row in rows]))
        self._add(IDENTITY, one_of("id", [row.identity_id for row in rows if row.identity_id is not None]))
        self._of_runs([usage.c.message_id == number])

    def of_unit(self, path: str, offset: int, files: Collection[int]) -> None:
        """Everything that `trace unit` tells of."""
        of_file = load.c.file_id.in_(files) if files else load.c.path == path
        covers = and_(of_file, load.c.start_offset <= offset, load.c.end_offset > offset)
        for number in self._connection.scalars(select(load.c.id).where(covers)).all():
            first, behind = (n << ROWS_PER_LOAD_BITS for n in (number, number + 1))
            of_load = (pc.field("id") >= first) & (pc.field("id") < behind)
            near = of_load & (pc.field("source_offset") <= offset)
            for record_type in RECORD_TYPES.values():
                row = max(self._seek(record_type, near), key=lambda row: int(row["source_offset"]), default=None)
                if row is not None:
                    self._of_record(record_type, row)

    def _of_record(self, record_type: RecordType, row: Found) -> None:
        """A record that a byte belongs to, and all of the same id or whole."""
        self._add(record_type, pc.field("id") == row["id"])
        ids = [row["join_id"]] if row["join_id"] is not None else []
        if record_type is PART:
            siblings = self._add(PART, pc.field("part_key") == row["part_key"])
            self._add(RECORD_TYPES[row["record_type"]], _of_origins(siblings))
            whole = part.c.part_key == row["part_key"]
            live = self._connection.execute(select(part.c.source, part.c.source_offset).where(whole)).mappings()
            self._add(RECORD_TYPES[row["record_type"]], _of_origins(map(dict, live)))
        self._add(JOB, one_of("join_id", ids))
        self._add(IDENTITY, one_of("join_id", ids))
        self._of_runs([job.c.join_id == one for one in ids])

    def _of_runs(self, live: Iterable[object]) -> None:
        """The identities of the jobs found so far, and of those in the table that are so; and the parts they were made of."""
        jobs = self._ids(JOB)
        for condition in live:
            joined = job.join(usage, usage.c.job_id == job.c.id)
            jobs |= set(self._connection.scalars(select(job.c.id).select_from(joined).where(condition)))  # type: ignore[arg-type]
        told = set()
        for some in _in_thousands(jobs):
            asked = select(usage.c.identity_id).where(usage.c.job_id.in_(some), usage.c.identity_id.is_not(None))
            told |= set(self._connection.scalars(asked))
        self._add(IDENTITY, one_of("id", sorted(told)))
        origins: list[Found] = []
        for table, ids in ((job, jobs), (identity, told | self._ids(IDENTITY))):
            for some in _in_thousands(ids):
                asked_of = select(table.c.source, table.c.source_offset).where(table.c.id.in_(some))
                origins += map(dict, self._connection.execute(asked_of).mappings())
        for record_type in (JOB, IDENTITY):
            origins += self._seek(record_type, one_of("id", sorted(self._ids(record_type))))
        pieces = self._seek(PART, _of_origins(origins))
        self._add(PART, one_of("part_key", sorted({piece["part_key"] for piece in pieces})))

    def _ids(self, record_type: RecordType) -> set[int]:
        return {number for (name, _), (_, ids) in self.found.items() if name == record_type.name for number in ids}

    def _seek(self, record_type: RecordType, where: pc.Expression) -> list[Found]:
        """The archived records that are so, without wanting them yet."""
        return [row for _, rows in self._months(record_type, where) for row in rows]

    def _add(self, record_type: RecordType, where: pc.Expression) -> list[Found]:
        rows = []
        for month, found in self._months(record_type, where):
            _, ids = self.found.setdefault((record_type.name, month.month), (month, set()))
            ids.update(row["id"] for row in found)
            rows += found
        return rows

    def _months(self, record_type: RecordType, where: pc.Expression) -> list[tuple[Archived, list[Found]]]:
        names = [*_ORIGIN, "join_id", *(["part_key", "record_type"] if record_type is PART else [])]
        assert set(names) <= set(RECORD_TABLES[record_type.name].c.keys())
        return find(self._connection, record_type, where, names)


def _of_origins(rows: Iterable[Found]) -> pc.Expression:
    """Records that were read where some others were; a few more may be found, which does no harm."""
    places = {(row["source"], row["source_offset"]) for row in rows}
    if not places:
        return NOTHING
    return one_of("source", sorted({source for source, _ in places})) & one_of("source_offset", sorted({at for _, at in places}))


def _in_thousands(ids: Iterable[int]) -> Iterator[list[int]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), 1000):
        yield ordered[start : start + 1000]
