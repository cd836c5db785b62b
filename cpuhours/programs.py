"""What ran inside the jobs, by program, library and the like: the rows of a report, its picture, and the words on both."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchacct.clock import day_text, shown
from batchacct.errors import ConfigError
from batchacct.program_figures import Asked, Found, Ran
from batchacct.usage.bins import HOUR_S
from cpuhours.drawing import MOST_BARS
from cpuhours.gathering import days_of
from cpuhours.notes import count_of, days_text, in_part
from cpuhours.pictures import MOST_SERIES, Bar, Series, TimeAxis, draw_bars, draw_lines, draw_stack
from cpuhours.plot import Words, checked_path
from cpuhours.showing import NO_DATA, Cell, as_markdown, rows_as_bytes
from cpuhours.spans import Span, bin_text, period_text, usual_size
from cpuhours.top import unlike


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured of programs: in a table, on an axis (with its unit), and how it is read from a row, in that unit."""

    short: str
    title: str
    of: Callable[[Ran], float]
    adds_up: bool = True


MEASURES: Mapping[str, Measure] = {
    "cpu": Measure("CPU h", "CPU hours", lambda ran: ran.cpu_s / HOUR_S),
    "elapsed": Measure("elapsed h", "elapsed hours of processes", lambda ran: ran.elapsed_s / HOUR_S),
    "executions": Measure("executions", "executions", lambda ran: float(ran.executions)),
    "jobs": Measure("jobs", "jobs", lambda ran: float(ran.jobs), adds_up=False),
    "users": Measure("users", "users", lambda ran: float(ran.users), adds_up=False),
}
"""By the names of `--measure`. Jobs and users do not add up: several programs run in one job."""

COLUMNS = ("executions", "jobs", "users", "cpu", "elapsed")
DATA = ("executions", "jobs", "users", "cpu_s", "elapsed_s", "cpu_unknown_executions")
NO_DATA_DAYS = "days_without_data"
"""Of a bin: how many UTC days of it have no record."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How the figures are shown: by what, the measure that says which are the largest, how many, and bins of which zone."""

    by: str
    measure: str
    top: int
    size: str | None
    zone: str
    site: str
    overlapping: bool = False

    @property
    def heading(self) -> str:
        return {"vo": "VO"}.get(self.by, self.by)

    @property
    def adds_up(self) -> bool:
        return MEASURES[self.measure].adds_up and not self.overlapping


@dataclass(frozen=True, slots=True)
class Row:
    """A thing and what ran of it; of several things (`is_rest`) jobs and users are not known, as they may be the same ones."""

    ran: Ran
    is_rest: bool = False


