"""What a report is about: its period, and names and patterns from the command line, several at once, or a file of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from batchacct.cli.instants import instant, period_of
from batchacct.clock import unix_now
from batchacct.errors import ConfigError

MOST_NAMES = 10_000
"""So many conditions a statement is still asked with in good time."""


def period_asked(given: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The period that `begin` and `end`, or `period`, say in a `zone`: Unix seconds, the end exclusive; None where it is left open.

    Raises: ConfigError for what is no date or zone, or does not go together.
    """
    zone, now = given["zone"], unix_now()
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"there is no time zone {zone}: use a name of the IANA database, such as Europe/Zurich") from error
    sides = [given["begin"], given["end"]]
    if given["period"] and any(sides):
        raise ConfigError("--period is a whole period: leave out --begin and --end, or --period")
    since, until = (instant(text, now, where) if text else None for text in sides)
    return period_of(given["period"], now, where) if given["period"] else (since, until)


def names_of(option: str, given: Iterable[str]) -> tuple[str, ...]:
    """The names that an option was given: `a`, `a,b`, or `@FILE` with a name a line, in order and each once; % stands for any text.

    In a file blank lines and lines that begin with # are passed over. A comma in a name is written \\,. A name that is given alone
    is taken as it stands; in a list and in a file blanks around a name are left out.
    Raises: ConfigError for a file that cannot be read, or no name at all.
    """
    names: list[str] = []
    for one in given:
        found = _of_file(option, one[1:]) if one.startswith("@") else names_in(one)
        if not found:
            raise ConfigError(f"--{option} {one!r} names nothing: give names, {option.upper()},{option.upper()} or @FILE of names")
        names += found
    chosen = tuple(dict.fromkeys(names))
    if len(chosen) > MOST_NAMES:
        raise ConfigError(f"--{option} has {len(chosen):,} names, more than {MOST_NAMES:,}: use a pattern with %")
    return chosen


def names_in(text: str) -> list[str]:
    """The names in `a` or `a,b`; a comma in a name is written \\,."""
    parts = text.replace("\\,", "\0").split(",")
    if len(parts) == 1 and text.strip():
        return [text.replace("\\,", ",")]
    return [name.replace("\0", ",") for part in parts if (name := part.strip())]


def _of_file(option: str, path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"--{option} @{path}: the file of names cannot be read: {error}") from error
    return [name for line in lines if (name := line.strip()) and not name.startswith("#")]
