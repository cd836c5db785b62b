"""What a report can measure: which column of the figures it is, in which unit people read it, of how many jobs it is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from batchacct.usage.bins import HOUR_S

J_PER_KWH = 3_600_000
PERCENT = 100


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure: `column` (divided by that of `per` if it is a share or a mean), times 1/`scale`, is in `unit`.

    `unknown` names the columns that count the jobs which add nothing to it because it is not known of them, and `of_unknown` heads
    the last of these in a table. `short` heads the measure itself, `title` stands on an axis. `made_of`: the part of a column
    (second) that it was made of (first): without any it is unknown. In data for programs it is called `data`, if not as the column,
    and is `values` times `data_scale`, if not `scale`.
    """

    name: str
    title: str
    short: str
    unit: str
    column: str
    scale: float = 1
    unknown: tuple[str, ...] = ()
    of_unknown: str = ""
    per: str | None = None
    made_of: tuple[str, str] | None = None
    data: str = ""
    data_scale: float | None = None

    @property
    def adds_up(self) -> bool:
        """Whether groups can stand on each other: a share or a mean cannot."""
        return self.per is None or self.per == "capacity_core_s"

    @property
    def data_name(self) -> str:
        return self.data or self.column

    def data_values(self, frame: pd.DataFrame) -> pd.Series[float]:
        """As `values`, in the unit that the name of its column says."""
        return self.values(frame) * (self.scale if self.data_scale is None else self.data_scale)

    def values(self, frame: pd.DataFrame) -> pd.Series[float]:
        """Of each row of figures in `unit`; NaN where it is not known of any of the jobs, or what it is made of."""
        amounts = frame[self.column].astype(float) / self.scale
        if self.made_of is not None:
            part, whole = (frame[name] for name in self.made_of)
            amounts = amounts.where((part > 0) | (whole == 0))
        if self.per is not None:
            return amounts / frame[self.per].astype(float).replace(0.0, np.nan)
        if not self.unknown:
            return amounts
        unknown = frame[list(self.unknown)].sum(axis=1)
        return amounts.where((unknown < frame["jobs"]) | (frame["jobs"] == 0) | (amounts != 0))


_OF_WAIT = ("wait_unknown_jobs",)
_OF_ENERGY = ("energy_unknown_jobs",)
MEASURES: Mapping[str, Measure] = {
    one.name: one
    for one in (
        Measure("cpu", "CPU hours", "CPU h", "h", "cpu_s", HOUR_S, ("cpu_unknown_jobs",), "jobs of unknown CPU"),
        Measure("wall", "wall hours", "wall h", "h", "wall_s", HOUR_S, ("wall_unknown_jobs",)),
        Measure("core", "core hours", "core h", "h", "core_s", HOUR_S, ("core_unknown_jobs",), ""),
        Measure("jobs", "jobs that ended", "jobs", "", "jobs"),
        Measure("started", "jobs that started", "started", "", "started_jobs"),
        Measure("wait", "hours waited", "wait h", "h", "wait_s", HOUR_S, _OF_WAIT, "jobs of unknown wait"),
        Measure(
            *("mean-wait", "mean hours waited", "mean wait h", "h", "wait_s", HOUR_S, _OF_WAIT, "jobs of unknown wait"),
            per="wait_jobs",
            data="mean_wait_s",
        ),
        Measure(
            "efficiency", "CPU / core time", "CPU / core (%)", "%", "both_cpu_s", 1 / PERCENT, per="both_core_s", data="efficiency"
        ),
        Measure(
            *("utilisation", "share of the capacity", "of capacity (%)", "%", "held_core_s", 1 / PERCENT),
            per="capacity_core_s",
            data="utilisation_percent",
            data_scale=1,
        ),
        Measure("gpu", "GPU hours", "GPU h", "h", "gpu_s", HOUR_S, ("gpu_unknown_jobs",), "jobs of unknown GPUs"),
        Measure("energy", "kWh", "kWh", "kWh", "energy_j", J_PER_KWH, _OF_ENERGY, "jobs of unknown energy"),
        Measure(
            *("co2e", "kg CO2e (estimate)", "kg CO2e (est.)", "kg", "co2e_g", 1000, _OF_ENERGY, "jobs of unknown energy"),
            made_of=("co2e_energy_j", "energy_j"),
        ),
    )
}
"""By the names of `--measure`."""

NORMALISED = {
    "cpu": ("normalised_cpu_s", ("cpu_unknown_jobs", "not_normalised_jobs")),
    "wall": ("normalised_wall_s", ("wall_unknown_jobs", "wall_not_normalised_jobs")),
}
"""What a benchmark multiplies: the column it is in then, and which jobs add nothing to that."""


def normalised(measure: Measure, benchmark: str, counted: str) -> Measure:
    """The measure times the benchmark of one core, as published; others than `NORMALISED`, and wall that is spread, as they are."""
    if measure.name not in NORMALISED or (counted == "spread" and measure.name == "wall"):
        return measure
    column, unknown = NORMALISED[measure.name]
    kind = "" if measure.name == "cpu" else f" {measure.name}"
    title, short = f"{benchmark}{kind} hours", f"{benchmark}{kind} h"
    of_unknown = f"jobs without {benchmark}" if measure.name == "cpu" else ""
    return replace(measure, title=title, short=short, column=column, unknown=unknown, of_unknown=of_unknown)
