"""`batchacct report`: usage by day, VO, queue, user, cluster; tables and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from batchacct.cli.common import open_store
from batchacct.cli.dates import instant
from batchacct.clock import unix_now
from batchacct.config import default_path, load_config
from batchacct.errors import ConfigError
from cpuhours.figures import Figures, StoreFigures, files_of_jobs
from cpuhours.query import GROUPS
from cpuhours.report import FORMATS, Question, make_report, plot_report, show


@click.command()
@click.option("--by", type=click.Choice(list(GROUPS)), default="vo", show_default=True, help="What to sum by.")
@click.option("--begin", metavar="DATE", help="Jobs that ended from here on.  [default: the first one]")
@click.option("--end", metavar="DATE", help="Jobs that ended before this (exclusive).  [default: after the last one]")
@click.option("--vo", multiple=True, help="Only jobs of this VO; may be repeated.")
@click.option("--normalise", metavar="BENCHMARK", help="Normalised hours too: HEPscore23, HEPSPEC or Si2k.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw hours by day, too: FILE.png, .svg or .pdf.", metavar="FILE")
@click.option("--archive", type=click.Path(path_type=Path), metavar="FOLDER", help="Of Parquet files, not of the database.")
@click.option("--master", metavar="URL", help="Have a Spark cluster sum them, spark://HOST:PORT.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration file.  [default: $BATCHACCT_CONFIG, else /etc/batchacct/batchacct.toml]",
)
def report(
    *,
    by: str,
    begin: str | None,
    end: str | None,
    vo: tuple[str, ...],
    normalise: str | None,
    form: str,
    plot: Path | None,
    archive: Path | None,
    master: str | None,
    config_path: Path | None,
) -> None:
    """Sums what jobs used, by VO, day, queue, user or cluster.

    Every job that started and ended counts, as a whole, at the instant it ended; days are UTC days. A DATE is 2026-11-01,
    2026-11, Unix seconds, or -30d, -2w (before today). A day without any job record is shown as one of which nothing is known.
    """
    now = unix_now()
    question = Question(by, instant(begin, now) if begin else None, instant(end, now) if end else None, vo, normalise)
    if plot is not None:
        from cpuhours.plot import checked_path  # noqa: PLC0415 - slow to import, and most reports are tables only

        checked_path(plot)
    if archive is None and master is not None:
        raise ConfigError("--master is for a folder of Parquet files: say which by --archive FOLDER")
    with _figures(archive, master, config_path) as (figures, site):
        answer = make_report(figures, question)
        show(answer, form)
        if plot is not None:
            plot_report(figures, answer, plot, site)
            click.echo(f"wrote {plot}", err=True)


@contextmanager
def _figures(archive: Path | None, master: str | None, config_path: Path | None) -> Iterator[tuple[Figures, str]]:
    """Who has the figures, and of what site they are."""
    if archive is None:
        config = load_config(config_path or default_path())
        with open_store(config) as store:
            yield StoreFigures(store), config.site
    elif master is None:
        files_of_jobs(archive)
        yield StoreFigures(archive), archive.name
    else:
        from batchacct.backfill.spark import session  # noqa: PLC0415 - of the extra [spark]

        with session(master) as spark:
            from cpuhours.on_spark import SparkFigures  # noqa: PLC0415 - likewise

            yield SparkFigures(spark, archive), archive.name
