"""A reader of APEL messages (jobs, summaries, sync) that refuses what a receiver refuses.

Written from the description of apel/apel 2.5.0 and its server database (strict mode), and from nothing else: it shares
no code with what writes the messages. `LAYOUT_2012` reads the 2012 batchacct's layout as well.

`read_message` is the loader. `read_as_documented` asks more: what else stands between a publisher and the loader (the SSM sender,
which reads ASCII; a router, which compares the first line byte for byte), and what each version's documentation says of its fields.
`as_stored` is what the server keeps of a job.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Job = dict[str, object]
"""A record of whatever kind."""

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
LARGEST_INT = 2**31 - 1
LARGEST_BIGINT = 2**63 - 1
MOST_RECORDS = 5000

_WHOSE = ("Site", "Month", "Year", "GlobalUserName", "VO", "VOGroup", "VORole", "SubmitHost")
_SIZES = ("NodeCount", "Processors", "EarliestEndTime", "LatestEndTime", "WallDuration", "CpuDuration")
_NORMALISED = ("NormalisedWallDuration", "NormalisedCpuDuration")


class Refused(Exception):  # noqa: N818 - what the receiver says, not a fault of the reader
    """The receiver refuses the whole message."""

    def __init__(self, reason: str, stage: str = PARSE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stage = stage


class Crashed(Refused):
    """The receiver refuses it by dying of an exception it does not catch."""


@dataclass(frozen=True)
class Kind:
    """What a kind of record is known by and must hold; `not_null` are columns of the database."""

    known: frozenset[str]
    mandatory: tuple[str, ...]
    integers: tuple[str, ...]
    times: tuple[str, ...]
    check: Callable[[Job, float], None]
    store: Callable[[Job], None]
    dictionaries: tuple[str, ...] = ()
    not_null: tuple[str, ...] = ()


def read_message(text: bytes, layout: str = APEL, now: float | None = None) -> list[Job]:
    """The records of a message, by the names of its fields; a null value is None.

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
    kind = _kind_of(header.strip())
    known = kind.known | {"Infrastructure"} if layout == LAYOUT_2012 else kind.known
    records = [_parsed(block, kind, known, at) for block in (b.strip() for b in rest.split("%%")) if block]
    for record in records:
        store(record, kind)
    return records


def read_as_documented(text: bytes, now: float | None = None) -> list[Job]:
    """As `read_message`, of a message that every part of the way takes and that says what its version's documentation lets it say.

    Raises: Refused
    """
    if not text.isascii():
        raise Refused("not ASCII: the SSM sender stops at it")
    header, _, rest = text.decode("ascii").partition("\n")
    if header not in ORDER:
        raise Refused(f"a router does not know the first line {header!r}")
    records = read_message(text, now=now)
    if not 1 <= len(records) <= MOST_RECORDS:
        raise Refused(f"{len(records)} records")
    for block in rest.split("%%")[:-1]:
        labels = [line.partition(":")[0] for line in block.strip().split("\n")]
        if labels != [label for label in ORDER[header] if label in labels]:
            raise Refused(f"fields that are not those of {header}, in their order: {labels}")
    if header == "APEL-individual-job-message: v0.2":
        for record in records:
            if str(record["ServiceLevelType"]).lower() not in {"si2k", "hepspec"}:
                raise Refused(f"{record['ServiceLevelType']} came with v0.3")
    return records


def as_stored(job: Job) -> Job:
    """What the server keeps of a job that was read: VO, group and role by its FQAN, and something in the place of nothing.

    A text that is not there is the text `None`, in whichever column.
    """
    stored: Job = {name: job.get(name) for name in (*TEXT_LIMITS, *INTEGERS, *TIMES, "ServiceLevel")}
    fqan = job.get("FQAN")
    if isinstance(fqan, str):
        stored |= dict(zip(TEXT_STAYS, _of_fqan(fqan), strict=True))
    for name in TEXT_LIMITS:
        stored[name] = "None" if stored[name] is None else stored[name]
    for name in ("Processors", "NodeCount"):
        stored[name] = stored[name] or 0
    figure = job["ServiceLevel"]
    assert isinstance(figure, int | float)
    stored["ServiceLevel"] = round(float(figure), 3)
    return stored


def _of_fqan(fqan: str) -> tuple[str, str, str]:
    """VO, group and role: of the first FQAN, the first component, all before the role, the component that begins with `role=`."""
    primary = fqan.split(";", maxsplit=1)[0]
    if not primary.startswith("/"):
        return primary, "None", "None"
    group, role = "", "None"
    for component in primary.split("/"):
        if component.lower().startswith("role="):
            role = component
            break
        if component:
            group += "/" + component
    return primary.split("/")[1], group, role


def _kind_of(header: str) -> Kind:
    name, colon, version = header.partition(":")
    name, version = name.strip(), version.strip()
    if not colon or ((name, version) not in KINDS and name not in {"APEL-individual-job-message", "APEL-sync-message"}):
        raise Refused(f"not a header: {header!r}")
    if name == "APEL-sync-message":
        return SYNC
    return KINDS.get((name, version), JOB)


