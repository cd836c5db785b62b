"""HTCondor-CE's AuditLog: who was authenticated, and which jobs of the CE that connection submitted.

    10/15/21 17:54:08 (cid:130) (D_AUDIT) Command=QMGMT_WRITE_CMD, peer=<172.17.0.2:37869>
    10/15/21 17:54:08 (cid:130) (D_AUDIT) AuthMethod=SCITOKENS, AuthId=https://demo.scitokens.org,htcondor-ce-dev,
    CondorId=testuser@users.htcondor.org                                        (on the same line, after a blank)
    10/15/21 17:54:08 (cid:130) (D_AUDIT) Submitting new job 2.0

Lines of several connections stand between each other. A line `AuthMethod` and a line `Submitting` are parts; each job makes one
identity with the last authentication of its connection (`cid`) before it, at most an hour before. The number of a connection
comes again when the CE is restarted, so that a line which is missing must not be replaced by one of another day. Lines of 2014
have no `cid`, and `<CondorId=...>`: there, what has the same second belongs together, if all that authenticated in it are one.

| column                 | from                                                                                              |
|------------------------|---------------------------------------------------------------------------------------------------|
| recorded_at, time_kind | time of the line `Submitting`, MM/DD/YY, local time of the CE's host (the source's `zone`); submit    |
| lrms_job_id, global_job_id | the CE's job id, `2.0`                                                                        |
| join_id                | `ce#2.0`: see below                                                                               |
| dn, fqan, fqans, vo, ... | AuthId of GSI and SSL: `DN[,FQAN,...]`; without `/CN=proxy` at the end of the DN                  |
| token_issuer, token_subject | AuthId of SCITOKENS: `issuer,subject`; which VO that is, the configuration says                |
| local_user             | CondorId up to its `@`                                                                            |

The log knows the CE's own job id and no batch job's. Only the routed job's ad has both (RoutedFromJobId), and it has the identity,
too: `htcondor-ce` reads it there. So the join finds no batch job for these identities, and their join_id is spelt as no batch
job's is, lest a batch job of the same number be taken for it. They are the CE's word on who was authenticated, for a job that has
a token and a proxy. Connections authenticated as a local user (FS, IDTOKENS, ...) make no identity; other lines are skipped.

Natural key of a part: cluster, source, cid, kind, job id or AuthId, time. Sources: htcondor/htcondor-ce:docs/v5/operation.md,
htcondor/htcondor-ce:docs/v23/troubleshooting/logs.md; samples in tests/samples/htcondor-ce.
"""

from __future__ import annotations

import datetime as dt
import json
import re

from batchacct.fqan import parse_fqan
from batchacct.model import IDENTITY, LAST_INSTANT, Record, text_of
from batchacct.parsing import Completed, Completion, Outcome, Part, Reject, Row, Skip, Source, UnitParser, Whole
from cecol.blah import who

LONGEST_CONNECTION_S = 3600
AUTHENTICATED, SUBMITTED = "authenticated", "submitted"
CERTIFICATES = frozenset({"GSI", "SSL"})
TOKENS = frozenset({"SCITOKENS"})

