"""One job as Slurm writes it: rows of sacct for it and two steps, lines of jobcomp, an element of `sacct --json`."""

from __future__ import annotations

import json
from datetime import UTC, tzinfo

from benchmarks.logs.jobs import Job, clock, iso
from loccol.slurm_sacct_layout import RECOMMENDED

CLUSTER = "bench"
MEMORY_MIB = 4_000
"""Asked for, per processor."""
JSON_HEAD, JSON_TAIL = (
    b'{\n "jobs": [\n',
    b'\n ],\n "meta": {"slurm": {"release": "23.11.10"}},\n "errors": [],\n "warnings": []\n}\n',
)


def sacct(job: Job, zone: tzinfo = UTC) -> bytes:
    """Rows in the recommended list, known without a header, with the times of a zone."""
    facts = _facts(job, zone)
    rows = [facts]
    if job.start_at is not None:
        rows += [_step(job, facts, "batch"), _step(job, facts, "extern")]
    return "".join(_ROW.format_map(row) for row in rows).encode()


def sacct_apel(job: Job) -> bytes:
    """Rows in the list of APEL's script, with TotalCPU."""
    facts = _facts(job)
    rows = [facts]
    if job.start_at is not None:
        rows += [_step(job, facts, "batch"), _step(job, facts, "extern")]
    return "".join(_APEL_ROW.format_map(row) for row in rows).encode()


_ROW = "|".join(f"{{{name}}}" for name in RECOMMENDED.split(",")) + "\n"
_APEL_ROW = (
    "{JobID}|{JobName}|{User}|{Group}|{Start}|{End}|{Elapsed}|{TotalCPU}|{Partition}|{NCPUS}|{NNodes}|{NodeList}|{MaxRSS}|{MaxVMSize}|"
    "{State}\n"
)


def _facts(job: Job, zone: tzinfo = UTC) -> dict[str, object]:
    started = job.start_at is not None
    return {
        "JobID": f"{job.number}_{job.index}" if job.index is not None else str(job.number),
        "JobIDRaw": str(job.raw),
        "Cluster": CLUSTER,
        "User": job.user,
        "UID": job.uid,
        "Group": job.group,
        "Account": job.group,
        "Partition": job.queue,
        "QOS": "normal",
        "Submit": iso(job.submit_at, zone),
        "Eligible": iso(job.submit_at, zone),
        "Start": "None" if job.start_at is None else iso(job.start_at, zone),
        "End": iso(job.end_at, zone),
        "ElapsedRaw": job.wall_s,
        "Elapsed": clock(job.wall_s),
        "Suspended": "00:00:00",
        "State": _state(job, "CANCELLED by 20001"),
        "ExitCode": f"{job.exit_code}:{job.exit_signal}",
        "NCPUS": job.processors if started else 0,
        "NNodes": job.host_count,
        "ReqMem": f"{MEMORY_MIB * job.processors}M",
        "AllocTRES": _tres(job) if started else "",
        "TotalCPU": _cpu(job.user_cpu_us + job.system_cpu_us),
        "UserCPU": _cpu(job.user_cpu_us),
        "SystemCPU": _cpu(job.system_cpu_us),
        "MaxRSS": "",
        "MaxVMSize": "",
        "TRESUsageInTot": "",
        "ConsumedEnergyRaw": job.wall_s * 100 if job.gpus else 0,
        "NodeList": _nodes(job) if started else "None assigned",
        "JobName": job.name,
    }


def _step(job: Job, facts: dict[str, object], name: str) -> dict[str, object]:
    cpu_us = job.user_cpu_us + job.system_cpu_us if name == "batch" else 2_000
    memory_kib = job.memory_kib if name == "batch" else 0
    usage = f"cpu={clock(cpu_us // 1_000_000)},energy=0,fs/disk=2012,mem={memory_kib}K,pages=0,vmem={memory_kib * 2}K"
    mine = {
        "JobID": f"{facts['JobID']}.{name}",
        "JobIDRaw": f"{facts['JobIDRaw']}.{name}",
        "JobName": name,
        "State": _state(job, "CANCELLED"),
        "TotalCPU": _cpu(cpu_us),
        "UserCPU": _cpu(job.user_cpu_us if name == "batch" else 1_000),
        "SystemCPU": _cpu(job.system_cpu_us if name == "batch" else 1_000),
        "MaxRSS": f"{memory_kib}K" if memory_kib else "0",
        "MaxVMSize": f"{memory_kib * 2}K" if memory_kib else "0",
        "TRESUsageInTot": usage,
    }
    return facts | dict.fromkeys(("User", "UID", "Group", "Partition", "QOS", "Suspended", "ReqMem"), "") | mine


