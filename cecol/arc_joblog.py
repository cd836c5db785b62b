r"""ARC job log (`arex-jobs.log`, `gm-jobs.log` before ARC 6): who asked for the batch job that an ARC job became.

    2026-06-02 20:32:02 Finished - job id: 1905711, unix user: 4102:4100, name: "sim, 3", owner: "/O=Grid/CN=A", lrms: pbs,
    queue: gridlong, lrmsid: 108519.brenta                                                                  (on one line)

| Field     | Column                         | Fact                                                                     |
|-----------|--------------------------------|--------------------------------------------------------------------------|
| the time  | recorded_at, time_kind         | local time of the host; when ARC had finished with the job: `end`        |
| job id    | global_job_id                  | ARC's own                                                                |
| unix user | local_user                     | the uid of `uid:gid`                                                     |
| owner     | dn                             | begins with `/`                                                          |
|           | token_issuer, token_subject    | any other: the pseudo DN `issuer/subject` of token users                 |
| lrms      | lrms                           | pbs, lsf, sge, slurm, condor; a `fork` job is no batch job, and skipped   |
| lrmsid    | lrms_job_id, join_id           | as in the BLAH log (`cecol.blah`)                                        |

Name, owner and failure are quoted, with `\"` and `\\`; others run to the next `, `. Before 2007 dates are DD-MM-YYYY after a blank;
an older logger put a `*` over the first character of lines it had passed on. There is no FQAN and no VO in it: the VO follows from
`[vo]` in the configuration, so that ARC's own BLAH file or accounting database tell more where there is one. Both tell of the same
jobs: configure one of them.

`Started` lines (ARC began to fetch the input) are skipped, as the batch id is on the `Finished` line; so are jobs that never
came to the batch system. Natural key: cluster, ARC job id, lrmsid, time. Sources: nordugrid/arc JobLog.cpp; lines of 2006 from
kvorg/Loggator; no line of ARC 6 or 7 was at hand.
"""

from __future__ import annotations

import re

from batchacct.model import IDENTITY, Record, text_of
from batchacct.parsing import Outcome, Reject, Skip, Source, UnitParser
from batchacct.parsing.contract import printable
from batchacct.parsing.local_time import local_seconds
from cecol.blah import UNKNOWN_LRMS, batch_id, who

LRMS_OF = {
    **dict.fromkeys(("pbs", "pbspro", "torque"), "PBS"),
    **dict.fromkeys(("sge", "gridengine"), "SGE"),
    "lsf": "LSF",
    "slurm": "Slurm",
    "condor": "HTCondor",
}

_DATE = rb"(?:(?P<ymd>[0-9]{4}-[0-9]{2}-[0-9]{2})|(?P<dmy>[0-9]{2}-[0-9]{2}-[0-9]{4}))"
_HEAD = re.compile(rb"[ *]?" + _DATE + rb" (?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}) ?(?P<what>Started|Finished) - ")
_SIGN = re.compile(rb"^" + _HEAD.pattern + rb"job id: ", re.MULTILINE)
_FIELD = re.compile(rb'(?:([a-z ]++): (?:"((?:[^"\\]|\\.)*+)"|([^,"]*+)))?(?:, |$)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to who asked for one batch job.  Raises: Reject."""
    head = _HEAD.match(unit)
    if head is None:
        raise Reject("it does not begin with a time and Started or Finished")
    fields = fields_of(unit[head.end() :])
    if head["what"] == b"Started":
        return Skip("started: the batch id comes when the job has finished")
    raw_id = fields.get("lrmsid", "")
    if not raw_id:
        return Skip("finished without a batch job")
    if fields.get("lrms") == "fork":
        return Skip("a fork job is no batch job")
    for name in ("job id", "owner"):
        if not fields.get(name):
            raise Reject(f"{name} is missing")
    recorded_at = local_seconds(_time(head), source.zone, "the time of the line")
    batch = batch_id(raw_id)
    cluster = source.cluster_of_ce(None)
    dn, issuer, subject = who(fields["owner"])
    record: Record = {
        "record_key": f"arc:{cluster}:{fields['job id']}:{raw_id}:{recorded_at}",
        "cluster": cluster,
        "lrms": LRMS_OF.get(fields.get("lrms", "").lower(), UNKNOWN_LRMS),
        "time_kind": "end",
        "recorded_at": recorded_at,
        "lrms_job_id": batch.lrms_job_id,
        "array_index": batch.array_index,
        "join_id": batch.join_id,
        "global_job_id": fields["job id"],
        "dn": dn,
        "token_issuer": issuer,
        "token_subject": subject,
        "local_user": fields.get("unix user", "").partition(":")[0] or None,
    }
    return record


def _time(head: re.Match[bytes]) -> list[int]:
    """Year, month, day, hour, minute, second."""
    date = head["ymd"].split(b"-") if head["ymd"] else head["dmy"].split(b"-")[::-1]
    return [int(number) for number in (*date, *head["time"].split(b":"))]


def fields_of(text: bytes) -> dict[str, str]:
    """The fields of a line after its head.  Raises: Reject where it is not `name: value` with `, ` between them."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _FIELD.match(text, at)
        if match is None or match.end() == at:
            raise Reject(f"no field `name: value` where one is due, or a quote that is not closed: {printable(text[at:])}")
        if match[1] is not None:
            quoted, bare = match[2], match[3]
            value = text_of(_ESCAPED.sub(rb"\1", quoted) if quoted is not None else bare)
            if found.setdefault(match[1].decode(), value) != value:
                raise Reject("a field has two values: two lines run together")
        at = match.end()
    return found


PARSER = UnitParser(
    name="arc-joblog",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=lambda head: _SIGN.search(head) is not None,
)
