"""An identity of an APEL client's database, as `batchacct import apel` hands it out: a line of JSON a row.

    {"BlahdRecords":{"Site":"EXAMPLE-SITE","TimeStamp":"2023-11-14 22:10:02","GlobalUserName":"/DC=org/CN=A User",
    "FQAN":"/atlas/Role=pilot/Capability=NULL","CE":"ce01.example.org:8443/cream-lsf-grid","GlobalJobId":"CREAM410741480",
    "LrmsId":"4242"}}                                                                                            (one line)
    {"JobRecords identity":{"Site":"EXAMPLE-SITE","MachineName":"lsf.example.org","LocalJobId":"4242","LocalUserId":"atlas042",
    "EndTime":"2023-11-14 23:13:20","GlobalUserName":"/DC=org/CN=A User","FQAN":"/atlas/Role=pilot/Capability=NULL",
    "VO":"atlas","VOGroup":"/atlas","VORole":"Role=pilot","SubmitHost":"ce01.example.org:8443/cream-lsf-grid"}}  (one line)

The first is what the client has read of a BLAH log: time (UTC) of the submission, who, by which CE. The second is the identity the
client has joined a grid job with: its time is the end of that job, so that none is nearer to it here, and the job keeps it.

    column                      column of BlahdRecords; of JobRecords, where it differs
    recorded_at, time_kind      TimeStamp, `submit` (`end` for ids of HTCondor);  EndTime, `end`
    ce_id, cluster              CE; cluster by configuration;  SubmitHost, and the cluster whose machine_name is MachineName
    lrms_job_id, join_id        LrmsId;  LocalJobId;  array_index: null, as that of the job
    dn, token_*                 GlobalUserName
    fqan, fqans, vo, vo_group, vo_role    FQAN; without one VO, VOGroup and VORole
    global_job_id, local_user   GlobalJobId, null;  null, LocalUserId

Natural key: that of the BLAH line;  cluster, LocalJobId and EndTime. Source: apel/apel schemas/client.sql.
"""

from __future__ import annotations

import datetime as dt
import re

from batchacct.model import IDENTITY, Record
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from batchacct.parsing.batch_ids import OPAQUE, join_id_of
from batchacct.parsing.rows import RowValues, row_of
from cecol.blah import UNKNOWN_LRMS, VOMS_COLUMNS, lrms_of_ce, voms, who

BLAHD, OF_JOBS = "BlahdRecords", "JobRecords identity"
_SIGN = re.compile(rb'\{"(?:BlahdRecords|JobRecords identity)": ?\{')


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One row to who asked for one batch job.  Raises: Reject."""
    row = row_of(unit, BLAHD, OF_JOBS)
    return (_of_job(row, source) if row.table == OF_JOBS else _of_blah(row, source)) | _who(row)


def _of_blah(row: RowValues, source: Source) -> Record:
    at, raw_id, ce_id = _instant(row, "TimeStamp"), row.required("LrmsId"), row.text("CE")
    cluster = source.cluster_of_ce(ce_id)
    shown = dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {
        "record_key": f"blah:{cluster}:{shown}:{ce_id or ''}:{raw_id}",
        "cluster": cluster,
        "time_kind": "end" if re.search(OPAQUE, raw_id) else "submit",
        "recorded_at": at,
        "ce_id": ce_id,
        "lrms": lrms_of_ce(ce_id) or UNKNOWN_LRMS,
        "lrms_job_id": raw_id,
        "join_id": join_id_of(raw_id),
        "global_job_id": row.text("GlobalJobId"),
    }


def _of_job(row: RowValues, source: Source) -> Record:
    at, job_id, ce_id = _instant(row, "EndTime"), row.required("LocalJobId"), row.text("SubmitHost")
    cluster = source.cluster_of_ce(row.required("MachineName"))
    return {
        "record_key": f"apel:{cluster}:{job_id}:{at}",
        "cluster": cluster,
        "time_kind": "end",
        "recorded_at": at,
        "ce_id": ce_id,
        "lrms": lrms_of_ce(ce_id) or UNKNOWN_LRMS,
        "lrms_job_id": job_id,
        "join_id": join_id_of(re.sub(r"\+[0-9]+$", "", job_id)),
        "local_user": row.text("LocalUserId"),
    }


def _who(row: RowValues) -> Record:
    dn, issuer, subject = who(row.text("GlobalUserName") or "")
    told: Record = dict(zip(VOMS_COLUMNS, voms([row.text("FQAN") or ""]), strict=True))
    if told["vo"] is None:
        told |= {"vo": row.text("VO"), "vo_group": row.text("VOGroup"), "vo_role": row.text("VORole")}
    return told | {"site": row.text("Site"), "dn": dn, "token_issuer": issuer, "token_subject": subject}


def _instant(row: RowValues, name: str) -> int:
    at = row.instant(name, dt.UTC)
    if at is None:
        raise Reject(f"{name} is missing")
    return at


PARSER = UnitParser(
    name="apel-identities",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=lambda head: _SIGN.match(head) is not None,
)
