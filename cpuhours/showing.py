"""A report as a table for people (hours, kWh, per cent), as Markdown, and as CSV, JSON and Parquet for programs (seconds, joules).

In the data each column has its unit in its name, and what is not known is null.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd

from batchacct.cli.common import emit_table, harmless, is_numeric
from batchacct.clock import day_text, shown
from batchacct.errors import ConfigError
from cpuhours.gathering import total_of
from cpuhours.measures import MEASURES, NORMALISED, Measure
from cpuhours.question import Question, heading
from cpuhours.report import Report
from cpuhours.spans import bin_text
from cpuhours.top import unlike

FORMATS = ("table", "csv", "json", "markdown", "parquet")
NO_DATA = "no data"
SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet", ".txt": "table"}

Cell = str | int | float | None


def show(report: Report, form: str) -> None:
    """Writes a report to standard output in one of `FORMATS`; the notes of a CSV or Parquet go to standard error.

    Raises: ConfigError for Parquet on a terminal.
    """
    show_as(form, report.title, lambda: table_of(report), lambda: as_bytes(report, form), report.notes)


def show_as(
    form: str,
    title: str,
    table: Callable[[], tuple[Sequence[str], Sequence[Sequence[Cell]]]],
    data: Callable[[], bytes],
    notes: Sequence[str],
) -> None:
    """`show`, of a table (its columns and rows) for people, and for other forms of `data` in that form, which JSON and Markdown
    have the notes in.
    """
    if form == "table":
        columns, rows = table()
        emit_table(title, columns, rows, cell_text)
    elif form == "parquet" and sys.stdout.isatty():
        raise ConfigError("Parquet is no text: send it to a file, with --data FILE.parquet or > FILE.parquet")
    else:
        click.echo(data(), nl=False)
    for note in notes if form in {"table", "csv", "parquet"} else ():
        click.echo(note, err=form != "table")


def save_data(report: Report, path: Path) -> None:
    """Writes the figures of a report, in the format that the suffix says.  Raises: ConfigError."""
    _write(path, as_bytes(report, form_of(path)))


def save_rows(rows: Sequence[Mapping[str, Cell]], path: Path, columns: Sequence[str] | None = None) -> None:
    """The same of plain rows, with these columns; without any, of which there is at least one, with those it has."""
    _write(path, rows_as_bytes(rows, form_of(path), columns))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error


def form_of(path: Path) -> str:
    """Raises: ConfigError for a suffix that is no format."""
    form = SUFFIXES.get(path.suffix.lower())
    if form is None or form == "table":
        raise ConfigError(f"{path}: the suffix says which format: one of .csv, .json, .md, .parquet")
    return form


def as_bytes(report: Report, form: str) -> bytes:
    """A report in one of the formats but the table; the same report, the same bytes."""
    if form == "json":
        return (json.dumps(as_values(report), indent=2, ensure_ascii=False) + "\n").encode()
    if form == "markdown":
        return as_markdown(report.title, *table_of(report), report.notes).encode()
    if form == "csv":
        return _csv_of(data_columns(report), records(report)).encode()
    return _parquet_of(data_columns(report), records(report))


def rows_as_bytes(rows: Sequence[Mapping[str, Cell]], form: str, columns: Sequence[str] | None = None) -> bytes:
    """Plain rows, in one of the formats but the table; see `save_rows`."""
    columns = list(rows[0]) if columns is None else columns
    if form == "json":
        return (json.dumps(rows, indent=2, ensure_ascii=False) + "\n").encode()
    if form == "markdown":
        return (_markdown_table(columns, [[row[name] for name in columns] for row in rows]) + "\n").encode()
    if form == "csv":
        return _csv_of(columns, rows).encode()
    return _parquet_of(columns, rows)


# --- the data ------------------------------------------------------------------------------------------------------------------


def data_columns(report: Report) -> list[str]:
    """Names of the columns of `records`, in order."""
    question = report.question
    keys = [*([column_of_bins(report)] if question.size else []), *([question.by] if question.group else [])]
    sums = [name for name in report.usage.columns if name not in {*question.keys, "wait_jobs"} and not name.startswith("both_")]
    shares = [name for measure in question.measured if (name := measure.data_name) not in sums]
    compared = [
        f"{measure.data_name}_{what}" for measure in question.measured for what in ("before", "difference", "change_percent")
    ]
    return [*keys, *sums, *shares, *(compared if question.compare else [])]


def column_of_bins(report: Report) -> str:
    return str(report.question.size).replace(" ", "_")


def records(report: Report) -> list[dict[str, Cell]]:
    """The rows as plain values in seconds; of bins all of them: zeros where nothing counted, nulls where nothing is known."""
    question = report.question
    columns = data_columns(report)
    shares = {one.data_name: one.data_values(report.usage) for one in question.measured if one.data_name not in report.usage}
    usage = report.usage.assign(**shares)
    rows = [_plain(report, {str(k): v for k, v in row.items()}, columns) for row in usage.to_dict("records")]
    if question.compare:
        rows = [row | compared for row, compared in zip(rows, _compared_data(report), strict=True)]
    if not question.size:
        return rows
    filled: list[dict[str, Cell]] = []
    by_bin: dict[Cell, list[dict[str, Cell]]] = {}
    for row in rows:
        by_bin.setdefault(row[columns[0]], []).append(row)
    for begin, _ in report.bins:
        name = bin_text(question.size, question.zone, begin)
        filled += by_bin.get(name) or [_empty_row(columns, name, None if begin in report.no_data else 0, report)]
    return filled


def _empty_row(columns: Sequence[str], name: str, value: int | None, report: Report) -> dict[str, Cell]:
    shares = [measure.data_name for measure in report.question.measured if measure.per]
    unknown = {"efficiency", "capacity_core_s", *shares, *([report.question.by] if report.question.group else [])}
    empty: dict[str, Cell] = {column: None if column in unknown else value for column in columns}
    return empty | {columns[0]: name}


def _plain(report: Report, row: Mapping[str, object], columns: Sequence[str]) -> dict[str, Cell]:
    question = report.question
    plain: dict[str, Cell] = {}
    for name in columns:
        value = (
            bin_text(str(question.size), question.zone, int(str(row["bin"]))) if name == column_of_bins(report) else row.get(name)
        )
        if isinstance(value, float):
            plain[name] = None if pd.isna(value) else round(value, 4)
        else:
            plain[name] = value if isinstance(value, int) or value is None else str(value)
    return plain | {name: None for name in _unknown_sums(row) if name in plain}


def _unknown_sums(row: Mapping[str, object]) -> list[str]:
    """The sums of a row to which no job added anything: not known, so null, where 0 would say they used nothing."""

    def count(*names: str) -> int:
        return sum(int(str(row.get(name, 0))) for name in names)

    unknown = {
        "cpu_s": count("cpu_unknown_jobs"),
        "wall_s": count("wall_unknown_jobs"),
        "core_s": count("core_unknown_jobs"),
        "wait_s": count("wait_unknown_jobs"),
        "gpu_s": count("gpu_unknown_jobs"),
        "energy_j": count("energy_unknown_jobs"),
        "co2e_g": count("energy_unknown_jobs"),
        **{column: count(*names) for column, names in NORMALISED.values()},
    }
    jobs = count("jobs")
    found = [name for name, jobs_without in unknown.items() if jobs and jobs_without >= jobs and not row.get(name)]
    return [*found, "co2e_g"] if row.get("energy_j") and not row.get("co2e_energy_j") else found


def _compared_data(report: Report) -> list[dict[str, Cell]]:
    """For each row the cells of the columns of data that compare it."""
    assert report.before is not None
    found: list[dict[str, Cell]] = [{} for _ in range(len(report.usage))]
    for measure in report.question.measured:
        whole = measure.per is None and pd.api.types.is_integer_dtype(report.usage[measure.column])
        values = (measure.data_values(_as_now(report)), measure.data_values(report.usage))
        names = [f"{measure.data_name}_{what}" for what in ("before", "difference", "change_percent")]
        for told, before, now in zip(found, *values, strict=True):
            told.update(zip(names, _difference(before, now, whole=whole), strict=True))
    return found


def _as_now(report: Report) -> pd.DataFrame:
    """The groups of the period before in the order of those of now, which are the same."""
    assert report.before is not None
    group = str(report.question.group)
    return report.before.set_index(group).loc[list(report.usage[group])].reset_index()


def _compared_cells(report: Report) -> list[list[Cell]]:
    """For each row of the table each measure in the period before, and by how much this one differs, also in per cent of it."""
    return _differences(report, _as_now(report), report.usage)


def _compared_totals(report: Report) -> list[Cell]:
    """The same of the totals; shares of the capacity are not compared."""
    assert report.before is not None
    before = total_of(report.before).assign(capacity_core_s=float("nan"))
    if len(report.before) and report.before["jobs"].isna().all():
        before = before.assign(**dict.fromkeys(before.columns, float("nan")))
    return _differences(report, before, report.total)[0]


def _differences(report: Report, before: pd.DataFrame, now: pd.DataFrame) -> list[list[Cell]]:
    found: list[list[Cell]] = [[] for _ in range(len(now))]
    for measure in report.question.measured:
        for cells, one, other in zip(found, measure.values(before), measure.values(now), strict=True):
            cells.extend(_difference(one, other, whole=measure.unit == ""))
    return found


def _difference(before: float, now: float, *, whole: bool) -> tuple[Cell, Cell, Cell]:
    """A value before, by how much that of now is more, and by how many per cent; None where it is not known."""

    def cell(value: float) -> Cell:
        return None if pd.isna(value) else round(value) if whole else round(float(value), 4)

    known = not (pd.isna(before) or pd.isna(now))
    return cell(before), cell(now - before), round(float((now - before) / before * 100), 2) if known and before else None


def as_values(report: Report) -> dict[str, object]:
    """The report as JSON values."""
    question = report.question
    return {
        "by": question.by,
        "begin": shown(report.period[0]),
        "end": shown(report.period[1]),
        **{name: list(question.where.get(name, ())) for name in ("vo", *(n for n in question.where if n != "vo"))},
        "normalised_to": question.normalise,
        "bins": question.size,
        "zone": question.zone,
        "counted": question.counted,
        "others": None if report.others is None else report.others.count,
        "rows": records(report),
        "days_without_data": [day_text(day) for day in report.gaps.days],
        "notes": list(report.notes),
    }


def _csv_of(columns: Sequence[str], rows: Sequence[Mapping[str, Cell]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _parquet_of(columns: Sequence[str], rows: Sequence[Mapping[str, Cell]]) -> bytes:
    data = io.BytesIO()
    frame = pd.DataFrame(list(rows), columns=list(columns)).convert_dtypes()
    frame.to_parquet(data, engine="pyarrow", index=False)
    return data.getvalue()


# --- the table -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table: its title, and its cells for rows of figures."""

    title: str
    cells: Callable[[pd.DataFrame], list[Cell]]


