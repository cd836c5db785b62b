"""The rule for Slurm steps that stand apart from their job's row: they add their CPU time and memory to the run they were part of.

A step is of the run (a job may be requeued, each run is a record) that began last before the step did, provided that the step began
no later than a little after that run's end. It adds what it would have added beside its row: see `loccol.slurm_sacct_rows.amended`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from batchacct.model import JOB, Record
from batchacct.parsing import Completed, Completion, Row, Whole
from loccol.slurm_sacct_rows import StepUse, amended

GRACE_S = 2
"""A step begins at most this much after the end of its job (it may end a minute later). More would give the steps of a run that
follows at once, and whose own row is not there yet, to the run before."""

_LEFT_TO_ORIGIN = frozenset(
    {"content_hash", "site", "cluster", "lrms", "native", "source", "source_offset", "parser"}
)  # fmt: skip


def complete(whole: Whole) -> list[Completed]:
    """The records of the runs that have steps among the parts, with what those add."""
    steps: dict[object, list[StepUse]] = {}
    for part in whole.parts:
        if (run := _run_of(part, whole.records)) is not None:
            steps.setdefault(run["record_key"], []).append(_use(part))
    return [Completed(amended(_columns(r), steps[r["record_key"]]), r) for r in whole.records if r["record_key"] in steps]


def _run_of(part: Row, records: Iterable[Row]) -> Row | None:
    """The record of the run a step was part of; None if there is none yet."""
    began = _seconds(part, "start_at")
    lrms_job_id = _usage(part).get("lrms_job_id")
    runs = [r for r in records if r["start_at"] is not None and r["lrms_job_id"] == lrms_job_id]
    holding = [r for r in runs if _seconds(r, "start_at") <= began <= _seconds(r, "end_at") + GRACE_S]
    return max(holding, key=lambda r: (_seconds(r, "start_at"), _seconds(r, "end_at"), str(r["record_key"])), default=None)


def _columns(record: Row) -> Record:
    return {c.name: record[c.name] for c in JOB.columns if c.name not in _LEFT_TO_ORIGIN and record.get(c.name) is not None}


def _usage(part: Row) -> dict[str, object]:
    usage: dict[str, object] = json.loads(str(part["usage"] or "{}"))
    return usage


def _use(part: Row) -> StepUse:
    usage = _usage(part)
    numbers = [usage.get(name) for name in ("cpu_us", "memory_real_kib", "memory_virtual_kib")]
    cpu_us, real_kib, virtual_kib = (number if isinstance(number, int) else None for number in numbers)
    return StepUse(str(usage.get("step", "")), cpu_us, real_kib, virtual_kib)


def _seconds(row: Row, column: str) -> int:
    value = row[column]
    assert isinstance(value, int)
    return value


COMPLETION = Completion("slurm", JOB, complete, amends=True)
