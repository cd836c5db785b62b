"""`batchacct report`: what jobs used, by VO, time, queue, user or whatever else; tables, data and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from batchacct.cli.common import config_option, open_store
from batchacct.cli.instants import DATES_HELP, period_of
from batchacct.clock import unix_now
from batchacct.config import Config, default_path, load_config
from batchacct.config_mapping import BENCHMARKS
from batchacct.errors import ConfigError, IncompleteError
from cpuhours.figures import Figures, StoreFigures, files_of_jobs
from cpuhours.measures import MEASURES
from cpuhours.programs_command import programs
from cpuhours.question import DEFAULT_MEASURES, FILTERS, NAMED, TIMES, Question, hyphened
from cpuhours.report import make_report
from cpuhours.selecting import names_of, period_asked
from cpuhours.showing import FORMATS, form_of, save_data, save_rows, show
from cpuhours.spans import bins_between

KINDS = ("stack", "lines", "bars", "heatmap")
C = TypeVar("C", bound=Callable[..., Any])


_BY = {hyphened(name): name for name in (*NAMED, *TIMES)}
_SIZES = {hyphened(size): size for size in TIMES}

_OPTIONS = (
    click.option(
        "--by",
        type=click.Choice(list(_BY)),
        default="vo",
        show_default=True,
        metavar="WHAT",
        help=f"What to sum by: {', '.join(_BY)}.",
    ),
    click.option(
        "--begin", metavar="DATE", help="From here on.  [default: the day the first job ended, or started if that counts]"
    ),
    click.option("--end", metavar="DATE", help="Before this (exclusive).  [default: the end of the day of the last job's]"),
    click.option("--period", metavar="DATE", help="A whole day, week, month or year: 2026-11, 'last month', in place of the two."),
    *(
        click.option(
            f"--{hyphened(name)}",
            multiple=True,
            metavar="NAMES",
            help=f"Only of {NAMED[name][0]} A; A,B or @FILE of names; % stands for any text; may be repeated. "
            "Blanks around a name count only where it is given alone.",
        )
        for name in FILTERS
    ),
    click.option(
        "--measure",
        "measures",
        multiple=True,
        type=click.Choice(list(MEASURES)),
        metavar="MEASURE",
        help=f"One of {', '.join(MEASURES)}; may be repeated.  [default: {', '.join(DEFAULT_MEASURES)}]",
    ),
    click.option("--normalise", metavar="BENCHMARK", help="Normalised hours too: HEPscore23, HEPSPEC or Si2k."),
    click.option(
        "--bins", type=click.Choice(list(_SIZES)), help="A row a bin of time for each group; pictures choose one that fits."
    ),
    click.option(
        "--zone", default="UTC", show_default=True, help="Time zone of days, weeks, months and hours, such as Europe/Zurich."
    ),
    click.option("--spread", is_flag=True, help="Spread what jobs used over the time they ran, in place of when they ended."),
    click.option(
        "--top", type=click.IntRange(min=1), metavar="N", help="The N largest groups; the rest as other, and how many they are."
    ),
    click.option("--compare", type=click.Choice(["previous"]), help="With the period of the same length just before."),
    click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it."),
    click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it, too: FILE.png, .svg or .pdf."),
    click.option(
        "--kind",
        type=click.Choice(KINDS),
        help="Stacked bars or lines over time, bars of the whole period, or hours by weekday.  [default: what fits the measure]",
    ),
    click.option("--log", is_flag=True, help="Logarithmic scale of a picture."),
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The figures of the picture: FILE.csv, .json, .md, .parquet.",
    ),
    click.option("--archive", type=click.Path(path_type=Path), metavar="FOLDER", help="Of Parquet files, not of the database."),
    click.option("--master", metavar="URL", help="Have a Spark cluster sum them, spark://HOST:PORT."),
    click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        help="Configuration file.  [default: $BATCHACCT_CONFIG, else /etc/batchacct/batchacct.toml]",
    ),
)


def _all_options(command: C) -> C:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(
    invoke_without_command=True,
    help=f"""Sums what jobs used, by VO, time, user and more.

    Every job that started and ended counts, as a whole, at the instant it ended, or with --spread over the time it ran. A day
    without any job record is shown as one of which nothing is known.

    {DATES_HELP}; days are those of --zone.
    """,
)
@_all_options
@click.pass_context
def report(context: click.Context, /, **given: Any) -> None:
    if context.invoked_subcommand is not None:
        _nothing_given(context)
        return
    plot, data = given["plot"], given["data"]
    question = _question(given)
    if plot is not None:
        from cpuhours.drawing import check_kind  # noqa: PLC0415 - slow to import, and most reports are tables only

        check_kind(question, given["kind"], plot, log=given["log"])
    elif given["kind"] or given["log"]:
        raise ConfigError("--kind and --log are for a picture: say where it goes by --plot FILE")
    if data is not None:
        form_of(data)
        _check_folder(data)
    if given["archive"] is None and given["master"] is not None:
        raise ConfigError("--master is for a folder of Parquet files: say which by --archive FOLDER")
    with _figures(given["archive"], given["master"], given["config_path"]) as (figures, site, config):
        capacity, energy = (config.capacity, config.energy) if config else ([], [])
        answer = make_report(figures, question, capacity=capacity, energy=energy)
        drawn = answer
        if plot is not None:
            from cpuhours.drawing import draw, question_of_picture  # noqa: PLC0415 - as above

            asked = question_of_picture(answer, given["kind"])
            drawn = answer if asked == question else make_report(figures, asked, capacity=capacity, energy=energy)
            draw(drawn, given["kind"], plot, site, log=given["log"])
    show(answer, given["form"])
    if plot is not None:
        click.echo(f"wrote {plot}", err=True)
    if data is not None:
        from cpuhours.drawing import heat_records  # noqa: PLC0415 - as above

        if given["kind"] == "heatmap":
            save_rows(heat_records(drawn), data)
        else:
            save_data(drawn, data)
        click.echo(f"wrote {data}", err=True)


def _check_folder(path: Path) -> None:
    """Raises: ConfigError, before anything is asked or written, where a file cannot go."""
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: the folder {path.parent} does not exist: make it, or name another")


def _nothing_given(context: click.Context) -> None:
    """Raises: ConfigError for options that stand before the name of a command, which has its own."""
    sources = (context.get_parameter_source(name) for name in context.params)
    if any(source is click.core.ParameterSource.COMMANDLINE for source in sources):
        raise ConfigError(f"options of `report {context.invoked_subcommand}` stand behind its name")


def _question(given: Mapping[str, Any]) -> Question:
    """Raises: ConfigError for what is no date, zone or list of names, or does not go together."""
    since, until = period_asked(given)
    chosen = {name: names_of(hyphened(name), given[name]) for name in FILTERS if given[name]}
    return Question(
        _BY[given["by"]],
        since,
        until,
        chosen,
        given["normalise"],
        tuple(dict.fromkeys(given["measures"])) or DEFAULT_MEASURES,
        _SIZES.get(given["bins"]),
        given["zone"],
        given["spread"],
        given["top"],
        given["compare"] is not None,
    )


@contextmanager
def _figures(archive: Path | None, master: str | None, config_path: Path | None) -> Iterator[tuple[Figures, str, Config | None]]:
    """Who has the figures, of what site they are, and the configuration if they are of the database."""
    if archive is None:
        config = load_config(config_path or default_path())
        with open_store(config) as store:
            yield StoreFigures(store), config.site, config
    elif master is None:
        files_of_jobs(archive)
        yield StoreFigures(archive), archive.name, None
    else:
        from batchacct.backfill.spark import session  # noqa: PLC0415 - of the extra [spark]

        with session(master) as spark:
            from cpuhours.on_spark import SparkFigures  # noqa: PLC0415 - likewise

            yield SparkFigures(spark, archive), archive.name, None


@report.command()
@click.argument("month")
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Where to: FILE.html or FILE.pdf.")
@click.option("--normalise", metavar="BENCHMARK", help="HEPscore23, HEPSPEC or Si2k.  [default: the first of these that jobs have]")
@click.option("--reread/--no-reread", default=True, show_default=True, help="Hold records against the units they were read from.")
@config_option
def monthly(config: Config, month: str, output: Path, normalise: str | None, *, reread: bool) -> None:
    """Writes the report of a month, to be signed.

    A MONTH is 2026-10, or 'last month'. One file, which needs no other: usage by VO, corrections, what is missing and why, and
    the audit. The exit status is 13 if the books do not balance; the report is written all the same, and says so.
    """
    from cpuhours.monthly import read_month, written  # noqa: PLC0415 - slow to import

    form = output.suffix.lower().removeprefix(".")
    if form not in {"html", "pdf"}:
        raise ConfigError(f"{output}: the suffix says what kind of file: .html or .pdf")
    _check_folder(output)
    period = period_of(month, now := unix_now())
    if bins_between("month", "UTC", *period) != [period]:
        raise ConfigError(f"{month!r} is no month: write 2026-10, or 'last month'")
    with open_store(config) as store:
        known = StoreFigures(store).benchmark_types()
        chosen = normalise or next((name for name in BENCHMARKS if name in known), None)
        found = read_month(store, config, period, now, normalise=chosen, reread=reread)
    try:
        written(found, output, form)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error}") from error
    click.echo(f"wrote {output}", err=True)
    if not found.audit.balanced:
        raise IncompleteError("the books do not balance: " + "; ".join(found.audit.problems))


report.add_command(programs)
