"""`python -m benchmarks.limits`: where the time of loading goes on each database, and so what its limit is.

Loading has two sides that work at the same time: threads that parse, and one that stores. Of the storing thread, time and its own
CPU time are taken inside the driver's bulk path, inside commits, and outside of both; what it had no CPU time for, it waited: for
the server, or for the disk. CPU time of the parsing threads is that of the process without the storing thread's; the server's is
read from /proc. A profile by function of the storing thread follows (--profile).
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from batchacct import memory
from batchacct.cli.collecting import collector_of
from batchacct.collector import collect_once
from batchacct.config import load_config
from batchacct.store import Store
from benchmarks.farm import Logs, configuration, now
from benchmarks.servers import NAMES, Running, running

SHOWN = 25


@dataclass
class Side:
    """What a thread spent in one place: by the clock, and of a processor."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        began, cpu_began = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.wall_s += time.perf_counter() - began
            self.cpu_s += time.thread_time() - cpu_began

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.running():
                return function(*args, **kwargs)

        return measured

    @property
    def waited_s(self) -> float:
        return max(self.wall_s - self.cpu_s, 0.0)


@dataclass
class Spent:
    """Loading the log of one cluster into one database."""

    database: str
    jobs: int
    storing: Side = field(default_factory=Side)
    bulk: Side = field(default_factory=Side)
    commit: Side = field(default_factory=Side)
    process_cpu_s: float = 0.0
    server_cpu_s: float = 0.0

    @property
    def parsing_cpu_s(self) -> float:
        return max(self.process_cpu_s - self.storing.cpu_s, 0.0)

    @property
    def rest(self) -> Side:
        """The storing thread outside of the driver: it takes what was parsed, and waits for it if there is none."""
        inside = (self.bulk, self.commit)
        return Side(self.storing.wall_s - sum(s.wall_s for s in inside), self.storing.cpu_s - sum(s.cpu_s for s in inside))

    def limit(self) -> str:
        """The largest of what the storing thread, which all rows go through, spent its time with."""
        driver = "SQLite itself, in our process" if self.database == "sqlite" else "the driver (rows on their way to the server)"
        shares = {
            "the parser: what stores waits for it": self.rest.waited_s,
            "our own bookkeeping": self.rest.cpu_s,
            driver: self.bulk.cpu_s,
            "the database: waited for in its bulk path": self.bulk.waited_s,
            "durable commits": self.commit.wall_s,
        }
        name = max(shares, key=lambda share: shares[share])
        return f"{name} ({shares[name] / self.storing.wall_s:.0%})"


def measure(database: str, logs: Logs, workdir: Path, profile: cProfile.Profile | None) -> Spent:
    """Loads the LSF log alone into an empty database."""
    spent = Spent(database, logs.jobs)
    folder = Path(tempfile.mkdtemp(prefix="limits-", dir=workdir))
    try:
        with running(database) as server:
            _load(server, logs, folder, spent, profile)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return spent


def _load(server: Running, logs: Logs, folder: Path, spent: Spent, profile: cProfile.Profile | None) -> None:
    config = load_config(configuration(folder, logs, server.url or f"sqlite:///{folder.resolve()}/batchacct.db"))
    store = Store(config.database.resolved())
    store.create()
    collector = collector_of(config, next(keys for keys in config.source if keys.parser == "lsf"))
    dialect, engine = store.dialect, store.engine.dialect
    bulk = patch.object(dialect, "bulk_insert", spent.bulk.around(dialect.bulk_insert))
    commit = patch.object(engine, "do_commit", spent.commit.around(engine.do_commit))
    cpu_began, server_began = time.process_time(), server.cpu_s()
    with bulk, commit, spent.storing.running(), profile or nullcontext():
        done = collect_once(store, collector, now)
    spent.process_cpu_s, spent.server_cpu_s = time.process_time() - cpu_began, server.cpu_s() - server_began
    store.close()
    if done.errors or done.counts["recorded"] != logs.jobs:
        raise RuntimeError(f"the benchmark's own logs cannot be read: {done.errors or done.counts}")


def table(measured: list[Spent]) -> str:
    """Markdown, a row a database."""
    head = (
        "database", "jobs", "seconds", "jobs/s", "parsing, CPU s", "bulk path, s", "of it our CPU", "of it waiting", "commits, s",
        "the rest, s", "of it our CPU", "of it waiting for the parser", "server's CPU, s", "the limit is",
    )  # fmt: skip
    rows = [head, ("---", *["---:"] * (len(head) - 2), "---")]
    for one in measured:
        rest = one.rest
        numbers = (
            one.parsing_cpu_s, one.bulk.wall_s, one.bulk.cpu_s, one.bulk.waited_s, one.commit.wall_s, rest.wall_s, rest.cpu_s,
            rest.waited_s, one.server_cpu_s,
        )  # fmt: skip
        took = (f"{one.storing.wall_s:.2f}", f"{one.jobs / one.storing.wall_s:,.0f}")
        rows.append((NAMES[one.database], f"{one.jobs:,}", *took, *(f"{number:.2f}" for number in numbers), one.limit()))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    memory.keep_freed()  # as the commands do
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description="Where the time of loading goes.")
    env = os.environ
    parser.add_argument("--databases", default=env.get("BENCH_DATABASE", ",".join(NAMES)), help=f"of {','.join(NAMES)} [all]")
    parser.add_argument("--jobs", type=int, default=int(env.get("BENCH_JOBS", "200000")), help="LSF lines [$BENCH_JOBS, 200000]")
    parser.add_argument("--workdir", type=Path, default=env.get("BENCH_WORKDIR"), help="keeps the logs for the next run")
    parser.add_argument("--profile", action="store_true", help="a profile by function of the storing thread; it slows it down")
    options = parser.parse_args()
    kept = options.workdir is not None
    workdir = Path(options.workdir).resolve() if kept else Path(tempfile.mkdtemp(prefix="batchacct-limits-"))
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        logs = Logs.made(workdir, options.jobs, 1)
        measured = []
        for database in options.databases.split(","):
            profile = cProfile.Profile() if options.profile else None
            measured.append(measure(database, logs, workdir, profile))
            if profile is not None:
                print(f"\n{NAMES[database]}:")
                pstats.Stats(profile).sort_stats("tottime").print_stats(SHOWN)
        print(table(measured))
    finally:
        if not kept:
            shutil.rmtree(workdir, ignore_errors=True)


if __name__ == "__main__":
    main()
