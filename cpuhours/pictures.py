"""The kinds of picture a report has: stacked bars and lines over time, bars of a whole period, and hours by weekday.

Values that are not known are NaN, and drawn as nothing; the days of which nothing is known are hatched. Instants are Unix seconds.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from cpuhours.labels import amount_text, legend_text, short_name
from cpuhours.plot import (
    COLOURS,
    MONTHS,
    NOT_JOINED_COLOUR,
    OTHER_COLOUR,
    Stack,
    Words,
    add_bars,
    add_legend,
    hatch_days,
    house_style,
    limits,
    log_scale,
    mark_zero,
    new_figure,
    number_text,
    save,
)
from cpuhours.query import DAY_S
from cpuhours.spans import SHORT, Span

MOST_SERIES = 3 * len(COLOURS)
"""So many series the eye can tell apart: by colour, and then by hatching or dashes."""
MOST_TICKS = 12
_HATCHES = ("", "////", "....")
_DASHES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
BEFORE_COLOUR = "#B8B8B8"


@dataclass(frozen=True, slots=True)
class Series:
    """A named row of values, one a bin, and what they come to in all, as the legend says it; `look` is "", "other" or "pending"."""

    name: str
    values: Sequence[float]
    total: float
    look: str = ""


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The bins along the axis, of one size, in a zone; and the UTC days of which nothing is known."""

    bins: Sequence[Span]
    size: str
    zone: str
    no_data: Sequence[int] = ()

    @property
    def label(self) -> str:
        return f"week from Monday ({self.zone})" if self.size == "week" else f"{self.size} ({self.zone})"


@dataclass(frozen=True, slots=True)
class Bar:
    """One group: what it came to, in the period before too, if that is compared."""

    name: str
    value: float
    before: float | None = None


def draw_stack(path: Path, series: Sequence[Series], axis: TimeAxis, words: Words, *, full_at: float | None = None) -> None:
    """Bars, the first series at the bottom, what is negative below zero; a dashed line at `full_at`.  Raises: ConfigError."""
    with house_style():
        figure, axes = new_figure(words)
        stack = Stack(len(axis.bins))
        handles: list[Any] = []
        begins, widths = _places(axis)
        for one, (colour, hatch, _) in zip(series, _looks(series), strict=True):
            heights = np.nan_to_num(np.asarray(one.values, float))
            edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.4 if len(axis.bins) <= 100 else 0.0}
            add_bars(axes, begins, widths, heights, stack.bases_of(heights), facecolor=colour, hatch=hatch, **edge)
            handles.insert(0, Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=legend_text(one.name, one.total)))
        _finish(axes, axis, handles, words, full_at=full_at, values=stack.ends)
        save(figure, path)


def draw_lines(
    path: Path, series: Sequence[Series], axis: TimeAxis, words: Words, *, log: bool = False, full_at: float | None = None
) -> None:
    """A line a series from bin to bin, interrupted where it has no value, which stands alone as a dot.  Raises: ConfigError."""
    with house_style():
        figure, axes = new_figure(words)
        handles: list[Any] = []
        middles = [(begin + end) / 2 / DAY_S for begin, end in axis.bins]
        for one, (colour, _, dashes) in zip(series, _looks(series), strict=True):
            values = np.asarray(one.values, float)
            shown = np.where(values > 0, values, math.nan) if log else values
            axes.plot(middles, shown, dashes, color=colour, linewidth=1.7)
            alone = _alone(shown)
            axes.plot(np.asarray(middles)[alone], shown[alone], "o", color=colour, markersize=4)
            handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=1.7, label=legend_text(one.name, one.total)))
        values = np.asarray([value for one in series for value in one.values], float)
        positive = [float(value) for value in values if value > 0] if log else []
        _finish(axes, axis, handles, words, full_at=full_at, values=values)
        if positive:
            axes.set_ylim(min(positive) / 1.5, max(*positive, full_at or 0.0) * 1.5)
            log_scale(axes.yaxis, positive, "mask")
        save(figure, path)


