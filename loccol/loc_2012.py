"""A job of the 2012 batchacct's table `loc`, as `batchacct import 2012` hands it out: a line of JSON a row.

    {"loc":{"eventTime":"2012-05-20 13:37:00","jobId":4242,"idx":0,"userName":"alice001","submitTime":"2012-05-20 12:00:00",
    "startTime":"2012-05-20 12:05:00","queue":"grid_atlas","jStatus":64,"ru_utime":5400.2,"ru_stime":12.5}}       (one line)

The columns are LSF's own fields, so that what becomes of them is what the parser `lsf` makes of the line they came from, but for
what the table has not kept:

    column               what differs from the log's record
    times                local, without a zone: those of the source's. Of the hour that comes twice they are the first, but where a
                         job would have ended before it started, or started before it was submitted. 1970-01-01 is none
    wall_duration_s      end - start: runTime is not in the table
    exec_hosts           null where the table's text was cut (255 characters; then numExHosts, the slots, says more than it names);
                         processors is numExHosts then, and node_count is null
    job_name, command    at most 255 characters
    host_factor          two decimals
    gpu_count, energy_j  null

Natural key: that of the log's record: cluster, jobId, idx, submitTime, startTime, eventTime. Source: jeromebelleman/batchacct,
common/batchacct/common.py.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN

from batchacct.model import JOB, Record
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from batchacct.parsing.rows import RowValues, row_of
from loccol.lsf_values import TEXT_FIELDS, exec_hosts, exit_columns, group_of, state_of

TABLE = "loc"
LONGEST_TEXT = 255
_SIGN = re.compile(rb'\{"loc": ?\{')


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One row to one run of a job.  Raises: Reject with what is missing, or impossible."""
    row = row_of(unit, TABLE)
    number, index = row.integer("jobId"), row.integer("idx") or 0
    if number is None or number < 1:
        raise Reject("jobId is impossible: LSF numbers jobs from 1")
    submit, begin = row.instant("submitTime", source.zone), row.instant("beginTime", source.zone)
    start = row.instant("startTime", source.zone, after=submit)
    end = row.instant("eventTime", source.zone, after=start or submit)
    if end is None:
        raise Reject("eventTime is missing: the time the job ended is always known")
    if start is not None and start > end:
        raise Reject("the job ended before it started")
    ids = (number, index, submit or 0, start or 0, end)
    host_factor = row.number("hostFactor")
    record: Record = {
        "record_key": ":".join(["lsf", source.cluster or "", *map(str, ids)]),
        "lrms_job_id": str(number),
        "join_id": str(number),
        "array_index": index if index > 0 else None,
        "user_id": row.integer("userId"),
        "group_name": group_of((row.text("chargedSAAP") or "").encode()),
        "submit_at": submit,
        "eligible_at": begin if begin is not None and begin > (submit or 0) else None,
        "start_at": start,
        "end_at": end,
        "logged_at": end,
        "wall_duration_s": None if start is None else end - start,
        "memory_real_kib": _not_negative(row.integer("maxRMem")),
        "memory_virtual_kib": _not_negative(row.integer("maxRSwap")),
        "state": state_of(row.integer("jStatus") or 0, row.integer("exitInfo") or 0, started=start is not None),
        "host_factor": None if host_factor is None else float(host_factor),
    }
    record |= {column: row.text(name) for column, name in TEXT_FIELDS} | _cpu(row) | _allocation(row)
    status = row.integer("exitStatus")
    return record | (exit_columns(status) if start is not None and status is not None else {})


def _cpu(row: RowValues) -> Record:
    """Nothing where LSF did not know it: it wrote -1."""
    user, system = row.number("ru_utime"), row.number("ru_stime")
    if user is None or system is None or user < 0 or system < 0:
        return {}
    seconds = int((user + system).to_integral_value(ROUND_HALF_EVEN))
    return {"cpu_user_s": float(user), "cpu_system_s": float(system), "cpu_duration_s": seconds}


def _allocation(row: RowValues) -> Record:
    names = (row.text("execHosts") or "").split()
    slots = row.integer("numExHosts")
    if len(row.text("execHosts") or "") >= LONGEST_TEXT and (slots is None or len(names) <= slots):
        return {"processors": slots or None}
    if not names:
        return {}
    allocated = exec_hosts([name.encode() for name in names])
    return {"exec_hosts": allocated.text, "processors": allocated.slots, "node_count": allocated.nodes}


def _not_negative(number: int | None) -> int | None:
    return number if number is not None and number >= 0 else None


PARSER = UnitParser(
    name="loc-2012",
    record_type=JOB,
    lrms="LSF",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=lambda head: _SIGN.match(head) is not None,
)
