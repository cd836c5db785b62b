"""Pictures: PNG, SVG or PDF by suffix. The same input gives the same bytes; nothing depends on the user's matplotlib settings.

Colours are those of Okabe and Ito (2008), which people with colour vision deficiencies can tell apart. No window system is
touched: figures are drawn by the Agg backend, without pyplot.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import math
import statistics
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import is_color_like
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from batchacct.cli.common import harmless
from batchacct.errors import ConfigError
from batchacct.usage.bins import HOUR_S
from cpuhours.labels import legend_text
from cpuhours.query import DAY_S

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
OTHER_COLOUR = "#8C8C8C"
NOT_JOINED_COLOUR = "#D0D0D0"
WIDTH_IN, HEIGHT_IN, DOTS_PER_IN = 11.0, 6.0, 120
FOOT_IN = 0.17
"""Height of a line of notes."""
SUBTITLE_IN = 0.2
TITLE, SUBTITLE = 80, 145
"""So many characters fit on a line of each."""

_METADATA: Mapping[str, dict[str, str | None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "batchacct",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4D4D4D",
    "axes.axisbelow": True,
    "hatch.linewidth": 0.8,
    "timezone": "UTC",
}


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of a picture: what it shows, the unit on the axis, what the colours mean, and what a reader must know."""

    title: str
    subtitle: str
    y_label: str
    legend_title: str
    notes: Sequence[str]


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's defaults and ours, whatever a matplotlibrc says; figures are made and saved within."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a box stands for what the font does not have
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def checked_path(path: Path) -> Path:
    """Raises: ConfigError for a suffix that is no picture, or a folder that is not there."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: the suffix says what kind of picture: one of {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.absolute().parent} does not exist: make it, or name another")
    return path


def save(figure: Figure, path: Path) -> None:
    """Writes a picture, whole or not at all.  Raises: ConfigError if the file cannot be written."""
    suffix = checked_path(path).suffix.lower()
    picture = io.BytesIO()
    if suffix == ".svg" and (layout := figure.get_layout_engine()) is not None:
        FigureCanvasSVG(figure)
        layout.execute(figure)  # else `savefig` draws all twice, to lay it out first
        figure.set_layout_engine(None)
    figure.savefig(picture, format=suffix[1:], dpi=DOTS_PER_IN, metadata=_METADATA[suffix])
    try:
        path.write_bytes(picture.getvalue())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error


def new_figure(words: Words, *, height_in: float = HEIGHT_IN, sideways: bool = False) -> tuple[Figure, Axes]:
    """An empty figure with its texts, long ones wrapped, for which it is higher. `sideways`: bars lie."""
    notes = [line for note in words.notes for line in textwrap.wrap(note, 150)]
    below_title = textwrap.wrap(
        harmless(words.subtitle), SUBTITLE, max_lines=3, break_on_hyphens=False, placeholder=" \N{HORIZONTAL ELLIPSIS}"
    )
    more_in = max(0, len(below_title) - 1) * SUBTITLE_IN
    height_in += max(0, len(notes) - 6) * FOOT_IN + more_in
    foot = (len(notes) + 1) * FOOT_IN / height_in if notes else 0.0
    figure = Figure(figsize=(WIDTH_IN, height_in))
    FigureCanvasAgg(figure)
    head = ((0.72 if below_title else 0.5) + more_in) / height_in
    figure.set_layout_engine("constrained", rect=(0.008, foot, 0.984, 1 - foot - head), w_pad=0.06, h_pad=0.04)
    figure.text(0.016, 1 - 0.16 / height_in, _title_text(words.title), fontsize=14, fontweight="bold", va="top")
    for number, line in enumerate(below_title):
        figure.text(0.016, 1 - (0.46 + number * SUBTITLE_IN) / height_in, line, fontsize=10, color="#4D4D4D", va="top")
    for number, line in enumerate(reversed(notes)):
        figure.text(0.016, (number + 0.6) * FOOT_IN / height_in, line, fontsize=8, color="#4D4D4D", va="bottom")
    axes = figure.add_subplot()
    axis = axes.xaxis if sideways else axes.yaxis
    axis.set_label_text(words.y_label)
    axis.set_major_locator(MaxNLocator(nbins=7))
    axis.set_major_formatter(FuncFormatter(number_text))
    axes.grid(axis="x" if sideways else "y", color="#E0E0E0", linewidth=0.7)
    return figure, axes


def _title_text(title: str) -> str:
    text = harmless(title)
    return text if len(text) <= TITLE else f"{text[: TITLE - 1]}\N{HORIZONTAL ELLIPSIS}"


def number_text(value: float, _position: int | None) -> str:
    return f"{value:,.10g}"


def limits(values: Iterable[float], room: float = 0.06) -> tuple[float, float]:
    """From zero, or from the lowest value that is known if it is negative, to the highest, and a little room."""
    known = [value for value in values if not math.isnan(value)]
    low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
    if low == high:
        return 0.0, 1.0
    space = room * (high - low)
    return low - space if low else 0.0, high + space if high else 0.0


def mark_zero(axes: Axes) -> None:
    """A line at zero, where the plot goes below it."""
    if axes.get_ylim()[0] < 0:
        axes.axhline(0, color="#4D4D4D", linewidth=0.8, zorder=2.5)


class Stack:
    """Where bars on each other begin: positive ones on the positive ones before, negative ones below the negative ones."""

    def __init__(self, count: int) -> None:
        self._above, self._below = np.zeros(count), np.zeros(count)

    def bases_of(self, heights: Numbers) -> Numbers:
        """The bases of the next bars, which are added."""
        bases = np.where(heights < 0, self._below, self._above)
        self._above = self._above + np.clip(heights, 0, None)
        self._below = self._below + np.clip(heights, None, 0)
        return bases

    @property
    def ends(self) -> Numbers:
        """How far up and down the bars reach."""
        return np.concatenate([self._above, self._below])


def add_bars(axes: Axes, lefts: Sequence[float], widths: Sequence[float], heights: Numbers, bases: Numbers, **look: Any) -> None:
    """Upright bars of one series, as one shape: of a shape for each, as `Axes.bar` makes, the library draws one in a millisecond.

    `heights` are known. The limits of the axes are left as they are.
    """
    left, right, low, high = np.asarray(lefts, float), np.add(lefts, widths), bases, bases + heights
    corners = np.stack([left, low, right, low, right, high, left, high, left, low], axis=1).reshape(-1, 2)
    steps = np.tile(np.array([Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY], np.uint8), len(left))
    bars = PathPatch(Outline(corners, steps), snap=True, **look)
    axes.add_artist(bars)
    bars.set_clip_path(axes.patch)


def log_scale(axis: Axis, shown: Sequence[float], nonpositive: str) -> None:
    """A logarithmic axis for positive values `shown`, with several ticks however near each other they are."""
    of_axis = axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale
    of_axis("log", nonpositive=nonpositive)
    axis.set_major_formatter(FuncFormatter(number_text))
    axis.set_minor_formatter(NullFormatter())
    if max(shown) < 30 * min(shown):
        axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    elif max(shown) < 1000 * min(shown):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.grid(which="minor", color="#EEEEEE", linewidth=0.5)


def hatch_days(axes: Axes, days: Sequence[int], *, width_s: int = DAY_S, offset: float = -0.5) -> Patch:
    """Hatches the bins that begin at `days`, those in a row as one; `offset` of a bin from its x. Returns what the legend shows."""
    look: dict[str, Any] = {"facecolor": "#F4F4F4", "edgecolor": "#9A9A9A", "hatch": "////", "linewidth": 0.0}
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and day == runs[-1][1]:
            runs[-1][1] = day + width_s
        else:
            runs.append([day, day + width_s])
    shift = offset * width_s
    for begin, end in runs:
        axes.axvspan((begin + shift) / DAY_S, (end + shift) / DAY_S, zorder=0.5, **look)
    return Patch(label="no data", **look)


def colours_of(names: Mapping[str, object]) -> list[str]:
    """A colour a name, in order; names beyond the palette are grey."""
    palette = iter(COLOURS)
    return [next(palette, OTHER_COLOUR) for _ in names]


def add_legend(axes: Axes, handles: Sequence[Any], title: str, *, below: bool = False) -> None:
    """Beside the plot, in the order of the handles; or below it."""
    look: dict[str, Any] = {"frameon": False, "alignment": "left", "fontsize": 9, "title_fontsize": 9, "borderaxespad": 0.0}
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.12) if below else (1.015, 1.0)}
    axes.legend(handles=handles, title=title or None, **place, **look)


def _edge(bins: Sequence[int]) -> dict[str, Any]:
    """A white line between the pieces of a stack, unless bars are so narrow that it would eat them."""
    return {"edgecolor": "white", "linewidth": 0.4 if len(bins) <= 100 else 0.0}


def time_axis(axes: Axes, day_count: float) -> None:
    """Dates along x, whose unit is days since 1970-01-01T00:00Z; hours only where bins are shorter than a day (`day_count` 0)."""
    if day_count == 0:
        hours = mdates.AutoDateLocator(tz=dt.UTC, minticks=4, maxticks=10)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(hours)
        axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(hours, tz=dt.UTC))  # type: ignore[no-untyped-call]
        return
    if day_count <= 16:
        axes.xaxis.set_major_locator(mdates.DayLocator(tz=dt.UTC))  # type: ignore[no-untyped-call]
    else:
        axes.xaxis.set_major_locator(mdates.AutoDateLocator(tz=dt.UTC, minticks=4, maxticks=12))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(FuncFormatter(_date_text))


def _date_text(days: float, position: int | None) -> str:
    """`7 Nov`; the first one, and the first of a year, with the year below."""
    day = dt.datetime.fromtimestamp(round(days) * DAY_S, dt.UTC)
    year = f"\n{day.year}" if position == 0 or (day.month, day.day) == (1, 1) else ""
    return f"{day.day} {MONTHS[day.month - 1]}{year}"


# --- the pictures of the 2012 script -------------------------------------------------------------------------------------------

CLOCK_CHANGE_S = 2 * HOUR_S
GAPS_2012 = "UTC bins. Hatched: no data, which is not the same as zero (2012 drew zero)."
ZERO_LOG = "A logarithmic scale has no zero: where there is no mark and no hatching, it was 0 or less."


def plot_series(
    path: Path, values: Mapping[int, float], bins: Sequence[int], *, title: str, y_label: str, colour: str, bar: bool, log: bool
) -> None:
    """One series as a line, interrupted where a bin has no value, or as bars.  Raises: ConfigError."""
    if not is_color_like(colour):
        raise ConfigError(f"{colour!r} is no colour: write r, g, b, k, a name such as darkblue, or #0072B2")
    with house_style():
        figure, axes = new_figure(Words(title, "", y_label, "", [GAPS_2012, *([ZERO_LOG] if log else [])]))
        heights = [values.get(at, math.nan) for at in bins]
        width_s = _width_s(bins)
        gaps = [at for at in bins if at not in values]
        if bar:
            places = _places(bins)
            widths = [0.9 * width for _, width in places]
            axes.bar([left for left, _ in places], heights, color=colour, width=widths, align="edge", linewidth=0)
        else:
            axes.plot(_days(bins), heights, color=colour, linewidth=1.6)
            seen = {at for at, value in values.items() if value > 0 or not log}
            alone = sorted(at for at in seen if not {at - width_s, at + width_s} & seen)
            axes.plot(_days(alone), [values[at] for at in alone], "o", color=colour, markersize=4)
        if log and any(value > 0 for value in values.values()):
            log_scale(axes.yaxis, [value for value in values.values() if value > 0], "clip" if bar else "mask")
        else:
            axes.set_ylim(*limits(list(values.values())))
            mark_zero(axes)
        _finish_2012(axes, bins, gaps, [])
        save(figure, path)


def plot_stack(path: Path, series: Mapping[str, Mapping[int, float]], bins: Sequence[int], *, title: str, y_label: str) -> None:
    """Several series on top of each other; a bin that one of them lacks is a gap.  Raises: ConfigError."""
    with house_style():
        figure, axes = new_figure(Words(title, "", y_label, "", [GAPS_2012]))
        known = [at for at in bins if all(at in values for values in series.values())]
        places = dict(zip(bins, _places(bins), strict=True))
        stack = Stack(len(known))
        handles: list[Patch] = []
        for (name, values), colour in zip(series.items(), colours_of(series), strict=True):
            heights = np.asarray([values[at] for at in known], float)
            lefts, widths = [places[at][0] for at in known], [places[at][1] for at in known]
            add_bars(axes, lefts, widths, heights, stack.bases_of(heights), facecolor=colour, **_edge(bins))
            handles.insert(0, Patch(color=colour, label=legend_text(name, float(heights.sum()))))
        axes.set_ylim(*limits(stack.ends))
        mark_zero(axes)
        _finish_2012(axes, bins, sorted(set(bins) - set(known)), handles)
        save(figure, path)


def _finish_2012(axes: Axes, bins: Sequence[int], gaps: Sequence[int], handles: Sequence[Patch]) -> None:
    width = _width_s(bins)
    shown = [*handles, *_hatched(axes, bins, gaps)]
    if shown:
        add_legend(axes, shown, "")
    places = _places(bins)
    margin = 0.2 * width / DAY_S
    axes.set_xlim(places[0][0] - margin, sum(places[-1]) + margin)
    day_count = (max(bins) - min(bins) + width) / DAY_S
    time_axis(axes, day_count if width >= DAY_S else 0)
    axes.set_xlabel("begin of the bin (UTC)")


def _days(instants: Sequence[int]) -> list[float]:
    return [at / DAY_S for at in instants]


def _hatched(axes: Axes, bins: Sequence[int], gaps: Sequence[int]) -> list[Patch]:
    """Hatches the bins without data, each as wide as it is. Returns what the legend shows."""
    if not _is_uneven(bins):
        return [hatch_days(axes, gaps, width_s=_width_s(bins))] if gaps else []
    places = dict(zip(bins, _places(bins), strict=True))
    hatched = [hatch_days(axes, [at], width_s=round(places[at][1] * DAY_S), offset=0.0) for at in gaps]
    return hatched[:1]


def _places(bins: Sequence[int]) -> list[tuple[float, float]]:
    """Left edge and width of each bin on the axis, in days: around the mark of its begin; months and weeks, from it to the next."""
    usual = _width_s(bins) / DAY_S
    if not _is_uneven(bins):
        return [(at / DAY_S - usual / 2, usual) for at in bins]
    widths = [(after - before) / DAY_S for before, after in itertools.pairwise(bins)]
    return [(at / DAY_S, width) for at, width in zip(bins, [*widths, usual], strict=True)]


def _is_uneven(bins: Sequence[int]) -> bool:
    """Whether bins differ by more than the clocks do in summer."""
    distances = [after - before for before, after in itertools.pairwise(bins)]
    return bool(distances) and max(distances) - min(distances) > CLOCK_CHANGE_S


def _width_s(bins: Sequence[int]) -> int:
    """The usual distance of two bins (the last week of a year is shorter); of a single one, a day."""
    distances = [after - before for before, after in itertools.pairwise(bins)]
    return int(statistics.median(distances)) if distances else DAY_S
