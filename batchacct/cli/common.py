"""What the commands share: the configuration option, opening the store, tables and progress for people."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from batchacct.config import Config, default_path, load_config
from batchacct.store import Store

NUMBER = click.IntRange(min=0, max=2**63 - 1)
"""What may be the number of a reject or message, or a byte offset: whatever the database can hold."""

P = ParamSpec("P")
R = TypeVar("R")


def config_option(command: Callable[Concatenate[Config, P], R]) -> Callable[P, R]:
    """Decorator: adds `--config PATH` to a command and hands it the loaded configuration as its first argument."""

    @click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        help="Configuration file.  [default: $BATCHACCT_CONFIG, else /etc/batchacct/batchacct.toml]",
    )
    @functools.wraps(command)
    def with_config(*args: P.args, **kwargs: P.kwargs) -> R:
        path = kwargs.pop("config_path")
        return command(load_config(path if isinstance(path, Path) else default_path()), *args, **kwargs)

    return with_config


def config_path() -> Path:
    """Where the running command's configuration came from."""
    path = click.get_current_context().params.get("config_path")
    return path if isinstance(path, Path) else default_path()


@contextmanager
def open_store(config: Config, *, to_read: bool = False) -> Iterator[Store]:
    """The configured store, its schema checked; `to_read`: by the account of who only reads.

    Raises: ConfigError, SchemaError, StoreError.
    """
    store = Store(config.database.resolved_to_read() if to_read else config.database.resolved())
    try:
        store.check()
        yield store
    finally:
        store.close()


def console() -> Console:
    """Standard output; as wide as needed when it is no terminal, so that nothing is cut in a mail or a pipe."""
    width = None if sys.stdout.isatty() else 5000
    return Console(width=width, highlight=False)


_STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but the end of a line, and those that turn the direction of writing."""
LEAST_OF_ONE_DIGIT = 0.1
"""A smaller number is shown by its first two digits."""


def value_text(value: object) -> str:
    """A number with thousands apart; nothing for None."""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return figure(value)
    return "" if value is None else str(value)


def emit_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], text_of: Callable[[Any], str] = value_text
) -> None:
    """A table on standard output, columns of numbers to the right; a line a value where it is too wide."""
    table = Table()
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if is_numeric(rows, at) else "left", overflow="fold")
    texts = [[_cell(text_of(value)) for value in row] for row in rows]
    for row in texts:
        table.add_row(*row)
    out = console()
    out.print(Text(harmless(title), style="bold"))
    if Measurement.get(out, out.options.update(max_width=5000), table).maximum <= out.width:
        out.print(table)
        return
    for row in texts:
        for name, text in zip(columns, row, strict=True):
            out.print(Text(f"  {name}: ") + text)
        out.print()


def is_numeric(rows: Sequence[Sequence[object]], column: int) -> bool:
    """Whether a column is of numbers, and stands to the right with its heading; some may be unknown, or a word ("no data")."""
    return any(isinstance(row[column], int | float) for row in rows)


def _cell(text: str) -> Text:
    """As it is: a Text is not searched for markup, which paths and log lines may look like.

    What would steer a terminal is escaped, and the end of a line, which would make a row: names of programs and jobs are whatever
    their users like.
    """
    return Text(harmless(text).replace("\n", "\\n"))


def figure(value: float) -> str:
    """To a digit behind the point; what would be 0.0 so, and is not nothing, to two digits that tell something."""
    return f"{value:.2g}" if 0 < abs(value) < LEAST_OF_ONE_DIGIT else f"{value:,.1f}"


def harmless(text: str) -> str:
    """A text for a terminal, with escapes in the place of what would steer it."""
    return _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


@contextmanager
def byte_progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Something to call with the bytes done since the last call; drawn only where a person is watching (standard error)."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def steps_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Something to call with a step's name, how much of it is done and how much there is; drawn only where a person is watching."""
    if not sys.stderr.isatty():
        yield lambda step, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            scale = 1 << 20 if total > 100_000 else 1
            if step not in tasks:
                tasks[step] = progress.add_task(step if scale == 1 else f"{step} (MiB)")
            progress.update(tasks[step], completed=done // scale, total=total // scale)

        yield show
