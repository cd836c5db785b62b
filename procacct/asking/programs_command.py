"""`batchacct procs programs`: the tree of what ran in one job."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import asdict

import click

from batchacct.cli.common import config_option, figure, open_store
from batchacct.clock import shown
from batchacct.config import Config
from batchacct.errors import IncompleteError
from batchacct.ledger.archived import with_archived
from batchacct.ledger.job_ids import JobId
from procacct.asking.coverage import counted
from procacct.asking.options import format_option
from procacct.asking.printing import Answer, Values, show
from procacct.asking.programs import EXEC, Program, Run, chosen_runs, programs_of, runs_of_job

COLUMNS = ("program", "executions", "pid", "host", "started", "elapsed s", "CPU s", "ended")


@click.command("programs")
@click.argument("job_id")
@click.option("--run", "wanted", type=click.IntRange(min=1), help="Only this run of it, counted from 1.  [default: all]")
@click.option("--cluster", help="The job of this cluster.  [default: of any]")
@click.option("--libraries", is_flag=True, help="With the shared objects that each had loaded.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="So many programs of a run at most.")
@format_option
@config_option
def programs_command(
    config: Config, *, job_id: str, wanted: int | None, cluster: str | None, libraries: bool, limit: int, form: str
) -> None:
    """Shows what ran in a job, as a tree.

    JOB_ID is `1234`, or `1234[5]` for an array element. Below a program are those that its process started; `=>` is what the same
    process went on to, by exec; `x 50` are so many equal executions that the node has added up. CPU stands with the last program of
    a process.
    """
    typed = JobId.of(job_id)
    with open_store(config) as store, with_archived(store, lambda wanted: wanted.of_job(typed)) as (connection, _):
        runs = runs_of_job(connection, typed, cluster)
        if not runs:
            raise IncompleteError(f"no run of job {job_id} is recorded, and no process of it: see `batchacct why {job_id}`")
        found = [(run, programs_of(connection, typed, run, libraries=libraries)) for run in chosen_runs(runs, wanted)]
    if form == "table":
        for run, programs in found:
            show(_table(run, programs, limit, libraries=libraries), form)
        return
    show(_values(found), form)


def _table(run: Run, programs: Sequence[Program], limit: int, *, libraries: bool) -> Answer:
    rows: list[tuple[str | int | float | None, ...]] = []
    for one in programs[:limit]:
        rows.append(for_people(one))
        if libraries:
            rows += [(f"{'  ' * one.depth}    {path}", *([None] * (len(COLUMNS) - 1))) for path in one.libraries]
    notes = [_totals(run, programs)]
    if len(programs) > limit:
        notes.insert(0, f"{counted(len(programs) - limit, 'more program')}: --limit shows more.")
    return Answer(title(run), COLUMNS, rows, [], notes)


def title(run: Run) -> str:
    """`Job 1234 on c1, user alice, 2026-11-01 00:00:00Z to 2026-11-01 01:00:00Z`."""
    when = "of no recorded run" if run.number is None else f"{shown(run.start_at)} to {shown(run.end_at)}"
    return f"Job {run.shown_id} on {run.cluster}, user {run.user_name or '-'}, {when}"


def totals(run: Run, executions: int, seen: float) -> str:
    """One sentence: how many executions, their CPU seconds, and how much that is of the batch system's own figure."""
    if not executions:
        return "No process of it is known: nobody looked where it ran."
    of = ""
    if run.cpu_duration_s:
        of = f", {seen / run.cpu_duration_s:.0%} of the {run.cpu_duration_s:,} s that the batch system measured"
    return f"{counted(executions, 'execution')}, {figure(seen)} s of CPU{of}."


def _totals(run: Run, programs: Sequence[Program]) -> str:
    return totals(run, sum(one.executions for one in programs), sum(one.cpu_s or 0.0 for one in programs))


def for_people(one: Program) -> tuple[str | int | float | None, ...]:
    """A program under `COLUMNS`, as far to the right as it is deep."""
    mark = "=> " if one.by == EXEC else ""
    many = f" x {one.executions:,}" if one.executions > 1 else ""
    fork = " (fork)" if one.kind == "fork" else ""
    name = f"{'  ' * one.depth}{mark}{one.program}{fork}{many}"
    return name, one.executions, str(one.pid), one.host, shown(one.started_at), one.elapsed_s, one.cpu_s, ended(one)


def ended(one: Program) -> str:
    """`exit 1`, `SIGSEGV (core)`, `exec`, `unknown`."""
    if one.exit_signal is not None:
        return f"{_signal_name(one.exit_signal)}{' (core)' if one.core_dumped else ''}"
    return one.ended_by if one.exit_code is None else f"exit {one.exit_code}"


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _values(found: Sequence[tuple[Run, Sequence[Program]]]) -> Answer:
    rows: list[Values] = []
    for number, (run, programs) in enumerate(found, 1):
        of_run: Values = {"run": number, "run_start_at": shown(run.start_at), "cluster": run.cluster, "job": run.shown_id}
        rows += [{**of_run, **asdict(one)} for one in programs]
    notes = [f"{title(run)}: {_totals(run, programs)}" for run, programs in found]
    return Answer("", (), [], rows, notes)
