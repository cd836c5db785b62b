"""Stories of what is archived: its records are put back into their tables for the telling, in a transaction that is undone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from operator import or_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, Connection, and_, select

from batchacct.archive.holdings import Archived, archived, despite_archiving
from batchacct.archive.recalling import Found, bring_back, find, one_of, stored
from batchacct.ledger import stories
from batchacct.ledger.job_ids import JobId
from batchacct.model import IDENTITY, INSTANT, JOB, OBJECT, PART, PROCESS, RECORD_TYPES, RecordType, whole_key
from batchacct.store import Store
from batchacct.store.spans import DAY
from batchacct.store.tables import RECORD_TABLES, ROWS_PER_LOAD_BITS, identity, job, part, process, usage

_ORIGIN = ("source", "source_offset")


class _Undo(Exception):  # noqa: N818 - ends a transaction that is not to be kept
    pass


@contextmanager
def with_archived(store: Store, wanted: Callable[[Wanted], None]) -> Iterator[tuple[Connection, list[Archived]]]:
    """A connection that sees the archived records that are `wanted`, too, and the months they are of.

    Only if there are any, it is one that may write. Raises: ArchiveError if a file is missing or damaged.
    """
    with ExitStack() as stack:
        yield despite_archiving(store, lambda: stack.enter_context(_with_archived(store, wanted)))


@contextmanager
def _with_archived(store: Store, wanted: Callable[[Wanted], None]) -> Iterator[tuple[Connection, list[Archived]]]:
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

    def of_job(self, job_id: JobId) -> None:
        """Everything that `why` tells of a job."""
        published = pc.field("lrms_job_id")
        named = (published == job_id.typed) | pc.match_substring(published, f"#{job_id.typed}#")
        self._add(JOB, (pc.field("join_id") == job_id.join_id) | named)
        self._add(IDENTITY, pc.field("join_id") == job_id.join_id)
        key = whole_key(job_id.join_id, job_id.array_index)
        of_elements = [pc.starts_with(pc.field("part_key"), f"{job_id.join_id}{mark}") for mark in "[."]
        self._add(PART, reduce(or_, of_elements, pc.field("part_key") == key))
        self._with_their_own(self._live(JOB, job.c.join_id == job_id.join_id))
        self._of_programs(job_id.join_id)

    def of_message(self, number: int) -> None:
        """Everything that `trace message` tells of."""
        rows = [row for row, _ in stories.usage_in_message(self._connection, number)]
        self._add(JOB, one_of("id", [row.job_id for row in rows]))
        self._add(IDENTITY, one_of("id", [row.identity_id for row in rows if row.identity_id is not None]))
        self._with_their_own({row.job_id for row in rows})

    def of_unit(self, path: str, offset: int, files: Collection[int]) -> None:
        """Everything that `trace unit` tells of."""
        jobs: set[int] = set()
        for read in stories.loads_at(self._connection, path, offset, files):
            first, behind = (n << ROWS_PER_LOAD_BITS for n in (read.id, read.id + 1))
            near = (pc.field("id") >= first) & (pc.field("id") < behind) & (pc.field("source_offset") <= offset)
            for record_type in RECORD_TYPES.values():
                row = self._unit_among(record_type, near, offset)
                if row is None and (live := stories.row_at(self._connection, RECORD_TABLES[record_type.name], read, offset)):
                    row = live._asdict()
                if row is not None:
                    jobs |= self._of_record(record_type, row)
        told = self._with_their_own(jobs)
        self._add(IDENTITY, one_of("superseded_by", sorted(told)))

    def _of_programs(self, join_id: str) -> None:
        """Wants what ran in a job, the sets of shared objects, and what says how much of it is known.

        That are losses on its hosts meanwhile, and, as of each host and day the best source counts, a record of each source.
        """
        names = ("host", "started_at", "logged_at", "object_set")
        in_table = select(*(process.c[name] for name in names)).where(process.c.join_id == join_id)
        rows = [row._asdict() for row in self._connection.execute(in_table)]
        rows += [stored(row, names) for row in self._add(PROCESS, pc.field("join_id") == join_id, *names)]
        if not rows:
            return
        self._add(OBJECT, one_of("object_set", sorted({row["object_set"] for row in rows if row["object_set"] is not None})))
        first, last = min(row["started_at"] for row in rows), max(row["logged_at"] for row in rows)
        at, begin, end = pc.field("logged_at"), first // DAY * DAY, last // DAY * DAY + DAY
        meanwhile = (at >= _instant(begin)) & (at < _instant(end))
        of_hosts = one_of("host", sorted({row["host"] for row in rows}))
        lost = (pc.field("kind") == "gap") & (pc.field("started_at") <= _instant(last)) & (at >= _instant(first))
        self._add(PROCESS, of_hosts & lost)
        told = self._months(PROCESS, of_hosts & meanwhile & (pc.field("kind") != "gap"), ("host", "logged_at", "parser"))
        for month, found in told:
            one_each = {(row["host"], row["logged_at"].date(), row["parser"]): row["id"] for row in found}
            self.found.setdefault((PROCESS.name, month.month), (month, set()))[1].update(one_each.values())

    def _unit_among(self, record_type: RecordType, near: pc.Expression, offset: int) -> Found | None:
        """The last of some archived records of a load, if the byte at `offset` is of its unit."""
        last = max(self._seek(record_type, near), key=lambda row: int(row["source_offset"]), default=None)
        if last is None:
            return None
        (row,) = self._seek(record_type, pc.field("id") == last["id"], "native")
        return row if row["native"] is not None and row["source_offset"] + len(row["native"]) >= offset else None

    def _of_record(self, record_type: RecordType, row: Found) -> set[int]:
        """Wants a record that a byte belongs to, and what its story tells of; the jobs of that story."""
        self._add(record_type, one_of("id", [row["id"]]))
        if record_type is JOB:
            return {row["id"]}
        if record_type is PART:
            return self._of_part(row)
        if record_type is not IDENTITY:
            return set()
        ids = {found["id"] for found in self._seek(JOB, one_of("join_id", [row["join_id"]]))}
        ids |= self._live(JOB, job.c.join_id == row["join_id"])
        joined: set[int] = set()
        for some in _in_thousands(ids):
            asked = select(usage.c.job_id).where(usage.c.job_id.in_(some), usage.c.identity_id == row["id"])
            joined |= set(self._connection.scalars(asked))
        self._add(JOB, one_of("id", sorted(joined)))
        return joined

    def _of_part(self, row: Found) -> set[int]:
        """Wants the other parts of a whole, and the records made of them, or amended by them; those of them that are jobs."""
        record_type = RECORD_TYPES[row["record_type"]]
        table = RECORD_TABLES[record_type.name]
        siblings = self._add(PART, one_of("part_key", [row["part_key"]]), "native")
        if row["join_id"] is not None:
            ids = {found["id"] for found in self._add(record_type, one_of("join_id", [row["join_id"]]))}
            ids |= self._live(record_type, table.c.join_id == row["join_id"])
        else:
            whole = select(part.c.source, part.c.source_offset, part.c.native).where(part.c.part_key == row["part_key"])
            origins = [*siblings, *map(dict, self._connection.execute(whole).mappings())]
            ids = {found["id"] for found in self._at(record_type, origins)}
            self._add(record_type, one_of("id", sorted(ids)))
            of_origins = (table.c[name].in_([origin[name] for origin in origins]) for name in _ORIGIN)
            ids |= self._live(record_type, and_(*of_origins))
        return ids if record_type is JOB else set()

    def _live(self, record_type: RecordType, which: ColumnElement[bool]) -> set[int]:
        """The records in the table that are so."""
        return set(self._connection.scalars(select(RECORD_TABLES[record_type.name].c.id).where(which)))

    def _with_their_own(self, jobs: Collection[int]) -> set[int]:
        """Wants the identities of the jobs found so far, and of some more, and the parts all were made of; those identities."""
        jobs = self._ids(JOB) | set(jobs)
        told: set[int] = set()
        for some in _in_thousands(jobs):
            asked = select(usage.c.identity_id).where(usage.c.job_id.in_(some), usage.c.identity_id.is_not(None))
            told |= set(self._connection.scalars(asked))
        self._add(IDENTITY, one_of("id", sorted(told)))
        origins: list[Found] = []
        for table, ids in ((job, jobs), (identity, told | self._ids(IDENTITY))):
            for some in _in_thousands(ids):
                asked_of = select(table.c.source, table.c.source_offset, table.c.native).where(table.c.id.in_(some))
                origins += map(dict, self._connection.execute(asked_of).mappings())
        for record_type in (JOB, IDENTITY):
            origins += self._seek(record_type, one_of("id", sorted(self._ids(record_type))), "native")
        self._add(PART, one_of("part_key", sorted({piece["part_key"] for piece in self._at(PART, origins)})))
        return told

    def _at(self, record_type: RecordType, origins: Iterable[Found]) -> list[Found]:
        """The archived records that were read where some others were: other files have units at the same offsets."""
        places = {tuple(row[name] for name in (*_ORIGIN, "native")) for row in origins if row["native"] is not None}
        if not places:
            return []
        near = [one_of(name, sorted({place[n] for place in places})) for n, name in enumerate(_ORIGIN)]
        found = self._seek(record_type, near[0] & near[1], "native")
        return [row for row in found if tuple(row[name] for name in (*_ORIGIN, "native")) in places]

    def _ids(self, record_type: RecordType) -> set[int]:
        return {number for (name, _), (_, ids) in self.found.items() if name == record_type.name for number in ids}

    def _seek(self, record_type: RecordType, where: pc.Expression, *more: str) -> list[Found]:
        """The archived records that are so, with `more` columns, without wanting them yet."""
        return [row for _, rows in self._months(record_type, where, more) for row in rows]

    def _add(self, record_type: RecordType, where: pc.Expression, *more: str) -> list[Found]:
        rows = []
        for month, found in self._months(record_type, where, more):
            _, ids = self.found.setdefault((record_type.name, month.month), (month, set()))
            ids.update(row["id"] for row in found)
            rows += found
        return rows

    def _months(self, record_type: RecordType, where: pc.Expression, more: Sequence[str]) -> list[tuple[Archived, list[Found]]]:
        known = {"join_id", "part_key", "record_type"} & record_type.names
        names = [*_ORIGIN, *sorted(known), *more]
        return find(self._connection, record_type, where, names)


def _in_thousands(ids: Iterable[int]) -> Iterator[list[int]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), 1000):
        yield ordered[start : start + 1000]


def _instant(at: int) -> pc.Expression:
    """A time, as the files of the archive have it."""
    value: Any = pa.scalar(at, INSTANT)
    return pc.scalar(value)
