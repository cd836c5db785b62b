"""`batchacct db summarise`: the sums that reports are made of, brought up to date, or held against the rows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from batchacct.cli.common import open_store, steps_progress
from batchacct.config import Config, default_path, load_config
from batchacct.errors import ConfigError, IncompleteError
from batchacct.model import JOB

MOST_TOLD = 20


@click.command()
@click.option("--rebuild", is_flag=True, help="Sum every day anew, as if nothing were kept.")
@click.option("--check", "checked", is_flag=True, help="Change nothing: hold what is kept against the rows, day by day.")
@click.option(
    "--archive",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Of a folder of Parquet files, not of the database: sums are kept beside each file.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration file.  [default: $BATCHACCT_CONFIG, else /etc/batchacct/batchacct.toml]",
)
def summarise(*, rebuild: bool, checked: bool, archive: Path | None, config_path: Path | None) -> None:
    """Brings the sums that reports are made of up to date.

    `publish` does so each time: this is for a database that is not published from, for a folder of Parquet files, and after an
    upgrade. A report is right without it, too, as days that changed are summed from their rows. With --check the exit status is 13
    if a day is not as its rows are.
    """
    if rebuild and checked:
        raise ConfigError("--rebuild and --check exclude each other: check first, then rebuild")
    if archive is None:
        _of_store(load_config(config_path or default_path()), rebuild=rebuild, checked=checked)
    else:
        _of_folder(archive, rebuild=rebuild, checked=checked)


def _of_store(config: Config, *, rebuild: bool, checked: bool) -> None:
    from batchacct.usage import keeping  # noqa: PLC0415 - slow to import

    with open_store(config) as store, store.lock(keeping.LOCK) as locks, steps_progress() as progress:

        def told(done: int, of: int) -> None:
            progress("days", done, of)

        if checked:
            days, differing = keeping.differing(store, told)
            with store.reading() as connection:
                _tell(days, differing, keeping.changed_days(connection))
            return
        if rebuild:
            keeping.forget_all(store)
        days = keeping.refresh(store, locks, told, at_least=0)
        with store.reading() as connection:
            kept = len(keeping.unchanged_days(connection))
    click.echo(f"{days:,} days summed anew; {kept:,} are kept as their rows are")


def _of_folder(folder: Path, *, rebuild: bool, checked: bool) -> None:
    from batchacct.archive.layout import countable_files  # noqa: PLC0415 - slow to import
    from batchacct.usage import beside  # noqa: PLC0415 - slow to import

    if not (files := len(countable_files(folder, JOB))):
        raise IncompleteError(f"there is nothing to sum: {folder} has no records of jobs")
    with steps_progress() as progress:

        def told(done: int, of: int) -> None:
            progress("files", done, of)

        if not checked:
            summed = beside.summarise(folder, told, rebuild=rebuild)
            click.echo(f"{summed:,} of {files:,} files summed anew")
            return
        kept, differing = beside.differing(folder, told)
    for file, kinds in list(differing.items())[:MOST_TOLD]:
        click.echo(f"{file}: {', '.join(kinds)}")
    if differing:
        raise IncompleteError(
            f"of {kept:,} files {len(differing):,} have sums that are not as their rows are: please report it, with what this has "
            "said; with --rebuild in the place of --check all are summed anew"
        )
    click.echo(f"{kept:,} of {files:,} files have sums, which are as their rows are")


def _tell(days: int, differing: dict[int, list[str]], changed: list[int]) -> None:
    for day, kinds in list(differing.items())[:MOST_TOLD]:
        click.echo(f"{_date(day)}: {', '.join(kinds)}")
    if changed:
        told = ", ".join(map(_date, changed[:MOST_TOLD])) + (", ..." if len(changed) > MOST_TOLD else "")
        click.echo(f"{len(changed):,} days are summed from their rows, as these changed or come to more than 64 bits: {told}")
    if differing:
        raise IncompleteError(
            f"of {days:,} days {len(differing):,} are not as their rows are: please report it, with what this has said; "
            "`batchacct db summarise --rebuild` sums all days anew"
        )
    click.echo(f"{days:,} days are as their rows are")


def _date(day: int) -> str:
    return dt.datetime.fromtimestamp(day, dt.UTC).date().isoformat()
