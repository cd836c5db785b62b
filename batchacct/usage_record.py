"""A job as it is published, and what writes it: the usage record, and the contract of a message format.

Formats are registered under `batchacct.formats`; whoever has usage records loads one by its name. A format checks records against
what the receiver takes, and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from batchacct.model import INTEGER, REAL, TEXT, Column, RecordType

ON_REQUEST = (
    Column("global_job_id", TEXT, "the computing element's own job id"),
    Column("job_name", TEXT, "name the user gave, null where names are withheld"),
    Column("state", TEXT, "how it ended, a state of a job record"),
    Column("exit_code", INTEGER, "exit code of the job, 0 to 255"),
    Column("submit_at", INTEGER, "submission, Unix time", "s"),
    Column("cpu_user_s", REAL, "user CPU time of all processes", "s"),
    Column("cpu_system_s", REAL, "system CPU time of all processes", "s"),
    Column("exec_hosts", TEXT, "execution hosts, JSON list of `slots*host`"),
    Column("gpu_count", INTEGER, "GPUs allocated", "GPUs"),
    Column("gpu_model", TEXT, "model of the GPUs"),
    Column("service_levels", TEXT, "all benchmarks of one core, where there are several: JSON object, by their names"),
)
"""The last columns of a usage record: read from the store only for a format that `wants` them, else null."""

USAGE_RECORD = RecordType(
    "usage_record",
    "one job as it is published: the wide record, which exists only on its way into a message; "
    f"the columns from `{ON_REQUEST[0].name}` on are filled only for formats that write them",
    "end_at",
    (
        Column("job_id", INTEGER, "the store's number of the job record", required=True),
        Column("site", TEXT, "site name as the receiver knows it"),
        Column("submit_host", TEXT, "grid: the CE id; local: the cluster's submit host"),
        Column("machine_name", TEXT, "LRMS server host"),
        Column("queue", TEXT, "queue"),
        Column("local_job_id", TEXT, "job id by the LocalJobId template"),
        Column("array_index", INTEGER, "index within a job array; null where the job is none"),
        Column("local_user_id", TEXT, "local account, null where it is withheld"),
        Column("global_user_name", TEXT, "DN, or issuer/subject of a token; null where it is withheld"),
        Column("fqan", TEXT, "all FQANs joined by `;`, primary first"),
        Column("vo", TEXT, "VO"),
        Column("vo_group", TEXT, "group of the primary FQAN"),
        Column("vo_role", TEXT, "role of the primary FQAN with its key"),
        Column("wall_duration_s", INTEGER, "elapsed time", "s"),
        Column("cpu_duration_s", INTEGER, "CPU time of all processors", "s"),
        Column("processors", INTEGER, "slots allocated", "processors"),
        Column("node_count", INTEGER, "execution hosts", "hosts"),
        Column("start_at", INTEGER, "start, Unix time", "s"),
        Column("end_at", INTEGER, "end, Unix time", "s"),
        Column("infrastructure_description", TEXT, "`BATCHACCT-CREAM-LSF`"),
        Column("infrastructure_type", TEXT, "grid or local"),
        Column("memory_real_kib", INTEGER, "peak resident memory", "KiB"),
        Column("memory_virtual_kib", INTEGER, "peak virtual memory", "KiB"),
        Column("service_level_type", TEXT, "Si2k, HEPSPEC or HEPscore23"),
        Column("service_level", REAL, "benchmark of one core"),
        *ON_REQUEST,
    ),
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Usage records as a format writes them.

    records: one value a row of the input, null where it is refused: a text, or what else the format makes its messages of (a
    binary one makes structs); reasons: one text a row, null where it is not refused;
    left_out: optional values that the receiver could not hold and that were therefore left out, by `field: reason`.
    """

    records: pa.Array[Any]
    reasons: pa.StringArray
    left_out: Mapping[str, int] = field(default_factory=dict)


class Format(Protocol):
    """Anything registered under `batchacct.formats`."""

    @property
    def name(self) -> str: ...
    @property
    def doc(self) -> str: ...

    @property
    def wants(self) -> frozenset[str]:
        """Names of the columns of `ON_REQUEST` that the format writes."""
        return frozenset()

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """`USAGE_RECORD` rows, each checked against the receiver's rules; `now` is Unix time, for times ahead of it."""

    def message(self, records: pa.Array[Any]) -> bytes:
        """One message of these rendered records (at least one, none of them null)."""
