"""How the answers are shown: a table for people, in hours; JSON and CSV for programs, in seconds, with the unit in each name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import click

from batchacct.cli.common import emit_table

FORMATS = ("table", "csv", "json")
HOUR_S = 3600

Value = str | int | float | None
Values = Mapping[str, Value | Sequence[str]]
"""A row for programs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows for people under the titles of `columns`, the same rows as values for programs, notes, and what else JSON tells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    values: Sequence[Values]
    notes: Sequence[str] = ()
    more: Mapping[str, object] = field(default_factory=dict)


def show(answer: Answer, form: str) -> None:
    """Writes it to standard output in one of `FORMATS`; the notes of a CSV go to standard error."""
    if form == "json":
        told = {**answer.more, "rows": [dict(row) for row in answer.values], "notes": list(answer.notes)}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    if form == "csv":
        click.echo(_csv(answer.values), nl=False)
    else:
        emit_table(answer.title, answer.columns, answer.rows)
    for note in answer.notes:
        click.echo(note, err=form == "csv")


def _csv(rows: Sequence[Values]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, str | int | float | None) else " ".join(v) for k, v in row.items()} for row in rows)
    return text.getvalue()


def hours(seconds: float) -> float:
    return seconds / HOUR_S
