"""How much of the truth the rows of processes are: against the batch system's own figures, and by what is known to be lost.

The batch system's CPU time of a job is of all its processes on all its hosts. So of the jobs that ended in a period the processes'
CPU time should come to all of it; what is missing ran where nobody looked, or was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from batchacct.cli.common import figure
from batchacct.store.spans import LATE, Span
from batchacct.store.tables import job, process
from procacct.asking.asked import CPU, CPU_UNKNOWN, Asked
from procacct.asking.one_source import hosts_of_several
from procacct.asking.runs import SLACK_S, Runs, is_of_run, where_runs_are

HOSTS_NAMED = 4


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of the jobs that ended in a period: how many, how many without any process, and CPU seconds by either side.

    `cpu_s` and `seen_cpu_s` are of the jobs whose CPU time the batch system told; `unknown_cpu_jobs` are the others.
    """

    jobs: int
    jobs_without_processes: int
    unknown_cpu_jobs: int
    cpu_s: int
    seen_cpu_s: float

    @property
    def fraction(self) -> float | None:
        """Seen CPU over the batch system's; None where that is nothing."""
        return self.seen_cpu_s / self.cpu_s if self.cpu_s else None


@dataclass(frozen=True, slots=True)
class Whole:
    """All the processes asked about: executions, CPU seconds, and of which executions what is not known."""

    executions: int
    cpu_s: float
    cpu_unknown_executions: int
    executions_without_record: int
    executions_outside_jobs: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Events lost in times that overlap the period, and on which hosts; `at_least`: of some losses nobody knows how many."""

    events: int
    at_least: bool
    hosts: tuple[str, ...]


def coverage(connection: Connection, asked: Asked) -> Coverage:
    """Of the jobs that ended in the period, of the VOs, cluster and user asked about."""
    period = where_runs_are(connection, asked.begin, asked.end)
    run = Runs(asked.begin, asked.end, period).shared_out()
    ended = [run.c.end_at >= asked.begin, run.c.end_at < asked.end]
    ended += [] if asked.cluster is None else [run.c.cluster == asked.cluster]
    ended += [] if asked.user is None else [run.c.user_name == asked.user]
    ended += [run.c.vo.in_(asked.vo)] if asked.vo else []
    of_period = (period.logged.has(job.c.logged_at), job.c.end_at >= asked.begin, job.c.end_at < asked.end)
    first = connection.scalar(select(func.min(job.c.start_at)).where(*of_period))
    if first is None:
        return Coverage(0, 0, 0, 0, 0.0)
    logged = Span(first - SLACK_S, asked.end + LATE)
    one = (
        select(run.c.run_id, func.max(run.c.cpu_duration_s).label("cpu_s"), func.sum(CPU).label("seen_cpu_s"))
        .add_columns(func.count(process.c.id).label("rows"))
        .select_from(run.outerjoin(process, and_(is_of_run(run), *_any_user(asked).processes(logged))))
        .where(*ended)
        .group_by(run.c.run_id)
        .subquery()
    )
    known = one.c.cpu_s.is_not(None)
    sums = (
        func.count(),
        func.sum(case((one.c.rows == 0, 1), else_=0)),
        func.sum(case((known, 0), else_=1)),
        func.sum(one.c.cpu_s),
        func.sum(case((known, one.c.seen_cpu_s), else_=0)),
    )
    jobs, without, unknown, cpu_s, seen_s = connection.execute(select(*sums).select_from(one)).one()
    return Coverage(int(jobs), int(without or 0), int(unknown or 0), int(cpu_s or 0), float(seen_s or 0))


def _any_user(asked: Asked) -> Asked:
    """Without the user: what others' processes did in a job counts to its CPU as well."""
    return Asked(asked.begin, asked.end, cluster=asked.cluster)


