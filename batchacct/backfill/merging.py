"""A bucket of a month: each record once, with its revisions, into one Parquet file of the archive's layout.

As in the store: same key (time and record key) and same content hash is one record, however often it comes; same key and another
hash is a revision, and the one that came last is in force. Where there is no database there are no ids: `superseded_by` of a
replaced revision is the content hash of the one in force. `path` is the file the record was read from.

Of all rows of the bucket only hashes are in memory; the rows themselves go through, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from batchacct.archive.layout import ROWS_PER_GROUP, MonthWriter, archived_schema
from batchacct.backfill.keys import Hashes, Ints, in_bucket, key_hashes
from batchacct.backfill.staging import FILE, HIGH, LOW, Staged, path_field
from batchacct.crashpoints import crash_point
from batchacct.model import RECORD_TYPES, RecordType

PREFIX = "backfill-"
"""How the names of files begin that backfilling wrote, and may replace."""

_BATCH_ROWS = 8192
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class From:
    """Staged rows, and the paths of the files they are of; rows `made` of parts have their paths with them."""

    staged: Staged
    paths: tuple[str, ...] = ()
    made: bool = False

    def rows(self) -> Iterator[pa.RecordBatch]:
        """All columns, with the path of each row in the place of its file."""
        for batch in self.staged.read():
            if self.made:
                yield batch
                continue
            at = batch.schema.get_field_index(FILE)
            path = pa.array(self.paths, pa.string()).take(batch.column(at))
            columns = [*batch.columns[:at], path, *batch.columns[at + 1 :]]
            names = [*batch.schema.names[:at], path_field(batch.schema.names[:at]).name, *batch.schema.names[at + 1 :]]
            yield pa.RecordBatch.from_arrays(columns, names)


@dataclass(frozen=True, slots=True)
class MergeTask:
    """A bucket (the rows whose hashes begin with these bits) of a month (its first Unix second) of a record type.

    `there`: finished files of the month, which come first; `name` is that of the new file, in `folder`.
    """

    record_type: str
    month: int
    bucket: int
    bits: int
    there: tuple[str, ...]
    new: tuple[From, ...]
    folder: str
    name: str


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of a bucket: new rows kept (of these revisions, and those made of parts), and rows that were known."""

    record_type: str
    month: int
    name: str
    rows: int
    kept: int
    known: int
    revised: int
    made: int
    made_known: int
    wall_s: int = 0
    cpu_s: int = 0


@dataclass(frozen=True, slots=True)
class Resolved:
    """Of rows in the order they came: which stay, their revisions, and the hash of what is in force (where `is_old`)."""

    keep: Bools
    revision: Ints
    is_old: Bools
    in_force: Ints


def resolve(hashes: Hashes, content: Ints, revisions: Ints | None = None) -> Resolved:
    """Which rows (key hashes of shape (n, 2), content hashes) are records of their own.

    `revisions`: what is known of the first rows, one each, which are numbered already; they may be in any order.
    """
    count = len(content)
    place = np.arange(count)
    if revisions is not None and len(revisions):
        place[: len(revisions)] = revisions - np.iinfo(np.int32).max  # before all others, by their own numbers
    order = np.lexsort((place, content, hashes[:, 1], hashes[:, 0]))
    first = np.ones(count, np.bool_)
    sorted_keys = hashes[order]
    same_key = (sorted_keys[1:] == sorted_keys[:-1]).all(axis=1)
    first[1:] = ~(same_key & (content[order][1:] == content[order][:-1]))
    keep = np.zeros(count, np.bool_)
    keep[order[first]] = True

    kept = np.flatnonzero(keep)
    by_key = kept[np.lexsort((place[kept], hashes[kept, 1], hashes[kept, 0]))]
    begins = np.ones(len(by_key), np.bool_)
    begins[1:] = (hashes[by_key][1:] != hashes[by_key][:-1]).any(axis=1)
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, len(by_key)))
    revision = np.zeros(count, np.int64)
    revision[by_key] = np.arange(len(by_key)) - np.repeat(starts, lengths)
    last = np.repeat(by_key[starts + lengths - 1] if len(starts) else starts, lengths)
    in_force = np.zeros(count, np.int64)
    in_force[by_key] = content[last]
    is_old = np.zeros(count, np.bool_)
    is_old[by_key] = last != by_key
    return Resolved(keep, revision, is_old, in_force)


