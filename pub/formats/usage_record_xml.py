"""OGF Usage Records 1.0 (GFD.98) and their predecessor, as XML that is valid by the schema and that SGAS loads.

One faulty record costs a whole request at SGAS, so lengths and numbers are held to what its database takes. An element that the
schema does not have would cost the record at a receiver that validates: what has no element stands in a `Resource`.

GlobalJobId is such a Resource, too: of a record whose GlobalJobId it knows SGAS keeps the old one and reports success, so that a
correction would be lost; without one it replaces by recordId.

Sources: GFD.98 and its schema; urwg-schema.11; sgas/luts3-service (sgas/usagerecord); the record of the NGS that has the DN in
X509SubjectName in slash form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pub.formats.apel import BENCHMARK, BENCHMARK_NAME, Field, checked, instant, required_integer
from pub.formats.markup import (
    UNLIMITED,
    count,
    document,
    element,
    gpus,
    group,
    hosts,
    is_domain_name,
    key,
    machine_name,
    moment,
    moments,
    positive,
    resource,
    statuses,
    text,
)
from pub.formats.text import Sheet, blanked, holds, joined, valid

if TYPE_CHECKING:
    from pub.formats.contract import Rendered
    from pub.formats.text import Part, Values

_HOST_OF_CE = r"(?s)^(?:[A-Za-z][A-Za-z0-9+.-]*://)?([^:/]*).*$"


def job_id(sheet: Sheet, field: Field, values: Values) -> Values:
    """SGAS drops a LocalJobId that is long or begins with `/`, and makes another recordId."""
    sheet.refuse(holds(pc.starts_with(values, "/")), f"{field.label} begins with `/`")
    return key(sheet, field, values)


def submit_host(sheet: Sheet, field: Field, values: Values) -> Values:
    """The host in a CE id or its URL, or the submit host itself."""
    encoded = values.dictionary_encode()
    names = pc.replace_substring_regex(encoded.dictionary, _HOST_OF_CE, r"\1")
    texts = blanked(names, ~is_domain_name(names, field.limit)).take(encoded.indices)
    sheet.note_left_out(valid(values) & ~valid(texts), f"{field.label}: no domain name of at most {field.limit} characters")
    return texts


RESOURCES = {
    "Site": "site",
    "Infrastructure": "infrastructure_type",
    "InfrastructureDescription": "infrastructure_description",
    "CE": "ce_id",
    "GlobalJobId": "global_job_id",
    "FQAN": "fqan",
    "VOGroup": "vo_group",
    "VORole": "vo_role",
    "GPUModel": "gpu_model",
}
"""What the schema has no element for: the description of its Resource, and its column; `ce_id` is a grid job's submit host."""

FIELDS = (
    Field("MachineName", "machine_name", machine_name, 200),
    Field("LocalJobId", "local_job_id", job_id, 120),
    Field("LocalUserId", "local_user_id", text, 100),
    Field("GlobalUserName", "global_user_name", text, 1000),
    Field("JobName", "job_name", text, 1000),
    Field("MemoryReal", "memory_real_kib", positive),
    Field("MemoryVirtual", "memory_virtual_kib", positive),
    Field("TimeInstant", "submit_at", moment),
    BENCHMARK_NAME,
    BENCHMARK,
    Field("WallDuration", "wall_duration_s", required_integer),
    Field("CpuDuration", "cpu_duration_s", required_integer),
    Field("NodeCount", "node_count", count),
    Field("Processors", "processors", count),
    Field("EndTime", "end_at", instant),
    Field("StartTime", "start_at", instant),
    Field("SubmitHost", "submit_host", submit_host, 200),
    Field("Queue", "queue", text, 200),
    Field("ProjectName", "vo", text, 200),
    Field("Host", "exec_hosts", hosts, 2700),
    Field("GPU", "gpu_count", gpus),
    *(Field(f"Resource {name}", column, text, UNLIMITED) for name, column in RESOURCES.items()),
)
"""Column, rule and limit of all that is written; the limits are those of SGAS's tables."""

_WANTS = frozenset({"global_job_id", "job_name", "state", "submit_at", "exec_hosts", "gpu_count", "gpu_model"})


