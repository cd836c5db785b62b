"""What stories tell of processes: one that was read from some bytes, and the programs of a job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from batchacct.clock import shown
from batchacct.store.tables import process

PROGRAMS_SHOWN = 10
DAY = 86_400
"""A program of a job ends, and begins, no further than this outside of it: clocks differ, and daemons are left behind."""


def told(record_type: str, record: Row[Any]) -> Iterator[str]:
    """A record of a process, of a loaded object, or of a member of a group."""
    if record_type == "object":
        yield f"  object {record.path} of set {record.object_set}, seen on {record.host} at {shown(record.seen_at)}"
        return
    if record_type == "process_group":
        yield f"  process {record.pid} on {record.host} was in group {record.group_id} until {shown(record.left_at)}"
        return
    if record.kind == "gap":
        span = f"between {shown(record.started_at)} and {shown(record.logged_at)}"
        yield f"  {record.lost_events:,} events of {record.host} were lost {span}"
        return
    of_job = f" of job {record.lrms_job_id}" if record.lrms_job_id else ""
    what = record.program or record.command or "a program of unknown name"
    yield f"  process {record.pid} on {record.host}{of_job}: {what}, user {record.user_name or record.user_id or '-'}"
    many = f", {record.processes:,} executions together" if record.processes > 1 else ""
    yield f"    started {shown(record.started_at)}, ended {shown(record.logged_at)} ({_end(record)}){many}"


def _end(record: Row[Any]) -> str:
    if record.ended_by == "signal":
        return f"signal {record.exit_signal}{', core dumped' if record.core_dumped else ''}"
    return f"exit {record.exit_code}" if record.ended_by == "exit" and record.exit_code is not None else str(record.ended_by)


def of_run(connection: Connection, run: Row[Any]) -> Iterator[str]:
    """The programs of a run of a job, those with most CPU first; nothing where none is known."""
    begin = run.start_at or run.submit_at or run.logged_at
    p = process.c
    mine = and_(
        p.join_id == run.join_id,
        p.cluster == run.cluster,
        p.logged_at.between(begin - DAY, run.logged_at + DAY),
        p.superseded_by.is_(None),
        p.kind != "gap",
        *([p.array_index == run.array_index] if run.array_index is not None else []),
    )
    cpu_s = func.sum(func.coalesce(p.cpu_user_s, 0.0) + func.coalesce(p.cpu_system_s, 0.0))
    executions, hosts, total_s = connection.execute(
        select(func.sum(p.processes), func.count(p.host.distinct()), cpu_s).where(mine)
    ).one()
    if not executions:
        return
    yield f"  programs: {int(executions):,} executions on {hosts:,} hosts, CPU {total_s:,.1f} s"
    name = func.coalesce(p.program, p.command, "?")
    by_program = select(name, func.sum(p.processes), cpu_s).where(mine).group_by(name).order_by(cpu_s.desc(), name)
    for program, times, seconds in connection.execute(by_program.limit(PROGRAMS_SHOWN)):
        yield f"    {program}: {int(times):,} executions, CPU {seconds:,.1f} s"
