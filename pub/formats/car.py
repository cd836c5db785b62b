"""EMI computing accounting records (CAR) 1.2, as XML that is valid by the schema and that apel/apel 2.5.0 loads.

What APEL reads of a record it checks as it does the text messages', one faulty record costing the whole message: so the checks are
those of `pub.formats.apel`, and the texts are the very same, `\\xNN` included. A record has one key at APEL, whichever of the two
it comes as.

Sources: the schema of EMI CAR 1.2 (guarise/emicar); apel/apel (db/loader/car_parser.py, xml_parser.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pub.formats.apel import BENCHMARK, BENCHMARK_NAME, Field, checked
from pub.formats.apel import FIELDS as APEL_FIELDS
from pub.formats.apel import text as apel_text
from pub.formats.markup import (
    count,
    document,
    element,
    gpus,
    hosts,
    machine_name,
    moment,
    moments,
    positive,
    refuse_collapsing,
    resource,
    statuses,
    written,
)
from pub.formats.text import Sheet, blanked, decimals, holds, joined, valid

if TYPE_CHECKING:
    from pub.formats.contract import Rendered
    from pub.formats.text import Mask, Part, Values

NAMESPACE = "http://eu-emi.eu/namespaces/2012/11/computerecord"

_LONGEST_SECONDS = 2**31 - 1
_NOT_READ = 1000
"""How long a text may be that APEL does not read."""


def exit_status(sheet: Sheet, field: Field, values: Values) -> Values:
    """A number of 32 bits."""
    unfit = holds(pc.greater(values, pa.scalar(2**31 - 1))) | holds(pc.less(values, pa.scalar(-(2**31))))
    sheet.note_left_out(unfit, f"{field.label}: not of 32 bits")
    return blanked(values, unfit).cast(pa.string())


def seconds(sheet: Sheet, field: Field, values: Values) -> Values:
    """A time to three decimals."""
    figures = np.nan_to_num(values.fill_null(0.0).to_numpy(zero_copy_only=False), nan=-1.0)
    unfit = (figures < 0) | (figures > _LONGEST_SECONDS)
    sheet.note_left_out(unfit, f"{field.label}: no time")
    thousandths = np.rint(np.where(unfit, 0.0, figures) * 1000).astype(np.int64)
    return blanked(decimals(thousandths), unfit | ~valid(values))


_OTHER_RULES = {
    "MachineName": machine_name,
    "Processors": count,
    "NodeCount": count,
    "MemoryReal": positive,
    "MemoryVirtual": positive,
}

FIELDS = (
    *(Field(field.label, field.column, _OTHER_RULES.get(field.label, field.rule), field.limit) for field in APEL_FIELDS),
    Field("GlobalJobId", "global_job_id", apel_text, _NOT_READ),
    Field("JobName", "job_name", apel_text, _NOT_READ),
    Field("ExitStatus", "exit_code", exit_status),
    Field("CpuDuration user", "cpu_user_s", seconds),
    Field("CpuDuration system", "cpu_system_s", seconds),
    Field("TimeInstant", "submit_at", moment),
    Field("GPU", "gpu_count", gpus),
    Field("GPUModel", "gpu_model", apel_text, _NOT_READ),
)
"""Column, rule and limit of all that is written, but for the hosts."""

HOSTS = Field("Host", "exec_hosts", hosts, 2**31 - 1)


class ComputeAccountingRecord:
    """EMI CAR 1.2."""

    name = "car-1.2"
    doc = """
    EMI computing accounting record (CAR) 1.2, XML: `UsageRecords` of `UsageRecord`, valid by the schema, as APEL loads it

    | element, in order | from |
    |---|---|
    | `RecordIdentity` | `recordId`: `<MachineName> <LocalJobId> <EndTime in Unix seconds>`; `createTime` |
    | `JobIdentity` | `GlobalJobId`, `LocalJobId` |
    | `UserIdentity` | `GlobalUserName` (`opensslCompat`), `LocalUserId` (empty where withheld) |
    | ... `Group`, `GroupAttribute` | VO; `FQAN`, all of them joined by `;`, `vo-group`, `vo-role` |
    | `JobName` | where names of people go out |
    | `Status`, `ExitStatus` | `completed`; `failed` (also by its host); `aborted`: ended by people, limits, the batch system |
    | `Infrastructure` | `grid` or `local`, and the description |
    | `WallDuration` | whole seconds, `PT3600S` |
    | `CpuDuration` | `user` and `system` where they are known, `all` |
    | `ServiceLevel` | benchmark of one core; its name is the type |
    | `Memory` | `physical` and `shared` (which is the virtual one), `max`, KB of 1024 bytes |
    | `TimeInstant` | `Ctime`, the submission |
    | `NodeCount`, `Processors`, `EndTime`, `StartTime` | |
    | `MachineName` | `machine_name` of the cluster: required, and a domain name |
    | `SubmitHost` | the CE id of a grid job, which cannot be without; none of a local job |
    | `Queue`, `Site` | |
    | `Host` | execution hosts, the first one `primary` |
    | `ConsumableResource`, `Resource` | `GPU`, `GPUModel` |

    Everything that refuses a record of `apel-0.3`, leaves one of its values out or changes how it is written does so here, but for
    memory of 2 TiB and more, which stays; and a `MachineName` that is no domain name refuses the record. A number of 0 leaves
    `Memory`, `NodeCount` and `Processors` out, a name that is no domain name a `Host`; each is counted.

    APEL's loader reads neither memory, `Status`, `GlobalJobId`, `JobName`, hosts nor GPUs; the VO's group and role it takes from
    the FQAN alone, CPU time from `all`. Messages go into an SSM outgoing directory as text messages do; a record has some 2 kB,
    four times the text, so that AMS, which takes less than 1 MB, needs `bunch = 300`.
    """
    wants: frozenset[str] = frozenset(field.column for field in FIELDS[len(APEL_FIELDS) :]) | {HOSTS.column, "state"}

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """`USAGE_RECORD` rows to elements, each checked against schema and loader; `now` is Unix time, and the createTime."""
        sheet = Sheet(records.num_rows)
        grid = holds(pc.equal(records.column("infrastructure_type"), pa.scalar("grid")))
        lines = checked(sheet, FIELDS, _without_local_submit_host(records, grid), now)
        local = holds(pc.equal(records.column("infrastructure_type"), pa.scalar("local")))
        sheet.refuse(~(grid | local), "InfrastructureType is neither grid nor local")
        sheet.refuse(grid & ~valid(lines["SubmitHost"]), "SubmitHost is missing, which a grid job must have")
        refuse_collapsing(sheet, Field("LocalJobId", "local_job_id", apel_text), lines["LocalJobId"])
        lines = {label: written(values) for label, values in lines.items()}
        lines[HOSTS.label] = hosts(sheet, HOSTS, records.column(HOSTS.column))
        return sheet.finished(_parts(lines, records, now))

    def message(self, records: Values) -> bytes:
        """One message of these record texts (at least one, none of them null)."""
        return document(f'xmlns:urf="{NAMESPACE}"', records)


def _without_local_submit_host(records: pa.RecordBatch, grid: Mask) -> pa.RecordBatch:
    at = records.schema.get_field_index("submit_host")
    return records.set_column(at, records.schema.field(at), blanked(records.column(at), ~grid))


def _parts(lines: dict[str, Values], records: pa.RecordBatch, now: int) -> list[Part | str]:
    created = moments(pa.array([now]))[0].as_py()
    peak = 'urf:metric="max" urf:storageUnit="KB"'
    record_ids = joined(lines["MachineName"], " ", lines["LocalJobId"], " ", lines["EndTime"])
    benchmarks = joined('<urf:ServiceLevel urf:type="', lines[BENCHMARK_NAME.label], '">', lines[BENCHMARK.label])
    split = valid(lines["CpuDuration user"]) & valid(lines["CpuDuration system"])
    cpu = {kind: blanked(lines[f"CpuDuration {kind}"], ~split) for kind in ("user", "system")} | {"all": lines["CpuDuration"]}
    return [
        "<urf:UsageRecord>\n",
        (f'<urf:RecordIdentity urf:createTime="{created}" urf:recordId="', record_ids, '"/>\n'),
        "<urf:JobIdentity>\n",
        element("GlobalJobId", lines["GlobalJobId"]),
        element("LocalJobId", lines["LocalJobId"]),
        "</urf:JobIdentity>\n<urf:UserIdentity>\n",
        element("GlobalUserName", lines["GlobalUserName"], 'urf:type="opensslCompat"'),
        element("Group", lines["VO"]),
        element("GroupAttribute", lines["FQAN"], 'urf:type="FQAN"'),
        element("GroupAttribute", lines["VOGroup"], 'urf:type="vo-group"'),
        element("GroupAttribute", lines["VORole"], 'urf:type="vo-role"'),
        element("LocalUserId", lines["LocalUserId"].fill_null("")),
        "</urf:UserIdentity>\n",
        element("JobName", lines["JobName"]),
        element("Status", statuses(records.column("state"))),
        element("ExitStatus", lines["ExitStatus"]),
        ('<urf:Infrastructure urf:type="', lines["InfrastructureType"], '"'),
        (' urf:description="', lines["InfrastructureDescription"], '"'),
        "/>\n",
        ("<urf:WallDuration>PT", lines["WallDuration"], "S</urf:WallDuration>\n"),
        *((f'<urf:CpuDuration urf:usageType="{kind}">PT', times, "S</urf:CpuDuration>\n") for kind, times in cpu.items()),
        ("", benchmarks, "</urf:ServiceLevel>\n"),
        element("Memory", lines["MemoryReal"], f'urf:type="physical" {peak}'),
        element("Memory", lines["MemoryVirtual"], f'urf:type="shared" {peak}'),
        element("TimeInstant", lines["TimeInstant"], 'urf:type="Ctime"'),
        element("NodeCount", lines["NodeCount"]),
        element("Processors", lines["Processors"]),
        element("EndTime", moments(records.column("end_at"))),
        element("StartTime", moments(records.column("start_at"))),
        element("MachineName", lines["MachineName"]),
        element("SubmitHost", lines["SubmitHost"]),
        element("Queue", lines["Queue"].fill_null("")),
        element("Site", lines["Site"], 'urf:type="gocdb"'),
        ("", lines[HOSTS.label], ""),
        element("ConsumableResource", lines["GPU"], 'urf:description="GPU" urf:units="GPUs"'),
        resource("GPUModel", lines["GPUModel"]),
        "</urf:UsageRecord>\n",
    ]


CAR_12 = ComputeAccountingRecord()
