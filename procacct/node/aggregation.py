"""Where a job executes more programs a second than a site wants rows of: equal executions become one row, which adds up to them
exactly.

Equal are those of the same job and step, user, program, command, kind and way of ending. The row has their number (`processes`),
from the first start to the last end, the sums of times, CPU, faults and bytes, and the largest memory. A job is below the rate
again once it executed less for a whole second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from procacct.node.rows import Row

EQUAL = (
    "cluster", "lrms", "lrms_job_id", "array_index", "step_id", "join_id", "job_from", "user_id", "user_name", "group_id",
    "program", "command", "kind", "ended_by", "exit_code", "exit_signal", "core_dumped", "superuser", "signature", "build_id",
    "object_set",
)  # fmt: skip
SUMMED = (
    "elapsed_s", "cpu_user_s", "cpu_system_s", "minor_faults", "major_faults", "read_bytes", "written_bytes", "threads",
    "processes",
)  # fmt: skip
LARGEST = ("memory_real_kib", "memory_virtual_kib", "end_ns", "logged_at")
MOST_SUMS = 4096


class Aggregation:
    """Rows go to `emit`, single ones at once, sums when `flush` is called. `above_per_s`: the rate of a job; 0 for no sums at
    all."""

    def __init__(self, above_per_s: int, emit: Callable[[Row], None]) -> None:
        self.above_per_s, self._emit = above_per_s, emit
        self._rates: dict[tuple[Any, ...], tuple[int, int, bool]] = {}
        self._sums: dict[tuple[Any, ...], Row] = {}
        self.summed = 0

    def add(self, row: Row) -> None:
        """A row of one execution."""
        if not self.above_per_s or not self._is_above(row):
            self._emit(row)
            return
        self.summed += 1
        key = tuple(row.get(name) for name in EQUAL)
        total = self._sums.get(key)
        if total is None:
            if len(self._sums) >= MOST_SUMS:
                self.flush()
            self._sums[key] = _first(row)
        else:
            _add(total, row)

    def _is_above(self, row: Row) -> bool:
        job = (row.get("lrms"), row.get("lrms_job_id"), row.get("array_index"))
        if job[1] is None:
            return False
        second = row["logged_at"]
        at, count, was_above = self._rates.get(job, (second, 0, False))
        if at != second:
            was_above = count > self.above_per_s and second == at + 1
            at, count = second, 0
        count += 1
        self._rates[job] = at, count, was_above
        return was_above or count > self.above_per_s

    @property
    def pending(self) -> dict[str, int]:
        """How many executions wait in each sum, by the key its row will have."""
        return {"sum/" + total["record_key"]: total["processes"] for total in self._sums.values()}

    def flush(self) -> None:
        """All sums become rows."""
        sums, self._sums = self._sums, {}
        for total in sums.values():
            total["record_key"] = "sum/" + total["record_key"]
            self._emit(total)

    def forget_quiet(self, now_s: int) -> None:
        """Jobs that executed nothing for a while are known no more."""
        self._rates = {job: rate for job, rate in self._rates.items() if rate[0] > now_s - 60}


def _first(row: Row) -> Row:
    total = {name: row[name] for name in ("v", "record_key", "host", "boot_id", "pid", "started_at", "start_ns", "seen_by")}
    return total | {name: row[name] for name in (*EQUAL, *SUMMED, *LARGEST) if name in row}


def _add(total: Row, row: Row) -> None:
    for name in SUMMED:
        if name in row:
            total[name] = total.get(name, 0) + row[name]
    for name in LARGEST:
        if name in row:
            total[name] = max(total.get(name, 0), row[name])
    if row["start_ns"] < total["start_ns"]:
        total["start_ns"], total["started_at"] = row["start_ns"], row["started_at"]
    if row["seen_by"] != total["seen_by"]:
        total["seen_by"] = sorted({*total["seen_by"], *row["seen_by"]})
