"""What was seen, in short: in which hours a source told of something, and which job ids of a cluster it told of.

Written in the transaction that stores the records, so that nothing ever has to be read again to know it; noting a record twice
changes nothing. `ledger.gaps` finds in it what is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, and_, bindparam, insert, select, update

from batchacct.model import JOB, RecordType
from batchacct.store.columns import SOURCE_BYTES
from batchacct.store.tables import IDS_PER_BLOCK, IDS_PER_TIME, seen_hour, seen_ids

if TYPE_CHECKING:
    Ints = np.ndarray[tuple[int], np.dtype[np.int64]]

HOUR = 3600
WEEK = 604_800
BLOCKS_PER_QUERY = 400
_BLOCK_BITS = 50

_SLURM = r":(?P<number>[0-9]{1,18})(?:_[0-9]+)?(?:\+[0-9]+)?:[0-9]*:[0-9]+(?::.*)?$"
_HTCONDOR = rf"^(?P<series>[^#]{{0,{SOURCE_BYTES}}})#(?P<number>[0-9]{{1,18}})[.]"
_LEADING = r"^(?P<number>[0-9]{1,18})(?:[^0-9].*)?$"

# Built once: a line that comes alone is noted, too, and building a statement takes longer than running it.
_OF_HOUR = and_(seen_hour.c.source == bindparam("of_source"), seen_hour.c.cluster == bindparam("of_cluster"))
_HOURS_THERE = select(seen_hour.c.hour, seen_hour.c.first_at, seen_hour.c.last_at, seen_hour.c.longest_s).where(
    _OF_HOUR, seen_hour.c.hour.between(bindparam("first_hour"), bindparam("last_hour"))
)
_NEW_HOUR = insert(seen_hour)
_CHANGED_HOUR = update(seen_hour).where(_OF_HOUR, seen_hour.c.hour == bindparam("of_hour"))
_OF_IDS = and_(seen_ids.c.cluster == bindparam("of_cluster"), seen_ids.c.series == bindparam("of_series"))
_IDS_THERE = select(seen_ids.c.week, seen_ids.c.block, seen_ids.c.seen, seen_ids.c.submitted).where(
    _OF_IDS,
    seen_ids.c.week.in_(bindparam("weeks", expanding=True)),
    seen_ids.c.block.in_(bindparam("blocks", expanding=True)),
)
_NEW_IDS = insert(seen_ids)
_CHANGED_IDS = update(seen_ids).where(_OF_IDS, seen_ids.c.week == bindparam("of_week"), seen_ids.c.block == bindparam("of_block"))


def note_seen(connection: Connection, record_type: RecordType, batch: pa.RecordBatch) -> None:
    """Notes the records (or parts) of a batch."""
    for source, cluster, rows in _apart(batch, "source", "cluster"):
        _note_hours(connection, record_type, source, cluster, rows)
        if record_type is JOB:
            for series, numbers, at in _numbered(rows):
                _note_ids(connection, cluster, series, numbers, at)


def _apart(batch: pa.RecordBatch, first: str, second: str) -> Iterator[tuple[str, str, pa.RecordBatch]]:
    """The rows by the values of two text columns; nearly always they are all of one kind."""
    pairs = {(batch.column(first)[0].as_py(), batch.column(second)[0].as_py())} if batch.num_rows else set()
    if not all(pc.all(pc.equal(batch.column(name), batch.column(name)[0])).as_py() for name in (first, second) if pairs):
        pairs = set(zip(batch.column(first).to_pylist(), batch.column(second).to_pylist(), strict=True))
    for one, other in sorted(pairs):
        if len(pairs) == 1:
            yield one, other, batch
        else:
            yield one, other, batch.filter(pc.and_(pc.equal(batch.column(first), one), pc.equal(batch.column(second), other)))


def _seconds(column: pa.Array[Any]) -> Ints:
    """Instants as Unix seconds, 0 where there is none."""
    return _filled(column.cast(pa.int64()), 0)


def _note_hours(connection: Connection, record_type: RecordType, source: str, cluster: str, rows: pa.RecordBatch) -> None:
    at = _seconds(rows.column(record_type.time_column))
    took = np.zeros_like(at)
    if record_type is JOB:
        submitted = _seconds(rows.column("submit_at"))
        took = np.where(submitted > 0, np.maximum(at - submitted, 0), 0)
    order = np.argsort(at, kind="stable")
    at, took = at[order], took[order]
    hours, first = np.unique(at // HOUR, return_index=True)
    last = np.append(first[1:], len(at)) - 1
    longest = np.maximum.reduceat(took, first)
    wanted = {
        int(hour): (int(begin), int(end), int(most))
        for hour, begin, end, most in zip(hours, at[first], at[last], longest, strict=True)
    }
    place: dict[str, object] = {"of_source": source, "of_cluster": cluster}
    there = connection.execute(_HOURS_THERE, place | {"first_hour": min(wanted), "last_hour": max(wanted)})
    known = {row.hour: (row.first_at, row.last_at, row.longest_s) for row in there if row.hour in wanted}
    merged = {hour: _spanned(values, known.get(hour, values)) for hour, values in wanted.items()}
    names = ("first_at", "last_at", "longest_s")
    new = [dict(zip(names, values, strict=True)) | {"hour": hour} for hour, values in merged.items() if hour not in known]
    other = {hour: values for hour, values in merged.items() if known.get(hour, values) != values}
    changed = [dict(zip(names, values, strict=True)) | {"of_hour": hour} for hour, values in other.items()]
    if new:
        connection.execute(_NEW_HOUR, [row | {"source": source, "cluster": cluster} for row in new])
    if changed:
        connection.execute(_CHANGED_HOUR, [row | place for row in changed])


def _spanned(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    return min(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2])


def _numbered(rows: pa.RecordBatch) -> Iterator[tuple[str, Ints, Ints]]:
    """(series, numbers, submit times) of the jobs whose batch system counts them; a series has one counter.

    Slurm counts array tasks and components of their own: the number is the raw id, which is in the key, and a task gets it when it
    is split off the array, to start. HTCondor counts clusters of jobs a schedd. What is not known to have been submitted at some
    time counts as submitted when it started, or was logged.
    """
    for lrms, _, jobs in _apart(rows, "lrms", "cluster"):
        at = jobs.column("submit_at")
        if lrms == "Slurm":
            at = pc.if_else(pc.is_valid(jobs.column("array_index")), pc.coalesce(jobs.column("start_at"), at), at)
        if at.null_count:
            at = pc.coalesce(at, jobs.column("start_at"), jobs.column("logged_at"))
        submitted = _seconds(at)
        if lrms == "HTCondor":
            found = pc.extract_regex(jobs.column("lrms_job_id"), _HTCONDOR)
            series, numbers = pc.struct_field(found, "series"), _integers(pc.struct_field(found, "number"))
            for name in pc.unique(series.drop_null()).to_pylist():
                chosen = pc.fill_null(pc.equal(series, name), False).to_numpy(zero_copy_only=False).astype(bool)
                yield name, numbers[chosen], submitted[chosen]
            continue
        numbers = _raw_numbers(jobs.column("record_key")) if lrms == "Slurm" else _leading_numbers(jobs.column("lrms_job_id"))
        if (numbers < 0).any():
            submitted, numbers = submitted[numbers >= 0], numbers[numbers >= 0]
        if len(numbers):
            yield "", numbers, submitted


def _raw_numbers(keys: pa.Array[Any]) -> Ints:
    return _integers(pc.struct_field(pc.extract_regex(keys, _SLURM), "number"))


def _leading_numbers(ids: pa.Array[Any]) -> Ints:
    """`4242` of `4242`, and of `4242.server`; -1 of what does not begin with a number."""
    with contextlib.suppress(pa.ArrowInvalid):
        return _integers(ids)
    return _integers(pc.struct_field(pc.extract_regex(ids, _LEADING), "number"))


def _integers(texts: pa.Array[Any]) -> Ints:
    """-1 for null.  Raises: pa.ArrowInvalid for a text that is no number."""
    return _filled(texts.cast(pa.int64()), -1)


def _filled(column: pa.Array[Any], value: int) -> Ints:
    found: Ints = column.fill_null(value).to_numpy(zero_copy_only=False)
    return found


def _note_ids(connection: Connection, cluster: str, series: str, numbers: Ints, at: Ints) -> None:
    at = np.clip(at, 1, 2**32 - 1)
    keys, of_block = np.unique((at // WEEK << _BLOCK_BITS) | (numbers // IDS_PER_BLOCK), return_inverse=True)
    places = [(key >> _BLOCK_BITS, key & (1 << _BLOCK_BITS) - 1) for key in keys.tolist()]
    seen = np.zeros((len(keys), IDS_PER_BLOCK), np.bool_)
    seen[of_block, numbers % IDS_PER_BLOCK] = True
    times = np.zeros((len(keys), IDS_PER_BLOCK // IDS_PER_TIME), "<u4")
    np.maximum.at(times, (of_block, numbers % IDS_PER_BLOCK // IDS_PER_TIME), at.astype("<u4"))
    stored = _stored(connection, cluster, series, places)
    names = ("seen", "submitted")
    new, changed = [], []
    for place, bits, latest in zip(places, np.packbits(seen, axis=1), times, strict=True):
        if (old := stored.get(place)) is None:
            new.append(dict(zip(names, (bits.tobytes(), latest.tobytes()), strict=True)))
            new[-1] |= {"week": place[0], "cluster": cluster, "series": series, "block": place[1]}
            continue
        merged = (bits | np.frombuffer(old[0], np.uint8)).tobytes(), np.maximum(latest, np.frombuffer(old[1], "<u4")).tobytes()
        if merged != old:
            changed.append(dict(zip(names, merged, strict=True)) | {"of_week": place[0], "of_block": place[1]})
    if new:
        connection.execute(_NEW_IDS, new)
    if changed:
        connection.execute(_CHANGED_IDS, [row | {"of_cluster": cluster, "of_series": series} for row in changed])


def _stored(
    connection: Connection, cluster: str, series: str, places: list[tuple[int, int]]
) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    """What is noted already of some (week, block)."""
    found = {}
    for first in range(0, len(places), BLOCKS_PER_QUERY):
        some = places[first : first + BLOCKS_PER_QUERY]
        weeks, blocks = ({place[side] for place in some} for side in (0, 1))
        wanted = {"of_cluster": cluster, "of_series": series, "weeks": sorted(weeks), "blocks": sorted(blocks)}
        for row in connection.execute(_IDS_THERE, wanted):
            found[row.week, row.block] = bytes(row.seen), bytes(row.submitted)
    return found
