"""`python -m benchmarks.reports`: how long questions about usage take, at growing numbers of jobs on one database.

Prints a Markdown table: a row a question, and for each number of jobs the seconds it takes from the rows, from what is kept of
days for sums, and how many times as long the rows take. The first question, a plain count of all jobs, is what the database itself
needs to look at each job once. Each question is asked three times in one process, and the median counts. Then what keeping the sums
of all days took, beside loading and joining the jobs, and how many bytes a job they have.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import func, select

from batchacct.config import load_config
from batchacct.store import Store
from batchacct.store.tables import job
from batchacct.store.usage_tables import usage_pack
from batchacct.usage.bins import DAY_S
from batchacct.usage.keeping import LOCK, refresh
from benchmarks.farm import Logs
from benchmarks.growth import SEED, run, site_of
from benchmarks.servers import NAMES, running
from cpuhours.query import Bins, ends, usage_by

SIZES = (100_000, 1_000_000)
TIMES = 3
COUNT = "count of all jobs"
ZURICH = "Europe/Zurich"

QUESTIONS: Mapping[str, dict[str, Any]] = {
    "by VO": {"by": "vo"},
    "by VO, normalised": {"by": "vo", "normalise": "HEPscore23"},
    "by day and VO": {"by": ("day", "vo")},
    "by queue, months of Zurich": {"by": "queue", "bins": Bins("month", ZURICH)},
    "of a VO by user": {"by": "user", "where": {"vo": ["atlas"]}},
    "by VO, days of Zurich, started": {"by": "vo", "bins": Bins("day", ZURICH), "counted": "started"},
    "by VO, hours, spread": {"by": "vo", "bins": Bins("hour"), "counted": "spread"},
    "by host": {"by": "host"},
    "by user, days of Zurich": {"by": "user", "bins": Bins("day", ZURICH)},
    "by user, days, spread": {"by": "user", "bins": Bins("day"), "counted": "spread"},
    "last week by VO and hour": {"by": "vo", "bins": Bins("hour"), "weeks": 1},
}
"""Words of `usage_by`; `weeks` is the period, up to the last job."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Questions at a number of jobs: seconds from the rows, and from what is kept."""

    jobs: int
    from_rows: dict[str, float]
    from_kept: dict[str, float]
    load_and_join_s: float
    keep_s: float
    bytes_a_job: float


def measure(database: str, logs: Logs, workdir: Path) -> Measured:
    """The questions on a database of its own."""
    with running(database) as server, site_of(workdir, logs, server) as config_path:
        took_s = sum(run("benchmarks.growing", phase, config_path)["elapsed_s"] for phase in ("load", "join"))
        store = Store(load_config(config_path).database.resolved())
        try:
            from_rows = dict(_taken(store))
            began = time.perf_counter()
            with store.lock(LOCK) as locks:
                refresh(store, locks)
            keep_s = time.perf_counter() - began
            with store.reading() as connection:
                kept = connection.scalar(select(func.sum(func.length(usage_pack.c.packed)))) or 0
            return Measured(logs.jobs, from_rows, dict(_taken(store)), took_s, keep_s, kept / logs.jobs)
        finally:
            store.close()


def _taken(store: Store) -> Iterator[tuple[str, float]]:
    """Seconds of each question."""
    yield COUNT, _median_s(lambda: _count(store))
    span = ends(store)
    assert span is not None
    for name, question in QUESTIONS.items():
        words = dict(question)
        if weeks := words.pop("weeks", None):
            words["begin"] = (span[1] // DAY_S - 7 * weeks) * DAY_S
        yield name, _median_s(lambda words=words: usage_by(store, **words))  # type: ignore[misc]


def _median_s(ask: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return median(taken)


def _count(store: Store) -> int:
    """All jobs, by a column that is in no index."""
    with store.reading() as connection:
        return connection.scalar(select(func.count(job.c.end_at))) or 0


def table(database: str, measured: Sequence[Measured]) -> str:
    """Markdown: seconds of each question from the rows, from what is kept, and their ratio."""
    rows = [[NAMES[database]], ["---"], *([question] for question in (COUNT, *QUESTIONS))]
    for one in measured:
        rows[0] += [f"{one.jobs:,} jobs: rows, s", "kept, s", "ratio"]
        rows[1] += ["---:"] * 3
        for row in rows[2:]:
            from_rows, from_kept = one.from_rows[row[0]], one.from_kept[row[0]]
            row += [f"{from_rows:,.2f}", f"{from_kept:,.2f}", f"{from_rows / from_kept:,.1f}"]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reports", description="How long questions about usage take.")
    parser.add_argument("--database", choices=NAMES, default="sqlite")
    parser.add_argument("--sizes", default=os.environ.get("BENCH_SIZES", ",".join(map(str, SIZES))), help="numbers of jobs")
    parser.add_argument("--workdir", type=Path, default=os.environ.get("BENCH_WORKDIR"), help="keeps the logs for the next run")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        workdir = options.workdir or Path(folder)
        measured = [
            measure(options.database, Logs.made(workdir, jobs, SEED), workdir) for jobs in map(int, options.sizes.split(","))
        ]
        print(table(options.database, measured))
        for one in measured:
            share = one.keep_s / one.load_and_join_s
            print(f"sums of {one.jobs:,} jobs: kept in {one.keep_s:,.1f} s, {share:.2f} of loading and joining;", end=" ")
            print(f"{one.bytes_a_job:,.0f} bytes a job")


if __name__ == "__main__":
    main()
