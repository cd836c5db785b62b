"""The columns of a job record out of the attributes of an S, E or R line."""

from __future__ import annotations

import json
from collections.abc import Mapping

from batchacct.model import Record, text_of
from batchacct.parsing import Reject
from loccol.pbs_hosts import allocation
from loccol.pbs_line import REQUESTED, USED, Attributes, JobId, count_of, duration_s, size_kib, time_of

TORQUE, PRO = "Torque", "PBS Pro"
MARKS: Mapping[str, frozenset[bytes]] = {
    TORQUE: frozenset(
        (b"owner", b"start_count", b"total_execution_slots", b"unique_node_count", b"login_node", b"x", b"Resource_Request_2.0",
         REQUESTED + b"neednodes")
    ),
    PRO: frozenset(
        (b"gridname", b"project", b"accounting_id", b"exec_vnode", b"eligible_time", b"run_count", REQUESTED + b"place",
         USED + b"cpupercent", USED + b"ncpus")
    ),
}  # fmt: skip
"""Attributes that only one of the two ever writes."""

STATES: Mapping[str, Mapping[int, str]] = {
    TORQUE: {-10: "out_of_memory", -11: "timeout", -12: "timeout"},
    PRO: {-14: "node_fail", -20: "node_fail", -26: "out_of_memory", -27: "out_of_memory", -28: "timeout", -29: "timeout",
          -31: "out_of_memory"},
}  # fmt: skip
"""What negative values of Exit_status say by flavour (both write walltime and cput limits); all others are failures."""

KILLED, SIGNALS = 256, 128
TERM, KILL = 15, 9
SHELL_SAYS_KILLED = 128
NO_GROUP = b"-default-"
NO_PROJECT = b"_pbs_project_default"
"""What PBS Pro writes for `the group of the account` and `none`."""


def identity(job: JobId, kind: str, cluster: str | None, start: int | None, logged_at: int) -> Record:
    return {
        "record_key": f"pbs:{kind}:{cluster}:{text_of(job.written)}:{start or 0}:{logged_at}",
        "lrms_job_id": job.lrms_job_id,
        "join_id": job.join_id,
        "array_index": job.array_index,
    }


def description(found: Attributes) -> Record:
    """Who, where and what was asked for, as every record that describes the job has it.  Raises: Reject."""
    texts = {
        "user_name": found.get(b"user"),
        "group_name": _unless(NO_GROUP, found.get(b"group")),
        "project": found.get(b"account") or _unless(NO_PROJECT, found.get(b"project")),
        "queue": found.get(b"queue"),
        "submit_host": found.get(b"owner", b"").rpartition(b"@")[2] if b"@" in found.get(b"owner", b"") else None,
        "job_name": found.get(b"jobname"),
    }
    runs = count_of(found, b"run_count")
    return {
        **{column: text_of(raw) if raw else None for column, raw in texts.items()},
        "submit_at": time_of(found, b"ctime"),
        "eligible_at": time_of(found, b"etime"),
        "start_at": time_of(found, b"start"),
        "run_number": runs if runs is not None else count_of(found, b"start_count"),
        "memory_requested_kib": requested_kib(found.get(REQUESTED + b"mem")),
        **allocation(found),
    }


def _unless(nothing: bytes, raw: bytes | None) -> bytes | None:
    return None if raw == nothing else raw


def requested_kib(raw: bytes | None) -> int | None:
    try:
        return size_kib(raw, "Resource_List.mem") if raw else None
    except Reject:
        return None


def ended_job(found: Attributes) -> Record:
    """All that an E line, or an R line of PBS Pro, says of one run.

    Raises: Reject for a value that is missing, of another form, or impossible.
    """
    for name in (b"start", b"end"):
        if name not in found:
            raise Reject(f"{name.decode()} is missing")
    record = description(found)
    start, end = record["start_at"], time_of(found, b"end")
    if end is None:
        raise Reject("end is 0: the time the job ended is always known")
    record |= {"end_at": end, "logged_at": end, "resources": tracked(found)}
    if start is None:
        return record | {"state": "never_started", "resources": None}
    assert isinstance(start, int)
    if end < start:
        raise Reject("the job ended before it started")
    wall = wall_s(found, end - start)
    return record | usage(found) | {"wall_duration_s": wall} | _ending(found, wall)


def usage(found: Attributes) -> Record:
    """CPU time, peak memory and energy.  Raises: Reject for a value of another form."""
    cput, mem, vmem = (found.get(USED + name) for name in (b"cput", b"mem", b"vmem"))
    return {
        "cpu_duration_s": duration_s(cput, "resources_used.cput") if cput else None,
        "memory_real_kib": size_kib(mem, "resources_used.mem") if mem else None,
        "memory_virtual_kib": size_kib(vmem, "resources_used.vmem") if vmem else None,
        "energy_j": float(count_of(found, USED + b"energy_used") or 0) or None,
    }


def wall_s(found: Attributes, elapsed: int) -> int:
    """The walltime PBS states; `elapsed` if it states none, a negative one, or more than twice as much."""
    raw = found.get(USED + b"walltime")
    stated = duration_s(raw, "resources_used.walltime") if raw else None
    return elapsed if stated is None or stated > 2 * elapsed else stated


def tracked(found: Attributes) -> str | None:
    """Every `resources_used.NAME`, as JSON object of NAME to the text PBS wrote."""
    resources = {text_of(name[len(USED) :]): text_of(raw) for name, raw in found.items() if name.startswith(USED)}
    return json.dumps(resources, ensure_ascii=False, separators=(",", ":")) if resources else None


def flavour(found: Attributes) -> str | None:
    """Whether Torque or PBS Pro wrote the line; None where no attribute, or attributes of both, tell."""
    marked = [name for name, marks in MARKS.items() if not marks.isdisjoint(found)]
    return marked[0] if len(marked) == 1 else None


def _ending(found: Attributes, wall: int) -> Record:
    raw = found.get(b"Exit_status")
    if raw is None:
        return {"state": "unknown"}
    digits = raw.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 9:
        raise Reject("Exit_status is not a number")
    status = int(raw)
    code = status if 0 <= status < KILLED else None
    signal = status - KILLED if KILLED < status < KILLED + SIGNALS else None
    return {"exit_code": code, "exit_signal": signal, "state": _state(status, found, wall)}


def _state(status: int, found: Attributes, wall: int) -> str:
    if status == 0:
        return "completed"
    if status < 0:
        return STATES.get(flavour(found) or "", {}).get(status, "failed")
    if status in kills(SHELL_SAYS_KILLED) or status in kills(KILLED):
        limit = _limit_s(found.get(REQUESTED + b"walltime"))
        return "timeout" if limit and wall >= limit else "failed"
    return "failed"


def kills(base: int) -> tuple[int, int]:
    """How the status looks when PBS itself kills: SIGTERM, then SIGKILL."""
    return base + TERM, base + KILL


def _limit_s(raw: bytes | None) -> int | None:
    try:
        return duration_s(raw, "Resource_List.walltime") if raw else None
    except Reject:
        return None
