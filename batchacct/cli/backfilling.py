"""`batchacct backfill`: any pile of old logs, on all cores of a machine or on a cluster, into Parquet or the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from batchacct.backfill.engines import Engine, LocalEngine, cores
from batchacct.backfill.folder import BOOKS, Books
from batchacct.backfill.pieces import Told, parser_named
from batchacct.backfill.to_parquet import backfill_to_parquet
from batchacct.backfill.to_store import Parsing, Stored, backfill_to_store, parsing
from batchacct.cli.collecting import chosen_sources, rules_for
from batchacct.cli.common import emit_table, open_store, steps_progress
from batchacct.cli.parsing import checked_zone
from batchacct.clock import unix_now
from batchacct.completing import Rule, rules_of
from batchacct.config import Config, default_path, load_config
from batchacct.errors import ConfigError, IncompleteError
from batchacct.parsing.hosts import this_host

COLUMNS = (
    "files",
    "units read",
    "recorded",
    "merged",
    "already known",
    "skipped",
    "rejected",
    "revised",
    "made of parts",
    "problems",
)


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--source", "source_name", metavar="NAME", help="The configured source the files are of: its parser, cluster, site, zone."
)
@click.option("--parser", "parser_name", help="Parser to use; guessed from each file's content when left out.")
@click.option("--name", help="Name of the source, where it is not configured.  [default: each file's path; in the store: backfill]")
@click.option("--site", help="Site the records get.")
@click.option("--cluster", help="Cluster the records get.  [default: default]")
@click.option("--zone", help="Time zone of the host that wrote it, for formats that do not say.  [default: UTC]")
@click.option("--header", help="Header line of files that have none, as their program would write it.")
@click.option("--host", help="Host that wrote them, for formats that do not say.  [default: this one]")
@click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Write Parquet here.  [default: the store]"
)
@click.option("--workers", type=click.IntRange(min=1), help="How many processes parse.  [default: one a core]")
@click.option("--engine", type=click.Choice(["local", "spark"]), default="local", show_default=True, help="Who parses.")
@click.option("--master", metavar="URL", help="The Spark cluster, spark://HOST:PORT; with --engine spark.")
@click.option(
    "--py-files", multiple=True, metavar="WHEEL", help="Sent to the cluster's workers, where batchacct is not installed there."
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration file.  [default: $BATCHACCT_CONFIG, else /etc/batchacct/batchacct.toml]",
)
def backfill(
    paths: tuple[str, ...],
    *,
    source_name: str | None,
    parser_name: str | None,
    to: Path | None,
    workers: int | None,
    engine: str,
    master: str | None,
    py_files: tuple[str, ...],
    config_path: Path | None,
    **given: str | None,
) -> None:
    """Reads any pile of old logs, each record once.

    PATHS are files, patterns and folders; files may be compressed (.gz .bz2 .xz .zst). Into the configured store, or with --to into
    a folder of Parquet files. Killed, it goes on where it stopped when the same command is started again.
    """
    config = load_config(config_path or default_path()) if source_name is not None or to is None else None
    told = _told(config, source_name, parser_name, **given)
    if (engine == "spark") != (master is not None):
        raise ConfigError("--engine spark and --master spark://HOST:PORT belong together: give both, or neither")
    if to is None:
        assert config is not None
        told = _of_one_source(told)
        with open_store(config) as store, steps_progress() as progress, _parsing(workers, master, py_files) as by:
            rules = rules_for(config, {told.name or ""}) if source_name else _rules(told)
            _tell_stored(backfill_to_store(store, paths, told, by, unix_now, rules=rules, progress=progress))
    else:
        with steps_progress() as progress, _engine(workers, master, py_files) as runs:
            books = backfill_to_parquet(paths, told, to, runs, unix_now(), progress=progress)
        _tell(books, to)


def _told(config: Config | None, source_name: str | None, parser_name: str | None, **given: str | None) -> Told:
    """What is told of the files, by a configured source or by options.  Raises: ConfigError."""
    if source_name is None:
        checked_zone(given["zone"])
        if parser_name is not None:
            parser_named(parser_name)
        return Told(
            parser_name, given["name"], given["site"], given["cluster"] or "default", given["zone"] or "UTC", (), given["header"],
            given["host"] or this_host(),
        )  # fmt: skip
    if parser_name is not None or any(value is not None for value in given.values()):
        raise ConfigError("--source says all that is to be known of the files: leave out --parser, --name, --site, --cluster, "
                          "--zone, --header and --host")  # fmt: skip
    assert config is not None
    (keys,) = chosen_sources(config, (source_name,))
    source = config.parser_source(keys)
    return Told(keys.parser, keys.name, source.site, source.cluster, keys.zone, source.ce_clusters, keys.header, source.host)


def _of_one_source(told: Told) -> Told:
    if told.parser is None:
        raise ConfigError("into the store go the files of one source: say which with --source, or its --parser")
    return replace(told, name=told.name or "backfill")


def _rules(told: Told) -> list[Rule]:
    return rules_of([(told.name or "", parser_named(told.parser or ""))])


@contextmanager
def _engine(workers: int | None, master: str | None, py_files: tuple[str, ...]) -> Iterator[Engine]:
    if master is None:
        yield LocalEngine(workers)
        return
    from batchacct.backfill.spark import SparkEngine, session  # noqa: PLC0415 - of the extra [spark]

    with session(master, py_files) as spark:
        yield SparkEngine(spark)


@contextmanager
def _parsing(workers: int | None, master: str | None, py_files: tuple[str, ...]) -> Iterator[Parsing]:
    if master is None:
        with parsing(workers or cores()) as by:
            yield by
        return
    from batchacct.backfill.spark import OnSpark, session  # noqa: PLC0415 - of the extra [spark]

    with session(master, py_files) as spark:
        yield OnSpark(spark)


def _tell(books: Books, folder: Path) -> None:
    """Prints the books.  Raises: IncompleteError unless all of it worked."""
    values = (books.files, books.units, books.recorded, books.merged, books.known, books.skipped, books.rejected)
    emit_table("Backfilled", COLUMNS, [(*values, books.revised, books.completed, len(books.problems))])
    for reason, count in books.skip_reasons.items():
        click.echo(f"skipped: {reason} ({count:,})", err=True)
    if books.again:
        click.echo(f"{len(books.again):,} paths lead to files that were read under other names, as {books.again[0]!r}", err=True)
    if books.waiting:
        click.echo(f"{books.waiting:,} parts wait for others of their whole, which are not in these files", err=True)
    rejects = folder / BOOKS / f"{books.name}.rejects.jsonl"
    _end(books.problems, books.notes, f"{books.rejected:,} units were rejected, see {rejects}" if books.rejected else None)


def _tell_stored(done: Stored) -> None:
    names = ("units", "recorded", "merged", "known", "skipped", "rejected", "revised")
    counts = (done.counts[name] for name in names)
    emit_table("Backfilled", COLUMNS, [(done.files, *counts, done.completed, len(done.problems))])
    if done.known_files:
        click.echo(f"{done.known_files:,} files had nothing that is not stored already", err=True)
    _end(done.problems, done.notes, None)


def _end(problems: list[str], notes: list[str], rejected: str | None) -> None:
    for note in notes:
        click.echo(note, err=True)
    for problem in problems:
        click.echo(f"batchacct: {problem}", err=True)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        raise IncompleteError(f"{count}, see above; everything else was done" + (f". {rejected}" if rejected else ""))
    if rejected:
        raise IncompleteError(f"{rejected}; every other one was taken")
