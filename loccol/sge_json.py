"""Accounting file of Open Cluster Scheduler and Gridware Cluster Scheduler 9 (`accounting.jsonl`): an object a line, one run each.

    {"job_number":10,"task_number":1,"start_time":1730532913429415,"end_time":1730532913979016,"owner":"root","group":"root",
    "account":"sge","qname":"all.q","hostname":"master","department":"defaultdepartment","slots":1,"job_name":"echo","priority":0,
    "submission_time":1730532912874519,"submit_cmd_line":"qsub -b y -terse echo 'job 1'","category":"","failed":0,"exit_status":0,
    "usage":{"rusage":{"ru_wallclock":0,"ru_utime":0.355821,"ru_stime":0.161309,"ru_maxrss":10284},"usage":{"wallclock":2.022342,
    "cpu":0.51713,"mem":0.0043125,"io":0.0000083,"iow":0.0,"maxvmem":21049344.0,"maxrss":10530816.0}}}
                                                         (one line, shortened; hpc-gridware/go-clusterscheduler, 9.0)

The keys are the fields of the classic file, and become the same columns: see the page of `loccol.sge`. What differs:

    column                  key
    submit_at, start_at, end_at   microseconds, rounded down
    cpu_duration_s, memory_*, resources   `usage.eusage`, which 9.0 calls `usage.usage`: cpu, maxvmem, maxrss, mem, io, ioops
    wall_duration_s         `usage.rusage.ru_wallclock`, else end - start; not `eusage.wallclock`, once a sum over tasks (CS-2616)
    command                 submit_cmd_line
    state                   `deleted_by`: a person cancels, `execd@` and `qmaster@` enforce a limit

The id of a task of a parallel job is pe_taskid or pe_task_id; absent, "" and "NONE" mean none. A key that is absent is null.
`old_accounting=true` writes the classic file instead, and can be switched at run time: give each file its parser. The
`record_key` of a run is the same in both, and their parts complete each other. Lines of `reporting.jsonl` are not read.

Zone: none needed, times are Unix times. Jobs that never started: as on the page of `loccol.sge`. Sources: accounting(5) of OCS,
its release notes and writer (sge_rusage.cc); two real lines of 9.0, none of a later version.
"""

from __future__ import annotations

from batchacct.model import JOB
from batchacct.parsing import Outcome, Reject, Skip, Source, UnitParser
from loccol.sge_json_lines import object_of, run_of_object
from loccol.sge_parallel import COMPLETION
from loccol.sge_runs import LRMS, outcome_of

REPORTED_JOB = "a job of a reporting file: give accounting.jsonl to this parser instead"


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to a job, or to a part of a parallel one.

    Raises: Reject with the key that is missing or of the wrong kind, or with what is impossible about the record.
    """
    if unit.startswith(b"#"):
        return Skip("comment")
    found = object_of(unit)
    if "type" in found and "time" in found:
        if found["type"] == "acct":
            raise Reject(REPORTED_JOB)
        return Skip("event of a reporting file")
    return outcome_of(run_of_object(found), source.cluster)


def recognise(head: bytes) -> bool:
    """Whether the first line is an object with the keys of an accounting record."""
    try:
        found = object_of(head.partition(b"\n")[0])
    except Reject:
        return False
    return "time" not in found and {"job_number", "owner", "hostname", "submission_time", "usage"} <= found.keys()


PARSER = UnitParser(
    name="sge-json",
    record_type=JOB,
    lrms=LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=recognise,
    completion=COMPLETION,
)
