"""What happens when: the year, and some weeks of another one that hold one of each event."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from dataclasses import dataclass

Day = dt.date


@dataclass(frozen=True, slots=True)
class Plan:
    """Days of a zone, from `first` on; each pair of days is the first one and the one after the last."""

    first: Day
    days: int
    zone: str
    jobs_a_day: int
    """On each of the five systems."""
    upgrade: Day
    """The schema's; until then an earlier release is at work."""
    outages: tuple[tuple[Day, Day], ...]
    """The broker's."""
    full_disk: tuple[Day, Day]
    restore: tuple[Day, Day]
    """The database of the morning of the one is put back at noon of the other."""
    ce_log_late: tuple[Day, Day]
    """What BLAH says of these days is written at their end."""
    wrong_clock: tuple[Day, ...]
    """LSF's master writes a record with a time in the future, another one has its clock set back while a job runs."""
    copied_back: tuple[Day, ...]
    """Lines that a copy-and-truncate took away are written into the log again by hand."""
    killed_every: int
    """Days between two that see the collector or the publisher killed."""
    damaged_share: float
    """Of the lines written so many are there a second time, damaged, before."""
    benchmark_from: Day
    """A new one is in force from then on."""
    keep: str
    personal_data: str
    month_closed_after: int = 5
    """Days of the next month."""
    published_every: int = 1
    """Days."""

    @property
    def last(self) -> Day:
        return self.first + dt.timedelta(days=self.days - 1)

    @property
    def tzinfo(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.zone)

    def at(self, day: Day, hour: int = 0) -> int:
        """Unix seconds of that hour, as a clock on the wall shows it."""
        return int(dt.datetime.combine(day, dt.time(hour), self.tzinfo).timestamp())

    def clocks_changed(self, day: Day) -> str:
        """What is written of a day that is no 24 hours long."""
        hours = (self.at(day + dt.timedelta(days=1)) - self.at(day)) / 3600
        return "" if hours == 24 else f"a day of {hours:g} hours"

    def hour_that_comes_twice(self, day: Day) -> int | None:
        """When it begins for the second time, Unix seconds; None for a day without one."""
        first, last = self.at(day), self.at(day + dt.timedelta(days=1))
        clocks = [dt.datetime.fromtimestamp(at, self.tzinfo) for at in range(first, last, 3600)]
        return next((first + 3600 * number for number, clock in enumerate(clocks) if clock.fold), None)


YEAR = Plan(
    first=Day(2023, 5, 1), days=366, zone="Europe/Zurich", jobs_a_day=20,
    upgrade=Day(2023, 5, 22),
    outages=((Day(2023, 6, 13), Day(2023, 6, 16)), (Day(2023, 12, 24), Day(2023, 12, 28)), (Day(2024, 2, 27), Day(2024, 3, 2))),
    full_disk=(Day(2024, 3, 12), Day(2024, 3, 13)), restore=(Day(2024, 1, 10), Day(2024, 1, 15)),
    ce_log_late=(Day(2023, 11, 10), Day(2023, 11, 16)), wrong_clock=(Day(2023, 7, 18), Day(2024, 2, 6)),
    copied_back=(Day(2023, 8, 1), Day(2023, 10, 30), Day(2024, 1, 31)), killed_every=20, damaged_share=0.002,
    benchmark_from=Day(2023, 12, 1), keep="100d", personal_data="190d",
)  # fmt: skip
"""Both changes of the clocks, a leap day, twelve ends of months."""

WEEKS = Plan(
    first=Day(2016, 2, 17), days=19, zone="America/Sao_Paulo", jobs_a_day=6,
    upgrade=Day(2016, 2, 19), outages=((Day(2016, 2, 22), Day(2016, 2, 24)),), full_disk=(Day(2016, 3, 2), Day(2016, 3, 3)),
    restore=(Day(2016, 2, 26), Day(2016, 2, 28)), ce_log_late=(Day(2016, 2, 18), Day(2016, 2, 22)),
    wrong_clock=(Day(2016, 2, 25),), copied_back=(Day(2016, 2, 21),), killed_every=4, damaged_share=0.01,
    benchmark_from=Day(2016, 2, 21), keep="5d", personal_data="5d", month_closed_after=6, published_every=2,
)  # fmt: skip
"""In Brazil the hour before midnight of 20 February 2016 came twice; nine days later was a leap day, and a month's end."""
