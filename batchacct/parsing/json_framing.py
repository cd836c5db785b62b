"""Where one element of a JSON array ends and the next begins, in documents too long to be read as one.

    {"meta": {...}, "jobs": [        a unit: the head
    {"account": "a", ...},           a unit: an element
    {"account": "b", ...}            a unit: an element
    ], "errors": []}                 a unit: the tail

Pretty-printed or in one line makes no difference, nor does whether several documents follow each other, whether the array is the
whole document (`[`, elements, `]`), or whether there is none at all (`{...}` after `{...}`, JSON lines). `element` reads a unit.

A document that was cut short, or lost a brace or a quote, must not swallow what follows. So there are *marks*, places where
something surely begins because they cannot occur within an element: a `{` or `[` that begins a line, a head's `{"jobs": [`, and a
`{` with the key that all elements begin with and no `:` before it. A unit ends at the next mark at the latest. No valid string
holds a mark (it has quotes in it) or a newline: both set the count of quotes back.

NumPy finds quotes, brackets and newlines, and counts; time grows with the number of bytes, whatever is in them.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchacct.parsing.contract import Reject, Skip, printable

Bools = npt.NDArray[np.bool_]

_SPECIAL = bytes(byte in b'"{}[]\n' for byte in range(256))
_ONE_CASE = np.uint8(0xDF)
"""`{` and `}` without this bit are `[` and `]`."""
_BLANKS = b" \t\r\n"
_SEPARATORS = re.compile(rb"[ \t\r\n,]*+")
_AFTER_ARRAY = re.compile(rb"\][ \t\r\n]*+([,}])?")
_LINE_START = re.compile(rb"\n(?=[{\[])")

MOST_BLANKS = 200
"""Blanks between the tokens of a mark; one with more (deeper indentation than any program's) is not seen."""
REGION_BYTES = 128 << 10
"""So much, and on to the next mark, is looked at in one go: what NumPy makes of it stays in the processor's cache."""
MOST_DEPTHS = 8
"""At so many depths the brackets are listed; sound documents need one or two."""


class JsonElements:
    """The elements of an array, and the head and tail of the document around it; commas and blanks between them are left out.

    array: key of the array in the document's object; None where the array is the whole document.
    first_key: the key every element begins with, if there is one, and if no object in a list within an element does.
    """

    def __init__(self, array: str | None = None, first_key: str | None = None) -> None:
        self._head = _member(array, rb"[ \t\r\n]*+\[") if array else None
        self._first_member = _member(first_key) if first_key else None

    def cut(self, data: bytes, *, final: bool) -> int:
        """Length of the prefix that is whole units and the separators after them; see `Framing`."""
        if final:
            return len(data)
        whole = 0
        for start, end, is_whole in self._units(data):
            if not is_whole:
                return start
            whole = end
        return _after_separators(data, whole)

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        for start, end, _ in self._units(data):
            yield start, start + len(data[start:end].rstrip(_BLANKS + b","))

    def next_start(self, data: bytes, after: int) -> int:
        """Where, behind the byte `after`, a unit surely begins; -1 if nowhere in `data`."""
        return next((mark for mark in self._marks(data) if mark > after), -1)

    def split_after(self, data: bytes, after: int) -> int:
        return self.next_start(data, after)

    def _units(self, data: bytes) -> Iterator[tuple[int, int, bool]]:
        """(start, end, whole) of each unit; only the last can be one that further bytes would change."""
        marks = self._marks(data)
        brackets = _Brackets(data, 0, 0, [])
        heads = [match.end() - 1 for match in self._head.finditer(data)] if self._head else []
        start = _after_separators(data, 0)
        while start < len(data):
            following = bisect_right(marks, start)
            if start >= brackets.stop:
                last = max(bisect_right(marks, start + REGION_BYTES), following)
                brackets = _Brackets(data, start, marks[last] if last < len(marks) else len(data), marks[following:last])
            limit = marks[following] if following < len(marks) else len(data)
            end = self._end(data, brackets, heads, start, limit)
            yield start, end or limit, end is not None or limit < len(data)
            start = _after_separators(data, end or limit)

    def _end(self, data: bytes, brackets: _Brackets, heads: list[int], start: int, limit: int) -> int | None:
        """Where the unit at `start` ends, if brackets say so before `limit`."""
        first = data[start]
        if first == ord("["):
            return start + 1
        if first == ord("]"):
            return self._end_of_tail(data, brackets, start, limit)
        if first != ord("{"):
            return None
        closing = brackets.closing(start, limit)
        head = bisect_right(heads, start)
        if head < len(heads) and heads[head] < (limit if closing is None else closing) and brackets.open(start, heads[head]) == 2:
            return heads[head] + 1
        if closing is None:
            return None
        return closing + (data[closing] == ord("}"))

    def _end_of_tail(self, data: bytes, brackets: _Brackets, start: int, limit: int) -> int | None:
        """Where the tail that begins with the `]` at `start` ends: with the object around the array, if there is one."""
        match = _AFTER_ARRAY.match(data, start)
        assert match is not None
        if self._head is None or not (match[1] or match.end() in (limit, len(data))):
            return start + 1
        closing = brackets.closing(start, limit) if match[1] else None
        return None if closing is None else closing + 1

    def _marks(self, data: bytes) -> list[int]:
        """Where in `data`, behind its first byte, something surely begins; ascending."""
        marks = {match.end() for match in _LINE_START.finditer(data)}
        for member in (self._head, self._first_member):
            for match in member.finditer(data) if member else ():
                brace = _before_blanks(data, match.start())
                if brace > 0 and data[brace] == ord("{"):
                    before = _before_blanks(data, brace)
                    if member is self._head or before < 0 or data[before] != ord(":"):
                        marks.add(brace)
        return sorted(marks)


class _Brackets:
    """The brackets in `data[start:stop]` that are outside strings, and how many are open after each; `marks` are within."""

    def __init__(self, data: bytes, start: int, stop: int, marks: list[int]) -> None:
        self.stop = stop
        region = data[start:stop]
        special = np.flatnonzero(np.frombuffer(region.translate(_SPECIAL), np.bool_))
        found = np.frombuffer(region, np.uint8)[special]
        is_quote = found == ord('"')
        is_quote[np.searchsorted(special, _escaped_quotes(region))] = False
        is_reset = found == ord("\n")
        is_reset[np.searchsorted(special, [mark - start for mark in marks])] = True
        kinds = found & _ONE_CASE
        is_bracket = ((kinds == ord("[")) | (kinds == ord("]"))) & ~_inside(is_quote, is_reset)
        self._at = special[is_bracket] + start
        self._depth = np.cumsum(np.where(kinds[is_bracket] == ord("["), np.int8(1), np.int8(-1)), dtype=np.int32)
        self._at_depth: dict[int, list[int]] = {}

    def closing(self, start: int, limit: int) -> int | None:
        """The bracket before `limit` that closes the one which opens at `start`, or what is around the one that closes there."""
        first = int(self._at.searchsorted(start))
        if first == len(self._at) or self._at[first] != start:
            return None
        wanted = int(self._depth[first]) - 1
        if wanted not in self._at_depth:
            if len(self._at_depth) == MOST_DEPTHS:
                return self._searched(first, limit, wanted)
            self._at_depth[wanted] = self._at[self._depth == wanted].tolist()
        found = self._at_depth[wanted]
        nearest = bisect_right(found, start)
        return found[nearest] if nearest < len(found) and found[nearest] < limit else None

    def _searched(self, first: int, limit: int, wanted: int) -> int | None:
        """The same by looking from there on: units of a sound document all close at the same depth, but not after damage."""
        last = int(self._at.searchsorted(limit))
        begin, width = first + 1, 64
        while begin < last:
            window = self._depth[begin : min(begin + width, last)] == wanted
            nearest = int(window.argmax())
            if window[nearest]:
                return int(self._at[begin + nearest])
            begin, width = begin + width, width * 4
        return None

    def open(self, start: int, at: int) -> int | None:
        """How many brackets are open at `at`, counted from the one at `start`, both included; None if `at` is in a string."""
        first, last = np.searchsorted(self._at, (start, at)).tolist()
        if last == len(self._at) or self._at[last] != at or self._at[first] != start:
            return None
        return int(self._depth[last] - self._depth[first]) + 1


def _inside(is_quote: Bools, is_reset: Bools) -> Bools:
    """Whether the number of quotes, up to each place, since the last reset is odd."""
    inside: Bools = np.bitwise_xor.accumulate(is_quote)
    if np.any(inside & is_reset):
        quotes = np.cumsum(is_quote, dtype=np.int32)
        since = quotes - np.maximum.accumulate(np.where(is_reset, quotes, np.int32(0)))
        inside = (since & 1).astype(np.bool_)
    return inside


def _member(key: str, value: bytes = b"") -> re.Pattern[bytes]:
    return re.compile(re.escape(json.dumps(key).encode()) + rb"[ \t\r\n]*+:" + value)


def _after_separators(data: bytes, at: int) -> int:
    match = _SEPARATORS.match(data, at)
    assert match is not None
    return match.end()


def _before_blanks(data: bytes, at: int) -> int:
    """The last byte before `at` that is no blank; -1 if there is none near."""
    for position in range(at - 1, max(at - MOST_BLANKS, 0) - 1, -1):
        if data[position] not in _BLANKS:
            return position
    return -1


def _escaped_quotes(data: bytes) -> list[int]:
    """Positions of the quotes that a backslash, itself not escaped, stands before."""
    escaped = []
    at = data.find(b"\\")
    while at >= 0:
        if data[at + 1 : at + 2] == b'"':
            escaped.append(at + 1)
        at = data.find(b"\\", at + 2)
    return escaped


@dataclass(frozen=True, slots=True)
class Frame:
    """The head or the tail of a document: its members without the elements."""

    members: dict[str, object]
    skip: Skip


_HEAD = Skip("head of a document")
_TAIL = Skip("tail of a document")


def element(unit: bytes) -> dict[str, object] | Frame:
    """The object a unit is, or the part of a document around such objects.

    Raises: Reject if it is neither. A byte that is not UTF-8 becomes a lone surrogate: `clean` makes it printable.
    """
    if unit.startswith((b"[", b"]")) or unit.endswith(b"["):
        return _frame(unit)
    found = _loads(unit)
    if not isinstance(found, dict):
        raise Reject("it is not a JSON object")
    return found


def _frame(unit: bytes) -> Frame:
    if unit in (b"[", b"]"):
        return Frame({}, _HEAD if unit == b"[" else _TAIL)
    is_head = unit.startswith(b"{")
    found = _loads(unit + b"]}" if is_head else b'{"":[' + unit)
    assert isinstance(found, dict)
    return Frame(found, _HEAD if is_head else _TAIL)


def _loads(unit: bytes) -> object:
    try:
        return json.loads(unit.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise Reject(f"it is not JSON: {error.msg} at {printable(unit[error.pos : error.pos + 40])}") from error
    except RecursionError as error:
        raise Reject("it is not JSON that can be read: nested too deep") from error


def clean(text: str) -> str:
    r"""A text of an element as records hold it: what was no UTF-8, a lone surrogate and NUL are written out, `\xNN`."""
    if text.isascii() and "\0" not in text:
        return text
    if not text.isascii():
        try:
            raw = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # a surrogate that stood in the JSON as an escape, `\ud800`
            raw = text.encode("utf-8", "backslashreplace")
        text = raw.decode("utf-8", "backslashreplace")
    return text.replace("\0", "\\x00")
