"""An identity of the 2012 batchacct's table `ce`, as `batchacct import 2012` hands it out: a line of JSON a row.

    {"ce":{"timestamp":"2012-05-20 11:59:47","ceID":"ce01.example.org:8443/cream-lsf-grid_atlas","lrmsID":4242,
    "userFQAN":"/atlas/Role=pilot/Capability=NULL /atlas/Role=NULL/Capability=NULL"}}                            (one line)

The columns are fields of BLAH's lines, of which the table keeps four, and become what the parser `blah` makes of them: the time
is UTC and that of the submission, several FQANs are apart by blanks. Who it was (the DN) is not in the table. Natural key: that of
the BLAH line. Source: jeromebelleman/batchacct, common/batchacct/common.py.
"""

from __future__ import annotations

import datetime as dt
import re

from batchacct.model import IDENTITY
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from batchacct.parsing.rows import row_of
from cecol.blah import UNKNOWN_LRMS, VOMS_COLUMNS, batch_id, lrms_of_ce, voms

TABLE = "ce"
_SIGN = re.compile(rb'\{"ce": ?\{')


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One row to who submitted one batch job.  Raises: Reject."""
    row = row_of(unit, TABLE)
    at = row.instant("timestamp", dt.UTC)
    if at is None:
        raise Reject("timestamp is missing")
    raw_id, ce_id = row.required("lrmsID"), row.text("ceID")
    batch = batch_id(raw_id)
    cluster = source.cluster_of_ce(ce_id)
    shown = dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {
        "record_key": f"blah:{cluster}:{shown}:{ce_id or ''}:{raw_id}",
        "cluster": cluster,
        "lrms": lrms_of_ce(ce_id) or batch.lrms or UNKNOWN_LRMS,
        "time_kind": "submit",
        "recorded_at": at,
        "ce_id": ce_id,
        "lrms_job_id": batch.lrms_job_id,
        "array_index": batch.array_index,
        "join_id": batch.join_id,
        **dict(zip(VOMS_COLUMNS, voms([row.text("userFQAN") or ""]), strict=True)),
    }


PARSER = UnitParser(
    name="ce-2012",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=lambda head: _SIGN.match(head) is not None,
)