def table_of(report: Report) -> tuple[list[str], list[list[Cell]]]:
    """Column titles with units and the rows in units people read; the total is last."""
    question = report.question
    columns = _columns(question)
    cells = [list(row) for row in zip(*(column.cells(report.usage) for column in columns), strict=True)]
    heads = [*([str(question.size)] if question.size else []), *([heading(question.by)] if question.group else [])]
    total: list[Cell] = [
        unlike(report.names, "total"),
        *([""] * (len(heads) - 1)),
        *(column.cells(report.total)[0] for column in columns),
    ]
    titles = [*heads, *(column.title for column in columns)]
    if question.compare:
        titles += [f"{one.short} {what}" for one in question.measured for what in ("before", "+/-", "+/- %")]
        cells = [[*row, *compared] for row, compared in zip(cells, _compared_cells(report), strict=True)]
        total += _compared_totals(report)
    return titles, [*_with_heads(report, cells, len(columns)), total]


def _columns(question: Question) -> list[_Column]:
    """Jobs, the measures as they are, how many jobs add nothing to them; then the same of what is normalised."""
    plain = [MEASURES[name] for name in question.measures]
    jobs = [] if "jobs" in question.measures else [MEASURES["jobs"]]
    found = [_of_measure(one) for one in (*jobs, *plain)]
    found += [_of_unknown(one) for one in plain if one.of_unknown]
    for one in question.measured:
        if one not in plain:
            found += [_of_measure(one), *([_of_unknown(one)] if one.of_unknown else [])]
    return list({column.title: column for column in found}.values())


