r"""Spool files of the node daemon: an object a line for each program that ended, each loaded object, each member of a group.

    {"v":1,"record_key":"n1/3f0c/4711/1790000000123456789/1","host":"n1","boot_id":"3f0c","pid":4711,"kind":"program",
    "started_at":1790000000,"logged_at":1790000003,"program":"/usr/bin/gcc","arguments":["gcc","-c","a.c"],"ended_by":"exit",
    "exit_code":0,"processes":1,"seen_by":["connector","sensor"]}                                         (one line, shortened)

`v` is the version of the form, 1. The other keys are the columns of the record (see the page of records), without its hash and
origin; `site` is the source's, and so is `cluster` where the line has none. Instants are whole Unix seconds, times in `_ns`
Unix nanoseconds, both UTC: no zone is needed. Lists and objects are such in JSON, and stored as JSON text without blanks. What
is not known is left out (null, or an empty text, is taken for that).

`procs` yields the processes, `procs-objects` the loaded objects, `procs-groups` the members of groups. A line that lacks a
required key, has one that the form does not know, or a value of another kind is a reject that names the key. A record has its key
from the daemon, `HOST/BOOT/PID/START_NS/N` for a process: the same line read again is known.

Source of the format: this program's own daemon writes it (`procacct.node`), and this page is its specification.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import NoReturn

from batchacct.model import INSTANT, INTEGER, OBJECT, PROCESS, PROCESS_GROUP, REAL, Record, RecordType, text_of
from batchacct.model_processes import ENDINGS, JOB_SOURCES, PROCESS_KINDS
from batchacct.parsing import Outcome, Reject, Source, UnitParser

VERSION = 1
SEEN_BY = ("acct", "connector", "sensor", "taskstats", "proc")
_ORIGIN = frozenset(("content_hash", "site", "native", "source", "source_offset", "parser"))
_WORDS = {"kind": PROCESS_KINDS, "ended_by": ENDINGS, "job_from": JOB_SOURCES}
_LISTS = ("arguments", "modules", "seen_by")
_TEXTS_BY_NAME, _CLAIMS = "environment", "job_claims"
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

Check = Callable[[str, object], object]


def parse_process(unit: bytes, source: Source) -> Outcome:
    """One line to a process.  Raises: Reject naming the key that is missing, unknown, or of the wrong kind."""
    record = _record(PROCESS, unit, source)
    if (record["processes"] == 0) != (record["kind"] == "gap"):
        raise Reject("processes: it is 0 of a gap, and of nothing else")
    if record["kind"] == "gap" and record.get("lost_events") is None:
        raise Reject("lost_events: a gap says how many were lost")
    return record


def parse_object(unit: bytes, source: Source) -> Outcome:
    """One line to an object of a set.  Raises: Reject as `parse_process`."""
    return _record(OBJECT, unit, source)


def parse_membership(unit: bytes, source: Source) -> Outcome:
    """One line to a process in a group.  Raises: Reject as `parse_process`."""
    return _record(PROCESS_GROUP, unit, source)


def object_of(unit: bytes) -> dict[str, object]:
    """The JSON object of a line.  Raises: Reject."""
    try:
        found = json.loads(unit.decode("utf-8", "surrogateescape"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Reject("it is no JSON object on one line") from error
    if not isinstance(found, dict):
        raise Reject("it is no JSON object on one line")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def _record(record_type: RecordType, unit: bytes, source: Source) -> Record:
    found = object_of(unit)
    version = found.pop("v", None)
    if not isinstance(version, int) or isinstance(version, bool) or version != VERSION:
        raise Reject(f"v: version {VERSION} of the form is due")
    checks = _CHECKS[record_type.name]
    record: Record = {}
    for key, value in found.items():
        check = checks.get(key)
        if check is None:
            raise Reject(f"{_shown(key)}: it is no key of {record_type.name} records in version {VERSION}")
        if value is not None and value != "":
            record[key] = check(key, value)
    for name in _REQUIRED[record_type.name]:
        if name not in record:
            raise Reject(f"{name}: it is missing")
    if "cluster" not in record and source.cluster is None:
        raise Reject("cluster: neither the line nor the configuration of the source names one")
    return record


def _shown(key: str) -> str:
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
    if value not in _WORDS[key]:
        raise Reject(f"{key}: one of {', '.join(_WORDS[key])} is due")
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
    return _dumped(value)


def _texts_by_name(key: str, value: object) -> str:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise Reject(f"{key}: an object of texts is due")
    return _dumped(value)


def _claims(key: str, value: object) -> str:
    if not isinstance(value, dict):
        raise Reject(f"{key}: an object is due")
    return _dumped(value)


def _dumped(value: object) -> str:
    """JSON text without blanks; a NUL is an escape of JSON in it, and stays one."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(_mended(value), ensure_ascii=False, separators=(",", ":"))
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


def _checks_of(record_type: RecordType) -> dict[str, Check]:
    by_type: dict[object, Check] = {INTEGER: _integer, INSTANT: _integer, REAL: _real}
    special: dict[str, Check] = {**dict.fromkeys(_WORDS, _word), **dict.fromkeys(_LISTS, _texts)}
    special |= {_TEXTS_BY_NAME: _texts_by_name, _CLAIMS: _claims}
    return {c.name: special.get(c.name) or by_type.get(c.type, _text) for c in record_type.columns if c.name not in _ORIGIN}


_TYPES = (PROCESS, OBJECT, PROCESS_GROUP)
_CHECKS = {t.name: _checks_of(t) for t in _TYPES}
_REQUIRED = {t.name: tuple(c.name for c in t.columns if c.required and c.name not in _ORIGIN | {"cluster"}) for t in _TYPES}

_PROCESS = re.compile(rb'\A\{"v":1,[^\n]*"kind":"(?:program|fork|gap)"')
_OBJECT = re.compile(rb'\A\{"v":1,[^\n]*"object_set":"[^\n]*"path":"')
_MEMBERSHIP = re.compile(rb'\A\{"v":1,[^\n]*"group_id":"')


def _parser(
    name: str, record_type: RecordType, parse_unit: Callable[[bytes, Source], Outcome], head: re.Pattern[bytes]
) -> UnitParser:
    def recognise(found: bytes) -> bool:
        return head.match(found) is not None

    return UnitParser(
        name=name, record_type=record_type, lrms=None, version=1, parse_unit=parse_unit, doc=__doc__ or "", recognise=recognise
    )


PROCESSES = _parser("procs", PROCESS, parse_process, _PROCESS)
OBJECTS = _parser("procs-objects", OBJECT, parse_object, _OBJECT)
GROUPS = _parser("procs-groups", PROCESS_GROUP, parse_membership, _MEMBERSHIP)