def draw_bars(path: Path, bars: Sequence[Bar], words: Words, *, log: bool = False) -> None:
    """A horizontal bar a group, with its value beside it, and that of the period before below it.  Raises: ConfigError."""
    compared = any(bar.before is not None for bar in bars)
    with house_style():
        rows = max(len(bars), 1)
        figure, axes = new_figure(words, height_in=max(6.0, 1.9 + rows * (0.42 if compared else 0.26)), sideways=True)
        places = np.arange(rows)[: len(bars)]
        thick = 0.38 if compared else 0.72
        shift = thick / 2 if compared else 0.0
        axes.barh(places - shift, [_number(bar.value) for bar in bars], height=thick, color=COLOURS[0], label="this period")
        if compared:
            before = [_number(bar.before) for bar in bars]
            axes.barh(places + shift, before, height=thick, color=BEFORE_COLOUR, label="the period before")
            add_legend(axes, axes.get_legend_handles_labels()[0], "")
        values = [_number(value) for bar in bars for value in (bar.value, bar.before)]
        positive = [value for bar in bars if (value := _number(bar.value)) > 0]
        if log and positive:
            axes.set_xlim(min(positive) / 2, max(values) * 4)
            log_scale(axes.xaxis, [min(positive) / 2, max(values) * 4], "clip")
        else:
            axes.set_xlim(*limits(values, 0.16))
        for place, bar in zip(places, bars, strict=True):
            value = max(_number(bar.value), axes.get_xlim()[0])
            away, side = ((-4, 0), "right") if value < 0 else ((4, 0), "left")
            axes.annotate(
                _bar_text(bar), (value, place - shift), away, textcoords="offset points", va="center", ha=side, fontsize=8
            )
        axes.set_yticks(places, [short_name(bar.name) for bar in bars], fontsize=9)
        axes.set_ylim(rows - 0.4, -0.6)
        if not bars:
            axes.set_yticks([])
            axes.text(0.5, 0.5, "no job in this period", transform=axes.transAxes, ha="center", color="#4D4D4D")
        save(figure, path)


def draw_heatmap(path: Path, means: Sequence[Sequence[float]], words: Words, zone: str) -> None:
    """Seven rows from Monday, of 24 hours each; dark is little. NaN is hatched.  Raises: ConfigError."""
    with house_style():
        figure, axes = new_figure(words)
        table = np.ma.masked_invalid(np.asarray(means, float))
        axes.grid(visible=False)
        axes.set_facecolor("#F4F4F4")
        axes.patch.set(hatch="////", edgecolor="#9A9A9A", linewidth=0.0)
        lowest, highest = (min(0.0, float(table.min())), max(0.0, float(table.max()))) if table.count() else (0.0, 1.0)
        drawn = axes.pcolormesh(
            np.arange(25), np.arange(8), table, cmap="cividis", vmin=lowest, vmax=highest if highest > lowest else lowest + 1
        )
        axes.set_ylim(7, 0)
        axes.set_yticks(np.arange(7) + 0.5, list(_WEEKDAYS))
        axes.set_ylabel("")
        axes.set_xticks(np.arange(0, 25, 2), [f"{hour:02d}:00" for hour in range(0, 25, 2)])
        axes.set_xlabel(f"hour of the day ({zone})")
        axes.tick_params(length=0)
        bar = figure.colorbar(drawn, ax=axes, pad=0.02, aspect=30)
        bar.set_label(words.y_label)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(number_text))
        bar.outline.set_visible(False)
        if table.mask is not np.False_ and bool(np.any(table.mask)):
            add_legend(
                axes,
                [
                    Patch(
                        facecolor="#F4F4F4", edgecolor="#9A9A9A", hatch="////", linewidth=0.0, label="no data, or not in the period"
                    )
                ],
                "",
                below=True,
            )
        save(figure, path)


# --- what the pictures share ---------------------------------------------------------------------------------------------------


def _places(axis: TimeAxis) -> tuple[list[float], list[float]]:
    """Where bars begin and how wide they are, in days: with a little space between them unless there are too many."""
    share = 0.86 if len(axis.bins) <= 100 else 1.0
    widths = [(end - begin) / DAY_S * share for begin, end in axis.bins]
    return [begin / DAY_S + (1 - share) / 2 * (end - begin) / DAY_S for begin, end in axis.bins], widths


