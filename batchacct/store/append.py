"""Into the store: records, parts, rejects, the load that says where they came from, and the position, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    Table,
    UniqueConstraint,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from batchacct.crashpoints import crash_point
from batchacct.errors import CheckpointError
from batchacct.following import Position
from batchacct.model import INSTANT, JOB, PART, REAL, RECORD_TYPES, TEXT, Record, RecordType
from batchacct.parsing import Parsed, RejectedUnit, Row
from batchacct.store import tables
from batchacct.store.changed_days import days_of, note_appended
from batchacct.store.dialects import Dialect, KnownRecordsError
from batchacct.store.horizon import without_archived
from batchacct.store.keys import with_strange_rejected
from batchacct.store.loads import OpenLoad, close_load, open_load
from batchacct.store.seen import note_seen
from batchacct.store.spans import Span, of_rows
from batchacct.store.store import Store
from batchacct.store.tables import reject
from batchacct.store.twin_table import note_twins
from batchacct.store.twins import twins_of

log = logging.getLogger(__name__)

LOADS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a load comes from; `position` is None for what is not a followed file (a replay, an insert by hand, an answer).

    `asked`: it is the answer of a feed, which overlaps with earlier ones: a reject that is kept already is known.
    """

    source: str
    record_type: str
    parser: str
    path: str
    position: Position | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """The books of one block, and the load it went into.

    units = recorded + merged + known + skipped + rejected; `revised` is a part of recorded.
    """

    load_id: int
    units: int
    recorded: int
    merged: int
    known: int
    revised: int
    skipped: int
    rejected: int


def append(store: Store, origin: Origin, parsed: Parsed, now: int, moved: Position | None = None) -> tuple[Counts, Position | None]:
    """Stores one block's outcome; `moved` is the position behind it, replacing `origin.position`.

    A record whose key and hash are known is counted and skipped; one whose key is known with another hash becomes a revision.
    Raises: StoreError, CheckpointError if another process has moved the position meanwhile, HorizonError if all of it is of
    archived months; then nothing of it is stored.
    """
    parsed = with_strange_rejected(RECORD_TYPES[origin.record_type], parsed, store.dialect.name)
    done = store.untangled(lambda: _append(store, origin, parsed, now, moved))
    crash_point("append.after-commit")
    return done


def _append(store: Store, origin: Origin, parsed: Parsed, now: int, moved: Position | None) -> tuple[Counts, Position | None]:
    record_type = RECORD_TYPES[origin.record_type]
    goes_on = origin.asked or (origin.position is not None and origin.position.id is not None)
    with store.appending() as connection:
        parsed = without_archived(connection, record_type, parsed, source=origin.source, path=origin.path, goes_on=goes_on)
        kept, twins = _without_twins(connection, record_type, parsed.records, origin.source)
        stored = _store_position(connection, origin.position, moved, now) if moved else None
        rows = max(kept.num_rows, parsed.parts.num_rows)
        of = open_load(connection, _of_block(origin, parsed, stored), rows)
        crash_point("append.after-position")
        records = _append_records(connection, store.dialect, record_type, kept, of)
        parts = _append_records(connection, store.dialect, PART, parsed.parts, of)
        rejects = _new_rejects(connection, origin, parsed.rejects) if origin.asked else parsed.rejects
        _append_rejects(connection, origin, rejects, of.id)
        counts = Counts(
            of.id,
            units=parsed.units,
            recorded=records.inserted,
            merged=parts.inserted,
            known=records.known + parts.known + twins + len(parsed.rejects) - len(rejects),
            revised=records.revised + parts.revised,
            skipped=sum(parsed.skipped.values()),
            rejected=len(rejects),
        )
        _close(connection, of, rows, now, parsed=replace(parsed, records=kept), counts=counts, record_type=record_type)
        crash_point("append.before-commit")
    return counts, stored