class Programs:
    """A report of programs: what was asked, what was found, and how it is shown."""

    def __init__(self, asked: Asked, found: Found, how: Shown) -> None:
        self.asked = asked
        self.found = found
        self.shown = how
        measure = MEASURES[how.measure]
        order = sorted(found.whole, key=lambda ran: (-measure.of(ran), ran.name))
        self._kept = {ran.name: number for number, ran in enumerate(order[: how.top])}
        self.rest = len(order) - len(self._kept)
        self._rest_name = unlike(self._kept, f"other ({self.rest:,} more)")
        self.rows = self._largest(found.whole)

    def _largest(self, of: Sequence[Ran]) -> list[Row]:
        """In the order of the whole period; the rest as one row, where rows add up."""
        kept = sorted((ran for ran in of if ran.name in self._kept), key=lambda ran: self._kept[ran.name])
        rest = [ran for ran in of if ran.name not in self._kept]
        rows = [Row(ran) for ran in kept]
        return rows if self.shown.overlapping or not rest else [*rows, Row(_sum(self._rest_name, rest), is_rest=True)]

    @property
    def title(self) -> str:
        bins = f" and {self.shown.size}" if self.shown.size else ""
        return f"Programs{self._of} by {self.shown.heading}{bins}, {self.days_text}"

    @property
    def _of(self) -> str:
        """`, VO atlas, user alice`: what is not everybody's."""
        told = [("VO", ", ".join(self.asked.vo)), ("cluster", self.asked.cluster), ("user", self.asked.user)]
        return "".join(f", {what} {name}" for what, name in told if name)

    @property
    def size(self) -> str:
        """That of the bins, as asked for, or as they fit a picture of the period."""
        return self.shown.size or usual_size(*self.asked.period)

    @property
    def days_text(self) -> str:
        return period_text(*self.asked.period, self.shown.zone)

    @property
    def notes(self) -> list[str]:
        how = ["Rows overlap: a process is in each that it belongs to."] if self.shown.overlapping else []
        if self.rest and self.shown.overlapping:
            how.append(f"{count_of(self.rest, 'more row')}: --top shows more.")
        if self.shown.size:
            how += in_part(self.shown.size, self.shown.zone, self.asked.period)
        if missing := self.found.no_data:
            days, of = count_of(len(missing), "day"), f" on cluster {self.asked.cluster}" if self.asked.cluster else ""
            how.append(
                f"{days} (UTC) without any record of a process{of}, {days_text(missing)}: nothing is known of them, "
                "which is not the same as zero."
            )
        if not self.found.whole:
            how.append(f"No process{self._of.replace(',', ' of', 1)} ended in this time.")
        return [*how, *self.found.notes]

    # --- the table and the data -----------------------------------------------------------------------------------------------

    def table(self) -> tuple[list[str], list[list[Cell]]]:
        """Column titles, and the rows in units people read; where rows add up the total is last."""
        size = self.shown.size
        titles = [*([size] if size else []), self.shown.heading, *(MEASURES[name].short for name in COLUMNS)]
        rows: list[list[Cell]] = []
        for span, of in self._parts():
            head: list[Cell] = [] if span is None else [bin_text(self.size, self.shown.zone, span[0])]
            rows += [[*head, row.ran.name, *_for_people(row)] for row in of]
            if span is not None and not of:
                rows.append([*head, NO_DATA if self._days_missing(span) else "", *([None] * len(COLUMNS))])
        if not self.shown.overlapping:
            total = Row(_sum("total", self.found.whole), is_rest=True)
            rows.append([unlike(self._kept, "total"), *([""] if size else []), *_for_people(total)])
        return titles, rows

    def records(self, *, of_picture: bool = False) -> list[dict[str, Cell]]:
        """The rows as values, in seconds; of a bin of which nothing is known one of nulls, of one without processes one of zeros.

        Rows by bins tell of how many of its UTC days nothing is known. Those of a picture over time are by its bins.
        """
        found: list[dict[str, Cell]] = []
        for span, of in self._parts(of_picture=of_picture):
            head: dict[str, Cell] = {}
            tail: dict[str, Cell] = {}
            if span is not None:
                head = {self.size.replace(" ", "_"): bin_text(self.size, self.shown.zone, span[0])}
                tail = {NO_DATA_DAYS: self._days_missing(span)}
            found += [head | {self.shown.by: row.ran.name} | _for_programs(row) | tail for row in of]
            if span is not None and not of:
                value = None if self._days_missing(span) else 0
                found.append(head | {self.shown.by: None} | dict.fromkeys(DATA, value) | tail)
        return found

    def columns(self, *, of_picture: bool = False) -> list[str]:
        """Those of `records`."""
        if not self._has_bins(of_picture=of_picture):
            return [self.shown.by, *DATA]
        return [self.size.replace(" ", "_"), self.shown.by, *DATA, NO_DATA_DAYS]

    def as_bytes(self, form: str) -> bytes:
        """In one of `showing.FORMATS` but the table."""
        if form == "markdown":
            return as_markdown(self.title, *self.table(), self.notes).encode()
        if form != "json":
            return rows_as_bytes(self.records(), form, self.columns())
        begin, end = (shown(at) for at in self.asked.period)
        told: dict[str, object] = {
            "site": self.shown.site,
            "by": self.shown.by,
            "begin": begin,
            "end": end,
            "bins": self.shown.size,
            "zone": self.shown.zone,
            "vo": list(self.asked.vo),
            "cluster": self.asked.cluster,
            "user": self.asked.user,
            "largest_by": self.shown.measure,
            "others": self.rest,
            "rows": self.records(),
            "days_without_data": [day_text(day) for day in self.found.no_data],
            "notes": self.notes,
        }
        return (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode()

    def _has_bins(self, *, of_picture: bool) -> bool:
        return bool(self.shown.size or (of_picture and self.found.bins))

    def _parts(self, *, of_picture: bool = False) -> list[tuple[Span | None, list[Row]]]:
        if not self._has_bins(of_picture=of_picture):
            return [(None, self.rows)]
        return [(span, self._largest(rows)) for span, rows in self.found.bins]

    def _days_missing(self, span: Span) -> int:
        """How many UTC days of a bin have no record."""
        begin, end = max(span[0], self.asked.period[0]), min(span[1], self.asked.period[1])
        return len(set(self.found.no_data).intersection(days_of(begin, end)))

    # --- the picture ----------------------------------------------------------------------------------------------------------

    def series(self) -> list[Series]:
        """A row of values a thing; zero where nothing ran of it, NaN where nothing is known of the bin."""
        measure = MEASURES[self.shown.measure]
        parts = [(span, {row.ran.name: row for row in self._largest(rows)}) for span, rows in self.found.bins]
        found = []
        for row in self._drawn():
            name = row.ran.name
            values = [
                measure.of(of[name].ran) if name in of else math.nan if not of and self._days_missing(span) else 0.0
                for span, of in parts
            ]
            found.append(Series(name, values, measure.of(row.ran), "other" if row.is_rest else ""))
        return found

    def _drawn(self) -> list[Row]:
        """Of the rest nobody knows how many jobs or users it had."""
        return [row for row in self.rows if MEASURES[self.shown.measure].adds_up or not row.is_rest]

    def draw(self, path: Path, kind: str, *, log: bool = False) -> None:
        """A stack, lines or bars; what is drawn over time needs bins.  Raises: ConfigError."""
        if kind == "bars":
            draw_bars(
                path, [Bar(row.ran.name, MEASURES[self.shown.measure].of(row.ran)) for row in self._drawn()], self._words(), log=log
            )
            return
        axis = TimeAxis([span for span, _ in self.found.bins], self.size, self.shown.zone, self.found.no_data)
        words = replace(self._words(), y_label=f"{MEASURES[self.shown.measure].title} per {self.size}")
        if kind == "stack":
            draw_stack(path, self.series(), axis, words)
        else:
            draw_lines(path, self.series(), axis, words, log=log)

    def _words(self) -> Words:
        measure = MEASURES[self.shown.measure]
        return Words(
            title=f"{measure.title[0].upper()}{measure.title[1:]} by {self.shown.heading}",
            subtitle=f"{self.shown.site}, {self.days_text} ({self.shown.zone}); processes counted where they ended{self._of}",
            y_label=measure.title,
            legend_title=f"{self.shown.heading}: {measure.short} in all",
            notes=self.notes,
        )


def kind_that_fits(how: Shown) -> str:
    """A stack of what adds up, else bars."""
    return "stack" if how.adds_up else "bars"


def check_kind(how: Shown, kind: str, path: Path, *, log: bool) -> None:
    """Raises: ConfigError for a picture that cannot be drawn, or that nobody could read."""
    checked_path(path)
    if kind == "stack" and not how.adds_up:
        what = how.by if how.overlapping else how.measure
        raise ConfigError(f"figures by {what} do not add up, so that nothing can be stacked: choose --kind lines or bars")
    if log and kind == "stack":
        raise ConfigError("--log is for lines and bars: what is stacked cannot be read on such a scale: add --kind lines")
    most = MOST_BARS if kind == "bars" else MOST_SERIES
    if how.top > most:
        raise ConfigError(f"nobody could tell {how.top} rows apart in a picture: ask for --top {most} at most")


def _sum(name: str, of: Sequence[Ran]) -> Ran:
    return Ran(
        sum(ran.executions for ran in of),
        0,
        0,
        math.fsum(ran.cpu_s for ran in of),
        math.fsum(ran.elapsed_s for ran in of),
        sum(ran.cpu_unknown_executions for ran in of),
        name,
    )


def _for_people(row: Row) -> list[Cell]:
    ran = row.ran
    some: list[Cell] = [None, None] if row.is_rest else [ran.jobs, ran.users]
    return [ran.executions, *some, MEASURES["cpu"].of(ran), MEASURES["elapsed"].of(ran)]


def _for_programs(row: Row) -> dict[str, Cell]:
    ran = row.ran
    some: list[Cell] = [None, None] if row.is_rest else [ran.jobs, ran.users]
    values: list[Cell] = [ran.executions, *some, round(ran.cpu_s, 4), round(ran.elapsed_s, 4), ran.cpu_unknown_executions]
    return dict(zip(DATA, values, strict=True))