def _of_measure(measure: Measure) -> _Column:
    def cells(frame: pd.DataFrame) -> list[Cell]:
        values = measure.values(frame)
        return [None if pd.isna(value) else int(value) if measure.unit == "" else float(value) for value in values]

    return _Column(measure.short, cells)


def _of_unknown(measure: Measure) -> _Column:
    return _Column(measure.of_unknown, lambda frame: [int(count) for count in frame[measure.unknown[-1]]])


def _with_heads(report: Report, cells: Sequence[list[Cell]], width: int) -> list[list[Cell]]:
    """The rows with what tells them apart before them; of bins all, whether anything counted in them or not."""
    question, usage = report.question, report.usage
    names: list[list[Cell]] = [[str(name)] for name in usage[question.by]] if question.group else [[] for _ in cells]
    if not question.size:
        return [[*name, *row] for name, row in zip(names, cells, strict=True)]
    by_bin: dict[int, list[list[Cell]]] = {}
    for begin, name, row in zip(usage["bin"], names, cells, strict=True):
        by_bin.setdefault(int(begin), []).append([bin_text(question.size, question.zone, int(begin)), *name, *row])
    rows: list[list[Cell]] = []
    for begin, _ in report.bins:
        at, blank = bin_text(question.size, question.zone, begin), [""] if question.group else []
        nothing: list[Cell] = [at, *blank, NO_DATA if begin in report.no_data else 0, *([None] * (width - 1))]
        rows += by_bin.get(begin) or [nothing]
    return rows


def cell_text(cell: Cell) -> str:
    """A cell as people read it; an empty text where nothing is known."""
    if isinstance(cell, str):
        return cell
    return "" if cell is None else f"{cell:,}" if isinstance(cell, int) else f"{cell:,.1f}"


def as_markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str]) -> str:
    """A title, a table and the notes as a list."""
    told = "\n".join(f"- {_markdown_text(note)}" for note in notes)
    return f"**{_markdown_text(title)}**\n\n{_markdown_table(columns, rows)}\n\n{told}\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    marks = ["---:" if is_numeric(rows, at) else "---" for at in range(len(columns))]
    lines = [columns, marks, *([_markdown_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_text(cell: Cell) -> str:
    """One line, and no column more, whatever is in a name."""
    return harmless(cell_text(cell)).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", "\\n")
