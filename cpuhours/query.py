"""What jobs used, summed in the database: by day, VO, queue, user or whatever else a job has.

Which jobs are counted: every job record in force (not replaced by a newer revision) that started and ended, whatever became of
it on its way to publishing: joined, local, waiting, excluded, or not looked at yet. A job counts as a whole at the instant it
ENDED, and days are UTC days, so that a job of thirty hours is in one day and no figure depends on the zone of the reader. Jobs
whose CPU time is unknown are counted in `jobs` and told apart in `cpu_unknown_jobs`; they add to wall time, and nothing to CPU.

The VO is the one that is published, and the words for those that have none yet are those of `batchacct.ledger.whose`.

Months in the archive are asked as the database is, and added up; of those that were purged nothing is counted.

A day without any job record is not a day without work: nobody knows. `collection_gaps` finds those days.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import BigInteger, Column, ColumnElement, Executable, Select, and_, case, cast, func, literal, null, select, union

from batchacct.archive.holdings import archived, despite_archiving
from batchacct.errors import ConfigError
from batchacct.ledger.whose import NOT_JOINED, UNKNOWN, VO_OF_JOB, with_ledger
from batchacct.model import JOB
from batchacct.store import Store
from batchacct.store.spans import Period, when_ended
from batchacct.store.tables import benchmark, job, usage

Source = Store | Path
"""What is asked: a store with its archive, or a folder of Parquet files as back-filling and `db archive` write them."""

DAY_S = 86_400
SUMS = ("jobs", "cpu_unknown_jobs", "cpu_s", "wall_s", "core_s", "core_unknown_jobs")
"""Columns of every answer, integers: jobs; those with unknown CPU; CPU, wall and processors x wall in seconds; and the jobs that
add nothing to the last because their processors or wall time are unknown."""

_BOTH = ("both_cpu_s", "both_core_s")
_LEVEL = ("level_type", "level_value", "level_per_host", "level_host_factor")


def _or_unknown(column: Column[Any]) -> ColumnElement[str]:
    return func.coalesce(column, UNKNOWN)


GROUPS: Mapping[str, ColumnElement[Any]] = {
    "vo": VO_OF_JOB,
    "day": job.c.end_at // DAY_S,
    "queue": _or_unknown(job.c.queue),
    "user": _or_unknown(job.c.user_name),
    "cluster": _or_unknown(job.c.cluster),
    "group": _or_unknown(job.c.group_name),
    "project": _or_unknown(job.c.project),
    "outcome": case((usage.c.job_id.is_(None), NOT_JOINED), else_=usage.c.outcome),
}
"""What usage can be grouped by."""


def usage_by(
    source: Source,
    *,
    by: str | Sequence[str],
    begin: int | None = None,
    end: int | None = None,
    vo: Sequence[str] = (),
    normalise: str | None = None,
) -> pd.DataFrame:
    """Usage of the jobs that ended from `begin` to before `end` (Unix seconds), a row a group, in the order of the groups.

    `by` is one or several of `GROUPS`; `vo` keeps jobs of these VOs only. Columns: those of `by` (`day` is the UTC midnight, a
    Timestamp), `SUMS`, and `efficiency` = CPU / core seconds over the jobs of which both are known, NaN where there are none.
    With `normalise`, the name of a benchmark: `normalised_cpu_s`, each job's CPU seconds times the benchmark of one core, exactly
    as it is published; and `not_normalised_jobs`, those of known CPU without such a benchmark, which add nothing to it.
    Raises: ConfigError for something usage cannot be grouped by, StoreError, ArchiveError.
    """
    names = [by] if isinstance(by, str) else list(by)
    if wrong := [name for name in names if name not in GROUPS]:
        raise ConfigError(f"usage cannot be grouped by {', '.join(wrong)}: use one of {', '.join(GROUPS)}")
    conditions = _counted(begin, end)
    if vo:
        conditions.append(VO_OF_JOB.in_(vo))
    levels = _LEVEL if normalise else ()
    rows = _rows(source, lambda period: _grouped(names, levels, conditions, period), begin, end, identities=True)
    return framed(rows, names, normalise)


def framed(rows: Sequence[tuple[Any, ...]], names: list[str], normalise: str | None) -> pd.DataFrame:
    """Rows of groups, sums (and of what the benchmark depends on) as `usage_by` gives them."""
    levels = _LEVEL if normalise else ()
    columns = [*names, *levels, *SUMS, *_BOTH]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys((*SUMS, *_BOTH), "int64"))
    sums = [*SUMS, *_BOTH]
    frame = frame.groupby([*names, *levels], as_index=False, dropna=False)[sums].sum()
    if normalise:
        frame = _normalised(frame.sort_values(columns, ignore_index=True), normalise)
        sums += ["normalised_cpu_s", "not_normalised_jobs"]
    frame = frame.groupby(names, as_index=False, sort=True)[sums].sum()
    if "day" in names:
        frame["day"] = pd.to_datetime(frame["day"].astype("int64") * DAY_S, unit="s", utc=True)
    frame["efficiency"] = efficiency(frame)
    return frame[[*names, *SUMS, "efficiency", *sums[len(SUMS) + len(_BOTH) :], *_BOTH]]


def efficiency(frame: pd.DataFrame) -> pd.Series[float]:
    """CPU / core seconds of the jobs of which both are known; NaN where there are none."""
    return frame["both_cpu_s"] / frame["both_core_s"].astype(float).replace(0.0, np.nan)


def _counted(begin: int | None, end: int | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [job.c.superseded_by.is_(None), job.c.start_at.is_not(None), job.c.end_at.is_not(None)]
    if begin is not None:
        conditions.append(job.c.end_at >= begin)
    if end is not None:
        conditions.append(job.c.end_at < end)
    return conditions


def _grouped(names: Sequence[str], levels: Sequence[str], conditions: Sequence[ColumnElement[bool]], period: Period) -> Select[Any]:
    """The sums by `names` (and by what the benchmark of a job depends on, for the multiplication to follow).

    Grouping is by the columns of an inner query, never by repeated expressions: their bind parameters would make PostgreSQL
    take them for two different things.
    """
    core = job.c.wall_duration_s * job.c.processors
    both = and_(job.c.cpu_duration_s.is_not(None), core.is_not(None))
    level_columns = {
        "level_type": benchmark.c.type,
        "level_value": benchmark.c.value,
        "level_per_host": benchmark.c.per_host_factor,
        "level_host_factor": case((benchmark.c.per_host_factor == 1, job.c.host_factor), else_=null()),
    }
    one = (
        select(
            *(GROUPS[name].label(name) for name in names),
            *(level_columns[name].label(name) for name in levels),
            literal(1).label("jobs"),
            case((job.c.cpu_duration_s.is_(None), 1), else_=0).label("cpu_unknown_jobs"),
            job.c.cpu_duration_s.label("cpu_s"),
            job.c.wall_duration_s.label("wall_s"),
            core.label("core_s"),
            case((core.is_(None), 1), else_=0).label("core_unknown_jobs"),
            case((both, job.c.cpu_duration_s), else_=0).label("both_cpu_s"),
            case((both, core), else_=0).label("both_core_s"),
        )
        .select_from(with_ledger(period).outerjoin(benchmark, benchmark.c.id == usage.c.benchmark_id))
        .where(*conditions, period.logged.has(job.c.logged_at))
        .subquery()
    )
    keys = [one.c[name] for name in (*names, *levels)]
    return select(*keys, *(func.coalesce(func.sum(one.c[name]), 0) for name in (*SUMS, *_BOTH))).group_by(*keys)


def _normalised(frame: pd.DataFrame, wanted: str) -> pd.DataFrame:
    """Adds the normalised CPU of each row, whose jobs share one benchmark; with a host factor it is rounded down, as published."""
    value = frame["level_value"].astype(float)
    per_host = (value * frame["level_host_factor"].astype(float)) // 1
    level = value.where(frame["level_per_host"] != 1, per_host)
    fits = (frame["level_type"] == wanted) & level.notna()
    known = frame["jobs"] - frame["cpu_unknown_jobs"]
    return frame.assign(
        normalised_cpu_s=(frame["cpu_s"] * level).where(fits, 0.0),
        not_normalised_jobs=known.where(~fits, 0),
    )


def _rows(
    source: Source,
    statement: Callable[[Period], Executable],
    begin: int | None = None,
    end: int | None = None,
    *,
    identities: bool = False,
) -> list[tuple[Any, ...]]:
    """The rows of the database, and those of each month of the archive: sums are to be added up, and extremes compared.

    `statement` for the jobs that ended from `begin` to before `end`; it may leave it to the period where in the database they are.
    """
    if isinstance(source, Path):
        from batchacct.archive.querying import folder_rows  # noqa: PLC0415 - slow to import

        return folder_rows(source, statement(Period()))
    store = source

    def ask() -> list[tuple[Any, ...]]:
        with store.reading() as connection:
            asked = statement(when_ended(connection, begin, end, identities=identities))
            rows = [tuple(row) for row in connection.execute(asked)]
            if archived(connection, JOB):
                from batchacct.archive.querying import archived_rows  # noqa: PLC0415 - slow to import

                rows += archived_rows(connection, statement(Period()))
            return rows

    return despite_archiving(store, ask)


def _extremes(source: Source, statement: Executable) -> tuple[int, int] | None:
    """The least and the greatest of rows of two; None if they are all of nothing."""
    rows = [row for row in _rows(source, lambda _: statement) if row[0] is not None]
    return (min(row[0] for row in rows), max(row[1] for row in rows)) if rows else None


def benchmark_types(source: Source) -> list[str]:
    """The benchmarks jobs were given, by name; a folder knows of none."""
    if isinstance(source, Path):
        return []
    with source.reading() as connection:
        return sorted(connection.scalars(select(benchmark.c.type).distinct()))


def ends(source: Source) -> tuple[int, int] | None:
    """When the first and the last counted job ended (Unix seconds); None if there is none."""
    return _extremes(source, select(func.min(job.c.end_at), func.max(job.c.end_at)).where(*_counted(None, None)))


def logged_span(source: Source) -> tuple[int, int] | None:
    """When the oldest and the newest job record were logged (Unix seconds): what is outside has not been read."""
    return _extremes(source, select(func.min(job.c.logged_at), func.max(job.c.logged_at)))


@dataclass(frozen=True, slots=True)
class Gaps:
    """UTC days (Unix seconds of their midnight) of which nothing is known.

    `days` have no job record at all. `by_cluster` are further days of which other clusters have records and this one has none,
    though it had some before, within the period asked for: an idle or retired cluster looks the same, so this is a hint.
    """

    days: tuple[int, ...]
    by_cluster: Mapping[str, tuple[int, ...]]


def collection_gaps(source: Source, begin: int, end: int) -> Gaps:
    """The UTC days that overlap `begin` to before `end` (Unix seconds) without records.

    A day has records if any job, of whatever VO or outcome, ended on it or was logged on it, be it a job that never started.
    """
    first, last = begin // DAY_S, -(-end // DAY_S)

    def days_with_records(period: Period) -> Executable:
        found = []
        for instant in (job.c.end_at, job.c.logged_at):
            in_period = and_(instant >= first * DAY_S, instant < last * DAY_S)
            found.append(select(job.c.cluster, instant // DAY_S).where(in_period))
        return union(found[0].where(period.logged.has(job.c.logged_at)), found[1])

    seen: dict[str, set[int]] = {}
    for row in _rows(source, days_with_records, first * DAY_S, last * DAY_S):
        seen.setdefault(row[0], set()).add(int(row[1]))
    return gaps_between(seen, first, last)


def gaps_between(seen: Mapping[str, set[int]], first: int, last: int) -> Gaps:
    """The gaps from a day to before another (numbers of days), where these clusters have records on these days."""
    anywhere = set().union(*seen.values())
    missing = tuple(day * DAY_S for day in range(first, last) if day not in anywhere)
    of_cluster = {
        cluster: tuple(day * DAY_S for day in sorted(anywhere - days) if day > min(days)) for cluster, days in sorted(seen.items())
    }
    return Gaps(missing, {cluster: days for cluster, days in of_cluster.items() if days})


MEASURES = ("cpu", "count", "started", "walltime", "waiting")
"""What the 2012 script can sum."""


def series_2012(
    store: Store, measure: str, *, begin: int, end: int, bin_s: int, factor: float | None, only: Sequence[ColumnElement[bool]]
) -> tuple[dict[int, float], int]:
    """One of `MEASURES` as in 2012: Unix second at which a bin begins -> value; and how many jobs had no host factor.

    Times are in days, multiplied by the batch system's host factor and `factor` unless that is None. As in 2012 all measures
    leave out jobs that never started or whose CPU time is unknown, and `started` bins by start instead of by end. A job without
    host factor cannot be normalised, and is left out of what is.
    """
    instant = job.c.start_at if measure == "started" else job.c.end_at
    seconds = {
        "cpu": job.c.cpu_duration_s,
        "walltime": job.c.end_at - job.c.start_at,
        "waiting": job.c.start_at - job.c.submit_at,
    }.get(measure)
    normalised = factor is not None and seconds is not None
    weight = job.c.host_factor if normalised else literal(1)
    conditions = [*_counted(None, None), job.c.cpu_duration_s.is_not(None), instant >= begin, instant < end, *only]

    def grouped(period: Period) -> Executable:
        one = (
            select(
                (instant // bin_s).label("bin"),
                (literal(1) if seconds is None else seconds).label("measured"),
                weight.label("weight"),
            )
            .where(*conditions, period.logged.has(job.c.logged_at))
            .subquery()
        )
        unweighted = func.sum(case((one.c.weight.is_(None), 1), else_=0))
        return select(one.c.bin, func.sum(one.c.measured * one.c.weight), cast(unweighted, BigInteger)).group_by(one.c.bin)

    ended = (None, None) if measure == "started" else (begin, end)
    scale = 1.0 if seconds is None else (factor if factor is not None else 1.0) / DAY_S
    values: dict[int, float] = {}
    left_out = 0
    for number, total, without_factor in _rows(store, grouped, *ended):
        left_out += int(without_factor)
        if total is not None:
            at = int(number) * bin_s
            values[at] = values.get(at, 0.0) + float(total) * scale
    return values, left_out


def distinct_names(store: Store, column: Column[Any], begin: int, end: int) -> list[str]:
    """The values of a job column among the jobs that ran from `begin` to before `end`: what wildcards are matched against."""
    asked = select(column).where(column.is_not(None), job.c.end_at >= begin, job.c.start_at < end).distinct()
    return sorted({row[0] for row in _rows(store, lambda period: asked.where(period.logged.has(job.c.logged_at)), begin)})


def day_text(at: int) -> str:
    """`2026-11-01`: the UTC day of an instant."""
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()
