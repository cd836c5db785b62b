"""What `batchacct report` tells: usage as a table, CSV, JSON or Markdown, and as a picture, each with what it leaves out.

Tables for people are in hours; CSV and JSON are for programs, in seconds, with the unit in the name of each column. A day
of which nothing is known is a row without figures, never one of zeros.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd

from batchacct.cli.common import emit_table
from batchacct.clock import shown
from batchacct.errors import ConfigError, IncompleteError
from batchacct.ledger.whose import NOT_JOINED
from batchacct.store import Store
from cpuhours.figures import Figures, StoreFigures
from cpuhours.query import DAY_S, Gaps, day_text, efficiency

FORMATS = ("table", "csv", "json", "markdown")
HOUR_S = 3600
NO_DATA = "no data"
TOLD = (
    *("jobs", "cpu_unknown_jobs", "cpu_s", "wall_s", "core_s", "core_unknown_jobs", "efficiency"),
    *("normalised_cpu_s", "not_normalised_jobs"),
)
HOW_COUNTED = "UTC days, jobs counted on the day they ended."

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: grouped by what, over which period (Unix seconds, end exclusive), of which VOs, in which benchmark."""

    by: str
    begin: int | None = None
    end: int | None = None
    vo: tuple[str, ...] = ()
    normalise: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The answer: rows as `usage_by` gives them, the period they cover, days of which nothing is known, and notes."""

    question: Question
    period: tuple[int, int]
    usage: pd.DataFrame
    gaps: Gaps
    notes: tuple[str, ...]

    @property
    def days(self) -> range:
        """Midnights of all UTC days of the period, Unix seconds."""
        return range(self.period[0] // DAY_S * DAY_S, self.period[1], DAY_S)

    @property
    def title(self) -> str:
        of = f" of {', '.join(self.question.vo)}" if self.question.vo else ""
        last = self.period[1] - 1 if self.period[1] % DAY_S == 0 else self.period[1]
        return f"Usage{of} by {_heading(self.question.by)}, {day_text(self.period[0])} to {day_text(last)}"


def _heading(by: str) -> str:
    return "VO" if by == "vo" else by


def make_report(store: Store | Figures, question: Question) -> Report:
    """Asks the store, or who else has figures.  Raises: ConfigError, StoreError, IncompleteError if there is nothing to report."""
    figures = StoreFigures(store) if isinstance(store, Store) else store
    if question.normalise is not None and question.normalise not in (known := figures.benchmark_types()):
        raise ConfigError(f"no job was given a benchmark {question.normalise}: there are {', '.join(known) or 'none'}")
    begin, end = _period(figures, question)
    usage = _ask(figures, question, (begin, end), (question.by,))
    if question.by != "day":
        usage = usage.sort_values(["cpu_s", question.by], ascending=[False, True], ignore_index=True)
    gaps = figures.collection_gaps(begin, end)
    return Report(question, (begin, end), usage, gaps, tuple(_notes(figures, question, (begin, end), gaps)))


def _period(figures: Figures, question: Question) -> tuple[int, int]:
    """As asked for; what was left open is the day of the first job's end, and the end of the day of the last one's."""
    if question.begin is None or question.end is None:
        known = figures.ends()
        if known is None:
            raise IncompleteError("there is nothing to report: the store holds no job that started and ended")
        first, last = known[0] // DAY_S * DAY_S, (known[1] // DAY_S + 1) * DAY_S
        begin = first if question.begin is None else question.begin
        end = last if question.end is None else question.end
        if begin >= end and question.begin is not None:
            raise IncompleteError(f"there is nothing to report: the last job ended {shown(known[1])}, before --begin")
        if begin >= end:
            raise IncompleteError(f"there is nothing to report: the first job ended {shown(known[0])}, not before --end")
        return begin, end
    if question.begin >= question.end:
        raise ConfigError(f"--begin {shown(question.begin)} is not before --end {shown(question.end)}")
    return question.begin, question.end


def _ask(figures: Figures, question: Question, period: tuple[int, int], by: Sequence[str]) -> pd.DataFrame:
    begin, end = period
    return figures.usage_by(by=by, begin=begin, end=end, where={"vo": question.vo}, normalise=question.normalise)


def _notes(figures: Figures, question: Question, period: tuple[int, int], gaps: Gaps) -> list[str]:
    """Whole sentences: how it was counted, and everything that is not in the figures or may still change."""
    outcomes = _ask(figures, question, period, ("outcome",)).set_index("outcome")
    jobs = outcomes["jobs"]
    total = outcomes.sum()
    unit = "not normalised" if question.normalise is None else f"times the {question.normalise} benchmark of one core"
    span = figures.logged_span()
    newest = shown(span[1]) if span else "none"
    notes = [f"{HOW_COUNTED} CPU time as the batch system measured it, {unit}. Newest job record: {newest}."]
    notes += figures.notes((question.begin, question.end))
    if gaps.days:
        notes.append(
            f"{_count(len(gaps.days), 'day')} without any job record: nothing is known of them, which is not the same as zero."
        )
    notes += [
        f"No record of cluster {name} on {_days_text(days)}, though others have some." for name, days in gaps.by_cluster.items()
    ]
    if unknown := int(total["cpu_unknown_jobs"]):
        notes.append(f"{_count(unknown, 'job')} of unknown CPU time: in the jobs and wall hours, not in the CPU hours.")
    if unknown := int(total["core_unknown_jobs"]):
        notes.append(f"{_count(unknown, 'job')} of unknown processors or wall time: not in the core hours.")
    if question.normalise is not None and (without := int(total["not_normalised_jobs"])):
        notes.append(f"{_count(without, 'job')} without {question.normalise} benchmark: not in the {question.normalise} hours.")
    if waiting := int(jobs.get("waiting", 0)):
        notes.append(f"{_count(waiting, 'job')} still waiting for a grid identity: counted apart until then.")
    if unjoined := int(jobs.get(NOT_JOINED, 0)):
        notes.append(f"{_count(unjoined, 'job')} not joined yet: no VO until the next `batchacct publish`.")
    return notes


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _days_text(days: Sequence[int]) -> str:
    named = ", ".join(day_text(day) for day in days[:4])
    return named if len(days) <= 4 else f"{named} and {len(days) - 4} more days"


# --- the table -----------------------------------------------------------------------------------------------------------------


def show(report: Report, form: str) -> None:
    """Writes a report to standard output in one of `FORMATS`; the notes of a CSV go to standard error."""
    if form == "csv":
        click.echo(_as_csv(report), nl=False)
    elif form == "json":
        click.echo(json.dumps(as_values(report), indent=2, ensure_ascii=False))
    elif form == "markdown":
        click.echo(_as_markdown(report))
    else:
        columns, rows = _hours(report)
        emit_table(report.title, columns, _aligned(columns, rows))
    for note in report.notes if form in {"table", "csv"} else ():
        click.echo(note, err=form == "csv")


def records(report: Report) -> list[dict[str, Cell]]:
    """The rows as plain values in seconds; of days, all of them: zeros where no such job ended, nulls where nothing is known."""
    columns = _columns(report)
    found = {_key(row[report.question.by]): _plain(row, columns) for row in report.usage.to_dict("records")}
    if report.question.by != "day":
        return list(found.values())
    complete = []
    for at in report.days:
        day = day_text(at)
        empty = None if at in report.gaps.days else 0
        nothing: dict[str, Cell] = {name: None if name == "efficiency" else empty for name in columns}
        complete.append(found.get(day, nothing | {"day": day}))
    return complete


def _columns(report: Report) -> list[str]:
    """The columns of `usage_by` that a report tells."""
    told = (report.question.by, *TOLD)
    return [name for name in report.usage.columns if name in told]


def _key(value: object) -> str:
    return value.date().isoformat() if isinstance(value, pd.Timestamp) else str(value)


def _plain(row: Mapping[object, object], columns: Sequence[str]) -> dict[str, Cell]:
    plain: dict[str, Cell] = {}
    for name in columns:
        value = row[name]
        if isinstance(value, float):
            plain[name] = None if pd.isna(value) else round(value, 4)
        else:
            plain[name] = value if isinstance(value, int) else _key(value)
    return plain | dict.fromkeys(_unknown_sums(row))


def _unknown_sums(row: Mapping[object, object]) -> list[str]:
    """The sums of a row to which no job added anything: not known, so null, where 0 would say they used nothing."""
    nothing = {
        "cpu_s": row["cpu_unknown_jobs"] == row["jobs"],
        "core_s": row["core_unknown_jobs"] == row["jobs"],
        "normalised_cpu_s": "not_normalised_jobs" in row
        and int(str(row["cpu_unknown_jobs"])) + int(str(row["not_normalised_jobs"])) == row["jobs"],
    }
    return [name for name, unknown in nothing.items() if unknown]


def as_values(report: Report) -> dict[str, object]:
    """The report as JSON values."""
    return {
        "by": report.question.by,
        "begin": shown(report.period[0]),
        "end": shown(report.period[1]),
        "vo": list(report.question.vo),
        "normalised_to": report.question.normalise,
        "rows": records(report),
        "days_without_data": [day_text(day) for day in report.gaps.days],
        "notes": list(report.notes),
    }


def _as_csv(report: Report) -> str:
    text = io.StringIO()
    columns = _columns(report)
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(report))
    return text.getvalue()


def _hours(report: Report) -> tuple[list[str], list[list[Cell]]]:
    """Column titles with units and the rows in hours; the total is last."""
    benchmark = report.question.normalise
    columns = [_heading(report.question.by), "jobs", "CPU h", "core h", "wall h", "CPU / core (%)", "jobs of unknown CPU"]
    columns += [f"{benchmark} h", f"jobs without {benchmark}"] if benchmark else []
    rows = [_hours_of(row, report.question.by, benchmark) for row in records(report)]
    whole = report.usage.drop(columns=[report.question.by, "efficiency"]).sum().to_frame().T
    whole = whole.assign(efficiency=efficiency(whole), name="total")
    total = whole.to_dict("records")[0]
    return columns, [*rows, _hours_of({str(k): v for k, v in total.items()}, "name", benchmark)]


def _hours_of(row: Mapping[str, Cell], by: str, benchmark: str | None) -> list[Cell]:
    if row["jobs"] is None:
        return [row[by], NO_DATA, *([None] * (7 if benchmark else 5))]
    effective = row["efficiency"]
    percent = None if effective is None or pd.isna(effective) else float(effective) * 100
    times = [_in_hours(row[name]) for name in ("cpu_s", "core_s", "wall_s")]
    cells: list[Cell] = [row[by], int(row["jobs"]), *times, percent, int(row["cpu_unknown_jobs"] or 0)]
    if benchmark:
        cells += [_in_hours(row["normalised_cpu_s"]), int(row["not_normalised_jobs"] or 0)]
    return cells


def _in_hours(seconds: Cell) -> float | None:
    return None if seconds is None else float(seconds) / HOUR_S


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return "" if cell is None else f"{cell:,}" if isinstance(cell, int) else f"{cell:,.1f}"


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """Figures as texts that end in one column, so that a row without figures does not move those of the others."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in texts)) for i, name in enumerate(columns)]
    return [[row[0], *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))] for row in texts]


