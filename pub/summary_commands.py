"""`batchacct summaries` and `batchacct sync`: messages that sum up what was published, to standard output or into files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import click

from batchacct.archive.months import month_name, month_of, named_month
from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.clock import unix_now
from batchacct.config import Config
from batchacct.errors import ConfigError
from batchacct.names_policy import months_of_another_policy
from batchacct.parsing import registry
from pub.formats.apel_summaries import SYNC_HEADER, message_of, sync_records
from pub.formats.contract import SUMMARY_FORMATS, SummaryFormat
from pub.summaries import DEFAULT_FORMAT, Sums, counts, months_with_jobs, require_begun, require_whole
from pub.summaries import summaries as cells_of

_write_to = click.option(
    "--write-to",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write there; several messages to FILE.1, FILE.2 and so on.  [default: standard output, one after the other]",
)


@click.command()
@click.option(
    "--month",
    "months",
    multiple=True,
    metavar="YYYY-MM",
    help="Month (UTC); may be repeated.  [default: this one and the one before]",
)
@click.option("--format", "form", default=DEFAULT_FORMAT, show_default=True, help="One of docs/reference/formats.md.")
@click.option("--dry-run", "--dryrun", is_flag=True, help="Show hours by VO instead of messages.")
@_write_to
@config_option
def summaries(config: Config, months: tuple[str, ...], form: str, *, dry_run: bool, write_to: Path | None) -> None:
    """Writes the summaries of whole months, as APEL has them.

    What the records of the jobs come to that are published, or go out next; for sites that send summaries in place of records.
    The receiver adds up the two: never send both of one month.
    """
    now = unix_now()
    this = month_of(now)
    asked = sorted({named_month(name) for name in months} or {month_of(this - 1), this})
    require_begun(asked, now)
    found_format = cast("SummaryFormat", registry.load(SUMMARY_FORMATS, form))
    with open_store(config) as store:
        found = cells_of(store, config, asked, now)
        with store.reading() as connection:
            otherwise_named = months_of_another_policy(connection, config, asked)
    require_whole(found)
    rendered = found_format.render(found.cells)
    _tell_refused({**found.refused, **rendered.refused}, found.left_out)
    for month, why in sorted(otherwise_named.items()):
        click.echo(f"{month_name(month)}: {why}", err=True)
    if dry_run:
        _show_hours([(month_name(cell.month), cell.vo, sums) for cell, sums in found.cells.items()])
    else:
        _write(rendered.records, found_format.message, config.destinations[0].bunch, write_to)


@click.command()
@click.option("--from", "first", metavar="YYYY-MM", help="First month (UTC).  [default: that of the first job]")
@click.option("--to", "last", metavar="YYYY-MM", help="Last month, included.  [default: that of the last job]")
@click.option("--dry-run", "--dryrun", is_flag=True, help="Show the counts instead of a message.")
@_write_to
@config_option
def sync(config: Config, first: str | None, last: str | None, *, dry_run: bool, write_to: Path | None) -> None:
    """Writes a sync message: jobs by submit host and month.

    With it the receiver finds out whether it has them all. Send all months each time; those in the archive are left out, as what
    was last sent of them stays true.
    """
    now = unix_now()
    begin, end = (named_month(name) if name else None for name in (first, last))
    if begin is not None and end is not None and end < begin:
        raise ConfigError("--to lies before --from: give the first month, then the last")
    with open_store(config) as store:
        months = [m for m in months_with_jobs(store, now) if (begin is None or m >= begin) and (end is None or m <= end)]
        found = counts(store, config, months, now)
    for month, why in sorted(found.held.items()):
        click.echo(f"{month_name(month)} is left out: {why}", err=True)
    _tell_refused(found.refused, {})
    if dry_run:
        rows = sorted((month_name(month), site, host or "", jobs) for (site, host, month), jobs in found.jobs.items())
        emit_table("Jobs", ("month", "site", "submit host", "jobs"), rows)
    else:
        _write(sync_records(found.jobs), lambda records: message_of(SYNC_HEADER, records), config.destinations[0].bunch, write_to)


def _tell_refused(refused: Mapping[str, int], left_out: Mapping[str, int]) -> None:
    for reason, jobs in sorted(refused.items()):
        click.echo(f"{jobs:,} jobs are not in it: {reason}", err=True)
    for what, jobs in sorted(left_out.items()):
        click.echo(f"{jobs:,} jobs without {what}", err=True)


def _show_hours(cells: Iterable[tuple[str, str, Sums]]) -> None:
    by_vo: dict[tuple[str, str], list[int]] = {}
    for month, vo, sums in cells:
        row = by_vo.setdefault((month, vo), [0, 0, 0, 0])
        by_vo[month, vo] = [total + more for total, more in zip(row, (1, sums.jobs, sums.wall_s, sums.cpu_s), strict=True)]
    rows = [(*key, n, jobs, wall / 3600, cpu / 3600) for key, (n, jobs, wall, cpu) in sorted(by_vo.items())]
    emit_table("Summaries", ("month", "VO", "cells", "jobs", "wall (h)", "CPU (h)"), rows)


def _write(records: list[str], message: Callable[[Iterable[str]], bytes], bunch: int, to: Path | None) -> None:
    """The records as messages; an empty one is never sent."""
    if not records:
        click.echo("There are no such jobs: no message was written.", err=True)
    messages = [message(records[start : start + bunch]) for start in range(0, len(records), bunch)]
    for number, content in enumerate(messages, 1):
        if to is None:
            sys.stdout.buffer.write(content)
            continue
        path = to if len(messages) == 1 else to.with_name(f"{to.name}.{number}")
        try:
            path.write_bytes(content)
        except OSError as error:
            raise ConfigError(f"--write-to {path} cannot be written: {error.strerror}") from error
        click.echo(f"wrote {path}", err=True)
