"""Torque, PBS Pro and OpenPBS accounting log, `server_priv/accounting/YYYYMMDD`: an E line is one run of one job.

    09/08/2011 00:02:54;E;5190443[169].ff-head.unl.edu;user=dyzhan group=jiang jobname=workload-169 queue=default ctime=1315326110
    qtime=1315326110 etime=1315326110 start=1315419292 owner=dyzhan@logon.local exec_host=c3116/3 Resource_List.walltime=144:00:00
    session=22856 end=1315458174 Exit_status=0 resources_used.cput=10:46:28 resources_used.mem=1850156kb
    resources_used.vmem=3535820kb resources_used.walltime=10:48:02          (one line; University of Nebraska, edquist/gratia)

    column                  attribute, its unit, and what is done with it
    lrms_job_id, join_id    `number[index].server` without index; its number.  array_index: index (old Torque: `number-index`)
    user_name, job_name, queue      user, jobname, queue;  group_name: group, null for PBS Pro's `-default-`
    project                 account, else project, null for `_pbs_project_default`;  submit_host: host of owner (Torque)
    submit_at, eligible_at  ctime, etime (the same on every attempt);  start_at, end_at: start, end;  all Unix seconds
    logged_at               end; on lines without it the time the line begins with, in the zone of the source
    wall_duration_s         resources_used.walltime (PBS Pro: without suspension); end - start if it is missing, negative or more
                            than twice that.  cpu_duration_s: resources_used.cput; null if missing or negative. H:M:S or seconds
    processors              Cray: mppwidth times mppdepth; else total_execution_slots, ncpus of exec_vnode, slots of exec_host, or,
                            where none of them is written, what was asked for: nodes, select, ncpus, procs of Resource_List
    exec_hosts, node_count  exec_host and its distinct hosts; Cray: mppwidth / mppnppn nodes (exec_host is the login node there)
    gpu_count, gpu_model    ngpus of exec_vnode, else of Resource_List ngpus, gpus, gpu, else `gpus=` of nodes, nodect, neednodes
                            times nodes; gpu_type of Resource_List or select.  Null for a job without GPUs
    memory_*_kib            resources_used mem and vmem, Resource_List.mem; sizes `12kb`, `0b`, `3gb`, words, `12.27M`; rounded down
    energy_j                resources_used.energy_used (J, null if 0);  run_number: run_count (PBS Pro), start_count (Torque)
    resources               every resources_used.NAME, JSON object of NAME to the text as written
    exit_code, exit_signal  Exit_status 0 to 255; 256 + signal.  state: below

State: Exit_status 0 is completed. Negative ones mean different things: -10, -11, -12 of Torque are memory, walltime, cput; -26, -27
and -31 of PBS Pro are memory, -28 and -29 cput and walltime, -14 and -20 lost nodes. Attributes that only one of the two writes
tell which it was (`pbs_job.MARKS`); where none, or some of both, are there it is failed. A job killed by SIGTERM or SIGKILL (271,
265; 143, 137 if the shell reports it) that had run as long as its Resource_List.walltime is a timeout, one that a D line asked to
delete while it ran, up to 10 s after its end, is cancelled. No Exit_status: unknown.

Other lines (`pbs_whole`): R lines of PBS Pro with usage are runs of their own, state requeued. S, Q, D, A and R lines without are
parts, from which follow attempts that Torque requeued (start to R, CPU unknown), attempts that were lost (state unknown, no end),
attempts whose node went down (D says so: node_fail), and jobs that ended in the queue (never_started). u and e lines are the phases
of a PBS Pro job that gave up nodes while it ran. Lines of array parents (`123[].server`), whose elements have lines of their own,
licences, reservations and changes of other kinds are skipped. A time or a prefix that is not `MM/DD/YYYY HH:MM:SS` (copies by grep
or syslog) is a reject: what stands before it may be the rest of another line.

Natural key: record type, cluster, whole id, start, logged_at. Ids begin anew after the largest or with a new server database, a job
keeps its id over all attempts, and one id can have several E lines. Zone: that of the server's host, for Q, S, D, A and R lines.
Sources: openpbs src/server/accounting.c, src/include/job.h; torque src/server/accounting.c; logs in tests/samples/pbs.
"""

from __future__ import annotations

import re

from batchacct.model import JOB, Record, whole_key
from batchacct.parsing import Completion, Outcome, Part, Reject, Skip, Source, UnitParser
from loccol.pbs_fast import fast_lane
from loccol.pbs_job import ended_job, identity
from loccol.pbs_line import USED, Attributes, Line, attributes, split_line, time_of
from loccol.pbs_whole import PHASES, complete

KINDS = {"E": "end", "Q": "queued", "S": "start", "R": "requeue", "D": "delete", "A": "abort", **PHASES}
"""Types of the lines that are read, and what a part made of one is called."""

SKIPPED = {
    "L": "licences",
    "M": "job moved to another server",
    "a": "job altered",
    "s": "start with fewer vnodes",
    "c": "next phase of a job",
    "z": "job suspended",
    "r": "job resumed",
    "P": "provisioning",
    "p": "provisioning",
    "C": "checkpoint",
    "T": "restart from a checkpoint",
    "U": "reservation",
    "Y": "reservation",
    "B": "reservation",
    "F": "reservation",
    "K": "reservation",
    "k": "reservation",
}

_SIGN = re.compile(rb"^[0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2};[A-Za-z];[^;\n]++;", re.MULTILINE)


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to a run of a job, to a part of one, or to a skip.  Raises: Reject."""
    line = split_line(unit, source.zone)
    if line.kind not in KINDS:
        return Skip(SKIPPED.get(line.kind, "unknown record type"))
    if line.job.is_parent:
        return Skip("parent of a job array")
    if line.kind in "QDA" or (line.kind == "R" and not line.message.strip(b" ")):
        return _part(line, source, None)
    found = attributes(line.message)
    if line.kind == "E":
        return _run(line, found, source)
    if line.kind == "R" and any(name.startswith(USED) for name in found):
        return _run(line, found, source) | {"state": "requeued"}
    if b"start" not in found:
        raise Reject("start is missing")
    return _part(line, source, time_of(found, b"start"))


def _run(line: Line, found: Attributes, source: Source) -> Record:
    record = ended_job(found)
    start, end = record["start_at"], record["end_at"]
    assert (start is None or isinstance(start, int)) and isinstance(end, int)
    return record | identity(line.job, line.kind, source.cluster, start, end)


def _part(line: Line, source: Source, start: int | None) -> Part:
    record = identity(line.job, line.kind, source.cluster, start, line.logged_at)
    del record["lrms_job_id"]
    return Part(
        record
        | {
            "part_key": whole_key(line.job.join_id, line.job.array_index),
            "kind": KINDS[line.kind],
            "logged_at": line.logged_at,
            "start_at": start,
        }
    )


PARSER = UnitParser(
    name="pbs",
    record_type=JOB,
    lrms="PBS",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    fast_lane=fast_lane,
    recognise=lambda head: _SIGN.search(head) is not None,
    completion=Completion("pbs", JOB, complete, amends=True),
)
