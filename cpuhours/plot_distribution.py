"""The picture of a distribution of wall times: a histogram, and the cumulative curve on an axis of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, NullFormatter

from batchacct.errors import ConfigError
from batchacct.usage.bins import HOUR_S
from cpuhours.distribution import Distribution
from cpuhours.plot import Words, house_style, new_figure, save

CURVE = "#222222"
HEADROOM = 1.06
MOST_MINUTES_S = 3 * HOUR_S
"""Up to here the axis is in minutes, as in 2012."""
STEPS_H = (1, 2, 3, 4, 6, 12, 24, 48, 72, 96, 168)
"""Distances of ticks in hours that people can count by."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Title, what stands behind the unit of times (` x host factor x 3.9`, or nothing), sentences to stand below."""

    title: str
    normalisation: str
    notes: Sequence[str]


def plot_distribution(
    path: Path, found: Distribution, labels: Labels, *, colour: str, log: bool = False, percent: bool = False
) -> None:
    """Bars and curve; `log` makes both vertical axes logarithmic, `percent` the curve's one of all jobs.  Raises: ConfigError."""
    if not is_color_like(colour):
        raise ConfigError(f"{colour!r} is no colour: write r, g, b, k, a name such as darkblue, or #0072B2")
    with house_style():
        width = _time_text(found.bin_s)
        figure, axes = new_figure(
            Words(labels.title, "Distribution of wall times", f"jobs per bin of {width}", "", [*labels.notes, *_told(found)])
        )
        unit_s, unit = (60, "minutes") if found.right_s <= MOST_MINUTES_S else (HOUR_S, "hours")
        begins = sorted(found.jobs)
        axes.bar(
            [at / unit_s for at in begins],
            [found.jobs[at] for at in begins],
            width=found.bin_s / unit_s,
            align="edge",
            color=colour,
            linewidth=0,
        )
        curve = _curve(axes, found, unit_s, percent=percent)
        axes.set_xlim(0, found.right_s / unit_s)
        axes.xaxis.set_major_locator(_ticks(found.right_s / unit_s))
        axes.set_xlabel(f"wall time ({unit}{labels.normalisation})")
        _scales(axes, curve, found, log=log, percent=percent)
        _legend(axes, colour, "percent" if percent else "jobs")
        save(figure, path)


def _told(found: Distribution) -> list[str]:
    """Sentences about what is not to be seen."""
    told = [f"{found.total:,} {_jobs(found.total)}. A bin holds its begin, and not its end."]
    if found.beyond:
        share = 100 * found.beyond / found.total
        edge = _time_text(found.right_s)
        told.append(
            f"Beyond the right edge ({edge} or longer): {found.beyond:,} {_jobs(found.beyond)} ({share:.2g} %), part of all jobs."
        )
    if found.without_factor:
        told.append(f"Left out: {found.without_factor:,} {_jobs(found.without_factor)} without host factor to normalise by.")
    if found.negative:
        told.append(f"Left out: {found.negative:,} {_jobs(found.negative)} that ended before the start, by their records.")
    if found.unknown_cpu:
        told.append(f"Left out, as in 2012: {found.unknown_cpu:,} {_jobs(found.unknown_cpu)} of unknown CPU time.")
    return told


def _jobs(number: int) -> str:
    return "job" if number == 1 else "jobs"


def _time_text(seconds: int) -> str:
    """`22 h 20 min`."""
    parts = ((seconds // HOUR_S, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{number:,} {unit}" for number, unit in parts if number)


def _curve(axes: Axes, found: Distribution, unit_s: int, *, percent: bool) -> Any:
    """The second axis, with how many jobs, or how much of all of them, ran less than so long."""
    second = axes.twinx()
    whole = found.total / 100 if percent else 1
    corners = found.cumulative()
    second.plot([at / unit_s for at, _ in corners], [jobs / whole for _, jobs in corners], color=CURVE, linewidth=1.6)
    second.set_ylabel("cumulative jobs (% of all)" if percent else "cumulative jobs")
    second.spines["right"].set_visible(True)
    return second


def _ticks(right: float) -> MultipleLocator | MaxNLocator:
    steps = (1, 2, 3, 5, 10, 15, 20, 30) if right in (30, 180) else STEPS_H
    step = next((step for step in steps if right / step <= 13), None)
    return MaxNLocator(nbins=10, integer=True) if step is None or right < 2 else MultipleLocator(step)


def _scales(axes: Axes, curve: Axes, found: Distribution, *, log: bool, percent: bool) -> None:
    whole = found.total / 100 if percent else 1
    first = found.cumulative()[1][1] or 1
    for one, most, least in (
        (axes, max(found.jobs.values(), default=0), 1.0),
        (curve, 100 if percent else found.total - found.beyond, first / whole),
    ):
        if log and most > 0:
            one.set_yscale("log", nonpositive="clip" if one is axes else "mask")
            one.set_ylim(min(least / 2, most / 10), most * 1.5)
            one.yaxis.set_minor_formatter(NullFormatter())
        else:
            one.set_ylim(0, most * HEADROOM or 1)
            one.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=not percent or one is axes))
        one.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _legend(axes: Axes, colour: str, curve: str) -> None:
    handles = [Patch(color=colour, label="jobs of a bin (left)"), Line2D([], [], color=CURVE, label=f"cumulative, {curve} (right)")]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=9, borderaxespad=0.2
    )
