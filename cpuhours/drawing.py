"""From a report to its picture: which kind fits, what has to be asked for it, the words on it, and the figures it is drawn from."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from batchacct.errors import ConfigError
from batchacct.ledger.whose import NOT_JOINED
from batchacct.usage.bins import HOUR_S
from cpuhours.gathering import offered, total_of
from cpuhours.measures import Measure
from cpuhours.pictures import MOST_SERIES, Bar, Series, TimeAxis, draw_bars, draw_heatmap, draw_lines, draw_stack
from cpuhours.plot import COLOURS, Words, checked_path
from cpuhours.question import Question, heading, of_text
from cpuhours.report import Report
from cpuhours.showing import Cell
from cpuhours.spans import Span, usual_size

MOST_BARS = 40
FULL = 100.0


def kind_of(question: Question, kind: str | None) -> str:
    """The kind asked for, else the one that fits: bars for a comparison, lines for shares, a stack for what adds up."""
    if kind is not None:
        return kind
    if question.compare:
        return "bars"
    return "stack" if _adds_up(question) else "lines"


def _adds_up(question: Question) -> bool:
    """Whether groups can stand on each other: shares of one capacity can, those of a capacity of each cluster cannot."""
    measure = question.measured[0]
    return measure.adds_up and not (measure.name == "utilisation" and question.by == "cluster")


def check_kind(question: Question, kind: str | None, path: Path, *, log: bool) -> None:
    """Raises: ConfigError for a picture that cannot be drawn, or that nobody could read."""
    checked_path(path)
    drawn = kind_of(question, kind)
    if drawn == "stack" and not _adds_up(question):
        name = question.measured[0].name
        raise ConfigError(f"{name} of groups does not add up, so that nothing can be stacked: choose --kind lines or bars")
    if question.compare and drawn != "bars":
        raise ConfigError("--compare is drawn as bars: leave out --kind")
    if drawn == "bars" and question.group is None:
        raise ConfigError(f"bars are of groups, and --by {question.by} has none: choose --by vo, or --kind lines or stack")
    if log and drawn not in {"lines", "bars"}:
        raise ConfigError(
            "--log is for lines and bars: what is stacked, or a colour, cannot be read on such a scale: add --kind lines"
        )
    most = MOST_BARS if drawn == "bars" else MOST_SERIES
    if drawn != "heatmap" and question.top is not None and question.top > most:
        raise ConfigError(f"nobody could tell {question.top} groups apart in a picture: ask for --top {most} at most")


def question_of_picture(report: Report, kind: str | None) -> Question:
    """What has to be asked for the picture of a report: its first measure, over the same period, in the bins and groups drawn."""
    return question_drawn(report.question, report.period, kind)


def question_drawn(question: Question, period: Span, kind: str | None) -> Question:
    """The same, of the report that answers a question."""
    begin, end = period
    asked = replace(question, begin=begin, end=end, measures=question.measures[:1])
    drawn = kind_of(question, kind)
    if drawn == "heatmap":
        return replace(asked, by="hour", bins=None, top=None)
    if drawn == "bars":
        return replace(asked, bins=None, top=question.top or MOST_BARS)
    size = question.size or usual_size(begin, end)
    if question.group is None and (not question.measured[0].adds_up or question.measured[0].name == "utilisation"):
        return replace(asked, by=size, bins=None, top=None)
    return replace(asked, by=question.group or "vo", bins=size, top=question.top or len(COLOURS))


def draw(report: Report, kind: str | None, path: Path, site: str, *, log: bool = False, with_notes: bool = True) -> None:
    """Draws a report that answers `question_of_picture`.  Raises: ConfigError."""
    report = report if with_notes else replace(report, notes=())
    question, measure = report.question, report.question.measured[0]
    drawn = kind_of(question, kind)
    full_at = FULL if measure.name == "utilisation" else None
    if drawn == "heatmap":
        means = [[cell.mean for cell in row] for row in heat_of(report)]
        draw_heatmap(path, means, words_of(report, site, drawn), question.zone)
    elif drawn == "bars":
        draw_bars(path, bars_of(report), words_of(report, site, drawn), log=log)
    else:
        axis = TimeAxis(report.bins, str(question.size), question.zone, report.gaps.days)
        series, words = series_of(report), words_of(report, site, drawn)
        if drawn == "stack":
            draw_stack(path, series, axis, words, full_at=full_at)
        else:
            draw_lines(path, series, axis, words, log=log, full_at=full_at)


def words_of(report: Report, site: str, kind: str) -> Words:
    """Title, unit and what a reader has to know; how jobs are counted stands in the subtitle."""
    question, measure = report.question, report.question.measured[0]
    unit = f" ({measure.unit})" if measure.unit == "%" else ""
    per = "" if measure.per or kind == "bars" else " per hour, mean" if kind == "heatmap" else f" per {question.size}"
    by = f" by {heading(question.by)}" if question.group else " by hour and weekday" if kind == "heatmap" else ""
    where = f"; {of_text(question.where)}" if question.where else ""
    whole = "" if measure.short.startswith("mean") else " mean" if measure.per else " in all"
    how = "times spread over when jobs ran" if question.is_spread else "jobs counted where they ended"
    how = "jobs counted where they started" if measure.name == "started" else how
    legend = f"{heading(question.by)}: " if question.group else ""
    title = f"{measure.title[0].upper()}{measure.title[1:]}{by}"
    return Words(
        title=title,
        subtitle=f"{site}, {report.days_text} ({question.zone}); {how}{where}",
        y_label=f"{measure.title}{unit}{per}",
        legend_title=f"{legend}{measure.short}{whole}",
        notes=report.notes,
    )


def series_of(report: Report) -> list[Series]:
    """A row of values a group, in order: zero where nothing counted in a bin, NaN where nothing is known of it."""
    group = report.question.group
    values = dict(zip(_row_keys(report), report.question.measured[0].values(report.usage), strict=True))
    totals = _totals(report)
    found = []
    for name in report.names if group else [""]:
        row = [
            float(values[name, span[0]]) if (name, span[0]) in values else _of_nothing(report, name, span) for span in report.bins
        ]
        found.append(Series(name if group else "all jobs", row, totals[name], _look(report, name)))
    return found


def _of_nothing(report: Report, name: str, span: Span) -> float:
    """The value of a group in a bin in which nothing of it counted: it holds none of a capacity that is known; of nothing there is
    no mean.
    """
    question, measure = report.question, report.question.measured[0]
    if span[0] in report.no_data:
        return math.nan
    if measure.name != "utilisation":
        return math.nan if measure.per else 0.0
    part = max(span[0], report.period[0]), min(span[1], report.period[1])
    there = offered(question, part, report.capacity, name if question.by == "cluster" else None)
    return 0.0 if there > 0 else math.nan


def _row_keys(report: Report) -> list[tuple[str, int]]:
    usage, group = report.usage, report.question.group
    names = usage[group] if group else [""] * len(usage)
    return [(str(name), int(begin)) for name, begin in zip(names, usage["bin"], strict=True)]


def _totals(report: Report) -> dict[str, float]:
    """What each series comes to over the period, as it would be without bins, by the name of its group ("" of all)."""
    question, measure = report.question, report.question.measured[0]
    if question.group is None:
        return {"": float(measure.values(report.total).iloc[0])}
    whole = total_of(report.usage, [question.group])
    names = [str(name) for name in whole[question.group]]
    clusters = names if question.by == "cluster" else [None] * len(names)
    whole["capacity_core_s"] = [offered(question, report.period, report.capacity, cluster) for cluster in clusters]
    return dict(zip(names, map(float, measure.values(whole)), strict=True))


def _look(report: Report, name: str) -> str:
    if report.others is not None and name == report.others.name:
        return "other"
    return "pending" if name == NOT_JOINED else ""


def bars_of(report: Report) -> list[Bar]:
    """A bar a group, with what it came to in the period before where that is compared (zero if there was no such job)."""
    measure, group = report.question.measured[0], str(report.question.group)
    now = measure.values(report.usage)
    if report.before is None:
        return [Bar(str(name), float(value)) for name, value in zip(report.usage[group], now, strict=True)]
    before = dict(zip(report.before[group], measure.values(report.before), strict=True))
    nothing = math.nan if measure.per else 0.0
    return [
        Bar(str(name), float(value), float(before.get(name, nothing))) for name, value in zip(report.usage[group], now, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Heat:
    """An hour of a weekday: how many such hours of the period are known, and the mean over them in the unit of the measure."""

    weekday: int
    hour: int
    hours: float
    mean: float


def heat_of(report: Report) -> list[list[Heat]]:
    """Seven rows from Monday, of 24 hours each, of the clocks of the zone; hours of which nothing is known are left out."""
    question, measure = report.question, report.question.measured[0]
    zone = ZoneInfo(question.zone)
    begin, end = report.period
    hours = [[0.0] * 24 for _ in range(7)]
    for since, until in report.bins:
        if since not in report.no_data:
            at = dt.datetime.fromtimestamp(since, zone)
            hours[at.weekday()][at.hour] += (min(until, end) - max(since, begin)) / HOUR_S
    moments = [dt.datetime.fromtimestamp(int(at), zone) for at in report.usage["bin"]]
    placed = report.usage.assign(place=[at.weekday() * 24 + at.hour for at in moments])
    summed = total_of(placed, ["place"])
    if "capacity_core_s" in placed:
        summed["capacity_core_s"] = placed.groupby("place")["capacity_core_s"].sum().to_numpy()
    amounts = dict(zip(summed["place"], measure.values(summed), strict=True))
    return [
        [_heat(measure, place, hours[place // 24][place % 24], amounts) for place in range(day * 24, day * 24 + 24)]
        for day in range(7)
    ]


def _heat(measure: Measure, place: int, hours: float, amounts: dict[int, float]) -> Heat:
    amount = amounts.get(place, math.nan if measure.per else 0.0)
    if not hours:
        return Heat(place // 24, place % 24, 0.0, math.nan)
    return Heat(place // 24, place % 24, hours, float(amount) if measure.per else float(amount) / hours)


def heat_records(report: Report) -> list[dict[str, Cell]]:
    """The figures of a heat map: a row an hour of the week, Monday being 1."""
    column = report.question.measured[0].short
    return [
        {
            "weekday": one.weekday + 1,
            "hour": one.hour,
            "hours_known": round(one.hours, 4),
            column: None if pd.isna(one.mean) else round(one.mean, 6),
        }
        for row in heat_of(report)
        for one in row
    ]
