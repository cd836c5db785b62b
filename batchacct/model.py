"""The records: one Arrow schema a record type, from which parsers, tables, formats and the reference page derive.

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

JOB_STATES = (
    "completed",
    "failed",
    "cancelled",
    "timeout",
    "out_of_memory",
    "node_fail",
    "preempted",
    "requeued",
    "never_started",
    "unknown",
)
TIME_KINDS = ("submit", "accept", "end")

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


_ORIGIN = (
    Column("native", BYTES, "the raw unit as the source wrote it, byte for byte"),
    Column("source", TEXT, "name of the configured source; its load names the file", required=True),
    Column("source_offset", INTEGER, "where the unit begins in the uncompressed file", "bytes", required=True),
    Column("parser", TEXT, "parser and its version, `lsf/1`", required=True),
)
_KEY = (
    Column("record_key", TEXT, "everything that makes this record distinct", required=True),
    Column("content_hash", INTEGER, "hash of the raw unit: same key, other hash = a new revision", required=True),
    Column("site", TEXT, "site of the source, by configuration"),
    Column("cluster", TEXT, "cluster whose LRMS numbered the job, by configuration", required=True),
    Column("lrms", TEXT, "kind of batch system: LSF, PBS, SGE, Slurm, HTCondor", required=True),
)

JOB = RecordType(
    "job",
    "one run of one job as the batch system reported it",
    "logged_at",
    (
        *_KEY,
        Column("lrms_job_id", TEXT, "job id without array index, as the batch system prints it", required=True),
        Column("array_index", INTEGER, "index within a job array; null where the job is none"),
        Column("run_number", INTEGER, "number of this run of the job, only where the source states it"),
        Column("join_id", TEXT, "the job id as both sides of the join spell it", required=True),
        Column("user_name", TEXT, "local account"),
        Column("user_id", INTEGER, "numeric uid of the local account"),
        Column("group_name", TEXT, "local group, or the share account that stands for it"),
        Column("project", TEXT, "project or account charged"),
        Column("queue", TEXT, "queue or partition"),
        Column("submit_host", TEXT, "host the job was submitted from"),
        Column("exec_hosts", TEXT, 'execution hosts, JSON list of `slots*host`, `["8*n1","8*n2"]`'),
        Column("submit_at", INSTANT, "when the job was submitted"),
        Column("eligible_at", INSTANT, "when it could first have run"),
        Column("start_at", INSTANT, "when it started; null if it never did"),
        Column("end_at", INSTANT, "when it ended"),
        Column("logged_at", INSTANT, "when the batch system wrote this record", required=True),
        Column("wall_duration_s", INTEGER, "elapsed time, the batch system's own figure, else end - start", "s", most=MOST_WALL_S),
        Column("cpu_user_s", REAL, "user CPU time of all processes on all hosts", "s"),
        Column("cpu_system_s", REAL, "system CPU time of all processes on all hosts", "s"),
        Column("cpu_duration_s", INTEGER, "user + system, rounded half to even; totals sum only this", "s", most=MOST_CPU_S),
        Column("processors", INTEGER, "slots allocated", "processors", most=MOST_COUNTED),
        Column("node_count", INTEGER, "distinct execution hosts", "hosts", most=MOST_COUNTED),
        Column("gpu_count", INTEGER, "GPUs allocated", "GPUs", most=MOST_COUNTED),
        Column("gpu_model", TEXT, "model of the GPUs as the source names it, MIG slice included; several joined by `,`"),
        Column("memory_requested_kib", INTEGER, "memory asked for, whole job", "KiB", most=MOST_KIB),
        Column("memory_real_kib", INTEGER, "peak resident memory", "KiB", most=MOST_KIB),
        Column("memory_virtual_kib", INTEGER, "peak virtual memory", "KiB", most=MOST_KIB),
        Column("exit_code", INTEGER, "exit code of the job, 0 to 255"),
        Column("exit_signal", INTEGER, "signal that ended it; null if none"),
        Column("state", TEXT, "one of " + ", ".join(JOB_STATES), required=True),
        Column("host_factor", REAL, "the batch system's own CPU factor of the host, an arbitrary site scale"),
        Column("energy_j", REAL, "energy used", "J"),
        Column("resources", TEXT, "every tracked resource, JSON object in the source's own names and units"),
        Column("job_name", TEXT, "name the user gave"),
        Column("command", TEXT, "command line or script"),
        *_ORIGIN,
    ),
)

IDENTITY = RecordType(
    "identity",
    "who asked for a job, as the computing element reported it",
    "recorded_at",
    (
        *_KEY,
        Column("time_kind", TEXT, "what `recorded_at` means: " + ", ".join(TIME_KINDS), required=True),
        Column("recorded_at", INSTANT, "time of the computing element's record", required=True),
        Column("ce_id", TEXT, "computing element, `host:port/service-lrms-queue`"),
        Column("lrms_job_id", TEXT, "batch job id as the computing element wrote it", required=True),
        Column("array_index", INTEGER, "index within a job array, where stated"),
        Column("join_id", TEXT, "the job id as both sides of the join spell it", required=True),
        Column("global_job_id", TEXT, "the computing element's own job id"),
        Column("dn", TEXT, "distinguished name of the certificate, slash form"),
        Column("fqan", TEXT, "primary FQAN"),
        Column("fqans", TEXT, "all FQANs in order, JSON list"),
        Column("vo", TEXT, "virtual organisation, from the primary FQAN"),
        Column("vo_group", TEXT, "group of the primary FQAN, `/atlas/higgs`"),
        Column("vo_role", TEXT, "role of the primary FQAN with its key, `Role=pilot`"),
        Column("token_issuer", TEXT, "issuer of the token"),
        Column("token_subject", TEXT, "subject of the token"),
        Column("local_user", TEXT, "local account the identity was mapped to, a name or a uid"),
        *_ORIGIN,
    ),
)

PART = RecordType(
    "part",
    "a piece of a record that needs others: a step, a task, a line waiting for its counterpart",
    "logged_at",
    (
        *_KEY,
        Column("record_type", TEXT, "type of the record it will complete: job or identity", required=True),
        Column("family", TEXT, "the rule that completes records from it: pbs, sge, slurm, gram, ...", required=True),
        Column("part_key", TEXT, "the whole it belongs to: what all its parts have in common", required=True),
        Column("join_id", TEXT, "the job id, as records spell it, of a part that completes records which stand already"),
        Column("array_index", INTEGER, "index within a job array of such a part"),
        Column("kind", TEXT, "what it is, in the words of its parser: step, task, start, ...", required=True),
        Column("logged_at", INSTANT, "when the source wrote it", required=True),
        Column("start_at", INSTANT, "start of what it measures"),
        Column("end_at", INSTANT, "end of what it measures"),
        Column("usage", TEXT, "its columns for the record, JSON object"),
        *_ORIGIN,
    ),
)


def whole_key(join_id: str, array_index: int | None) -> str:
    """The `part_key` of parts that complete records which stand already: the job id, with the index of an array element."""
    return join_id if array_index is None else f"{join_id}[{array_index}]"


RECORD_TYPES: Mapping[str, RecordType] = {t.name: t for t in (JOB, IDENTITY, PART)}
