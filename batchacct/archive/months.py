"""Months in UTC, each by the Unix second at which it begins."""

from __future__ import annotations

import datetime as dt
import re

from batchacct.errors import ConfigError


def month_of(at: int) -> int:
    """The beginning of the month that an instant is in."""
    when = dt.datetime.fromtimestamp(at, dt.UTC)
    return int(dt.datetime(when.year, when.month, 1, tzinfo=dt.UTC).timestamp())


def next_month(month: int) -> int:
    """The beginning of the month after one."""
    return month_of(month + 32 * 86_400)


def month_name(month: int) -> str:
    """`2026-11`."""
    return dt.datetime.fromtimestamp(month, dt.UTC).strftime("%Y-%m")


def named_month(name: str) -> int:
    """The month of a name such as `2026-11`.  Raises: ConfigError for anything else."""
    match = re.fullmatch(r"(\d{4})-(\d{2})", name.strip())
    if match is None or not 1 <= int(match[2]) <= 12 or int(match[1]) < 1:
        raise ConfigError(f"{name!r} is no month: write year and month, such as 2026-11")
    return int(dt.datetime(int(match[1]), int(match[2]), 1, tzinfo=dt.UTC).timestamp())
