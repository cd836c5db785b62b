r"""Slurm accounting as `sacct --json` writes it: a document with one element of `jobs` for one run of one job.

    {"jobs": [{"account": "pi-loew", ..., "job_id": 2710593, "name": "V_ALPHA_321860411_0_0", "nodes": "mantis-041", ..., "state":
    {"current": ["COMPLETED"], ...}, "steps": [...], "time": {...}, "tres": {...}, "user": "vcell"}], "meta": {...}}     (abridged)

Documents may follow one another, pretty-printed or not, whole or cut short; elements alone, one a line (`jq -c .jobs[]`), are
read as well. The example is of virtualcell/vcell, Slurm 23.11; one of the job still running there.

| column                  | member, its unit, and what is done with it                                                           |
|-------------------------|------------------------------------------------------------------------------------------------------|
| lrms_job_id, join_id,   | array.job_id and array.task_id, het.job_id and het.job_offset, else job_id: see `slurm_values`       |
| array_index             |                                                                                                      |
| user_name, group_name   | user, group;  project, queue, job_name, command: account, partition, name, submit_line               |
| submit_at, eligible_at  | time.submission, time.eligible;  end_at, logged_at: time.end;  all Unix seconds, 0 is none           |
| start_at                | time.start; end - elapsed - suspended where that is the eligible time, see below                     |
| wall_duration_s         | time.elapsed, s: suspended time is not in it                                                         |
| cpu_*                   | time.user and time.system, else time.total; else the steps'; else their tres.requested.total cpu, ms |
| processors, node_count  | cpu and node of tres.allocated; else (nodes) allocation_nodes, or as many as `nodes` names           |
| gpu_*, energy_j,        | tres.allocated, in Slurm's units (mem: MiB); -2 and 2^64-2 are no energy. resources has the qos too  |
| resources               |                                                                                                      |
| memory_requested_kib    | mem of tres.requested, MiB, whole job                                                                |
| memory_real_kib,        | the largest mem and vmem, bytes, of the steps' tres.requested.max: a single task's, not the job's.   |
| memory_virtual_kib      | (The keys `requested` and `consumed` of a step mean its usage, in and out.)                          |
| exit_code, exit_signal  | exit_code.return_code (0 to 255), exit_code.signal.id (1 to 64)                                      |
| run_number              | restart_cnt + 1 (v0.0.42 and later)                                                                  |
| state                   | state.current, a text before 23.11, a list since; a flag in it (REQUEUED) goes before the state      |

Layouts, by `meta.plugin` (v0.0.36 to v0.0.46), are told apart by their values alone, since an element does not see the head of its
document. A number is plain or `{"set": true, "infinite": false, "number": 5}`. Three faults of Slurm are made good:

- Up to 22.05.7 (dbv0.0.36 to 38) time.start is the eligible time; the start follows from end, elapsed and suspended.
- Up to 23.02 (v0.0.39, a text as exit_code.status) return_code is 0 whatever it was: it is believed of completed jobs alone.
- slurmrestd, and sacct -X, give a job total of 0 CPU; sums of steps stand in, and where there are none, CPU is unknown.

A job without end, or in a state that is no end, is skipped; so are the head and the tail of a document. A job that never ran
(no start, or ended as it started and had no nodes) has the state `never_started`. A run that was requeued is a record of its
own, and so is each size of a job that was resized: the row behind a resize has the job's first start, and begins here at its
submission time, which is that of the resize. Zone: none needed. Natural key: cluster, raw job id, start, end.

Sources: SchedMD/slurm src/plugins/openapi/dbv0.0.3*/parse.c, src/plugins/data_parser/v0.0.*/parsers.c, src/sacct/options.c.
"""

from __future__ import annotations

from batchacct.model import JOB, Record
from batchacct.parsing import Outcome, Reject, Skip, Source, UnitParser
from batchacct.parsing.json_framing import Frame, JsonElements, clean, element
from loccol.slurm_sacct_rows import SLACK_S
from loccol.slurm_values import (
    MOST_SECONDS,
    NO_VALUE,
    SECOND_US,
    Amount,
    JobId,
    NodeList,
    bounded_instant,
    cpu_columns,
    ended_state,
    exec_hosts,
    id_columns,
    node_list,
    peak_kib,
    record_key,
    resource_columns,
    tres_number,
)

NOT_ENDED = Skip("job has not ended")
WITH_ERRORS = Skip("document in which sacct reports errors: jobs may be missing")
WITHOUT_JOBS = Skip("document without jobs")

FRAMING = JsonElements("jobs", first_key="account")

_MARKS = (b'"job_id"', b'"association"', b'"allocation_nodes"')

LARGEST = (1 << 53) - 1
"""A greater number is damage; memory in bytes and energy in J stay far below."""

_Object = dict[str, object]


