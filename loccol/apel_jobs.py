"""A job of an APEL client's database, as `batchacct import apel` hands it out: a line of JSON a row of JobRecords or EventRecords.

    {"JobRecords":{"Site":"EXAMPLE-SITE","SubmitHost":"ce01.example.org:8443/cream-lsf-grid","MachineName":"lsf.example.org",
    "Queue":"grid","LocalJobId":"4242","LocalUserId":"atlas042","VO":"atlas","WallDuration":3600,"CpuDuration":3500,"NodeCount":1,
    "Processors":8,"StartTime":"2023-11-14 22:13:20","EndTime":"2023-11-14 23:13:20","InfrastructureType":"grid",
    "InfrastructureDescription":"APEL-CREAM-LSF","ServiceLevelType":"HEPscore23","ServiceLevel":12.5}}           (one line)

    column               column of JobRecords (of EventRecords, where it has another name), and what is done with it
    lrms_job_id          LocalJobId (JobName) as it is, so that it is published under the key it had; array_index: null
    join_id              without server, index and component, as the BLAH log's ids are joined
    site                 Site;  cluster: the configured one whose machine_name is MachineName
    lrms                 the last part of InfrastructureDescription (Infrastructure), `APEL-CREAM-LSF`
    user_name, queue     LocalUserId (LocalUserID), Queue
    group_name           LocalUserGroup of the EventRecords row of the same job; else of a local job the VO, which APEL made of it
    start_at, end_at     StartTime, EndTime: UTC;  logged_at: end_at
    wall_duration_s      WallDuration;  cpu_duration_s: CpuDuration: as APEL has scaled and rounded them
    processors, node_count      Processors, NodeCount; 0, which APEL writes where it was not told to look, is null
    memory_real_kib, memory_virtual_kib    MemoryReal, MemoryVirtual; 0 is null
    state                unknown

What it does not say (submission, hosts, exit status, project, names) is null. A job that never started has a StartTime of 1970,
and a wallclock of decades: a reject. Natural key: cluster, LocalJobId and EndTime, which is that of the table. Source: apel/apel
schemas/client.sql.
"""

from __future__ import annotations

import datetime as dt
import re

from batchacct.model import JOB, Record
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from batchacct.parsing.batch_ids import join_id_of
from batchacct.parsing.rows import RowValues, row_of

JOINED, EVENTS = "JobRecords", "EventRecords"
LOCAL = "local"
UNKNOWN_LRMS = "unknown"
_SIGN = re.compile(rb'\{"(?:JobRecords|EventRecords)": ?\{')
_LRMS = {"LSF": "LSF", "PBS": "PBS", "SGE": "SGE", "SLURM": "Slurm", "HTCONDOR": "HTCondor"}
_COMPONENT = re.compile(r"\+[0-9]+$")


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One row to one job.  Raises: Reject with what is missing, or impossible."""
    row = row_of(unit, JOINED, EVENTS)
    is_joined = row.table == JOINED
    job_id = row.required("LocalJobId" if is_joined else "JobName")
    start, end = row.instant("StartTime", dt.UTC), row.instant("EndTime", dt.UTC)
    if end is None:
        raise Reject("EndTime is missing")
    if start is None:
        raise Reject("StartTime is 1970: the job never started, and what it is accounted for is none")
    if start > end:
        raise Reject("the job ended before it started")
    cluster = source.cluster_of_ce(row.required("MachineName"))
    lrms = _lrms_of(row.text("InfrastructureDescription" if is_joined else "Infrastructure"))
    return {
        "record_key": f"apel:{cluster}:{job_id}:{end}",
        "site": row.required("Site"),
        "cluster": cluster,
        "lrms": lrms,
        "lrms_job_id": job_id,
        "join_id": join_id_of(_COMPONENT.sub("", job_id) if lrms == "Slurm" else job_id),
        "user_name": row.text("LocalUserId" if is_joined else "LocalUserID"),
        "group_name": _group_of(row),
        "queue": row.text("Queue"),
        "start_at": start,
        "end_at": end,
        "logged_at": end,
        "wall_duration_s": row.integer("WallDuration"),
        "cpu_duration_s": row.integer("CpuDuration"),
        "state": "unknown",
    } | _sizes(row)


def _sizes(row: RowValues) -> Record:
    columns = {"processors": "Processors", "node_count": "NodeCount"}
    columns |= {"memory_real_kib": "MemoryReal", "memory_virtual_kib": "MemoryVirtual"}
    return {column: row.integer(name) or None for column, name in columns.items()}


def _group_of(row: RowValues) -> str | None:
    return row.text("LocalUserGroup") or (row.text("VO") if row.text("InfrastructureType") == LOCAL else None)


def _lrms_of(description: str | None) -> str:
    return _LRMS.get((description or "").rpartition("-")[2].upper(), UNKNOWN_LRMS)


PARSER = UnitParser(
    name="apel-jobs",
    record_type=JOB,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=lambda head: _SIGN.match(head) is not None,
)
