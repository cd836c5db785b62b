"""Where one ClassAd of a file ends and the next begins.

In a history file a closing banner, `*** Offset = 0 ClusterId = 1 ...`, ends an ad, and an ad whose banner is not there yet is not
whole: both are written one after the other. `condor_history -long` puts a blank line between ads. A per-job file holds just one.
The two are told apart by what comes first. Sources: htcondor src/condor_utils/classadHistory.cpp, src/condor_tools/history.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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
        whole = 0
        for unit in _units(data):
            if not unit.is_certain:
                break
            whole = unit.following
        return whole

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        for unit in _units(data):
            yield unit.start, unit.end


class OneAdFraming:
    """A file is one ad, complete as soon as it is there (HTCondor renames it into its place)."""

    files_are_complete = True

    def cut(self, data: bytes, *, final: bool) -> int:
        return len(data) if final else 0

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        if data.strip():
            yield 0, len(data)


class _Places:
    """Where a pattern stands in `data`; asked from ascending starts on, it looks at each byte once."""

    def __init__(self, data: bytes, pattern: bytes) -> None:
        self._data, self._pattern = data, pattern
        self._found = -1

    def next(self, start: int) -> int:
        """The first place from `start` on; the length of `data` if there is none."""
        if self._found < start:
            at = self._data.find(self._pattern, start)
            self._found = len(self._data) if at < 0 else at
        return self._found


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit, where what follows it begins, and whether bytes yet unread can no longer change that."""

    start: int
    end: int
    following: int
    is_certain: bool


def _units(data: bytes) -> Iterator[_Unit]:
    banners, newlines = _Places(data, b"\n" + BANNER), _Places(data, b"\n")
    blanks = _Places(data, b"\n\n"), _Places(data, b"\n\r\n")
    start = _after_blank_lines(data, 0)
    while start < len(data):
        banner = start if data.startswith(BANNER, start) else banners.next(start) + 1
        blank = min(places.next(start) for places in blanks) + 1
        if blank < banner and not data.startswith(BANNER, following := _after_blank_lines(data, blank)):
            unit = _Unit(start, blank, following, _is_surely_no_banner(data, following))
        elif banner < len(data):
            newline = newlines.next(banner)
            is_there = newline < len(data)
            unit = _Unit(start, newline - data.endswith(b"\r", banner, newline), newline + is_there, is_there)
        else:
            unit = _Unit(start, len(data), len(data), is_certain=False)
        if unit.end - start > MOST_BYTES:
            end = _forced_end(data, start)
            unit = _Unit(start, end, end, data.endswith(b"\n", start, end))
        yield unit
        start = _after_blank_lines(data, unit.following)


def _after_blank_lines(data: bytes, start: int) -> int:
    while data.startswith((b"\n", b"\r\n"), start):
        start = data.find(b"\n", start) + 1
    return start


def _is_surely_no_banner(data: bytes, start: int) -> bool:
    head = data[start : start + len(BANNER)]
    return not BANNER.startswith(head) and head != b"\r"


def _forced_end(data: bytes, start: int) -> int:
    """Where a unit without an end is broken off: after its last line within MOST_BYTES, or after its one line."""
    return data.rfind(b"\n", start, start + MOST_BYTES) + 1 or data.find(b"\n", start) + 1 or len(data)
