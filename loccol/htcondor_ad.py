"""From the ad of a finished HTCondor job to its record, in whatever form it came (`loccol.htcondor`, `loccol.htcondor_json`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal

from batchacct.classad import Ad, Expression, Value
from batchacct.model import LAST_INSTANT, Record, join_lists
from batchacct.parsing import Outcome, Reject, Skip, Source

REMOVED, COMPLETED, HELD = 3, 4, 5
IN_THE_QUEUE = {
    1: "idle, still in the queue",
    2: "running, still in the queue",
    HELD: "held, still in the queue",
    6: "transferring its output, still in the queue",
    7: "suspended, still in the queue",
}
PARALLEL = 11
NOT_ON_THE_FARM = {
    7: "scheduler universe: it ran on the submit host",
    9: "grid universe: another batch system ran it, and accounts for it",
    12: "local universe: it ran on the submit host",
}
MOST_SECONDS = Decimal(2_000_000_000)
"""Durations from this on are garbage of a broken clock (gratia-probe treats them so)."""

MOST_PLAIN = Decimal("1E300")
"""A real beyond this is none in JSON."""

KIB_PER_MIB = 1024
MEMORY_HOLD, TIME_HOLDS = 34, (46, 47)
"""HoldReasonCode: JobOutOfResources; JobDurationExceeded, JobExecuteExceeded."""

_MEMORY_HINT = re.compile(r"memory|residentsetsize|\brss\b|\boom\b", re.IGNORECASE)
_TIME_HINT = re.compile(
    r"wall[ _-]?(?:clock|time)|run[ _-]?time|time[ _-]?limit|remotewallclocktime|allowed(?:job|execute)duration", re.IGNORECASE
)
_BY_HAND = "via condor_rm"
_TRACKED_ENDS = ("provisioned", "usage", "apelspecs0")
_ACCOUNTS = (
    *("CommittedTime", "CommittedSlotTime", "CumulativeSlotTime", "CumulativeSuspensionTime", "LastRemoteWallClockTime"),
    *("NumJobStarts", "RequestCpus", "RequestMemory", "RequestDisk", "RequestGPUs", "DiskUsage_RAW"),
)
_DEVICE_NAMES = ("MachineAttrGPUs_DeviceName0", "GPUs_DeviceName", "MachineAttrCUDADeviceName0", "CUDADeviceName")


def job_of_ad(ad: Ad, source: Source) -> Outcome:
    """The record of a job that left the queue; others are skipped.  Raises: Reject with the attribute that is wrong, and how."""
    status, universe = ad.integer("JobStatus"), ad.integer("JobUniverse")
    if status is None:
        raise Reject("JobStatus is missing")
    if universe in NOT_ON_THE_FARM:
        return Skip(NOT_ON_THE_FARM[universe])
    if ad.get("RoutedToJobId") is not None:
        return Skip("routed: its copy in the batch system is the job")
    if status in IN_THE_QUEUE:
        return Skip(IN_THE_QUEUE[status])
    if status not in (REMOVED, COMPLETED):
        raise Reject("JobStatus is none that there is")
    number, proc = _natural(ad, "ClusterId"), _natural(ad, "ProcId")
    global_id = ad.text("GlobalJobId")
    if global_id is None:
        raise Reject("GlobalJobId is missing")
    record: Record = {
        "record_key": f"htcondor:{source.cluster}:{global_id}",
        "lrms_job_id": global_id,
        "join_id": join_id(number, proc, None if ad.get("RoutedFromJobId") is None else global_id),
        "user_name": ad.text("Owner"),
        "group_name": _group(ad),
        "project": ad.text("ProjectName"),
        "submit_host": global_id.partition("#")[0].rpartition("@")[2] or None,
        "command": ad.text("Cmd"),
        "job_name": ad.text("JobBatchName"),
    }
    record |= _times(ad)
    started = record["start_at"] is not None
    if started:
        record |= _usage(ad) | _exit(ad, status)
    record |= _allocation(ad, universe, started=started)
    record["state"] = _state(ad, status) if started else "never_started"
    record["resources"] = _resources(ad)
    return record


def join_id(number: int, proc: int, routed_global_id: str | None) -> str:
    """The id by which a computing element knows a job.

    A job that HTCondor-CE routed has its GlobalJobId, as in lrmsID of htcondor-ce-apel's blah file; of any other BLAH knows the
    ClusterId alone, which stands for proc 0, so that the others are `ClusterId.ProcId`.
    """
    if routed_global_id is not None:
        return routed_global_id
    return f"{number}.{proc}" if proc else str(number)


def _natural(ad: Ad, name: str) -> int:
    number = ad.integer(name)
    if number is None or number < 0:
        raise Reject(f"{name} is missing" if number is None else f"{name} is negative")
    return number


def _group(ad: Ad) -> str | None:
    """AcctGroup; else AccountingGroup, `group.user`, up to its last dot."""
    return ad.text("AcctGroup") or (ad.text("AccountingGroup") or "").rpartition(".")[0] or None


def _times(ad: Ad) -> Record:
    """Raises: Reject for a time no log can hold, for an end that is unknown or before the start."""
    submit, start = _instant(ad, "QDate"), _instant(ad, "JobStartDate")
    end = _instant(ad, "CompletionDate") or _instant(ad, "EnteredCurrentStatus")
    if end is None:
        raise Reject("neither CompletionDate nor EnteredCurrentStatus says when it ended")
    if start is not None and start > end:
        raise Reject("the job ended before it started")
    return {"submit_at": submit, "start_at": start, "end_at": end, "logged_at": end}


def _instant(ad: Ad, name: str) -> int | None:
    """Unix seconds; None where it is 0, absent or undefined."""
    number = ad.number(name)
    if number is None:
        return None
    if not 0 <= number <= LAST_INSTANT:
        raise Reject(f"{name} is impossible: before 1970 or after 2099")
    return int(number) or None


def _usage(ad: Ad) -> Record:
    """Wallclock and CPU of all attempts, and peaks of memory."""
    wall = _seconds(ad, "RemoteWallClockTime")
    if wall is None:
        raise Reject("RemoteWallClockTime is missing")
    user, system = _cpu(ad)
    record: Record = {
        "wall_duration_s": half_even(wall),
        "memory_real_kib": _first(ad, ("ResidentSetSize_RAW", "ResidentSetSize"), 0),
        "memory_virtual_kib": _first(ad, ("ImageSize_RAW", "ImageSize"), 0),
        "host_factor": _factor(ad),
    }
    if user is not None and system is not None:
        record |= {"cpu_user_s": float(user), "cpu_system_s": float(system), "cpu_duration_s": half_even(user + system)}
    return record


def _cpu(ad: Ad) -> tuple[Decimal | None, Decimal | None]:
    """User and system CPU time: of all attempts if HTCondor added them up, else of the last one."""
    last = _seconds(ad, "RemoteUserCpu"), _seconds(ad, "RemoteSysCpu")
    added = _seconds(ad, "CumulativeRemoteUserCpu"), _seconds(ad, "CumulativeRemoteSysCpu")
    if any(added) or (added != (None, None) and None in last):
        return added[0] or Decimal(0), added[1] or Decimal(0)
    return last


def _seconds(ad: Ad, name: str) -> Decimal | None:
    number = ad.number(name)
    if number is not None and not 0 <= number < MOST_SECONDS:
        raise Reject(f"{name} is impossible: negative, or 2,000,000,000 s and more")
    return number


def half_even(seconds: Decimal) -> int:
    return int(seconds.to_integral_value(ROUND_HALF_EVEN))


def _factor(ad: Ad) -> float | None:
    factor = ad.number("MachineAttrApelScaling0")
    return float(factor) if factor is not None and factor > 0 else None


def _first(ad: Ad, names: Iterable[str], least: int) -> int | None:
    """The first of the attributes that is a whole number of at least so much."""
    numbers = (ad.integer(name) for name in names)
    return next((number for number in numbers if number is not None and number >= least), None)


def _exit(ad: Ad, status: int) -> Record:
    """Exit code, or signal; of a removed job they are an earlier attempt's, and of ExitSignal the same if it exited by none."""
    by_signal = ad.boolean("ExitBySignal")
    if status == REMOVED or by_signal is None:
        return {}
    name, most = ("ExitSignal", 127) if by_signal else ("ExitCode", 255)
    number = _first(ad, (name,), int(by_signal))
    return {"exit_signal" if by_signal else "exit_code": number if number is not None and number <= most else None}


