"""The time, and how it is written for people: always UTC."""

from __future__ import annotations

import datetime as dt
import os
import time

NOW_VARIABLE = "BATCHACCT_NOW"
"""Unix seconds to take for the time it is: the demo and the tests live in a time of their own."""


def unix_now() -> int:
    """Unix seconds now."""
    return int(os.environ.get(NOW_VARIABLE) or time.time())


def shown(at: int | None) -> str:
    """`2026-11-20 16:20:00Z`, or `-` for what is not known."""
    return "-" if at is None else dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def midnight(day: dt.date) -> int:
    """Unix seconds at which a day (UTC) begins."""
    return int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())


def day_text(at: int) -> str:
    """`2026-11-01`: the UTC day of an instant."""
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()