def jobcomp(job: Job) -> bytes:
    """A line of jobcomp/filetxt as 23.x writes it."""
    array = "" if job.index is None else f"ArrayJobId={job.number} ArrayTaskId={job.index} "
    started = job.start_at is not None
    return (
        f"JobId={job.raw} UserId={job.user}({job.uid}) GroupId={job.group}({job.uid}) Name={job.name} "
        f"JobState={_state(job, 'CANCELLED')} Partition={job.queue} TimeLimit=1440 "
        f"StartTime={iso(job.end_at if job.start_at is None else job.start_at)} EndTime={iso(job.end_at)} "
        f"NodeList={_nodes(job) if started else '(null)'} NodeCnt={job.host_count if started else 0} ProcCnt={job.processors} "
        f"WorkDir=/home/{job.group}/{job.user} ReservationName= Tres={_tres(job)} Account={job.group} QOS=normal WcKey=* "
        f"Cluster={CLUSTER} SubmitTime={iso(job.submit_at)} EligibleTime={iso(job.submit_at)} {array}DerivedExitCode=0:0 "
        f"ExitCode={job.exit_code}:{job.exit_signal} \n"
    ).encode()


def jobcomp_json(job: Job) -> bytes:
    """An object of jobcomp/kafka as 23.11 writes it."""
    started = job.start_at is not None
    told = {
        "jobid": job.raw, "container": None, "username": job.user, "user_id": job.uid, "groupname": job.group,
        "group_id": job.uid, "@start": iso(job.end_at if job.start_at is None else job.start_at), "@end": iso(job.end_at),
        "elapsed": job.wall_s, "partition": job.queue, "alloc_node": "login1", "nodes": _nodes(job) if started else "(null)",
        "total_cpus": job.processors, "total_nodes": job.host_count, "derived_ec": "0:0",
        "exit_code": f"{job.exit_code}:{job.exit_signal}", "state": _state(job, "CANCELLED"), "failed_node": None,
        "cpu_hours": job.wall_s * job.processors / 3600,
        **({} if job.index is None else {"array_job_id": job.number, "array_task_id": job.index}),
        "het_job_id": 0, "het_job_offset": 0, "@submit": iso(job.submit_at), "@eligible": iso(job.submit_at), "@queue_wait": 5,
        "work_dir": f"/home/{job.user}", "qos": "normal", "ntasks": 0, "ntasks_per_node": 0, "ntasks_per_tres": 0,
        "cpus_per_task": 1, "time_limit": 86_400, "job_name": job.name, "account": job.group, "tres_req": _tres(job),
        "tres_alloc": _tres(job),
    }  # fmt: skip
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def sacct_json(job: Job) -> bytes:
    """An element of `jobs`, pretty-printed, as data_parser v0.0.40 writes it."""
    array = {"job_id": 0 if job.index is None else job.number, "limits": {"max": {"running": {"tasks": 0}}}}
    tres = [_counted("cpu", job.processors), _counted("mem", MEMORY_MIB * job.processors), _counted("node", job.host_count)]
    if job.gpus:
        tres += [_counted("gres", job.gpus, "gpu"), _counted("gres", job.gpus, "gpu:a100")]
    started = job.start_at is not None
    element = {
        "account": job.group, "comment": {"administrator": "", "job": "", "system": ""}, "allocation_nodes": job.host_count,
        "array": {**array, "task_id": _number(job.index), "task": ""},
        "association": {"account": job.group, "cluster": CLUSTER, "partition": "", "user": job.user, "id": 176},
        "block": "", "cluster": CLUSTER, "constraints": "", "container": "", "derived_exit_code": _exit(0, 0),
        "time": _times(job, job.submit_at), "exit_code": _exit(job.exit_code, job.exit_signal), "extra": "", "failed_node": "",
        "flags": ["STARTED_ON_SCHEDULE", "START_RECEIVED"], "group": job.group,
        "het": {"job_id": 0, "job_offset": _number(None)}, "job_id": job.raw, "name": job.name, "licenses": "",
        "mcs": {"label": ""}, "nodes": _nodes(job) if started else "None assigned", "partition": job.queue, "hold": False,
        "priority": _number(1405), "qos": "normal",
        "required": {"CPUs": job.processors, "memory_per_cpu": _number(MEMORY_MIB), "memory_per_node": _number(None)},
        "kill_request_user": "", "reservation": {"id": 0, "name": ""}, "script": "",
        "state": {"current": [_state(job, "CANCELLED")], "reason": "None"},
        "steps": [_json_step(job, name, tres) for name in ("batch", "extern")] if started else [],
        "submit_line": "sbatch job.sh", "tres": {"allocated": tres if started else [], "requested": tres}, "used_gres": "",
        "user": job.user, "wckey": {"wckey": "", "flags": []}, "working_directory": f"/home/{job.user}",
    }  # fmt: skip
    return json.dumps(element, indent=1).encode()