def _state(ad: Ad, status: int) -> str:
    if status == REMOVED:
        return _why_removed(ad)
    if ad.boolean("ExitBySignal"):
        return "failed"
    code = ad.integer("ExitCode")
    return "unknown" if code is None else "failed" if code else "completed"


def _why_removed(ad: Ad) -> str:
    """A removed job was cancelled, unless HTCondor held it before for its memory or time, or a policy says one of the two."""
    hold = ad.integer("HoldReasonCode") if ad.integer("LastJobStatus") == HELD else None
    if hold == MEMORY_HOLD:
        return "out_of_memory"
    if hold in TIME_HOLDS:
        return "timeout"
    reason = ad.text("RemoveReason") or ""
    hints = bool(_MEMORY_HINT.search(reason)), bool(_TIME_HINT.search(reason))
    if reason.startswith(_BY_HAND) or hints[0] == hints[1]:
        return "cancelled"
    return "out_of_memory" if hints[0] else "timeout"


def _allocation(ad: Ad, universe: int | None, *, started: bool) -> Record:
    """Slots, hosts, GPUs and the memory asked for; in the parallel universe, MaxHosts times those of one node."""
    nodes = (_first(ad, ("MaxHosts",), 1) or 1) if universe == PARALLEL else 1
    memory = _first(ad, ("RequestMemory", "MemoryProvisioned"), 1)
    record: Record = {"memory_requested_kib": None if memory is None else memory * KIB_PER_MIB * nodes}
    if not started:
        return record
    processors = _first(ad, ("CpusProvisioned", "MachineAttrCpus0", "RequestCpus"), 1)
    assigned = [gpu.strip() for gpu in (ad.text("AssignedGPUs") or "").split(",") if gpu.strip()]
    gpus = _first(ad, ("GPUsProvisioned", "RequestGPUs"), 0)
    if gpus is None:
        gpus = len(assigned) or None
    hosts = _hosts(ad, universe)
    return record | {
        "processors": None if processors is None else processors * nodes,
        "node_count": nodes,
        "gpu_count": None if gpus is None else gpus * nodes,
        "gpu_model": _gpu_model(ad, assigned) if gpus else None,
        "exec_hosts": join_lists((hosts.count(h) * (processors or 1), h) for h in dict.fromkeys(hosts)) if hosts else None,
    }


