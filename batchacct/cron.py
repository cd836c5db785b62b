"""Cron expressions with the meaning of crontab(5), as triggers of APScheduler.

That library numbers the days of the week from Monday, drops what stands behind a name (`jan/2`), and where both days are given
wants both: here days are turned into its names, and what it would misread is refused.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

FIELDS = ("second", "minute", "hour", "day", "month", "day_of_week")
EXAMPLE = 'minute hour day month weekday, such as "17 * * * *" or "30 6 * * mon-fri"'

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {"month": {name: n for n, name in enumerate(_MONTHS, 1)}, "day_of_week": {name: n for n, name in enumerate(_WEEKDAYS)}}
_PIECE = re.compile(r"(?:\*|(?P<first>\d+|[a-z]+)(?:-(?P<last>\d+|[a-z]+))?)(?:/(?P<step>\d+))?", re.ASCII)
_LONGEST = dt.timedelta(days=9 * 366)
"""From one 29 February to the next it is eight years at most."""


def cron_trigger(text: str, zone: dt.tzinfo) -> CronTrigger:
    """Five fields as in crontab(5), or six, with the second before them.  Raises: ValueError telling what is wrong."""
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - which most commands have no use for

    fields = text.lower().split()
    if len(fields) not in {len(FIELDS) - 1, len(FIELDS)}:
        raise ValueError(f"five fields are due (or six, the second before them), there are {len(fields)}: {EXAMPLE}")
    values = dict(zip(FIELDS, fields if len(fields) == len(FIELDS) else ["0", *fields], strict=True))
    if not values["day"].startswith("*") and not values["day_of_week"].startswith("*"):
        raise ValueError("give the day of the month or that of the week, not both: cron would run on the one and on the other")
    numbers = {name: _numbered(name, value) for name, value in values.items()}
    numbers["day_of_week"] = _weekdays(numbers["day_of_week"])
    try:
        trigger = CronTrigger(**numbers, timezone=zone)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}; the fields are {EXAMPLE}") from error
    now = dt.datetime.now(dt.UTC)
    trigger.end_date = now + _LONGEST
    if trigger.get_next_fire_time(None, now) is None:
        raise ValueError("there is no such day in any year")
    trigger.end_date = None
    return trigger


def _checked(text: str) -> str:
    cron_trigger(text, dt.UTC)
    return text


CronText = Annotated[str, AfterValidator(_checked)]
"""A text of which `cron_trigger` makes a trigger."""


def _numbered(field: str, value: str) -> str:
    """With numbers in the place of names."""
    pieces = []
    for piece in value.split(","):
        match = _PIECE.fullmatch(piece)
        if match is None:
            raise ValueError(f"{piece!r} is no {field.replace('_', ' ')}; the fields are {EXAMPLE}")
        names = _NAMES.get(field, {})
        for found in (match["first"], match["last"]):
            if found is not None and not found.isdigit() and found not in names:
                raise ValueError(f"{found!r} is no {field.replace('_', ' ')}" + (f": they are {', '.join(names)}" if names else ""))
        pieces.append(re.sub(r"[a-z]+", lambda name, names=names: str(names[name[0]]), piece))  # type: ignore[misc]
    return ",".join(pieces)


def _weekdays(value: str) -> str:
    """Days from 0 or 7, Sunday, as the names of all that are meant."""
    days: set[int] = set()
    for piece in value.split(","):
        match = _PIECE.fullmatch(piece)
        assert match is not None
        step = int(match["step"] or 1)
        first = int(match["first"] or 0)
        last = int(match["last"] or (6 if match["first"] is None or match["step"] else first))
        if last == 0 < first:
            last = 7
        if not 0 <= first <= last <= 7 or step == 0:
            raise ValueError(f"{piece!r} is no day of the week: they are 0 to 7, 0 and 7 being Sunday, or {', '.join(_WEEKDAYS)}")
        days |= {day % 7 for day in range(first, last + 1, step)}
    return "*" if len(days) == len(_WEEKDAYS) else ",".join(_WEEKDAYS[day] for day in sorted(days))
