"""A line of a PBS accounting log taken apart: time, record type, job id, attributes; and the forms in which PBS writes values.

    MM/DD/YYYY HH:MM:SS;T;id;message

The message may hold semicolons. In it `name=value` follow each other, with one blank between; PBS Pro quotes a value with blanks
in it (`"..."`, or `'...'` around a value with `"`), Torque never does. So what follows a blank begins an attribute only if it is
`name=`, after free text such as a job name only if that is the name of one; any other text belongs to the value before it.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from fractions import Fraction

from batchacct.model import LAST_INSTANT, text_of
from batchacct.parsing import Reject

NAMES = frozenset(
    b"gridname user group account project accounting_id jobname queue resvname resvID resvjobID ctime qtime etime start_count start"
    b" owner depend array_indices exec_host exec_vnode login_node x session alt_id total_execution_slots unique_node_count end"
    b" Exit_status eligible_time run_count requestor destination Resource_Request_2.0".split()
)
USED = b"resources_used."
REQUESTED = b"Resource_List."
FAMILIES = (REQUESTED, USED, b"resource_assigned.", b"resources_released.", b"Authorized_")
FREE_TEXT = frozenset((b"account", b"group", b"jobname", b"project", b"Resource_Request_2.0"))
"""Attributes whose values go on before a name that is not known here; other values end before any `name=`."""

LARGEST_KIB = 1 << 53

_STAMP = re.compile(rb"([0-9]{2})/([0-9]{2})/([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
_SECOND_LINE = re.compile(rb"[0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2};[A-Za-z];")
_ID = re.compile(rb"([0-9]{1,18})(?:\[([0-9]{0,9})\]|-([0-9]{1,9}))?([.@].*)?", re.DOTALL)
_NAME = re.compile(rb"([A-Za-z][A-Za-z0-9_.-]*+)=")
_DURATION = re.compile(rb"([0-9]{1,9})(?::([0-9]{1,2}):([0-9]{1,2}))?")
_BELOW_ZERO = re.compile(rb"(?=[0-9:]*+-)-?[0-9]++(?::-?[0-9]++){0,3}")
_SIZE = re.compile(rb"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kmgtpe]?)(b|w|)", re.IGNORECASE)
_NUMBER = re.compile(rb"[0-9]{1,10}")

Attributes = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class JobId:
    """A job id: as written, without its array index, as both sides of the join spell it; `[]` is the parent of an array."""

    written: bytes
    lrms_job_id: str
    join_id: str
    array_index: int | None
    is_parent: bool


@dataclass(frozen=True, slots=True)
class Line:
    """The four parts of a line; `logged_at` is its time in Unix seconds."""

    logged_at: int
    kind: str
    job: JobId
    message: bytes


def split_line(unit: bytes, zone: dt.tzinfo) -> Line:
    """Raises: Reject for a line that is not of the four parts, or whose time does not exist."""
    parts = unit.split(b";", 3)
    logged_at = instant(parts[0], zone)
    if len(parts) < 4:
        raise Reject("fewer than four parts between semicolons")
    _, kind, written, message = parts
    if len(kind) != 1 or not kind.isalpha():
        raise Reject("the record type is not one letter")
    if not written:
        raise Reject("the job id is empty")
    if b";" in message and _SECOND_LINE.search(message):
        raise Reject("two records run together on one line")
    return Line(logged_at, kind.decode(), job_id(written), message)


def instant(stamp: bytes, zone: dt.tzinfo) -> int:
    """Unix seconds of `MM/DD/YYYY HH:MM:SS`, local time of the server; the first of two in the hour that comes twice."""
    match = _STAMP.fullmatch(stamp)
    if not match:
        raise Reject("it does not begin with MM/DD/YYYY HH:MM:SS; (cut off what grep or syslog put before it)")
    month, day, year, hour, minute, second = map(int, match.groups())
    try:
        seconds = int(dt.datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp())
    except (ValueError, OverflowError) as error:
        raise Reject("its date or time does not exist") from error
    if not 0 < seconds <= LAST_INSTANT:
        raise Reject("its date is not between 1970 and 2099")
    return seconds


def job_id(written: bytes) -> JobId:
    """`123.server`, `123`, `123[4].server`, `123-4.server` (Torque before 2.4), `123[].server`; any other id is taken whole."""
    match = _ID.fullmatch(written)
    if not match:
        return JobId(written, text_of(written), text_of(written), None, is_parent=False)
    number, bracketed, dashed, server = match.groups()
    index = bracketed or dashed
    without = text_of(number + (server or b""))
    return JobId(written, without, number.decode(), int(index) if index else None, is_parent=bracketed == b"")


def attributes(message: bytes) -> Attributes:
    """The attributes of a message, quotes around a value taken off; of a resource that is named twice, the last value.

    Raises: Reject for text before the first one, or an attribute of the job with two different values.
    """
    message = message.strip(b" ")
    last_quotes = {quote: message.rfind(quote + b" ") for quote in (b'"', b"'")}
    found: Attributes = {}
    at = 0
    while at < len(message):
        match = _NAME.match(message, at)
        if not match:
            raise Reject("text before the first attribute")
        name, start = match[1], match.end()
        closing = _closing_quote(message, start, last_quotes)
        end = _blank(message, start if closing < 0 else closing)
        while end < len(message) and _goes_on(message, end + 1, name):
            end = _blank(message, end + 1)
        value = message[start + 1 : closing] if end == closing + 1 else message[start:end]
        if found.setdefault(name, value) != value:
            if name in NAMES:
                raise Reject(f"{name.decode()} has two values: two records run together")
            found[name] = value
        at = end + 1
    return found


def _closing_quote(message: bytes, start: int, last_quotes: dict[bytes, int]) -> int:
    """Where the quoted value that begins at `start` closes: at the first such quote before a blank, or at the end; else -1."""
    quote = message[start : start + 1]
    if start < last_quotes.get(quote, -1):
        return message.find(quote + b" ", start + 1)
    is_last = quote in last_quotes and len(message) > start + 1 and message.endswith(quote)
    return len(message) - 1 if is_last else -1


def _blank(message: bytes, at: int) -> int:
    found = message.find(b" ", at)
    return len(message) if found < 0 else found


def _goes_on(message: bytes, at: int, name: bytes) -> bool:
    """Whether the text after a blank belongs to the value of `name`."""
    match = _NAME.match(message, at)
    if not match:
        return True
    return name in FREE_TEXT and match[1] not in NAMES and not match[1].startswith(FAMILIES)


def time_of(found: Attributes, name: bytes) -> int | None:
    """An attribute in Unix seconds; None if it is 0 or not there.  Raises: Reject for what is no time a log can hold."""
    raw = found.get(name)
    if raw is None:
        return None
    if not _NUMBER.fullmatch(raw):
        raise Reject(f"{name.decode()} is not a time in Unix seconds")
    if int(raw) > LAST_INSTANT:
        raise Reject(f"{name.decode()} is impossible: after 2099")
    return int(raw) or None


def count_of(found: Attributes, name: bytes) -> int | None:
    """An attribute that is a plain number of at most ten digits; None for any other, or none."""
    raw = found.get(name, b"")
    return int(raw) if _NUMBER.fullmatch(raw) else None


def duration_s(raw: bytes, name: str) -> int | None:
    """`H:M:S` or seconds; None if it is negative, which has no meaning.  Raises: Reject for any other text."""
    match = _DURATION.fullmatch(raw)
    if match:
        hours, minutes, seconds = match.groups()
        return int(hours) if minutes is None else 3600 * int(hours) + 60 * int(minutes) + int(seconds)
    if _BELOW_ZERO.fullmatch(raw):
        return None
    raise Reject(f"{name} is no duration")


def size_kib(raw: bytes, name: str) -> int | None:
    """A size in KiB, rounded down: a number, k m g t p e for powers of 1024, b for bytes or w for words of eight; `12.27M` too.

    None if it is negative.  Raises: Reject for any other text.
    """
    match = _SIZE.fullmatch(raw)
    if not match:
        if raw.startswith(b"-") and _SIZE.fullmatch(raw[1:]):
            return None
        raise Reject(f"{name} is no size")
    number, prefix, unit = match.groups()
    size = Fraction(number.decode()) * (8 if unit in (b"w", b"W") else 1) * (1 << 10 * b" kmgtpe".index(prefix.lower() or b" "))
    kib = math.floor(size / 1024)
    if kib > LARGEST_KIB:
        raise Reject(f"{name} is impossible: more than all memory there is")
    return kib
