"""Processes one by one, as `lastcomm` lists them: what, whose, where, how long, and how it ended."""

from __future__ import annotations

import csv
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import click
from sqlalchemy import Connection

from batchacct.cli.common import emit_table
from batchacct.clock import shown
from procacct.asking.accounting_files import Files
from procacct.asking.accounting_question import Question
from procacct.asking.accounting_store import LISTED, rows_of_store
from procacct.asking.accounts import user_name

COLUMNS = (
    "command", "flags", "user", "terminal", "pid", "parent_pid", "cpu_s", "elapsed_s", "started_at", "ended_at", "ended", "host",
    "job", "processes",
)  # fmt: skip
IN_A_TABLE = 1000

Listed = dict[str, Any]
_FROM_FILES = [name for name in LISTED if name not in {"user_name", "join_id"}]


def list_of_files(files: Files, question: Question, *, numeric: bool) -> Iterator[Listed]:
    """The processes of accounting files, in the order of their records."""
    for batch in files.batches(question):
        rows = batch.select(_FROM_FILES)
        for row in rows.to_pylist():
            at = {name: int(row[name].timestamp()) for name in ("started_at", "logged_at")}
            yield _listed(row | at | {"user_name": None, "join_id": None}, numeric=numeric)


def list_of_store(connection: Connection, question: Question, *, numeric: bool) -> Iterator[Listed]:
    """The processes of the store, in the order in which they ended."""
    for row in rows_of_store(connection, question):
        yield _listed(row._mapping, numeric=numeric)  # noqa: SLF001 - that is its public name


def _listed(row: Mapping[Any, Any], *, numeric: bool) -> Listed:
    cpu = [row[name] for name in ("cpu_user_s", "cpu_system_s") if row[name] is not None]
    user_id = row["user_id"]
    user = row["user_name"] or (None if user_id is None else user_name(user_id))
    return {
        "command": row["command"],
        "flags": _flags(row),
        "user": str(user_id) if numeric and user_id is not None else user,
        "terminal": row["terminal"],
        "pid": row["pid"] or None,
        "parent_pid": row["parent_pid"],
        "cpu_s": round(sum(cpu), 6) if cpu else None,
        "elapsed_s": row["elapsed_s"],
        "started_at": shown(row["started_at"]),
        "ended_at": shown(row["logged_at"]),
        "ended": _ended(row),
        "host": row["host"],
        "job": row["join_id"],
        "processes": row["processes"],
    }


def _flags(row: Mapping[Any, Any]) -> str:
    """The letters of `lastcomm`; X says what it is meant to: that a signal ended the process."""
    letters = {
        "S": row["superuser"],
        "F": row["kind"] == "fork",
        "D": row["core_dumped"],
        "X": row["exit_signal"] is not None,
    }
    return "".join(letter for letter, is_set in letters.items() if is_set)


def _ended(row: Mapping[Any, Any]) -> str:
    if row["exit_signal"] is not None:
        return f"signal {row['exit_signal']}"
    return str(row["ended_by"]) if row["exit_code"] is None else f"exit {row['exit_code']}"


def show_list(rows: Iterable[Listed], form: str, limit: int | None, notes: Iterable[str] = ()) -> None:
    """Writes a list to standard output: of a table the last first; CSV and JSON as they come, a line each."""
    if form == "table":
        _show_table(rows, limit or IN_A_TABLE)
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(islice(rows, limit))
    else:
        for row in islice(rows, limit):
            click.echo(json.dumps(row, ensure_ascii=False))
    for note in notes:
        click.echo(note, err=form != "table")


def _show_table(rows: Iterable[Listed], limit: int) -> None:
    count = 0
    kept: deque[Listed] = deque(maxlen=limit)
    for row in rows:
        kept.append(row)
        count += 1
    known = [name for name in COLUMNS if any(row[name] not in {None, ""} for row in kept)]
    title = f"Processes, the last first ({count:,})"
    emit_table(title, [name.replace("_", " ") for name in known], [[_plain(row[name]) for name in known] for row in reversed(kept)])
    if count > limit:
        click.echo(f"These are the last {limit:,} of {count:,}: --limit shows more, --format csv or json all.")


def _plain(value: object) -> object:
    return str(value) if isinstance(value, int) else f"{value:.2f}" if isinstance(value, float) else value
