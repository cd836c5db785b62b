"""The rows of a node: what ran and what was lost, as the spool has them. Columns are those of the record type `process`; absent
is left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from procacct.node.batch_jobs import PARENT, BatchJob, mpi_of
from procacct.node.bounds import fit
from procacct.node.clocks import SECOND_NS
from procacct.node.proc_files import TICK_NS
from procacct.node.processes import CONNECTOR, SEEN_BY, SENSOR, TASKSTATS, Ended, Process
from procacct.node.taskstats import Usage
from procacct.node.told import BLOCK_BYTES, Told
from procacct.program_files import Marks

Row = dict[str, Any]

VERSION = 1
CORE_DUMPED = 0x80
COMM_BYTES = 15
CPUS = os.cpu_count() or 1


class Rows:
    """Makes rows for one host and boot."""

    def __init__(self, host: str, boot_id: str, user_name: Callable[[int], str | None], cluster: str | None = None) -> None:
        self.host, self.boot_id = host, boot_id
        self._user_name = user_name
        self._cluster = cluster
        self._gaps = 0
        self.left_out = 0
        """Fields that no database could keep."""

    def key(self, process: Process) -> str:
        return f"{self.host}/{self.boot_id}/{process.pid}/{process.fork_ns}/{process.n}"

    def numbers_in(self, key: str) -> tuple[int, int, int] | None:
        """Pid, time of the fork (Unix ns) and number of the program in a key of this host and boot; None for another one."""
        numbers = key.removeprefix(f"{self.host}/{self.boot_id}/").split("/")
        if len(numbers) != 3 or not all(one.isdecimal() for one in numbers):
            return None
        return int(numbers[0]), int(numbers[1]), int(numbers[2])

    def process(self, process: Process, ended: Ended, at_mono: int) -> Row:
        """The program that a process ran until `at_mono` (CLOCK_MONOTONIC): its time is right also where the clock was set."""
        row: Row = {"v": VERSION, "record_key": self.key(process)}
        if self._cluster is not None:
            row["cluster"] = self._cluster
        _add_job(row, process)
        row |= {"host": self.host, "boot_id": self.boot_id, "pid": process.pid}
        user_id = process.user_id
        name = None if user_id is None else self._user_name(user_id)
        end_ns = ended.at_ns
        command = process.command or (process.program.rpartition("/")[2][:COMM_BYTES] if process.program else None)
        optional = {
            "parent_pid": process.parent_pid,
            "user_id": user_id,
            "user_name": name,
            "group_id": process.group_id,
            "program": process.program,
            "command": command,
            "arguments": process.arguments,
            "terminal": process.terminal,
        }
        row |= {name: value for name, value in optional.items() if value is not None}
        row["kind"] = "program" if process.executed else "fork"
        row["started_at"], row["start_ns"] = process.start_ns // SECOND_NS, process.start_ns
        if end_ns is not None:
            row["end_ns"] = end_ns = max(end_ns, process.start_ns)
            row["elapsed_s"] = max(at_mono - process.start_mono, 0) / SECOND_NS
        row["logged_at"] = max(ended.found_ns if end_ns is None else end_ns, process.start_ns) // SECOND_NS
        row["ended_by"] = ended.by
        if ended.status is not None:
            add_status(row, ended.status)
        if process.told is not None:
            _add_told(row, process.told, process.told_end)
        _add_marks(row, process.marks)
        if ended.is_last:
            _add_usage(row, process, at_mono)
        row["threads"] = process.threads
        row["processes"] = process.weight
        row["seen_by"] = SEEN_BY[process.seen or CONNECTOR]
        self.left_out += fit(row)
        return row

    def gap(self, reason: str, seen_by: list[str], from_ns: int, until_ns: int, lost: int) -> Row:
        """That something is missing between two times: so many of what the sources tell, at least."""
        self._gaps += 1
        row: Row = {
            "v": VERSION,
            "record_key": f"gap/{self.host}/{self.boot_id}/{until_ns}/{self._gaps}",
            "host": self.host,
            "boot_id": self.boot_id,
            "pid": 0,
            "kind": "gap",
            "command": reason,
            "started_at": from_ns // SECOND_NS,
            "start_ns": from_ns,
            "end_ns": until_ns,
            "logged_at": until_ns // SECOND_NS,
            "elapsed_s": (until_ns - from_ns) / SECOND_NS,
            "ended_by": "unknown",
            "processes": 0,
            "lost_events": lost,
            "seen_by": seen_by,
        }
        return row


def add_status(row: Row, status: int) -> None:
    """Exit code, or signal and core, out of a wait status (wait(2)): the signal in bits 0-6, the core in bit 7, the code in
    8-15."""
    signal = status & 0x7F
    if signal:
        row["ended_by"] = "signal"
        row["exit_signal"] = signal
        row["core_dumped"] = int(bool(status & CORE_DUMPED))
    else:
        row["exit_code"] = (status >> 8) & 0xFF


def job_columns(job: BatchJob) -> Row:
    columns = {
        "lrms": job.lrms,
        "lrms_job_id": job.lrms_job_id,
        "array_index": job.array_index,
        "step_id": job.step_id,
        "join_id": job.join_id,
    }
    return {name: value for name, value in columns.items() if value is not None}


def _add_job(row: Row, process: Process) -> None:
    found = process.belonging.resolved()
    if found.job is None:
        return
    row |= job_columns(found.job)
    row["job_from"] = found.job_from if process.owns_job else PARENT
    if found.claims and process.owns_job:
        row["job_claims"] = dict(found.claims)


def _add_told(row: Row, told: Told, end: Told | None) -> None:
    for name, value in told.columns.items():
        if name not in row or name == "arguments":
            row[name] = value
    if end is not None and (objects := end.columns.get("object_set")) is not None:
        row["object_set"] = objects
    rank, size = mpi_of(told.variables)
    if rank is not None:
        row["mpi_rank"] = rank
    if size is not None:
        row["mpi_size"] = size


def _add_marks(row: Row, marks: Marks) -> None:
    """Those of the program's file, where no sensor told them."""
    if marks.build_id is not None:
        row.setdefault("build_id", marks.build_id)
    if marks.signature is not None:
        row.setdefault("signature", marks.signature)


