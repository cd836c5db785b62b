r"""HTCondor history, ads in long form: one ad is one job that left the queue, all its attempts together.

    ClusterId = 377260
    CompletionDate = 1290672370
    GlobalJobId = "stress3.chtc.wisc.edu#377260.0#1290671437"
    JobStatus = 4
    ProcId = 0
    RemoteWallClockTime = 910.000000
    *** Offset = 0 ClusterId = 377260 ProcId = 0 Owner = "vdtuser03" CompletionDate = 1290672370

It reads the schedd's `history` and its rotated files (each ad closed by its banner, `*** `; an ad whose banner is not written
yet waits), and the output of `condor_history -long` (a blank line between ads; in a file that is followed, the last ad waits for
something behind it). `htcondor-perjob` is the same for the files of PER_JOB_HISTORY_DIR (one ad a file, no banner, complete once
it is there), `htcondor-json` for `condor_history -json`. STARTD_HISTORY, of execute hosts, is not for it. An ad without banner
whose last line has no end was cut short, and is a reject. What becomes of the attributes:

    column                  attribute, its unit, and what is done with it (names in any case, the last value counts)
    lrms_job_id             GlobalJobId whole, as APEL publishes it; so it is one job to a receiver, whichever of these files told
                            of it (`batchacct why 2376.0` finds it as well).  submit_host: the schedd's, in GlobalJobId
    join_id                 GlobalJobId if the ad has a RoutedFromJobId (it came by HTCondor-CE: so spells htcondor-ce-apel it);
                            else ClusterId for proc 0 (so spells BLAH it), `ClusterId.ProcId` for others
    user_name, project      Owner, ProjectName.  group_name: AcctGroup, else AccountingGroup without its last component
    job_name, command       JobBatchName, Cmd.  There are no queues: the pattern `*` makes all jobs those of a grid queue
    submit_at, start_at     QDate, JobStartDate: the first attempt's.  All times are Unix seconds, 0 is none
    end_at, logged_at       CompletionDate where above 0, else EnteredCurrentStatus (removed jobs)
    wall_duration_s         RemoteWallClockTime: the sum over all attempts, suspension and file transfer in it.  Time between
                            attempts is not, so that it can be less than end - start
    cpu_*                   CumulativeRemoteUserCpu, CumulativeRemoteSysCpu: all attempts; where there are none (or both are 0)
                            RemoteUserCpu, RemoteSysCpu: the last attempt alone.  The sum rounded half to even
    processors              CpusProvisioned, MachineAttrCpus0, RequestCpus: the first that is a whole number above 0
    node_count              MaxHosts in the parallel universe (11), where processors, GPUs and memory are a node's times it; else 1
    memory_real_kib         ResidentSetSize_RAW, else ResidentSetSize (rounded up); memory_virtual_kib: ImageSize likewise, KiB
    memory_requested_kib    RequestMemory where it is a number, else MemoryProvisioned, MiB
    gpu_count, gpu_model    GPUsProvisioned, RequestGPUs, number of AssignedGPUs; the DeviceName the machine told of them
    exec_hosts              LastRemoteHost after its last `@` (AllRemoteHosts in the parallel universe)
    exit_code, exit_signal  ExitCode, or with ExitBySignal ExitSignal; null for removed jobs (they would be an earlier attempt's)
    host_factor             MachineAttrApelScaling0, kept apart: wall and CPU are not multiplied
    resources               *Provisioned, *Usage, Assigned*, MachineAttrApelSpecs0, what was requested, CommittedTime,
                            CumulativeSlotTime, NumJobStarts and their like
    state                   removed: cancelled, or out_of_memory, timeout if HTCondor held it for that (HoldReasonCode 34; 46, 47)
                            or RemoveReason is a policy's that speaks of one of the two; else by ExitBySignal and ExitCode

What is undefined or an expression (`RequestMemory = ceiling(...)`) is null; nothing is evaluated. A job removed before it ran
(no JobStartDate) is a record too, never_started, without usage. Skipped, with their reason: jobs in the queue (condor_q), on the
submit host (universes 7 scheduler and 12 local) or of another batch system (9 grid); a CE's original of a routed job
(RoutedToJobId), since its copy is the job; the ads of single attempts (banner EPOCH) and others whose banner has a type word.
Natural key: cluster, GlobalJobId. Sources: HTCondor manual, classadHistory.cpp, gratia-probe.
"""

from __future__ import annotations

import re

from batchacct.model import JOB
from batchacct.parsing import Outcome, Skip, Source, UnitParser
from batchacct.parsing.ad_framing import AdFraming, OneAdFraming, history_ad
from loccol.htcondor_ad import job_of_ad

_FIRST_LINE = re.compile(rb"\*\*\* |[A-Za-z_][A-Za-z0-9_]*+[ \t]*+=(?!=)")
_OF_A_JOB = re.compile(rb'^(?:GlobalJobId[ \t]*+=[ \t]*+"[^"\n]*#|ClusterId[ \t]*+=[ \t]*+[0-9])', re.MULTILINE)


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One ad, with its banner if it has one, to a job.  Raises: Reject for damage, and see `job_of_ad`."""
    ad = history_ad(unit)
    return ad if isinstance(ad, Skip) else job_of_ad(ad, source)


def recognise(head: bytes) -> bool:
    """It begins with an attribute line or a banner, and a line names a job."""
    return _FIRST_LINE.match(head.lstrip(b"\r\n")) is not None and _OF_A_JOB.search(head) is not None


PARSER = UnitParser(
    name="htcondor",
    record_type=JOB,
    lrms="HTCondor",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=AdFraming(),
    recognise=recognise,
)

PER_JOB = UnitParser(
    name="htcondor-perjob",
    record_type=JOB,
    lrms="HTCondor",
    version=1,
    parse_unit=parse_unit,
    doc="HTCondor per-job history files: one ad a file, complete once it is there, as parser `htcondor` reads ads.",
    framing=OneAdFraming(),
)
