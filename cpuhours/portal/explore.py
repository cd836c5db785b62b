"""Explore: usage by whatever, of any period, as a picture, a table and files; names lead further, down to the jobs themselves."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, request

from batchacct.errors import ConfigError
from cpuhours.measures import MEASURES
from cpuhours.portal.asked import (
    DIMENSIONS,
    PERIODS,
    SIZES,
    TOPS,
    Offered,
    check_known,
    measures_of,
    one_of,
    period_asked,
    question_asked,
)
from cpuhours.portal.desk import Look
from cpuhours.portal.jobs import as_file
from cpuhours.portal.site import answered, page, site, unchanged
from cpuhours.portal.viewers import Viewer
from cpuhours.question import NAMED, TIMES, Question, hyphened
from cpuhours.report import Report, make_report
from cpuhours.showing import Cell, as_bytes, cell_text, data_columns, records, table_of
from cpuhours.spans import bin_text, instant_text, period_text

explore = Blueprint("explore", __name__)

MOST_SHOWN = 500
"""Rows of a table on the page; downloads have them all."""
PICTURES = ("svg", "png")
DATA = ("csv", "json", "md", "parquet")
_WITH_NOTES = ("png", "json", "md")
"""Files that say what is not in the figures; the picture on the page has the page to say it."""
_WORDS = ("by", "measure", "bins", "counted", "normalise", "top", "compare", "kind", "shown")
KINDS = ("", "stack", "lines", "bars", "heatmap")
_FORMS = {"md": "markdown"}
_FURTHER = {
    "site": "cluster", "cluster": "queue", "queue": "user", "vo": "user", "group": "user", "project": "user", "ce": "vo",
    "submit_host": "user", "host": "user", "state": "vo", "exit": "vo", "outcome": "vo",
}  # fmt: skip
"""What a group is looked at by, further down; users lead to their jobs."""


@dataclass(frozen=True, slots=True)
class Named:
    """A cell of the table: its text, the address it leads to, whether it is a figure."""

    text: str
    address: str = ""
    is_figure: bool = False


@explore.get("/explore")
def shown() -> Response:
    look = site().look()
    question = _question(look)
    kind = one_of(request.args, "kind", KINDS, "")

    drawable(question, kind or None)  # what cannot be drawn is told before anything is asked

    def make() -> str:
        report = _report(look, question)
        columns, rows = shown_rows(report, look.viewer)
        return page(
            "explore.html",
            report=report,
            columns=columns,
            rows=rows[:MOST_SHOWN],
            rows_left=max(len(rows) - MOST_SHOWN, 0),
            form=_form(look, question, kind),
            periods=_periods(),
            query=urlencode(_asked()),
            downloads=(*DATA, *PICTURES),
            jobs_address=f"/jobs?{urlencode(_words(question.where))}",
        )

    return answered(unchanged(look.state, question), make)


@explore.get("/explore.<form>")
def download(form: str) -> Response:
    if form not in (*PICTURES, *DATA):
        abort(404)
    look = site().look()
    question = _question(look)
    kind = one_of(request.args, "kind", KINDS, "") or None
    is_shown = form == "svg" and request.args.get("shown") == "1"

    def make() -> tuple[bytes, str, str | None]:
        if form in PICTURES:
            return picture(look, question, kind, form), form, None if is_shown else _named_file(question, form)
        report = _report(look, question, with_notes=form in _WITH_NOTES)
        if form == "csv":
            return as_file(records(report), form, data_columns(report)), form, _named_file(question, form)
        return as_bytes(report, _FORMS.get(form, form)), form, _named_file(question, form)

    return answered(unchanged(look.state, question, kind), make)


def _named_file(question: Question, form: str) -> str:
    """`usage-by-vo-2026-11-01-to-2026-11-30.csv`."""
    assert question.begin is not None
    assert question.end is not None
    period = period_text(question.begin, question.end, question.zone)
    return f"usage-by-{re.sub('[^0-9A-Za-z.]+', '-', f'{question.by} {period}')}.{form}"


def _question(look: Look) -> Question:
    """What the address asks.  Raises: ConfigError, ForbiddenError."""
    check_known(request.args, *DIMENSIONS, *_WORDS)
    settings = look.config.portal
    period = period_asked(request.args, look.desk.now(), settings)
    return question_asked(
        request.args, look.viewer, period, Offered(_benchmarks(look), measures_of(look.config), settings.most_bins)
    )


def _benchmarks(look: Look) -> Sequence[str]:
    return look.answer("benchmarks", look.figures.benchmark_types)


def _report(look: Look, question: Question, *, with_notes: bool = True) -> Report:
    """Raises: ConfigError for one of more rows than anybody may ask for here."""
    config = look.config
    report = look.answer(
        ("report", _hashable(question), with_notes),
        lambda: make_report(look.figures, question, capacity=config.capacity, energy=config.energy, with_notes=with_notes),
    )
    if len(report.usage) > (most := config.portal.most_rows):
        raise ConfigError(
            f"the answer has {len(report.usage):,} rows, and {most:,} are the most here: choose larger bins, fewer groups, or ask "
            "`batchacct report`"
        )
    return report


def _hashable(question: Question) -> tuple[object, ...]:
    return repr(replace(question, where={})), tuple(sorted(question.where.items()))


def picture(look: Look, question: Question, kind: str | None, form: str) -> bytes:
    """The picture of a question, of as many groups as the eye can tell apart.  Raises: ConfigError for one that cannot be drawn."""
    from cpuhours.drawing import draw, question_drawn  # noqa: PLC0415 - slow to import

    question = drawable(question, kind)
    assert question.begin is not None
    assert question.end is not None
    asked = question_drawn(question, (question.begin, question.end), kind)
    with_notes = form in _WITH_NOTES
    drawn = _report(look, asked, with_notes=with_notes)

    def make() -> bytes:
        with tempfile.TemporaryDirectory(prefix="batchacct-portal-") as folder, look.desk.drawing:
            path = Path(folder) / f"picture.{form}"
            draw(drawn, kind, path, look.config.site, with_notes=with_notes)
            return path.read_bytes()

    return look.answer(("picture", _hashable(question), kind, form), make)


def drawable(question: Question, kind: str | None) -> Question:
    """The question with no more groups than a picture shows well.  Raises: ConfigError for a kind that does not fit the measure."""
    from cpuhours.drawing import MOST_BARS, check_kind, kind_of  # noqa: PLC0415 - slow to import
    from cpuhours.plot import COLOURS  # noqa: PLC0415 - likewise

    check_kind(replace(question, top=None), kind, Path("picture.svg"), log=False)
    if question.group is None or kind == "heatmap":
        return question
    most = MOST_BARS if kind_of(question, kind) == "bars" else len(COLOURS)
    return replace(question, top=min(question.top or most, most))


# --- the table -----------------------------------------------------------------------------------------------------------------


def shown_rows(report: Report, who: Viewer) -> tuple[list[str], list[list[Named]]]:
    """The table of a report (see `showing.table_of`), names with where they lead to."""
    columns, rows = table_of(report)
    question = report.question
    place = None if question.group is None else int(question.size is not None)
    groups = set(report.names) - ({report.others.name} if report.others else set())
    groups = {name for name in groups if "%" not in name}  # which would lead to others as well
    bins = _words_of_bins(report)

    def named(number: int, cell: Cell, first: Cell) -> Named:
        leads = number == place and str(cell) in groups
        period = bins.get(str(first)) if question.size else None
        return Named(cell_text(cell), further(question, who, str(cell), period) if leads else "", number > (place or 0))

    return columns, [[named(number, cell, row[0]) for number, cell in enumerate(row)] for row in rows]


def _words_of_bins(report: Report) -> dict[str, list[tuple[str, str]]]:
    """What says the period of each bin in an address, as far as it is in the period of the report."""
    size, zone = report.question.size, report.question.zone
    if size is None:
        return {}
    within = [(begin, max(begin, report.period[0]), min(end, report.period[1])) for begin, end in report.bins]
    zoned = [(key, text) for key, text in _asked() if key == "zone"]
    return {
        bin_text(size, zone, name): [("begin", instant_text(begin, zone)), ("end", instant_text(end, zone)), *zoned]
        for name, begin, end in within
    }


def further(question: Question, who: Viewer, name: str, period: Sequence[tuple[str, str]] | None = None) -> str:
    """Where the name of a group leads: the same period (of a bin: its `period`), of that group alone, by what is below it."""
    by = question.by
    where = {**question.where, by: (name,)}
    below = _FURTHER.get(by)
    if below == "user" and (not who.sees_people or who.own_only):
        below = "queue" if by != "queue" else None
    if below is None or below in question.where:
        return f"/jobs?{urlencode(_words(where, period))}"
    kept = {key: text for key, text in _asked() if key in {"measure", "counted", "normalise"}}
    return f"/explore?{urlencode([('by', hyphened(below)), *_words(where, period), *kept.items()])}"


def _words(where: Mapping[str, Sequence[str]], period: Sequence[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
    if period is None:
        period = [(key, text) for key, text in _asked() if key in {"period", "begin", "end", "zone"}]
    return [*period, *((key, name.replace(",", "\\,")) for key, names in where.items() for name in names)]


def _asked() -> list[tuple[str, str]]:
    """What the address says, without what is empty."""
    return [(key, text) for key, text in request.args.items(multi=True) if text.strip()]


# --- the form ------------------------------------------------------------------------------------------------------------------


def _form(look: Look, question: Question, kind: str) -> Mapping[str, object]:
    """What the form offers, and what is chosen."""
    who, benchmarks = look.viewer, _benchmarks(look)
    filters = [name for name in DIMENSIONS if name in who.dimensions and not (who.own_only and name == "user")]
    return {
        "by": {hyphened(name): one for name, one in who.dimensions.items()} | {hyphened(name): name for name in TIMES},
        "chosen_by": hyphened(question.by),
        "measures": {name: MEASURES[name].title for name in measures_of(look.config)},
        "chosen_measure": question.measures[0],
        "bins": {"": "none", **SIZES},
        "chosen_bins": hyphened(question.bins) if question.bins else "",
        "normalise": {"": "no", **dict(zip(benchmarks, benchmarks, strict=True))} if benchmarks else {},
        "chosen_normalise": question.normalise or "",
        "counted": {"ended": "where they ended", "spread": "spread over when they ran"},
        "chosen_counted": "spread" if question.spread else "ended",
        "tops": {**{str(one): f"the {one} largest" for one in TOPS}, "all": "all"},
        "chosen_top": "all" if question.top is None else str(question.top),
        "compare": {"": "no", "previous": "the period before"},
        "chosen_compare": "previous" if question.compare else "",
        "kinds": {
            "": "what fits",
            "stack": "stacked bars",
            "lines": "lines",
            "bars": "bars of the period",
            "heatmap": "hours by weekday",
        },
        "chosen_kind": kind,
        "filters": [(name, NAMED[name][0], ", ".join(request.args.getlist(name))) for name in filters],
        "filtered": bool(question.where),
        "zone": question.zone,
        "period": {name: request.args.get(name, "") for name in ("period", "begin", "end")},
    }


def _periods() -> list[tuple[str, str, bool]]:
    """Addresses of the same question of other periods, what they are called, and whether one is shown."""
    kept = [(key, text) for key, text in _asked() if key not in {"period", "begin", "end"}]
    now = "" if request.args.get("begin") or request.args.get("end") else request.args.get("period", "") or "-30d"
    return [(f"{request.path}?{urlencode([*kept, ('period', words)])}", called, words == now) for words, called in PERIODS.items()]
