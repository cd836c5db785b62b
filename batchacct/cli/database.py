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
    """Creates the schema, or brings it up to date.

    Harmless when repeated.
    """
    click.echo("created" if create_database(config) else "was there already, in this program's version")


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
