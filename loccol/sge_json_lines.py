"""One line of `accounting.jsonl` (OCS, GCS 9.x) to what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import NoReturn

from batchacct.model import text_of
from batchacct.parsing import Reject
from loccol.sge_runs import Run

MICROSECONDS = 1_000_000
TEXT_NONE = frozenset({"", "NONE"})
NOWHERE = frozenset({"", "NONE", "UNKNOWN", "(null)"})
LARGEST = Decimal(10**18)
SMALLEST_EXPONENT = -40

Object = Mapping[str, object]


def object_of(unit: bytes) -> Object:
    """The JSON object of a line; numbers with a point as Decimal.  Raises: Reject."""
    try:
        found = json.loads(unit.decode("utf-8", "surrogateescape"), parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Reject("it is no JSON object on one line") from error
    if not isinstance(found, dict):
        raise Reject("it is no JSON object on one line")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def run_of_json(unit: bytes) -> Run:
    """What a line of any 9.x version says.  Raises: Reject with the key that is missing or of the wrong kind."""
    return run_of_object(object_of(unit))


def run_of_object(found: Object) -> Run:
    """What an object of any 9.x version says.  Raises: Reject."""
    usage = _inner(found, "usage")
    of_system = _inner(usage, "rusage")
    of_scheduler = _inner(usage, "eusage" if "eusage" in usage else "usage")
    maxrss_bytes = int(_number(of_scheduler, "maxrss", Decimal(0)))
    return Run(
        job_number=_integer(found, "job_number"),
        task_number=_integer(found, "task_number", 0),
        pe_taskid=_text(found, "pe_taskid") or _text(found, "pe_task_id"),
        queue=_text(found, "qname", NOWHERE),
        host=_text(found, "hostname", NOWHERE),
        owner=_text(found, "owner"),
        group=_text(found, "group"),
        job_name=_text(found, "job_name"),
        account=_text(found, "account"),
        project=_text(found, "project"),
        granted_pe=_text(found, "granted_pe"),
        slots=_integer(found, "slots"),
        submit=_integer(found, "submission_time") // MICROSECONDS,
        start=_integer(found, "start_time") // MICROSECONDS,
        end=_integer(found, "end_time") // MICROSECONDS,
        failed=_integer(found, "failed"),
        exit_status=_integer(found, "exit_status"),
        wallclock=_number(of_system, "ru_wallclock"),
        cpu=_number(of_scheduler, "cpu"),
        mem=_number(of_scheduler, "mem"),
        io=_number(of_scheduler, "io"),
        ioops=_number(of_scheduler, "ioops") if "ioops" in of_scheduler else None,
        maxvmem_bytes=int(_number(of_scheduler, "maxvmem", Decimal(0))),
        rss_kib=maxrss_bytes // 1024 if maxrss_bytes > 0 else int(_number(of_system, "ru_maxrss", Decimal(0))),
        category=_text(found, "category") or "",
        granted="",
        submit_host=_text(found, "submit_host"),
        command=_text(found, "submit_cmd_line"),
        deleted_by=_text(found, "deleted_by"),
    )


def _inner(found: Object, key: str) -> Object:
    inner = found.get(key)
    if not isinstance(inner, dict):
        raise Reject(f"{key}: an object is due")
    return inner


def _text(found: Object, key: str, none: frozenset[str] = TEXT_NONE) -> str | None:
    """Valid text; None where it is absent or stands for nothing.  Raises: Reject."""
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Reject(f"{key}: a text is due")
    if value in none:
        return None
    return text_of(_bytes(value))


def _bytes(text: str) -> bytes:
    """Bytes that were no UTF-8 as they stood; a lone surrogate (`\\ud800` in the JSON) as its escape."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _integer(found: Object, key: str, absent: int | None = None) -> int:
    value = found.get(key, absent)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Reject(f"{key}: a whole number is due")
    return value


def _number(found: Object, key: str, absent: Decimal | None = None) -> Decimal:
    """A number that an accounting record can hold.  Raises: Reject."""
    value = found.get(key, absent)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return Decimal(value)
    if isinstance(value, Decimal) and abs(value) <= LARGEST and value.as_tuple().exponent in range(SMALLEST_EXPONENT, 19):
        return value
    raise Reject(f"{key}: a number is due")
