r"""ClassAds, the records of HTCondor: their lexing in long form and in JSON.

    ClusterId = 377260                                  Args = "a \"quoted\" word"          ExitBySignal = FALSE
    RemoteWallClockTime = 910.000000                    NumVacatesByReason = [ ScheddVacate = 1 ]
    RequestMemory = ceiling(ifThenElse(JobVMMemory =!= UNDEFINED, JobVMMemory, ImageSize / 1024.000000))

An ad is a set of attributes, one a line, `name = expression`, split at the first `=`. Names are case-insensitive. An attribute
may be given more than once (HTCondor 7 writes the cluster's ad, then the job's): the last value counts. Of expressions, only
literals are taken as values: integers, reals (exact, as `Decimal`), strings with `\"` and `\\`, booleans, lists `{ 1, 2 }` and
nested ads `[ a = 1; b = 2 ]`; undefined is None, as if the attribute were absent, and everything else (`error`, too) stays an
unevaluated `Expression`. JSON (`condor_history -json`) has the same values; an expression is a string `/Expr(...)/` there.

Where an ad of a file ends: `batchacct.parsing.ad_framing`.

Source: HTCondor manual, ClassAd mechanism; samples in tests/samples/htcondor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from batchacct.model import text_of
from batchacct.parsing.json_framing import clean

DEEPEST = 32
"""Lists and ads nested deeper than this are left as an expression."""

_NAME_BYTES = bytes(range(0x30, 0x3A)) + bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B)) + b"_.'$+"
_NAME = re.compile(rb"[ \t\r\n]*+([A-Za-z_'][A-Za-z0-9_.'$+]*+)[ \t]*+=(?![=?!])")
_INTEGER = re.compile(rb"[-+]?[0-9]{1,20}")
_REAL = re.compile(rb"[-+]?[0-9]{1,400}(?:\.[0-9]{0,400})?(?:[eE][-+]?[0-9]{1,3})?")
_STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_ESCAPED = re.compile(rb'\\(["\\])')
_WORDS: Mapping[bytes, bool | None] = {b"true": True, b"false": False, b"undefined": None}
_SCALAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[-+]?[0-9][0-9.eE+-]*+|[A-Za-z]++', re.DOTALL)
_GAP = re.compile(rb"[ \t\r\n]*+")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{}(),;]', re.DOTALL)
_JSON_EXPRESSION = re.compile(r"/Expr\((.*)\)/", re.DOTALL)


class ClassAdError(ValueError):
    """The text is no ClassAd; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What is no literal, as the source wrote it; nothing is evaluated."""

    text: str


Value = int | Decimal | bool | str | None | Expression | list["Value"] | dict[str, "Value"]
"""A value; None is undefined."""


class Ad:
    """The attributes of one ad. Names are looked up whatever their case; a value is lexed when it is asked for.

    An accessor gives None for what is absent, undefined, an expression, or of another type than asked for.
    """

    __slots__ = ("_spelled", "_values")

    def __init__(self, values: Mapping[str, bytes | Value], spelled: Mapping[str, str]) -> None:
        self._values = values
        self._spelled = spelled

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def names(self) -> Iterator[tuple[str, str]]:
        """Each name in lower case and, beside it, as the source spells it."""
        return iter(self._spelled.items())

    def get(self, name: str) -> Value:
        """The value; None where it is absent or undefined."""
        found = self._values.get(name.lower())
        return literal(found) if isinstance(found, bytes) else found

    def integer(self, name: str) -> int | None:
        """A whole number; a real that is whole counts."""
        found = self.get(name)
        if isinstance(found, Decimal):
            return int(found) if found == found.to_integral_value() else None
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def number(self, name: str) -> Decimal | None:
        """A number, exact."""
        found = self.get(name)
        if isinstance(found, Decimal):
            return found
        return Decimal(found) if isinstance(found, int) and not isinstance(found, bool) else None

    def text(self, name: str) -> str | None:
        """A string that is not empty."""
        found = self.get(name)
        return found or None if isinstance(found, str) else None

    def boolean(self, name: str) -> bool | None:
        """A boolean; 0 and 1 stand for one (ads of old)."""
        found = self.get(name)
        return bool(found) if isinstance(found, int) else None


# --- long form ---------------------------------------------------------------------------------------------------------


def long_ad(text: bytes) -> Ad:
    """The ad whose attributes are the lines of `text`, the last value of each name.

    Raises: ClassAdError for a line that is no attribute, and where two ads have run together.
    """
    parts = [line.partition(b"=") for line in text.split(b"\n") if line.strip()]
    names = [name.strip() for name, _, _ in parts]
    values = [expression for _, _, expression in parts]
    if b"" in values:
        raise ClassAdError("a line is no `name = value`")
    if b"" in names or b"".join(names).translate(None, _NAME_BYTES):
        raise ClassAdError("a line has no attribute name before its `=`")
    spelled = b"\n".join(names).decode("ascii")
    folded = spelled.lower().split("\n")
    _one_job_only(folded, values)
    return Ad(dict(zip(folded, values, strict=False)), dict(zip(folded, spelled.split("\n"), strict=False)))


def _one_job_only(folded: list[str], values: list[bytes]) -> None:
    """Raises: ClassAdError where a job's own name has two values: the end of an ad was lost."""
    if folded.count("globaljobid") > 1:
        ids = {value.strip() for name, value in zip(folded, values, strict=True) if name == "globaljobid"}
        if len(ids) > 1:
            raise ClassAdError("GlobalJobId has two values: two ads have run together")