_LINE = re.compile(
    rb"([0-9]{2})/([0-9]{2})/([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})? "
    rb"(?:\(cid:([0-9]{1,20})\) )?(?:\(D_AUDIT\) )?(.*)",
    re.DOTALL,
)
_AUTHENTICATED = re.compile(r"AuthMethod=([A-Za-z0-9_]++), AuthId=(.*), <?CondorId=([^,<>]*+)>?", re.DOTALL)
_SUBMITTED = re.compile(r"Submitting new job ([0-9]{1,18}\.[0-9]{1,18})")
_SIGN = re.compile(
    rb"^[0-9]{2}/[0-9]{2}/[0-9]{2} [0-9:]{8} (?:\(cid:[0-9]+\) )?(?:\(D_AUDIT\) )?(?:Command=|AuthMethod=|Submitting new job )",
    re.MULTILINE,
)


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to a part of an identity.

    Raises: Reject for a line without time, or of one of the two kinds and yet not in its form.
    """
    match = _LINE.fullmatch(unit)
    if not match:
        raise Reject("it does not begin with a time, MM/DD/YY HH:MM:SS")
    message = text_of(match[8]).rstrip()
    if message.startswith("AuthMethod="):
        found = _AUTHENTICATED.fullmatch(message)
        if not found:
            raise Reject("AuthMethod is not followed by AuthId and CondorId")
        kind, what, usage = AUTHENTICATED, found[2], _identity(found[1], found[2], found[3])
    elif message.startswith("Submitting "):
        submitted = _SUBMITTED.fullmatch(message)
        if not submitted:
            raise Reject("Submitting is not followed by the id of a job")
        kind, what, usage = SUBMITTED, submitted[1], {"lrms_job_id": submitted[1]}
    else:
        return Skip("a command, and no authentication or submission")
    time = _instant(match, source.zone)
    cid = "" if match[7] is None else str(int(match[7]))
    cluster = source.cluster_of_ce(None)
    return Part(
        {
            "record_key": f"htcondor-ce-audit:{cluster}:{source.name}:{cid}:{kind}:{what}:{time}",
            "cluster": cluster,
            "part_key": f"{source.name}:{cid}" if cid else f"{source.name}@{time}",
            "kind": kind,
            "logged_at": time,
            "usage": json.dumps(usage, ensure_ascii=False),
        }
    )


def _instant(match: re.Match[bytes], zone: dt.tzinfo) -> int:
    month, day, year, hour, minute, second = (int(match[i]) for i in range(1, 7))
    try:
        local = dt.datetime(2000 + year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError as error:
        raise Reject("the time does not exist") from error
    seconds = int(local.timestamp())
    if seconds > LAST_INSTANT:
        raise Reject("the time is after 2099")
    return seconds


def _identity(method: str, auth_id: str, condor_id: str) -> Record:
    """The columns that an authentication tells; of a local user, the account alone."""
    record: Record = {"local_user": condor_id.partition("@")[0] or None}
    if method in TOKENS:
        issuer, _, subject = auth_id.partition(",")
        record |= {"token_issuer": issuer or None, "token_subject": subject or None}
    elif method in CERTIFICATES:
        user_dn, *fqans = re.split(r",(?=/)", auth_id)
        record["dn"] = who(user_dn)[0]
        if fqans:
            fqans = list(dict.fromkeys(fqans))
            primary = parse_fqan(fqans[0])
            record |= {"fqan": fqans[0], "fqans": json.dumps(fqans, ensure_ascii=False)}
            record |= {"vo": primary.vo, "vo_group": primary.group, "vo_role": primary.role}
    return record


def complete(whole: Whole) -> list[Completed]:
    """An identity for each job that a connection submitted, of whom it authenticated last before."""
    completed = []
    authentications = [part for part in whole.parts if part["kind"] == AUTHENTICATED]
    for part in whole.parts:
        if part["kind"] == SUBMITTED:
            identity = _authenticated_before(part, authentications)
            if identity.get("dn") or identity.get("token_subject"):
                completed.append(Completed(_submission(part) | identity, part))
    return completed


def _authenticated_before(submission: Row, authentications: list[Row]) -> Record:
    """Who authenticated in the last second in which somebody did, an hour before the submission at most; nobody if they differ."""
    time = _time(submission)
    before = [part for part in authentications if 0 <= time - _time(part) <= LONGEST_CONNECTION_S]
    latest = max((_time(part) for part in before), default=time)
    found = {str(part["usage"]) for part in before if _time(part) == latest}
    return json.loads(found.pop()) if len(found) == 1 else {}


def _submission(part: Row) -> Record:
    job_id = json.loads(str(part["usage"]))["lrms_job_id"]
    return {
        "record_key": part["record_key"],
        "time_kind": "submit",
        "recorded_at": part["logged_at"],
        "lrms_job_id": job_id,
        "join_id": f"ce#{job_id}",
        "global_job_id": job_id,
    }


def _time(part: Row) -> int:
    time = part["logged_at"]
    assert isinstance(time, int)
    return time


COMPLETION = Completion(family="htcondor-ce-audit", record_type=IDENTITY, complete=complete)

PARSER = UnitParser(
    name="htcondor-ce-audit",
    record_type=IDENTITY,
    lrms="HTCondor",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=lambda head: _SIGN.search(head) is not None,
    completion=COMPLETION,
)