def recognise(head: bytes) -> bool:
    """JSON with the members of sacct's jobs; those of squeue and scontrol have other ones."""
    return head.lstrip().startswith((b"{", b"[")) and all(mark in head for mark in _MARKS)


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One element of `jobs` to one run of a job.  Raises: Reject with the member that is missing or impossible."""
    job = element(unit)
    if isinstance(job, Frame):
        return WITH_ERRORS if job.members.get("errors") else job.skip
    if "job_id" not in job:
        return WITHOUT_JOBS if "meta" in job or "errors" in job else _missing("job_id")
    state = _state(job)
    end_at = _instant(job, "end")
    if state is None or end_at is None:
        return NOT_ENDED
    return _record(job, state, end_at, source)


def _missing(name: str) -> Skip:
    raise Reject(f"{name} is missing")


def _record(job: _Object, state: str, end_at: int, source: Source) -> Record:
    nodes = node_list(_text(job, "nodes") or "", "nodes")
    start_at = _start(job, end_at)
    qos = _text(job, "qos")
    if start_at is None or (start_at >= end_at and not nodes.count):
        state, start_at = "never_started", None
    job_id, raw = _job_id(job)
    requested = _resources(_at(job, "tres", "requested"), "tres.requested")
    memory_mib = tres_number(requested, "mem")
    record: Record = {
        "record_key": record_key(source.cluster, job_id, raw, start_at, end_at),
        **id_columns(job_id),
        "run_number": _run_number(job),
        "user_name": _text(job, "user") or _text(_object(job, "association"), "user"),
        "group_name": _text(job, "group"),
        "project": _text(job, "account"),
        "queue": _text(job, "partition"),
        "job_name": _text(job, "name"),
        "command": _text(job, "submit_line"),
        "submit_at": _instant(job, "submission"),
        "eligible_at": _instant(job, "eligible"),
        "start_at": start_at,
        "end_at": end_at,
        "logged_at": end_at,
        "memory_requested_kib": None if memory_mib is None else memory_mib * 1024,
        "state": state,
        "resources": resource_columns({}, qos)["resources"],
    }
    if start_at is None:
        return record
    if start_at > end_at:
        raise Reject("the job ended before it started")
    return record | _usage(job, nodes, end_at - start_at, qos) | _exit(_object(job, "exit_code"), state)


def _usage(job: _Object, nodes: NodeList, whole_s: int, qos: str | None) -> Record:
    """What a run that started had and used; `whole_s` is the time from start to end."""
    allocated = _resources(_at(job, "tres", "allocated"), "tres.allocated")
    processors = tres_number(allocated, "cpu")
    steps = [step for step in _list(job.get("steps")) if isinstance(step, dict)]
    peaks = [_object(_object(step, "tres"), "requested").get("max") for step in steps]
    return {
        "wall_duration_s": _wall_s(job, whole_s),
        **_cpu(job, steps),
        "processors": processors,
        "node_count": tres_number(allocated, "node")
        or nodes.count
        or _count(job.get("allocation_nodes"), "allocation_nodes")
        or None,
        "exec_hosts": exec_hosts(nodes, processors),
        "memory_real_kib": peak_kib(_used(peak, "mem", 1024) for peak in peaks),
        "memory_virtual_kib": peak_kib(_used(peak, "vmem", 1024) for peak in peaks),
        **resource_columns(allocated, qos),
    }


def _job_id(job: _Object) -> tuple[JobId, int]:
    """The id as `sbatch` printed it, and the raw one."""
    raw = _count(job["job_id"], "job_id")
    if not raw:
        raise Reject("job_id is no job id of Slurm")
    array, het = _object(job, "array"), _object(job, "het")
    array_id = _count(array.get("job_id"), "array.job_id")
    het_id = _count(het.get("job_id"), "het.job_id")
    tasks = _text(array, "task") if array_id else None
    return (
        JobId(
            het_id or array_id or raw,
            array_index=_count(array.get("task_id"), "array.task_id") if array_id else None,
            waiting=f"[{tasks}]" if tasks else None,
            het_offset=_count(het.get("job_offset"), "het.job_offset") if het_id else None,
        ),
        raw,
    )


def _run_number(job: _Object) -> int | None:
    """restart_cnt counts the runs before this one."""
    restarts = _count(job.get("restart_cnt"), "restart_cnt")
    return None if restarts is None else restarts + 1


def _state(job: _Object) -> str | None:
    """The state of `model.JOB_STATES`; None if the job has not ended.  Raises: Reject."""
    current = _at(job, "state", "current")
    words = current if isinstance(current, list) else [current]
    shown = words[1] if len(words) > 1 else words[0] if words else None
    if not isinstance(shown, str):
        raise Reject("state.current is missing")
    return ended_state(shown, "state.current")


def _start(job: _Object, end_at: int) -> int | None:
    """time.start, mended where it is the eligible time, or that of a job which was resized later, at its submission time."""
    start_at, submit_at = _instant(job, "start"), _instant(job, "submission")
    elapsed = _count(_at(job, "time", "elapsed"), "time.elapsed")
    if start_at is None or elapsed is None:
        return start_at
    if elapsed > end_at - start_at + SLACK_S:
        raise Reject("time.elapsed is much longer than from start to end")
    counted_from = end_at - elapsed - _suspended_s(job)
    if start_at == _instant(job, "eligible"):
        return max(start_at, counted_from)
    return submit_at if submit_at is not None and start_at == counted_from < submit_at < end_at else start_at


def _suspended_s(job: _Object) -> int:
    return _count(_at(job, "time", "suspended"), "time.suspended") or 0


def _wall_s(job: _Object, whole_s: int) -> int:
    """time.elapsed; but that of a resized job counts from its first start, of which `whole_s` has not the time before."""
    elapsed = _count(_at(job, "time", "elapsed"), "time.elapsed")
    if elapsed is None:
        return whole_s
    return elapsed if elapsed <= whole_s else max(0, whole_s - _suspended_s(job))


def _cpu(job: _Object, steps: list[_Object]) -> Record:
    """CPU columns of the job's own sum, else of the steps' sums, else of what was gathered of the steps."""
    for parts in ([job], steps):
        user, system, total = (sum(_microseconds(part, name) for part in parts) for name in ("user", "system", "total"))
        if columns := cpu_columns(user, system, total):
            return columns
    gathered = (_used(_at(step, "tres", "requested", "total"), "cpu", 1) for step in steps)
    return cpu_columns(None, None, max(0, sum(milliseconds or 0 for milliseconds in gathered)) * 1000)


def _microseconds(part: _Object, name: str) -> int:
    time = _object(_object(part, "time"), name)
    seconds = _count(time.get("seconds"), f"time.{name}") or 0
    rest = _count(time.get("microseconds"), f"time.{name}") or 0
    if max(seconds, rest) > MOST_SECONDS:
        raise Reject(f"time.{name} is impossible")
    return seconds * SECOND_US + rest


def _exit(exit_code: _Object, state: str) -> Record:
    code = _number(exit_code.get("return_code"), "exit_code.return_code")
    signals = _object(exit_code, "signal")
    signal = _number(signals.get("id", signals.get("signal_id")), "exit_code.signal")
    is_believed = isinstance(exit_code.get("status"), list) or code != 0 or state == "completed"
    return {
        "exit_code": code if code is not None and 0 <= code <= 255 and is_believed else None,
        "exit_signal": signal if signal is not None and 1 <= signal <= 64 else None,
    }


def _resources(listed: object, name: str) -> dict[str, Amount]:
    """A list of `{"type": "gres", "name": "gpu:a100", "count": 2}` as sacct's text spells it: `gres/gpu:a100` is 2."""
    amounts: dict[str, Amount] = {}
    for tres in _list(listed):
        if not isinstance(tres, dict) or not isinstance(tres.get("type"), str):
            raise Reject(f"{name} is no list of resources")
        count = _number(tres.get("count"), name)
        if count is not None and count >= 0:
            label = tres.get("name")
            amounts[clean(f"{tres['type']}/{label}" if label else tres["type"])] = count
    return amounts


