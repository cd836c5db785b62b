"""Cron expressions with the meaning of crontab(5), by triggers of APScheduler.

That library numbers the days of the week from Monday, drops what stands behind a name (`jan/2`), and where both days are given
wants both: here days are turned into its names, and what it would misread is refused. Where clocks are changed it goes astray (the
midnight after is passed over, and with it a whole month of `0 0 1 * *`): it is asked for times of a clock that is never set.
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
_NEAR = dt.timedelta(hours=3)
"""So close to a change of the clocks the order of times is not that of the clock."""
_LONGEST = dt.timedelta(days=9 * 366)
"""From one 29 February to the next it is eight years at most."""


class Cron:
    """When an expression comes, by the clock of a zone."""

    def __init__(self, wall: CronTrigger, zone: dt.tzinfo) -> None:
        self._wall, self._zone = wall, zone

    def get_next_fire_time(self, previous: dt.datetime | None, now: dt.datetime) -> dt.datetime | None:
        """The first time after the previous one, if that was not after `now`, else from `now` on."""
        start = now.astimezone(dt.UTC)
        if previous is not None:
            after = previous.astimezone(dt.UTC) + dt.timedelta(microseconds=1)
            start = after if start >= previous.astimezone(dt.UTC) else start
        return self._first_from(start)

    def _first_from(self, start: dt.datetime) -> dt.datetime | None:
        wall = start.astimezone(self._zone).replace(tzinfo=dt.UTC, fold=0) - self._change(start)
        found: list[dt.datetime] = []
        until = wall
        while (shown := self._wall.get_next_fire_time(None, wall)) is not None and not (found and shown > until):
            if instants := [one for one in self._instants(shown) if one >= start]:
                until = until if found else shown + self._change(instants[0])
                found += instants
            wall = shown + dt.timedelta(seconds=1)
            if found and wall > until:
                break
        return min(found).astimezone(self._zone) if found else None

    def _change(self, at: dt.datetime) -> dt.timedelta:
        """By how much clocks are changed close to an instant."""
        offsets = [(at + near).astimezone(self._zone).utcoffset() or dt.timedelta() for near in (-_NEAR, dt.timedelta(), _NEAR)]
        return max(offsets) - min(offsets)

    def _instants(self, shown: dt.datetime) -> list[dt.datetime]:
        """When a clock of the zone shows that: twice where an hour is repeated, and an hour later where one is left out."""
        first, second = (shown.replace(tzinfo=self._zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1))
        return [first, second] if first < second else [first]


def cron_trigger(text: str, zone: dt.tzinfo) -> Cron:
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
        trigger = CronTrigger(**numbers, timezone=dt.UTC)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}; the fields are {EXAMPLE}") from error
    now = dt.datetime.now(dt.UTC)
    trigger.end_date = now + _LONGEST
    if trigger.get_next_fire_time(None, now) is None:
        raise ValueError("there is no such day in any year")
    trigger.end_date = None
    return Cron(trigger, zone)


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