def append_completed(
    store: Store, connection: Connection, record_type: RecordType, records: Sequence[tuple[Record, Row]], now: int
) -> int:
    """Stores records made of parts, each with the stored row whose origin it bears, in loads by file; returns how many are new.

    Such a load has read no units: it says which file its records lead to, and how many they are. It grows, as others do.
    """
    by_load = _loads_of(connection, {cast("int", origin["id"]) >> tables.ROWS_PER_LOAD_BITS for _, origin in records})
    by_file: dict[tuple[object, ...], list[Record]] = {}
    for record, origin in records:
        of_file = by_load[cast("int", origin["id"]) >> tables.ROWS_PER_LOAD_BITS]
        by_file.setdefault(of_file, []).append(record)
    total = 0
    for (source, path, file_id), together in by_file.items():
        batch, _ = _without_twins(connection, record_type, record_type.batch(together), cast("str", source))
        if not batch.num_rows:
            continue
        values = {"source": source, "record_type": record_type.name, "file_id": file_id, "path": path}
        of = open_load(connection, values | {"start_offset": 0, "end_offset": 0}, batch.num_rows)
        inserted = _append_records(connection, store.dialect, record_type, batch, of)
        added = {"completed": inserted.inserted, "revised": inserted.revised}
        looked_at = {"completed_at": now, "completed_to": of.first_row + batch.num_rows}
        close_load(connection, of, batch.num_rows, now, added, **_times(record_type, batch, PART.empty()), **looked_at)
        total += inserted.inserted
    return total


def _without_twins(
    connection: Connection, record_type: RecordType, batch: pa.RecordBatch, source: str
) -> tuple[pa.RecordBatch, int]:
    """The records without those that are stored already as they came from elsewhere (see `store.twins`), and how many those are."""
    twins = twins_of(connection, record_type, batch, source)
    if not twins.stored:
        return batch, 0
    note_twins(connection, twins.new)
    if twins.corrections:
        log.warning("source=%s corrects %d records of runs that were imported: what was imported stays", source, twins.corrections)
    return batch.filter(pa.array([row not in twins.stored for row in range(batch.num_rows)])), len(twins.stored)


def _loads_of(connection: Connection, numbers: set[int]) -> dict[int, tuple[object, ...]]:
    """Source, path and file of some loads."""
    columns = (tables.load.c.source, tables.load.c.path, tables.load.c.file_id)
    found: dict[int, tuple[object, ...]] = {}
    ordered = sorted(numbers)
    for first in range(0, len(ordered), LOADS_PER_QUERY):
        some = ordered[first : first + LOADS_PER_QUERY]
        rows = connection.execute(select(tables.load.c.id, *columns).where(tables.load.c.id.in_(some)))
        found |= {row[0]: tuple(row[1:]) for row in rows}
    return found


@dataclass(frozen=True, slots=True)
class _Inserted:
    inserted: int
    known: int = 0
    revised: int = 0


def _append_records(
    connection: Connection, dialect: Dialect, record_type: RecordType, batch: pa.RecordBatch, of: OpenLoad
) -> _Inserted:
    if not batch.num_rows:
        return _Inserted(0)
    note_seen(connection, record_type, batch)
    table = tables.RECORD_TABLES[record_type.name]
    numbered = _numbered(batch, of)
    savepoint = connection.begin_nested()
    try:
        dialect.bulk_insert(connection, table, numbered)
    except KnownRecordsError:
        savepoint.rollback()
        inserted = _append_staged(connection, dialect, record_type, table, numbered)
    else:
        savepoint.commit()
        inserted = _Inserted(batch.num_rows)
    if inserted.inserted and record_type is JOB:
        note_appended(connection, days_of(batch.column(JOB.time_column)))
    return inserted


