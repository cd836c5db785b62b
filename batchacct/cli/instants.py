"""Dates as people type them: days, months, words such as `last month`, times of day, or so long ago; in UTC or a zone asked for.

A word means the instant at which it begins, and a week begins on Monday. Where a zone's clocks skip midnight, a day begins with its
first instant; an hour that clocks tell twice is the first of the two, and one that they skip is refused.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

from batchacct.errors import ConfigError

DAY_S = 86_400
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}):(\d{2})(?::(\d{2}))?(Z|[+-]\d{2}:?\d{2})?")
_UNITS = ("day", "week", "month", "year")
_WORDS = {"today": ("day", 0), "yesterday": ("day", -1), "tomorrow": ("day", 1)} | {
    f"{word} {unit}": (unit, steps) for word, steps in (("last", -1), ("this", 0), ("next", 1)) for unit in _UNITS
}
_AGO = re.compile(r"-(\d{1,5})([hdw])")

DATES_HELP = (
    "A DATE is a day (2026-11-01), a month (2026-11), a year (2026), a time of day ('2026-11-01 12:30', to which Z or +01:00 may "
    "be added), Unix seconds (@1793491200), now, today, yesterday, 'this week', 'last month', 'last year', or so long before: -36h "
    "before now, -30d and -2w before today. Each means the instant at which it begins; weeks begin on Monday"
)
"""What the help of a command says of its dates; to be ended with a word about the zone."""


def instant(text: str, now: int, zone: dt.tzinfo = dt.UTC) -> int:
    """Unix seconds at which what a person wrote begins, see `DATES_HELP`; days are those of `zone`.

    Raises: ConfigError for anything else, a date that is not in the calendar, and a time of day that the clocks skip.
    """
    words = " ".join(text.split()).lower()
    if words == "now":
        return now
    if match := re.fullmatch(r"@(\d{1,11})|(\d{9,10})", words):
        return int(match[1] or match[2])
    if match := _AGO.fullmatch(words):
        return _before(int(match[1]), match[2], now, zone)
    if (named := _named(words, text, now, zone)) is not None:
        return _midnight(named[0], zone)
    if match := _TIME.fullmatch(" ".join(text.split())):
        return _time_of_day(text, match, zone)
    raise ConfigError(
        f"{text!r} is no date: write a day (2026-11-01), a month (2026-11), a year (2026), a time (2026-11-01 12:30), Unix seconds "
        "(@1793491200), yesterday, 'last month', or so many hours, days or weeks ago (-36h, -30d, -2w)"
    )


def end_of(text: str, now: int, zone: dt.tzinfo = dt.UTC) -> int:
    """As `instant`, but of a day, week, month or year the instant after it: who says "to November" means all of it.

    Raises: ConfigError as `instant`.
    """
    named = _named(" ".join(text.split()).lower(), text, now, zone)
    if named is None:
        return instant(text, now, zone)
    first, unit = named
    try:
        return _midnight(_STEP[unit](first, 1), zone)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{text!r} is no date with another one after it: the calendar ends there") from error


def period_of(text: str, now: int, zone: dt.tzinfo = dt.UTC) -> tuple[int, int]:
    """The day, week, month or year that a person wrote: Unix seconds at which it begins, and at which the next one does.

    Raises: ConfigError for what is no such thing, or no date at all.
    """
    begin, end = instant(text, now, zone), end_of(text, now, zone)
    if begin == end:
        raise ConfigError(
            f"{text!r} is an instant and no period: write a day, a month, a year, yesterday, 'last week', 'this month'"
        )
    return begin, end


def _named(words: str, text: str, now: int, zone: dt.tzinfo) -> tuple[dt.date, str] | None:
    """First day of the day, week, month or year that was written, and which of these it is; None if it is none."""
    try:
        if words in _WORDS:
            unit, steps = _WORDS[words]
            return _STEP[unit](_first_of(unit, dt.datetime.fromtimestamp(now, zone).date()), steps), unit
        if match := _DATE.fullmatch(words):
            unit = "day" if match[3] else "month" if match[2] else "year"
            return dt.date(int(match[1]), int(match[2] or 1), int(match[3] or 1)), unit
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{text!r} is no date of the calendar: {error}") from error
    return None


def _first_of(unit: str, day: dt.date) -> dt.date:
    if unit == "week":
        return day - dt.timedelta(days=day.weekday())
    return {"day": day, "month": day.replace(day=1)}.get(unit, day.replace(month=1, day=1))


def _plus_months(day: dt.date, months: int) -> dt.date:
    """The first of a month, so many months later."""
    number = day.year * 12 + day.month - 1 + months
    return dt.date(number // 12, number % 12 + 1, 1)


_STEP: dict[str, Callable[[dt.date, int], dt.date]] = {
    "day": lambda day, steps: day + dt.timedelta(days=steps),
    "week": lambda day, steps: day + dt.timedelta(weeks=steps),
    "month": _plus_months,
    "year": lambda day, steps: _plus_months(day, 12 * steps),
}


def _before(number: int, unit: str, now: int, zone: dt.tzinfo) -> int:
    """So many hours before now; so many days or weeks of the calendar before today."""
    if unit == "h":
        return now - number * 3600
    days = number * (7 if unit == "w" else 1)
    try:
        return _midnight(dt.datetime.fromtimestamp(now, zone).date() - dt.timedelta(days=days), zone)
    except OverflowError as error:
        raise ConfigError(f"-{number}{unit} is before the calendar begins") from error


def _midnight(day: dt.date, zone: dt.tzinfo) -> int:
    """The first instant of a day: where clocks skip midnight, that instant is also the one `fold=0` names."""
    return _seconds(dt.datetime.combine(day, dt.time(), zone))


def _seconds(local: dt.datetime) -> int:
    """Raises: ConfigError for a time that UTC has no date for: it is before the year 1 there, or after 9999."""
    at = int(local.timestamp())
    try:
        dt.datetime.fromtimestamp(at, dt.UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{local.date()} is no date in {local.tzinfo}: the calendar of UTC ends there, choose another") from error
    return at


def _time_of_day(text: str, match: re.Match[str], zone: dt.tzinfo) -> int:
    day, hour, minute, second, offset = match.groups()
    try:
        if offset is not None:
            return int(dt.datetime.fromisoformat(f"{day}T{hour}:{minute}:{second or '00'}{offset}").timestamp())
        local = dt.datetime.combine(dt.date.fromisoformat(day), dt.time(int(hour), int(minute), int(second or 0)), zone)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no date of the calendar: {error}") from error
    at = _seconds(local)
    if dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise ConfigError(
            f"{text!r} is a time that the clocks of {zone} skip: write the hour before or after, or end it with Z for UTC"
        )
    return at