def _json_step(job: Job, name: str, tres: list[dict[str, object]]) -> dict[str, object]:
    peak = [_counted("mem", job.memory_kib * 1024), _counted("vmem", job.memory_kib * 2048), _counted("cpu", int(job.cpu_s * 1000))]
    usage = {"max": peak, "min": peak, "average": peak, "total": peak}
    return {
        "time": _times(job, None), "exit_code": _exit(job.exit_code, job.exit_signal),
        "nodes": {"count": job.host_count, "range": _nodes(job), "list": job.hosts}, "tasks": {"count": 1}, "pid": "",
        "CPU": {"requested_frequency": {"min": _number(0), "max": _number(0)}, "governor": "0"}, "kill_request_user": "",
        "state": [_state(job, "CANCELLED")],
        "statistics": {"CPU": {"actual_frequency": 0}, "energy": {"consumed": _number(0)}},
        "step": {"id": f"{job.raw}.{name}", "name": name}, "task": {"distribution": "Unknown"},
        "tres": {"requested": usage, "consumed": usage, "allocated": tres},
    }  # fmt: skip


def _times(job: Job, submit_at: int | None) -> dict[str, object]:
    of_job = {} if submit_at is None else {"eligible": submit_at, "submission": submit_at, "limit": _number(1440)}
    user, system = divmod(job.user_cpu_us, 1_000_000), divmod(job.system_cpu_us, 1_000_000)
    total = divmod(job.user_cpu_us + job.system_cpu_us, 1_000_000)
    instants = (job.start_at or 0, job.end_at)
    start, end = instants if of_job else map(_number, instants)
    cpu = {name: {"seconds": s, "microseconds": us} for name, (s, us) in (("system", system), ("total", total), ("user", user))}
    return {"elapsed": job.wall_s, "start": start, "end": end, "suspended": 0, **of_job, **cpu}


def _number(value: int | None) -> dict[str, object]:
    return {"set": value is not None, "infinite": False, "number": value or 0}


def _counted(kind: str, count: int, name: str = "") -> dict[str, object]:
    return {"type": kind, "name": name, "id": 1, "count": count}


def _exit(code: int, signal: int) -> dict[str, object]:
    status = "SIGNALED" if signal else "ERROR" if code else "SUCCESS"
    signalled = {"id": _number(signal or None), "name": "KILL" if signal else ""}
    return {"status": [status], "return_code": _number(code), "signal": signalled}


def _state(job: Job, cancelled: str) -> str:
    if job.start_at is None:
        return cancelled
    return "COMPLETED" if job.is_ok else "OUT_OF_MEMORY" if job.exit_signal and job.number % 2 else "FAILED"


def _tres(job: Job) -> str:
    gpus = f",gres/gpu={job.gpus},gres/gpu:a100={job.gpus}" if job.gpus else ""
    return f"billing={job.processors},cpu={job.processors}{gpus},mem={MEMORY_MIB * job.processors}M,node={job.host_count}"


def _nodes(job: Job) -> str:
    if job.host_count == 1:
        return f"lxb{job.first_host:04d}"
    return f"lxb[{job.first_host:04d}-{job.first_host + job.host_count - 1:04d}]"


def _cpu(cpu_us: int) -> str:
    """`1-02:03:04` from an hour on, `03:04.567` below."""
    seconds, rest = divmod(cpu_us, 1_000_000)
    return clock(seconds) if seconds >= 3600 else f"{seconds // 60:02d}:{seconds % 60:02d}.{rest // 1000:03d}"
