r"""BLAH accounting log, and the files in its form: who submitted which batch job, one line a job.

    "timestamp=2012-05-20 23:59:47" "userDN=/O=Grid/CN=A" "userFQAN=/atlas/Role=pilot" "ceID=ce:8443/cream-pbs-long"
    "jobID=CREAM41" "lrmsID=9575064.lrms1" "localUser=11999" "clientID=cream_41"                    (on one line)

| Key       | Column                      | Fact                                                                       |
|-----------|-----------------------------|----------------------------------------------------------------------------|
| timestamp | recorded_at, time_kind      | UTC; `-` or `/` between date parts (DGAS); required                        |
| userDN    | dn                          | begins with `/`; trailing `/CN=proxy`, `/CN=limited proxy` cut, as by BLAH |
|           | token_issuer, token_subject | any other: a subject (HTCondor-CE), or `https://issuer/subject` (ARC)      |
| userFQAN  | fqan, fqans,                | repeated, in proxy order, the first is primary, doubles are dropped;       |
|           | vo, vo_group, vo_role       | `userFQAN=` (BLAH) and `/None/Role=NULL` (ARC) mean none                   |
| ceID      | ce_id, cluster, lrms        | cluster by configuration; lrms by the name in it, else `unknown`           |
| jobID     | global_job_id               | empty, absent, `none`, `NONE` (LCG-CE) are null                            |
| lrmsID    | lrms_job_id                 | required; of a whole BLAH id, `lsf/20120101/123`, the part that is the id  |
|           | array_index, join_id        | join_id: without server (`.lrms1`), cluster (`@c`), index (`[4]`, `_4`);   |
|           |                             | ids of htcondor-ce-apel are opaque, and joined whole                       |
| localUser | local_user                  | a uid (BLAH) or an account name (ARC, HTCondor-CE)                         |

Keys come in any order; clientID and unknown keys are in `native` only, and `fields` gives them all. `time_kind` is
`submit` for BLAH and LCG-CE (just after the batch submission), `accept` for ARC (a ceID with `nordugrid` or port
2811), `end` for htcondor-ce-apel (an lrmsID with `#`, or like `1_host`, `1.0_host`). ARC's ceID says
`nordugrid-torque` whatever the LRMS unless it is configured, so that its lrms is `unknown`. A line of
htcondor-ce-apel with neither userDN nor userFQAN and with jobID `undefined_host` is of a job that came by no CE, and
is skipped.

BLAH escapes nothing, ARC writes `\"` and `\\`. Nothing is guessed about a damaged line: it is a reject. Sources:
htcondor src/blahp/src/server.c, nordugrid arc_blahp_logger.cpp, htcondor-ce condor_batch_blah.py, andreaguarise/dgas,
and samples of all but ARC in tests/samples/blah.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.fqan import parse_fqan, split_fqans
from batchacct.model import BYTES, IDENTITY, INSTANT, INTEGER, LAST_INSTANT, TEXT, Record, text_of
from batchacct.parsing.batch_ids import NUMBER, OPAQUE
from batchacct.parsing.columnar import hashes, line_bounds, lines_of, same, spans_left
from batchacct.parsing.contract import Block, Outcome, Regular, Reject, Skip, Source, UnitParser, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Column = pa.Array[Any]
    Distinct = Callable[[str], tuple[str | None, ...]]

UNKNOWN_LRMS = "unknown"
KEYS = frozenset({"timestamp", "userDN", "userFQAN", "ceID", "jobID", "lrmsID", "localUser", "clientID"})
NO_VOMS = "/None/Role=NULL"

_FIELD = re.compile(rb'[ \t]*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"(?=[ \t]|\Z)', re.DOTALL)
_CLOSED = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ESCAPED = re.compile(rb'\\(["\\])')
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_HEAD_LINE = re.compile(rb'^"(?:timestamp|localUser)=|"lrmsID=', re.MULTILINE)

_TIME = re.compile(r"([0-9]{4})([-/])([0-9]{2})\2([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
_PROXY = re.compile(r"(?:/CN=(?:limited )?proxy)+\Z")
_ARC_CE = re.compile(r"nordugrid|:2811/")
_LRMS_OF = {"lsf": "LSF", "pbs": "PBS", "torque": "PBS", "sge": "SGE", "slurm": "Slurm", "condor": "HTCondor"}
_CE_LRMS = re.compile(
    r"/(?!nordugrid-torque)(?:cream|jobmanager|blah|nordugrid)-(?:lcg)?"
    r"(lsf|pbs|torque|sge|slurm|condor)(?:-|$)|:9619/.*-(condor)$",
    re.IGNORECASE,
)

_BLAH_ID = re.compile(r"([a-z][a-z0-9]*)/.+")

# The fast lane's line, in the order of BLAH, ARC and HTCondor-CE: printable ASCII, nothing escaped. It is in two parts
# that have at most four groups and never look ahead, because that is what RE2 matches in one pass.
_PLAIN = r"[ !#-\[\]-~]*"
_TIME_AT = slice(11, 30)
_FIRST_PART = (
    r'^"timestamp=20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]) (?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]" '
    rf'"userDN=(?P<dn>{_PLAIN})" "(?P<fqans>(?:userFQAN={_PLAIN}" ")*)ceID=(?P<ce>{_PLAIN})" "(?P<rest>[^\n]*)'
)
_SECOND_PART = (
    rf'^jobID=(?P<job>{_PLAIN})" "lrmsID=(?P<lrms_id>[A-Za-z0-9.@#_-]+)" "localUser=(?P<user>{_PLAIN})"'
    rf'(?: "clientID={_PLAIN}")?\r?$'
)
_CE_COLUMNS = ("ce_id", "cluster", "lrms", "time_kind")
VOMS_COLUMNS = ("fqan", "fqans", "vo", "vo_group", "vo_role")


def recognise(head: bytes) -> bool:
    """A line that begins as BLAH (`"timestamp=`) or LCG-CE (`"localUser=`) write it, or holds an lrmsID."""
    return _HEAD_LINE.search(head) is not None


def fields(unit: bytes) -> list[tuple[str, str]]:
    """Every field of a line as (key, value), in order, repeated ones too; escapes undone.

    Raises: Reject where the line is not just quoted `key=value` fields with blanks between them.
    """
    pairs = []
    at = 0
    while match := _FIELD.match(unit, at):
        raw = match[1]
        text = text_of(_ESCAPED.sub(rb"\1", raw) if b"\\" in raw else raw)
        key, equals, value = text.partition("=")
        if not equals:
            raise Reject(f"a field has no `=`: {printable(raw)}")
        if key not in KEYS and not _KEY.fullmatch(key):
            raise Reject(f"a field has no key before its `=`: {printable(raw)}")
        pairs.append((key, value))
        at = match.end()
    rest = unit[at:].lstrip(b" \t")
    if not rest:
        return pairs
    if not rest.startswith(b'"'):
        raise Reject(f"text outside the quotes: {printable(rest)}")
    if _CLOSED.match(rest):
        raise Reject(f"no blank after the field: {printable(rest)}")
    raise Reject(f"a quote is not closed: {printable(rest)}")


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to who submitted one batch job.  Raises: Reject."""
    values, fqans = _by_key(fields(unit))
    recorded_at = _instant(_required(values, "timestamp"))
    raw_id = _required(values, "lrmsID")
    batch = batch_id(raw_id)
    if "userDN" not in values and not fqans and values.get("jobID", "").startswith("undefined_"):
        return Skip("a job submitted to the pool itself, not by a computing element")
    ce_id = values.get("ceID") or None
    cluster = source.cluster_of_ce(ce_id)
    dn, issuer, subject = who(values.get("userDN", ""))
    record: Record = {
        "record_key": f"blah:{cluster}:{values['timestamp'].replace('/', '-')}:{ce_id or ''}:{raw_id}",
        "cluster": cluster,
        "lrms": lrms_of_ce(ce_id) or batch.lrms or UNKNOWN_LRMS,
        "time_kind": "end" if batch.opaque else _time_kind(ce_id),
        "recorded_at": recorded_at,
        "ce_id": ce_id,
        "lrms_job_id": batch.lrms_job_id,
        "array_index": batch.array_index,
        "join_id": batch.join_id,
        "global_job_id": _unless_none(values.get("jobID")),
        "dn": dn,
        "token_issuer": issuer,
        "token_subject": subject,
        "local_user": values.get("localUser") or None,
    }
    return record | dict(zip(VOMS_COLUMNS, voms(fqans), strict=True))


