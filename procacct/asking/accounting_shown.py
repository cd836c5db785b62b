"""Sums of processes as a table for people, or as CSV or JSON for programs, each with who told of them and what is left out.

Tables are in minutes, as those of `sa`; CSV and JSON in seconds. What nobody told of is empty, never 0.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from batchacct.cli.common import emit_table
from batchacct.clock import shown
from procacct.asking.accounting_files import Files
from procacct.asking.accounting_question import UNKNOWN, Question
from procacct.asking.accounting_store import Told, named
from procacct.asking.accounting_sums import COLUMNS, Key, Number, Totals
from procacct.asking.accounts import group_name, user_name

FORMATS = ("table", "csv", "json")
MINUTE_S = 60
NAMES_TOLD = 5
_LEAST_OF_TWO_DIGITS = 0.005

_HEADINGS = (
    "processes", "forks", "elapsed (min)", "user CPU (min)", "system CPU (min)", "minor faults", "major faults", "swaps", "killed",
    "most resident (MiB)", "most virtual (MiB)",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """Totals by names, most CPU time first, and what is to be said of them."""

    by: str
    question: Question
    totals: Totals
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[tuple[str, list[Number]]]:
        found = [(str(key[0]), numbers) for key, numbers in self.totals.by_key.items()]
        if self.by == "day":
            return sorted(found)
        return sorted(found, key=lambda row: (-_cpu(row[1]), -(row[1][0] or 0), row[0]))


def _cpu(numbers: Sequence[Number]) -> float:
    by_name = dict(zip(COLUMNS, numbers, strict=True))
    return (by_name["cpu_user_s"] or 0) + (by_name["cpu_system_s"] or 0)


def named_totals(totals: Totals, by: str, *, numeric: bool) -> Totals:
    """Totals by what people call their keys."""
    clusters = {key[0] for key in totals.by_key} if by == "job" else set()
    return totals.renamed((key, _name(by, key, numeric=numeric, several=len(clusters) > 1)) for key in totals.by_key)


def _name(by: str, key: Key, *, numeric: bool, several: bool) -> str:
    if by in {"user", "unix-group"}:
        number, told = key[0], key[1] if len(key) > 1 else None
        if not isinstance(number, int):
            return str(told or UNKNOWN)
        if numeric:
            return str(number)
        return str(told) if told else user_name(number) if by == "user" else group_name(number)
    if by == "day":
        return shown(int(str(key[0])) * 86_400)[:10]
    if by == "terminal" and key[0] is None:
        return "(none)"
    return str(key[0]) if len(key) == 1 else named(by, key, several_clusters=several)


def show(answer: Answer, form: str) -> None:
    """Writes it to standard output; the notes of a CSV go to standard error."""
    if form == "json":
        click.echo(json.dumps(as_values(answer), indent=2, ensure_ascii=False))
        return
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow((answer.by, *COLUMNS))
        writer.writerows((name, *map(_rounded, numbers)) for name, numbers in answer.rows)
    else:
        _show_table(answer)
    for note in answer.notes:
        click.echo(note, err=form == "csv")


def as_values(answer: Answer) -> dict[str, object]:
    """An answer as JSON values."""
    question = answer.question
    return {
        "by": answer.by,
        "from": None if question.begin is None else shown(question.begin),
        "before": None if question.end is None else shown(question.end),
        "users": question.users,
        "commands": question.commands,
        "terminals": question.terminals,
        "rows": [{answer.by: name} | dict(zip(COLUMNS, map(_rounded, numbers), strict=True)) for name, numbers in answer.rows],
        "notes": answer.notes,
    }


def _rounded(number: Number) -> Number:
    return round(number, 6) if isinstance(number, float) else number


def _show_table(answer: Answer) -> None:
    if not answer.rows:
        click.echo(f"Processes by {answer.by}: there are none to sum.")
        return
    emit_table(f"Processes by {answer.by}", *table_of(answer))


def table_of(answer: Answer) -> tuple[list[str], list[list[Any]]]:
    """Titles and rows for people: times in minutes, memory in MiB, without columns of which nothing is known."""
    known = [at for at in range(len(COLUMNS)) if any(numbers[at] is not None for _, numbers in answer.rows)]
    rows = [[name, *(_cell(COLUMNS[at], numbers[at]) for at in known)] for name, numbers in answer.rows]
    return [answer.by, *(_HEADINGS[at] for at in known)], rows


def _cell(column: str, number: Number) -> object:
    if number is None:
        return None
    if column.endswith("_s"):
        return _Minutes(number / MINUTE_S)
    return number / 1024 if column.endswith("_kib") else number


class _Minutes(float):
    """Shown to a hundredth, as `sa` does: most programs take less than a tenth of a minute; what is less, to a digit."""

    def __format__(self, spec: str) -> str:
        return format(float(self), ".1g" if 0 < self < _LEAST_OF_TWO_DIGITS else ",.2f")


def notes_of_files(files: Files, by: str) -> tuple[str, ...]:
    """What is to be said of sums of files."""
    notes = ["Told by BSD accounting, which counts CPU in clock ticks and has no record of a process that still runs."]
    if by == "group":
        notes.append("A process in several groups counts in each of them.")
    notes += [f"Left out: {reason} ({count:,})." for reason, count in files.skipped.items()]
    if files.rejected:
        notes.append(f"{files.rejected:,} records could not be read; they are in none of the figures.")
    return tuple(notes)


def notes_of_store(told: Told, by: str | None = None) -> tuple[str, ...]:
    """What is to be said of processes in the store."""
    notes = [f"Hosts told of by the node daemon: {told.by_daemon:,}; by BSD accounting alone: {told.by_accounting:,}."]
    if told.of_several:
        named_hosts = ", ".join(told.of_several[:NAMES_TOLD]) + (" and others" if len(told.of_several) > NAMES_TOLD else "")
        notes.append(
            f"Of hosts that several sources told of ({named_hosts}), on each day (UTC) what the daemon told counts, else BSD "
            f"accounting, else the others: {told.left_out:,} rows do not."
        )
    if told.by_daemon:
        notes.append("Of the daemon's hosts each program that a process ran counts; the CPU of the process is with its last one.")
    if told.lost_events:
        notes.append(f"{told.lost_events:,} events of the kernel were lost in the period: processes may be missing.")
    if told.archived_months:
        notes.append(f"{told.archived_months:,} months are in the archive: what ended in them is in no figure.")
    if by == "group":
        notes.append("A process in several groups counts in each of them.")
    return tuple(notes)
