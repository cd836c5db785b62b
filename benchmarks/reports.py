"""`python -m benchmarks.reports`: how long questions about usage take, at growing numbers of jobs on one database.

Prints a Markdown table: a row a question, a column a number of jobs, in seconds; the first question, a plain count of all jobs, is
what the database itself needs to look at each job once, and the others are told as multiples of it, too. Each question is asked
three times in one process, and the median counts. Then what a summary would come to: the rows it would have, by quarter hours and
everything a job can be grouped by, and by fewer things, and how many jobs are in one.
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

from sqlalchemy import Connection, func, select

from batchacct.config import load_config
from batchacct.ledger.whose import with_ledger
from batchacct.store import Store
from batchacct.store.spans import Period
from batchacct.store.tables import job, usage
from batchacct.usage.bins import DAY_S, QUARTER_S
from batchacct.usage.dimensions import DIMENSIONS
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
    "by user, days, spread": {"by": "user", "bins": Bins("day"), "counted": "spread"},
    "last week by VO and hour": {"by": "vo", "bins": Bins("hour"), "weeks": 1},
}
"""Words of `usage_by`; `weeks` is the period, up to the last job."""

_ALL = ("vo", "site", "cluster", "queue", "user", "group", "project", "submit_host", "state", "outcome")
SUMMARIES: Mapping[str, Sequence[str]] = {
    "of everything": _ALL,
    "of VO, cluster and queue": ("vo", "cluster", "queue"),
    "of VO": ("vo",),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A question at a number of jobs: seconds, and what a plain count took in the same run."""

    question: str
    jobs: int
    took_s: float
    count_s: float


def measure(database: str, logs: Logs, workdir: Path) -> tuple[list[Measured], dict[str, int]]:
    """The questions on a database of its own, and how many rows each of `SUMMARIES` would have."""
    with running(database) as server, site_of(workdir, logs, server) as config_path:
        for phase in ("load", "join"):
            run("benchmarks.growing", phase, config_path)
        store = Store(load_config(config_path).database.resolved())
        try:
            taken = dict(_taken(store))
            rows = {name: _rows(store, dimensions) for name, dimensions in SUMMARIES.items()}
        finally:
            store.close()
    return [Measured(question, logs.jobs, took_s, taken[COUNT]) for question, took_s in taken.items()], rows


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


def _rows(store: Store, dimensions: Sequence[str]) -> int:
    """How many groups there are in all quarter hours in which jobs ended, by the day their records were logged."""
    groups = [DIMENSIONS[name].label(name) for name in dimensions]
    when = (job.c.logged_at // DAY_S).label("day"), (job.c.end_at // QUARTER_S).label("quarter"), usage.c.benchmark_id
    with store.reading() as connection:
        return _number(connection, select(*groups, *when).select_from(with_ledger(Period())).distinct())


def _number(connection: Connection, rows: Any) -> int:
    return connection.scalar(select(func.count()).select_from(rows.subquery())) or 0


def table(database: str, measured: Sequence[Measured]) -> str:
    """Markdown: seconds of each question, and in brackets how many times as long as the count took."""
    sizes = sorted({one.jobs for one in measured})
    found = {(one.question, one.jobs): one for one in measured}
    rows = [[NAMES[database], *(f"{jobs:,} jobs, s" for jobs in sizes)], ["---", *("---:" for _ in sizes)]]
    for question in (COUNT, *QUESTIONS):
        of_sizes = (found[question, jobs] for jobs in sizes)
        rows.append([question, *(f"{one.took_s:,.2f} ({one.took_s / one.count_s:,.1f})" for one in of_sizes)])
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
        measured: list[Measured] = []
        for jobs in map(int, options.sizes.split(",")):
            of_size, summaries = measure(options.database, Logs.made(workdir, jobs, SEED), workdir)
            measured += of_size
            for name, rows in summaries.items():
                print(f"a summary {name} of {jobs:,} jobs: {rows:,} rows, {jobs / max(rows, 1):,.1f} jobs in each")
        print(table(options.database, measured))


if __name__ == "__main__":
    main()
