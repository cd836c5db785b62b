"""Records made of parts: the rule of each family over its wholes, a bucket of wholes at a time.

All parts of a whole, and the records its rule may amend, are in one bucket: those of this run, and those that were in the folder
before. What a rule makes is staged like what was parsed, and comes after all of it: so it is in force.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.backfill.keys import Hashes, Ints, in_bucket, key_hashes, whole_hash, whole_hashes
from batchacct.backfill.merging import From, parquet_batches, resolve
from batchacct.backfill.pieces import parser_named
from batchacct.backfill.staging import HIGH, LOW, PATH, WHOLE, Batch, StagedWriter, Written, file_of, made_view
from batchacct.completing import is_as, with_hash, with_origin
from batchacct.crashpoints import crash_point
from batchacct.errors import RecordError
from batchacct.model import PART, Record, RecordType, whole_key
from batchacct.parsing import Completion, Row, Whole
from batchacct.parsing.contract import UNFORESEEN

ROWS_AT_ONCE = 4000
"""Of so many rows at a time there are Python objects."""


@dataclass(frozen=True, slots=True)
class WholesTask:
    """A bucket of wholes of a family: its new parts, the new records its rule may amend, and the files where older ones may be."""

    parsers: tuple[str, ...]
    bucket: int
    bits: int
    parts: tuple[From, ...]
    records: tuple[From, ...]
    parts_there: tuple[str, ...]
    records_there: tuple[str, ...]
    folder: str
    key: str


@dataclass(slots=True)
class WholesResult:
    """What came of it. `waiting` parts have no record yet."""

    key: str
    view: str
    batches: list[Batch] = field(default_factory=list)
    made: int = 0
    waiting: int = 0
    problems: list[str] = field(default_factory=list)


def complete_bucket(task: WholesTask) -> WholesResult:
    """Completes the wholes of a bucket that something new belongs to.  Raises: OSError if the output cannot be written."""
    rule = parser_named(task.parsers[0]).completion
    assert rule is not None
    view = made_view(rule.family, rule.record_type)
    result = WholesResult(task.key, view)
    parts = _rows(task, PART, task.parts_there, task.parts, rule.family)
    records = _rows(task, rule.record_type, task.records_there, task.records, None)
    with StagedWriter(file_of(task.folder, task.key, f"{view}.arrow"), view) as writer:
        for wholes in _together(parts, records, np.union1d(parts.new, records.new)):
            made = [one for whole in wholes for one in _made(rule, whole, result)]
            if made:
                batch = rule.record_type.batch([record for record, _ in made])
                paths = pa.array([path for _, path in made], pa.string())
                writer.add(batch, paths, key_hashes(rule.record_type, batch))
                result.made += len(made)
        result.batches = writer.finish()
    crash_point("backfill.completed")
    with Written(file_of(task.folder, task.key, "json")) as book:
        book.stream.write(json.dumps(asdict(result)).encode())
    return result


def stored_wholes(folder: str, key: str) -> WholesResult | None:
    """What came of a bucket that is dealt with already."""
    try:
        values = json.loads(file_of(folder, key, "json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return WholesResult(**{**values, "batches": [Batch(**batch) for batch in values["batches"]]})


def _made(rule: Completion, whole: Whole, result: WholesResult) -> Iterator[tuple[Record, object]]:
    """The records that a whole makes, without those that stand just so, each with its path."""
    try:
        completed = rule.complete(whole)
    except UNFORESEEN as error:
        where = "; ".join(f"{p['path']}, byte {p['source_offset']}" for p in whole.parts[:3])
        told = f"rule {rule.family} does not foresee the parts of {whole.key} ({where}): {type(error).__name__}: {error}"
        result.problems.append(f"{told}. They are kept: mend it, then backfill the same files again")
        return
    if not (completed or whole.records or rule.settled(whole)):
        result.waiting += len(whole.parts)
    time = rule.record_type.time_column
    standing = {(row[time], row["record_key"]): row for row in whole.records}
    for one in completed:
        record = with_origin(one)
        old = standing.get((record[time], record["record_key"]))
        if old is not None and is_as(rule.record_type, record, old):
            continue
        made = with_hash(rule.record_type, record, _replaced(rule, whole, old))
        try:
            rule.record_type.batch([made])
        except RecordError as error:
            result.problems.append(f"record {record['record_key']} made of parts does not fit: {error.message}. Its parts are kept")
        else:
            yield made, one.origin["path"]


def _replaced(rule: Completion, whole: Whole, old: Row | None) -> object:
    """What is hashed beside the values, so that a record may return to what it was before: what it replaces, where that is known,
    else all that it is made of.
    """
    return (old and old["content_hash"]) if rule.amends else sorted(cast("int", part["content_hash"]) for part in whole.parts)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows in force, in the order of their wholes' hashes; and the hashes of the wholes that have new ones."""

    table: pa.Table
    wholes: Hashes
    new: Hashes

    def slice(self, first: np.uint64, last: np.uint64) -> list[dict[str, Any]]:
        """The rows of the wholes from the first to the last."""
        begin, end = np.searchsorted(self.wholes, first, "left"), np.searchsorted(self.wholes, last, "right")
        return self.table.slice(int(begin), int(end - begin)).to_pylist()


