"""How a person writes a date on the command line."""

from __future__ import annotations

import datetime as dt
import re

from batchacct.errors import ConfigError

DAY_S = 86_400
_STEP_S = {"d": DAY_S, "w": 7 * DAY_S}


def instant(text: str, now: int) -> int:
    """Unix seconds of `2026-11-01` or `2026-11` (the first midnight of it, UTC), Unix seconds, or `-30d`, `-2w` before today (UTC).

    Raises: ConfigError for anything else.
    """
    if match := re.fullmatch(r"-(\d{1,5})([dw])", text):
        return now // DAY_S * DAY_S - int(match[1]) * _STEP_S[match[2]]
    if re.fullmatch(r"\d{9,10}", text):
        return int(text)
    if match := re.fullmatch(r"(\d{4})-(\d{2})(?:-(\d{2}))?", text):
        try:
            midnight = dt.datetime(int(match[1]), int(match[2]), int(match[3] or 1), tzinfo=dt.UTC)
        except ValueError as error:
            raise ConfigError(f"{text!r} is no date of the calendar: {error}") from error
        return int(midnight.timestamp())
    raise ConfigError(
        f"{text!r} is no date: write a day (2026-11-01), a month (2026-11), Unix seconds (1793491200), "
        "or so many days or weeks before today (-30d, -2w); all in UTC"
    )
