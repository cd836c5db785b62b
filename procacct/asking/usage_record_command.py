"""`batchacct procs usage-records`: what applications used, as usage records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import cast

import click
from sqlalchemy import Connection

from batchacct.archive.holdings import archived
from batchacct.archive.months import month_name
from batchacct.cli.common import config_option, open_store
from batchacct.clock import unix_now
from batchacct.config import Config
from batchacct.errors import IncompleteError
from batchacct.model import PROCESS
from batchacct.parsing import registry
from batchacct.store.large_joins import large_joins
from batchacct.usage_record import Format, Rendered
from procacct.asking.asked import Asked
from procacct.asking.coverage import notes
from procacct.asking.options import asked_for, period_options
from procacct.asking.runs import runs_of_processes
from procacct.asking.usage_records import OF_RUN, PER, reasons, usage_records

FORMATS = ("ur-1.0", "car-1.2")


@click.command("usage-records")
@period_options
@click.option("--format", "form", type=click.Choice(FORMATS), default="ur-1.0", show_default=True, help="Format of the records.")
@click.option("--per", type=click.Choice(PER), default="job", show_default=True, help="A record an application and what else.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to write them.  [default: standard output]")
@config_option
def usage_records_command(
    config: Config,
    *,
    begin: str | None,
    end: str | None,
    vo: tuple[str, ...],
    cluster: str | None,
    user: str | None,
    form: str,
    per: str,
    output: Path | None,
) -> None:
    """Writes what applications used as usage records, in XML.

    One record an application and job; or, per account, an application, user, VO and host. Applications are those of
    [[application]], else the names of the programs' files. What is in no record is told on standard error.
    """
    with open_store(config) as store, store.reading() as connection, large_joins(connection):
        asked = asked_for(connection, begin, end, vo=vo, cluster=cluster, user=user)
        runs = replace(runs_of_processes(connection, asked.logged), more=OF_RUN)
        made = usage_records(connection, config, asked, runs, per)
        told = [*reasons(made.left_out), *notes(connection, asked, runs), *_not_counted(connection, asked)]
    for note in told:
        click.echo(note, err=True)
    by = cast("Format", registry.load(registry.FORMATS, form))
    rendered = by.render(made.batch, unix_now())
    good = rendered.records.drop_null()
    if len(good):
        _write(by.message(good), output)
    _tell(rendered, len(good))


def _not_counted(connection: Connection, asked: Asked) -> list[str]:
    """The archive is not asked here: what records tell of a job beside its VO is in its identity."""
    months = [month_name(month.month) for month in archived(connection, PROCESS, asked.begin, asked.end - 1)]
    if not months:
        return []
    return [f"Processes of {', '.join(months)} are in the archive, and in no record: `batchacct db recall` brings them back."]


def _write(payload: bytes, output: Path | None) -> None:
    if output is None:
        click.echo(payload, nl=False)
    else:
        output.write_bytes(payload)
        click.echo(f"wrote {output}", err=True)


def _tell(rendered: Rendered, good: int) -> None:
    """Raises: IncompleteError if a record was refused, or there is none."""
    for what, number in sorted(rendered.left_out.items()):
        click.echo(f"{number:,} times left out: {what}", err=True)
    refused: Counter[str] = Counter(reason for reason in rendered.reasons.to_pylist() if reason is not None)
    if refused:
        told = "; ".join(f"{number:,}: {reason}" for reason, number in refused.most_common())
        raise IncompleteError(
            f"{refused.total():,} records were refused by the format, and are not among the {good:,} written: {told}"
        )
    if not good:
        raise IncompleteError("there is no record to write: no application ran in a job of which the VO is known")
