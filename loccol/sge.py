"""Accounting file of SGE 6, OGS, SoGE and Univa GE (`$SGE_ROOT/$SGE_CELL/common/accounting`): a line is one run, or a piece of it.

    ecdf:node052.beowulf.cluster:dteam:dteam020:STDIN:1156411:sge:5:1222851611:1222851645:1222851720:0:0:75:1:0:0.000000:0:0:0:0:
    130665:0:0:0.000000:0:0:0:0:4183:1473:dteam:defaultdepartment:NONE:1:0:75.000000:219.726562:0.000000:-u dteam020 -q ecdf -l
    h_fsize=5G,h_rt=172799,h_vmem=3000M -P dteam:0.000000:NONE:583712768.000000           (one line; Edinburgh, 2008)

Every field by name: `loccol.sge_colon`. Lines have 39 (before 6.0), 43 (6.0), 45 (6.2, OGS, SoGE, OCS), 46 to 55 (UGE 8) or 74
fields; which version wrote a line is told by the line alone, so that a file may span upgrades. What becomes of the fields:

    column                  field (0-based), its unit, and what is done with it
    lrms_job_id, join_id    5 job_number;  array_index: 35 task_number if not 0
    user_name, group_name   3 owner, 2 group;  queue: 0 qname
    project                 31 project, else 6 account (`qsub -A`) unless it is the default, `sge`
    submit_host, command    49, 51 submit_cmd (UGE 8.2 and later)
    submit_at, start_at, end_at (= logged_at)   8, 9, 10; seconds, milliseconds if above 10^11, rounded down; Unix time: no zone
    wall_duration_s         13 ru_wallclock, rounded down, else end - start; suspended time is in it
    cpu_duration_s          36 cpu, of all processes the execd saw: the source's only whole total, hence cpu_user_s and
                            cpu_system_s are null (14, 15 are of those alone that the job's own shell waited for)
    processors              34 slots;  node_count, exec_hosts: 1 hostname; of parallel jobs see below
    memory_virtual_kib      42 maxvmem (bytes);  memory_real_kib: 47 maxrss (bytes), else 16 ru_maxrss (KB, largest process);
                            null if 0 (not measured).  memory_requested_kib: null, whether `-l h_vmem` is for each slot or for
                            the job depends on a setting that the log does not show
    gpu_count               `-l gpu=N` (also gpus, ngpus, num_gpus, gpu_count) of 39 category, or of the granted resources of UGE,
                            as it stands: for the job. A site whose complex is per slot finds `slots` beside it
    exit_code               12 exit_status, if 0 to 255;  exit_signal: n of 128 + n, where 11 failed is 17, 37, 44 or 100
    state                   requeued: failed 24, 25;  completed: failed and exit_status 0;  cancelled: 46 qdel_info names a person;
                            timeout, out_of_memory: ended by a signal or a limit (failed 17, 37, 44, 100) with wall, CPU or
                            maxvmem at a limit of the request; failed 37 and 44 (a limit enforced) are timeout where the request
                            does not tell;  failed: all else. Classic SGE does not say who sent a signal: then it is `failed`
    resources               {"request": what `-l` asked for (hard), "granted": ... (UGE), "mem": GB s, "io": GB, "ioops": ...}

Department, working directory and advance reservation are in `native` only. UGE writes 0xFF for `:` in category and submit_cmd
(U+FFFD in files that were re-encoded); that is undone.

Jobs that never started (start_time 0) are records with state `never_started`, one for each host that was tried. Where the
line holds no time at all, as SGE 6 and SoGE write it, it is skipped and counted: no month can be told for it.

Jobs in a parallel environment, those with one slot too, are parts, as records of tasks may belong to them
(`loccol.sge_parallel`): a job for each master's record (several if it was rescheduled), with the sum of the CPU, mem, io and
memory of its own and its tasks' records, and the distinct hosts. Of a lone record with several slots node_count is null: with
`accounting_summary` or loose integration only the master's host is named. Without slots by host, exec_hosts are bare names. A
task's record without its master's waits. Lines of a `reporting` file are not read: it tells of the same jobs, long ones in
daily pieces.

Natural key: cluster, job_number, task_number, submission, start and end time; ids wrap at 9,999,999. Sources: accounting(5),
sge_status(5), sge_pe(5), reporting(5), queue_conf(5) of SoGE and OCS; UGE by its man page as public parsers quote it, and lines.
"""

from __future__ import annotations

import re

from batchacct.model import JOB
from batchacct.parsing import Outcome, Reject, Skip, Source, UnitParser
from loccol.sge_colon import run_of_line
from loccol.sge_fast import fast_lane
from loccol.sge_parallel import COMPLETION
from loccol.sge_runs import LRMS, outcome_of

REPORTED_JOB = "a job of a reporting file: give the accounting file to this parser instead"

_REPORTING = re.compile(
    rb"[0-9]{9,16}:(new_job|job_log|queue|queue_consumable|host|host_consumable|sharelog|new_ar|ar_log|ar_attr|ar_acct|acct):"
)
_LINES = re.compile(rb"[^\r\n]+")
_HEADER = b"# DO NOT MODIFY THIS FILE MANUALLY!"


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to a job, or to a part of a parallel one; comments are skipped.

    Raises: Reject with the field that is missing or of the wrong kind, or with what is impossible about the record.
    """
    if unit.startswith(b"#"):
        return Skip("comment")
    if len(unit) <= 1:
        return Skip("a line of one character")
    if event := _REPORTING.match(unit):
        if event[1] == b"acct":
            raise Reject(REPORTED_JOB)
        return Skip("event of a reporting file")
    return outcome_of(run_of_line(unit), source.cluster)


def recognise(head: bytes) -> bool:
    """Whether the first line that is no comment is a record (the last one may be cut off); or only the header is there."""
    for line in _LINES.finditer(head):
        if not line[0].startswith(b"#"):
            try:
                run_of_line(line[0])
            except Reject:
                return False
            return True
    return _HEADER in head


PARSER = UnitParser(
    name="sge",
    record_type=JOB,
    lrms=LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    fast_lane=fast_lane,
    recognise=recognise,
    completion=COMPLETION,
)
