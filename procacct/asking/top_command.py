"""`batchacct procs top`: what ran most."""

from __future__ import annotations

from dataclasses import asdict

import click
from sqlalchemy import Connection

from batchacct.cli.common import config_option, figure, open_store
from batchacct.clock import shown
from batchacct.config import Config
from procacct.asking.applications import Applications
from procacct.asking.asked import Asked
from procacct.asking.coverage import counted, notes
from procacct.asking.options import format_option, period_options
from procacct.asking.places import answered
from procacct.asking.printing import Answer, hours, show
from procacct.asking.runs import runs_of_processes
from procacct.asking.top import BY, OVERLAPPING, top
from procacct.asking.top_rows import SORTS, TopRow, ordered

COLUMNS = ("executions", "jobs", "users", "CPU h", "elapsed h")


@click.command("top")
@click.option(
    "--by", type=click.Choice(BY), metavar="WHAT", default="program", show_default=True, help=f"What to sum by: {', '.join(BY)}."
)
@period_options
@click.option("--sort", type=click.Choice(SORTS), default="cpu", show_default=True, help="The most of what comes first.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="So many rows at most.")
@format_option
@config_option
def top_command(
    config: Config,
    *,
    by: str,
    begin: str | None,
    end: str | None,
    vo: tuple[str, ...],
    cluster: str | None,
    user: str | None,
    sort: str,
    limit: int,
    form: str,
) -> None:
    """Sums what ran inside the jobs.

    By program, application, library, user and so on.

    A process counts as a whole when it ended. VO and job are those of the run that it started in; by libraries, modules and groups
    rows overlap, and do not add up. Applications are those of [[application]], else the names of the programs' files. A DATE is
    2026-11-01, 2026-11, Unix seconds, or -30d, -2w (before today); in UTC.
    """

    def question(connection: Connection, asked: Asked) -> tuple[list[TopRow], list[str]]:
        runs = runs_of_processes(connection, asked.logged)
        rows = ordered(top(connection, asked, by, runs, Applications(config.application)), sort)
        return rows, notes(connection, asked, runs)

    with open_store(config) as store:
        (rows, told), asked, purged = answered(store, begin, end, question, vo=vo, cluster=cluster, user=user)
    show(answer(asked, by, rows, limit, [*told, *purged]), form)


def answer(asked: Asked, by: str, rows: list[TopRow], limit: int, told: list[str]) -> Answer:
    """The first rows, and what is not in them."""
    shown_rows = rows[:limit]
    if len(rows) > limit:
        rest = sum(row.sums.cpu_s for row in rows[limit:]) / 3600
        with_cpu = "" if by in OVERLAPPING else f", of {figure(rest)} CPU h"
        told = [f"{counted(len(rows) - limit, 'more row')}{with_cpu}: --limit shows more.", *told]
    if by in OVERLAPPING:
        told = ["Rows overlap: a process is in each that it belongs to.", *told]
    heading = {"vo": "VO"}.get(by, by)
    return Answer(
        f"Programs{asked.who} by {heading}, {shown(asked.begin)} to {shown(asked.end)}",
        (heading, *COLUMNS),
        [_for_people(row) for row in shown_rows],
        [{by: row.name} | asdict(row.sums) for row in shown_rows],
        told,
        {"by": by, "begin": shown(asked.begin), "end": shown(asked.end), "vo": list(asked.vo)},
    )


def _for_people(row: TopRow) -> tuple[str | int | float, ...]:
    sums = row.sums
    return row.name, sums.executions, sums.jobs, sums.users, hours(sums.cpu_s), hours(sums.elapsed_s)
