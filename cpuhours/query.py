"""What jobs used, summed in the database: by day, VO, queue, user or whatever else a job has.

Which jobs are counted: every job record in force (not replaced by a newer revision) that started and ended, whatever became of
it on its way to publishing: joined, local, waiting, excluded, or not looked at yet. A job counts as a whole at the instant it
ENDED, unless it is asked for otherwise, and days are UTC days, so that a job of thirty hours is in one day and no figure depends on
the zone of the reader. Jobs whose CPU time is unknown are counted in `jobs` and told apart in `cpu_unknown_jobs`; they add to wall
time, and nothing to CPU. So it is with all that may be unknown.

The VO is the one that is published, and the words for those that have none yet are those of `batchacct.ledger.whose`.

Months in the archive are asked as the database is, and added up; of those that were purged nothing is counted.

A day without any job record is not a day without work: nobody knows. `collection_gaps` finds those days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd
from sqlalchemy import select

from batchacct.errors import ConfigError
from batchacct.store.tables import benchmark
from batchacct.usage.answering import answered
from batchacct.usage.asking import Source
from batchacct.usage.bins import Bins
from batchacct.usage.dimensions import DIMENSIONS, Where, named
from batchacct.usage.recorded import days_with_records, when_counted, when_recorded
from batchacct.usage.summing import (
    BEGINNINGS,
    BESIDE_SPREAD,
    BOTH,
    COUNTED,
    DAY_S,
    ENDINGS,
    LEFT_WHOLE,
    STARTS,
    STOPS,
    SUMS,
    TOTALS,
    WHOLES,
    Asked,
    Counted,
)  # fmt: skip
from cpuhours.spreading import bends, cpu_in_bins, in_bins

__all__ = ["DAY_S", "GROUPS", "SUMS", "Bins", "Counted", "Gaps", "How", "Source", "usage_by"]

GROUPS = ("vo", "day", *(name for name in DIMENSIONS if name != "vo"))
"""What usage can be grouped by: `DIMENSIONS`, and the UTC day."""


class How(TypedDict, total=False):
    """What `usage_by` is asked beside what it groups by, as a question is handed on; what is left out is as in `question`."""

    begin: int | None
    end: int | None
    where: Mapping[str, Sequence[str]] | None
    normalise: str | None
    bins: Bins | None
    counted: Counted


def usage_by(source: Source, *, by: str | Sequence[str], **how: Unpack[How]) -> pd.DataFrame:
    """Usage of jobs from `begin` to before `end` (Unix seconds), a row a group, in the order of the groups.

    `by` is one, several or none of `GROUPS`. `where`: dimension -> names that are meant, in which `%` stands for any text; names of
    one dimension are alternatives, and all dimensions are required. With `bins`, every group is told by bins of time.

    `counted` says where a job counts, and which jobs are in the period: `ended`, as a whole at the instant it ended; `started`, the
    same jobs (those that ended: of running ones there is no record) at the instant they started; `spread`, what it used (`AMOUNTS`)
    evenly over the time it ran, and only what is in the period, while it is counted, and waited, where it ended. What is spread
    adds up to what `ended` says, exactly, over all bins, and over neighbouring periods. Rates are rounded down, so that of each
    job there may be 2^-16 too little for every second it ran before an instant (1.3 a day), which is put right in its last second.

    Columns: those of `by` (`day` is the UTC midnight, a Timestamp); `bin`, when it begins, a Timestamp in its zone; `SUMS`; and
    `efficiency` = CPU / core seconds over the jobs of which both are known, NaN where there are none. With `normalise`, the name
    of a benchmark: `normalised_cpu_s`, each job's CPU seconds times the benchmark of one core, exactly as it is published; and
    `not_normalised_jobs`, those of known CPU without such a benchmark, which add nothing to it; unless it is spread, also
    `normalised_wall_s` and `wall_not_normalised_jobs`, likewise of wall time. Bins with nothing have no row.

    Raises: ConfigError for something usage cannot be grouped by, StoreError, ArchiveError.
    """
    asked = question(by, **how)
    if asked.counted != "spread":
        asked, (whole,) = answered(source, asked, [WHOLES])
        return framed(whole, asked, by)
    asked, (whole, started, stopped) = answered(source, asked, [BESIDE_SPREAD, BEGINNINGS, ENDINGS])
    bent = bends(asked, _of_groups(asked, started, STARTS), _of_groups(asked, stopped, STOPS))
    return _answer(asked, by, _in_bins(asked, _of_groups(asked, whole, LEFT_WHOLE)), bent)


def question(
    by: str | Sequence[str],
    *,
    begin: int | None = None,
    end: int | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    normalise: str | None = None,
    bins: Bins | None = None,
    counted: Counted = "ended",
) -> Asked:
    """What `usage_by` is asked.  Raises: ConfigError as that does."""
    names = _listed(by)
    if wrong := [name for name in names if name not in GROUPS]:
        raise ConfigError(f"usage cannot be grouped by {', '.join(wrong)}: use one of {', '.join(GROUPS)}")
    if counted not in COUNTED:
        raise ConfigError(f"jobs cannot be counted where they {counted}: use one of {', '.join(COUNTED)}")
    if "day" in names and bins is not None:
        raise ConfigError("usage cannot be grouped by day and told by bins: leave out one of them")
    bins = Bins("day") if "day" in names else bins
    dimensions = tuple(dict.fromkeys(name for name in names if name != "day"))
    return Asked(dimensions, Where(where or {}), begin, end, normalise, bins, counted)


def _listed(by: str | Sequence[str]) -> list[str]:
    return [by] if isinstance(by, str) else list(by)


def framed(rows: pd.DataFrame, asked: Asked, by: str | Sequence[str]) -> pd.DataFrame:
    """Rows of keys, levels, unit of time and `TOTALS` as `usage_by` gives them."""
    return _answer(asked, by, _in_bins(asked, _of_groups(asked, rows, TOTALS)))


def _of_groups(asked: Asked, rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Rows of keys, levels, unit and sums as a frame of names, levels, unit and sums of what is meant."""
    frame = rows.astype(dict.fromkeys(("unit", *columns), "int64"))
    kept = asked.where.keep(named(frame))
    return kept.groupby([*asked.names, *asked.levels, "unit"], as_index=False, dropna=False)[list(columns)].sum()


