"""What a report is asked: which jobs, grouped by what, measured how, over which bins of which zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batchacct.usage.summing import Counted
from cpuhours.measures import MEASURES, Measure, normalised

TIMES = ("quarter hour", "hour", "day", "week", "month")
"""Sizes of bins, by which rows may be grouped as well."""

NAMED = {
    "vo": ("VO", "VOs"),
    "queue": ("queue", "queues"),
    "user": ("user", "users"),
    "group": ("group", "groups"),
    "project": ("project", "projects"),
    "cluster": ("cluster", "clusters"),
    "site": ("site", "sites"),
    "ce": ("CE", "CEs"),
    "submit_host": ("submit host", "submit hosts"),
    "host": ("host", "hosts"),
    "state": ("state", "states"),
    "exit": ("exit status", "exit statuses"),
    "outcome": ("outcome", "outcomes"),
}
"""What jobs are grouped by, beside times: one of them and several."""

FILTERS = ("vo", "queue", "group", "user", "project", "cluster", "site", "submit_host", "state")
DEFAULT_MEASURES = ("cpu", "core", "wall", "efficiency")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. The period is in Unix seconds, its end exclusive; a side that is None is where the first or last job counts.

    `by` is one of `NAMED` or `TIMES`; with `bins`, one of `TIMES`, each group has a row a bin. `where`: of which jobs, names with %
    for any text by one of `FILTERS`. `top`: the largest so many groups, the rest as one. `compare`: with the period before.
    """

    by: str = "vo"
    begin: int | None = None
    end: int | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    normalise: str | None = None
    measures: tuple[str, ...] = DEFAULT_MEASURES
    bins: str | None = None
    zone: str = "UTC"
    spread: bool = False
    top: int | None = None
    compare: bool = False

    @property
    def group(self) -> str | None:
        """The column of groups; None where there is but a row a bin."""
        return None if self.by in TIMES else self.by

    @property
    def size(self) -> str | None:
        """The size of bins, if there are any."""
        return self.by if self.by in TIMES else self.bins

    @property
    def keys(self) -> list[str]:
        """The columns that tell rows apart, in the order they are shown."""
        return [*(["bin"] if self.size else []), *([self.by] if self.group else [])]

    @property
    def counted(self) -> Counted:
        return "spread" if self.spread else "ended"

    @property
    def is_spread(self) -> bool:
        """Whether all that is measured is spread: what is held against a capacity always is."""
        return self.spread or self.measures == ("utilisation",)

    @property
    def counts_from_start(self) -> bool:
        """Whether something of a job is counted before it ended."""
        return self.spread or not {"started", "utilisation"}.isdisjoint(self.measures)

    @property
    def measured(self) -> list[Measure]:
        """The measures, those that can be normalised so, where that is asked."""
        plain = [MEASURES[name] for name in self.measures]
        return [normalised(one, self.normalise, self.counted) if self.normalise else one for one in plain]


def hyphened(name: str) -> str:
    """`quarter-hour`: how a word of one of these lists is written on the command line."""
    return name.replace("_", "-").replace(" ", "-")


def heading(column: str) -> str:
    """`VO`: what stands above a column of names."""
    return NAMED[column][0] if column in NAMED else column


def of_text(where: Mapping[str, tuple[str, ...]]) -> str:
    """`VO atlas, cms; queue grid_%`: of which jobs; long lists in short."""
    return "; ".join(f"{heading(name)} {_few(names)}" for name, names in where.items())


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:4])} and {len(names) - 4} more"
