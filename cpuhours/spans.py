"""The bins of a period as reports list and name them. Instants are Unix seconds."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from zoneinfo import ZoneInfo

from batchacct.errors import ConfigError
from batchacct.usage.bins import DAY_S, HOUR_S, QUARTER_S, Bins

MOST_BINS = 20_000
SHORT = {"quarter hour": QUARTER_S, "hour": HOUR_S}
"""Bins shorter than a day, and their length."""
_SHORTEST = {**SHORT, "week": 7 * DAY_S, "month": 28 * DAY_S}

Span = tuple[int, int]


def bins_between(size: str, zone: str, begin: int, end: int) -> list[Span]:
    """All bins that overlap a period, whole: when each begins, and the next one does.

    Raises: ConfigError if there are more of them than anybody can read.
    """
    bins = Bins(size, zone)
    if (end - begin) / _SHORTEST.get(size, DAY_S) > MOST_BINS:
        raise ConfigError(f"that is more than {MOST_BINS:,} bins of {a_bin(size)}: choose larger --bins, or a shorter period")
    with _in_calendar():
        return list(itertools.pairwise(bins.edges(begin, end - 1).tolist()))


def a_bin(size: str) -> str:
    """`a day`, `an hour`."""
    return f"an {size}" if size == "hour" else f"a {size}"


def bin_begin(size: str, zone: str, at: int) -> int:
    """When the bin begins in which an instant lies."""
    with _in_calendar():
        return int(Bins(size, zone).edges(at, at)[0])


@contextmanager
def _in_calendar() -> Iterator[None]:
    """Raises: ConfigError where the body needs a date before the year 1, or after 9999."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise ConfigError("the calendar has no such time: choose a period well within the years 1 to 9999") from error


def bin_text(size: str, zone: str, at: int) -> str:
    """`2026-11-01`, of a month `2026-11`, of an hour `2026-11-01 13:00+01:00`: how a bin that begins then is called.

    An instant that is no full minute is told to the second.
    """
    with _in_calendar():
        local = dt.datetime.fromtimestamp(at, ZoneInfo(zone))
    if size in SHORT:
        return local.isoformat(" ", "seconds" if local.second else "minutes").replace("+00:00", "Z")
    return local.strftime("%Y-%m") if size == "month" else local.date().isoformat()


def instant_text(at: int, zone: str) -> str:
    """`2026-11-01` where a day begins, else `2026-11-01 13:00+01:00`."""
    return bin_text("day" if bin_begin("day", zone, at) == at else "hour", zone, at)


def period_text(begin: int, end: int, zone: str) -> str:
    """`2026-11-01 to 2026-11-30`: first and last day of a period, or its only one; with times of day where they are not whole."""
    whole = [bin_begin("day", zone, at) == at for at in (begin, end)]
    first = bin_text("day" if whole[0] else "hour", zone, begin)
    last = bin_text("day", zone, end - 1) if whole[1] else bin_text("hour", zone, end)
    return first if first == last else f"{first} to {last}"


def usual_size(begin: int, end: int) -> str:
    """The size of bins of which a period has as many as a picture shows well."""
    days = (end - begin) / DAY_S
    return "hour" if days <= 3 else "day" if days <= 130 else "week" if days <= 1100 else "month"