@dataclass(frozen=True, slots=True)
class UsageRecordFormat:
    """Usage Records in one namespace; `dn_in_key_info` where it has no GlobalUserName."""

    name: str
    doc: str
    namespace: str
    dn_in_key_info: bool = False
    wants: frozenset[str] = _WANTS

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """`USAGE_RECORD` rows to elements, each checked against schema and receiver; `now` is Unix time, and the createTime."""
        sheet = Sheet(records.num_rows)
        lines = checked(sheet, FIELDS, _with_ce_id(records), now)
        return sheet.finished(self._parts(lines, records, now))

    def _parts(self, lines: dict[str, Values], records: pa.RecordBatch, now: int) -> list[Part | str]:
        rows = records.num_rows
        created = moments(pa.array([now]))[0].as_py()
        peak = 'urf:metric="max" urf:storageUnit="KB"'
        record_ids = joined(lines["MachineName"], ":", lines["LocalJobId"], ":", lines["EndTime"])
        benchmarks = joined('<urf:ServiceLevel urf:type="', lines[BENCHMARK_NAME.label], '">', lines[BENCHMARK.label])
        return [
            "<urf:JobUsageRecord>\n",
            (f'<urf:RecordIdentity urf:createTime="{created}" urf:recordId="', record_ids, '"/>\n'),
            ("<urf:JobIdentity><urf:LocalJobId>", lines["LocalJobId"], "</urf:LocalJobId></urf:JobIdentity>\n"),
            group("UserIdentity", (element("LocalUserId", lines["LocalUserId"]), self._dn(lines["GlobalUserName"])), rows),
            element("JobName", lines["JobName"]),
            element("Status", statuses(records.column("state"))),
            element("Memory", lines["MemoryReal"], f'urf:type="physical" {peak}'),
            element("Memory", lines["MemoryVirtual"], f'urf:type="virtual" {peak}'),
            element("TimeInstant", lines["TimeInstant"], 'urf:type="submit"'),
            ("", benchmarks, "</urf:ServiceLevel>\n"),
            ("<urf:WallDuration>PT", lines["WallDuration"], "S</urf:WallDuration>\n"),
            ("<urf:CpuDuration>PT", lines["CpuDuration"], "S</urf:CpuDuration>\n"),
            element("NodeCount", lines["NodeCount"]),
            element("Processors", lines["Processors"]),
            element("EndTime", moments(records.column("end_at"))),
            element("StartTime", moments(records.column("start_at"))),
            element("MachineName", lines["MachineName"]),
            element("SubmitHost", lines["SubmitHost"]),
            element("Queue", lines["Queue"]),
            element("ProjectName", lines["ProjectName"]),
            ("", lines["Host"], ""),
            element("ConsumableResource", lines["GPU"], 'urf:description="GPU" urf:units="GPUs"'),
            *(resource(name, lines[f"Resource {name}"]) for name in RESOURCES),
            "</urf:JobUsageRecord>\n",
        ]

    def _dn(self, names: Values) -> Part:
        if not self.dn_in_key_info:
            return element("GlobalUserName", names)
        inner = "ds:KeyInfo", "ds:X509Data", "ds:X509SubjectName"
        return "".join(f"<{n}>" for n in inner), names, "".join(f"</{n}>" for n in reversed(inner)) + "\n"

    def message(self, records: Values) -> bytes:
        """One message of these record texts (at least one, none of them null)."""
        signatures = ' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"' if self.dn_in_key_info else ""
        return document(f'xmlns:urf="{self.namespace}"{signatures}', records)


def _with_ce_id(records: pa.RecordBatch) -> pa.RecordBatch:
    """The records with the submit host of grid jobs once more, as the CE's id, which it is."""
    local = ~holds(pc.equal(records.column("infrastructure_type"), pa.scalar("grid")))
    return records.append_column("ce_id", blanked(records.column("submit_host"), local))


UR_10 = UsageRecordFormat(
    "ur-1.0",
    """
    OGF Usage Record 1.0 (GFD.98), XML: `UsageRecords` of `JobUsageRecord`, valid by the schema, in what SGAS keeps

    | element | from |
    |---|---|
    | `RecordIdentity` | `recordId`: `<MachineName>:<LocalJobId>:<EndTime in Unix seconds>`; `createTime` |
    | `JobIdentity` | `LocalJobId` |
    | `UserIdentity` | `LocalUserId`, `GlobalUserName` (`[publish] personal`) |
    | `JobName` | where names of people go out |
    | `Status` | `completed`; `failed` (also by its host); `aborted`: ended by people, limits, the batch system |
    | `Memory` | `physical` and `virtual`, `max`, KB of 1024 bytes |
    | `TimeInstant` | `submit` |
    | `ServiceLevel` | benchmark of one core; its name is the type |
    | `WallDuration`, `CpuDuration` | whole seconds, `PT3600S`; CPU time is the total, without `usageType` |
    | `NodeCount`, `Processors`, `EndTime`, `StartTime`, `Queue` | |
    | `MachineName` | `machine_name` of the cluster: required, and a domain name |
    | `SubmitHost` | the host in the CE id; of a local job its submit host |
    | `ProjectName` | VO |
    | `Host` | execution hosts, the first one `primary` |
    | `ConsumableResource` | `GPU` |
    | `Resource` | `Site`, `Infrastructure`, `InfrastructureDescription`, `CE`, `GlobalJobId`, |
    | ... | `FQAN`, `VOGroup`, `VORole`, `GPUModel` |

    A name that is no domain name by the schema (labels of at least two letters, digits, `-`) leaves `SubmitHost` or `Host` out, a
    number of 0 leaves `Memory`, `NodeCount` and `Processors` out, a text longer than SGAS keeps its element; each is counted. Of
    `MachineName` and `LocalJobId` such a value refuses the record. The text is ASCII, with references for other characters; a
    control character, which XML cannot hold, is written as `\\xNN`.

    A receiver knows a record by its `recordId`: once records have gone out, `machine_name` has to stay as it is. SGAS takes 50
    records and 2 MB a request: `bunch = 50`.
    """,
    "http://schema.ogf.org/urf/2003/09/urf",
)
URWG_11 = UsageRecordFormat(
    "urwg-11",
    """
    Usage records of the GGF's Usage Record working group (urwg-schema.11), XML: what `ur-1.0` came from, and what RUS services take

    As `ur-1.0`, in the namespace `http://www.gridforum.org/2003/ur-wg`, and with the `GlobalUserName`, for which it has no element,
    as `X509SubjectName` of `KeyInfo`, in slash form.
    """,
    "http://www.gridforum.org/2003/ur-wg",
    dn_in_key_info=True,
)
