r"""Slurm's completion records in JSON, of `jobcomp/kafka` and `jobcomp/elasticsearch`: an object is one run of one job that ended.

    {"jobid":87,"container":null,"username":"jg","user_id":1000,"groupname":"jg","group_id":1000,"@start":"2023-11-20T11:53:40","@end":
    "2023-11-20T11:53:47","elapsed":7,"partition":"normal","alloc_node":"jg","nodes":"jg","total_cpus":4,"total_nodes":1,...,"state":
    "COMPLETED",...,"tres_alloc":"cpu=4,mem=1000M,energy=1260,node=1,billing=4"}      (one line, abridged; CSCS, Slurm 23.11)

| Key                              | Column                  | Fact                                                             |
|----------------------------------|-------------------------|------------------------------------------------------------------|
| jobid                            | lrms_job_id, join_id    | the raw id; array_job_id for a task, het_job_id for a component  |
| array_task_id                    | array_index             | het_job_offset is in lrms_job_id, `12+1`; het_job_id 0 is none   |
| username, user_id, groupname     | user_name, user_id,     |                                                                  |
|                                  | group_name              |                                                                  |
| account, partition, job_name,    | project, queue,         |                                                                  |
| alloc_node                       | job_name, submit_host   |                                                                  |
| state                            | state                   | the base state: PENDING is a run that was requeued; RESIZING is  |
|                                  |                         | one finished size of a job that went on (`unknown`)              |
| @start, @end                     | start_at, end_at        | UTC, without Z; @end is logged_at too; `Unknown` is none         |
| @submit, @eligible               | submit_at, eligible_at  | UTC (eligible_time before 17.02)                                 |
| nodes, total_nodes, total_cpus   | exec_hosts, node_count, | no nodes: a job that started as it ended never started;          |
|                                  | processors              | cpu and node of tres_alloc go before the totals                  |
| tres_alloc                       | gpu_*, energy_j,        | else tres_alloc_raw, by numbers: `1=4` is cpu; else gres_alloc   |
|                                  | resources               | (before 20.11); energy in J. resources has the qos too           |
| tres_req                         | memory_requested_kib    | its `mem`                                                        |
| exit_code                        | exit_code, exit_signal  | `code:signal`; a wait status before 17.11                        |

wall_duration_s is @end - @start, time suspended included. (`elapsed` is that too, but of a job that was resized it counts from the
first start, and cpu_hours is elapsed times CPUs: not used CPU.) **CPU used is not in these records** (null), nor is memory used.

An event without @end (kafka sends job starts, too, if told so, since 25.05) is skipped. elasticsearch sends again what it is not
sure of: the key (cluster, jobid, @start, @end) makes that harmless. Objects may follow each other as lines, pretty-printed, or in
an array; those that an export of an index wraps (`_source`) are unwrapped. Zone: none needed.

Source: SchedMD/slurm src/plugins/jobcomp/common/jobcomp_common.c and, before 23.02, jobcomp/elasticsearch/jobcomp_elasticsearch.c.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

from batchacct.model import JOB, Record
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from batchacct.parsing.json_framing import Frame, JsonElements, clean, element
from loccol.slurm_jobcomp_run import NOT_ENDED, Run, known, requested_kib, state_of
from loccol.slurm_values import Amount, JobId, exit_columns, gres, instant, node_list, resource_columns, tres, tres_number

_MARKS = (b'"jobid"', b'"@start"', b'"username"')
_TRES = {"1": "cpu", "2": "mem", "3": "energy", "4": "node", "5": "billing", "6": "fs/disk", "7": "vmem", "8": "pages"}
_ALLOCATED = ("tres_alloc", "tres_fmt_alloc_str")
_ALLOCATED_RAW = ("tres_alloc_raw", "tres_alloc_str")
"""The second names are those of a patched Slurm (CSCS)."""
NO_VALUE_32 = 0xFFFFFFFE
"""NO_VAL; the number after it is INFINITE."""

_Object = dict[str, object]


def recognise(head: bytes) -> bool:
    """JSON with the keys of a completion record."""
    return head.lstrip().startswith((b"{", b"[")) and all(mark in head for mark in _MARKS)


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One object to one run of a job.  Raises: Reject."""
    found = element(unit)
    if isinstance(found, Frame):
        return found.skip
    wrapped = found.get("_source")
    job = wrapped if isinstance(wrapped, dict) else found
    raw = _number(job, "jobid")
    if not raw:
        raise Reject("jobid is no job id of Slurm" if raw == 0 else "jobid is missing")
    state = state_of(_text(job, "state") or "", "state")
    end_at = _instant(job, "@end")
    if state is None or end_at is None:
        return NOT_ENDED
    allocated = _allocated(job)
    run = Run(
        _job_id(job, raw),
        raw,
        state,
        _instant(job, "@start"),
        end_at,
        node_list(_text(job, "nodes") or "", "nodes"),
        tres_number(allocated, "node") or _number(job, "total_nodes") or 0,
        tres_number(allocated, "cpu") or _number(job, "total_cpus") or 0,
    )
    record = run.columns(source)
    has_started = record["start_at"] is not None
    qos = known(_text(job, "qos") or "")
    return record | _asked(job) | resource_columns(allocated if has_started else {}, qos) | (_exit(job) if has_started else {})