def _by_key(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    """The known keys with their values, and all values of userFQAN.  Raises: Reject if a key has two values."""
    values: dict[str, str] = {}
    fqans = []
    for key, value in pairs:
        if key == "userFQAN":
            fqans.append(value)
        elif key in KEYS and values.setdefault(key, value) != value:
            raise Reject(f"{key} has two values: two lines run together")
    return values, fqans


def _required(values: dict[str, str], key: str) -> str:
    value = values.get(key)
    if not value or value == "N/A":
        raise Reject(f"{key} is missing" if value is None else f"{key} is empty" if not value else f"{key} is {value}")
    return value


def _instant(text: str) -> int:
    """Unix seconds of a timestamp, which is in UTC.  Raises: Reject."""
    match = _TIME.fullmatch(text)
    if not match:
        raise Reject(f"timestamp is not YYYY-MM-DD HH:MM:SS: {printable(text.encode())}")
    year, _, month, day, hour, minute, second = match.groups()
    try:
        date = dt.datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=dt.UTC)
    except ValueError as error:
        raise Reject(f"timestamp {text} does not exist: {error}") from error
    seconds = int(date.timestamp())
    if not 0 < seconds <= LAST_INSTANT:
        raise Reject(f"timestamp {text} is not between 1970 and 2099")
    return seconds