def _used(listed: object, kind: str, unit: int) -> int | None:
    """How much of a resource a step used, in whole units of so many; None if that was not gathered, or was none."""
    for tres in _list(listed):
        if isinstance(tres, dict) and tres.get("type") == kind and not tres.get("name"):
            return (_number(tres.get("count"), f"{kind} of a step") or 0) // unit or None
    return None


def _instant(job: _Object, name: str) -> int | None:
    seconds = _number(_at(job, "time", name), f"time.{name}")
    return bounded_instant(seconds, f"time.{name}") if seconds else None


def _count(value: object, name: str) -> int | None:
    """A number that cannot be negative.  Raises: Reject."""
    count = _number(value, name)
    if count is not None and count < 0:
        raise Reject(f"{name} is impossible")
    return count


def _number(value: object, name: str) -> int | None:
    """A number, plain or with `set` and `infinite`; None if there is none, or what stands for none.  Raises: Reject."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set") is True and value.get("infinite") is not True else None
    if value is None:
        return None
    if type(value) is not int:
        raise Reject(f"{name} is not a whole number")
    if value in NO_VALUE:
        return None
    if abs(value) > LARGEST:
        raise Reject(f"{name} is impossible")
    return value


def _at(value: object, *path: str) -> object:
    """The member of a member; None where the way ends."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _object(value: _Object, name: str) -> _Object:
    member = value.get(name)
    return member if isinstance(member, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _text(value: _Object, name: str) -> str | None:
    member = value.get(name)
    return clean(member) or None if isinstance(member, str) else None


PARSER = UnitParser(
    name="slurm-json",
    record_type=JOB,
    lrms="Slurm",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=FRAMING,
    recognise=recognise,
)
