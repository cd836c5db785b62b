"""The records: one Arrow schema a record type, from which parsers, tables, formats and the reference page derive.

Instants are `timestamp[s, UTC]`, floored to the second; durations are seconds, memory is KiB. What is not known is null, never
0, -1, an empty text or the epoch. Text is valid UTF-8 (see `text_of`); the bytes as the source wrote them stay in `native`.
"""

from __future__ import annotations

from collections.abc import Mapping

from batchacct.model_processes import OBJECT, PROCESS, PROCESS_GROUP
from batchacct.record_type import (
    BYTES,
    INSTANT,
    INTEGER,
    KEY,
    LAST_INSTANT,
    MOST_COUNTED,
    MOST_CPU_S,
    MOST_KIB,
    MOST_WALL_S,
    ORIGIN,
    REAL,
    TEXT,
    Column,
    Record,
    RecordType,
    content_hash,
    join_lists,
    text_of,
)

__all__ = [
    "BYTES",
    "IDENTITY",
    "INSTANT",
    "INTEGER",
    "JOB",
    "JOB_STATES",
    "LAST_INSTANT",
    "MOST_COUNTED",
    "MOST_CPU_S",
    "MOST_KIB",
    "MOST_WALL_S",
    "OBJECT",
    "PART",
    "PROCESS",
    "PROCESS_GROUP",
    "REAL",
    "RECORD_TYPES",
    "SOURCE_TYPES",
    "TEXT",
    "TIME_KINDS",
    "Column",
    "Record",
    "RecordType",
    "content_hash",
    "join_lists",
    "text_of",
    "whole_key",
]

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

JOB = RecordType(
    "job",
    "one run of one job as the batch system reported it",
    "logged_at",
    (
        *KEY,
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
        *ORIGIN,
    ),
)

IDENTITY = RecordType(
    "identity",
    "who asked for a job, as the computing element reported it",
    "recorded_at",
    (
        *KEY,
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
        *ORIGIN,
    ),
)

PART = RecordType(
    "part",
    "a piece of a record that needs others: a step, a task, a line waiting for its counterpart",
    "logged_at",
    (
        *KEY,
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
        *ORIGIN,
    ),
)


def whole_key(join_id: str, array_index: int | None) -> str:
    """The `part_key` of parts that complete records which stand already: the job id, with the index of an array element."""
    return join_id if array_index is None else f"{join_id}[{array_index}]"


RECORD_TYPES: Mapping[str, RecordType] = {t.name: t for t in (JOB, IDENTITY, PART, PROCESS, OBJECT, PROCESS_GROUP)}
SOURCE_TYPES: Mapping[str, RecordType] = {name: t for name, t in RECORD_TYPES.items() if t is not PART}
"""Those that a source can be of."""
