"""`batchacct collect`: the configured sources into the store."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection

import click

from batchacct.cli.common import byte_progress, config_option, config_path, emit_table, open_store
from batchacct.clock import unix_now
from batchacct.collector import Collected, Collector, collect_once
from batchacct.collector.running import lock_name
from batchacct.collector.service import Closeable, Plan, Service
from batchacct.completing import Rule, again, complete_parts, rules_of
from batchacct.config import Config, SourceKeys, load_config
from batchacct.errors import BatchacctError, BusyError, ConfigError, HorizonError, IncompleteError, PluginError
from batchacct.feeding import feed
from batchacct.following.files import stamp_of_path
from batchacct.parsing import registry
from batchacct.parsing.reading import expand
from batchacct.scripts import start_logging
from batchacct.signals import Signals
from batchacct.store import Store

log = logging.getLogger(__name__)

PATIENCE_S = 3.0
"""A collector that has stopped at a file looks again now and then, which takes no longer: `--from-start` waits for that."""

COLUMNS = ("source", "files", "units read", "recorded", "merged", "already known", "revised", "skipped", "rejected", "problems")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--once", is_flag=True, help="Read what is there and end, rather than follow.")
@click.option(
    "--from-start",
    multiple=True,
    metavar="FILE",
    help="Read this file from its beginning, as if it had never been read.",
)
@click.option("--complete-again", is_flag=True, help="Make records of all parts anew: after the rule of a parser was mended.")
@config_option
def collect(config: Config, names: tuple[str, ...], once: bool, from_start: tuple[str, ...], complete_again: bool) -> None:
    """Runs the configured collectors, or those NAMED.

    Follows their files, and asks their feeds, in the foreground until SIGTERM; SIGHUP reads the configuration again.
    """
    collectors, broken = collectors_of(config, names)
    rules = rules_for(config, {c.source.name for c in collectors})
    there = {path for collector in collectors for path in expand(collector.paths)}
    if strange := [path for path in from_start if path not in there]:
        raise ConfigError(f"--from-start {strange[0]}: no source has this file; write it as `batchacct status` does")
    with open_store(config) as store:
        if complete_again:
            again(store, rules)
        if once:
            _collect_once(store, collectors, rules, broken, frozenset(from_start))
        else:
            _follow(store, config, names, frozenset(from_start))


def _collect_once(
    store: Store, collectors: list[Collector], rules: list[Rule], broken: list[BatchacctError], from_start: frozenset[str]
) -> None:
    done: list[Collected] = []
    problems = list(broken)
    patience_s = PATIENCE_S if from_start else 0
    for collector in collectors:
        try:
            with (
                store.lock(lock_name(collector.source.name), patience_s=patience_s),
                byte_progress(collector.source.name, _bytes_there(collector)) as progress,
            ):
                done.append(collect_once(store, collector, unix_now, from_start=from_start, progress=progress))
        except BusyError as error:
            problems.append(error)
    completed = complete_parts(store, rules, unix_now())
    if done:
        emit_table("Collected", COLUMNS, [collected_row(d) for d in done])
    for one in done:
        if one.held:
            click.echo(
                f"source {one.source}: nothing was taken of {len(one.held):,} files, as {one.held[0]}: their first unit may be "
                "half written. If they are complete, this parser is not for them",
                err=True,
            )
        for warning in one.warnings:
            click.echo(f"source {one.source}: {warning}", err=True)
    if rules:
        click.echo(f"{completed:,} records completed from parts")
    problems += [error for d in done for error in d.errors]
    if problems:
        if len(problems) == 1 and isinstance(problems[0], BusyError | HorizonError):
            raise problems[0]
        for problem in problems:
            click.echo(f"batchacct: {problem.message}", err=True)
        told = f"{_files(len(problems))} not read, see above; what else there is was"
        raise HorizonError(told) if all(isinstance(one, HorizonError) for one in problems) else IncompleteError(told)


def _follow(store: Store, config: Config, names: tuple[str, ...], from_start: frozenset[str]) -> None:
    start_logging("batchacct")
    plan, broken = _plan(config, names, from_start)
    for error in broken:
        log.error("%s. The other sources are followed", error.message)
    if not plan.collectors:
        raise broken[0]

    path = config_path().absolute()

    def reload() -> Plan:
        changed = load_config(path)
        if changed.database != config.database:
            log.warning("[database] has changed: that is for the next start")
        if changed.collect.metrics_address != config.collect.metrics_address:
            log.warning("[collect] metrics_address has changed: that is for the next start")
        changed_plan, wrong = _plan(changed, names)
        if wrong:
            raise ConfigError("; ".join(error.message for error in wrong))
        return changed_plan

    with Signals() as signals:
        Service(store, plan, unix_now, reload, _metrics(store, config)).run(signals)
    log.info("ended")


def _metrics(store: Store, config: Config) -> Callable[[], Closeable] | None:
    """What serves the metrics, where an address is configured."""
    address = config.collect.metrics_address
    if address is None:
        return None
    from batchacct.metrics import metrics_text, serve  # noqa: PLC0415 - only who asks for metrics needs it

    return lambda: serve(address, lambda: metrics_text(store, config))


def _plan(config: Config, names: tuple[str, ...], from_start: frozenset[str] = frozenset()) -> tuple[Plan, list[BatchacctError]]:
    """What to follow, and what is wrong with sources that cannot be."""
    collectors, broken = collectors_of(config, names)
    rules = rules_for(config, {c.source.name for c in collectors})
    known_by = {keys.name: (keys, config.parser_source(keys)) for keys in config.source}
    return Plan(collectors, rules, config.collect, config.collect.heartbeat, known_by, from_start), broken


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
    return sum(stamp.size for path in expand(collector.paths) if (stamp := stamp_of_path(path)) is not None)