def _in_bins(asked: Asked, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the bin of each unit (Unix seconds); all are in one where there are no bins."""
    units = frame["unit"].to_numpy(np.int64)
    return frame.assign(bin=np.zeros_like(units) if asked.bins is None else asked.bins.of(units * asked.unit_s))


def _answer(asked: Asked, by: str | Sequence[str], whole: pd.DataFrame, bent: pd.DataFrame | None = None) -> pd.DataFrame:
    """The answer, from what is counted as a whole (in bins) and, where that is something else, the bends of what is spread."""
    keys = [*asked.names, "bin"]
    pieces, sums = [whole], list(TOTALS)
    if bent is not None:
        pieces.append(in_bins(asked, bent, asked.names))
    if asked.normalise:
        of_levels = [*asked.names, *asked.levels, "bin"]
        cpu = [] if bent is None else [cpu_in_bins(asked, bent, of_levels[:-1])]
        wall = ["wall_s", "wall_unknown_jobs"] if bent is None else []
        by_level = _added_up([whole, *cpu], of_levels, ["jobs", "cpu_unknown_jobs", "cpu_s", *wall])
        columns = [*_NORMALISED, *(_NORMALISED_WALL if wall else [])]
        pieces.append(_normalised(by_level, asked.normalise)[[*keys, *columns]])
        sums += columns
    frame = _added_up(pieces, keys, sums).astype(dict.fromkeys(TOTALS, "int64"))
    if bent is not None:
        frame = frame[(frame[sums] != 0).any(axis=1)]  # a job may have run in a bin for so little of a second that it used nothing
    frame["efficiency"] = efficiency(frame)
    order = _listed(by)
    if asked.bins is not None:
        name = "day" if "day" in order else "bin"
        frame[name] = asked.bins.shown(frame["bin"])
        order = order if name in order else [*order, name]
    frame = frame.sort_values(order, ignore_index=True) if order else frame
    return frame[[*order, *SUMS, "efficiency", *sums[len(TOTALS) :], *BOTH]]


_NORMALISED = ["normalised_cpu_s", "not_normalised_jobs"]
_NORMALISED_WALL = ["normalised_wall_s", "wall_not_normalised_jobs"]
"""Only where jobs count as wholes."""


def _added_up(pieces: Sequence[pd.DataFrame], keys: Sequence[str], sums: Sequence[str]) -> pd.DataFrame:
    """The sums of several frames by `keys`; what a frame does not have is 0 there."""
    there = [piece for piece in pieces if len(piece)] or pieces[:1]
    whole = pd.concat([piece.reindex(columns=[*keys, *sums], fill_value=0) for piece in there], ignore_index=True)
    return whole.groupby(list(keys), as_index=False, dropna=False)[list(sums)].sum()


def efficiency(frame: pd.DataFrame) -> pd.Series[float]:
    """CPU / core seconds of the jobs of which both are known; NaN where there are none."""
    return frame["both_cpu_s"] / frame["both_core_s"].astype(float).replace(0.0, np.nan)


def _normalised(frame: pd.DataFrame, wanted: str) -> pd.DataFrame:
    """Adds the normalised times of rows of jobs with one benchmark; with a host factor that is rounded down, as published."""
    value = frame["level_value"].astype(float)
    per_host = (value * frame["level_host_factor"].astype(float)) // 1
    level = value.where(frame["level_per_host"] != 1, per_host)
    fits = (frame["level_type"] == wanted) & level.notna()
    known = frame["jobs"] - frame["cpu_unknown_jobs"]
    frame = frame.assign(
        normalised_cpu_s=(frame["cpu_s"] * level).where(fits, 0.0),
        not_normalised_jobs=known.where(~fits, 0),
    )
    if "wall_s" in frame:
        known = frame["jobs"] - frame["wall_unknown_jobs"]
        frame["normalised_wall_s"] = (frame["wall_s"] * level).where(fits, 0.0)
        frame["wall_not_normalised_jobs"] = known.where(~fits, 0)
    return frame


def benchmark_types(source: Source) -> list[str]:
    """The benchmarks jobs were given, by name; a folder knows of none."""
    if isinstance(source, Path):
        return []
    with source.reading() as connection:
        return sorted(connection.scalars(select(benchmark.c.type).distinct()))


def ends(source: Source) -> tuple[int, int] | None:
    """When the first and the last counted job ended (Unix seconds); None if there is none."""
    found = when_counted(source)
    return None if found is None else found[1:]


def first_start(source: Source) -> int | None:
    """When the first counted job started (Unix seconds); None if there is none."""
    found = when_counted(source)
    return None if found is None else found[0]


def logged_span(source: Source) -> tuple[int, int] | None:
    """When the oldest and the newest job record were logged (Unix seconds): what is outside has not been read."""
    return when_recorded(source)


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
    return gaps_between(days_with_records(source, first, last), first, last)


def gaps_between(seen: Mapping[str, set[int]], first: int, last: int) -> Gaps:
    """The gaps from a day to before another (numbers of days), where these clusters have records on these days."""
    anywhere = set().union(*seen.values())
    missing = tuple(day * DAY_S for day in range(first, last) if day not in anywhere)
    of_cluster = {
        cluster: tuple(day * DAY_S for day in sorted(anywhere - days) if day > min(days)) for cluster, days in sorted(seen.items())
    }
    return Gaps(missing, {cluster: days for cluster, days in of_cluster.items() if days})
