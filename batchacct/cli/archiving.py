"""`batchacct db archive|purge|recall`: months out of the database, what is too old out of both, a month back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchacct.archive.months import month_name, named_month
from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.clock import shown, unix_now
from batchacct.config import Config
from batchacct.errors import IncompleteError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchacct.archive.taking import Report
    from batchacct.store import Store

_DRY_RUN = click.option("--dry-run", "--dryrun", is_flag=True, help="Show what would be done; nothing is changed.")
_TRUST_CLOCK = click.option("--clock-is-right", "trust_clock", is_flag=True, help="Even if the newest record is much older.")
HOUR_S = 3600


@click.command()
@click.option("--before", metavar="MONTH", help="Only months before this one, such as 2026-01.")
@_DRY_RUN
@click.option("--list", "listed", is_flag=True, help="Only show what is archived.")
@_TRUST_CLOCK
@config_option
def archive(config: Config, *, before: str | None, dry_run: bool, listed: bool, trust_clock: bool) -> None:
    """Moves closed months from the database to the archive.

    Months that ended `[retention] keep` ago or earlier, and in which nothing is left to happen: to Parquet files below `[archive]
    path`, checked before a row is deleted. Reports, joins, `why` and `trace` go on finding them. The exit status is 13 if a month
    is held.
    """
    from batchacct.archive import taking  # noqa: PLC0415 - pyarrow's datasets, which most commands have no use for

    with open_store(config) as store:
        if listed:
            _list(store)
            return
        limit = None if before is None else named_month(before)
        report = taking.archive(store, config, unix_now(), before=limit, dry_run=dry_run, trust_clock=trust_clock)
    _show(report, dry_run=dry_run)


def _show(report: Report, *, dry_run: bool) -> None:
    rows = [
        (month_name(one.month), one.record_type, one.sums.rows, one.sums.wall_s / HOUR_S, one.sums.cpu_s / HOUR_S, one.file or "")
        for one in sorted(report.taken, key=lambda one: one.month)
    ]
    if rows:
        title = "Would be archived" if dry_run else "Archived"
        emit_table(title, ("month", "type", "records", "wall (h)", "CPU (h)", "file"), rows)
    elif not report.held:
        click.echo("Nothing to archive: no month with records in the database ended longer ago than [retention] keep.")
    _tell_held(report.held, "in the database")


def _tell_held(held: Mapping[int, Sequence[str]], how: str) -> None:
    """Raises: IncompleteError if there are any."""
    for month, reasons in sorted(held.items()):
        click.echo(f"{month_name(month)} is held: {'; '.join(reasons)}")
    if held:
        raise IncompleteError(f"{len(held)} of the closed months stay{'s' if len(held) == 1 else ''} {how}, see above")


def _list(store: Store) -> None:
    from batchacct.archive.holdings import archived  # noqa: PLC0415
    from batchacct.model import RECORD_TYPES  # noqa: PLC0415

    rows = []
    with store.reading() as connection:
        for record_type in RECORD_TYPES.values():
            for one in archived(connection, record_type):
                place = one.file or "no file"
                rows.append((one.manifest.month, record_type.name, one.sums.rows, one.purged[0], shown(one.archived_at), place))
    emit_table("Archive", ("month", "type", "records", "purged records", "archived", "file"), sorted(rows))


@click.command()
@_DRY_RUN
@_TRUST_CLOCK
@config_option
def purge(config: Config, *, dry_run: bool, trust_clock: bool) -> None:
    """Deletes what is too old, and takes names out.

    By `[retention]`: files of the archive after `archive_for`, names of people after `personal_data`, from tables, files, raw
    units, rejects and messages. Numbers do not change. The exit status is 13 if a month is held.
    """
    from batchacct.archive import purging  # noqa: PLC0415

    with open_store(config) as store:
        report = purging.purge(store, config, unix_now(), dry_run=dry_run, trust_clock=trust_clock)
    rows = [("" if one.month is None else month_name(one.month), one.what, one.records) for one in report.gone]
    if rows:
        emit_table("Would be purged" if dry_run else "Purged", ("month", "what", "records"), rows)
    elif not report.held:
        click.echo("Nothing to purge.")
    _tell_held(report.held, "with the names in them")


@click.command()
@click.argument("month")
@config_option
def recall(config: Config, month: str) -> None:
    """Puts an archived month back into the database.

    So that logs of MONTH (such as 2026-01) can be read again: what is known is known again, what is new is stored. The next `db
    archive` takes it out again.
    """
    from batchacct.archive.whole_months import recall_month  # noqa: PLC0415

    with open_store(config) as store:
        counts = recall_month(store, config, named_month(month), unix_now())
    emit_table(f"Back in the database, of {month}", ("type", "records"), list(counts.items()))
