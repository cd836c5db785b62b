"""The tables, derived from the record types; migrations bring a database to them, and a test holds the two equal.

A record's `id` is `load * 2^20 + position in its load`: it leads to the load (which file, which bytes, when), the rows of a load
are one range of the primary key, and no sequence has to be asked for each row. A load grows (see `store.loads`): `next_row` is the
position of the next row, `loaded_at` when it last grew, and completing has looked at what is before `completed_to`. Its rows were
logged (or recorded) from `first_row_at` to `last_row_at`, and its jobs ended from `first_end_at` to `last_end_at`.

The tables of records are partitioned by month, by the time that is in their keys, on every database but SQLite (see
`store.partitions`). Who knows that time asks for it, so that other months are not looked through: `usage.logged_at` is that of the
job, `usage.identity_at` the `recorded_at` of the identity, and a load knows between which times its rows are.

A part's `used_at` says when a record was first made of its whole; it is null while the whole waits for others.

`seen_hour` has a row an hour (Unix seconds / 3600) in which a source told of something: the first and last time in it, and the
longest time from submission to the log (0 for what is no job). `seen_ids` has a row for 4096 job numbers of a cluster of which some
were submitted in a week (Unix seconds / 604,800), `block` being number / 4096: `seen` is a bit a number, the first one the highest
of its byte, `submitted` a time for each 32 of them, the latest of theirs, as unsigned 32-bit Unix seconds, little-endian; `series`
tells counters of one cluster apart (HTCondor's schedds).

`usage` is the ledger: one narrow row a job, saying which identity and which rule made it what it is. `step` is the number of the
step of the join that wrote it. What a correction replaces moves to `usage_history`, if a destination had come to it.

A `destination` has dealt with all rows up to (`done_step`, `done_job`), in that order; `missed` is how many rows in the history had
been replaced before it came to them. A row that goes out and is behind that place is in one of its messages, or in `kept_back`:
a record its format refuses, one its filter passes over, one whose earlier record stands (`store.sent`).

A `message` that is neither confirmed nor refused waits. `jobs` are the rows of the ledger in it, packed, from `first_job` to
`last_job`; `digest` is the SHA-256 of its payload. One that was refused and is outdated never leaves: `withdrawn_at`. `sealed` is
what leaves in the payload's place, a signature around it, made once and kept until the message is confirmed; `sealed_by` names the
certificates.

`vo_mapping.asked_hash` is of the rules and of what they were asked (`columns.hash_of`): so many texts are too long for a unique
key. `queue` and `asked_fqan` are null where no rule asks for them.

`benchmark.hosts` are the patterns of the hosts it is of, a JSON list in alphabetical order, null for whatever hosts; `also` is a
JSON object of other benchmarks of the same core.

`archived_month` has a row for each month (the Unix second it begins at) and record type of which records were taken out of their
table, into the file it names, with what the records come to; `revisions` are those of them that replaced another. Without a name
there is no file; the sums of what was in files that were purged stay. `recalled` are records of such files that are back in their
tables: they do not count there. `archive_leftover` names files that are not in force: one that is being written just now, one that
was replaced.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, SmallInteger, Table, Text, UniqueConstraint
from sqlalchemy.types import TypeEngine

from batchacct.model import BYTES, IDENTITY, INSTANT, INTEGER, JOB, OBJECT, PART, PROCESS, PROCESS_GROUP, REAL, TEXT, RecordType
from batchacct.model import Column as Field
from batchacct.store.columns import LONGEST_BYTES, NAME_BYTES, SHORT_TEXT, SOURCE_BYTES, WORD_BYTES, BigKey, KeyText, is_long
from batchacct.store.monthly import MonthlyKey

ROWS_PER_LOAD_BITS = 20
ROWS_PER_LOAD = 1 << ROWS_PER_LOAD_BITS

IDS_PER_BLOCK = 4096
IDS_PER_TIME = 32

metadata = MetaData()

_SQL_TYPES: dict[pa.DataType, TypeEngine[Any]] = {
    TEXT: Text(),
    INTEGER: BigInteger(),
    REAL: Float(53),
    INSTANT: BigInteger(),
    BYTES: LargeBinary(),
}


def record_columns(record_type: RecordType) -> list[Column[object]]:
    """The columns of a record type, in order; an instant is a BIGINT of Unix seconds on every database."""
    return [Column(c.name, _sql_type(record_type, c), nullable=not c.required) for c in record_type.columns]


def _sql_type(record_type: RecordType, column: Field) -> TypeEngine[Any]:
    if column.type != TEXT:
        return _SQL_TYPES[column.type]
    longest = LONGEST_BYTES.get(column.name)
    if longest is not None:
        return KeyText(longest)
    return Text() if is_long(record_type.name, column.name) else SHORT_TEXT


def _record_table(record_type: RecordType) -> Table:
    name = record_type.name
    return Table(
        name,
        metadata,
        Column("id", BigKey, autoincrement=False),
        Column("revision", SmallInteger, nullable=False, server_default="0"),
        Column("superseded_by", BigInteger),
        *record_columns(record_type),
        MonthlyKey(record_type.time_column),
        UniqueConstraint(record_type.time_column, "record_key", "revision", name=f"{name}_key"),
    )


job = _record_table(JOB)
identity = _record_table(IDENTITY)
part = _record_table(PART)
process = _record_table(PROCESS)
object_ = _record_table(OBJECT)
process_group = _record_table(PROCESS_GROUP)
Index("job_join", job.c.join_id)
Index("identity_join", identity.c.join_id, identity.c.recorded_at)
Index("part_whole", part.c.part_key)
part.append_column(Column("used_at", BigInteger))
_WAITS = part.c.used_at.is_(None) & part.c.superseded_by.is_(None)
Index("part_waiting", part.c.family, part.c.kind, postgresql_where=_WAITS, sqlite_where=_WAITS)
Index("process_join", process.c.join_id)
Index("object_of_set", object_.c.object_set)
Index("object_signature", object_.c.signature)
Index("process_group_of", process_group.c.group_id)

RECORD_TABLES: dict[str, Table] = {t.name: t for t in (job, identity, part, process, object_, process_group)}

load = Table(
    "load",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("source", KeyText(SOURCE_BYTES), nullable=False),
    Column("record_type", KeyText(WORD_BYTES), nullable=False),
    Column("file_id", BigInteger),
    Column("path", Text, nullable=False),
    Column("start_offset", BigInteger, nullable=False),
    Column("end_offset", BigInteger, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("recorded", BigInteger, nullable=False),
    Column("merged", BigInteger, nullable=False),
    Column("completed", BigInteger, nullable=False),
    Column("known", BigInteger, nullable=False),
    Column("revised", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("skip_reasons", Text),
    Column("last_record_at", BigInteger),
    Column("first_row_at", BigInteger),
    Column("last_row_at", BigInteger),
    Column("first_end_at", BigInteger),
    Column("last_end_at", BigInteger),
    Column("loaded_at", BigInteger, nullable=False),
    Column("next_row", Integer, nullable=False),
    Column("completed_to", Integer, nullable=False),
    Column("completed_at", BigInteger),
    Column("joined_at", BigInteger),
    Index("load_source", "source", "id"),
    Index("load_file", "file_id", "id"),
    Index("load_completed", "completed_at", "source", "id"),
    Index("load_joined", "joined_at", "record_type", "id"),
)

source_state = Table(
    "source_state",
    metadata,
    Column("name", KeyText(SOURCE_BYTES), primary_key=True),
    Column("record_type", KeyText(WORD_BYTES), nullable=False),
    Column("read_to_end_at", BigInteger),
    Column("last_error", Text),
    Column("last_error_at", BigInteger),
    Column("warning", Text),
    Column("lost_bytes", BigInteger, nullable=False, server_default="0"),
)

followed_file = Table(
    "followed_file",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("source", KeyText(SOURCE_BYTES), nullable=False),
    Column("path", Text, nullable=False),
    Column("device", BigInteger, nullable=False),
    Column("inode", BigInteger, nullable=False),
    Column("head_length", Integer, nullable=False),
    Column("head_hash", KeyText(WORD_BYTES), nullable=False),
    Column("tail_length", Integer, nullable=False),
    Column("tail_hash", Text, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("modified_at", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("followed_file_head", "source", "head_hash"),
)

feed_cursor = Table(
    "feed_cursor",
    metadata,
    Column("source", KeyText(SOURCE_BYTES), primary_key=True),
    Column("cursor", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

seen_hour = Table(
    "seen_hour",
    metadata,
    Column("source", KeyText(SOURCE_BYTES), primary_key=True),
    Column("cluster", KeyText(NAME_BYTES), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("longest_s", BigInteger, nullable=False),
)

seen_ids = Table(
    "seen_ids",
    metadata,
    Column("week", BigInteger, primary_key=True, autoincrement=False),
    Column("cluster", KeyText(NAME_BYTES), primary_key=True),
    Column("series", KeyText(SOURCE_BYTES), primary_key=True),
    Column("block", BigInteger, primary_key=True, autoincrement=False),
    Column("seen", LargeBinary, nullable=False),
    Column("submitted", LargeBinary, nullable=False),
)

reject = Table(
    "reject",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("load_id", BigInteger, nullable=False),
    Column("source", KeyText(SOURCE_BYTES), nullable=False),
    Column("path", Text, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("unit", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("parser", Text, nullable=False),
    Column("replayed_by", BigInteger),
    Index("reject_source", "source", "source_offset"),
)

vo_mapping = Table(
    "vo_mapping",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("rules_hash", KeyText(WORD_BYTES), nullable=False),
    Column("user_name", KeyText(NAME_BYTES), nullable=False),
    Column("group_name", KeyText(NAME_BYTES), nullable=False),
    Column("project", KeyText(NAME_BYTES), nullable=False),
    Column("issuer", KeyText(NAME_BYTES), nullable=False),
    Column("subject", KeyText(NAME_BYTES), nullable=False),
    Column("vo", SHORT_TEXT, nullable=False),
    Column("fqan", SHORT_TEXT, nullable=False),
    Column("rule", Text, nullable=False),
    Column("asked_hash", KeyText(WORD_BYTES), nullable=False),
    Column("queue", SHORT_TEXT),
    Column("asked_fqan", SHORT_TEXT),
    UniqueConstraint("asked_hash", name="vo_mapping_key"),
)

benchmark = Table(
    "benchmark",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("cluster", SHORT_TEXT, nullable=False),
    Column("type", SHORT_TEXT, nullable=False),
    Column("value", Float(53), nullable=False),
    Column("per_host_factor", SmallInteger, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_until", BigInteger, nullable=False),
    Column("active", SmallInteger, nullable=False),
    Column("hosts", Text),
    Column("also", Text),
)


def _usage_columns() -> list[Column[object]]:
    return [
        Column("step", BigInteger, nullable=False, server_default="0"),
        Column("logged_at", BigInteger, nullable=False),
        Column("outcome", KeyText(WORD_BYTES), nullable=False),
        Column("reason", SHORT_TEXT),
        Column("identity_id", BigInteger),
        Column("identity_at", BigInteger),
        Column("mapping_id", BigInteger),
        Column("benchmark_id", BigInteger),
    ]


usage = Table(
    "usage",
    metadata,
    Column("job_id", BigKey, primary_key=True, autoincrement=False),
    *_usage_columns(),
    Index("usage_outcome", "outcome", "step", "job_id"),
)

usage_history = Table(
    "usage_history",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("job_id", BigInteger, nullable=False),
    *_usage_columns(),
    Column("replaced_at", BigInteger, nullable=False),
    Column("why", SHORT_TEXT, nullable=False),
    Index("usage_history_job", "job_id"),
)

message = Table(
    "message",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("destination", KeyText(NAME_BYTES), nullable=False),
    Column("format", Text, nullable=False),
    Column("records", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("confirmed_at", BigInteger),
    Column("receipt", Text),
    Column("last_error", Text),
    Column("refused_at", BigInteger),
    Column("sealed", LargeBinary),
    Column("sealed_by", Text),
    Column("jobs", LargeBinary),
    Column("first_job", BigInteger),
    Column("last_job", BigInteger),
    Column("digest", KeyText(WORD_BYTES)),
    Column("withdrawn_at", BigInteger),
    Index("message_confirmed", "confirmed_at", "id"),
)

destination = Table(
    "destination",
    metadata,
    Column("name", KeyText(NAME_BYTES), primary_key=True),
    Column("done_step", BigInteger, nullable=False),
    Column("done_job", BigInteger, nullable=False),
    Column("missed", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("retired_at", BigInteger),
)

kept_back = Table(
    "kept_back",
    metadata,
    Column("destination", KeyText(NAME_BYTES), primary_key=True),
    Column("job_id", BigKey, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", KeyText(WORD_BYTES), nullable=False),
    Column("reason", SHORT_TEXT, nullable=False),
    Column("since", BigInteger, nullable=False),
)

left_out = Table(
    "left_out",
    metadata,
    Column("what", KeyText(SOURCE_BYTES), primary_key=True),
    Column("records", BigInteger, nullable=False),
)

setting = Table(
    "setting",
    metadata,
    Column("name", KeyText(SOURCE_BYTES), primary_key=True),
    Column("value", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
)

PURGED = ("purged_records", "purged_revisions", "purged_wall_s", "purged_cpu_s")

archived_month = Table(
    "archived_month",
    metadata,
    Column("record_type", KeyText(WORD_BYTES), primary_key=True),
    Column("month", BigInteger, primary_key=True, autoincrement=False),
    Column("file_name", Text),
    Column("records", BigInteger, nullable=False),
    Column("revisions", BigInteger, nullable=False),
    Column("wall_s", BigInteger, nullable=False),
    Column("cpu_s", BigInteger, nullable=False),
    Column("hash_sum", BigInteger, nullable=False),
    Column("first_at", BigInteger),
    Column("last_at", BigInteger),
    Column("file_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("archived_at", BigInteger, nullable=False),
    Column("anonymised_at", BigInteger),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in PURGED),
)

recalled = Table(
    "recalled",
    metadata,
    Column("record_type", KeyText(WORD_BYTES), primary_key=True),
    Column("id", BigKey, primary_key=True, autoincrement=False),
    Column("month", BigInteger, nullable=False),
    Column("revision", SmallInteger, nullable=False),
    Index("recalled_month", "record_type", "month"),
)

archive_leftover = Table(
    "archive_leftover",
    metadata,
    Column("record_type", KeyText(WORD_BYTES), primary_key=True),
    Column("month", BigInteger, primary_key=True, autoincrement=False),
    Column("file_name", KeyText(SOURCE_BYTES), primary_key=True),
)
