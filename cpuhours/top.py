"""The largest groups of a report in order, and the rest as one."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import pandas as pd

from batchacct.ledger.whose import NOT_JOINED
from cpuhours.gathering import total_of
from cpuhours.measures import Measure
from cpuhours.question import NAMED, Question


@dataclass(frozen=True, slots=True)
class Others:
    """The groups beyond the largest: how many they are, and the name their sum goes by."""

    count: int
    name: str


def keep_top(
    question: Question, usage: pd.DataFrame, before: pd.DataFrame | None
) -> tuple[list[str], pd.DataFrame, pd.DataFrame | None, Others | None]:
    """The groups, the largest by the first measure first, and their rows in that order; those beyond `question.top` become one.

    Jobs that are not joined yet stay apart, and last.
    The rows of the period before, of the same groups, are summed by the same names; those that have nothing now are in the order of
    what they had then.
    """
    group = question.group
    if group is None:
        return [], usage.sort_values("bin", ignore_index=True), before, None
    order = largest_first(question.measured[0], usage, group, before)
    named = [name for name in order if name != NOT_JOINED]
    rest = [] if question.top is None else named[question.top :]
    others = Others(len(rest), unlike(order, f"other ({len(rest):,} {NAMED[group][len(rest) > 1]})")) if rest else None
    kept = [*(name for name in order if name not in set(rest) | {NOT_JOINED}), *([others.name] if others else []), NOT_JOINED]
    frames = [
        None if frame is None else _in_order(_merged(question, frame, rest, others), kept, question) for frame in (usage, before)
    ]
    assert frames[0] is not None
    there = set(frames[0][group])
    return [name for name in kept if name in there], frames[0], frames[1], others


def unlike(names: Container[str], name: str) -> str:
    """A name that none of the groups has."""
    while name in names:
        name = f"the {name}"
    return name


def largest_first(measure: Measure, usage: pd.DataFrame, group: str, before: pd.DataFrame | None = None) -> list[str]:
    """The groups by what they add up to in a measure (or did before, where that is the same); a share by what it is a share of."""
    now, then = (_sizes(measure, frame, group) if frame is not None else {} for frame in (usage, before))
    return sorted(now, key=lambda name: (-now[name], -then.get(name, 0.0), name))


def _sizes(measure: Measure, usage: pd.DataFrame, group: str) -> dict[str, float]:
    whole = total_of(usage, [group])
    column = measure.per if measure.per is not None and not measure.adds_up else measure.column
    return dict(zip(whole[group].astype(str), whole[column].astype(float), strict=True))


def _merged(question: Question, usage: pd.DataFrame, rest: list[str], others: Others | None) -> pd.DataFrame:
    if others is None:
        return usage
    group = str(question.group)
    named = usage.assign(**{group: usage[group].where(~usage[group].isin(rest), others.name)})
    whole = total_of(named, question.keys)
    if "capacity_core_s" in usage:
        offered = named.groupby(question.keys)["capacity_core_s"]
        whole["capacity_core_s"] = (offered.sum(min_count=1) if group == "cluster" else offered.max()).to_numpy()
    return whole


def _in_order(usage: pd.DataFrame, order: list[str], question: Question) -> pd.DataFrame:
    """By bin, then as the groups are in order."""
    group = str(question.group)
    place = {name: number for number, name in enumerate(order)}
    ranked = usage.assign(_place=usage[group].map(place))
    by = ["bin", "_place"] if question.size else ["_place"]
    return ranked.sort_values(by, ignore_index=True).drop(columns="_place")