def _parsed(block: str, kind: Kind, known: frozenset[str], now: float) -> Job:
    record: Job = {}
    for line in block.split("\n"):
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon:
            raise Refused(f"a line without a colon: {line!r}")
        if key not in known:
            raise Refused(f"Unknown field: {key}")
        if key in kind.dictionaries:
            _read_dictionary(record, key, value)
        else:
            record[key] = None if value.lower() in {"", "none", "null"} and key not in TEXT_STAYS else value
    for name in kind.integers:
        _convert(record, name, _truncated if name in kind.dictionaries else _integer)
    for name in kind.times:
        _convert(record, name, _instant)
    _convert(record, "ServiceLevel", _real)
    check(record, kind, now)
    return record


def check(record: Job, kind: Kind, now: float) -> None:
    """What the loader looks at once a record is parsed.  Raises: Refused."""
    for name in kind.mandatory:
        if record.get(name) is None:
            raise Refused(f"Mandatory field {name} not specified.")
    kind.check(record, now)


def store(record: Job, kind: Kind) -> None:
    """What the database, and what is asked before it, looks at.  Raises: Refused."""
    for name in kind.not_null:
        if record.get(name) is None:
            raise Refused(f"Column '{name}' cannot be null", DATABASE)
    kind.store(record)
    _fit(record)


def _read_dictionary(record: Job, field: str, value: str) -> None:
    if not (value.startswith("{") and value.endswith("}")):
        raise Refused(f"{field} is no dictionary: {value}")
    figures: dict[str, float] = {}
    spelled: set[str] = set()
    for pair in value[1:-1].split(","):
        key, colon, figure = (part.strip() for part in pair.partition(":"))
        if not colon or key in spelled:
            raise Refused(f"{field} holds {pair!r}")
        spelled.add(key)
        figures[key.lower()] = _real(figure)
    for name in BENCHMARKS:
        if name in figures:
            if record.get("ServiceLevelType") not in {None, name}:
                raise Refused("Mixture of benchmark types detected")
            record["ServiceLevelType"], record[field] = name, str(figures[name])
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


def _truncated(value: str) -> int:
    return int(float(value))


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


def _check_job(job: Job, now: float) -> None:
    start, end = job["StartTime"], job["EndTime"]
    assert isinstance(start, int)
    assert isinstance(end, int)
    if end < start:
        raise Refused("EndTime is before StartTime.")
    if end > now + TWO_DAYS_S:
        raise Refused("EndTime is in the future.")
    kind, figure = job.get("ServiceLevelType"), job.get("ServiceLevel")
    if (kind is None) != (figure is None):
        raise Refused("ServiceLevelType and ServiceLevel go together")
    if isinstance(kind, str) and kind.lower() not in BENCHMARKS:
        raise Refused(f"ScalingFactorUnit {kind} not valid.")


def _check_job_04(job: Job, now: float) -> None:
    if "ServiceLevel" not in job:
        raise Crashed("ServiceLevelType")
    _check_job(job, now)


def _store_job(job: Job) -> None:
    """What the stored procedure and the checks before it refuse."""
    if job.get("ServiceLevelType") is None:
        raise Refused("ScalingFactorUnit custom not valid.", DATABASE)
    _in_range(job, INTEGERS, LARGEST_INT)