@dataclass(frozen=True, slots=True)
class BatchId:
    """What an lrmsID says: the id as written, the part that joins, and what else is in it."""

    lrms_job_id: str
    join_id: str
    array_index: int | None
    opaque: bool
    lrms: str | None


def batch_id(raw: str) -> BatchId:
    """An lrmsID, or the whole BLAH id it is part of (`lsf/20120101/123`, `condor/377260/queue/pool`), taken apart."""
    lrms = None
    if blah := _BLAH_ID.fullmatch(raw):
        lrms = _LRMS_OF.get(blah[1])
        parts = raw.split("/")
        raw = parts[1] if blah[1].startswith("con") else parts[-1]
        if not raw:
            raise Reject("the BLAH id in lrmsID holds no job id")
    if re.search(OPAQUE, raw):
        return BatchId(raw, raw, None, True, lrms)
    numbered = re.match(NUMBER, raw)
    if not numbered:
        return BatchId(raw, raw, None, False, lrms)
    index = numbered["index"] or numbered["task"]
    return BatchId(raw, numbered["number"], int(index) if index else None, False, lrms)


def lrms_of_ce(ce_id: str | None) -> str | None:
    """The kind of batch system a CE id names (`host:8443/cream-lsf-queue`): LSF, PBS, SGE, Slurm or HTCondor."""
    match = _CE_LRMS.search(ce_id or "")
    return _LRMS_OF[(match[1] or match[2]).lower()] if match else None


def _time_kind(ce_id: str | None) -> str:
    return "accept" if _ARC_CE.search(ce_id or "") else "submit"


def who(user_dn: str) -> tuple[str | None, str | None, str | None]:
    """(DN, token issuer, token subject) of a userDN: a certificate's begins with `/`, anything else is a token's."""
    if user_dn.startswith("/"):
        return _PROXY.sub("", user_dn) or None, None, None
    if user_dn.startswith("https://") and user_dn.count("/") > 2:
        issuer, _, subject = user_dn.rpartition("/")
        return None, issuer, subject or None
    return None, None, user_dn or None


def voms(fqans_in_order: Iterable[str]) -> tuple[str | None, ...]:
    """What follows from FQANs in order, lists among them: the values of VOMS_COLUMNS."""
    fqans = list(dict.fromkeys(fqan for fqan in split_fqans(";".join(fqans_in_order)) if fqan != NO_VOMS))
    if not fqans:
        return (None,) * len(VOMS_COLUMNS)
    primary = parse_fqan(fqans[0])
    return fqans[0], json.dumps(fqans, ensure_ascii=False), primary.vo, primary.group, primary.role


def _unless_none(job_id: str | None) -> str | None:
    return None if not job_id or job_id.lower() == "none" else job_id


def fast_lane(block: Block, source: Source, label: str) -> Regular:
    """The lines in the usual order of keys, taken column by column; Arrow works on them outside Python's lock."""
    starts, stops = line_bounds(block.data)
    lines = lines_of(block.data, starts)
    first = pc.extract_regex(lines, _FIRST_PART)
    second = pc.extract_regex(pc.struct_field(first, "rest"), _SECOND_PART)
    captured: dict[str, Column] = {name: pc.struct_field(first, name) for name in ("dn", "fqans", "ce")}
    captured |= {name: pc.struct_field(second, name) for name in ("job", "lrms_id", "user")}
    by_ce = by_distinct(captured["ce"], _CE_COLUMNS, lambda ce_id: _of_ce(ce_id, source))
    taken = pc.and_(second.is_valid(), by_ce["cluster"].is_valid())
    every = pa.RecordBatch.from_pydict({"line": lines, "start": pa.array(starts), **captured, **by_ce})
    try:
        records = _records(every.filter(taken), block.offset, source, label)
    except pa.ArrowInvalid:  # a date that does not exist, 30 February: the careful lane finds which
        records = IDENTITY.empty()
        taken = pa.array(np.zeros(len(starts), dtype=bool))
    return Regular(records, spans_left(block.data, starts, stops, np.asarray(taken)))


