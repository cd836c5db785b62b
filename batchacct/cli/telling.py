"""`batchacct why` and `trace`: the stories the ledger tells."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import click
from sqlalchemy import Connection, select

from batchacct.archive.holdings import Archived
from batchacct.cli.common import NUMBER, config_option, harmless, open_store
from batchacct.config import Config
from batchacct.errors import CheckpointError, ConfigError, SourceError
from batchacct.following import locate
from batchacct.ledger import more_stories, stories
from batchacct.ledger.archived import with_archived
from batchacct.ledger.job_ids import JobId
from batchacct.model import text_of
from batchacct.parsing import registry
from batchacct.store import Store, known_positions
from batchacct.store.tables import followed_file, message


@click.command()
@click.argument("job_id")
@config_option
def why(config: Config, job_id: str) -> None:
    """Tells the story of a job, and why it is not further.

    JOB_ID is `1234`, or `1234[5]` for an array element: where its records were read, what it became, who it was, which message.
    """
    if not job_id.strip() or not job_id.isprintable():
        raise ConfigError(f"{job_id!r} is no job id: write one as `1234`, or `1234[5]` for an array element")
    typed = JobId.of(job_id)
    with open_store(config) as store, with_archived(store, lambda wanted: wanted.of_job(typed)) as (connection, months):
        _tell(stories.why(connection, typed, more_stories.registered()), months)


def _tell(story: Iterable[str], months: Iterable[Archived]) -> None:
    for line in story:
        click.echo(harmless(line))
    for month in months:
        click.echo(f"archived: {month.record_type.name} records of it are in {month.file}")


@click.group()
def trace() -> None:
    """Follows a number, from message to bytes or back."""


@trace.command("message")
@click.argument("number", type=NUMBER)
@config_option
def trace_message(config: Config, number: int) -> None:
    """Lists the records of a message.

    Those of message NUMBER, with the file and byte offset each came from.
    """
    with open_store(config) as store, with_archived(store, lambda wanted: wanted.of_message(number)) as (connection, months):
        if connection.scalar(select(message.c.id).where(message.c.id == number)) is None:
            raise ConfigError(f"there is no message {number}: `batchacct status` counts them")
        _tell(stories.trace_message(connection, number), months)


@trace.command("unit")
@click.argument("path")
@click.argument("offset", type=NUMBER)
@config_option
def trace_unit(config: Config, path: str, offset: int) -> None:
    """Tells what a line became.

    That at byte OFFSET of the file PATH; of a compressed file, of what is in it.
    """
    with open_store(config) as store:
        with store.reading() as connection:
            files = _followed_files(config, store, connection, path)
        name = text_of(os.fsencode(Path(path).absolute()))
        with with_archived(store, lambda wanted: wanted.of_unit(name, offset, files)) as (connection, months):
            _tell(stories.trace_unit(connection, name, offset, files), months)


def _followed_files(config: Config, store: Store, connection: Connection, path: str) -> list[int]:
    """The followed files, of whichever source, that are at `path` now by their content; none if there is no such file."""
    found = []
    parsers = {keys.name: keys.parser for keys in config.source}
    for source in connection.scalars(select(followed_file.c.source).distinct()).all():
        with contextlib.suppress(SourceError, CheckpointError):
            length = registry.unit_bytes_of(parsers.get(source, ""))
            position = locate(source, path, known_positions(store, source), length)
            found += [] if position.id is None else [position.id]
    return found
