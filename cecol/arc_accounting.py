"""ARC's accounting database, as the feed `arc-db` hands it out: a line of JSON a finished job, who asked for which batch job.

    {"AAR": {"JobID": "0DULD", "LocalJobID": "2805309", "URL": "gsiftp://arc6.example.org:2811/jobs/", "Queue": "grid",
    "User": "/DC=org/CN=A", "WLCGVO": "atlas", "Status": "completed", "SubmitTime": 1561371138, "EndTime": 1561457878},
    "AuthTokenAttributes": [["vomsfqan", "/atlas"]], "JobExtraInfo": {"lrms": "pbs", "localuser": "tb175"}}   (one line)

| Column of the database          | Column                      | Fact                                                            |
|---------------------------------|-----------------------------|-----------------------------------------------------------------|
| SubmitTime                      | recorded_at, time_kind      | Unix seconds; when ARC accepted the job: `accept`               |
| LocalJobID                      | lrms_job_id, join_id        | as in the BLAH log; empty: it never came to the batch system |
| JobID                           | global_job_id               | ARC's own                                                       |
| User                            | dn                          | begins with `/`                                                 |
|                                 | token_issuer, token_subject | any other: the pseudo DN of a token, `issuer/subject`           |
| FQANs (ARC 7), mainfqan         | fqan, vo, vo_group, vo_role | the primary one (AuthTokenAttributes of ARC 6)                  |
| vomsfqan, wlcg_groups, group    | fqans                       | all, in order; groups of a token stand for FQANs                |
| WLCGVOs                         | vo                          | where there is no FQAN; empty (ARC 7) is none                   |
| Endpoints.URL, lrms, Queue      | ce_id                       | `host:port/nordugrid-lrms-queue`, as ARC's BLAH file spells it  |
| localuser                       | local_user                  | before the `:` of `user:group`                                  |

What ARC measured of the job itself is not taken: the batch system's own record says it. Jobs in progress and jobs without a batch
id are skipped. Natural key: cluster, ARC job id, batch id, SubmitTime. Sources: nordugrid/arc arex_accounting_db_schema_v1.sql,
arex_accounting_db_schema_v2.sql (ARC 7), test_adb.cpp.
"""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from batchacct.model import IDENTITY, LAST_INSTANT, Record
from batchacct.parsing import Outcome, Reject, Skip, Source, UnitParser
from cecol.arc_joblog import LRMS_OF
from cecol.blah import UNKNOWN_LRMS, VOMS_COLUMNS, batch_id, voms, who

_SIGN = re.compile(rb'^\s*\{"AAR": ?\{')
_FQAN_KEYS = ("mainfqan", "vomsfqan", "wlcg_groups", "group")


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to who asked for one batch job.  Raises: Reject."""
    told = _object(unit)
    job = told.get("AAR")
    extra = told.get("JobExtraInfo") or {}
    if not isinstance(job, dict) or not isinstance(extra, dict):
        raise Reject("there is no object AAR, or JobExtraInfo is none")
    if job.get("Status") == "in-progress":
        return Skip("in progress")
    raw_id = _text(job, "LocalJobID")
    if not raw_id:
        return Skip("finished without a batch job")
    accepted = job.get("SubmitTime")
    if not isinstance(accepted, int) or not 0 < accepted <= LAST_INSTANT:
        raise Reject("SubmitTime is no time between 1970 and 2099")
    arc_id = _text(job, "JobID")
    if not arc_id:
        raise Reject("JobID is missing")
    lrms = _text(extra, "lrms").lower()
    ce_id = _ce_id(_text(job, "URL"), lrms, _text(job, "Queue"))
    cluster = source.cluster_of_ce(ce_id)
    batch = batch_id(raw_id)
    dn, issuer, subject = who(_text(job, "User"))
    record: Record = {
        "record_key": f"arc:{cluster}:{arc_id}:{raw_id}:{accepted}",
        "cluster": cluster,
        "lrms": LRMS_OF.get(lrms, UNKNOWN_LRMS),
        "time_kind": "accept",
        "recorded_at": accepted,
        "ce_id": ce_id,
        "lrms_job_id": batch.lrms_job_id,
        "array_index": batch.array_index,
        "join_id": batch.join_id,
        "global_job_id": arc_id,
        "dn": dn,
        "token_issuer": issuer,
        "token_subject": subject,
        "local_user": _text(extra, "localuser").partition(":")[0] or None,
    }
    groups = dict(zip(VOMS_COLUMNS, voms(_fqans(job, told.get("AuthTokenAttributes"))), strict=True))
    return record | groups | ({} if groups["vo"] else {"vo": _text(job, "WLCGVO") or None})


def _object(unit: bytes) -> dict[str, object]:
    try:
        told = json.loads(unit)
    except ValueError as error:
        raise Reject("it is no JSON") from error
    if not isinstance(told, dict):
        raise Reject("it is no JSON object")
    return told


def _text(values: dict[str, object], name: str) -> str:
    """A value that is a text or a number; empty for none.  Raises: Reject for another kind."""
    value = values.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise Reject(f"{name} is no text")
    return str(value).strip()


def _fqans(job: dict[str, object], attributes: object) -> list[str]:
    """The primary FQAN, then all others in the order in which they were told."""
    pairs = attributes if isinstance(attributes, list) else []
    if any(not isinstance(pair, list) or len(pair) != 2 for pair in pairs):
        raise Reject("AuthTokenAttributes is no list of keys and values")
    told = [str(value) for wanted in _FQAN_KEYS for key, value in pairs if key == wanted and value]
    return [fqan for fqan in (_text(job, "FQAN"), *told) if fqan]


def _ce_id(url: str, lrms: str, queue: str) -> str | None:
    """`arc6.example.org:2811/nordugrid-pbs-grid`, as arc-blahp-logger writes it."""
    try:
        host = urlsplit(url).netloc
    except ValueError:
        host = ""
    return f"{host}/nordugrid-{lrms or UNKNOWN_LRMS}-{queue}" if host else None


PARSER = UnitParser(
    name="arc-db",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=lambda head: _SIGN.match(head) is not None,
)
