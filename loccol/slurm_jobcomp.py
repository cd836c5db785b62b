r"""Slurm's job completion log, `jobcomp/filetxt` (`/var/log/slurm_jobcomp.log`): a line is one run of one job that ended.

    JobId=2293679 UserId=btr0104h(210981) GroupId=btr0(14700) Name=run.sh JobState=FAILED Partition=a100 TimeLimit=1440
    StartTime=2025-01-11T22:45:16 EndTime=2025-01-11T22:45:18 NodeList=a0532 NodeCnt=1 ProcCnt=16 WorkDir=/home/hpc/btr0/btr0104h/l
    ReservationName= Tres=cpu=16,mem=240000M,node=1,billing=16,gres/gpu=1,gres/gpu:a100=1 Account=btr0 QOS=normal WcKey=*
    Cluster=alex SubmitTime=2025-01-11T22:45:14 EligibleTime=2025-01-11T22:45:14 DerivedExitCode=0:0 ExitCode=2:0  (one line)

| Key                          | Column                   | Fact                                                                |
|------------------------------|--------------------------|---------------------------------------------------------------------|
| JobId                        | lrms_job_id, join_id     | the raw id; of an array task ArrayJobId, of a component HetJobId    |
| ArrayTaskId                  | array_index              | HetJobOffset is in lrms_job_id, `12+1` (PackJobId up to 19.05)      |
| UserId, GroupId              | user_name, group_name    | `name(number)`; the user's number is user_id                        |
| Name, Account, Partition     | job_name, project, queue |                                                                     |
| JobState                     | state                    | the base state: PENDING is a run that was requeued; RESIZING is one |
|                              |                          | finished size of a job that went on (`unknown`)                     |
| StartTime, EndTime           | start_at, end_at         | local; EndTime is logged_at too; `Unknown` is none                  |
| SubmitTime, EligibleTime     | submit_at, eligible_at   | local, since 17.11                                                  |
| NodeList, NodeCnt, ProcCnt   | exec_hosts, node_count,  | `(null)` is none: such a job that started as it ended never started |
|                              | processors               |                                                                     |
| Tres (Gres up to 20.02)      | memory_requested_kib     | its `mem`; all of it is the request: GPUs allocated are not known   |
| QOS                          | resources                |                                                                     |
| ExitCode                     | exit_code, exit_signal   | `code:signal`, since 17.11                                          |

Up to 17.02 a line ends with WorkDir. TimeLimit, WorkDir, ReservationName, WcKey, Cluster, DerivedExitCode are in `native` only.
wall_duration_s is EndTime - StartTime, time suspended included. **CPU used is not in this log** (null), nor is memory used: where
slurmdbd runs, `slurm-sacct` has both, and the same key for the same run.

Nothing is quoted: Name and WorkDir may hold blanks and `=`, so a line is cut where all keys of a group follow each other in the
writer's order. A line that can be cut in two ways is rejected: the name of a job must not say what became of it.

Zone: the source's. In the hour that comes twice the earlier reading is taken that does not end before it starts. Natural key:
cluster, JobId, StartTime, EndTime. Source: SchedMD/slurm src/plugins/jobcomp/filetxt/jobcomp_filetxt.c, tags 2.6 to 26.05.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re

from batchacct.model import JOB, Record, text_of
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from batchacct.parsing.contract import printable
from loccol.slurm_jobcomp_fast import fast_lane
from loccol.slurm_jobcomp_run import NOT_ENDED, Run, known, requested_kib, state_of
from loccol.slurm_values import JobId, exit_columns, instants, node_list, resource_columns

_START = re.compile(rb"JobId=([0-9]{1,10}) UserId=(?>(.*?)\(([0-9]{1,10})\) GroupId=)(?>(.*?)\(([0-9]{1,10})\) Name=)", re.DOTALL)
_MIDDLE = re.compile(
    rb" JobState=(\S++) Partition=(\S*+) TimeLimit=\S++ StartTime=(\S++) EndTime=(\S++) NodeList=(\S*+)"
    rb" NodeCnt=([0-9]{1,10}) ProcCnt=([0-9]{1,10}) WorkDir="
)
_END = re.compile(
    rb" ReservationName=\S*+ (?:Gres|Tres)=(\S*+) Account=(\S*+) QOS=(\S*+) WcKey=\S*+ Cluster=\S*+"
    rb" SubmitTime=(\S++) EligibleTime=(\S++)(?: ArrayJobId=([0-9]{1,10}) ArrayTaskId=([0-9]{1,10}))?+"
    rb"(?: (?:Het|Pack)JobId=([0-9]{1,10}) (?:Het|Pack)JobOffset=([0-9]{1,10}))?+ DerivedExitCode=\S++ ExitCode=(\S++)"
)
_RECOGNISED = re.compile(rb"^JobId=[0-9]+ UserId=(?>[^\n]*?\) GroupId=)(?>[^\n]*?\) Name=)(?>[^\n]*? JobState=)", re.MULTILINE)


def recognise(head: bytes) -> bool:
    """A line that begins as this log's do; `scontrol show job` has other keys in its place."""
    return _RECOGNISED.search(head) is not None


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to one run of a job.  Raises: Reject."""
    start = _START.match(unit)
    if not start:
        raise Reject(f"it does not begin with JobId, UserId, GroupId and Name: {printable(unit)}")
    middle = _only(_MIDDLE, unit, start.end(), "JobState to WorkDir")
    if not middle:
        raise Reject("JobState to WorkDir do not follow Name: the line is cut short or damaged")
    end = _only(_END, unit, middle.end(), "ReservationName to ExitCode")
    if not end and b" ReservationName=" in unit[middle.end() :]:
        raise Reject("ReservationName to ExitCode do not follow WorkDir: the line is cut short or damaged")
    raw = int(start[1])
    word, queue, _, _, nodes, node_count, cpus = (text_of(group) for group in middle.groups())
    state = state_of(word, "JobState")
    times = _times(text_of(middle[3]), text_of(middle[4]), source.zone)
    if state is None or times is None:
        return NOT_ENDED
    job = _job_id(raw, end)
    run = Run(job, raw, state, *times, node_list(nodes), int(node_count), int(cpus))
    record = run.columns(source) | {
        "user_name": text_of(start[2]) or None,
        "user_id": int(start[3]),
        "group_name": text_of(start[4]) or None,
        "job_name": text_of(unit[start.end() : middle.start()]) or None,
        "queue": queue or None,
    }
    return record if end is None else record | _later(end, source.zone, started=record["start_at"] is not None)


def _only(pattern: re.Pattern[bytes], unit: bytes, at: int, what: str) -> re.Match[bytes] | None:
    """The one place where `pattern` matches after `at`.  Raises: Reject if there are two."""
    match = pattern.search(unit, at)
    if match and pattern.search(unit, match.start() + 1):
        raise Reject(f"the line can be read in two ways: {what} are there twice")
    return match


def _job_id(raw: int, end: re.Match[bytes] | None) -> JobId:
    """The id as `sbatch` printed it."""
    if raw == 0:
        raise Reject("JobId is no job id of Slurm")
    if end is None:
        return JobId(raw)
    array_id, index, het_id, offset = (None if group is None else int(group) for group in end.groups()[5:9])
    return JobId(het_id or array_id or raw, array_index=index if array_id else None, het_offset=offset if het_id else None)


def _later(end: re.Match[bytes], zone: dt.tzinfo, *, started: bool) -> Record:
    """What a line has since 17.11."""
    tracked, account, qos, submit, eligible = (text_of(group) for group in end.groups()[:5])
    exit_code = text_of(end[10])
    return {
        "project": known(account),
        "submit_at": _instant(submit, zone, "SubmitTime"),
        "eligible_at": _instant(eligible, zone, "EligibleTime"),
        "memory_requested_kib": requested_kib(tracked, "Tres"),
        "resources": resource_columns({}, known(qos))["resources"],
    } | (exit_columns(exit_code) if started else {})


def _instant(text: str, zone: dt.tzinfo, name: str) -> int | None:
    return next(iter(instants(known(text) or "", zone, name)), None)


def _times(start: str, end: str, zone: dt.tzinfo) -> tuple[int | None, int] | None:
    """Start and end: of the readings of local times the first that is in order; None if there is no end."""
    ends = instants(known(end) or "", zone, "EndTime")
    if not ends:
        return None
    starts = instants(known(start) or "", zone, "StartTime")
    if not starts:
        return None, ends[0]
    readings = list(itertools.product(starts, ends))
    return next(((first, last) for first, last in readings if first <= last), readings[0])


PARSER = UnitParser(
    name="slurm-jobcomp",
    record_type=JOB,
    lrms="Slurm",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    fast_lane=fast_lane,
    recognise=recognise,
)