def _records(regular: pa.RecordBatch, offset: int, source: Source, label: str) -> pa.RecordBatch:
    """Identity records of the lines whose captures are given.  Raises: pa.ArrowInvalid for an impossible date."""
    count = regular.num_rows
    texts: list[Column] = [regular[name].cast(TEXT) for name in ("line", "lrms_id", "job", "user")]
    line, lrms_id, job, user = texts
    time = pc.utf8_slice_codeunits(line, _TIME_AT.start, _TIME_AT.stop)
    native = pc.ascii_rtrim(line, characters="\r\n").cast(BYTES)
    opaque = pc.match_substring_regex(lrms_id, OPAQUE)
    numbered = pc.extract_regex(lrms_id, NUMBER)
    number: Column = pc.struct_field(numbered, "number")
    task: Column = pc.struct_field(numbered, "task")
    ce_id = pc.coalesce(regular["ce_id"], same("", count))
    key = (same("blah", count), regular["cluster"], time, ce_id, lrms_id, same(":", count))
    columns: dict[str, Column] = {name: regular[name] for name in _CE_COLUMNS}
    columns |= by_distinct(regular["dn"], ("dn", "token_issuer", "token_subject"), who)
    columns |= by_distinct(regular["fqans"], VOMS_COLUMNS, _of_fqans)
    columns |= {
        "record_key": pc.binary_join_element_wise(*key),
        "content_hash": hashes(native),
        "time_kind": pc.if_else(opaque, "end", regular["time_kind"]),
        "recorded_at": time.cast(pa.timestamp("s")).cast(INSTANT),
        "lrms_job_id": lrms_id,
        "array_index": _null_where(pc.or_(opaque, pc.equal(task, pa.scalar(""))), task).cast(INTEGER),
        "join_id": pc.coalesce(_null_where(opaque, number), lrms_id),
        "global_job_id": _null_where(pc.match_substring_regex(job, "^(?i:none)?$"), job),
        "local_user": _null_where(pc.equal(user, pa.scalar("")), user),
        "native": native,
        "source_offset": pc.add(regular["start"], offset),
        "site": same(source.site, count),
        "source": same(source.name, count),
        "parser": same(label, count),
    }
    nulls: list[None] = [None] * count
    arrays = [columns[c.name] if c.name in columns else pa.array(nulls, c.type) for c in IDENTITY.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=IDENTITY.schema)


def _null_where(condition: Column, values: Column) -> Column:
    kept: Column = pc.if_else(condition, pa.scalar(None, TEXT), values)
    return kept


def by_distinct(captured: Column, names: tuple[str, ...], texts_of: Distinct) -> dict[str, Column]:
    """Text columns that depend on one captured text: `texts_of` is called once for each distinct value of it."""
    encoded: pa.DictionaryArray[Any, Any] = captured.dictionary_encode()
    distinct = cast("list[bytes]", encoded.dictionary.to_pylist())
    rows = [texts_of(value.decode("ascii")) for value in distinct]
    return {name: pa.array([row[i] for row in rows], TEXT).take(encoded.indices) for i, name in enumerate(names)}


def _of_ce(ce_id: str, source: Source) -> tuple[str | None, ...]:
    """The columns that follow from a ceID; all null where no cluster is configured for it."""
    try:
        cluster = source.cluster_of_ce(ce_id or None)
    except Reject:
        return (None,) * len(_CE_COLUMNS)
    return ce_id or None, cluster, lrms_of_ce(ce_id) or UNKNOWN_LRMS, _time_kind(ce_id)


def _of_fqans(captured: str) -> tuple[str | None, ...]:
    """The values of VOMS_COLUMNS for a run of `userFQAN=...` fields, as the fast lane's expression captures it."""
    return voms(field.removeprefix("userFQAN=") for field in captured.split('" "')[:-1])


PARSER = UnitParser(
    name="blah",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    fast_lane=fast_lane,
    recognise=recognise,
)
