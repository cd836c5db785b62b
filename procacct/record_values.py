"""The values of a spool line: for each key a function from it and the JSON value to what is stored, which may raise Reject."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from batchacct.model import INSTANT, INTEGER, REAL, RecordType, text_of
from batchacct.model_processes import ENDINGS, JOB_SOURCES, PROCESS_KINDS
from batchacct.parsing import Reject

SEEN_BY = ("acct", "connector", "sensor", "taskstats", "proc")
ORIGIN = frozenset(("content_hash", "site", "native", "source", "source_offset", "parser"))
WORDS = {"kind": PROCESS_KINDS, "ended_by": ENDINGS, "job_from": JOB_SOURCES}
LISTS = ("arguments", "modules", "seen_by")
TEXTS_BY_NAME, CLAIMS = "environment", "job_claims"
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

Check = Callable[[str, object], object]


def shown(key: str) -> str:
    return text_of(key[:40].encode("utf-8", "backslashreplace"))


def _valid(text: str) -> str:
    """Text that every database keeps: bytes that were no UTF-8, lone surrogates and NUL as their escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text_of(text.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            return text_of(text.encode("utf-8", "backslashreplace"))
    return text.replace("\0", "\\x00")


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise Reject(f"{key}: a text is due")
    return _valid(value)


def _word(key: str, value: object) -> str:
    if value not in WORDS[key]:
        raise Reject(f"{key}: one of {', '.join(WORDS[key])} is due")
    return str(value)


def _integer(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Reject(f"{key}: a whole number is due")
    if not _LEAST <= value <= _MOST:
        raise Reject(f"{key}: it is no number of 64 bits")
    return value


def _real(key: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Reject(f"{key}: a number is due")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Reject(f"{key}: it is too large a number")
    return number


def _texts(key: str, value: object) -> str:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Reject(f"{key}: a list of texts is due")
    if key == "seen_by" and not (value and set(value) <= set(SEEN_BY)):
        raise Reject(f"seen_by: a list of some of {', '.join(SEEN_BY)} is due")
    return dumped(value)


def _texts_by_name(key: str, value: object) -> str:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise Reject(f"{key}: an object of texts is due")
    return dumped(value)


def _claims(key: str, value: object) -> str:
    if not isinstance(value, dict):
        raise Reject(f"{key}: an object is due")
    return dumped(value)


def dumped(value: object) -> str:
    """JSON text without blanks; a NUL is an escape of JSON in it, and stays one."""
    text = _ENCODER.encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = _ENCODER.encode(_mended(value))
    return text


def _mended(value: object) -> object:
    """The same with valid text in it."""
    if isinstance(value, str):
        return _valid(value)
    if isinstance(value, list):
        return [_mended(one) for one in value]
    if isinstance(value, dict):
        return {_valid(name): _mended(one) for name, one in value.items()}
    return value


def checks_of(record_type: RecordType) -> dict[str, Check]:
    by_type: dict[object, Check] = {INTEGER: _integer, INSTANT: _integer, REAL: _real}
    special: dict[str, Check] = {**dict.fromkeys(WORDS, _word), **dict.fromkeys(LISTS, _texts)}
    special |= {TEXTS_BY_NAME: _texts_by_name, CLAIMS: _claims}
    return {c.name: special.get(c.name) or by_type.get(c.type, _text) for c in record_type.columns if c.name not in ORIGIN}
