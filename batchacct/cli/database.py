"""`batchacct db`: the database's schema."""

from __future__ import annotations

from pathlib import Path

import click

from batchacct.cli.archiving import archive, purge, recall
from batchacct.cli.common import config_option, open_store
from batchacct.cli.summarising import summarise
from batchacct.clock import unix_now
from batchacct.config import Config
from batchacct.errors import StoreError
from batchacct.store import Store, partitions

SUMS_SINCE = "0008"
"""The version since which sums are kept. Collectors of later ones store nothing once the database was migrated under them."""


@click.group()
def db() -> None:
    """The database: its schema, and what is taken out of it."""


for command in (archive, purge, recall, summarise):
    db.add_command(command)


@db.command()
@config_option
def create(config: Config) -> None:
    """Creates the schema in an empty database.

    Harmless when repeated; the schema of an older version is for `migrate`.
    """
    click.echo("created" if create_database(config) else "was there already, in this program's version")


@db.command()
@click.option("--dry-run", "--dryrun", "dryrun", is_flag=True, help="Print the SQL, and change nothing.")
@config_option
def migrate(config: Config, dryrun: bool) -> None:
    """Brings the schema of an older version to this program's.

    Stop the collectors before; take a backup. If it is interrupted, run it again: the old schema is still there, or it goes on
    where it stopped.
    """
    store = Store(config.database.resolved())
    try:
        if dryrun:
            statements = store.preview_migration()
            for statement in statements or ["-- nothing to do: the database has this program's version"]:
                click.echo(statement)
            return
        before, now = store.migrate()
    finally:
        store.close()
    if before == now:
        click.echo(f"nothing to do: the database is in version {now}")
        return
    click.echo(f"migrated from {before or 'an interrupted creation'} to {now}")
    if before is not None and before < SUMS_SINCE:
        click.echo(
            "If a collector of the earlier release has run meanwhile, stop it, and run `batchacct db summarise --rebuild` "
            "afterwards: it does not say of which days the sums change."
        )


@db.command("partition")
@click.option("--plan", "ahead", type=click.IntRange(0, 120), help="Months ahead.  [default: [database] partitions_ahead]")
@click.option("--dry-run", "--dryrun", "dryrun", is_flag=True, help="Print the SQL, and change nothing.")
@click.option("--force", is_flag=True, help="The clock of this host is right, even if it is years after what is stored.")
@config_option
def partition_tables(config: Config, ahead: int | None, dryrun: bool, force: bool) -> None:
    """Makes the monthly partitions that are missing.

    From the last one there is to some months ahead, and for the months of rows that had none until now. Run it monthly, by its
    timer or by cron.
    """
    months_ahead = config.database.partitions_ahead if ahead is None else ahead
    with open_store(config) as store:
        for line in partitions.keep(store, partitions.TABLES, months_ahead, unix_now(), dryrun=dryrun, force=force):
            click.echo(line)


def create_database(config: Config) -> bool:
    """Makes the folder of a database that is a file, the schema, and its first partitions; false if it was there already.

    Raises: SchemaError, StoreError, BusyError.
    """
    url = config.database.resolved()
    if url.startswith("sqlite:///"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder of the database, {folder}, cannot be made: {error.strerror}") from error
    store = Store(url)
    try:
        made = store.create()
        if made and store.dialect.partitions is not None:
            list(partitions.keep(store, partitions.TABLES, config.database.partitions_ahead, unix_now()))
        return made
    finally:
        store.close()
