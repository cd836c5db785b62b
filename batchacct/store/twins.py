"""A run that was imported from another program's database is the same one in its log, whatever its key there.

Such a database does not say all that a key is made of (APEL's lacks the time of submission and the index of an LSF array), and the
hash of a log's line never follows from it. So what was imported is held against what was read from logs, and both against another
import, by what each of them knows: two records of one cluster with the same job id (`join_id`), the same start and the same end
are one run. The first to come stays, the other counts as already known: totals stay what the other program had, and reading its
logs again adds nothing. An identity is the same if id, time and computing element are; one with which the other program has
joined a job is not needed where that job is here from its log, and would replace the one it has here.

- Elements of an array may have all of these in common. Where both sides know the index it has to be the same; where one does not
  (APEL's LSF ids have none), each stored record stands for one run, the first that comes.
- What was known so is written down by its key (`store.twin_table`), which is asked first: it stays known whatever becomes of either
  side's times. A record that stands for one is not offered to another of that origin, in whatever block that comes.
- What a stored record was like before it was corrected is looked at, too: another program may have kept that.
- A correction of what was known so replaces what is stored only under the same key (of LSF and the 2012 tables). Else the first
  stays, and the correction is known as well: two of one run are never in force.
- An instant of the hour that clocks tell twice was imported as the first of the two: there, an hour later is the same as well.
- Only records of times that an import reached are looked at: whoever never imported, or reads what is newer, pays one short query
  a block.
"""

from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, select

from batchacct.model import IDENTITY, JOB, RecordType
from batchacct.store.imports import Import, imports
from batchacct.store.tables import RECORD_TABLES, job
from batchacct.store.twin_table import LOG, Known, key_hash, known_twins, taken

IDS_PER_QUERY = 500
DAY, HOUR = 86_400, 3600
LATE_S = 31 * DAY
"""No log is looked at that told of a run longer after its end."""
TWINNED = (JOB, IDENTITY)
"""Record types that databases are imported as."""

Key = tuple[str, str, object, object]
"""Cluster, job id, and what else tells runs apart: start and end, or time and computing element."""


@dataclass(slots=True, eq=False)
class Run:
    """A stored run with one of the job ids asked for: its key, and the numbers of its revisions, with the one in force.

    `is_own`: a revision is of the origin that asks, `is_other`: one is not. `is_taken`: it stands for another record.
    """

    record_key: str
    array_index: int | None
    ids: set[int]
    in_force: int
    is_own: bool = False
    is_other: bool = False
    is_taken: bool = False


@dataclass
class Twins:
    """Of a batch: for rows that are stored as another's record the number of that; and what is new of it, to be noted."""

    stored: dict[int, int] = field(default_factory=dict)
    new: list[dict[str, object]] = field(default_factory=list)
    corrections: int = 0


def twins_of(connection: Connection, record_type: RecordType, batch: pa.RecordBatch, source: str) -> Twins:
    """The rows of a batch of `source` (job or identity records) that are stored as another's record; nothing is written."""
    known = [one for one in imports(connection) if one.record_type == record_type.name] if record_type in TWINNED else []
    if not known or not batch.num_rows:
        return Twins()
    mine = next((one for one in known if one.source == source), None)
    asked = _Asked(record_type, batch, known, mine)
    last = max(one.last_at for one in known)
    rows = [n for n in range(batch.num_rows) if mine is not None or asked.earliest(n) <= last]
    if not rows:
        return Twins()
    found = _Matching(connection, asked, rows).twins()
    if mine is not None and mine.of_jobs:
        found.stored = _of_jobs_here(connection, batch, mine.family) | found.stored
    return found