def _add_usage(row: Row, process: Process, at_mono: int) -> None:
    """By taskstats; else by the sensor's last word, which misses what came after it, and is believed as far as the CPUs of this
    host can have worked since the process was forked."""
    usage, end = process.usage, process.told_end
    if usage is not None and process.seen & TASKSTATS:
        row |= usage_columns(usage)
    elif end is not None and end.rusage is not None and process.seen & SENSOR:
        user_us, system_us, resident_kib, minor, major, in_blocks, out_blocks = end.rusage[:7]
        lived_us = max(at_mono - (process.fork_mono or process.start_mono) + TICK_NS, 0) // 1000
        user_us = min(user_us, lived_us * CPUS)
        system_us = min(system_us, lived_us * CPUS - user_us)
        row |= {
            "cpu_user_s": user_us / 1e6,
            "cpu_system_s": system_us / 1e6,
            "memory_real_kib": resident_kib,
            "minor_faults": minor,
            "major_faults": major,
            "read_bytes": in_blocks * BLOCK_BYTES,
            "written_bytes": out_blocks * BLOCK_BYTES,
        }


def usage_columns(usage: Usage) -> Row:
    columns: Row = {
        "cpu_user_s": usage.user_ns / SECOND_NS,
        "cpu_system_s": usage.system_ns / SECOND_NS,
        "minor_faults": usage.minor_faults,
        "major_faults": usage.major_faults,
        "read_bytes": usage.read_bytes,
        "written_bytes": usage.written_bytes,
        "superuser": int(usage.superuser),
    }
    if usage.resident_kib:
        columns["memory_real_kib"] = usage.resident_kib
    if usage.virtual_kib:
        columns["memory_virtual_kib"] = usage.virtual_kib
    return columns
