"""One job as Torque and PBS Pro, Grid Engine, and APEL's script for HTCondor write it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo

from benchmarks.logs.jobs import Job, clock

SERVER = "pbs01.example.org"
PE_SLOTS = 40
"""From so many slots a host on, a job of Grid Engine on several hosts has records of its tasks, too."""


def pbs(job: Job, zone: tzinfo = UTC) -> bytes:
    """Lines of the server's accounting: queued, started, ended; every other job as Torque writes it, the others as PBS Pro.

    Each begins with a time of the zone.
    """
    whole_id = _pbs_id(job)
    queued = f"{_stamp(job.submit_at, zone)};Q;{whole_id};queue={job.queue}\n"
    if job.start_at is None:
        return f"{queued}{_stamp(job.end_at, zone)};D;{whole_id};requestor={job.user}@ui.example.org\n".encode()
    return f"{queued}{_stamp(job.start_at, zone)};S;{whole_id};{_pbs_asked(job)}\n".encode() + pbs_ended(job, zone)


def pbs_ended(job: Job, zone: tzinfo = UTC) -> bytes:
    """The E line alone; nothing of a job that never started."""
    if job.start_at is None:
        return b""
    status = 256 + job.exit_signal if job.exit_signal else job.exit_code
    cpu, wall = clock(int(job.cpu_s), days=False), clock(job.wall_s, days=False)
    used = {"cput": cpu, "mem": f"{job.memory_kib}kb", "vmem": f"{job.memory_kib * 2}kb", "walltime": wall}
    pro = {"cpupercent": 97, "cput": cpu, "mem": used["mem"], "ncpus": job.processors, "vmem": used["vmem"], "walltime": wall}
    written = " ".join(f"resources_used.{name}={value}" for name, value in (used if _is_torque(job) else pro).items())
    last = "" if _is_torque(job) else " run_count=1"
    ended = f"session={job.uid} end={job.end_at} Exit_status={status} {written}{last}"
    return f"{_stamp(job.end_at, zone)};E;{_pbs_id(job)};{_pbs_asked(job)} {ended}\n".encode()


def _is_torque(job: Job) -> bool:
    return job.uid % 2 == 0


def _pbs_id(job: Job) -> str:
    return f"{job.number}{'' if job.index is None else f'[{job.index}]'}.{SERVER}"


def _pbs_asked(job: Job) -> str:
    who = f"user={job.user} group={job.group} jobname={job.name.replace(' ', '_')} queue={job.queue}"
    times = f"ctime={job.submit_at} qtime={job.submit_at} etime={job.submit_at} start={job.start_at}"
    if _is_torque(job):
        hosts = "+".join(f"{host}/{slot}" for host in job.hosts for slot in range(job.slots))
        nodes = f"{job.host_count}:ppn={job.slots}"
        asked = f"Resource_List.neednodes={nodes} Resource_List.nodect={job.host_count} Resource_List.nodes={nodes}"
        return f"{who} {times} owner={job.user}@ui.example.org exec_host={hosts} {asked} Resource_List.walltime=48:00:00"
    vnodes = "+".join(f"({host}:ncpus={job.slots})" for host in job.hosts)
    hosts = "+".join(f"{host}/0*{job.slots}" for host in job.hosts)
    asked = (
        f"Resource_List.ncpus={job.processors} Resource_List.nodect={job.host_count} Resource_List.place=free "
        f"Resource_List.select={job.host_count}:ncpus={job.slots} Resource_List.walltime=48:00:00"
    )
    return f"{who} project=_pbs_project_default {times} exec_host={hosts} exec_vnode={vnodes} {asked}"


def _stamp(instant: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(instant, zone).strftime("%m/%d/%Y %H:%M:%S")


def sge(job: Job) -> bytes:
    """Lines of SoGE's accounting, 45 fields: of a job, or of its master and the tasks on its other hosts.

    A job that was deleted in the queue has none; one of three that never started could not be started, and has one without times.
    """
    if job.start_at is None:
        return b"" if job.number % 3 else _sge_not_started(job)
    others = job.hosts[1:] if job.slots == PE_SLOTS else []
    lines = [_sge_line(job, host, f"{nth}.{host}") for nth, host in enumerate(others, 1)]
    return "".join([*lines, _sge_line(job, job.hosts[0], "NONE")]).encode()


def _sge_line(job: Job, host: str, task: str) -> str:
    failed = 100 if job.exit_signal else 0
    status = 128 + job.exit_signal if job.exit_signal else job.exit_code
    environment = "mpi" if job.processors > 1 else "NONE"
    cpu_s = job.cpu_s / job.host_count
    gpus = f",gpu={job.gpus}" if job.gpus else ""
    category = f"-U {job.group} -l h_rt=172800,h_vmem=3G{gpus}" + (f" -pe mpi {job.processors}" if job.processors > 1 else "")
    name = job.name.replace(":", "_")
    times = f"{job.submit_at}:{job.start_at}:{job.end_at}:{failed}:{status}:{job.wall_s}"
    usage = (
        f"{job.user_cpu_us / 1e6:.6f}:{job.system_cpu_us / 1e6:.6f}:{job.memory_kib}:0:0:0:0:{job.uid}:12:0:0.000000:2:0:0:0:51:9"
    )
    return (
        f"{job.queue}.q:{host}.example.org:{job.group}:{job.user}:{name}:{job.number}:sge:0:{times}:{usage}:NONE:defaultdepartment:"
        f"{environment}:{job.processors}:{_task(job)}:{cpu_s:.6f}:{cpu_s * 1.7:.6f}:0.012834:{category}:0.000000:{task}:"
        f"{job.memory_kib * 2048}.000000:0:0\n"
    )


def _sge_not_started(job: Job) -> bytes:
    who = f"{job.queue}.q:{job.hosts[0]}.example.org:{job.group}:{job.user}:STDIN:{job.number}"
    usage = "0:0.000000:0.000000:0.000000:0:0:0:0:0:0:0:0.000000:0:0:0:0:0:0"
    last = f"0.000000:0.000000:0.000000:-U {job.group}:0.000000:NONE:0.000000:0:0"
    return f"{who}:sge:0:0:0:0:9:0:{usage}:NONE:defaultdepartment:NONE:0:{_task(job)}:{last}\n".encode()


def _task(job: Job) -> int:
    return 0 if job.index is None else job.index + 1


def sge_json(job: Job) -> bytes:
    """A line of Open Cluster Scheduler's accounting.jsonl."""
    rusage = {
        "ru_wallclock": job.wall_s, "ru_utime": job.user_cpu_us / 1e6, "ru_stime": job.system_cpu_us / 1e6,
        "ru_maxrss": job.memory_kib, "ru_ixrss": 0, "ru_ismrss": 0, "ru_idrss": 0, "ru_isrss": 0,
        "ru_minflt": 9417, "ru_majflt": 76, "ru_nswap": 0,
        "ru_inblock": 28544, "ru_oublock": 8, "ru_msgsnd": 0, "ru_msgrcv": 0, "ru_nsignals": 0, "ru_nvcsw": 307, "ru_nivcsw": 0,
    }  # fmt: skip
    usage = {
        "wallclock": job.wall_s + 0.9, "cpu": job.cpu_s, "mem": 0.002, "io": 0.001, "iow": 0.0,
        "maxvmem": job.memory_kib * 2048.0, "maxrss": job.memory_kib * 1024.0,
    }  # fmt: skip
    told = {
        "job_number": job.number, "task_number": _task(job), "start_time": (job.start_at or 0) * 1_000_000,
        "end_time": job.end_at * 1_000_000 + 874_079, "owner": job.user, "group": job.group, "account": "sge",
        "qname": f"{job.queue}.q", "hostname": job.hosts[0], "department": "defaultdepartment", "slots": job.processors,
        **({"granted_pe": "mpi"} if job.processors > 1 else {}), "job_name": job.name, "priority": 0,
        "submission_time": job.submit_at * 1_000_000 + 122_999, "submit_cmd_line": f"qsub -l h_rt=172800 {job.name}",
        "category": f"-l h_rt=172800{f',gpu={job.gpus}' if job.gpus else ''}", "failed": 100 if job.exit_signal else 0,
        "exit_status": 128 + job.exit_signal if job.exit_signal else job.exit_code, "usage": {"rusage": rusage, "usage": usage},
    }  # fmt: skip
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def htcondor_apel(job: Job) -> bytes:
    """A line of APEL's htcondor_acc.sh, which does not ask for jobs that never started; every third with a factor."""
    if job.start_at is None:
        return b""
    factor = "1.25|" if job.number % 3 == 0 else ""
    return (
        f"schedd1.example.org#{job.number}.{job.index or 0}#{job.submit_at}|{job.user}|{job.wall_s}|{job.user_cpu_us // 1_000_000}|"
        f"{job.system_cpu_us // 1_000_000}|{job.start_at}|{job.end_at}|{job.memory_kib}|{job.memory_kib * 2 + 1024}|"
        f"{job.processors}|{factor}\n"
    ).encode()