def _check_summary(record: Job, now: float) -> None:
    month, year = record["Month"], record["Year"]
    assert isinstance(month, int)
    assert isinstance(year, int)
    try:
        begins = dt.datetime(year, month, 1, tzinfo=dt.UTC).timestamp()
        ends = dt.datetime(year + month // 12, month % 12 + 1, 1, tzinfo=dt.UTC).timestamp()
    except ValueError as error:
        raise Refused("Invalid values for month and/or year.") from error
    earliest, latest = record.get("EarliestEndTime"), record.get("LatestEndTime")
    if isinstance(earliest, int) and isinstance(latest, int):
        if not begins <= earliest <= ends:
            raise Refused("EarliestEndTime is not within stated month.")
        if not begins <= latest <= ends:
            raise Refused("LatestEndTime is not within stated month.")
        if earliest > latest:
            raise Refused("LatestEndTime is earlier than EarliestEndTime.")
    if begins > now:
        raise Refused("Month specified in record is in the future.")
    for name in ("WallDuration", "CpuDuration", *_NORMALISED):
        duration = record.get(name)
        if isinstance(duration, int) and duration < 0:
            raise Refused(f"Negative {name}")


def _store_summary(record: Job) -> None:
    _in_range(record, ("Month", "Year", "NodeCount", "Processors", "NumberOfJobs"), LARGEST_INT)
    _in_range(record, ("WallDuration", "CpuDuration", *_NORMALISED), LARGEST_BIGINT)


def _in_range(record: Job, names: tuple[str, ...], most: int) -> None:
    for name in names:
        number = record.get(name)
        if isinstance(number, int) and not 0 <= number <= most:
            raise Refused(f"Out of range value for {name}", DATABASE)


def _fit(record: Job) -> None:
    """What no column takes."""
    figure = record.get("ServiceLevel")
    if isinstance(figure, float) and (math.isnan(figure) or abs(figure) >= 9_999_999.9995):
        raise Refused("Out of range value for ServiceLevel", DATABASE)
    for name, limit in (TEXT_LIMITS | {"Infrastructure": 20}).items():
        value = record.get(name)
        if not isinstance(value, str):
            continue
        try:
            stored = value.encode("latin-1")
        except UnicodeEncodeError as error:
            raise Refused(f"Incorrect string value for {name}", DATABASE) from error
        if len(stored) > limit:
            raise Refused(f"Data too long for {name}", DATABASE)


JOB = Kind(frozenset(KNOWN), MANDATORY, INTEGERS, TIMES, _check_job, _store_job)
JOB_04 = Kind(frozenset(KNOWN), MANDATORY, INTEGERS, TIMES, _check_job_04, _store_job, ("ServiceLevel",))


def _summary(more: tuple[str, ...], not_null: tuple[str, ...], dictionaries: tuple[str, ...] = ()) -> Kind:
    normalised = _NORMALISED if _NORMALISED[0] in more else ()
    integers = ("Month", "Year", "NodeCount", "Processors", "WallDuration", "CpuDuration", *normalised, "NumberOfJobs")
    mandatory = ("Site", "Month", "Year", "WallDuration", "CpuDuration", *normalised, "NumberOfJobs")
    known = frozenset((*_WHOSE, *_SIZES, *more, "ServiceLevelType", "InfrastructureDescription", "NumberOfJobs", "UpdateTime"))
    times = ("EarliestEndTime", "LatestEndTime")
    return Kind(known, mandatory, integers, times, _check_summary, _store_summary, dictionaries, not_null)


SYNC = Kind(
    frozenset(("Site", "SubmitHost", "NumberOfJobs", "Month", "Year")),
    ("Site", "NumberOfJobs", "Month", "Year"),
    ("NumberOfJobs", "Month", "Year"),
    (),
    lambda record, now: None,
    lambda record: _in_range(record, ("NumberOfJobs", "Month", "Year"), LARGEST_INT),
)
_OF_SUMMARY = ("ServiceLevelType", "ServiceLevel", "NodeCount", "Processors")
KINDS = {
    ("APEL-individual-job-message", "v0.4"): JOB_04,
    ("APEL-summary-job-message", "v0.2"): _summary(("InfrastructureType", "ServiceLevel"), _OF_SUMMARY),
    ("APEL-summary-job-message", "v0.3"): _summary(("Infrastructure", *_NORMALISED), _OF_SUMMARY[2:]),
    ("APEL-summary-job-message", "v0.4"): _summary(("InfrastructureType", "ServiceLevel"), _OF_SUMMARY, ("ServiceLevel",)),
    ("APEL-normalised-summary-message", "v0.4"): _summary(("Infrastructure", *_NORMALISED), _OF_SUMMARY[2:], _NORMALISED),
}

_JOB_02 = (
    *("Site", "SubmitHost", "LocalJobId", "LocalUserId", "GlobalUserName", "FQAN", "WallDuration", "CpuDuration", "Processors"),
    *("NodeCount", "StartTime", "EndTime", "MemoryReal", "MemoryVirtual", "ServiceLevelType", "ServiceLevel"),
)
_JOB_03 = (
    *(
        "Site",
        "SubmitHost",
        "MachineName",
        "Queue",
        "LocalJobId",
        "LocalUserId",
        "GlobalUserName",
        "FQAN",
        "VO",
        "VOGroup",
        "VORole",
    ),
    *("WallDuration", "CpuDuration", "Processors", "NodeCount", "StartTime", "EndTime", "InfrastructureDescription"),
    *("InfrastructureType", "MemoryReal", "MemoryVirtual", "ServiceLevelType", "ServiceLevel"),
)
ORDER = {
    "APEL-individual-job-message: v0.2": _JOB_02,
    "APEL-individual-job-message: v0.3": _JOB_03,
    "APEL-individual-job-message: v0.4": tuple(label for label in _JOB_03 if label != "ServiceLevelType"),
    "APEL-summary-job-message: v0.2": (
        *_WHOSE, "InfrastructureType", "ServiceLevelType", "ServiceLevel", *_SIZES, "NumberOfJobs",
    ),
    "APEL-summary-job-message: v0.3": (*_WHOSE, "Infrastructure", *_SIZES, *_NORMALISED, "NumberOfJobs"),
    "APEL-summary-job-message: v0.4": (*_WHOSE, "InfrastructureType", "ServiceLevel", *_SIZES, "NumberOfJobs"),
    "APEL-normalised-summary-message: v0.4": (*_WHOSE, "Infrastructure", *_SIZES, *_NORMALISED, "NumberOfJobs"),
    "APEL-sync-message: v0.1": ("Site", "SubmitHost", "NumberOfJobs", "Month", "Year"),
}  # fmt: skip
"""The first line of a message, and the fields of its records in the order in which they are written."""
