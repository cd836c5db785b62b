"""One phase of the main job in a process of its own: `python -m benchmarks.growing load|join|publish|report|keep CONFIG`.

It prints, as JSON, how long the phase took, how much CPU time this process had, and the most memory it ever had resident.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from batchacct import memory
from batchacct.cli.collecting import collector_of
from batchacct.collector import collect_once
from batchacct.config import Config, load_config
from batchacct.store import Store
from batchacct.usage.keeping import LOCK, refresh
from benchmarks.farm import now
from benchmarks.publish import way_of
from benchmarks.resident import peak_mb
from cpuhours.query import usage_by
from pub.joining import Joiner, newest_load
from pub.outbox import keep_template
from pub.sending import build_and_send

DAY_S = 86_400


def load(store: Store, config: Config) -> int:
    """Both logs, from their bytes into the store; jobs recorded.  Raises: RuntimeError if any of it could not be read."""
    jobs = 0
    for keys in config.source:
        done = collect_once(store, collector_of(config, keys), now)
        if done.errors or done.counts["rejected"]:
            raise RuntimeError(f"the benchmark's own logs cannot be read: {done.errors or done.counts}")
        jobs += done.counts["recorded"] if keys.parser == "lsf" else 0
    return jobs


def join(store: Store, config: Config) -> int:
    """Every job gets its row of the ledger; rows written."""
    joiner, rows = Joiner.of(config, now()), 0
    with store.writing() as connection:
        keep_template(connection, config.publish, now())
        joiner.begin(connection)
        last = newest_load(connection)
    while True:
        with store.writing() as connection:
            counts = joiner.step(connection, last)
        if counts is None:
            return rows
        rows += sum(counts.values())


def publish(store: Store, config: Config) -> int:
    """Joined rows to messages in the SSM directory, confirmed; records published."""
    way = way_of(store, config)
    build_and_send(store, [way], now)
    done = way.done
    if done.confirmed != done.messages:
        raise RuntimeError(f"not all was published: {done}")
    return done.records


def report(store: Store, config: Config) -> int:
    """CPU hours of everything by VO and by day, in two queries; jobs in the first one."""
    del config
    by_vo = usage_by(store, by="vo")
    by_day = usage_by(store, by="day")
    if int(by_vo["jobs"].sum()) != int(by_day["jobs"].sum()):
        raise RuntimeError("a report by VO and one by day have other jobs")
    return int(by_vo["jobs"].sum())


def keep(store: Store, config: Config) -> int:
    """The sums of all days, as each run of `publish` keeps them; days."""
    del config
    with store.lock(LOCK) as locks:
        return refresh(store, locks)


PHASES: dict[str, Callable[[Store, Config], int]] = {"load": load, "join": join, "publish": publish, "report": report}
PREPARING: dict[str, Callable[[Store, Config], int]] = {"load": load, "join": join, "keep": keep}
"""What makes a site that can be asked."""


def main(phase: str, path: Path) -> None:
    memory.keep_freed()  # as the commands do
    config = load_config(path)
    store = Store(config.database.resolved())
    began, cpu_began = time.perf_counter(), time.process_time()
    rows = (PHASES | PREPARING)[phase](store, config)
    elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    store.close()
    print(json.dumps({"rows": rows, "elapsed_s": elapsed_s, "cpu_s": cpu_s, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
