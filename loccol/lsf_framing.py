"""Where one record of an `lsb.acct` ends and the next begins.

A record is a line, with four exceptions: a quoted string may hold newlines; a mailer folds at 989
characters (`!`, newline, blank); after a crash of the writer two records share a line; and a closing quote that was lost would
make one record of the whole rest of the file. The last is bounded by what cannot occur inside a string, where quotes are
doubled: a line that begins with an event type and the quote of its version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

MOST_LINES = 1000
"""A unit has at most so many continuation lines; one that would need more was never closed."""
MOST_BYTES = 16 << 20
"""The same in bytes, measured to the end of the line."""

FOLDED_LENGTH = 990
"""Bytes of a line a mailer folded, with its `!`, without its newline (sample `epcc-safe-7.03-folded.acct`)."""

EVENT_LINE = re.compile(rb'"[A-Z][A-Z0-9_]*" "')
SECOND_RECORD = re.compile(rb'(?<!")"JOB_FINISH" "[0-9][0-9.]*" [0-9]{9,10} [0-9]+ [0-9]+ ')
_RECORD_HEAD = b'"JOB_FINISH" "'
_LINE_OF_RECORD = b"\n" + _RECORD_HEAD

Unit = tuple[int, int, int]
"""Where a unit begins, where it ends without its separator, and where the next one begins."""


class LsfFraming:
    """Records of `lsb.acct`; `#` lines are units of their own, blank lines are none."""

    def cut(self, data: bytes, *, final: bool) -> int:
        """Length of the prefix that is whole units: all complete lines, unless a quote or a fold is open after the last."""
        if final:
            return len(data)
        stop = data.rfind(b"\n") + 1
        measured = data.rfind(b"\n" + _RECORD_HEAD, 0, stop) + 1
        for _, _, following in units(data, measured, stop, goes_on=True):
            measured = following
        return measured

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        return unit_spans(data, 0, len(data))

    def split_after(self, data: bytes, after: int) -> int:
        """Between two records in order: no quote is open there, and none folded."""
        at = data.find(_LINE_OF_RECORD, after)
        while at >= 0 and (end := data.find(b"\n", at + 1)) >= 0:
            line = data[at + 1 : end].removesuffix(b"\r")
            is_whole = line.count(b'"') % 2 == 0 and not _is_folded(line, 0, len(line))
            if is_whole and data.startswith(_RECORD_HEAD, end + 1):
                return end + 1
            at = data.find(_LINE_OF_RECORD, end)
        return -1


def unit_spans(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each unit of `data[start:stop]` that is not blank; `start` is the start of a unit, and so is `stop`."""
    for begin, end, _ in units(data, start, stop, goes_on=False):
        if data[begin:end].strip():
            yield begin, end


def units(data: bytes, start: int, stop: int, *, goes_on: bool) -> Iterator[Unit]:
    """The units of `data[start:stop]`, blank lines among them; only those that are surely complete if the last one may go on.

    If not, a quote that is open at the end is taken for one that was lost, as before the line of another record: so it makes no
    difference whether a block ends there or goes on with that line.
    """
    while start < stop:
        unit = _unit(data, start, stop, goes_on=goes_on)
        if unit is None:
            return
        yield unit
        start = unit[2]


def _unit(data: bytes, start: int, stop: int, *, goes_on: bool) -> Unit | None:
    """The unit that begins at `start`; None if that depends on bytes yet unread."""
    first = _line(data, start, stop)
    if data[start] == ord("#"):
        return first
    line = first
    is_open = False
    for _ in range(MOST_LINES + 1):
        begin, end, following = line
        second = _second_record(data, begin, end)
        if second is not None:
            return start, second, second
        is_open ^= data.count(b'"', begin, end) % 2 == 1
        if not is_open and not _is_folded(data, begin, end):
            return start, end, following
        if following >= stop:
            return None if goes_on else (start, end, following)
        if _ends_before(data, following, is_open=is_open):
            return start, end, following
        if following - start > MOST_BYTES:
            break
        line = _line(data, following, stop)
    return first


def _ends_before(data: bytes, line_start: int, *, is_open: bool) -> bool:
    """Whether the next line cannot continue this unit: an event inside quotes, or no blank where a fold needs one."""
    if is_open:
        return EVENT_LINE.match(data, line_start) is not None
    return data[line_start] != ord(" ")


def _line(data: bytes, start: int, stop: int) -> Unit:
    newline = data.find(b"\n", start, stop)
    end, following = (stop, stop) if newline < 0 else (newline, newline + 1)
    if end > start and data[end - 1] == ord("\r"):
        end -= 1
    return start, end, following


def _is_folded(data: bytes, begin: int, end: int) -> bool:
    return end - begin == FOLDED_LENGTH and data[end - 1] == ord("!")


def _second_record(data: bytes, begin: int, end: int) -> int | None:
    """Where, after its first byte, the line holds the start of another record."""
    if data.find(_RECORD_HEAD, begin + 1, end) < 0:
        return None
    match = SECOND_RECORD.search(data, begin + 1, end)
    return None if match is None else match.start()


def unfold(unit: bytes) -> bytes:
    """The unit as it was before a mailer folded it."""
    if b"!\n " not in unit and b"!\r\n " not in unit:
        return unit
    lines = unit.split(b"\n")
    whole = [lines[0]]
    for before, line in pairwise(lines):
        folded = before.removesuffix(b"\r")
        if line.startswith(b" ") and _is_folded(folded, 0, len(folded)):
            whole[-1] = whole[-1].removesuffix(b"\r")[:-1] + line[1:]
        else:
            whole.append(line)
    return b"\n".join(whole)
