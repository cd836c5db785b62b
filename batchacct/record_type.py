"""What a record type is: an ordered tuple of columns, and the Arrow schema made of them; and the columns that all types have.

Instants are `timestamp[s, UTC]`, floored to the second; durations are seconds, memory is KiB. What is not known is null, never
0, -1, an empty text or the epoch. Text is valid UTF-8 (see `text_of`); the bytes as the source wrote them stay in `native`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import xxhash

from batchacct.errors import RecordError

Record = dict[str, object]
"""One record as a parser's careful lane builds it: column name to value; a column left out is null.

An instant is an `int` (Unix seconds) or an aware `datetime`; a list of texts may be given as a list, and is stored as JSON.
"""

INSTANT = pa.timestamp("s", tz="UTC")
TEXT = pa.string()
BYTES = pa.binary()
INTEGER = pa.int64()
REAL = pa.float64()

LAST_INSTANT = 4_102_444_799
"""2099-12-31T23:59:59Z: a later time in an accounting log is damage, not a job (a 32-bit time ends in February 2106)."""


MOST_COUNTED = 100_000_000
"""Processors, hosts or GPUs of one job: some ten times those of the largest machines there are."""
MOST_WALL_S = 36_525 * 86_400
"""A century."""
MOST_CPU_S = 10**13
"""Some 300,000 years: a processor each for ten million, for eleven days."""
MOST_KIB = 2**53
"""As many bytes as 63 bits count."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type, its unit where it has one, and what it means.

    `most`: more than this, or less than 0, is damage and no measurement; it would spoil every sum it enters. Of instants it is
    `LAST_INSTANT`, and what is before 1970 is none.
    """

    name: str
    type: pa.DataType
    doc: str
    unit: str | None = None
    required: bool = False
    most: int | None = None

    @property
    def greatest(self) -> int | None:
        """The greatest value there can be; None: any is possible."""
        return LAST_INSTANT if self.type == INSTANT else self.most


@dataclass(frozen=True)
class RecordType:
    """A kind of record: an ordered tuple of columns, and the Arrow schema made of them.

    `time_column` is the instant that is never null and part of the key in a database: its tables are partitioned by it.
    """

    name: str
    doc: str
    time_column: str
    columns: tuple[Column, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema; the unit of a column is in its field metadata."""
        return pa.schema(
            [pa.field(c.name, c.type, nullable=not c.required, metadata={"unit": c.unit} if c.unit else None) for c in self.columns]
        )

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(c.name for c in self.columns)

    @cached_property
    def _empty(self) -> pa.RecordBatch:
        arrays = [pa.array([], type=column.type) for column in self.columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def empty(self) -> pa.RecordBatch:
        return self._empty

    def batch(self, records: Sequence[Mapping[str, object]]) -> pa.RecordBatch:
        """The records as one Arrow batch of this type, columns in the schema's order.

        Raises: RecordError for a column the type does not have, a value of the wrong kind, or a required one missing.
        """
        if not records:
            return self.empty()
        for record in records:
            if not record.keys() <= self.names:
                unknown = ", ".join(sorted(record.keys() - self.names))
                raise RecordError(f"a {self.name} record has no column {unknown}: see `batchacct config columns`")
        arrays = [_column_array(self, c, [r.get(c.name) for r in records]) for c in self.columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _column_array(record_type: RecordType, column: Column, values: list[object]) -> pa.Array[Any]:
    if column.required and None in values:
        raise RecordError(f"a {record_type.name} record needs a value for {column.name} ({column.doc})")
    if column.type == TEXT:
        values = [json.dumps(v, ensure_ascii=False) if isinstance(v, (list, tuple)) else v for v in values]
    elif column.type == INSTANT:
        values = [_unix_seconds(v) if isinstance(v, dt.datetime) else v for v in values]
    try:
        return pa.array(values, type=column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
        raise RecordError(f"column {column.name} of a {record_type.name} record takes {column.type}: {error}") from error


def _unix_seconds(instant: dt.datetime) -> int:
    if instant.tzinfo is None:
        raise RecordError(f"{instant.isoformat()} has no time zone: give an aware datetime or Unix seconds")
    return int(instant.timestamp() // 1)


def text_of(raw: bytes) -> str:
    """`raw` as valid UTF-8 text without NUL: a byte that is neither becomes the four characters `\\xNN`."""
    return raw.decode("utf-8", errors="backslashreplace").replace("\0", "\\x00")


def content_hash(unit: bytes) -> int:
    """64-bit hash of a raw unit, signed: two revisions of one record (same `record_key`) differ in it."""
    digest: int = xxhash.xxh3_64_intdigest(unit)
    return digest - (1 << 64) if digest >= 1 << 63 else digest


def join_lists(hosts: Iterable[tuple[int, str]]) -> str:
    """Execution hosts, as (slots, host) in order of first use, as the JSON text `["8*host1","8*host2"]`."""
    return json.dumps([f"{slots}*{host}" for slots, host in hosts], ensure_ascii=False, separators=(",", ":"))


ORIGIN = (
    Column("native", BYTES, "the raw unit as the source wrote it, byte for byte"),
    Column("source", TEXT, "name of the configured source; its load names the file", required=True),
    Column("source_offset", INTEGER, "where the unit begins in the uncompressed file", "bytes", required=True),
    Column("parser", TEXT, "parser and its version, `lsf/1`", required=True),
)
KEY = (
    Column("record_key", TEXT, "everything that makes this record distinct", required=True),
    Column("content_hash", INTEGER, "hash of the raw unit: same key, other hash = a new revision", required=True),
    Column("site", TEXT, "site of the source, by configuration"),
    Column("cluster", TEXT, "cluster whose LRMS numbered the job, by configuration", required=True),
    Column("lrms", TEXT, "kind of batch system: LSF, PBS, SGE, Slurm, HTCondor", required=True),
)
