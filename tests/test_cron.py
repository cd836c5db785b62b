"""Cron expressions mean what they mean in crontab(5), and what is wrong in one is told before it is waited for."""

from __future__ import annotations

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest

from batchacct.cron import cron_trigger

A_FRIDAY = "2026-11-27T12:00:00+00:00"


def times(text: str, zone: str = "UTC", after: str = A_FRIDAY, count: int = 3) -> list[str]:
    """The first times it comes, as the library asks for them."""
    trigger = cron_trigger(text, ZoneInfo(zone))
    previous: dt.datetime | None = None
    now, found = dt.datetime.fromisoformat(after), []
    for _ in range(count):
        following = trigger.get_next_fire_time(previous, now)
        assert following is not None
        previous = now = following
        found.append(now.isoformat())
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17 * * * *", ["2026-11-27T12:17", "2026-11-27T13:17", "2026-11-27T14:17"]),
        ("*/25 * * * *", ["2026-11-27T12:00", "2026-11-27T12:25", "2026-11-27T12:50"]),
        ("5,10-12 3 * * *", ["2026-11-28T03:05", "2026-11-28T03:10", "2026-11-28T03:11"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
        ("0 0 1 JAN-mar/2 *", ["2027-01-01T00:00", "2027-03-01T00:00", "2028-01-01T00:00"]),
        ("0 0 */10 * mon", ["2026-12-21T00:00", "2027-01-11T00:00", "2027-02-01T00:00"]),
    ],
)
def test_when_it_comes(text: str, expected: list[str]) -> None:
    assert times(text) == [f"{time}:00+00:00" for time in expected]


@pytest.mark.parametrize(
    ("weekdays", "expected"),
    [
        ("1", "mon"),
        ("0", "sun"),
        ("7", "sun"),
        ("sun", "sun"),
        ("5-7", "fri sat sun"),
        ("fri-sun", "fri sat sun"),
        ("sun-tue", "mon tue sun"),
        ("1-5/2", "mon wed fri"),
        ("*/3", "wed sat sun"),
        ("4/2", "thu sat"),
        ("Mon,3", "mon wed"),
        ("0-7", "mon tue wed thu fri sat sun"),
        ("*", "mon tue wed thu fri sat sun"),
    ],
)
def test_days_of_the_week_are_those_of_cron(weekdays: str, expected: str) -> None:
    week = {dt.datetime.fromisoformat(time).strftime("%u %a").lower() for time in times(f"0 6 * * {weekdays}", count=14)}
    assert [day.split()[1] for day in sorted(week)] == expected.split()


def test_with_seconds() -> None:
    assert times("*/20 59 23 31 12 *") == [f"2026-12-31T23:59:{second:02}+00:00" for second in (0, 20, 40)]


def test_where_an_hour_is_left_out_it_comes_and_where_one_comes_twice_so_does_it() -> None:
    spring = times("30 2 * * *", "Europe/Zurich", "2026-03-28T12:00:00+00:00", 2)
    assert [dt.datetime.fromisoformat(time).astimezone(dt.UTC).isoformat() for time in spring] == [
        "2026-03-29T01:30:00+00:00",
        "2026-03-30T00:30:00+00:00",
    ]
    autumn = times("30 2 * * *", "Europe/Zurich", "2026-10-24T12:00:00+00:00", 3)
    assert autumn == ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"]
    hourly = times("17 * * * *", "Pacific/Chatham", "2026-04-04T13:00:00+00:00", 3)
    assert hourly == ["2026-04-05T03:17:00+13:45", "2026-04-05T03:17:00+12:45", "2026-04-05T04:17:00+12:45"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "five fields are due (or six, the second before them), there are 0: minute hour day month weekday, such as"),
        ("@daily", "there are 1: minute"),
        ("* * * *", "there are 4: minute"),
        ("* * * * * * *", "there are 7: minute"),
        ("60 * * * *", "(60) is higher than the maximum value (59)"),
        ("* 24 * * *", "(24) is higher than the maximum value (23)"),
        ("* * 0 * *", "(0) is lower than the minimum value (1)"),
        ("* * * 13 *", "(13) is higher than the maximum value (12)"),
        ("10-5 * * * *", "must not be higher"),
        ("*/0 * * * *", "Increment must be higher than 0"),
        ("1,,2 * * * *", "'' is no minute"),
        ("x * * * *", "'x' is no minute"),
        ("jan * * * *", "'jan' is no minute"),
        ("-5 * * * *", "'-5' is no minute"),
        ("\N{ARABIC-INDIC DIGIT THREE} * * * *", "is no minute"),
        ("* * last * *", "'last' is no day"),
        ("* * * may-brumaire *", "'brumaire' is no month: they are jan, feb"),
        ("* * * * 8", "'8' is no day of the week: they are 0 to 7, 0 and 7 being Sunday, or sun, mon"),
        ("* * * * 6-2", "'6-2' is no day of the week"),
        ("* * * * */0", "'*/0' is no day of the week"),
        ("* * * * mo", "'mo' is no day of week: they are sun, mon"),
        ("0 0 31 2 *", "there is no such day in any year"),
        ("0 0 1 * mon", "give the day of the month or that of the week, not both"),
    ],
)
def test_what_is_wrong_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError) as refused:
        cron_trigger(text, dt.UTC)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("zone", "text", "after", "expected"),
    [
        ("Europe/Berlin", "30 0 1 * *", "2026-03-01T00:30:01+01:00", "2026-04-01T00:30:00+02:00"),
        ("Europe/Berlin", "0 0 * * mon", "2026-03-23T00:00:01+01:00", "2026-03-30T00:00:00+02:00"),
        ("Europe/Berlin", "0 0 * * *", "2026-03-29T00:00:01+01:00", "2026-03-30T00:00:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T01:59:00+01:00", "2026-03-29T03:30:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T03:10:00+02:00", "2026-03-29T03:30:00+02:00"),
        ("America/New_York", "0 0 1 * *", "2026-03-01T00:00:01-05:00", "2026-04-01T00:00:00-04:00"),
    ],
)
def test_clocks_that_are_changed_lose_no_time(zone: str, text: str, after: str, expected: str) -> None:
    """An hour that is left out moves what comes in it; the midnight after it, and the month, are not passed over."""
    assert times(text, zone, after, count=1) == [expected]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Africa/Cairo"])
def test_a_year_of_days_has_every_day(zone: str) -> None:
    days = [dt.datetime.fromisoformat(time).date() for time in times("0 0 * * *", zone, "2026-01-01T12:00:00+00:00", count=400)]
    assert [(later - day).days for day, later in itertools.pairwise(days)] == [1] * 399