def literal(text: bytes) -> Value:
    """The value of an expression in long form, which is an `Expression` unless it is a literal."""
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    first = text[:1]
    if first == b'"':
        if _STRING.fullmatch(text):
            return _unquoted(text)
    elif first and first in b"{[":
        value, end = _nested(text, 0, 0)
        if end == len(text):
            return value
    else:
        return _scalar(text)
    return Expression(text_of(text))


def _unquoted(string: bytes) -> str:
    inner = string[1:-1]
    return text_of(_ESCAPED.sub(rb"\1", inner) if b"\\" in inner else inner)


def _scalar(text: bytes) -> Value:
    if _REAL.fullmatch(text):
        return int(text) if _INTEGER.fullmatch(text) else Decimal(text.decode("ascii"))
    word = text.lower()
    return _WORDS[word] if word in _WORDS else Expression(text_of(text))


def _nested(text: bytes, at: int, depth: int) -> tuple[Value, int]:
    """The list or ad that begins at `at`, and where it ends; an expression up to the end where it is none."""
    closing = b"}" if text[at : at + 1] == b"{" else b"]"
    items: list[Value] = []
    named: dict[str, Value] = {}
    at = _skip_gap(text, at + 1)
    while at < len(text) and text[at : at + 1] != closing:
        name = None
        if closing == b"]":
            match = _NAME.match(text, at)
            if match is None:
                return Expression(text_of(text)), len(text)
            name, at = match[1].decode("ascii"), match.end()
        value, at = _element(text, _skip_gap(text, at), depth)
        if name is None:
            items.append(value)
        else:
            named[name] = value
        if text[at : at + 1] == (b"," if name is None else b";"):
            at = _skip_gap(text, at + 1)
        elif text[at : at + 1] != closing:
            return Expression(text_of(text)), len(text)
    return named if closing == b"]" else items, at + 1


def _element(text: bytes, at: int, depth: int) -> tuple[Value, int]:
    """The value of an element that begins at `at`, and where what follows it begins."""
    value: Value = None
    end = at
    first = text[at : at + 1]
    if first and first in b"{[" and depth < DEEPEST:
        value, end = _nested(text, at, depth + 1)
    elif match := _SCALAR.match(text, at):
        end = match.end()
        value = _unquoted(match[0]) if first == b'"' else _scalar(match[0])
    if end == len(text):
        return Expression(text_of(text[at:].strip())), end
    following = _skip_gap(text, end)
    if end > at and text[following : following + 1] in (b",", b";", b"}", b"]"):
        return value, following
    stop = _end_of_expression(text, at)
    return Expression(text_of(text[at:stop].strip())), stop


def _end_of_expression(text: bytes, at: int) -> int:
    """Where the separator or bracket stands that ends an expression within a list or ad."""
    depth = 0
    for token in _TOKEN.finditer(text, at):
        byte = token[0]
        if byte in b"([{":
            depth += 1
        elif byte in b")]}":
            if depth == 0:
                return token.start()
            depth -= 1
        elif depth == 0 and byte in b",;":
            return token.start()
    return len(text)


def _skip_gap(text: bytes, at: int) -> int:
    match = _GAP.match(text, at)
    return match.end() if match else at


# --- JSON --------------------------------------------------------------------------------------------------------------


def json_ad(members: Mapping[str, object]) -> Ad:
    """The ad of a JSON object."""
    values = {name.lower(): _of_json(value) for name, value in members.items()}
    return Ad(values, {name.lower(): clean(name) for name in members})


def _of_json(value: object) -> Value:
    if isinstance(value, str):
        expression = _JSON_EXPRESSION.fullmatch(value)
        return Expression(expression[1]) if expression else clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): _of_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_of_json(member) for member in value]
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    return value if isinstance(value, int) else None
