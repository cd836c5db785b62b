"""A reader of APEL individual job messages that refuses what a receiver refuses.

Written from the description of apel/apel 2.5.0 and its server database (strict mode), and from nothing else: it shares
no code with what writes the messages. `LAYOUT_2012` reads the 2012 batchacct's layout as well.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Job = dict[str, object]

APEL = "apel"
LAYOUT_2012 = "2012"

PARSE = "parse"
DATABASE = "database"

TEXT_LIMITS = {
    "Site": 255,
    "SubmitHost": 255,
    "MachineName": 255,
    "Queue": 100,
    "LocalJobId": 255,
    "LocalUserId": 255,
    "GlobalUserName": 255,
    "FQAN": 255,
    "VO": 255,
    "VOGroup": 255,
    "VORole": 255,
    "InfrastructureDescription": 100,
    "InfrastructureType": 20,
    "ServiceLevelType": 50,
}
INTEGERS = ("WallDuration", "CpuDuration", "Processors", "NodeCount", "MemoryReal", "MemoryVirtual")
TIMES = ("StartTime", "EndTime")
KNOWN = {*TEXT_LIMITS, *INTEGERS, *TIMES, "ServiceLevel", "SubmitHostType", "UpdateTime"}
MANDATORY = ("Site", "LocalJobId", "WallDuration", "CpuDuration", "StartTime", "EndTime")
TEXT_STAYS = ("VO", "VOGroup", "VORole")
BENCHMARKS = ("hepscore23", "hepspec", "si2k")
TWO_DAYS_S = 172_800


class Refused(Exception):  # noqa: N818 - what the receiver says, not a fault of the reader
    """The receiver refuses the whole message."""

    def __init__(self, reason: str, stage: str = PARSE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stage = stage


class Crashed(Refused):
    """The receiver refuses it by dying of an exception it does not catch."""


def read_message(text: bytes, layout: str = APEL, now: float | None = None) -> list[Job]:
    """The jobs of a message, by the names of its fields; a null value is None.

    Raises: Refused
    """
    at = time.time() if now is None else now
    try:
        body = text.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise Refused(f"not UTF-8: {error}") from error
    if not body:
        raise Crashed("nothing but white space")
    header, _, rest = body.partition("\n")
    version = _version(header.strip())
    known = KNOWN | {"Infrastructure"} if layout == LAYOUT_2012 else KNOWN
    jobs = [_parsed(block, version, known, at) for block in (b.strip() for b in rest.split("%%")) if block]
    for job in jobs:
        _store(job)
    return jobs


def _version(header: str) -> str:
    kind, colon, version = header.partition(":")
    if not colon or kind.strip() != "APEL-individual-job-message":
        raise Refused(f"not the header of a job message: {header!r}")
    return version.strip()


def _parsed(block: str, version: str, known: set[str], now: float) -> Job:
    job: Job = {}
    for line in block.split("\n"):
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon:
            raise Refused(f"a line without a colon: {line!r}")
        if key not in known:
            raise Refused(f"Unknown field: {key}")
        if version == "v0.4" and key == "ServiceLevel":
            _read_dictionary(job, value)
        else:
            job[key] = None if value.lower() in {"", "none", "null"} and key not in TEXT_STAYS else value
    for name in INTEGERS:
        _convert(job, name, _integer)
    for name in TIMES:
        _convert(job, name, _instant)
    _convert(job, "ServiceLevel", _real)
    _check_parsed(job, version, now)
    return job


def _read_dictionary(job: Job, value: str) -> None:
    if not (value.startswith("{") and value.endswith("}")):
        raise Refused(f"ServiceLevel is no dictionary: {value}")
    figures: dict[str, float] = {}
    spelled: set[str] = set()
    for pair in value[1:-1].split(","):
        key, colon, figure = (part.strip() for part in pair.partition(":"))
        if not colon or key in spelled:
            raise Refused(f"ServiceLevel holds {pair!r}")
        spelled.add(key)
        figures[key.lower()] = _real(figure)
    for name in BENCHMARKS:
        if name in figures:
            if job.get("ServiceLevelType") not in {None, name}:
                raise Refused("Mixture of benchmark types detected")
            job["ServiceLevelType"], job["ServiceLevel"] = name, str(figures[name])
            return
    raise Refused("No valid benchmark type found")


def _convert(job: Job, name: str, conversion: Callable[[str], object]) -> None:
    value = job.get(name)
    if isinstance(value, str):
        try:
            job[name] = conversion(value)
        except (ValueError, OverflowError) as error:
            raise Refused(f"Invalid value {value} in field {name}: {error}") from error


def _integer(value: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", value):
        raise ValueError("not a plain integer")
    return int(value)


def _real(value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise Refused(f"not a number: {value}") from error


def _instant(value: str) -> int:
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value):
        return int(dt.datetime.fromisoformat(value).timestamp())
    seconds = _integer(value)
    dt.datetime.fromtimestamp(seconds, dt.UTC)
    return seconds


def _check_parsed(job: Job, version: str, now: float) -> None:
    for name in MANDATORY:
        if job.get(name) is None:
            raise Refused(f"Mandatory field {name} not specified.")
    start, end = job["StartTime"], job["EndTime"]
    assert isinstance(start, int)
    assert isinstance(end, int)
    if end < start:
        raise Refused("EndTime is before StartTime.")
    if end > now + TWO_DAYS_S:
        raise Refused("EndTime is in the future.")
    kind, figure = job.get("ServiceLevelType"), job.get("ServiceLevel")
    if version == "v0.4" and "ServiceLevel" not in job:
        raise Crashed("ServiceLevelType")
    if (kind is None) != (figure is None):
        raise Refused("ServiceLevelType and ServiceLevel go together")
    if isinstance(kind, str) and kind.lower() not in BENCHMARKS:
        raise Refused(f"ScalingFactorUnit {kind} not valid.")


def _store(job: Job) -> None:
    """What the stored procedure and the checks before it refuse."""
    if job.get("ServiceLevelType") is None:
        raise Refused("ScalingFactorUnit custom not valid.", DATABASE)
    for name in INTEGERS:
        number = job.get(name)
        if isinstance(number, int) and not 0 <= number <= 2**31 - 1:
            raise Refused(f"Out of range value for {name}", DATABASE)
    figure = job["ServiceLevel"]
    assert isinstance(figure, float)
    if math.isnan(figure) or abs(figure) >= 9_999_999.9995:
        raise Refused("Out of range value for ServiceLevel", DATABASE)
    for name, limit in TEXT_LIMITS.items():
        value = job.get(name)
        if not isinstance(value, str):
            continue
        try:
            stored = value.encode("latin-1")
        except UnicodeEncodeError as error:
            raise Refused(f"Incorrect string value for {name}", DATABASE) from error
        if len(stored) > limit:
            raise Refused(f"Data too long for {name}", DATABASE)
