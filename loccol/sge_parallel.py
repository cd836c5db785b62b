"""Jobs in parallel environments: the record of the master, and those of the tasks that it started on other hosts.

With `control_slaves TRUE` and `accounting_summary FALSE` (sge_pe(5)) each `qrsh -inherit` makes a record of its own, whose usage
is not in the master's; all of them bear the slots of the whole job. They come before or after the master's, and in other files. A
job that was rescheduled has a master for each attempt.

    which job            the master (of the same job and array task) whose interval holds the task's start, CLOCK_SKEW_S allowed,
                         since only a running master starts tasks; of two that do, the nearer, then the one that started later
    wall, slots, times   the master's;  cpu, mem, io, ioops: the sum
    memory               the sum of the peaks, as with accounting_summary TRUE, where the execd has added them up already
    hosts, node_count    the distinct ones of all records; of a single record with several slots only the master's host is known,
                         so that node_count is null. Slots by host are not in the log: then exec_hosts are names without `n*`

A task without a master is no job yet: it waits.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import cast

from batchacct.model import JOB, Record, join_lists
from batchacct.parsing import Completed, Completion, Row, Whole
from loccol.sge_colon import run_of_line
from loccol.sge_json_lines import run_of_json
from loccol.sge_runs import MASTER, Run, job_of

CLOCK_SKEW_S = 60
"""How far the clocks of two execution hosts may differ."""


def complete(whole: Whole) -> list[Completed]:
    """One job for each master; its columns follow from the records of the two files themselves."""
    parts = _told_once(whole.parts)
    masters = [part for part in parts if part["kind"] == MASTER]
    tasks: dict[object, list[Row]] = {master["record_key"]: [] for master in masters}
    for part in parts:
        if part["kind"] != MASTER and (master := _master_of(part, masters)):
            tasks[master["record_key"]].append(part)
    return [Completed(_job(master, tasks[master["record_key"]]), master) for master in masters]


def _told_once(parts: Iterable[Row]) -> list[Row]:
    """The parts in the order of their keys, which differ; of two files that tell of the same the JSON one, which is finer."""
    by_key: dict[str, Row] = {}
    for part in sorted(parts, key=lambda part: (_is_json(part), cast("int", part["content_hash"]))):
        by_key[str(part["record_key"])] = part
    return [by_key[key] for key in sorted(by_key)]


def _is_json(part: Row) -> bool:
    return _native(part).startswith(b"{")


def _native(part: Row) -> bytes:
    return bytes(cast("bytes", part["native"]))


def _master_of(task: Row, masters: Iterable[Row]) -> Row | None:
    start = cast("int", task["start_at"])
    near = []
    for master in masters:
        began, ended = cast("int", master["start_at"]), cast("int", master["end_at"])
        distance = max(began - start, start - ended, 0)
        if distance <= CLOCK_SKEW_S:
            near.append((distance, -began, -ended, str(master["record_key"]), master))
    return min(near, key=lambda found: found[:-1])[-1] if near else None


def _job(master: Row, tasks: list[Row]) -> Record:
    of_master = _run(master)
    of_tasks = sorted((_run(task) for task in tasks), key=lambda run: (run.start, run.pe_taskid or "", run.host or ""))
    runs = [of_master, *of_tasks]
    record = job_of(_summed(runs)) | {"record_key": master["record_key"]}
    hosts = list(dict.fromkeys(run.host for run in runs if run.host))
    if len(runs) == 1 and of_master.slots > 1:
        return record | {"exec_hosts": _names(hosts), "node_count": None}
    if len(hosts) == 1:
        return record | {"exec_hosts": join_lists([(of_master.slots or 1, hosts[0])]), "node_count": 1}
    return record | {"exec_hosts": _names(hosts), "node_count": len(hosts) or None}


def _run(part: Row) -> Run:
    native = _native(part)
    return run_of_json(native) if native.startswith(b"{") else run_of_line(native)


def _summed(runs: list[Run]) -> Run:
    """The master's record, with the usage of all."""
    ioops = [run.ioops for run in runs if run.ioops is not None]
    return dataclasses.replace(
        runs[0],
        cpu=_sum(run.cpu for run in runs),
        mem=_sum(run.mem for run in runs),
        io=_sum(run.io for run in runs),
        ioops=_sum(ioops) if ioops else None,
        maxvmem_bytes=sum(max(run.maxvmem_bytes, 0) for run in runs),
        rss_kib=sum(max(run.rss_kib, 0) for run in runs),
        slots=max(run.slots for run in runs),
    )


def _sum(numbers: Iterable[Decimal]) -> Decimal:
    return sum(numbers, start=Decimal(0))


def _names(hosts: list[str]) -> str | None:
    return json.dumps(hosts, ensure_ascii=False, separators=(",", ":")) if hosts else None


COMPLETION = Completion("sge", JOB, complete)
