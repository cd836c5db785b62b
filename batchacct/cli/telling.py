"""`batchacct status`, `why` and `trace`: what the ledger tells."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import click
from sqlalchemy import Connection, select

from batchacct.cli.common import NUMBER, config_option, emit_table, open_store
from batchacct.clock import shown
from batchacct.config import Config
from batchacct.errors import CheckpointError, ConfigError, IncompleteError, SourceError
from batchacct.following import locate, unread_bytes
from batchacct.ledger import stories
from batchacct.ledger.books import Books, read_books
from batchacct.model import text_of
from batchacct.parsing.reading import expand
from batchacct.store import Store, known_positions
from batchacct.store.tables import followed_file, message


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
@config_option
def status(config: Config, as_json: bool) -> None:
    """Shows how far everything is, and whether the books balance."""
    with open_store(config) as store, store.reading() as connection:
        books = read_books(connection)
        size = store.size_bytes()
        unread = {s.name: unread_bytes(expand(s.paths), known_positions(store, s.name)) for s in config.source if s.feed is None}
    if as_json:
        click.echo(json.dumps(as_values(books) | {"unread_bytes": unread, "database_bytes": size}, indent=2))
    else:
        show_books(books, unread)
    if not books.balanced:
        raise IncompleteError("the books do not balance: " + "; ".join(books.problems))


def as_values(books: Books) -> dict[str, object]:
    """The books as JSON values."""
    values = dataclasses.asdict(books)
    values["jobs"]["outcomes"] = [
        {"outcome": outcome, "reason": reason, "jobs": jobs} for (outcome, reason), jobs in sorted(books.jobs.outcomes.items())
    ]
    return values | {"balanced": books.balanced}


def show_books(books: Books, unread: Mapping[str, int]) -> None:
    """The books as tables, each ending with whether it adds up; `unread`: bytes on disk now that were not read, by source."""
    _show_sources(books, unread)
    for source in books.sources:
        if source.last_error:
            click.echo(f"source {source.name}, last error: {source.last_error}")
    for kind, count in books.parts_waiting.items():
        click.echo(f"parts that wait for others of their whole: {kind} ({count:,})")
    jobs = books.jobs
    rows = [(outcome, reason, count) for (outcome, reason), count in sorted(jobs.outcomes.items())]
    rows.append(("not joined yet", "the next `publish` does", jobs.not_joined))
    emit_table(
        f"Jobs: {jobs.in_force:,} in force, {jobs.superseded:,} replaced by newer records",
        ("outcome", "why", "jobs"),
        rows,
    )
    out = books.destination
    published = [("confirmed", "", out.confirmed), ("unsent", f"in {out.messages_unsent} messages", out.unsent)]
    published += [("refused", reason, count) for reason, count in sorted(out.refused.items())]
    published.append(("not in a message yet", "the next `publish` does", out.not_in_message))
    emit_table(f"Publishing: {out.publishable:,} records, {out.messages:,} messages", ("state", "why", "records"), published)
    for what, count in sorted(out.left_out.items()):
        click.echo(f"left out of published records: {what} ({count:,})")
    if out.last_error:
        click.echo(f"last error of publishing: {out.last_error}")
    if books.open_rejects:
        click.echo(f"{books.open_rejects:,} reject{'' if books.open_rejects == 1 else 's'}: see `batchacct rejects list`")
    click.echo("The books balance at every stage." if books.balanced else "THE BOOKS DO NOT BALANCE: " + "; ".join(books.problems))


def _show_sources(books: Books, unread: Mapping[str, int]) -> None:
    """A row a source; the columns about parts only where there are any."""
    columns: dict[str, list[object]] = {
        "source": [s.name for s in books.sources],
        "newest file": [s.newest_file for s in books.sources],
        "at byte": [s.newest_offset for s in books.sources],
        "unread (bytes)": [unread.get(s.name, "-") for s in books.sources],
        "units read": [s.units for s in books.sources],
        "recorded": [s.recorded for s in books.sources],
        "merged": [s.merged for s in books.sources],
        "known": [s.known for s in books.sources],
        "skipped": [s.skipped for s in books.sources],
        "rejected": [s.rejected for s in books.sources],
        "completed": [s.completed for s in books.sources],
        "last record": [shown(s.last_record_at) for s in books.sources],
        "read to its end": [shown(s.read_to_end_at) for s in books.sources],
    }
    of_parts = {"merged", "completed"}
    told = {name: values for name, values in columns.items() if name not in of_parts or any(values)}
    emit_table("Sources", list(told), list(zip(*told.values(), strict=True)))


@click.command()
@click.argument("job_id")
@config_option
def why(config: Config, job_id: str) -> None:
    """Tells the story of a job, and why it is not further.

    JOB_ID is `1234`, or `1234[5]` for an array element: where its records were read, what it became, who it was, which message.
    """
    if not job_id.strip() or not job_id.isprintable():
        raise ConfigError(f"{job_id!r} is no job id: write one as `1234`, or `1234[5]` for an array element")
    with open_store(config) as store, store.reading() as connection:
        for line in stories.why(connection, stories.JobId.of(job_id)):
            click.echo(line)


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
    with open_store(config) as store, store.reading() as connection:
        if connection.scalar(select(message.c.id).where(message.c.id == number)) is None:
            raise ConfigError(f"there is no message {number}: `batchacct status` counts them")
        for line in stories.trace_message(connection, number):
            click.echo(line)


@trace.command("unit")
@click.argument("path")
@click.argument("offset", type=NUMBER)
@config_option
def trace_unit(config: Config, path: str, offset: int) -> None:
    """Tells what a line became.

    That at byte OFFSET of the file PATH; of a compressed file, of what is in it.
    """
    with open_store(config) as store, store.reading() as connection:
        files = _followed_files(store, connection, path)
        name = text_of(os.fsencode(Path(path).absolute()))
        for line in stories.trace_unit(connection, name, offset, files):
            click.echo(line)


def _followed_files(store: Store, connection: Connection, path: str) -> list[int]:
    """The followed files, of whichever source, that are at `path` now by their content; none if there is no such file."""
    found = []
    for source in connection.scalars(select(followed_file.c.source).distinct()).all():
        with contextlib.suppress(SourceError, CheckpointError):
            position = locate(source, path, known_positions(store, source))
            found += [] if position.id is None else [position.id]
    return found