class _Matching:
    """Rows of a batch held against stored runs, and against what was known of them before."""

    def __init__(self, connection: Connection, asked: _Asked, rows: Sequence[int]) -> None:
        self._asked, self._rows = asked, rows
        self._by_time, self._by_key = _stored(connection, asked, rows)
        self._known = known_twins(connection, asked.record_type, asked.origin, {asked.hashes[row] for row in rows})
        self._by_id = {number: run for some in self._by_time.values() for run in some for number in run.ids}
        for number in taken(connection, asked.origin, self._by_id):
            self._by_id[number].is_taken = True

    def twins(self) -> Twins:
        """Keys first, so that of several contents under a key all are known, whichever of them has the times."""
        found = Twins()
        for row in self._rows:
            if self._asked.hashes[row] not in self._known and (run := self._twin(row)) is not None:
                run.is_taken = True
                self._known[self._asked.hashes[row]] = Known(run.in_force)
                self._note(row, found)
        for row in self._rows:
            known = self._known.get(self._asked.hashes[row])
            if known is None:
                continue
            if self._asked.contents[row] not in known.contents:
                if self._replaces(row):
                    continue
                self._note(row, found)
                found.corrections += 1
            run_of = self._by_id.get(known.stored_id)
            found.stored[row] = known.stored_id if run_of is None else run_of.in_force
        return found

    def _twin(self, row: int) -> Run | None:
        """The stored run that a row is, which came from elsewhere."""
        same = self._by_key.get(self._asked.record_keys[row])
        if same is not None and (same.is_own or self._asked.is_import):
            return None if same.is_own else same
        return _fitting(self._by_time, self._asked.keys(row), self._asked.indices[row])

    def _replaces(self, row: int) -> bool:
        """Whether a content that is new goes in as a revision: its very key is stored, and an import replaces only its own."""
        same = self._by_key.get(self._asked.record_keys[row])
        return same is not None and (same.is_own or not self._asked.is_import)

    def _note(self, row: int, found: Twins) -> None:
        asked, hashed = self._asked, self._asked.hashes[row]
        self._known[hashed].contents.add(asked.contents[row])
        values = {"record_type": asked.record_type.name, "origin": asked.origin, "key_hash": hashed}
        found.new.append(values | {"content_hash": asked.contents[row], "stored_id": self._known[hashed].stored_id})


def _of_jobs_here(connection: Connection, batch: pa.RecordBatch, family: str) -> dict[int, int]:
    """For rows of a batch of identities that jobs ended with: the numbers of those jobs that are here, and not of that import."""
    own = [one.source for one in imports(connection) if one.family == family]
    clusters, ids = batch.column("cluster").to_pylist(), batch.column("join_id").to_pylist()
    ended = _plain(batch.column("recorded_at"))
    query = select(job.c.id, job.c.cluster, job.c.join_id, job.c.end_at).where(
        job.c.logged_at.between(min(ended) - DAY, max(ended) + DAY), job.c.superseded_by.is_(None), job.c.source.not_in(own)
    )
    there: dict[tuple[object, object, object], int] = {}
    wanted = sorted({str(one) for one in ids})
    for start in range(0, len(wanted), IDS_PER_QUERY):
        some = query.where(job.c.join_id.in_(wanted[start : start + IDS_PER_QUERY]))
        there |= {(row.cluster, row.join_id, row.end_at): row.id for row in connection.execute(some)}
    keys = enumerate(zip(clusters, ids, ended, strict=True))
    return {row: there[key] for row, key in keys if key in there}


def _fitting(stored: Mapping[Key, list[Run]], keys: Sequence[Key], index: int | None) -> Run | None:
    """The run from elsewhere that stands for a row, and for no other yet."""
    for key in keys:
        free = [run for run in stored.get(key, ()) if run.is_other and not run.is_own and not run.is_taken]
        same = next((run for run in free if run.array_index == index), None)
        other = next((run for run in free if index is None or run.array_index is None), None)
        if (run := same or other) is not None:
            return run
    return None


