"""The options that the questions share, and the period they ask about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from sqlalchemy import Connection, func, select

from batchacct.archive.holdings import archived
from batchacct.cli.instants import end_of, instant
from batchacct.clock import shown, unix_now
from batchacct.errors import ConfigError, IncompleteError
from batchacct.model import PROCESS
from batchacct.store.tables import process
from procacct.asking.asked import Asked
from procacct.asking.printing import FORMATS

C = TypeVar("C", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--from", "begin", metavar="DATE", help="Processes that ended from here on.  [default: the first one]"),
    click.option("--to", "end", metavar="DATE", help="Until here; a day or month is included.  [default: the last one]"),
    click.option("--vo", multiple=True, help="Only of jobs of this VO; may be repeated."),
    click.option("--cluster", help="Only of this cluster."),
    click.option("--user", help="Only of this local account."),
)
format_option = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it."
)


def period_options(command: C) -> C:
    """Decorator: adds `--from`, `--to`, `--vo`, `--cluster` and `--user`, which `asked_for` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked_for(connection: Connection, begin: str | None, end: str | None, **which: Any) -> Asked:
    """What the options say; a side of the period left open is that of the first, or the last, process there is.

    Raises: ConfigError for what is no date or no period, IncompleteError if there is no process.
    """
    now = unix_now()
    since, until = None if begin is None else instant(begin, now), None if end is None else end_of(end, now)
    if since is None or until is None:
        first, last = first_and_last(connection)
        if first is None or last is None:
            raise IncompleteError("there is nothing to tell: the store holds no process; is there a source with parser procs?")
        since, until = first if since is None else since, last + 1 if until is None else until
        if since >= until:
            raise IncompleteError(f"there is nothing to tell: processes ended from {shown(first)} to {shown(last)}")
    if since >= until:
        raise ConfigError(f"--from {shown(since)} is not before --to {shown(until)}")
    return Asked(since, until, **which)


def first_and_last(connection: Connection) -> tuple[int | None, int | None]:
    """When the first and the last process ended that is in the database or its archive."""
    ends = connection.execute(select(func.min(process.c.logged_at), func.max(process.c.logged_at))).one()
    months = [month.manifest for month in archived(connection, PROCESS) if month.file is not None]
    known = [at for at in (*ends, *(m.first_at for m in months), *(m.last_at for m in months)) if at is not None]
    return min(known, default=None), max(known, default=None)
