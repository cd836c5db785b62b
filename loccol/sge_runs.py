"""What one accounting record of the SGE family says, whichever of the two files it stands in, and what becomes of it.

A serial job's record is a job at once. A job in a parallel environment may have records of tasks beside that of its master, so
that each is a part, from which `loccol.sge_parallel` makes the job. The columns are described on the page of `loccol.sge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from batchacct.model import LAST_INSTANT, Record, join_lists
from batchacct.parsing import Outcome, Part, Reject, Skip
from loccol.sge_category import Limits, as_json, gpus_of, pairs, request_of

LRMS = "SGE"
MASTER, TASK = "master", "task"

RESCHEDULED = frozenset({24, 25})
ENFORCED = frozenset({37, 44})
BY_SIGNAL = frozenset({17, 37, 44, 100})
"""`failed` (sge_status(5)): migrating, rescheduling; a limit enforced by the qmaster, by the execd (UGE); ended by a signal."""

LAST_SIGNAL = 64
DAEMONS = frozenset({"execd", "qmaster"})
"""OCS names these in `deleted_by` where a limit ended the job."""

DEFAULT_ACCOUNT = "sge"
MOST_CPU_S = Decimal(10**12)
"""A CPU time above this (32,000 years) is damage."""

TIMELESS = "never started, and the record holds no time"
TASK_NOT_STARTED = "a task of a parallel job that never started"


@dataclass(frozen=True, slots=True)
class Run:
    """One record. Instants are Unix seconds, 0 where the source has none; text is None where it says NONE or nothing."""

    job_number: int
    task_number: int
    pe_taskid: str | None
    queue: str | None
    host: str | None
    owner: str | None
    group: str | None
    job_name: str | None
    account: str | None
    project: str | None
    granted_pe: str | None
    slots: int
    submit: int
    start: int
    end: int
    failed: int
    exit_status: int
    wallclock: Decimal
    cpu: Decimal
    mem: Decimal
    io: Decimal
    ioops: Decimal | None
    maxvmem_bytes: int
    rss_kib: int
    category: str
    granted: str
    submit_host: str | None
    command: str | None
    deleted_by: str | None

    @property
    def wall_s(self) -> int:
        """ru_wallclock rounded down, unless it is 0 or longer than the job was there (a sum over tasks): then end - start."""
        elapsed = self.end - self.start
        return int(self.wallclock) if 0 < self.wallclock < elapsed + 2 else elapsed


def outcome_of(run: Run, cluster: str | None) -> Outcome:
    """A job, or a part of a parallel one.  Raises: Reject for what is impossible about the record."""
    _check(run)
    if not run.start:
        return _never_started(run, cluster)
    if run.granted_pe is None and run.pe_taskid is None:
        return job_of(run) | {"record_key": run_key(run, cluster)}
    key = run_key(run, cluster)
    return Part(
        {
            "record_key": key if run.pe_taskid is None else f"{key}:{run.pe_taskid}:{run.host or ''}",
            "part_key": f"{run.job_number}.{run.task_number}",
            "kind": MASTER if run.pe_taskid is None else TASK,
            "logged_at": run.end,
            "start_at": run.start,
            "end_at": run.end,
        }
    )


def _check(run: Run) -> None:
    if run.job_number < 1:
        raise Reject("job_number is impossible: SGE numbers jobs from 1")
    if run.task_number < 0 or run.slots < 0:
        raise Reject("task_number or slots is impossible: negative")
    for name, instant in (("submission_time", run.submit), ("start_time", run.start), ("end_time", run.end)):
        if not 0 <= instant <= LAST_INSTANT:
            raise Reject(f"{name} is impossible: before 1970 or after 2099")
    if run.start and not run.end:
        raise Reject("end_time is 0 though the job started")
    if run.start > run.end and run.start:
        raise Reject("the job ended before it started")
    if run.cpu > MOST_CPU_S:
        raise Reject(f"cpu is impossible: more than {MOST_CPU_S} s")


def run_key(run: Run, cluster: str | None) -> str:
    """Everything that makes the run distinct, in whole seconds, so that both files tell of it alike."""
    return f"sge:{cluster or ''}:{run.job_number}:{run.task_number}:{run.submit}:{run.start}:{run.end}"


def _never_started(run: Run, cluster: str | None) -> Outcome:
    """A start that was tried on one host, of which there may have been several; most versions write no time at all."""
    if run.pe_taskid is not None:
        return Skip(TASK_NOT_STARTED)
    known_at = max(run.submit, run.end)
    if not known_at:
        return Skip(TIMELESS)
    request = request_of(run.category).text
    return _who(run) | {
        "record_key": f"{run_key(run, cluster)}:{run.host or ''}",
        "end_at": run.end or None,
        "logged_at": known_at,
        "resources": request and f'{{"request":{request}}}',
        "state": "never_started",
    }


def _who(run: Run) -> Record:
    account = None if run.account == DEFAULT_ACCOUNT else run.account
    return {
        "lrms_job_id": str(run.job_number),
        "array_index": run.task_number or None,
        "join_id": str(run.job_number),
        "user_name": run.owner,
        "group_name": run.group,
        "project": run.project or account,
        "queue": run.queue,
        "submit_host": run.submit_host,
        "submit_at": run.submit or None,
        "job_name": run.job_name,
        "command": run.command,
    }


def job_of(run: Run) -> Record:
    """The columns of a job that ran, from its one record, as if it had one host; `record_key` is the caller's."""
    request = request_of(run.category)
    granted = pairs(run.granted)
    slots = run.slots or 1
    return _who(run) | {
        "exec_hosts": run.host and join_lists([(slots, run.host)]),
        "start_at": run.start,
        "end_at": run.end,
        "logged_at": run.end,
        "wall_duration_s": run.wall_s,
        "cpu_duration_s": int(run.cpu.to_integral_value(ROUND_HALF_EVEN)) if run.cpu >= 0 else None,
        "processors": slots,
        "node_count": 1 if run.host else None,
        "gpu_count": gpus_of(granted) or request.gpus,
        "memory_real_kib": run.rss_kib if run.rss_kib > 0 else None,
        "memory_virtual_kib": run.maxvmem_bytes // 1024 if run.maxvmem_bytes > 0 else None,
        "exit_code": run.exit_status if 0 <= run.exit_status <= 0xFF else None,
        "exit_signal": signal_of(run.failed, run.exit_status),
        "state": _state(run, request.limits, slots),
        "resources": _resources(request.text, as_json(granted), run),
    }


