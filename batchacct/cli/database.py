"""`batchacct db`: the database's schema."""

from __future__ import annotations

from pathlib import Path

import click

from batchacct.cli.archiving import archive, recall
from batchacct.cli.common import config_option
from batchacct.config import Config
from batchacct.errors import StoreError
from batchacct.store import Store


@click.group()
def db() -> None:
    """The database: its schema, and what is taken out of it."""


for command in (archive, recall):
    db.add_command(command)


@db.command()
@config_option
def create(config: Config) -> None:
    """Creates the schema in an empty database.

    Harmless when repeated; the schema of an older version is for `migrate`.
    """
    click.echo("created" if create_database(config) else "was there already, in this program's version")


@db.command()
@click.option("--dryrun", is_flag=True, help="Print the SQL, and change nothing.")
@config_option
def migrate(config: Config, dryrun: bool) -> None:
    """Brings the schema of an older version to this program's.

    Stop the collectors before; take a backup. If it is interrupted, run it again: the old schema is still there, or it goes on
    where it stopped.
    """
    store = Store(config.database.resolved())
    try:
        if dryrun:
            for statement in store.preview_migration():
                click.echo(statement)
            return
        before, now = store.migrate()
    finally:
        store.close()
    click.echo(f"migrated from {before or 'an interrupted creation'} to {now}" if before != now else f"is in version {now} already")


def create_database(config: Config) -> bool:
    """Makes the folder of a database that is a file, and the schema; false if it was there already.  Raises: StoreError."""
    url = config.database.resolved()
    if url.startswith("sqlite:///"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder of the database, {folder}, cannot be made: {error.strerror}") from error
    store = Store(url)
    try:
        return store.create()
    finally:
        store.close()
