"""Readers of usage records in XML: OGF Usage Records, as SGAS reads them too, and EMI CAR, as APEL reads it too.

Written from the schemas and from descriptions of the receivers, with the standard library's parser; they share no code with what
writes the records.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

from lxml import etree

from tests.apel_reader import DATABASE, JOB, TEXT_LIMITS, Job, Refused, _convert, _integer, _real, check, store

SAMPLES = Path(__file__).parent / "samples" / "usage-record-xml"

UR = "http://schema.ogf.org/urf/2003/09/urf"
URWG = "http://www.gridforum.org/2003/ur-wg"
CAR = "http://eu-emi.eu/namespaces/2012/11/computerecord"
SIGNATURES = "{http://www.w3.org/2000/09/xmldsig#}"
SCHEMAS = {UR: "urf-gfd98.xsd", URWG: "urwg-schema.11.xsd", CAR: "car_v1.2.xsd"}

Record = dict[str, object]
"""What a record says: element names, with what tells apart those that may stand several times, to numbers, times and texts."""

_INTEGERS = ("NodeCount", "Processors", "ExitStatus")
_TIMES = ("StartTime", "EndTime", "TimeInstant")
_TOLD_APART_BY = {
    "Memory": ("type", "metric", "storageUnit"),
    "TimeInstant": ("type",),
    "ServiceLevel": ("type",),
    "CpuDuration": ("usageType",),
    "GroupAttribute": ("type",),
    "Resource": ("description",),
    "ConsumableResource": ("description", "units"),
    "GlobalUserName": ("type",),
    "Site": ("type",),
}


@functools.cache
def _schema(name: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(str(SAMPLES / name), etree.XMLParser(no_network=True, load_dtd=False)))


def assert_valid(payload: bytes, namespace: str) -> None:
    _schema(SCHEMAS[namespace]).assertValid(etree.fromstring(payload))


def is_valid(payload: bytes, namespace: str) -> bool:
    return bool(_schema(SCHEMAS[namespace]).validate(etree.fromstring(payload)))


def read_records(payload: bytes, namespace: str) -> list[Record]:
    """The records of a document, whether one or several."""
    root = ET.fromstring(payload)
    elements = list(root) if root.tag == f"{{{namespace}}}UsageRecords" else [root]
    assert {element.tag for element in elements} <= {f"{{{namespace}}}{name}" for name in ("UsageRecord", "JobUsageRecord")}
    return [_record(element, namespace) for element in elements]


def _record(element: Element, namespace: str) -> Record:
    record: Record = {}
    hosts: list[tuple[str, bool]] = []
    for leaf in _leaves(element):
        text, name = leaf.text or "", leaf.tag.removeprefix(f"{{{namespace}}}").removeprefix(SIGNATURES)
        assert all(key.startswith(f"{{{namespace}}}") for key in leaf.attrib), "an attribute without namespace is not seen"
        attributes = {key.partition("}")[2]: value for key, value in leaf.attrib.items()}
        if name == "Host":
            hosts.append((text, attributes.pop("primary", "false") == "true"))
            continue
        label = " ".join([name, *(attributes.pop(key) for key in _TOLD_APART_BY.get(name, ()) if key in attributes)])
        told: Record = {f"{label} {key}": value for key, value in attributes.items()}
        if not told or text:
            told[label] = _value(name, text)
        assert not record.keys() & told.keys(), f"{label} stands twice"
        record |= told
    record["RecordIdentity createTime"] = _instant(str(record["RecordIdentity createTime"]))
    return record | ({"Host": hosts} if hosts else {})


def _leaves(element: Element) -> Iterator[Element]:
    for child in element:
        if len(child):
            yield from _leaves(child)
        else:
            yield child


def _value(name: str, text: str) -> object:
    if name.endswith("Duration"):
        return _seconds(text)
    if name in _TIMES:
        return _instant(text)
    if name in _INTEGERS or name == "Memory":
        return int(text)
    measured = name == "ConsumableResource" or (name == "ServiceLevel" and re.fullmatch(r"[\d.]+", text) is not None)
    return float(text) if measured else text


def _seconds(text: str) -> float:
    """ISO 8601, as APEL has it: a year of 365 days, a month of 2,628,000 s; `PT` is 0."""
    match = re.fullmatch(r"P(\d+Y)?(\d+M)?(\d+W)?(\d+D)?T?(\d+H)?(\d+M)?(\d+(?:[.,]\d*)?S)?", text)
    if match is None:
        raise Refused(f"no duration: {text}")
    units = (31_536_000, 2_628_000, 604_800, 86_400, 3600, 60, 1)
    return sum(float((part or "0S")[:-1].replace(",", ".")) * unit for part, unit in zip(match.groups(), units, strict=True))


def _instant(text: str) -> int:
    """ISO 8601; without a zone it is UTC."""
    try:
        read = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(str(error)) from error
    return int((read if read.tzinfo else read.replace(tzinfo=dt.UTC)).timestamp())


SGAS_LIMITS = {
    "RecordIdentity recordId": 1000,
    "GlobalJobId": 1000,
    "LocalJobId": 500,
    "JobName": 1000,
    "GlobalUserName": 1000,
    "LocalUserId": 100,
    "MachineName": 200,
    "Queue": 200,
    "ProjectName": 200,
    "SubmitHost": 200,
    "Status": 100,
}


def read_as_sgas(payload: bytes) -> dict[str, Record]:
    """What SGAS has stored after this request into an empty database, by recordId; CPU time is the sum of all there are.

    Raises: Refused
    """
    root = ET.fromstring(payload)
    names = [element.tag for element in root] if root.tag == f"{{{UR}}}UsageRecords" else [root.tag]
    if set(names) != {f"{{{UR}}}JobUsageRecord"}:
        raise Refused(f"no usage records: {names}")
    stored: dict[str, Record] = {}
    for record in read_records(payload, UR):
        for name, limit in SGAS_LIMITS.items():
            if len(str(record.get(name, ""))) > limit:
                raise Refused(f"{name} is too long")
        job_id = str(record.get("LocalJobId", ""))
        if "MachineName" not in record or len(job_id) > 120 or job_id.startswith("/"):
            raise Refused("no MachineName, or a LocalJobId that SGAS rewrites")
        if len(",".join(host for host, _ in _hosts(record))) > 2700:
            raise Refused("hosts would be cut")
        cpu = [value for name, value in record.items() if name.split()[0] == "CpuDuration"]
        record["CPU"] = sum(value for value in cpu if isinstance(value, float))
        if any(isinstance(value, float) and value >= 2**31 for name, value in record.items() if "Duration" in name):
            raise Refused("a duration is out of range")
        stored[str(record["RecordIdentity recordId"])] = record
    return stored


def _hosts(record: Record) -> list[tuple[str, bool]]:
    hosts = record.get("Host", [])
    assert isinstance(hosts, list)
    return hosts


_APEL_TEXTS = {
    name: name for name in ("Site", "SubmitHost", "MachineName", "Queue", "LocalJobId", "LocalUserId", "GlobalUserName")
} | {"Group": "VO"}


def read_as_apel(payload: bytes, now: float) -> list[Job]:
    """The jobs of a CAR message as the loader stores them, by the names of its fields; a null value is None.

    Raises: Refused
    """
    text = payload.decode("utf-8").strip()
    if re.sub(r"^<\?xml[^>]*\?>\s*", "", text).startswith(("<!", "<?")):
        raise Refused("XML format not recognised.")
    root = ET.fromstring(text)
    if not root.tag.startswith(f"{{{CAR}}}"):
        raise Refused("XML format not recognised.")
    elements = list(root.iter(f"{{{CAR}}}UsageRecord"))
    if not elements:
        raise Refused("File does not contain car records!")
    jobs = [_job(element) for element in elements]
    for job in jobs:
        try:
            check(job, JOB, now)
        except Refused as refusal:
            raise Refused(refusal.reason, DATABASE) from refusal
        store(job, JOB)
    return jobs


def _job(element: Element) -> Job:
    """Parsed: what cannot be read is not there."""
    job: Job = {}
    for name, field in _APEL_TEXTS.items():
        _tell(job, field, _all(element, name))
    _tell(job, "FQAN", _with(element, "GroupAttribute", "type", "FQAN"))
    _tell(job, "VOGroup", _with(element, "GroupAttribute", "type", "group"))
    _tell(job, "VORole", _with(element, "GroupAttribute", "type", "role"))
    for name in ("Processors", "NodeCount", "ServiceLevel", "WallDuration"):
        _tell(job, name, _all(element, name))
    total, every = _with(element, "CpuDuration", "usageType", "all"), _all(element, "CpuDuration")
    _tell(job, "CpuDuration", total if len(total) == 1 else every if not total else [])
    for field, name, attribute in (
        ("InfrastructureType", "Infrastructure", "type"),
        ("InfrastructureDescription", "Infrastructure", "description"),
        ("ServiceLevelType", "ServiceLevel", "type"),
    ):
        for found in _all(element, name)[:1]:
            _set(job, field, found.get(f"{{{CAR}}}{attribute}") or "")
    for name in ("WallDuration", "CpuDuration"):
        _convert(job, name, lambda value: round(_seconds(value)))
    for name in ("StartTime", "EndTime"):
        _tell(job, name, _all(element, name))
        _convert(job, name, _instant)
    for name in ("Processors", "NodeCount"):
        _convert(job, name, _integer)
    _convert(job, "ServiceLevel", _real)
    return job


def _all(element: Element, name: str) -> list[Element]:
    return list(element.iter(f"{{{CAR}}}{name}"))


def _with(element: Element, name: str, attribute: str, value: str) -> list[Element]:
    return [found for found in _all(element, name) if found.get(f"{{{CAR}}}{attribute}") == value]


def _tell(job: Job, field: str, found: list[Element]) -> None:
    if found:
        _set(job, field, found[0].text or "")


def _set(job: Job, field: str, text: str) -> None:
    stays = field in ("VO", "VOGroup", "VORole") or field not in TEXT_LIMITS
    job[field] = None if text.lower() in {"", "none", "null"} and not stays else text