def _as_markdown(report: Report) -> str:
    columns, rows = _hours(report)
    lines = [columns, ["---", *(["---:"] * (len(columns) - 1))], *([_text(cell).replace("|", "\\|") for cell in r] for r in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{report.title}**\n\n{table}\n\n" + "\n".join(f"- {note}" for note in report.notes)


# --- the picture ---------------------------------------------------------------------------------------------------------------


def plot_report(store: Store | Figures, report: Report, path: Path, site: str) -> None:
    """Draws CPU hours by day, stacked by what the report is grouped by (a report by day: by VO).

    Raises: ConfigError, StoreError.
    """
    from cpuhours.plot import Words, plot_days, top_of  # noqa: PLC0415 - slow to import, and most reports are tables only

    figures = StoreFigures(store) if isinstance(store, Store) else store
    question = report.question
    stacked_by = "vo" if question.by == "day" else question.by
    usage = _ask(figures, question, report.period, ("day", stacked_by))
    column = "cpu_s" if question.normalise is None else "normalised_cpu_s"
    stacks: dict[str, dict[int, float]] = {}
    for row in usage.to_dict("records"):
        midnight = int(row["day"].timestamp())
        stacks.setdefault(str(row[stacked_by]), {})[midnight] = float(row[column]) / HOUR_S
    unit = "CPU hours" if question.normalise is None else f"{question.normalise} hours"
    words = Words(
        title=f"{unit} by {_heading(stacked_by)}",
        subtitle=f"{site}, " + report.title.split(", ")[-1] + (f", VO {', '.join(question.vo)}" if question.vo else ""),
        y_label=f"{unit} per day",
        legend_title=f"{_heading(stacked_by)}: {unit} in all",
        notes=report.notes,
    )
    plot_days(path, top_of(stacks), report.days, report.gaps.days, words)
