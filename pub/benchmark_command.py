"""`batchacct benchmarks`: what cores are worth, and what was published with another figure."""

from __future__ import annotations

import json

import click

from batchacct.archive.holdings import archived
from batchacct.archive.months import month_name, named_month
from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.clock import day_text, unix_now
from batchacct.config import Config
from batchacct.errors import ConfigError
from batchacct.model import JOB
from batchacct.store import Store
from pub.benchmark_differences import Difference, differences, periods_to_republish
from pub.benchmarks import Valid, in_order, valid_of
from pub.summaries import months_with_jobs

HOUR_S = 3600


@click.command()
@click.option("--from", "first", metavar="YYYY-MM", help="First month (UTC) to look at.  [default: that of the first job]")
@click.option("--to", "last", metavar="YYYY-MM", help="Last month, included.  [default: that of the last job]")
@config_option
def benchmarks(config: Config, first: str | None, last: str | None) -> None:
    """Shows the benchmarks in force, and what went out with others.

    What was published keeps the benchmark it had. Where the configuration gives another one now, the months, clusters and jobs are
    shown, and the command that publishes them anew.
    """
    begin, end = (named_month(name) if name else None for name in (first, last))
    if begin is not None and end is not None and end < begin:
        raise ConfigError("--to lies before --from: give the first month, then the last")
    columns = ("cluster", "hosts", "benchmark of a core", "times host factor", "valid from", "until")
    emit_table(
        "In force, the first that fits a job", columns, [_row(one) for one in in_order({valid_of(b) for b in config.benchmark})]
    )
    with open_store(config) as store:
        months = months_with_jobs(store, unix_now())
        asked = [m for m in months if (begin is None or m >= begin) and (end is None or m <= end)]
        found = differences(store, config, asked)
        in_archive = _archived_months(store)
    _show(found)
    if in_archive:
        which = in_archive[0] if len(in_archive) == 1 else f"{in_archive[0]} to {in_archive[-1]}"
        click.echo(f"Jobs that are archived (logged in {which}) are not looked at: what they were published with stands.")


def _row(one: Valid) -> tuple[object, ...]:
    figures = {one.type: one.value, **json.loads(one.also or "{}")}
    hosts = ", ".join(json.loads(one.hosts)) if one.hosts else "any"
    return (
        "all" if one.cluster == "*" else one.cluster,
        hosts,
        ", ".join(f"{name} {value:g}" for name, value in figures.items()),
        "yes" if one.per_host_factor else "",
        *(day_text(at) for at in (one.valid_from, one.valid_until)),
    )


def _show(found: list[Difference]) -> None:
    if not found:
        click.echo("Nothing is published with another benchmark than these give.")
        return
    columns = ("month", "cluster", "published with", "now", "jobs", "CPU (h)", "times that", "times this")
    rows = [
        (
            month_name(one.month),
            one.cluster,
            one.then,
            one.now or "none: not to be published",
            one.jobs,
            *(figure / HOUR_S for figure in (one.cpu_s, one.normalised_then, one.normalised_now)),
        )
        for one in found
    ]
    emit_table("Published with another benchmark", columns, rows)
    click.echo("To publish these jobs anew, with what is in force now:")
    for first, last in periods_to_republish(found):
        click.echo(f"  {republish_command(first, last)}")


def republish_command(first: int, last: int) -> str:
    """What to type to publish the jobs anew that ended in a period (Unix seconds, both included)."""
    return f"batchacct republish --from {day_text(first)} --to {day_text(last)}"


def _archived_months(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(month_name(one.month) for one in archived(connection, JOB) if one.file is not None)
