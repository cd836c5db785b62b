"""A run that was imported from another program's database is the same one in its log, whatever its key there.

Such a database does not say all that a key is made of (APEL's lacks the time of submission and the index of an LSF array), and the
hash of a log's line never follows from it. So what was imported is held against what was read from logs, and both against another
import, by what each of them knows: two records of one cluster with the same job id (`join_id`), the same start and the same end
are one run. The first to come stays, the other counts as already known: totals stay what the other program had, and reading its
logs again adds nothing. An identity is the same if id, time and computing element are; one with which the other program has
joined a job is not needed where that job is here from its log, and would replace the one it has here.

- Elements of an array may have all of these in common. Where both sides know the index it has to be the same; where one does not
  (APEL's LSF ids have none), each stored record stands for one run, in the order in which they come in a block.
- An instant of the hour that clocks tell twice was imported as the first of the two: there, an hour later is the same as well.
- Only records of times that an import reached are looked at: whoever never imported, or reads what is newer, pays one short query
  a block.
"""

from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, and_, select

from batchacct.model import IDENTITY, JOB, RecordType
from batchacct.store.imports import Import, imports
from batchacct.store.tables import RECORD_TABLES, job

IDS_PER_QUERY = 500
DAY, HOUR = 86_400, 3600
TWINNED = (JOB, IDENTITY)
"""Record types that databases are imported as."""

Key = tuple[str, str, object, object]
"""Cluster, job id, and what else tells runs apart: start and end, or time and computing element."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A stored record that may stand for another one: its number, and the index of its array."""

    id: int
    array_index: int | None


def twins_of(connection: Connection, record_type: RecordType, batch: pa.RecordBatch, source: str) -> dict[int, int]:
    """For rows of a batch of `source` (job or identity records) that are stored as another's record: the number of that."""
    known = [one for one in imports(connection) if one.record_type == record_type.name] if record_type in TWINNED else []
    if not known or not batch.num_rows:
        return {}
    mine = next((one for one in known if one.source == source), None)
    at = batch.column(record_type.time_column).cast(pa.int64()).to_pylist()
    rows = [n for n in range(batch.num_rows) if mine is not None or int(at[n] or 0) <= max(one.last_at for one in known)]
    if not rows:
        return {}
    asked = _Asked(record_type, batch, known, mine)
    stored = _stored(connection, asked, rows)
    found = _of_jobs_here(connection, batch, mine.family) if mine is not None and mine.of_jobs else {}
    for row in rows:
        twin = _taken(stored, asked.keys(row), asked.indices[row])
        if twin is not None:
            found[row] = twin.id
    return found


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


def _taken(stored: Mapping[Key, list[Twin]], keys: Sequence[Key], index: int | None) -> Twin | None:
    """The stored record that stands for a row, which it is then no more for another."""
    for key in keys:
        candidates = stored.get(key, [])
        same = next((twin for twin in candidates if twin.array_index == index), None)
        other = next((twin for twin in candidates if index is None or twin.array_index is None), None)
        if (twin := same or other) is not None:
            candidates.remove(twin)
            return twin
    return None


class _Asked:
    """A batch that is held against what is stored: what tells its rows apart, and which stored records are of other origin."""

    def __init__(self, record_type: RecordType, batch: pa.RecordBatch, known: Sequence[Import], mine: Import | None) -> None:
        self.record_type, self._mine = record_type, mine
        names = ("cluster", "join_id", "array_index", *_TOLD[record_type.name], record_type.time_column)
        self._columns = {name: _plain(batch.column(name)) for name in dict.fromkeys(names)}
        self.indices: list[int | None] = self._columns["array_index"]
        self._others = [one.source for one in known if mine is None or one.family == mine.family]
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

    def is_of_others(self, source: ColumnElement[str]) -> ColumnElement[bool]:
        """What came from a log is held against imports; what is imported against all but its own import."""
        return source.in_(self._others) if self._mine is None else source.not_in(self._others)

    def around(self, rows: Sequence[int]) -> tuple[int, int]:
        times = [self._columns[self.record_type.time_column][row] for row in rows]
        return min(times) - DAY, max(times) + DAY


_TOLD = {JOB.name: ("start_at", "end_at"), IDENTITY.name: ("recorded_at", "ce_id")}


def _plain(column: pa.Array[Any]) -> list[Any]:
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def _clock(at: int, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)


def _stored(connection: Connection, asked: _Asked, rows: Sequence[int]) -> dict[Key, list[Twin]]:
    """The records in force of other origin that have one of the batch's job ids, and a time near its own."""
    table = RECORD_TABLES[asked.record_type.name]
    first, last = asked.around(rows)
    told = [table.c[name] for name in _TOLD[asked.record_type.name]]
    near = and_(table.c[asked.record_type.time_column].between(first, last), table.c.superseded_by.is_(None))
    query = select(table.c.id, table.c.array_index, table.c.cluster, table.c.join_id, *told).where(
        near, asked.is_of_others(table.c.source)
    )
    found: dict[Key, list[Twin]] = {}
    ids = asked.join_ids(rows)
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = query.where(table.c.join_id.in_(ids[start : start + IDS_PER_QUERY])).order_by(table.c.id)
        for number, index, cluster, join_id, one, other in connection.execute(some):
            found.setdefault((cluster, join_id, one, other), []).append(Twin(number, index))
    return found
