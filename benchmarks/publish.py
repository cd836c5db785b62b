"""The join, the messages, and the whole main job.

References: for the join, the database copying the finished ledger rows into an empty table of the same kind; for publishing,
the same messages written and synced to plain files, which is what the disk allows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from sqlalchemy import delete, func, insert, quoted_name, select, text

from batchacct.config import Config
from batchacct.parsing import registry
from batchacct.store import Store
from batchacct.store.tables import destination, message, usage
from benchmarks.farm import Databases, Logs, Site, now
from benchmarks.figures import Figures, Stopwatch, seconds
from benchmarks.totals import Totals, totals_of
from pub.command import publish_once
from pub.formats.contract import Format
from pub.joining import Joiner, newest_load
from pub.outbox import Outbox, Published, keep_destinations, keep_template
from pub.sending import Way, build_and_send, send
from pub.transports.ssm_directory import SsmDirectory, SsmDirectoryOptions


def measure(figures: Figures, logs: Logs, databases: Databases) -> None:
    """Join and publishing; then building and handing over once more, timed apart."""
    for kind in databases.kinds():
        with databases.empty(kind, logs) as site:
            collected_s = seconds(site.collect)
            figures.add(f"collect both logs, {kind}", logs.jobs / collected_s, "jobs/s")
            join_s = _join(site)
            copy_s, rows = _copied(site.store)
            figures.add(f"join, {kind}", logs.jobs / join_s, "jobs/s", rows / copy_s, "INSERT ... SELECT of the finished rows")
            published_s, done = _published(site)
            _forget_messages(site.store)
            build_s, send_s = _published_apart(site, site.folder / "again")
            plain_s = _written_plain(site.config.publish.path, site.folder / "plain")
        what = "the same messages written to files and synced"
        figures.add(f"build messages, {kind}", done.records / build_s, "records/s")
        figures.add(f"hand over, {kind}", done.records / send_s, "records/s", done.records / plain_s, what)
        figures.add(f"publish (build + hand over), {kind}", done.records / published_s, "records/s", 200_000, "the target")


def measure_whole(figures: Figures, logs: Logs, databases: Databases) -> None:
    """Collect, join and publish, as the commands do it."""
    for kind in databases.kinds():
        elapsed_s, _ = whole_s(kind, logs, databases)
        figures.add(f"whole main job, {kind}", logs.jobs / elapsed_s, "jobs/s")


def whole_s(kind: str, logs: Logs, databases: Databases) -> tuple[float, Totals]:
    """Seconds from logs to messages in the SSM directory, into an empty database, and what the messages come to."""

    def work() -> None:
        site.collect()
        publish_once(site.store, site.config, now)

    with databases.empty(kind, logs) as site:
        return seconds(work), totals_of(site.config.publish.path)


def _join(site: Site) -> float:
    watch = Stopwatch()
    joiner = Joiner.of(site.config, now())
    with watch.running():
        with site.store.writing() as connection:
            keep_template(connection, site.config.publish, now())
            joiner.begin(connection)
        while True:
            with site.store.writing() as connection:
                if joiner.step(connection, newest_load(connection)) is None:
                    break
    return watch.elapsed_s


def _copied(store: Store) -> tuple[float, int]:
    """Seconds to copy the ledger into a table with the same keys, in one commit, and how many rows it has."""
    twin = usage.to_metadata(type(usage.metadata)(), name="usage_copy")
    for index in twin.indexes:
        index.name = quoted_name(f"copy_{index.name}", quote=None)
    with store.writing() as connection:
        twin.create(connection)
        rows = connection.scalar(select(func.count()).select_from(usage)) or 0
    watch = Stopwatch()
    with watch.running(), store.writing() as connection:
        connection.execute(insert(twin).from_select([c.name for c in twin.columns], select(usage).order_by(usage.c.job_id)))
    with store.writing() as connection:
        connection.execute(text("DROP TABLE usage_copy"))
    return watch.elapsed_s, rows


def _published(site: Site) -> tuple[float, Published]:
    way = way_of(site.store, site.config)
    elapsed_s = seconds(lambda: build_and_send(site.store, [way], now))
    done = way.done
    if not done.records or done.confirmed != done.messages:
        raise RuntimeError(f"not all was published: {done}")
    return elapsed_s, done


def _published_apart(site: Site, path: Path) -> tuple[float, float]:
    """Seconds to build all messages, and then to hand them over."""
    way = way_of(site.store, site.config, path)

    def build() -> None:
        for batch in way.outbox.batches(site.store.reading):
            with site.store.writing() as connection:
                way.outbox.store(connection, batch, way.done)

    return seconds(build), seconds(lambda: send(site.store, way, now))


def way_of(store: Store, config: Config, path: Path | None = None) -> Way:
    """The one destination of a benchmark's site, an SSM directory (elsewhere, if `path` is given), from its first record on."""
    (one,) = config.destinations
    with store.writing() as connection:
        keep_destinations(connection, [one], now())
    written = cast("Format", registry.load(registry.FORMATS, one.format))
    return Way(Outbox(config, one, store.dialect, written, now()), SsmDirectory(SsmDirectoryOptions(path=path or one.path)))


def _forget_messages(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(delete(destination))
        connection.execute(delete(message))


def _written_plain(outgoing: Path, target: Path) -> float:
    payloads = [path.read_bytes() for path in sorted(outgoing.rglob("*")) if path.is_file()]
    target.mkdir()
    watch = Stopwatch()
    with watch.running():
        for number, payload in enumerate(payloads):
            with (target / str(number)).open("wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
    return watch.elapsed_s
