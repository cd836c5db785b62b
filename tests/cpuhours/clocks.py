"""Where bins of time begin, as the clocks show: step by step."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from batchacct.usage.bins import Bins


def begin_of(at: int, bins: Bins) -> int:
    """The begin of an instant's bin, step by step: back by quarter hours while the clocks do not say that one begins."""
    step = 60 if bins.size == "minute" else 900
    at = at // step * step
    while bins.size not in {"minute", "quarter hour"} and not begins(at, bins):
        at -= step
    return at


def begins(at: int, bins: Bins) -> bool:
    """Whether a bin begins at an instant, which is one of a quarter of an hour; of an hour or more."""
    zone = ZoneInfo(bins.zone)
    now, before = (dt.datetime.fromtimestamp(instant, zone) for instant in (at, at - 900))
    if bins.size == "hour":
        return now.minute == 0
    if bins.size == "month":
        return (now.year, now.month) != (before.year, before.month)
    if bins.size == "week":
        return now.isocalendar()[:2] != before.isocalendar()[:2]
    return now.date() != before.date()
