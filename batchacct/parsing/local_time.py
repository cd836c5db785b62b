"""Times of a log that names no zone: they are those of the host that wrote it, which the configuration gives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from batchacct.model import LAST_INSTANT
from batchacct.parsing.contract import Reject


def local_seconds(parts: Iterable[int], zone: dt.tzinfo, what: str) -> int:
    """Unix seconds of a time on a clock of `zone`: year, month, day, hour, minute, second. Of the hour that comes twice, the first.

    Raises: Reject, in which `what` names the time, for one that does not exist or that no log can hold.
    """
    try:
        year, month, day, hour, minute, second = parts
        seconds = int(dt.datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp())
    except (ValueError, OverflowError) as error:
        raise Reject(f"{what} is a time that does not exist") from error
    if not 0 < seconds <= LAST_INSTANT:
        raise Reject(f"{what} is not between 1970 and 2099")
    return seconds
