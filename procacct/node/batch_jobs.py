"""The batch job a process belongs to: from its cgroup, from its parent, from its environment; and what to do where they differ.

The cgroup is the batch system's own word and comes first; the job of the parent is next, as a child belongs to it until something
better is known (docker, systemd-run move processes out of the job's cgroup); the environment is the user's word and comes last.
What the environment adds of the *same* job (the array a Slurm id belongs to) is taken from the first process that is seen in the
job.

**Spelling**, as the parsers of jobs have it, so that `join_id` (and `array_index`) find the job:

    Slurm      the raw id; of an array task the array's id and the index (SLURM_ARRAY_JOB_ID, SLURM_ARRAY_TASK_ID); of a
               component of a heterogeneous job `leader+offset`, joined by the leader's. All tasks of such a job have the leader's
               id in SLURM_JOB_ID, so only the cgroup tells components apart; without it all that ran is of the first
    PBS        `number.server`, joined by the number; `number[index].server` has the index
    LSF        LSB_JOBID; LSB_JOBINDEX if not 0
    SGE        JOB_ID (with SGE_CELL or SGE_ROOT beside it: the name is a common one); SGE_TASK_ID if not `undefined`. A cgroup says
               task 1 of a job without array, too: from there 1 is no index
    HTCondor   GlobalJobId of the ad at _CONDOR_JOB_AD, joined by `ClusterId`, or `ClusterId.ProcId` if that is not 0, or
               by the GlobalJobId of a job that HTCondor-CE routed

Sources: sbatch(1), pbs_job_attributes, bsub(1), qsub(1), the HTCondor manual.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from procacct.node.cgroups import HTCONDOR, LSF, PBS, SGE, SLURM, CgroupJob

CGROUP, PARENT, ENVIRONMENT = "cgroup", "parent", "environment"
MOST_AD_BYTES = 1 << 20

_NUMBER = re.compile(r"[0-9]{1,18}")
_PBS_ID = re.compile(r"([0-9]{1,18})(?:\[([0-9]{0,9})\]|-([0-9]{1,9}))?(\..*)?")
_AD_LINE = re.compile(r'^(ClusterId|ProcId|GlobalJobId|RoutedFromJobId)\s*=\s*"?([^"\n]*)"?\s*$', re.MULTILINE | re.IGNORECASE)
_SLURM_STEPS = {"4294967291": "batch", "4294967292": "extern", "4294967290": "interactive"}
"""SLURM_BATCH_SCRIPT, SLURM_EXTERN_CONT, SLURM_INTERACTIVE_STEP of slurm.h."""

_RANKS = ("OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
_SIZES = ("OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A job as a row names it. `raw` is what tells whether two sources mean the same one.

    `components`: how many a heterogeneous job of Slurm has; their raw ids are those from the leader's, its `join_id`, on.
    """

    lrms: str
    raw: str
    lrms_job_id: str | None
    join_id: str | None
    array_index: int | None = None
    step_id: str | None = None
    components: int | None = None

    def is_same(self, other: BatchJob) -> bool:
        return self.lrms == other.lrms and self.raw == other.raw

    def __str__(self) -> str:
        return f"{self.lrms} {self.raw}"


@dataclass(frozen=True, slots=True)
class Found:
    """A job, how it was found, and what each source said where they differ."""

    job: BatchJob | None
    job_from: str | None
    claims: tuple[tuple[str, str], ...] = ()


NOTHING = Found(None, None)


def of_cgroup(found: CgroupJob) -> BatchJob:
    """As a row names it, by the cgroup alone."""
    if found.job_id is None:
        return BatchJob(found.lrms, found.slot or "", None, None)
    if found.lrms == PBS:
        return _pbs(found.job_id)
    if found.lrms == SGE:
        number, _, task = found.job_id.partition(".")
        return BatchJob(SGE, found.job_id, number, number, int(task) if int(task) > 1 else None)
    return BatchJob(found.lrms, found.job_id, found.job_id, found.job_id, None, found.step_id)


def of_environment(variables: Mapping[str, str], read_ad: Callable[[str], str | None] | None = None) -> BatchJob | None:
    """By the variables of the batch systems; `read_ad` reads the file of an HTCondor job's ad, if the host has it."""
    return _slurm(variables) or _of_pbs(variables) or _lsf(variables) or _sge(variables) or _htcondor(variables, read_ad)


def found_job(cgroup: BatchJob | None, parent: BatchJob | None, environment: BatchJob | None) -> Found:
    """The job of a process by what the three say of it."""
    said = ((CGROUP, cgroup), (PARENT, parent), (ENVIRONMENT, environment))
    job_from, job = next(((source, one) for source, one in said if one is not None), (None, None))
    if job is None:
        return NOTHING
    fuller = next((one for one in (parent, environment) if one is not None and one is not job and _adds(job, one)), None)
    named = [(source, one) for source, one in said if one is not None]
    differ = any(not _agree(job, one) for _, one in named)
    return Found(
        _merged(job, fuller) if fuller else job, job_from, tuple((source, str(one)) for source, one in named) if differ else ()
    )


