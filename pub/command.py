"""`batchacct publish`: join, format, hand over."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from typing import cast

import click
from sqlalchemy import Connection, select

from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.clock import unix_now
from batchacct.config import Config, Destination
from batchacct.errors import BatchacctError, ConfigError, PublishError, SchemaError
from batchacct.options import opened_transport
from batchacct.parsing import registry
from batchacct.store import HeldLocks, Store
from batchacct.store.tables import source_state
from pub.formats.contract import Format
from pub.joining import Joiner, newest_load
from pub.outbox import Outbox, Published, keep_destinations, keep_template
from pub.privacy import keep_names_policy
from pub.sending import Way, build_and_send, retry_refused_messages
from pub.transports.contract import Transport

log = logging.getLogger(__name__)

LOCK = "publish"
"""What one process at a time may do with a database."""

Joined = Counter[tuple[str, str]]
Done = dict[str, Published]
"""What a run did, for each destination."""


class _Undo(Exception):  # noqa: N818 - ends a dry run's transaction
    pass


@click.command()
@click.option("--once", is_flag=True, help="Publish what is there and end, rather than on the schedule.")
@click.option("--dry-run", "--dryrun", is_flag=True, help="Show what would be published; nothing is stored or handed over.")
@click.option("--retry-refused", "with_refused", is_flag=True, help="Try messages again that a receiver would not take.")
@config_option
def publish(config: Config, once: bool, dry_run: bool, with_refused: bool) -> None:
    """Joins jobs with identities and hands messages over.

    On the schedule of [publish], in the foreground until SIGTERM; SIGHUP reads the configuration again.
    """
    if not (once or dry_run):
        if with_refused:
            raise ConfigError("--retry-refused goes with --once: on its schedule the publisher tries no refused message again")
        from pub.schedule import publish_on_schedule  # noqa: PLC0415 - which imports this module

        publish_on_schedule(config)
        return
    with open_store(config) as store:
        if dry_run:
            joined, done = dry_publish(store, config, unix_now())
        else:
            joined, done = publish_once(store, config, unix_now, with_refused=with_refused)
    show_published(joined, done, dry_run=dry_run)


def publish_once(
    store: Store,
    config: Config,
    clock: Callable[[], int],
    message_format: Format | None = None,
    *,
    with_refused: bool = False,
) -> tuple[Joined, Done]:
    """One run: (jobs by outcome and reason, what was published); `message_format` in place of the configured one, if given.

    Messages that a receiver would not take are tried again only `with_refused`. A destination that cannot be used (its plug-in is
    broken, its receiver away) is told of after the others have had theirs.

    Raises: BusyError if another publisher runs, ConfigError, PluginError, StoreError, PublishError (what was built stays in the
    outbox, and the next run sends it), IncompleteError (the receiver will not take some of the messages).
    """
    with ExitStack() as stack:
        ways, broken = _ways(stack, store, config, clock(), message_format)
        locks = stack.enter_context(store.lock(LOCK))
        joiner = Joiner.of(config, clock())
        _warn_of_unread(store, joiner)
        joined, last_load = store.untangled(lambda: _begin(store, locks, config, joiner, clock()))
        if with_refused:
            with _writing(store, locks) as connection:
                retry_refused_messages(connection, ways, clock())
        while (counts := store.untangled(lambda: _step(store, locks, joiner, last_load))) is not None:
            joined += counts
        _keep_sums(store, locks)
        build_and_send(store, ways, clock, require_lock=lambda: locks.require(LOCK))
    _require_whole(broken)
    return joined, {way.name: way.done for way in ways}


def _keep_sums(store: Store, locks: HeldLocks) -> None:
    """Brings the sums that reports are made of up to date; without them, reports sum the rows.

    Whatever hinders that is told, and what is to be sent is sent. Raises: SchemaError if the database was migrated meanwhile;
    StoreError if the lock was lost.
    """
    import duckdb  # noqa: PLC0415 - slow to import

    from batchacct.usage.keeping import refresh  # noqa: PLC0415 - slow to import

    try:
        refresh(store, locks)
    except SchemaError:
        raise
    except (BatchacctError, duckdb.Error) as error:
        locks.require(LOCK)
        advice = "reports are right, and take longer; see what `batchacct db summarise` says"
        log.warning("sums of usage are not up to date (%s): %s", error, advice)


def _ways(
    stack: ExitStack, store: Store, config: Config, now: int, message_format: Format | None
) -> tuple[list[Way], dict[str, BatchacctError]]:
    """The destinations, open for as long as the stack is, and what is wrong with others.  Raises: that, if it is of all of them."""
    ways: list[Way] = []
    broken: dict[str, BatchacctError] = {}
    for one in config.destinations:
        try:
            transport = cast("Transport", opened_transport(config, one))
            outbox = Outbox(config, one, store.dialect, message_format or _format(one), now)
        except BatchacctError as error:
            broken[one.name] = error
            continue
        ways.append(Way(outbox, stack.enter_context(closing(transport))))
    if not ways:
        raise next(iter(broken.values()))
    return ways, broken


def _begin(store: Store, locks: HeldLocks, config: Config, joiner: Joiner, now: int) -> tuple[Joined, int]:
    with _writing(store, locks) as connection:
        return begun(connection, config, joiner, now)


def begun(connection: Connection, config: Config, joiner: Joiner, now: int) -> tuple[Joined, int]:
    """What a run begins with: settings are taken over; (jobs by outcome and reason, the newest load).  Raises: ConfigError."""
    keep_template(connection, config.publish, now)
    keep_names_policy(connection, config, now)
    keep_destinations(connection, config.destinations, now)
    return joiner.begin(connection), newest_load(connection)


def _step(store: Store, locks: HeldLocks, joiner: Joiner, last_load: int) -> Joined | None:
    with _writing(store, locks) as connection:
        return joiner.step(connection, last_load)


@contextmanager
def _writing(store: Store, locks: HeldLocks) -> Iterator[Connection]:
    """A transaction that is undone if the lock was lost: an archive may be at work with what the ledger said before."""
    with store.writing() as connection:
        yield connection
        locks.require(LOCK)


def dry_publish(store: Store, config: Config, now: int) -> tuple[Joined, Done]:
    """What `publish_once` would do, in one transaction that is undone: nothing is stored, nothing is handed over."""
    with ExitStack() as stack:
        ways, broken = _ways(stack, store, config, now, None)
        stack.enter_context(store.lock(LOCK))
        try:
            with store.writing() as connection:
                joiner = Joiner.of(config, now)
                joined, last_load = begun(connection, config, joiner, now)
                while (counts := joiner.step(connection, last_load)) is not None:
                    joined += counts
                for way in ways:
                    for batch in way.outbox.batches(lambda: nullcontext(connection)):
                        way.outbox.store(connection, batch, way.done, dry_run=True)
                raise _Undo  # noqa: TRY301 - leaving by an exception is what rolls the transaction back
        except _Undo:
            pass
    _require_whole(broken)
    return joined, {way.name: way.done for way in ways}


def _require_whole(broken: Mapping[str, BatchacctError]) -> None:
    """Raises: PublishError if there are destinations that cannot be used."""
    if broken:
        raise PublishError("; ".join(f"destination {name}: {error.message}" for name, error in broken.items()))


def _warn_of_unread(store: Store, joiner: Joiner) -> None:
    """Says which identity sources were never read: after `max_hold` the jobs that wait for them go out as local."""
    states = select(source_state.c.name).where(source_state.c.read_to_end_at.is_not(None))
    with store.reading() as connection:
        read = set(connection.scalars(states))
    for source in sorted({name for sources in joiner.identity_sources.values() for name in sources} - read):
        log.warning("source=%s was never read to its end: jobs may be published as local whose identity is there", source)


def _format(destination: Destination) -> Format:
    return cast("Format", registry.load(registry.FORMATS, destination.format))


def show_published(joined: Joined, done: Done, *, dry_run: bool = False) -> None:
    """What a run did, as tables: one a destination."""
    would = "would be " if dry_run else ""
    rows = [(outcome, reason, jobs) for (outcome, reason), jobs in sorted(joined.items())]
    if rows:
        emit_table(f"Jobs that {would}joined" if dry_run else "Joined", ("outcome", "why", "jobs"), rows)
    else:
        click.echo("No job has another outcome than before.")
    for name, one in done.items():
        title = "Would be published" if dry_run else "Published"
        emit_table(title if len(done) == 1 else f"{title} to {name}", ("what", "why", "count"), _rows_of(one))


def _rows_of(done: Published) -> list[tuple[str, str, int]]:
    rows = [("records", "", done.records), ("messages", "", done.messages), ("messages handed over", "", done.confirmed)]
    rows += [("refused", reason, count) for reason, count in sorted(done.refused.items())]
    rows += [("not for it", "vos and infrastructure in [[destination]]", done.not_for_it)] if done.not_for_it else []
    rows += [("published elsewhere", "by the program they were imported from", done.elsewhere)] if done.elsewhere else []
    return rows + [("left out", what, count) for what, count in sorted(done.left_out.items())]
