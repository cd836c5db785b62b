"""Asks for the figures of a report, and puts those together that are counted differently: jobs that started, capacity, CO2e."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from batchacct.config_reports import Capacity, Energy
from batchacct.usage.bins import Bins
from batchacct.usage.dimensions import meant_by
from cpuhours.figures import Figures
from cpuhours.measures import J_PER_KWH
from cpuhours.query import DAY_S, Counted, efficiency
from cpuhours.question import Question
from cpuhours.spans import bins_between
from cpuhours.validity import capacity_core_s, runs, stretches

Period = tuple[int, int]
NOT_SUMS = {"efficiency", "capacity_core_s"}
"""What cannot be added up."""


def gather(
    figures: Figures,
    question: Question,
    period: Period,
    *,
    capacity: Sequence[Capacity] = (),
    energy: Sequence[Energy] = (),
    missing: Sequence[int] = (),
) -> pd.DataFrame:
    """The figures of a period (Unix seconds): a row a group and bin, `bin` in Unix seconds, in no particular order.

    `missing`: the UTC days without records, which `capacity` has to be without (`validity.without_days`) and are left out of what
    is held; rows without a group are there for idle bins, too, where utilisation is asked for.

    The columns are those of `usage_by`, `wait_jobs` (those whose wait is known), and where a measure needs it `started_jobs`,
    `held_core_s` (of what is held against `capacity_core_s`, always spread) and `co2e_g` with `co2e_energy_j` it is of.
    Raises: ConfigError, StoreError.
    """
    usage = _ask(figures, question, period, question.counted)
    usage["wait_jobs"] = usage["jobs"] - usage["wait_unknown_jobs"]
    if "started" in question.measures:
        started = _ask(figures, question, period, "started")
        usage = _together(question, usage, started, {"jobs": "started_jobs"})
    if "co2e" in question.measures:
        for stretch in stretches(energy, *period):
            if stretch.in_force is not None:
                emitted = _ask(figures, question, (stretch.begin, stretch.end), question.counted)
                emitted["emitted"] = emitted["energy_j"] / J_PER_KWH * stretch.in_force.g_co2e_per_kwh
                usage = _together(question, usage, emitted, {"emitted": "co2e_g", "energy_j": "co2e_energy_j"})
        usage = usage.assign(**{name: 0.0 for name in ("co2e_g", "co2e_energy_j") if name not in usage})
    if "utilisation" in question.measures:
        of_clusters = _with_capacity(question, capacity)
        spans = dict(bins_between(question.size, question.zone, *period)) if question.size else {}
        held = _held(figures, question, period, of_clusters, missing=missing, spans=spans) if of_clusters else usage.iloc[:0]
        usage = _together(question, usage, held, {"core_s": "held_core_s"})
        if question.group is None:
            idle = sorted(begin for begin, end in spans.items() if set(missing).isdisjoint(days_of(begin, end)))
            usage = _with_rows(usage, "bin", idle)
        usage["capacity_core_s"] = [_offered_by_row(row, question, period, spans, capacity) for row in usage.to_dict("records")]
    return usage.assign(efficiency=efficiency(usage))


def days_of(begin: int, end: int) -> range:
    """The UTC days (their midnights) that a span of time touches."""
    return range(begin // DAY_S * DAY_S, end, DAY_S)


def with_groups(
    usage: pd.DataFrame, names: Iterable[object], question: Question, period: Period, capacity: Sequence[Capacity]
) -> pd.DataFrame:
    """The figures of groups in a period without bins, and for those of `names` that have none rows of zeros."""
    rows = _with_rows(usage, str(question.group), names)
    if "capacity_core_s" in rows:
        rows["capacity_core_s"] = [_offered_by_row(row, question, period, {}, capacity) for row in rows.to_dict("records")]
    return rows.assign(efficiency=efficiency(rows))


def _with_rows(usage: pd.DataFrame, key: str, values: Iterable[object]) -> pd.DataFrame:
    """The figures, and rows of zeros for those values of their only key that have none."""
    there = set(usage[key])
    absent = pd.DataFrame({key: [value for value in values if value not in there]})
    if absent.empty:
        return usage
    zeros = absent.reindex(columns=usage.columns, fill_value=0)
    return zeros if usage.empty else pd.concat([usage, zeros], ignore_index=True)


def _held(
    figures: Figures,
    question: Question,
    period: Period,
    clusters: Sequence[str],
    *,
    missing: Sequence[int],
    spans: Mapping[int, int],
) -> pd.DataFrame:
    """What is held of the capacity of clusters, without what ran on days that are missing: nobody knows what else did."""
    only = {"cluster": clusters}
    held = _ask(figures, question, period, "spread", only)
    for begin, end in runs(missing):
        unknown = _ask(figures, question, (max(begin, period[0]), min(end, period[1])), "spread", only)
        held = _together(question, held, unknown.assign(core_s=-unknown["core_s"]), {"core_s": "core_s"})
    if question.size:
        held = held[[not set(missing).issuperset(days_of(begin, spans[begin])) for begin in held["bin"]]]
    return held.assign(core_s=held["core_s"].clip(lower=0))


def total_of(usage: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The sums over all rows (one row), or over those of each value of some columns; shares are of the sums, but for capacity."""
    numbers = [name for name in usage.columns if pd.api.types.is_numeric_dtype(usage[name])]
    sums = [name for name in numbers if name not in {*by, *NOT_SUMS, "bin"}]
    if by:
        whole = usage.groupby(list(by), as_index=False, sort=True)[sums].sum()
    else:
        whole = usage.groupby(lambda _: 0)[sums].sum().reindex([0], fill_value=0)
    return whole.assign(efficiency=efficiency(whole))


