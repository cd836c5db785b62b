"""What `batchacct why` tells of the programs of a job, briefly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, func, select

from batchacct.cli.common import figure
from batchacct.ledger.job_ids import JobId
from batchacct.ledger.more_stories import AskedJob
from batchacct.store.spans import Span
from batchacct.store.tables import process
from procacct.asking.coverage import counted
from procacct.asking.programs import Run, Share, libraries_of, runs_of_job, shares_of
from procacct.asking.programs_command import totals

SHOWN = 5


def tell(connection: Connection, asked: AskedJob) -> Iterator[str]:
    """Lines on what ran in a run of a job, or in a job of which no run is recorded; none if no process of it is known."""
    job_id = JobId(asked.join_id, asked.array_index, asked.join_id)
    run = _run(connection, job_id, asked)
    shares = [] if run is None else shares_of(connection, job_id, run)
    if run is None or not shares:
        return
    blanks = "  " if asked.run is not None else ""
    beginning = "" if asked.run is not None else f"processes of job {run.shown_id} on {run.cluster}: "
    executions, cpu_s = sum(one.executions for one in shares), sum(one.cpu_s for one in shares)
    yield f"{blanks}{beginning}{totals(run, executions, cpu_s)}"
    by_path = sorted(_by_path(shares).items(), key=lambda one: (-one[1][1], -one[1][0], one[0]))
    for path, (times, seconds) in by_path[:SHOWN]:
        yield f"{blanks}  {path}: {counted(times, 'execution')}, {figure(seconds)} s of CPU"
    if len(by_path) > SHOWN:
        yield f"{blanks}  and {counted(len(by_path) - SHOWN, 'other program')}: see `batchacct procs programs {run.shown_id}`"
    libraries = libraries_of(connection, {one.object_set for one in shares if one.object_set is not None})
    if libraries:
        yield f"{blanks}  {counted(len({path for paths in libraries.values() for path in paths}), 'shared object')} loaded"
    yield from (f"{blanks}  {line}" for line in _lost(connection, shares))


def _run(connection: Connection, job_id: JobId, asked: AskedJob) -> Run | None:
    """The run that is told of; without any the processes that are of none."""
    number = None if asked.run is None else asked.run.id
    cluster = None if asked.run is None else asked.run.cluster
    return next((one for one in runs_of_job(connection, job_id, cluster) if one.number == number), None)


def _by_path(shares: Sequence[Share]) -> dict[str, tuple[int, float]]:
    found: dict[str, tuple[int, float]] = {}
    for one in shares:
        executions, cpu_s = found.get(one.program, (0, 0.0))
        found[one.program] = executions + one.executions, cpu_s + one.cpu_s
    return found


def _lost(connection: Connection, shares: Sequence[Share]) -> Iterator[str]:
    """What was lost on the hosts of the programs while they ran."""
    first, last = min(one.first_at for one in shares), max(one.last_at for one in shares)
    hosts = sorted({one.host for one in shares})
    for begin in range(0, len(hosts), 500):
        of_time = (process.c.kind == "gap", process.c.superseded_by.is_(None), process.c.started_at <= last)
        of_hosts = process.c.host.in_(hosts[begin : begin + 500])
        asked = select(process.c.host, func.sum(process.c.lost_events)).where(
            *of_time, of_hosts, Span(first, None).has(process.c.logged_at)
        )
        for host, events in connection.execute(asked.group_by(process.c.host).order_by(process.c.host)):
            many = "events" if events is None else counted(int(events), "event")
            yield f"{many} lost on {host} meanwhile: programs may be missing"
