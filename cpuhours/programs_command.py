"""`batchacct report programs`: what ran inside the jobs, by program, library and the like; tables, data and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click

from batchacct.cli.common import config_option, open_store
from batchacct.clock import shown
from batchacct.config import Config
from batchacct.errors import ConfigError, IncompleteError
from batchacct.parsing.registry import load
from batchacct.program_figures import FIGURES, Asked, ProgramFigures
from batchacct.store import Store
from cpuhours.question import TIMES, hyphened
from cpuhours.selecting import names_of, period_asked
from cpuhours.showing import FORMATS, form_of, save_rows, show_as
from cpuhours.spans import Span, bin_begin, bins_between, usual_size

_SIZES = {hyphened(size): size for size in TIMES}
_MEASURES = ("cpu", "elapsed", "executions", "jobs", "users")
_KINDS = ("stack", "lines", "bars")
MOST_BINS = 400
"""Each bin is a question of its own."""


@click.command()
@click.option(
    "--by", default="program", show_default=True, metavar="WHAT", help="As of `procs top`: program, application, library and so on."
)
@click.option("--begin", metavar="DATE", help="Processes that ended from here on.  [default: the day of the first]")
@click.option("--end", metavar="DATE", help="Before this (exclusive).  [default: the end of the day of the last]")
@click.option("--period", metavar="DATE", help="A whole day, week, month or year: 2026-11, 'last month', in place of the two.")
@click.option("--vo", multiple=True, metavar="NAMES", help="Only of jobs of VO A; A,B or @FILE of names; may be repeated.")
@click.option("--cluster", metavar="NAME", help="Only of this cluster.")
@click.option("--user", metavar="NAME", help="Only of this local account.")
@click.option(
    "--measure", type=click.Choice(_MEASURES), default="cpu", show_default=True, help="Says which are the largest, and is drawn."
)
@click.option("--bins", type=click.Choice(list(_SIZES)), help="Rows a bin of time; pictures over time choose one that fits.")
@click.option("--zone", default="UTC", show_default=True, help="Time zone of bins and dates, such as Europe/Zurich.")
@click.option(
    "--top", type=click.IntRange(min=1), default=7, show_default=True, metavar="N", help="The N largest; the rest as other."
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it, too: FILE.png, .svg or .pdf.")
@click.option("--kind", type=click.Choice(_KINDS), help="Stacked bars or lines over time, or bars of the period.")
@click.option("--log", is_flag=True, help="Logarithmic scale of a picture.")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="FILE", help="The figures as a file: FILE.csv, .json, .md, .parquet."
)
@config_option
def programs(config: Config, /, **given: Any) -> None:
    """Sums what ran inside the jobs, by program and time.

    A process counts as a whole when it ended. Figures are those of `procs top`, of the period and of each bin. By libraries,
    modules and groups rows overlap, and do not add up.
    """
    from cpuhours.programs import Programs, Shown, check_kind, kind_that_fits  # noqa: PLC0415 - slow to import

    figures = _figures()
    by, size = given["by"], _SIZES.get(given["bins"])
    if by not in figures.by:
        raise ConfigError(f"what ran is told by {', '.join(figures.by)}, not by {by!r}")
    vo = _vos(given)
    how = Shown(by, given["measure"], given["top"], size, given["zone"], config.site, by in figures.overlapping)
    kind = given["kind"] or kind_that_fits(how)
    if given["plot"] is not None:
        check_kind(how, kind, given["plot"], log=given["log"])
    elif given["kind"] or given["log"]:
        raise ConfigError("--kind and --log are for a picture: say where it goes by --plot FILE")
    if given["data"] is not None:
        form_of(given["data"])
    sides = period_asked(given)
    over_time = given["plot"] is not None and kind != "bars"
    with open_store(config) as store:
        period = _period(sides, how.zone, store, figures)
        chosen = size or (usual_size(*period) if over_time else None)
        bins = bins_between(chosen, how.zone, *period) if chosen else []
        if len(bins) > MOST_BINS:
            raise ConfigError(f"that is {len(bins):,} bins of a {chosen}, and {MOST_BINS} are the most: choose larger --bins")
        asked = Asked(by, period, bins, vo, given["cluster"], given["user"])
        found = Programs(asked, figures(store, config, asked), how)
    show_as(given["form"], found.title, found.table, lambda: found.as_bytes(given["form"]), found.notes)
    if given["plot"] is not None:
        found.draw(given["plot"], kind, log=given["log"])
        click.echo(f"wrote {given['plot']}", err=True)
    if given["data"] is not None:
        save_rows(found.records(of_picture=over_time), given["data"], found.columns(of_picture=over_time))
        click.echo(f"wrote {given['data']}", err=True)


def _figures() -> ProgramFigures:
    """Of the room that knows the processes.  Raises: PluginError if none does, or several."""
    return cast("ProgramFigures", load(FIGURES, "processes"))


def _vos(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The VOs that are meant.  Raises: ConfigError for patterns, which only the filters of jobs know."""
    names = names_of("vo", given["vo"])
    if pattern := next((name for name in (*names, given["cluster"] or "", given["user"] or "") if "%" in name), None):
        raise ConfigError(f"{pattern!r} is a pattern, which programs cannot be chosen by: give whole names")
    return names


def _period(sides: tuple[int | None, int | None], zone: str, store: Store, figures: ProgramFigures) -> Span:
    """The period; a side that was left open is the begin of the day of the first process, or the end of that of the last.

    Raises: ConfigError, IncompleteError.
    """
    begin, end = sides
    if begin is None or end is None:
        known = figures.ends(store)
        if known is None:
            raise IncompleteError("there is nothing to report: the store holds no process; is there a source with parser procs?")
        begin = bin_begin("day", zone, known[0]) if begin is None else begin
        end = bins_between("day", zone, known[1], known[1] + 1)[0][1] if end is None else end
        if begin >= end:
            raise IncompleteError(f"there is nothing to report: processes ended from {shown(known[0])} to {shown(known[1])}")
    if begin >= end:
        raise ConfigError(f"--begin {shown(begin)} is not before --end {shown(end)}, which is not included")
    return begin, end
