"""Dates as people type them: the ends of months and years, leap days, and clocks that skip an hour or tell one twice."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from batchacct.cli.instants import end_of, instant, period_of
from batchacct.errors import ConfigError

ZURICH, SAO_PAULO, CHATHAM = ZoneInfo("Europe/Zurich"), ZoneInfo("America/Sao_Paulo"), ZoneInfo("Pacific/Chatham")


def utc(text: str) -> int:
    return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp())


NOW = utc("2026-11-20 16:20")
"""A Friday."""


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026-11-01", "2026-11-01", "2026-11-02"),
        ("2026-11", "2026-11-01", "2026-12-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2024-02", "2024-02-01", "2024-03-01"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
        ("today", "2026-11-20", "2026-11-21"),
        ("Yesterday", "2026-11-19", "2026-11-20"),
        ("tomorrow", "2026-11-21", "2026-11-22"),
        ("this week", "2026-11-16", "2026-11-23"),
        (" last   week ", "2026-11-09", "2026-11-16"),
        ("this month", "2026-11-01", "2026-12-01"),
        ("last month", "2026-10-01", "2026-11-01"),
        ("next month", "2026-12-01", "2027-01-01"),
        ("this year", "2026-01-01", "2027-01-01"),
        ("last year", "2025-01-01", "2026-01-01"),
        ("2026", "2026-01-01", "2027-01-01"),
        ("2024", "2024-01-01", "2025-01-01"),
    ],
)
def test_a_word_is_a_period_and_begins_with_it(text: str, begin: str, end: str) -> None:
    whole = (utc(f"{begin} 00:00"), utc(f"{end} 00:00"))
    assert (instant(text, NOW), end_of(text, NOW)) == whole
    assert period_of(text, NOW) == whole


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("@0", "1970-01-01 00:00"),
        ("@1793491200", "2026-11-01 00:00"),
        ("1793491200", "2026-11-01 00:00"),
        ("now", "2026-11-20 16:20"),
        ("-36h", "2026-11-19 04:20"),
        ("-2w", "2026-11-06 00:00"),
        ("-30d", "2026-10-21 00:00"),
        ("-0d", "2026-11-20 00:00"),
        ("2026-11-01 12:30", "2026-11-01 12:30"),
        ("2026-11-01T12:30:15Z", "2026-11-01 12:30:15"),
        ("2026-11-01T00:30+01:00", "2026-10-31 23:30"),
    ],
)
def test_an_instant_is_no_period(text: str, at: str) -> None:
    assert instant(text, NOW) == end_of(text, NOW) == utc(at)
    with pytest.raises(ConfigError, match="is an instant and no period"):
        period_of(text, NOW)


@pytest.mark.parametrize(
    ("today", "word", "begin", "end"),
    [
        ("2026-03-31", "last month", "2026-02-01", "2026-03-01"),
        ("2024-03-31", "last month", "2024-02-01", "2024-03-01"),
        ("2026-01-31", "last month", "2025-12-01", "2026-01-01"),
        ("2026-01-31", "next month", "2026-02-01", "2026-03-01"),
        ("2024-02-29", "last year", "2023-01-01", "2024-01-01"),
        ("2024-02-29", "yesterday", "2024-02-28", "2024-02-29"),
        ("2024-03-01", "yesterday", "2024-02-29", "2024-03-01"),
        ("2026-01-01", "last week", "2025-12-22", "2025-12-29"),
        ("2026-11-16", "this week", "2026-11-16", "2026-11-23"),
        ("2026-11-15", "this week", "2026-11-09", "2026-11-16"),
    ],
)
def test_at_the_ends_of_months_and_years(today: str, word: str, begin: str, end: str) -> None:
    for time in ("00:00", "23:59"):
        assert period_of(word, utc(f"{today} {time}")) == (utc(f"{begin} 00:00"), utc(f"{end} 00:00"))


def test_days_are_those_of_the_zone() -> None:
    late = utc("2026-10-31 23:30")
    assert instant("today", late) == utc("2026-10-31 00:00")
    assert instant("today", late, ZURICH) == utc("2026-10-31 23:00"), "it is November in Zurich"
    assert period_of("last month", late, ZURICH) == (utc("2026-09-30 22:00"), utc("2026-10-31 23:00"))
    assert period_of("2026-11-01", late, CHATHAM) == (utc("2026-10-31 10:15"), utc("2026-11-01 10:15"))


def test_a_day_on_which_clocks_change_has_23_or_25_hours() -> None:
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)):
        begin, end = period_of(day, NOW, ZURICH)
        assert end - begin == hours * 3600
    assert instant("-1d", utc("2026-10-26 12:00"), ZURICH) == utc("2026-10-24 22:00"), "a day of the calendar, not 24 hours"


def test_where_midnight_is_skipped_the_day_begins_with_its_first_instant() -> None:
    assert period_of("2018-11-04", NOW, SAO_PAULO) == (utc("2018-11-04 03:00"), utc("2018-11-05 02:00"))


def test_times_of_day_that_are_told_twice_or_never() -> None:
    assert instant("2026-10-25 02:30", NOW, ZURICH) == utc("2026-10-25 00:30"), "the first of the two"
    assert instant("2026-10-25 02:30+01:00", NOW, ZURICH) == utc("2026-10-25 01:30")
    with pytest.raises(ConfigError, match=r"that the clocks of Europe/Zurich skip: .* Z for UTC"):
        instant("2026-03-29 02:30", NOW, ZURICH)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "202",
            "20266",
            "0000",
            "2026-13",
            "2026-02-30",
            "2025-02-29",
            "-2m",
            "01.11.2026",
            "0000-01",
            "",
            "20261101",
            "last",
            "last decade",
        ),
        *(
            "2026-11-01 24:30",
            "2026-11-01 1:30",
            "@",
            "@-1",
            "9999-12-31 12:00+99:00",
            "last  fortnight",
            "--2w",
            "2026-11-01 12:30 CET",
        ),
    ],
)
def test_wrong_dates_say_what_a_date_is(text: str) -> None:
    with pytest.raises(ConfigError, match="is no date"):
        instant(text, NOW)
    with pytest.raises(ConfigError, match="is no date"):
        end_of(text, NOW)


def test_the_last_month_of_the_calendar_has_no_end() -> None:
    assert instant("9999-12", NOW) == utc("9999-12-01 00:00")
    with pytest.raises(ConfigError, match="the calendar ends there"):
        end_of("9999-12", NOW)


def test_a_day_that_begins_before_the_calendar_does_in_its_zone_is_refused() -> None:
    assert instant("0001-01-01", NOW) == utc("0001-01-01 00:00")
    for text in ("0001-01-01", "0001", "0001-01-01 00:30"):
        with pytest.raises(ConfigError, match=r"is no date .*the calendar"):
            instant(text, NOW, ZoneInfo("Asia/Tokyo"))
        with pytest.raises(ConfigError, match=r"is no date .*the calendar"):
            period_of(text, NOW, ZoneInfo("Asia/Tokyo"))
