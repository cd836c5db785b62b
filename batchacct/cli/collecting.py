"""`batchacct collect`: the configured sources into the store."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

import click

from batchacct.cli.common import byte_progress, config_option, emit_table, open_store
from batchacct.clock import unix_now
from batchacct.collector import Collected, Collector, collect_once
from batchacct.completing import Rule, again, complete_parts, rules_of
from batchacct.config import Config, SourceKeys
from batchacct.errors import BatchacctError, ConfigError, IncompleteError, PluginError
from batchacct.feeding import feed
from batchacct.parsing import registry
from batchacct.parsing.reading import expand

COLUMNS = ("source", "files", "units read", "recorded", "merged", "already known", "revised", "skipped", "rejected", "problems")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--once", is_flag=True, help="Read what is there and end.")
@click.option(
    "--from-start",
    multiple=True,
    metavar="FILE",
    help="Read this file from its beginning, as if it had never been read.",
)
@click.option("--complete-again", is_flag=True, help="Make records of all parts anew: after the rule of a parser was mended.")
@config_option
def collect(config: Config, names: tuple[str, ...], once: bool, from_start: tuple[str, ...], complete_again: bool) -> None:
    """Runs the configured collectors, or those NAMED."""
    if not once:
        raise ConfigError("following files comes with a later release: run `batchacct collect --once` from cron for now")
    collectors, broken = collectors_of(config, names)
    rules = rules_for(config, {c.source.name for c in collectors})
    there = {path for collector in collectors for path in expand(collector.paths)}
    if strange := [path for path in from_start if path not in there]:
        raise ConfigError(f"--from-start {strange[0]}: no source has this file; write it as `batchacct status` does")
    with open_store(config) as store:
        done = []
        for collector in collectors:
            with byte_progress(collector.source.name, _bytes_there(collector)) as progress:
                done.append(collect_once(store, collector, unix_now, from_start=frozenset(from_start), progress=progress))
        if complete_again:
            again(store, rules)
        completed = complete_parts(store, rules, unix_now())
    emit_table("Collected", COLUMNS, [collected_row(d) for d in done])
    for one in done:
        if one.held:
            click.echo(
                f"source {one.source}: nothing was taken of {len(one.held):,} files, as {one.held[0]}: their first unit may be "
                "half written. If they are complete, this parser is not for them",
                err=True,
            )
    if rules:
        click.echo(f"{completed:,} records completed from parts")
    problems = [*broken, *(error for d in done for error in d.errors)]
    if problems:
        for error in problems:
            click.echo(f"batchacct: {error.message}", err=True)
        raise IncompleteError(f"{_files(len(problems))} not read, see above; every other one was")


def chosen_sources(config: Config, names: tuple[str, ...]) -> list[SourceKeys]:
    """The configured sources of these names, or all.  Raises: ConfigError for a name that is none."""
    if unknown := set(names) - {s.name for s in config.source}:
        there = ", ".join(s.name for s in config.source) or "none"
        raise ConfigError(f"no source is named {', '.join(sorted(unknown))}; configured are: {there}")
    if not config.source:
        raise ConfigError("no source is configured: add a [[source]], see `batchacct config sample`")
    return [s for s in config.source if not names or s.name in names]


def collector_of(config: Config, keys: SourceKeys) -> Collector:
    source = config.parser_source(keys)
    asked = None if keys.feed is None else feed(keys.feed, source, keys.paths, keys.feed_options)
    return Collector(registry.parser(keys.parser), source, tuple(keys.paths), asked)


def collectors_of(config: Config, names: Collection[str]) -> tuple[list[Collector], list[BatchacctError]]:
    """The collectors of the sources of these names, or of all; a source that is configured wrongly stops only itself."""
    collectors: list[Collector] = []
    broken: list[BatchacctError] = []
    for keys in chosen_sources(config, tuple(names)):
        try:
            collectors.append(collector_of(config, keys))
        except (ConfigError, PluginError) as error:
            broken.append(error)
    return collectors, broken


def rules_for(config: Config, names: Collection[str]) -> list[Rule]:
    """The rules by which parts of these sources become records; a family may have parts from other sources, too.

    A source whose parser is broken stops only itself, when it is collected: here it is left out.
    """
    parsers = []
    for keys in config.source:
        with contextlib.suppress(PluginError):
            parsers.append((keys.name, registry.parser(keys.parser)))
    return [rule for rule in rules_of(parsers) if set(rule.sources) & set(names)]


def collected_row(done: Collected) -> tuple[object, ...]:
    counts = (done.counts[name] for name in ("units", "recorded", "merged", "known", "revised", "skipped", "rejected"))
    return (done.source, done.files, *counts, len(done.errors))


def _files(count: int) -> str:
    return "1 file or source was" if count == 1 else f"{count} files or sources were"


def _bytes_there(collector: Collector) -> int:
    return sum(Path(p).stat().st_size for p in expand(collector.paths) if Path(p).is_file())