def _numbered(batch: pa.RecordBatch, of: OpenLoad) -> pa.RecordBatch:
    """The batch as its table has it: an `id` before it, instants as Unix seconds."""
    if of.first_row + batch.num_rows > tables.ROWS_PER_LOAD:
        raise ValueError(f"a load holds {tables.ROWS_PER_LOAD} rows at most, not {batch.num_rows}: append smaller batches")
    first = (of.id << tables.ROWS_PER_LOAD_BITS) + of.first_row
    ids = pa.array(np.arange(first, first + batch.num_rows, dtype=np.int64))
    columns = [as_stored(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays([ids, *columns], ["id", *batch.schema.names])


def as_stored(column: pa.Array[Any]) -> pa.Array[Any]:
    """Instants as Unix seconds; NUL in a text, which PostgreSQL cannot hold, as `\\x00`; what is no finite number, as null.

    MariaDB cannot hold that; it is no measurement, and would spoil every sum it enters.
    """
    if column.type == INSTANT:
        return column.cast(pa.int64())
    if column.type == TEXT and pc.any(pc.match_substring(column, "\0")).as_py():
        return pc.replace_substring(column, "\0", "\\x00")
    if column.type == REAL and not pc.all(pc.is_finite(column), min_count=0).as_py():
        known: pa.Array[Any] = pc.if_else(pc.is_finite(column), column, pa.scalar(None, REAL))
        return known
    return column


def stages() -> list[Table]:
    """The temporary tables that are used here."""
    return [_stage_of(record_type, tables.RECORD_TABLES[name]) for name, record_type in ({**RECORD_TYPES, PART.name: PART}).items()]


def _stage_of(record_type: RecordType, table: Table) -> Table:
    columns = [Column(c.name, c.type, primary_key=c.name == "id", server_default=c.server_default) for c in table.columns]
    # a key, though the id alone is unique: MariaDB commits a transaction that makes an index
    key = UniqueConstraint("record_key", record_type.time_column, "id")
    return Table(f"stage_{table.name}", MetaData(), *columns, key, prefixes=["TEMPORARY"])


def _append_staged(
    connection: Connection, dialect: Dialect, record_type: RecordType, table: Table, batch: pa.RecordBatch
) -> _Inserted:
    """The slow way, for a batch that holds known keys: sorts known records and revisions out in a temporary table."""
    stage = _stage_of(record_type, table)
    stage.create(connection)
    dialect.bulk_insert(connection, stage, batch)
    span = of_rows(connection, stage, stage.c[record_type.time_column])
    known = _drop_known(connection, record_type, table, stage, span)
    revised = _number_revisions(connection, record_type, table, stage, span)
    names = [c.name for c in table.columns]
    inserted = connection.scalar(select(func.count()).select_from(stage)) or 0
    connection.execute(insert(table).from_select(names, select(*(stage.c[n] for n in names))))
    if revised:
        _supersede(connection, record_type, table, stage, span)
    stage.drop(connection)
    return _Inserted(inserted, known, revised)


def _drop_known(connection: Connection, record_type: RecordType, table: Table, stage: Table, span: Span) -> int:
    twin = stage.alias()
    time = record_type.time_column
    stored_already = exists().where(
        table.c[time] == stage.c[time],
        table.c.record_key == stage.c.record_key,
        table.c.content_hash == stage.c.content_hash,
        span.has(table.c[time]),
    )
    earlier_in_batch = exists().where(
        twin.c[time] == stage.c[time],
        twin.c.record_key == stage.c.record_key,
        twin.c.content_hash == stage.c.content_hash,
        twin.c.id < stage.c.id,
    )
    return connection.execute(delete(stage).where(stored_already | earlier_in_batch)).rowcount


def _number_revisions(connection: Connection, record_type: RecordType, table: Table, stage: Table, span: Span) -> int:
    """Gives each staged row the revision that follows the stored ones of its key; returns how many are not the first."""
    twin = stage.alias()
    time = record_type.time_column
    same_key = and_(table.c[time] == stage.c[time], table.c.record_key == stage.c.record_key, span.has(table.c[time]))
    stored = select(func.count()).where(same_key).scalar_subquery()
    same_record = and_(twin.c[time] == stage.c[time], twin.c.record_key == stage.c.record_key)
    before = select(func.count()).where(same_record, twin.c.id < stage.c.id).scalar_subquery()
    connection.execute(update(stage).values(revision=stored + before))
    return connection.scalar(select(func.count()).where(stage.c.revision > 0)) or 0


def _supersede(connection: Connection, record_type: RecordType, table: Table, stage: Table, span: Span) -> None:
    """Points every older revision of the staged keys to the newest one."""
    time = record_type.time_column
    newest = table.alias()
    newest_id = (
        select(newest.c.id)
        .where(newest.c[time] == table.c[time], newest.c.record_key == table.c.record_key)
        .order_by(newest.c.revision.desc())
        .limit(1)
        .scalar_subquery()
    )
    earlier = table.alias()
    same = and_(earlier.c[time] == stage.c[time], earlier.c.record_key == stage.c.record_key, span.has(earlier.c[time]))
    revised = select(earlier.c.id).select_from(stage.join(earlier, same)).where(stage.c.revision > 0)
    old = and_(table.c.id.in_(revised), table.c.id != newest_id, span.has(table.c[time]))
    connection.execute(update(table).where(old).values(superseded_by=newest_id))


def _of_block(origin: Origin, parsed: Parsed, position: Position | None) -> dict[str, object]:
    """What a block's rows are of, as `open_load` asks for it."""
    return {
        "source": origin.source,
        "record_type": origin.record_type,
        "file_id": position.id if position else None,
        "path": origin.path,
        "start_offset": parsed.start_offset,
        "end_offset": parsed.end_offset,
    }


def _close(
    connection: Connection, of: OpenLoad, rows: int, now: int, *, parsed: Parsed, counts: Counts, record_type: RecordType
) -> None:
    values = {"end_offset": parsed.end_offset, "skip_reasons": parsed.skipped} | ({"completed_at": None} if rows else {})
    values |= _times(record_type, parsed.records, parsed.parts)
    added = {name: count for name, count in asdict(counts).items() if name != "load_id"}
    close_load(connection, of, rows, now, added, **values)


def _times(record_type: RecordType, records: pa.RecordBatch, parts: pa.RecordBatch) -> dict[str, int | None]:
    """The times of a load's rows as `loads.TIMES`; null where there is none."""
    of_records = _first_and_last(records.column(record_type.time_column))
    of_parts = _first_and_last(parts.column(PART.time_column))
    of_ends = _first_and_last(records.column("end_at")) if record_type is JOB else (None, None)
    first, last = ([time for time in times if time is not None] for times in zip(of_records, of_parts, strict=True))
    return {
        "last_record_at": of_records[1],
        "first_row_at": min(first, default=None),
        "last_row_at": max(last, default=None),
        "first_end_at": of_ends[0],
        "last_end_at": of_ends[1],
    }


def _first_and_last(times: pa.Array[Any]) -> tuple[int | None, int | None]:
    seconds = times.cast(pa.int64())
    return pc.min(seconds).as_py(), pc.max(seconds).as_py()


def _new_rejects(connection: Connection, origin: Origin, rejects: Sequence[RejectedUnit]) -> list[RejectedUnit]:
    """Those that are not kept yet: what is asked for overlaps, and its offsets are none of a file."""
    if not rejects:
        return []
    lengths = [one.length for one in rejects]
    kept = select(reject.c.unit, reject.c.reason)
    kept = kept.where(reject.c.source == origin.source, reject.c.length.between(min(lengths), max(lengths)))
    wanted = {(one.unit, one.reason) for one in rejects}
    known = {told for row in connection.execute(kept) if (told := (bytes(row.unit), row.reason)) in wanted}
    return [one for one in rejects if (one.unit, one.reason) not in known]


def _append_rejects(connection: Connection, origin: Origin, rejects: Sequence[RejectedUnit], load_id: int) -> None:
    if rejects:
        rows = [
            {
                "load_id": load_id,
                "source": origin.source,
                "path": origin.path,
                "source_offset": r.offset,
                "length": r.length,
                "unit": r.unit,
                "reason": r.reason,
                "parser": origin.parser,
            }
            for r in rejects
        ]
        connection.execute(insert(tables.reject), rows)


def _store_position(connection: Connection, old: Position | None, new: Position, now: int) -> Position:
    """Writes the position; only if nobody has moved it since `old` was read."""
    table = tables.followed_file
    values = {**asdict(new), "updated_at": now}
    number = values.pop("id")
    if number is None:
        key = connection.execute(insert(table).values(values)).inserted_primary_key
        assert key is not None
        return Position(**{**asdict(new), "id": int(key[0])})
    expected = old.offset if old else literal(None)
    moved = connection.execute(update(table).where(table.c.id == number, table.c.offset == expected).values(values))
    if moved.rowcount != 1:
        raise CheckpointError(
            f"source {new.source}: another collector has moved the position of {new.path} meanwhile; this one stops, and "
            "nothing was stored twice. Run one collector a source"
        )
    return new
