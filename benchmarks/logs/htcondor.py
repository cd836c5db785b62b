"""One job as HTCondor writes it: its ad in long form and as JSON (with what a CE put in), and lines of a CE's AuditLog."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from benchmarks.logs.jobs import GRID_QUEUE, Job

SCHEDD = "schedd1.example.org"
REMOVED, COMPLETED = 3, 4
ISSUER = "https://atlas-auth.cern.ch/"


def ad(job: Job) -> bytes:
    """An ad of the schedd's history, with its banner."""
    lines = [f"{name} = {_long_form(value)}\n" for name, value in _attributes(job).items()]
    completed_at = job.end_at if job.start_at is not None else 0
    banner = f'*** Offset = {job.number % 90_000_000} ClusterId = {job.number} ProcId = {job.index or 0} Owner = "{job.user}" '
    return "".join([*lines, banner, f"CompletionDate = {completed_at}\n"]).encode()


def ad_json(job: Job) -> bytes:
    """An object of `condor_history -json`."""
    told = {name: f"/Expr({value})/" if isinstance(value, Expression) else value for name, value in _attributes(job).items()}
    return json.dumps(told, indent=2).encode()


class Expression(str):
    """What is not evaluated."""

    __slots__ = ()


def _long_form(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not isinstance(value, Expression):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _attributes(job: Job) -> dict[str, object]:
    started = job.start_at is not None
    told: dict[str, object] = {
        "MyType": "Job", "TargetType": "Machine", "Args": f"--seed {job.number} --events 5000", "AutoClusterId": job.uid % 97,
        "BytesRecvd": 31_194.0, "BytesSent": 5_828_350.0, "BufferBlockSize": 32_768, "BufferSize": 524_288, "ClusterId": job.number,
        "Cmd": f"/home/{job.user}/{job.name}", "CommittedSlotTime": job.wall_s * job.slots, "CommittedSuspensionTime": 0,
        "CommittedTime": job.wall_s, "CompletionDate": job.end_at if started else 0,
        "CondorPlatform": "$CondorPlatform: x86_64_CentOS7 $",
        "CondorVersion": "$CondorVersion: 9.0.17 2022-09-29 BuildID: 607830 PackageID: 9.0.17-1 $", "CoreSize": 0,
        "CpusProvisioned": job.slots, "CPUsUsage": 0.9974730512006985, "CumulativeRemoteSysCpu": job.system_cpu_us / 1e6,
        "CumulativeRemoteUserCpu": job.user_cpu_us / 1e6, "CumulativeSlotTime": job.wall_s * job.slots * 1.0,
        "CumulativeSuspensionTime": 0, "CurrentHosts": 0, "DiskProvisioned": 2_317_071, "DiskUsage": 32_500,
        "DiskUsage_RAW": 30_861, "EnteredCurrentStatus": job.end_at, "Environment": f"LANG=C HOME=/home/{job.user} X=\"a b\"",
        "Err": f"err.{job.number}", "ExecutableSize": 2, "ExecutableSize_RAW": 2,
        "ExitBySignal": bool(job.exit_signal), "ExitStatus": 0,
        "GlobalJobId": f"{SCHEDD}#{job.number}.{job.index or 0}#{job.submit_at}",
        "ImageSize": job.memory_kib * 2 + 1024, "ImageSize_RAW": job.memory_kib * 2 + 1000, "In": "/dev/null",
        "Iwd": f"/home/{job.user}",
        "JobFinishedHookDone": job.end_at, "JobLeaseDuration": 2400, "JobNotification": 0, "JobPrio": 0, "JobRunCount": 1,
        "JobStatus": COMPLETED if started else REMOVED, "JobUniverse": 5, "KillSig": "SIGTERM",
        "LastJobStatus": 2 if started else 1, "LastSuspensionTime": 0,
        "LeaveJobInQueue": Expression("JobStatus == 4 && (CompletionDate =?= UNDEFINED || (CurrentTime - CompletionDate) < 1800)"),
        "LocalSysCpu": 0.0, "LocalUserCpu": 0.0, "MaxHosts": 1, "MemoryProvisioned": 2_048 * job.slots,
        "MemoryUsage": Expression("((ResidentSetSize + 1023) / 1024)"), "MinHosts": 1, "NiceUser": False, "NumCkpts": 0,
        "NumJobCompletions": 1, "NumJobMatches": 1, "NumJobStarts": int(started), "NumRestarts": 0, "NumShadowStarts": int(started),
        "NumSystemHolds": 0, "OnExitHold": False, "OnExitRemove": True, "Out": f"out.{job.number}", "Owner": job.user,
        "PeriodicHold": False, "PeriodicRelease": False, "PeriodicRemove": Expression("(JobStatus == 5) && (NumJobStarts > 3)"),
        "ProcId": job.index or 0, "QDate": job.submit_at, "Rank": 0.0, "RemoteSysCpu": job.system_cpu_us / 1e6,
        "RemoteUserCpu": job.user_cpu_us / 1e6, "RemoteWallClockTime": job.wall_s * 1.0, "RequestCpus": job.slots,
        "RequestDisk": Expression("DiskUsage"), "RequestMemory": 2_048 * job.slots,
        "Requirements": Expression('(TARGET.Arch == "X86_64") && (TARGET.OpSys == "LINUX") && (TARGET.Disk >= RequestDisk)'),
        "ResidentSetSize": job.memory_kib, "ResidentSetSize_RAW": job.memory_kib, "RootDir": "/", "ShouldTransferFiles": "YES",
        "StreamErr": False, "StreamOut": False, "TotalSuspensions": 0, "TransferIn": False, "TransferInputSizeMB": 30,
        "User": f"{job.user}@example.org", "UserLog": f"/home/{job.user}/log.{job.number}", "WantCheckpoint": False,
        "WantRemoteIO": True, "WantRemoteSyscalls": False, "WhenToTransferOutput": "ON_EXIT",
    }  # fmt: skip
    if started:
        told |= {
            "ExitCode": job.exit_code, "JobCurrentStartDate": job.start_at, "JobStartDate": job.start_at,
            "LastMatchTime": job.start_at, "LastRemoteHost": f"slot1_{job.number % 60}@{job.hosts[0]}.example.org",
            "MachineAttrCpus0": job.slots, "MachineAttrSlotWeight0": job.slots, "StartdPrincipal": "execute-side@matchsession",
        }  # fmt: skip
    else:
        told["RemoveReason"] = f"via condor_rm (by user {job.user})"
    if job.exit_signal:
        told["ExitSignal"] = job.exit_signal
    if job.gpus:
        told |= {
            "RequestGPUs": job.gpus,
            "GPUsProvisioned": job.gpus,
            "GPUsUsage": 0.5,
            "AssignedGPUs": "GPU-ac3eadb9,GPU-61c34d29",
        }
    return told | (_of_the_ce(job) if job.queue.startswith(GRID_QUEUE) else {})


def _of_the_ce(job: Job) -> dict[str, object]:
    """What a routed job has besides: a token, every third a proxy, too."""
    told: dict[str, object] = {
        "RoutedFromJobId": f"{job.number - 7}.0", "orig_AuthTokenIssuer": ISSUER,
        "orig_AuthTokenSubject": f"7dee38a3-6ab8-4fe2-9e4c-{job.uid:012d}", "RouteName": "Local_Condor", "Routed": True,
    }  # fmt: skip
    if job.number % 3 == 0:
        told |= {
            "x509userproxysubject": job.dn, "x509UserProxyVOName": job.fqans[0].split("/")[1],
            "x509UserProxyFirstFQAN": job.fqans[0], "x509UserProxyFQAN": ",".join([job.dn, *job.fqans]),
        }  # fmt: skip
    return told


def audit(job: Job) -> bytes:
    """Three lines of HTCondor-CE's AuditLog, of one connection."""
    stamp = datetime.fromtimestamp(job.submit_at, UTC).strftime("%m/%d/%y %H:%M:%S")
    who = f"{ISSUER},7dee38a3-6ab8-4fe2-9e4c-{job.uid:012d}" if job.number % 3 else ",".join([job.dn, *job.fqans])
    method = "SCITOKENS" if job.number % 3 else "GSI"
    lines = (
        f"Command=QMGMT_WRITE_CMD, peer=<192.0.2.{job.number % 200}:37869>",
        f"AuthMethod={method}, AuthId={who}, CondorId={job.user}@users.htcondor.org",
        f"Submitting new job {job.number}.{job.index or 0}",
    )
    return "".join(f"{stamp} (cid:{job.number % 99_991}) (D_AUDIT) {line}\n" for line in lines).encode()
