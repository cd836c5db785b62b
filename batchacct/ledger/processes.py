"""What stories tell of a process that was read from some bytes. Of the programs of a job procacct tells (`batchacct.stories`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from batchacct.clock import shown


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
        events = "events, nobody knows how many," if record.lost_events is None else f"{record.lost_events:,} events"
        yield f"  {events} of {record.host} were lost {span}"
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
