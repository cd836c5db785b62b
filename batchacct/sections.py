"""What the sections of the configuration are made of."""

from __future__ import annotations

import re
import zoneinfo
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

File = Annotated[Path, Field(strict=False)]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def as_seconds(value: object) -> object:
    """`36h` as seconds; what is no text as it is.  Raises: ValueError for another text."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+)\s*([smhdw])\s*", value)):
        return int(match[1]) * _UNITS[match[2]]
    if isinstance(value, str):
        raise ValueError('a duration is a number and one of s, m, h, d, w, such as "36h"')
    return value


Duration = Annotated[int, BeforeValidator(as_seconds), Field(ge=0, le=36_525 * 86_400)]
"""Seconds, or a text such as "36h"; at most a century."""


def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("no such time zone; names are those of the IANA database, such as Europe/Zurich") from error
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values are not converted behind anybody's back."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def key(doc: str, default: Any = ..., *, sample: object = None, **limits: Any) -> Any:
    """A key of a section: its doc, its default (required if left out), what the sample configuration shows for it."""
    return Field(default, description=doc, json_schema_extra={"sample": sample}, **limits)  # type: ignore[dict-item]