def whole(connection: Connection, asked: Asked, runs: Runs) -> Whole:
    """All there is of what is asked about, in one row; `runs` are those of the processes."""
    run = runs.shared_out()
    no_run = run.c.run_id.is_(None)
    one = (
        select(
            process.c.processes.label("executions"),
            CPU.label("cpu_s"),
            CPU_UNKNOWN.label("cpu_unknown"),
            case((and_(no_run, process.c.join_id.is_not(None)), process.c.processes), else_=0).label("without_record"),
            case((process.c.join_id.is_(None), process.c.processes), else_=0).label("outside"),
        )
        .select_from(process.outerjoin(run, is_of_run(run)))
        .where(*asked.processes(), *asked.of_vo(run))
        .subquery()
    )
    found: Any = connection.execute(select(*(func.coalesce(func.sum(column), 0) for column in one.c))).one()
    return Whole(int(found[0]), float(found[1]), int(found[2]), int(found[3]), int(found[4]))


def lost(connection: Connection, asked: Asked) -> Lost:
    """What was lost in the period; whose processes those were nobody knows."""
    of_period = (
        process.c.superseded_by.is_(None),
        process.c.kind == "gap",
        Span(asked.begin, None).has(process.c.logged_at),
        process.c.started_at < asked.end,
    )
    unknown = func.sum(case((process.c.lost_events.is_(None), 1), else_=0))
    columns = (process.c.host, func.coalesce(func.sum(process.c.lost_events), 0), unknown)
    hosts = connection.execute(select(*columns).where(*of_period).group_by(process.c.host).order_by(process.c.host)).all()
    return Lost(sum(int(row[1]) for row in hosts), any(int(row[2]) for row in hosts), tuple(row[0] for row in hosts))


def notes(connection: Connection, asked: Asked, runs: Runs) -> list[str]:
    """Whole sentences: how it was counted, and everything that is not in the figures."""
    all_of_it, seen, gaps = whole(connection, asked, runs), coverage(connection, asked), lost(connection, asked)
    found = ["Processes that ended in the period count as a whole; CPU time as the kernel measured it."]
    found += _coverage_notes(seen)
    if gaps.hosts:
        found.append(f"{_lost_text(gaps)} in this time: processes are missing, and the figures of these hosts are too low.")
    if all_of_it.executions_without_record:
        found.append(
            f"{counted(all_of_it.executions_without_record, 'execution')} in jobs of which the batch system has told nothing yet: "
            "they run, or their log was not read."
        )
    if all_of_it.executions_outside_jobs:
        found.append(f"{counted(all_of_it.executions_outside_jobs, 'execution')} in no batch job.")
    if all_of_it.cpu_unknown_executions:
        found.append(f"{counted(all_of_it.cpu_unknown_executions, 'execution')} of unknown CPU time: not in the CPU hours.")
    if several := hosts_of_several(connection, asked.logged):
        found.append(
            f"Of {_hosts_text(several)} several sources tell: of each day (UTC) the rows of the node daemon count, "
            "else those of BSD accounting, else the others."
        )
    return found


def _coverage_notes(seen: Coverage) -> list[str]:
    if not seen.jobs:
        return ["No job of these ended in this time: there is no figure of the batch system to compare with."]
    fraction = seen.fraction
    percent = "nothing to compare with" if fraction is None else f"{fraction:.0%} is in processes seen"
    found = [f"Of {figure(seen.cpu_s / 3600)} CPU h of the {counted(seen.jobs, 'job')} that ended in this time {percent}."]
    if seen.jobs_without_processes:
        found.append(f"{counted(seen.jobs_without_processes, 'job')} of these without any process: nobody looked where they ran.")
    if seen.unknown_cpu_jobs:
        found.append(f"{counted(seen.unknown_cpu_jobs, 'job')} of these of unknown CPU time: not in the comparison.")
    return found


def _lost_text(gaps: Lost) -> str:
    on = f"lost on {_hosts_text(gaps.hosts)}"
    if not gaps.events:
        return f"Nobody knows how many events were {on}"
    return f"{'At least ' if gaps.at_least else ''}{counted(gaps.events, 'event')} {on}"


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _hosts_text(hosts: Sequence[str]) -> str:
    named = ", ".join(hosts[:HOSTS_NAMED])
    return named if len(hosts) <= HOSTS_NAMED else f"{named} and {len(hosts) - HOSTS_NAMED} more hosts"