def _rows(task: WholesTask, record_type: RecordType, there: tuple[str, ...], new: tuple[From, ...], family: str | None) -> _Rows:
    """The rows of one type of the bucket's wholes that are in force."""
    batches: list[pa.RecordBatch] = []
    hashes: list[Hashes] = [np.empty((0, 2), np.uint64)]
    wholes: list[Hashes] = [np.empty(0, np.uint64)]
    revisions: list[Ints] = [np.empty(0, np.int64)]
    names = [*record_type.schema.names, PATH.name]
    for file in there:
        for batch in parquet_batches(file):
            own = batch.filter(_of_family(batch, family, task.parsers))
            of_whole = whole_hashes(own, record_type)
            chosen = in_bucket(of_whole, task.bucket, task.bits)
            kept = own.filter(pa.array(chosen))
            batches.append(kept.select(names))
            hashes.append(key_hashes(record_type, kept))
            wholes.append(of_whole[chosen])
            revisions.append(cast("Ints", kept.column("revision").to_numpy(zero_copy_only=False)))
    older = sum(len(some) for some in wholes)
    for source in new:
        for batch in source.rows():
            kept = batch.filter(pa.array(in_bucket(_hashes(batch, WHOLE), task.bucket, task.bits)))
            batches.append(kept.select(names))
            hashes.append(np.column_stack((_hashes(kept, HIGH), _hashes(kept, LOW))))
            wholes.append(_hashes(kept, WHOLE))
    schema = pa.schema([*record_type.schema, PATH])
    table = pa.Table.from_batches([batch.cast(schema) for batch in batches], schema)
    of_whole = np.concatenate(wholes)
    content = cast("Ints", table.column("content_hash").to_numpy())
    found = resolve(np.concatenate(hashes), content, np.concatenate(revisions))
    rows = np.flatnonzero(found.keep & ~found.is_old)
    order = rows[np.argsort(of_whole[rows], kind="stable")]
    return _Rows(_as_stored(table.take(order)), of_whole[order], np.unique(of_whole[older:]))


def _of_family(batch: pa.RecordBatch, family: str | None, parsers: tuple[str, ...]) -> pa.Array[Any]:
    if family is not None:
        return cast("pa.Array[Any]", pc.equal(batch.column("family"), pa.scalar(family)))
    names = pc.list_element(pc.split_pattern(cast("pa.StringArray", batch.column("parser")), "/"), 0)
    return cast("pa.Array[Any]", pc.is_in(names, value_set=pa.array(parsers)))


def _hashes(batch: pa.RecordBatch, name: str) -> Hashes:
    return cast("Hashes", batch.column(name).to_numpy(zero_copy_only=False))


def _as_stored(table: pa.Table) -> pa.Table:
    """Instants as Unix seconds, as rules know them from a database."""
    instants = [pa.types.is_timestamp(kind.type) for kind in table.schema]
    columns = [column.cast(pa.int64()) if is_one else column for column, is_one in zip(table.columns, instants, strict=True)]
    return pa.table(columns, names=table.schema.names)


def _together(parts: _Rows, records: _Rows, new: Hashes) -> Iterator[list[Whole]]:
    """The wholes that have parts, and something new, some at a time."""
    wanted = np.unique(parts.wholes[np.isin(parts.wholes, new)])
    counts = np.searchsorted(parts.wholes, wanted, "right") - np.searchsorted(parts.wholes, wanted, "left")
    steps = np.cumsum(counts) // ROWS_AT_ONCE
    for _, group in itertools.groupby(range(len(wanted)), key=lambda n: steps[n]):
        some = wanted[list(group)]
        is_wanted = set(some.tolist())
        amended: dict[tuple[object, object], list[Row]] = {}
        for row in records.slice(some[0], some[-1]):
            amended.setdefault((row["cluster"], whole_key(row["join_id"], row["array_index"])), []).append(row)
        rows = parts.slice(some[0], some[-1])
        rows.sort(key=lambda row: (row["cluster"], row["part_key"], row["logged_at"], row["record_key"]))
        wholes = []
        for key, of_whole in itertools.groupby(rows, key=lambda row: (row["cluster"], row["part_key"])):
            together = tuple(of_whole)
            if whole_hash(*key) in is_wanted:
                wholes.append(Whole(cast("str", key[1]), together, tuple(amended.get(key, ()))))
        yield wholes
