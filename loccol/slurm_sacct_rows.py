"""Rows of sacct to records: a job's row with the rows of its steps to one run, a lone step's row to a part (the careful lane)."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass

from batchacct.model import Record, whole_key
from batchacct.parsing import LINES, Outcome, Part, Reject, Skip, Source
from loccol.slurm_sacct_layout import Layout, SacctRow, header_of, read_row
from loccol.slurm_values import (
    MOST_OF_A_KIND,
    Amount,
    cpu_columns,
    duration_us,
    ended_state,
    energy_j,
    exec_hosts,
    exit_columns,
    gres,
    id_columns,
    instant,
    instants,
    memory_kib,
    node_list,
    peak_kib,
    record_key,
    requested_kib,
    resource_columns,
    resources_text,
    tres,
    tres_number,
    whole_seconds,
)

HEADER = "header"
NOT_ENDED = "a job that has not ended"
STEP_NOT_ENDED = "a step that has not ended"
STEP_NEVER_STARTED = "a step that never started"
CPU_OF_STEPS = "cpu_us_of_steps"
"""In `resources`, where a record's CPU time is a sum over its steps: microseconds by step, so that more steps can join in."""

SLACK_S = 86_400
"""Elapsed beyond End - Start by more than this is damage, and no clock that was set, and no hour lost to a zone."""
NO_ID = 0xFFFFFFFE
"""A uid or gid that is not known."""


@dataclass(frozen=True, slots=True)
class StepUse:
    """What a step adds to its job: CPU time in microseconds, peak memory of its largest task in KiB; None where not known."""

    name: str
    cpu_us: int | None
    real_kib: int | None
    virtual_kib: int | None


def parse_unit(unit: bytes, source: Source, header: Layout | None) -> Outcome:
    """A header, a job's row and those of its steps, or a lone step's row.  Raises: Reject."""
    lines = [unit[start:end] for start, end in LINES.spans(unit)]
    if header_of(lines[0]):
        return Skip(HEADER)
    row = read_row(lines[0], header)
    _require_fields(row.layout)
    if row.is_step:
        return _part(row, source)
    return _job(row, [step_use(read_row(line, header)) for line in lines[1:]], source)


def _require_fields(layout: Layout) -> None:
    if "start" not in layout.index or "end" not in layout.index:
        raise Reject("the list of fields has no Start or no End: add them to sacct's --format")


def step_use(row: SacctRow) -> StepUse:
    """Raises: Reject for a value that is not readable."""
    most = tres(row.text("tresusageinmax"), "TRESUsageInMax")
    user, system = _cpu_us(row)
    both = user + system if user is not None and system is not None else 0
    return StepUse(
        row.step_name,
        both or _total_cpu_us(row),
        _memory_kib(row, "maxrss", "MaxRSS", most.get("mem")),
        _memory_kib(row, "maxvmsize", "MaxVMSize", most.get("vmem")),
    )


def _cpu_us(row: SacctRow) -> tuple[int | None, int | None]:
    return duration_us(row.text("usercpu"), "UserCPU"), duration_us(row.text("systemcpu"), "SystemCPU")


def _total_cpu_us(row: SacctRow) -> int | None:
    """TotalCPU, or the CPU time of TRESUsageInTot, which sites have where TotalCPU is 0; None if neither is above 0."""
    if total := duration_us(row.cpu_text(), "TotalCPU"):
        return total
    cpu = tres(row.text("tresusageintot"), "TRESUsageInTot").get("cpu")
    return (duration_us(cpu, "TRESUsageInTot") or None) if isinstance(cpu, str) else None


def _memory_kib(row: SacctRow, field: str, name: str, otherwise: Amount | None) -> int | None:
    text = row.text(field)
    if not row.has(field) and otherwise is not None:
        return memory_kib(str(otherwise), "TRESUsageInMax") or None
    return memory_kib(text, name) or None