def _ask(
    figures: Figures, question: Question, period: Period, counted: Counted, only: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """One answer; without groups it is asked by cluster, and added up."""
    begin, end = period
    group = question.group or "cluster"
    usage = figures.usage_by(
        by=(group,),
        begin=begin,
        end=end,
        where={**question.where, **(only or {})},
        normalise=question.normalise,
        bins=Bins(question.size, question.zone) if question.size else None,
        counted=counted,
    )
    if question.size:
        usage["bin"] = [int(moment.timestamp()) for moment in usage["bin"]]
        usage["bin"] = usage["bin"].astype("int64")
    return usage if question.group else total_of(usage, question.keys)


def _together(question: Question, usage: pd.DataFrame, other: pd.DataFrame, named: Mapping[str, str]) -> pd.DataFrame:
    """Adds columns of another answer, under names of their own, to the rows with the same keys, and rows for other keys."""
    added = other[[*question.keys, *named]].rename(columns=dict(named))
    columns = [*usage.columns, *(name for name in named.values() if name not in usage)]
    rows = [frame.reindex(columns=columns, fill_value=0) for frame in (usage, added)]
    sums = [name for name in columns if name not in {*question.keys, *NOT_SUMS}]
    return pd.concat(rows, ignore_index=True).groupby(question.keys, as_index=False, sort=True)[sums].sum()


def _with_capacity(question: Question, capacity: Sequence[Capacity]) -> list[str]:
    """The clusters that are held against their capacity: those that have one, of those that are asked about."""
    known = list(dict.fromkeys(one.cluster for one in capacity))
    asked = question.where.get("cluster")
    return known if asked is None else [*filter(meant_by(asked), known)]


def _offered_by_row(
    row: Mapping[object, object], question: Question, period: Period, spans: Mapping[int, int], capacity: Sequence[Capacity]
) -> float:
    """... in its bin, as far as that is in the period; `spans` tells when each bin ends."""
    begin, end = period
    if question.size:
        first = int(str(row["bin"]))
        begin, end = max(begin, first), min(end, spans[first])
    return offered(question, (begin, end), capacity, str(row["cluster"]) if question.by == "cluster" else None)


def offered(question: Question, period: Period, capacity: Sequence[Capacity], cluster: str | None = None) -> float:
    """Core seconds that were there in a period: of all clusters that are asked about and have a capacity, or of one of them.

    NaN where for some of that time nobody says what a cluster had, and for other clusters.
    """
    names = [name for name in _with_capacity(question, capacity) if cluster in (None, name)]
    amounts = [capacity_core_s(capacity, name, *period) for name in names]
    known = [one for one in amounts if one is not None]
    return float(sum(known)) if names and len(known) == len(names) else float("nan")
