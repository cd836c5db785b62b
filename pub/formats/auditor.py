"""AUDITOR's records: a message is the JSON array that `POST /records` takes.

| field          | from                                                                                                    |
|----------------|---------------------------------------------------------------------------------------------------------|
| record_id      | `SITE:LocalJobId:EndTime`, which is APEL's key: the same for a job for ever                             |
| meta           | site_id, job_id, headnode (SubmitHost), machine_name, queue, infrastructure (grid or local), user_id    |
|                | (account), subject (DN or token), voms (all FQANs, the primary first), group_id (VO), global_job_id     |
| components     | `TotalCPU` in milliseconds, as AUDITOR's Slurm collector writes it; `WallDuration` in seconds; `Cores`  |
|                | with the benchmarks of one core as its scores; `NNodes`; `MemoryReal` in KiB; `GPUs`                    |
| start_time, stop_time | RFC 3339, UTC; AUDITOR's own `runtime` is their difference, which may be more than WallDuration  |

Names are at most 256 characters, not blank, and without NUL, which AUDITOR's database cannot keep: a record of which that is
not true of its id is refused alone, other values are left out and counted. One duplicate in an array makes AUDITOR refuse all of
it: what to do then is the transport's affair.

Sources: ALU-Schumacher/AUDITOR (auditor/src; names of meta and components as in the template of its APEL plug-in).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.model import LAST_INSTANT, TEXT
from pub.formats.apel import BENCHMARK, BENCHMARK_NAME, other_benchmarks
from pub.formats.json_text import instants, quoted
from pub.formats.text import Sheet, blanked, by_distinct, content_of, holds, joined, outside, valid

if TYPE_CHECKING:
    from pub.formats.contract import Rendered
    from pub.formats.text import Mask, Part, Values

LONGEST_NAME = 256
"""In characters a person sees; here those of Unicode are counted, which are no fewer."""
MOST = 10**15
"""AUDITOR counts to 2^63; this many milliseconds, times a thousand, still fit."""

_META = {
    "headnode": "submit_host",
    "machine_name": "machine_name",
    "queue": "queue",
    "infrastructure": "infrastructure_type",
    "user_id": "local_user_id",
    "subject": "global_user_name",
    "group_id": "vo",
    "global_job_id": "global_job_id",
}


class Auditor:
    """Records of AUDITOR."""

    name = "auditor"
    doc = "records of AUDITOR: a JSON array, as its `POST /records` takes it"
    wants = frozenset(("global_job_id", "gpu_count", "service_levels"))

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """`USAGE_RECORD` rows as objects of the array; of `now` nothing depends."""
        del now
        sheet = Sheet(records.num_rows)
        column = records.column
        site, local_job_id, record_id = _ids(sheet, records)
        start_at, end_at = _instant(sheet, "start_at", column("start_at")), _instant(sheet, "end_at", column("end_at"))
        sheet.refuse(outside(pc.subtract(end_at, start_at), 0, LAST_INSTANT), "start_at is after end_at")
        parts: list[Part | str] = [
            ('{"record_id":', quoted(record_id), ""),
            (',"meta":{"site_id":[', quoted(site), "]"),
            (',"job_id":[', quoted(local_job_id), "]"),
            *((f',"{key}":[', quoted(_name(sheet, column(name), name)), "]") for key, name in _META.items()),
            (',"voms":', _voms(sheet, column("fqan")), ""),
            '},"components":[',
            _component("TotalCPU", _milliseconds(sheet, column("cpu_duration_s")), comma=""),
            _component("WallDuration", sheet.integer("wall_duration_s", column("wall_duration_s"), required=True, most=MOST)),
            _component("Cores", _cores(sheet, records), more=""),
            _component("NNodes", sheet.size("node_count", column("node_count"), most=MOST)),
            _component("MemoryReal", sheet.size("memory_real_kib", column("memory_real_kib"), most=MOST)),
            _component("GPUs", sheet.optional("gpu_count", column("gpu_count"), most=MOST)),
            ('],"start_time":', instants(start_at), ""),
            (',"stop_time":', instants(end_at), ""),
        ]
        return sheet.finished([*parts, "},\n"])

    def message(self, records: Values) -> bytes:
        """The array of these records (at least one, none of them null)."""
        return b"[\n%s\n]\n" % bytes(content_of(records)[:-2])


def _ids(sheet: Sheet, records: pa.RecordBatch) -> tuple[Values, Values, Values]:
    """Site, LocalJobId, and the record id made of them and of the end."""
    site, local_job_id = records.column("site"), records.column("local_job_id")
    for name, values in (("site", site), ("local_job_id", local_job_id)):
        sheet.refuse(_blank(values), f"{name} is missing")
        sheet.refuse(_has_nul(values), f"{name} has a NUL in it, which AUDITOR's database cannot keep")
    record_id = joined(site, ":", local_job_id, ":", records.column("end_at").cast(TEXT))
    sheet.refuse(_lengths(record_id) > LONGEST_NAME, f"record_id is longer than {LONGEST_NAME} characters")
    return site, local_job_id, record_id


def _instant(sheet: Sheet, name: str, values: Values) -> Values:
    sheet.refuse(~valid(values), f"{name} is missing")
    beyond = outside(values, 1, LAST_INSTANT)
    sheet.refuse(beyond, f"{name} is not between 1970 and 2099")
    return blanked(values, beyond)


def _name(sheet: Sheet, values: Values, name: str) -> Values:
    """An optional text, null where AUDITOR could not keep it."""
    present = valid(values)
    too_long, nul = (_lengths(values) > LONGEST_NAME) & present, _has_nul(values)
    blank = present & _blank(values)
    sheet.note_left_out(blank, f"{name}: empty")
    sheet.note_left_out(too_long, f"{name}: longer than {LONGEST_NAME} characters")
    sheet.note_left_out(nul & ~too_long, f"{name}: has a NUL in it")
    return blanked(values, blank | too_long | nul)


def _voms(sheet: Sheet, fqans: Values) -> Values:
    """The FQANs as a JSON array, without those that AUDITOR could not keep; null where that leaves none."""

    def kept(text: str) -> list[str]:
        return [fqan for fqan in text.split(";") if fqan.strip() and len(fqan) <= LONGEST_NAME and "\0" not in fqan]

    arrays = by_distinct(fqans, lambda text: json.dumps(kept(text), separators=(",", ":")) if kept(text) else None)
    some_left = by_distinct(fqans, lambda text: None if len(kept(text)) == len(text.split(";")) else "some")
    sheet.note_left_out(valid(some_left), f"fqan: empty, longer than {LONGEST_NAME} characters, or with a NUL in it")
    return arrays


def _milliseconds(sheet: Sheet, seconds: Values) -> Values:
    sheet.integer("cpu_duration_s", seconds, required=True, most=MOST)
    return pc.multiply(seconds, 1000).cast(TEXT)


def _cores(sheet: Sheet, records: pa.RecordBatch) -> Values:
    """The number of cores and, as their scores, the benchmarks of one; null where the number is unknown."""
    benchmark = BENCHMARK_NAME.rule(sheet, BENCHMARK_NAME, records.column(BENCHMARK_NAME.column))
    figure = BENCHMARK.rule(sheet, BENCHMARK, records.column(BENCHMARK.column))
    cores = sheet.size("processors", records.column("processors"), most=MOST)
    others = other_benchmarks(sheet, records, lambda name, figure: f',{{"name":"{name}","value":{figure}}}')
    return joined(cores, ',"scores":[{"name":"', benchmark, '","value":', figure, "}", others, "]}")


def _component(name: str, amounts: Values, *, more: str = ',"scores":[]}', comma: str = ",") -> Part:
    return f'{comma}{{"name":"{name}","amount":', amounts, more


def _lengths(values: Values) -> npt.NDArray[np.int32]:
    """Characters of each text, 0 for null."""
    return np.asarray(pc.utf8_length(cast("pa.StringArray", values)).fill_null(0).to_numpy(zero_copy_only=False))


def _blank(values: Values) -> Mask:
    """Where there is nothing to see; null is nothing, too."""
    return _lengths(pc.utf8_trim_whitespace(values)) < 1


def _has_nul(values: Values) -> Mask:
    return holds(pc.match_substring(values, "\0"))


AUDITOR = Auditor()
