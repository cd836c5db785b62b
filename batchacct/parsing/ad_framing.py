"""Where one ClassAd of a file ends and the next begins.

In a history file a closing banner, `*** Offset = 0 ClusterId = 1 ...`, ends an ad, and an ad whose banner is not there yet is not
whole: both are written one after the other. `condor_history -long` puts a blank line between ads. A per-job file holds just one.
The two are told apart by what comes first. Sources: htcondor src/condor_utils/classadHistory.cpp, src/condor_tools/history.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from batchacct.classad import Ad, ClassAdError, long_ad
from batchacct.parsing.contract import Reject, Skip

MOST_BYTES = 4 << 20
"""An ad is no longer than this (its environment can take megabytes): without an end by then, something is damaged."""

BANNER = b"*** "
ATTEMPT = "EPOCH"
"""Type word of the banner that closes the ad of one attempt of a job (JOB_EPOCH_HISTORY)."""

_TYPE_WORD = re.compile(rb"\*\*\* +([A-Za-z_]+)[ \t]+(?=[A-Za-z])")


def history_ad(unit: bytes) -> Ad | Skip:
    """The ad of a unit that `AdFraming` or `OneAdFraming` found; of an ad that is no job's own, why it is none.

    Raises: Reject for one that is damaged or cut short.
    """
    lines, banner = split_banner(unit)
    if banner is None and not lines.endswith(b"\n"):
        raise Reject("the ad is cut short: its last line has no end")
    word = type_word(banner) if banner else None
    if word is not None:
        return Skip("one attempt of a job, which the job's own ad counts" if word == ATTEMPT else "the ad of no job")
    if not lines.strip():
        return Skip("a banner without an ad")
    try:
        return long_ad(lines)
    except ClassAdError as error:
        raise Reject(str(error)) from error


def split_banner(unit: bytes) -> tuple[bytes, bytes | None]:
    """The lines of an ad, and the banner that closes it, None where there is none."""
    if unit.startswith(BANNER):
        return b"", unit
    at = unit.rfind(b"\n" + BANNER)
    return (unit, None) if at < 0 else (unit[: at + 1], unit[at + 1 :])


def type_word(banner: bytes) -> str | None:
    """What kind of ad a banner closes, where it says so: `*** EPOCH ClusterId=1` is EPOCH; a job's ad has none."""
    match = _TYPE_WORD.match(banner)
    return match[1].decode("ascii").upper() if match else None


class AdFraming:
    """Ads in long form. A unit is an ad with its banner, or one that a blank line or the end of the file ends.

    The newline of its last attribute is part of a unit without banner, so that one cut short can be told from a whole one.
    A banner after a blank line still belongs to the ad before.
    """

    def cut(self, data: bytes, *, final: bool) -> int:
        if final:
            return len(data)
        whole = max(_after_last_banner(data), _after_last_blank(data))
        return whole or (_forced_end(data, 0) if len(data) > MOST_BYTES else 0)

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        start = _skip_blank_lines(data, 0)
        banner = blank = -1
        while start < len(data):
            if banner < start:
                banner = _or_end(_find_banner(data, start), data)
            if blank < start:
                blank = _or_end(_find_blank(data, start), data)
            end, following = _bounds(data, banner, blank)
            if end - start > MOST_BYTES:
                end = following = _forced_end(data, start)
            yield start, end
            start = _skip_blank_lines(data, following)


class OneAdFraming:
    """A file is one ad, complete as soon as it is there (HTCondor renames it into its place)."""

    files_are_complete = True

    def cut(self, data: bytes, *, final: bool) -> int:
        return len(data) if final else 0

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        if data.strip():
            yield 0, len(data)


def _or_end(position: int, data: bytes) -> int:
    return len(data) if position < 0 else position


def _find_banner(data: bytes, start: int) -> int:
    """Where the next banner line begins, from the start of a line on; -1 if there is none."""
    if data.startswith(BANNER, start):
        return start
    at = data.find(b"\n" + BANNER, start)
    return at + 1 if at >= 0 else -1


def _find_blank(data: bytes, start: int) -> int:
    """Where the next blank line begins that no banner follows; -1 if there is none."""
    at = _next_blank(data, start)
    while at >= 0 and data.startswith(BANNER, _skip_blank_lines(data, at)):
        at = _next_blank(data, _skip_blank_lines(data, at))
    return at


def _next_blank(data: bytes, start: int) -> int:
    plain = data.find(b"\n\n", start)
    with_return = data.find(b"\n\r\n", start, plain + 2 if plain >= 0 else len(data))
    at = plain if with_return < 0 else with_return
    return at + 1 if at >= 0 else -1


def _bounds(data: bytes, banner: int, blank: int) -> tuple[int, int]:
    """End of the unit that a banner or a blank line ends, whichever comes first, and where what follows begins."""
    if blank <= banner:
        return blank, blank
    newline = _or_end(data.find(b"\n", banner), data)
    return newline - data.endswith(b"\r", banner, newline), newline + 1


def _skip_blank_lines(data: bytes, start: int) -> int:
    while data.startswith((b"\n", b"\r\n"), start):
        start = data.find(b"\n", start) + 1
    return start


def _forced_end(data: bytes, start: int) -> int:
    """Where a unit without an end is broken off: after its last line within MOST_BYTES, or after its one line."""
    return data.rfind(b"\n", start, start + MOST_BYTES) + 1 or data.find(b"\n", start) + 1 or len(data)


def _after_last_banner(data: bytes) -> int:
    stop = data.rfind(b"\n")
    at = data.rfind(b"\n" + BANNER, 0, max(stop, 0))
    if at < 0 and not (data.startswith(BANNER) and stop > 0):
        return 0
    return data.find(b"\n", at + 1) + 1


def _after_last_blank(data: bytes) -> int:
    """Start of the last line that follows a blank one and is surely no banner; 0 if there is none."""
    stop = len(data)
    while (at := max(data.rfind(b"\n\n", 0, stop), data.rfind(b"\n\r\n", 0, stop))) >= 0:
        following = _skip_blank_lines(data, at + 1)
        head = data[following : following + len(BANNER)]
        if not BANNER.startswith(head) and head != b"\r":
            return following
        stop = at + 1
    return 0
