"""The bins of a period: how many there may be, what they are called, and where the calendar ends."""

from __future__ import annotations

import datetime as dt

import pytest

from batchacct.errors import ConfigError
from cpuhours.spans import MOST_BINS, bin_text, bins_between, period_text
from tests.cpuhours.farm import DAY, at

YEAR_1 = int(dt.datetime(1, 1, 1, tzinfo=dt.UTC).timestamp())
YEAR_9999 = int(dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp())


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich"])
def test_weeks_and_months_are_counted_as_such(zone: str) -> None:
    assert len(bins_between("month", zone, at("1970-01-01 12:00"), at("2026-11-27 00:00"))) == 683
    assert len(bins_between("week", zone, at("1970-01-01 12:00"), at("2026-11-27 00:00"))) == 2970


@pytest.mark.parametrize(
    ("size", "seconds", "said"),
    [
        ("quarter hour", 900, "a quarter hour"),
        ("hour", 3600, "an hour"),
        ("day", DAY, "a day"),
        ("week", 7 * DAY, "a week"),
        ("month", 31 * DAY, "a month"),
    ],
)
def test_more_bins_than_anybody_can_read_are_refused(size: str, seconds: int, said: str) -> None:
    with pytest.raises(ConfigError, match=f"more than 20,000 bins of {said}: choose larger --bins"):
        bins_between(size, "UTC", 0, (MOST_BINS + 1) * seconds)


def test_a_period_has_the_seconds_that_were_asked_for() -> None:
    begin = at("2026-11-01 00:00")
    assert period_text(begin, begin + 1, "UTC") == "2026-11-01 to 2026-11-01 00:00:01Z"
    assert period_text(begin + 61, begin + DAY, "Europe/Zurich") == "2026-11-01 01:01:01+01:00 to 2026-11-02 01:00+01:00"
    assert period_text(begin, begin + 2 * DAY, "UTC") == "2026-11-01 to 2026-11-02"
    assert bin_text("quarter hour", "UTC", begin + 900) == "2026-11-01 00:15Z"


def test_where_the_calendar_ends_it_is_said() -> None:
    for begin, end, zone in (
        (YEAR_1, YEAR_1 + DAY, "Asia/Tokyo"),
        (YEAR_1, YEAR_1 + DAY, "America/Lima"),
        (YEAR_9999, YEAR_9999 + DAY, "Asia/Tokyo"),
        (YEAR_1 - DAY, YEAR_1, "UTC"),
    ):
        with pytest.raises(ConfigError, match="the calendar has no such time"):
            period_text(begin, end, zone)