def merge_bucket(task: MergeTask) -> Merged:
    """Writes the bucket's file.  Raises: ArchiveError where that fails."""
    record_type = RECORD_TYPES[task.record_type]
    hashes, content, revisions, made = _keys_of(task, record_type)
    found = resolve(hashes, content, revisions)
    is_new = np.ones(len(content), np.bool_)
    is_new[: len(revisions)] = False
    schema = archived_schema(record_type, (path_field(record_type.names),))
    with MonthWriter(Path(task.folder), record_type, task.month, task.name, schema) as writer:
        pending: list[pa.RecordBatch] = []
        at = rows = 0
        for batch in _rows_of(task, record_type):
            here = slice(at, at + batch.num_rows)
            at += batch.num_rows
            if found.keep[here].any():
                pending.append(_finished(batch, found, here, schema))
                rows += pending[-1].num_rows
            if rows >= ROWS_PER_GROUP:
                writer.write(_joined(pending))
                pending, rows = [], 0
        if pending:
            writer.write(_joined(pending))
        crash_point("backfill.before-bucket")
        manifest = writer.finish()
    kept = found.keep & is_new
    return Merged(
        task.record_type, task.month, task.name, manifest.rows,
        kept=int((kept & ~made).sum()),
        known=int((~found.keep & is_new & ~made).sum()),
        revised=int((kept & (found.revision > 0)).sum()),
        made=int((kept & made).sum()),
        made_known=int((~found.keep & made).sum()),
        wall_s=manifest.wall_s,
        cpu_s=manifest.cpu_s,
    )  # fmt: skip


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _keys_of(task: MergeTask, record_type: RecordType) -> tuple[Hashes, Ints, Ints, Bools]:
    """Key hashes and content hashes of all rows of the bucket, revisions of those that are there, and which were made of parts."""
    hashes: list[Hashes] = [np.empty((0, 2), np.uint64)]
    content: list[Ints] = [np.empty(0, np.int64)]
    revisions: list[Ints] = [np.empty(0, np.int64)]
    made: list[Bools] = [np.empty(0, np.bool_)]
    names = ["record_key", record_type.time_column, "content_hash", "revision"]
    for file in task.there:
        for batch in parquet_batches(file, names):
            of = key_hashes(record_type, batch)
            chosen = in_bucket(of[:, 0], task.bucket, task.bits)
            hashes.append(of[chosen])
            content.append(_numbers(batch, "content_hash")[chosen])
            revisions.append(_numbers(batch, "revision")[chosen])
            made.append(np.zeros(len(content[-1]), np.bool_))
    for source in task.new:
        for batch in source.staged.read([HIGH, LOW, "content_hash"]):
            high, low = (cast("Hashes", batch.column(name).to_numpy(zero_copy_only=False)) for name in (HIGH, LOW))
            chosen = in_bucket(high, task.bucket, task.bits)
            hashes.append(np.column_stack((high[chosen], low[chosen])))
            content.append(_numbers(batch, "content_hash")[chosen])
            made.append(np.full(len(content[-1]), source.made, np.bool_))
    return np.concatenate(hashes), np.concatenate(content), np.concatenate(revisions), np.concatenate(made)


def _numbers(batch: pa.RecordBatch, name: str) -> Ints:
    return cast("Ints", batch.column(name).to_numpy(zero_copy_only=False))


def _rows_of(task: MergeTask, record_type: RecordType) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order, with all their columns and their path."""
    names = [*record_type.schema.names, path_field(record_type.names).name]
    for file in task.there:
        for batch in parquet_batches(file):
            high = key_hashes(record_type, batch)[:, 0]
            yield _chosen(batch.select(names), high, task)
    for source in task.new:
        for batch in source.rows():
            high = cast("Hashes", batch.column(HIGH).to_numpy(zero_copy_only=False))
            yield _chosen(batch.select(names), high, task)


def _chosen(batch: pa.RecordBatch, high: Hashes, task: MergeTask) -> pa.RecordBatch:
    return batch if task.bits == 0 else batch.filter(pa.array(in_bucket(high, task.bucket, task.bits)))


def _finished(batch: pa.RecordBatch, found: Resolved, here: slice, schema: pa.Schema) -> pa.RecordBatch:
    """The rows that stay, with their revisions."""
    keep = found.keep[here]
    fixed: list[pa.Array[Any]] = [
        pa.nulls(batch.num_rows, pa.int64()),
        pa.array(found.revision[here]),
        pa.array(found.in_force[here], mask=~found.is_old[here]),
    ]
    whole = pa.RecordBatch.from_arrays([*fixed, *batch.columns], schema=schema)
    return whole if keep.all() else whole.filter(pa.array(keep))


def parquet_batches(file: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file of the layout, instants as the record types have them."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns):
            yield _with_seconds(batch)


def _with_seconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Parquet knows no seconds: instants come back as milliseconds."""
    columns: list[pa.Array[Any]] = [
        column.cast(pa.timestamp("s", tz="UTC")) if pa.types.is_timestamp(column.type) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
