"""Bins of time: quarter hours, hours, days, weeks, months, as the clocks of a time zone count them.

Every zone there is changes its clocks by whole quarters of an hour, and is whole quarters away from UTC: sums by quarter are
enough for all of them. A day has 23 or 25 hours where clocks change, an hour that is shown twice is two bins, and a day begins
with its first instant: not at midnight where clocks jump over that.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pandas as pd

from batchacct.errors import ConfigError

MINUTE_S, QUARTER_S, HOUR_S, DAY_S = 60, 900, 3600, 86_400
SIZES = ("minute", "quarter hour", "hour", "day", "week", "month")
"""Weeks begin on Mondays, as those of ISO 8601."""

Instants = npt.NDArray[np.int64]
_SAME_EVERYWHERE = {"minute": MINUTE_S, "quarter hour": QUARTER_S}
_LENGTHS_IN_UTC = {"hour": HOUR_S, "day": DAY_S}


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins of one of `SIZES` in a zone, an IANA name.  Raises: ConfigError for another size or zone."""

    size: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ConfigError(f"there are no bins of a {self.size}: use one of {', '.join(SIZES)}")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(f"there is no time zone {self.zone}: use a name as Europe/Zurich, or UTC") from error

    @property
    def unit_s(self) -> int:
        """Seconds by which usage has to be summed so that these bins can be made of it."""
        length = _SAME_EVERYWHERE.get(self.size)
        if length is not None:
            return length
        return QUARTER_S if self.zone != "UTC" else _LENGTHS_IN_UTC.get(self.size, DAY_S)

    def of(self, instants: Instants) -> Instants:
        """The instant at which the bin of each instant begins (Unix seconds)."""
        length = self.fixed_s
        if length is not None:
            return instants // length * length
        if not len(instants):
            return instants
        begins = self.edges(int(instants.min()), int(instants.max()))
        return begins[np.searchsorted(begins, instants, side="right") - 1]

    def edges(self, first: int, last: int) -> Instants:
        """Where bins begin: the bin of `first`, all to that of `last`, and the one after it, in order."""
        length = self.fixed_s
        if length is not None:
            return np.arange(first // length * length, last // length * length + 2 * length, length, dtype=np.int64)
        found = self._hours(first, last) if self.size == "hour" else np.unique(list(self._midnights(first, last)))
        begin, end = np.searchsorted(found, [first, last], side="right")
        return found[begin - 1 : end + 1]

    def shown(self, begins: pd.Series[Any]) -> pd.Series[Any]:
        """Unix seconds as Timestamps in the zone."""
        return pd.to_datetime(begins.astype("int64"), unit="s", utc=True).dt.tz_convert(ZoneInfo(self.zone))

    @property
    def fixed_s(self) -> int | None:
        """Seconds that each bin has, as whole ones since 1970; None where they differ, or begin otherwise."""
        known = _SAME_EVERYWHERE.get(self.size)
        return known if known is not None or self.zone != "UTC" else _LENGTHS_IN_UTC.get(self.size)

    def _hours(self, first: int, last: int) -> Instants:
        """The quarters at which the clocks show a full hour."""
        margin = 3 * HOUR_S
        quarters = np.arange((first - margin) // QUARTER_S * QUARTER_S, last + margin, QUARTER_S, dtype=np.int64)
        shown = pd.DatetimeIndex(pd.to_datetime(quarters, unit="s", utc=True)).tz_convert(ZoneInfo(self.zone))
        return quarters[np.asarray(shown.minute) < QUARTER_S // MINUTE_S]

    def _midnights(self, first: int, last: int) -> Iterator[int]:
        """The first instants of days, Mondays or first days of months; a day that clocks jump over begins with the next one."""
        zone = ZoneInfo(self.zone)
        day = dt.datetime.fromtimestamp(first, zone).date() - dt.timedelta(days=1)
        if self.size != "day":
            day = day.replace(day=1) if self.size == "month" else day - dt.timedelta(days=day.weekday())
        begin = first
        while begin <= last:
            begin = int(dt.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) // QUARTER_S * QUARTER_S
            yield begin
            day = self._next(day)

    def _next(self, day: dt.date) -> dt.date:
        if self.size == "month":
            return (day + dt.timedelta(days=32)).replace(day=1)
        return day + dt.timedelta(days=7 if self.size == "week" else 1)