def _job(row: SacctRow, steps: list[StepUse], source: Source) -> Outcome:
    state = ended_state(row.text("state")) if row.has("state") else "unknown"
    if state is None:
        return Skip(NOT_ENDED)
    times = _times(row, source.zone)
    if times is None:
        return Skip(NOT_ENDED)
    end_at = times["end_at"]
    start_at = times["start_at"]
    assert isinstance(end_at, int) and (start_at is None or isinstance(start_at, int))
    record: Record = {
        "record_key": record_key(source.cluster, row.job, row.raw, start_at, end_at),
        **id_columns(row.job),
        "run_number": _run_number(row),
        "user_name": row.text("user") or None,
        "user_id": _number(row, "uid", most=NO_ID - 1),
        "group_name": _unless_no_id(row.text("group")),
        "project": row.text("account") or None,
        "queue": row.text("partition") or None,
        "job_name": row.text("jobname") or None,
        "command": row.text("submitline") or None,
        **times,
        **_allocation(row, started=start_at is not None),
    }
    if start_at is None:
        return record | {"state": "never_started"}
    return amended(record | {"state": state} | _usage(row) | exit_columns(row.text("exitcode")), steps)


def _times(row: SacctRow, zone: dt.tzinfo) -> Record | None:
    """The times of a job and its wallclock; None if it has not ended.  Raises: Reject.

    What follows a RESIZING row has the job's first Start, and an Elapsed from there; its Submit is the time of the resize.
    """
    elapsed = _elapsed_s(row)
    period = _period(row, zone, elapsed)
    if period is None:
        return None
    start, end = period
    if not elapsed and _never_started(row, start_is_end=start == end):
        start = None
    if start is not None and start > end:
        raise Reject("the job ended before it started")
    if start is not None and elapsed is not None and elapsed > end - start + SLACK_S:
        raise Reject("Elapsed is much longer than from Start to End")
    submit = instant(row.text("submit"), zone, "Submit")
    if start is not None and submit is not None and start < submit < end and elapsed == end - start - _suspended_s(row):
        elapsed = max(0, elapsed - (submit - start))
        start = submit
    return {
        "submit_at": submit,
        "eligible_at": instant(row.text("eligible"), zone, "Eligible"),
        "start_at": start,
        "end_at": end,
        "logged_at": end,
        "wall_duration_s": None if start is None else end - start if elapsed is None else elapsed,
    }


def _period(row: SacctRow, zone: dt.tzinfo, elapsed: int | None) -> tuple[int | None, int] | None:
    """Start, if there was one, and end; None if there is no end yet.

    Where a local time can mean two instants, those are taken which fit Elapsed and Suspended best, else the earlier ones.
    """
    ends, starts = instants(row.text("end"), zone, "End"), instants(row.text("start"), zone, "Start")
    if not ends:
        return None
    if not starts:
        return None, ends[0]
    suspended = _suspended_s(row)

    def misfit(period: tuple[int, int]) -> int:
        length = period[1] - period[0]
        return max(0, -length) if elapsed is None else abs(length - elapsed - suspended)

    return min(itertools.product(starts, ends), key=misfit)


def _suspended_s(row: SacctRow) -> int:
    return whole_seconds(duration_us(row.text("suspended"), "Suspended") or 0)


def _elapsed_s(row: SacctRow) -> int | None:
    raw = row.text("elapsedraw")
    if raw:
        if not (raw.isascii() and raw.isdigit() and len(raw) <= 12):
            raise Reject("ElapsedRaw is no whole number of seconds")
        return int(raw)
    elapsed = duration_us(row.text("elapsed"), "Elapsed")
    return None if elapsed is None else whole_seconds(elapsed)


def _never_started(row: SacctRow, *, start_is_end: bool) -> bool:
    """Whether a job without elapsed time got no nodes; older versions show Start = End = the time it was cancelled."""
    if not start_is_end:
        return False
    if row.has("alloctres"):
        return not tres(row.text("alloctres"))
    if row.has("nodelist"):
        return node_list(row.text("nodelist")).count == 0
    return row.text("state").startswith("CANCELLED")


def _allocation(row: SacctRow, *, started: bool) -> Record:
    """What the job had, and what it asked for. Of a job that never started only the latter: its processors are those requested."""
    amounts = tres(row.text("alloctres")) or gres(row.text("allocgres"))
    nodes = node_list(row.text("nodelist"))
    processors = tres_number(amounts, "cpu") or _number(row, "alloccpus", "ncpus", most=MOST_OF_A_KIND)
    node_count = tres_number(amounts, "node") or _number(row, "allocnodes", "nnodes", most=MOST_OF_A_KIND) or nodes.count or None
    asked_cpus = _number(row, "reqcpus", most=MOST_OF_A_KIND) or processors
    asked_nodes = _number(row, "reqnodes", most=MOST_OF_A_KIND) or node_count
    asked_mem = tres(row.text("reqtres"), "ReqTRES").get("mem")
    requested = requested_kib(row.text("reqmem"), asked_cpus, asked_nodes)
    if not row.text("reqmem") and asked_mem is not None:
        requested = memory_kib(str(asked_mem), "ReqTRES", bare="M") or None
    qos = row.text("qos") or None
    if not started:
        return {"memory_requested_kib": requested, "resources": resource_columns({}, qos)["resources"]}
    columns = resource_columns(amounts, qos)
    columns["energy_j"] = energy_j(row.text("consumedenergyraw")) or columns["energy_j"]
    return columns | {
        "memory_requested_kib": requested,
        "processors": processors,
        "node_count": node_count,
        "exec_hosts": exec_hosts(nodes, processors),
    }


