"""What the 2012 script sums: one measure of jobs by bins of time, and how many jobs it leaves out.

As in 2012 every measure is of jobs that started and ended and whose CPU time is known. What cannot be measured is counted, so that
it can be told: see `LeftOut`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Select, and_, case, cast, func, literal, select

from batchacct.store import Store
from batchacct.store.spans import Period
from batchacct.store.tables import job
from batchacct.usage.asking import rows_of
from batchacct.usage.jobs import counted_jobs
from cpuhours.query import DAY_S

MEASURES = ("cpu", "count", "started", "walltime", "waiting")
_SECONDS: Mapping[str, ColumnElement[Any]] = {
    "cpu": job.c.cpu_duration_s,
    "walltime": job.c.end_at - job.c.start_at,
    "waiting": job.c.start_at - job.c.submit_at,
}
"""Those of them that are times."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many jobs are in no figure, each counted once: of unknown CPU time; of the others those of unknown submission, where
    waiting is measured; of the others those without host factor, where times are normalised."""

    unknown_cpu: int = 0
    unknown_submission: int = 0
    without_factor: int = 0


def conditions_2012(instant: Column[Any], begin: int, end: int, only: Sequence[ColumnElement[bool]]) -> list[ColumnElement[bool]]:
    """The jobs that started and ended, of which `instant` is in the period; those of unknown CPU time are to be left out."""
    return [*counted_jobs(), instant >= begin, instant < end, *only]


def statement_2012(
    measure: str, *, begin: int, end: int, bin_s: int, normalised: bool, only: Sequence[ColumnElement[bool]]
) -> Callable[[Period], Select[Any]]:
    """One of `MEASURES` by bin: its number, the sum (of seconds or jobs, times the host factor if normalised), and `LeftOut`."""
    instant = job.c.start_at if measure == "started" else job.c.end_at
    seconds = _SECONDS.get(measure)
    one = select(
        (instant // bin_s).label("bin"),
        job.c.cpu_duration_s.label("cpu"),
        (literal(1) if seconds is None else seconds).label("measured"),
        (job.c.host_factor if normalised and seconds is not None else literal(1)).label("weight"),
    ).where(*conditions_2012(instant, begin, end, only))

    def grouped(period: Period) -> Select[Any]:
        jobs = one.where(period.logged.has(job.c.logged_at)).subquery()
        cpu, measured, weight = jobs.c.cpu, jobs.c.measured, jobs.c.weight
        left_out = (
            cpu.is_(None),
            and_(cpu.is_not(None), measured.is_(None)),
            and_(cpu.is_not(None), measured.is_not(None), weight.is_(None)),
        )
        total = func.sum(case((cpu.is_not(None), measured * weight)))
        counts = (cast(func.sum(case((which, 1), else_=0)), BigInteger) for which in left_out)
        return select(jobs.c.bin, total, *counts).group_by(jobs.c.bin)

    return grouped


def ended_2012(measure: str, begin: int, end: int) -> tuple[int | None, int | None]:
    """In which period the jobs of a measure ended: those that are counted when they started may end whenever."""
    return (None, None) if measure == "started" else (begin, end)


def series_2012(
    store: Store, measure: str, *, begin: int, end: int, bin_s: int, factor: float | None, only: Sequence[ColumnElement[bool]]
) -> tuple[dict[int, float], LeftOut]:
    """One of `MEASURES` as in 2012: Unix second at which a bin begins -> value; and how many jobs are not in it.

    Times are in days, multiplied by the batch system's host factor and `factor` unless that is None; `started` bins by start
    instead of by end. A job without host factor cannot be normalised, and is left out of what is.
    """
    grouped = statement_2012(measure, begin=begin, end=end, bin_s=bin_s, normalised=factor is not None, only=only)
    scale = (factor if factor is not None else 1.0) / DAY_S if measure in _SECONDS else 1.0
    values: dict[int, float] = {}
    left_out = [0, 0, 0]
    for number, total, *counts in rows_of(store, grouped, *ended_2012(measure, begin, end)):
        left_out = [before + int(count) for before, count in zip(left_out, counts, strict=True)]
        if total is not None:
            at = int(number) * bin_s
            values[at] = values.get(at, 0.0) + float(total) * scale
    return values, LeftOut(*left_out)


def distinct_names(store: Store, column: Column[Any], begin: int, end: int) -> list[str]:
    """The values of a job column among the jobs that ran from `begin` to before `end`: what wildcards are matched against."""
    asked = select(column).where(column.is_not(None), job.c.end_at >= begin, job.c.start_at < end).distinct()
    return sorted({row[0] for row in rows_of(store, lambda period: asked.where(period.logged.has(job.c.logged_at)), begin)})