def _looks(series: Sequence[Series]) -> list[tuple[str, str, Literal["-", "--", ":"]]]:
    """Colour, hatching and dashes of each series: greys for what is no group, else the palette, anew with another pattern."""
    fixed: dict[str, tuple[str, str, Literal["-"]]] = {"other": (OTHER_COLOUR, "", "-"), "pending": (NOT_JOINED_COLOUR, "", "-")}
    found: list[tuple[str, str, Literal["-", "--", ":"]]] = []
    number = 0
    for one in series:
        if one.look in fixed:
            found.append(fixed[one.look])
            continue
        turn = min(number // len(COLOURS), len(_HATCHES) - 1)
        found.append((COLOURS[number % len(COLOURS)], _HATCHES[turn], _DASHES[turn]))
        number += 1
    return found


def _alone(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which values have no neighbour, so that no line leads to them."""
    known: npt.NDArray[np.bool_] = ~np.isnan(values)
    before, after = np.roll(known, 1), np.roll(known, -1)
    if len(known):
        before[0] = after[-1] = False
    alone: npt.NDArray[np.bool_] = known & ~before & ~after
    return alone


def _finish(
    axes: Axes, axis: TimeAxis, handles: Sequence[Any], words: Words, *, full_at: float | None, values: npt.NDArray[np.float64]
) -> None:
    """The axes, what is hatched, and the legend."""
    shown = list(handles)
    if axis.no_data:
        shown.append(hatch_days(axes, axis.no_data, offset=0.0))
    if full_at is not None:
        axes.axhline(full_at, color="#222222", linewidth=1.0, linestyle=(0, (6, 4)), zorder=3)
        shown.append(Line2D([], [], color="#222222", linewidth=1.0, linestyle=(0, (6, 4)), label=f"{full_at:g} %: all cores"))
    axes.set_ylim(*limits([*values, full_at or 0.0]))
    mark_zero(axes)
    first, last = axis.bins[0][0] / DAY_S, axis.bins[-1][1] / DAY_S
    margin = (last - first) * 0.008
    axes.set_xlim(first - margin, last + margin)
    places, texts = _ticks(axis)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.set_xticks(places, texts)
    axes.tick_params(axis="x", length=3)
    axes.set_xlabel(axis.label)
    add_legend(axes, shown, words.legend_title)


def _ticks(axis: TimeAxis) -> tuple[list[float], list[str]]:
    """Places along the axis and their texts: below the middles of days, weeks and months, at the beginnings of hours."""
    zone = ZoneInfo(axis.zone)
    starts = [dt.datetime.fromtimestamp(begin, zone) for begin, _ in axis.bins]
    if axis.size in SHORT:
        hours = next(h for h in (1, 2, 3, 6, 12, 24, 48, 96, 10**6) if len(axis.bins) * SHORT[axis.size] / 3600 / h <= MOST_TICKS)
        chosen = [
            number
            for number, at in enumerate(starts)
            if at.minute == 0 and (at.hour % hours == 0 if hours < 24 else at.hour == 0 and at.toordinal() % (hours // 24) == 0)
        ] or [0]
        return [axis.bins[n][0] / DAY_S for n in chosen], _hour_texts([starts[n] for n in chosen])
    step = -(-len(starts) // MOST_TICKS)
    chosen = list(range(0, len(starts), step))
    return [sum(axis.bins[n]) / 2 / DAY_S for n in chosen], _date_texts([starts[n] for n in chosen], axis.size)


def _hour_texts(moments: Sequence[dt.datetime]) -> list[str]:
    """`13:00`; the first one, and the first of a day, with the day below."""
    texts, day = [], None
    for at in moments:
        below = f"\n{at.day} {MONTHS[at.month - 1]}" + (f" {at.year}" if day is None else "") if at.date() != day else ""
        texts.append(f"{at:%H:%M}{below}")
        day = at.date()
    return texts


def _date_texts(moments: Sequence[dt.datetime], size: str) -> list[str]:
    """`7 Nov`, of a month `Nov`; the first one, and the first of a year, with the year below."""
    texts, year = [], None
    for at in moments:
        name = MONTHS[at.month - 1] if size == "month" else f"{at.day} {MONTHS[at.month - 1]}"
        texts.append(name + (f"\n{at.year}" if at.year != year else ""))
        year = at.year
    return texts


def _number(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else value


def _bar_text(bar: Bar) -> str:
    if math.isnan(bar.value):
        return "unknown"
    text = amount_text(bar.value)
    if bar.before is None:
        return text
    if math.isnan(bar.before) or bar.before == 0:
        return f"{text}  (before: {'unknown' if math.isnan(bar.before) else '0'})"
    return f"{text}  ({(bar.value - bar.before) / abs(bar.before) * 100:+,.0f} %)"