def _asked(job: _Object) -> Record:
    """Who asked for what."""
    return {
        "user_name": _text(job, "username"),
        "user_id": _number(job, "user_id"),
        "group_name": _text(job, "groupname"),
        "project": _text(job, "account"),
        "queue": _text(job, "partition"),
        "job_name": _text(job, "job_name"),
        "submit_host": _text(job, "alloc_node"),
        "submit_at": _instant(job, "@submit"),
        "eligible_at": _instant(job, "@eligible") or _instant(job, "eligible_time"),
        "memory_requested_kib": requested_kib(_list(job, "tres_req"), "tres_req"),
    }


def _job_id(job: _Object, raw: int) -> JobId:
    """The id as `sbatch` printed it."""
    array_id = _number(job, "array_job_id")
    het_id = _number(job, "het_job_id") or _number(job, "pack_job_id")
    offset = _number(job, "het_job_offset" if "het_job_offset" in job else "pack_job_offset")
    return JobId(
        het_id or array_id or raw,
        array_index=_number(job, "array_task_id") if array_id else None,
        het_offset=offset if het_id else None,
    )


def _allocated(job: _Object) -> dict[str, Amount]:
    for key in _ALLOCATED:
        if text := _list(job, key):
            return tres(text, key)
    for key in _ALLOCATED_RAW:
        if text := _list(job, key):
            return {_TRES.get(number, number): amount for number, amount in tres(text, key).items()}
    return gres(_text(job, "gres_alloc") or "")


def _exit(job: _Object) -> Record:
    status = job.get("exit_code", job.get("exitcode"))
    if isinstance(status, int):
        return exit_columns(f"{status >> 8 & 255}:{status & 127}") if 0 <= status < 1 << 16 else {}
    return exit_columns(status) if isinstance(status, str) else {}


def _instant(job: _Object, key: str) -> int | None:
    text = known(_text(job, key) or "")
    return _utc(text, key) if text else None


@lru_cache(4096)
def _utc(text: str, key: str) -> int | None:
    """Tasks of an array have the same time of submission."""
    return instant(text, dt.UTC, key)


def _number(job: _Object, key: str) -> int | None:
    """A whole number of 32 bits; None if it is absent, or one of the two that stand for none.  Raises: Reject."""
    value = job.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
        raise Reject(f"{key} is no number of 32 bits")
    return value if value < NO_VALUE_32 else None


def _text(job: _Object, key: str) -> str | None:
    value = job.get(key)
    return clean(value) or None if isinstance(value, str) else None


def _list(job: _Object, key: str) -> str:
    """A list of TRES; blanks after its commas are left out."""
    return (_text(job, key) or "").replace(", ", ",")


PARSER = UnitParser(
    name="slurm-jobcomp-json",
    record_type=JOB,
    lrms="Slurm",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=JsonElements(),
    recognise=recognise,
)