class _Asked:
    """A batch that is held against what is stored: what tells its rows apart, and which stored records are of other origin."""

    def __init__(self, record_type: RecordType, batch: pa.RecordBatch, known: Sequence[Import], mine: Import | None) -> None:
        self.record_type, self._mine = record_type, mine
        names = ("cluster", "join_id", "array_index", "record_key", "content_hash", *_TOLD[record_type.name])
        self._columns = {name: _plain(batch.column(name)) for name in (*names, record_type.time_column)}
        self.indices: list[int | None] = self._columns["array_index"]
        self.record_keys: list[str] = self._columns["record_key"]
        self.contents: list[int] = self._columns["content_hash"]
        self.hashes = [key_hash(key) for key in self.record_keys]
        self.is_import, self.origin = mine is not None, LOG if mine is None else f"import {mine.family}"
        self._others = [one.source for one in known if mine is None or one.family == mine.family]
        self._recorded = (record_type.time_column, "end_at") if record_type is JOB else (record_type.time_column,)
        zones = {one.zone or "" for one in known if mine is None or one is mine}
        self._zones = [zoneinfo.ZoneInfo(zone) for zone in sorted(zones - {""})]

    def keys(self, row: int) -> list[Key]:
        """What a row's twin may be known by, the likeliest first."""
        cluster, join_id = self._columns["cluster"][row], self._columns["join_id"][row]
        told = [self._columns[name][row] for name in _TOLD[self.record_type.name]]
        variants = [[value, *self._again(value)] if isinstance(value, int) else [value] for value in told]
        return [(cluster, join_id, first, second) for first, second in itertools.product(*variants)]

    def _again(self, at: int) -> Iterator[int]:
        """The other instant at which a clock shows the same as at this one."""
        for other in (at - HOUR, at + HOUR):
            if any(_clock(at, zone) == _clock(other, zone) for zone in self._zones):
                yield other

    def join_ids(self, rows: Sequence[int]) -> list[str]:
        return sorted({self._columns["join_id"][row] for row in rows})

    def is_other(self, source: str) -> bool:
        """What came from a log is held against imports; what is imported against all but its own import."""
        return (source in self._others) is (self._mine is None)

    def earliest(self, row: int) -> int:
        """The first instant at which the run may have been recorded: some logs tell of it long after its end."""
        times: list[int] = [self._columns[name][row] for name in self._recorded]
        return min(times)

    def around(self, rows: Sequence[int]) -> tuple[int, int]:
        latest = max(self._columns[self.record_type.time_column][row] for row in rows)
        return min(map(self.earliest, rows)) - DAY, latest + LATE_S


_TOLD = {JOB.name: ("start_at", "end_at"), IDENTITY.name: ("recorded_at", "ce_id")}


def _plain(column: pa.Array[Any]) -> list[Any]:
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def _clock(at: int, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)


def _stored(connection: Connection, asked: _Asked, rows: Sequence[int]) -> tuple[dict[Key, list[Run]], dict[str, Run]]:
    """The runs that have one of the batch's job ids and a time near its own: by what any revision of theirs says, and by key."""
    table = RECORD_TABLES[asked.record_type.name]
    time = table.c[asked.record_type.time_column]
    told = [table.c[name] for name in _TOLD[asked.record_type.name]]
    columns = (table.c.id, table.c.superseded_by, table.c.source, table.c.record_key, time.label("at"), table.c.array_index)
    query = select(*columns, table.c.cluster, table.c.join_id, *told).where(time.between(*asked.around(rows)))
    runs: dict[tuple[str, int], Run] = {}
    by_time: dict[Key, list[Run]] = {}
    ids = asked.join_ids(rows)
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = query.where(table.c.join_id.in_(ids[start : start + IDS_PER_QUERY])).order_by(table.c.id)
        for number, replaced_by, source, key, at, index, *known_by in connection.execute(some):
            run = runs.setdefault((key, at), Run(key, index, set(), number))
            run.ids.add(number)
            run.in_force = number if replaced_by is None else replaced_by
            is_other = asked.is_other(source)
            run.is_other, run.is_own = run.is_other or is_other, run.is_own or not is_other
            same = by_time.setdefault(tuple(known_by), [])
            if run not in same:
                same.append(run)
    return by_time, {run.record_key: run for run in runs.values()}