def _state(run: Run, limits: Limits, slots: int) -> str:
    return state_of(
        run.failed,
        run.exit_status,
        run.deleted_by,
        limits,
        slots=slots,
        wall_s=run.wall_s,
        cpu_s=float(run.cpu),
        maxvmem=run.maxvmem_bytes,
    )


def _resources(request: str | None, granted: str | None, run: Run) -> str:
    """The JSON text of `resources`; the numbers stand as the source writes them."""
    named = [("request", request), ("granted", granted)]
    named += [(name, None if number is None else f"{number:f}") for name, number in _usage(run)]
    pairs_of = [f'"{name}":{value}' for name, value in named if value is not None]
    return f"{{{','.join(pairs_of)}}}"


def _usage(run: Run) -> tuple[tuple[str, Decimal | None], ...]:
    return ("mem", run.mem), ("io", run.io), ("ioops", run.ioops)


def signal_of(failed: int, exit_status: int) -> int | None:
    """The signal that ended the job itself, not one of its commands: 128 + n says so only beside such a `failed`."""
    return exit_status - 128 if failed in BY_SIGNAL and 128 < exit_status <= 128 + LAST_SIGNAL else None


def state_of(
    failed: int, exit_status: int, deleted_by: str | None, limits: Limits, *, slots: int, wall_s: int, cpu_s: float, maxvmem: int
) -> str:
    """How a job that ran ended. What a signal was sent for is believed only where the record shows it."""
    if failed in RESCHEDULED:
        return "requeued"
    if failed == exit_status == 0:
        return "completed"
    deleters = {who.strip().partition("@")[0] for who in deleted_by.split(",")} if deleted_by else set()
    if deleters - DAEMONS:
        return "cancelled"
    if failed in BY_SIGNAL or deleters:
        if _is_reached(limits.wall_s, wall_s + 1) or _is_reached(limits.cpu_s, cpu_s / slots):
            return "timeout"
        if _is_reached(limits.memory_bytes, maxvmem / slots):
            return "out_of_memory"
    return "timeout" if failed in ENFORCED or deleters else "failed"


def _is_reached(limit: float | None, measured: float) -> bool:
    return limit is not None and measured >= limit