def _usage(row: SacctRow) -> Record:
    """What the job's own row says of CPU time and memory (that of its steps, summed up by sacct; up to 17.11 memory as well)."""
    user, system = _cpu_us(row)
    total = None if user is not None and system is not None and user + system else _total_cpu_us(row)
    return {
        **cpu_columns(user, system, total),
        "memory_real_kib": _memory_kib(row, "maxrss", "MaxRSS", None),
        "memory_virtual_kib": _memory_kib(row, "maxvmsize", "MaxVMSize", None),
    }


def _number(row: SacctRow, *fields: str, most: int) -> int | None:
    """A whole number above 0 (a uid may be 0) and up to `most`; None if it is absent or none."""
    text = row.text(*fields)
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        return None
    number = int(text)
    return number if number <= most and (number or fields == ("uid",)) else None


def _run_number(row: SacctRow) -> int | None:
    """Restarts counts the runs before this one."""
    restarts = row.text("restarts")
    return int(restarts) + 1 if restarts.isascii() and restarts.isdigit() and len(restarts) <= 9 else None


def _unless_no_id(group: str) -> str | None:
    return None if group in ("", str(NO_ID), str(NO_ID + 1)) else group


def amended(record: Record, steps: Iterable[StepUse]) -> Record:
    """The record with what its steps add: the largest memory, and the sum of their CPU time where its row had none.

    A step that comes again adds nothing, and neither does the order matter: the larger of two figures for one step counts.
    """
    steps = list(steps)
    record = record | {
        "memory_real_kib": peak_kib([_integer(record, "memory_real_kib"), *(step.real_kib for step in steps)]),
        "memory_virtual_kib": peak_kib([_integer(record, "memory_virtual_kib"), *(step.virtual_kib for step in steps)]),
    }
    resources = json.loads(str(record.get("resources") or "{}"))
    summed: dict[str, int] = resources.get(CPU_OF_STEPS, {})
    if record.get("cpu_duration_s") is not None and not summed:
        return record
    for step in steps:
        if step.cpu_us:
            summed[step.name] = max(step.cpu_us, summed.get(step.name, 0))
    if not summed:
        return record
    columns = cpu_columns(None, None, sum(summed.values()))
    return record | columns | {"resources": resources_text(resources | {CPU_OF_STEPS: summed})}


def _integer(record: Record, column: str) -> int | None:
    value = record.get(column)
    return value if isinstance(value, int) else None


def _part(row: SacctRow, source: Source) -> Outcome:
    """A step whose job's row does not stand before it."""
    use = step_use(row)
    if row.has("state") and ended_state(row.text("state")) is None:
        return Skip(STEP_NOT_ENDED)
    period = _period(row, source.zone, _elapsed_s(row))
    if period is None:
        return Skip(STEP_NOT_ENDED)
    start, end = period
    if start is None:
        return Skip(STEP_NEVER_STARTED)
    if start > end:
        raise Reject("the step ended before it started")
    ids = id_columns(row.job)
    index = row.job.array_index
    usage = {
        "lrms_job_id": ids["lrms_job_id"],
        "step": use.name,
        "cpu_us": use.cpu_us,
        "memory_real_kib": use.real_kib,
        "memory_virtual_kib": use.virtual_kib,
    }
    return Part(
        {
            "record_key": f"{record_key(source.cluster, row.job, row.raw, start, end)}:{use.name}",
            "part_key": whole_key(str(ids["join_id"]), index),
            "join_id": ids["join_id"],
            "array_index": index,
            "kind": "step",
            "start_at": start,
            "end_at": end,
            "logged_at": end,
            "usage": json.dumps({name: value for name, value in usage.items() if value is not None}, separators=(",", ":")),
        }
    )
