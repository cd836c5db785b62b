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

import functools
import json
import re
from collections.abc import Callable
from typing import NoReturn

from batchacct.model import OBJECT, PROCESS, PROCESS_GROUP, Record, RecordType
from batchacct.parsing import Block, Outcome, Regular, Reject, Source, UnitParser
from procacct import records_fast
from procacct.record_values import ORIGIN, checks_of, shown

VERSION = 1


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
            raise Reject(f"{shown(key)}: it is no key of {record_type.name} records in version {VERSION}")
        if value is not None and value != "":
            record[key] = check(key, value)
    for name in _REQUIRED[record_type.name]:
        if name not in record:
            raise Reject(f"{name}: it is missing")
    if "cluster" not in record and source.cluster is None:
        raise Reject("cluster: neither the line nor the configuration of the source names one")
    return record


_TYPES = (PROCESS, OBJECT, PROCESS_GROUP)
_CHECKS = {t.name: checks_of(t) for t in _TYPES}
_REQUIRED = {t.name: tuple(c.name for c in t.columns if c.required and c.name not in ORIGIN | {"cluster"}) for t in _TYPES}

_PROCESS = re.compile(rb'\A\{"v":1,[^\n]*"kind":"(?:program|fork|gap)"')
_OBJECT = re.compile(rb'\A\{"v":1,[^\n]*"object_set":"[^\n]*"path":"')
_MEMBERSHIP = re.compile(rb'\A\{"v":1,[^\n]*"group_id":"')


def _parser(
    name: str, record_type: RecordType, parse_unit: Callable[[bytes, Source], Outcome], head: re.Pattern[bytes]
) -> UnitParser:
    def recognise(found: bytes) -> bool:
        return head.match(found) is not None

    fast_lane: Callable[[Block, Source, str], Regular] = functools.partial(records_fast.fast_lane, record_type)
    return UnitParser(
        name=name,
        record_type=record_type,
        lrms=None,
        version=1,
        parse_unit=parse_unit,
        doc=__doc__ or "",
        fast_lane=fast_lane,
        recognise=recognise,
    )


PROCESSES = _parser("procs", PROCESS, parse_process, _PROCESS)
OBJECTS = _parser("procs-objects", OBJECT, parse_object, _OBJECT)
GROUPS = _parser("procs-groups", PROCESS_GROUP, parse_membership, _MEMBERSHIP)
