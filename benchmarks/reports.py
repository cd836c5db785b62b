"""`python -m benchmarks.reports`: how long questions about usage take, at growing numbers of jobs on one database, or in a folder.

Prints a Markdown table: a row a question, and for each number of jobs the seconds it takes from the rows, from what is kept of
days for sums, and how many times as long the rows take. The first question, a plain count of all jobs, is what the database itself
needs to look at each job once. Each question is asked three times in one process, and the median counts; of more than
`--rows-up-to` jobs, none is put to the rows. Then what keeping the sums of all days took, beside loading and joining the jobs, and
how many bytes a job they have.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from sqlalchemy import func, select

from batchacct.store.tables import job
from batchacct.store.usage_tables import usage_pack
from batchacct.usage import answering
from batchacct.usage.asking import Source, rows_of
from batchacct.usage.beside import Beside
from batchacct.usage.bins import DAY_S
from benchmarks.growth import tell
from benchmarks.servers import NAMES
from benchmarks.sites import FOLDER, Measured, Wanted, add_options
from cpuhours.query import Bins, ends, usage_by

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
    "by user, months of Zurich": {"by": "user", "bins": Bins("month", ZURICH)},
    "by exit": {"by": "exit"},
    "by user, days, spread": {"by": "user", "bins": Bins("day"), "counted": "spread"},
    "by user, days of Zurich, spread": {"by": "user", "bins": Bins("day", ZURICH), "counted": "spread"},
    "last week by VO and hour": {"by": "vo", "bins": Bins("hour"), "weeks": 1},
}
"""Words of `usage_by`; `weeks` is the period, up to the last job."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions at a number of jobs: seconds from the rows, if they were asked, and from what is kept."""

    of: Measured
    from_rows: dict[str, float]
    from_kept: dict[str, float]
    bytes_kept: int


def measure(of: Measured, *, rows: bool) -> Asked:
    """The questions, put to the rows as well if that is wanted."""
    with of.source() as source:
        from_rows = {}
        if rows:
            with (
                mock.patch.object(answering, "unchanged_days", return_value=[]),
                mock.patch.object(Beside, "of", return_value=None),
            ):
                from_rows = dict(_taken(source))
        return Asked(of, from_rows, dict(_taken(source)), _bytes_kept(source))


def _bytes_kept(source: Source) -> int:
    if isinstance(source, Path):
        return sum(path.stat().st_size for path in source.rglob("*.sums"))
    with source.reading() as connection:
        return connection.scalar(select(func.sum(func.length(usage_pack.c.packed)))) or 0


def _taken(source: Source) -> Iterator[tuple[str, float]]:
    """Seconds of each question."""
    count = select(func.count(job.c.end_at))  # a column that is in no index
    yield COUNT, _median_s(lambda: rows_of(source, lambda _: count))
    span = ends(source)
    assert span is not None
    for name, question in QUESTIONS.items():
        words = dict(question)
        if weeks := words.pop("weeks", None):
            words["begin"] = (span[1] // DAY_S - 7 * weeks) * DAY_S
        yield name, _median_s(lambda words=words: usage_by(source, **words))  # type: ignore[misc]
        tell(name)


def _median_s(ask: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return median(taken)


def table(database: str, measured: Sequence[Asked]) -> str:
    """Markdown: seconds of each question from the rows, from what is kept, and their ratio."""
    rows = [[NAMES.get(database, database)], ["---"], *([question] for question in (COUNT, *QUESTIONS))]
    for one in measured:
        rows[0] += [f"{one.of.jobs:,} jobs: rows, s", "kept, s", "ratio"]
        rows[1] += ["---:"] * 3
        for row in rows[2:]:
            from_rows, from_kept = one.from_rows.get(row[0]), one.from_kept[row[0]]
            told = ("", "") if from_rows is None else (f"{from_rows:,.2f}", f"{from_rows / from_kept:,.1f}")
            row.extend([told[0], f"{from_kept:,.2f}", told[1]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reports", description="How long questions about usage take.")
    add_options(parser, FOLDER)
    parser.add_argument("--rows-up-to", type=int, default=1_000_000, metavar="JOBS", help="rows of more are not asked")
    options = parser.parse_args()
    measured = [measure(of, rows=of.jobs <= options.rows_up_to) for of in Wanted.of(options).each()]
    print(table(options.database, measured))
    for one in measured:
        took_s = dict(one.of.took_s)
        keep_s = took_s.pop("keep")
        share = keep_s / sum(took_s.values())
        print(f"sums of {one.of.jobs:,} jobs: kept in {keep_s:,.1f} s, {share:.2f} of loading and joining;", end=" ")
        print(f"{one.bytes_kept / one.of.jobs:,.0f} bytes a job")


if __name__ == "__main__":
    main()