def mpi_of(variables: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Rank and size: of the MPI library first, of Slurm last, as several launches in one step have the same there."""
    return _first_number(variables, _RANKS), _first_number(variables, _SIZES)


def read_ad(path: str, owner: int | None) -> str | None:
    """The job's ad: a plain file that belongs to the job's user, or that everybody may read; None for anything else.

    The path is the user's word, so nothing is opened that could block, and nothing of another user is read.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY)
    except (OSError, ValueError):
        return None
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or not (about.st_uid == owner or about.st_mode & stat.S_IROTH):
            return None
        return os.read(handle, MOST_AD_BYTES).decode("utf-8", "backslashreplace")
    except OSError:
        return None
    finally:
        os.close(handle)


def _adds(job: BatchJob, other: BatchJob) -> bool:
    """Whether the other says more of the same job: the array that a raw id belongs to, the job in a slot."""
    if job.lrms == HTCONDOR and job.join_id is None:
        return other.lrms == HTCONDOR and other.join_id is not None
    if job.lrms == LSF and other.lrms == LSF:
        return job.join_id == other.join_id and job.array_index is None
    return job.is_same(other) or _is_sluid(job, other) or _offset(job, other) is not None


def _offset(job: BatchJob, other: BatchJob) -> int | None:
    """Which component of the heterogeneous job that the other tells of a job is; None if it is none."""
    if not (job.lrms == other.lrms == SLURM and other.components and other.join_id and job.raw.isdigit()):
        return None
    offset = int(job.raw) - int(other.join_id)
    return offset if 0 <= offset < other.components else None


def _is_sluid(job: BatchJob, other: BatchJob) -> bool:
    """A SLUID in the cgroup says nothing that an environment of Slurm could contradict."""
    return job.lrms == other.lrms == SLURM and not job.raw.isdigit()


def _agree(job: BatchJob, other: BatchJob) -> bool:
    return job.is_same(other) or _adds(job, other) or _adds(other, job)


def _merged(job: BatchJob, fuller: BatchJob) -> BatchJob:
    raw = fuller.raw if job.join_id is None else job.raw
    offset = _offset(job, fuller)
    shown = fuller.lrms_job_id if offset is None else f"{fuller.join_id}+{offset}"
    step = job.step_id or fuller.step_id
    return BatchJob(job.lrms, raw, shown, fuller.join_id, fuller.array_index, step, fuller.components)


def _slurm(variables: Mapping[str, str]) -> BatchJob | None:
    raw = _number(variables, "SLURM_JOB_ID") or _number(variables, "SLURM_JOBID")
    if raw is None:
        return None
    step = variables.get("SLURM_STEP_ID") or variables.get("SLURM_STEPID")
    step = _SLURM_STEPS.get(step, step) if step and _NUMBER.fullmatch(step) else None
    array, index = _number(variables, "SLURM_ARRAY_JOB_ID"), _number(variables, "SLURM_ARRAY_TASK_ID")
    if array is not None and index is not None:
        return BatchJob(SLURM, raw, array, array, int(index), step)
    first = _number(variables, "SLURM_JOB_ID_HET_GROUP_0") or _number(variables, "SLURM_JOB_ID_PACK_GROUP_0")
    components = int(_number(variables, "SLURM_HET_SIZE") or _number(variables, "SLURM_PACK_SIZE") or 0)
    if first is not None and 0 <= int(raw) - int(first) < components:
        return BatchJob(SLURM, raw, f"{first}+{int(raw) - int(first)}", first, None, step, components)
    leader, offset = _number(variables, "SLURM_HET_JOB_ID"), _number(variables, "SLURM_HET_JOB_OFFSET")
    if leader is not None and leader != "0":
        offset = offset if offset is not None else str(int(raw) - int(leader))
        return BatchJob(SLURM, raw, f"{leader}+{offset}", leader, None, step)
    return BatchJob(SLURM, raw, raw, raw, None, step)


def _of_pbs(variables: Mapping[str, str]) -> BatchJob | None:
    written = variables.get("PBS_JOBID", "")
    return _pbs(written) if _PBS_ID.fullmatch(written) else None


def _pbs(written: str) -> BatchJob:
    match = _PBS_ID.fullmatch(written)
    if not match:
        return BatchJob(PBS, written, written, written)
    number, bracketed, dashed, server = match.groups()
    index = bracketed or dashed
    raw = number if not index else f"{number}[{index}]"
    return BatchJob(PBS, raw, number + (server or ""), number, int(index) if index else None)


def _lsf(variables: Mapping[str, str]) -> BatchJob | None:
    number = _number(variables, "LSB_JOBID")
    if number is None:
        return None
    index = int(_number(variables, "LSB_JOBINDEX") or 0) or None
    return BatchJob(LSF, number if index is None else f"{number}[{index}]", number, number, index)


def _sge(variables: Mapping[str, str]) -> BatchJob | None:
    number = _number(variables, "JOB_ID")
    if number is None or not ("SGE_CELL" in variables or "SGE_ROOT" in variables):
        return None
    task = _number(variables, "SGE_TASK_ID")
    return BatchJob(SGE, f"{number}.{task or 1}", number, number, int(task) if task else None)


def _htcondor(variables: Mapping[str, str], read: Callable[[str], str | None] | None) -> BatchJob | None:
    path = variables.get("_CONDOR_JOB_AD")
    text = read(path) if path and read is not None else None
    if not text:
        return None
    ad = {name.lower(): value for name, value in _AD_LINE.findall(text)}
    cluster, proc, global_id = ad.get("clusterid", ""), ad.get("procid", ""), ad.get("globaljobid")
    if not (_NUMBER.fullmatch(cluster) and _NUMBER.fullmatch(proc) and global_id):
        return None
    spelled = cluster if int(proc) == 0 else f"{int(cluster)}.{int(proc)}"
    return BatchJob(HTCONDOR, f"{cluster}.{proc}", global_id, global_id if ad.get("routedfromjobid") else spelled)


def _number(variables: Mapping[str, str], name: str) -> str | None:
    value = variables.get(name, "")
    return value if _NUMBER.fullmatch(value) else None


def _first_number(variables: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    return next((int(value) for name in names if (value := _number(variables, name)) is not None), None)