def _hosts(ad: Ad, universe: int | None) -> list[str]:
    """Names of the hosts it ran on last, `slot1_3@host` each; a glidein's has two `@`."""
    slots = ad.text("AllRemoteHosts") if universe == PARALLEL else None
    slots = slots or ad.text("LastRemoteHost") or ad.text("RemoteHost") or ""
    return [host for slot in slots.split(",") if (host := slot.strip().rpartition("@")[2])]


def _gpu_model(ad: Ad, assigned: list[str]) -> str | None:
    """The device name the machine told, or those of the assigned GPUs, each an ad of its own (`GPUs_GPU_c4646e75`)."""
    told = next((name for attribute in _DEVICE_NAMES if (name := ad.text(attribute))), None)
    if told:
        return told
    devices = (ad.get("GPUs_" + gpu.replace("-", "_")) for gpu in assigned)
    names = (device.get("DeviceName") for device in devices if isinstance(device, dict))
    return ",".join(dict.fromkeys(name for name in names if isinstance(name, str))) or None


def _resources(ad: Ad) -> str | None:
    """What was asked for, provisioned, assigned and used, and how the attempts were counted, as the ad names it."""
    tracked = {spelled: ad.get(folded) for folded, spelled in ad.names() if _is_tracked(folded)}
    tracked |= {name: ad.get(name) for name in _ACCOUNTS if name in ad}
    known = {name: _plain(value) for name, value in sorted(tracked.items()) if _is_plain(value)}
    return json.dumps(known, ensure_ascii=False, separators=(",", ":")) if known else None


def _is_tracked(folded: str) -> bool:
    return folded.endswith(_TRACKED_ENDS) or folded.startswith("assigned")


def _is_plain(value: Value) -> bool:
    if isinstance(value, Decimal):
        return abs(value) < MOST_PLAIN
    return value is not None and not isinstance(value, Expression)


def _plain(value: Value) -> object:
    """A value as JSON has it; expressions within lists and ads are left out."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items() if _is_plain(member)}
    if isinstance(value, list):
        return [_plain(member) for member in value if _is_plain(member)]
    return float(value) if isinstance(value, Decimal) else value
