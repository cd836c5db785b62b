"""The batch job named in the lines of /proc/PID/cgroup, as each batch system names its cgroups.

    Slurm, v2     0::/system.slice/[NODE_]slurmstepd.scope/job_211/step_0/user/task_0
                  (from 26.05 the SLUID, of 14 characters, in place of job_211)
    Slurm, v1     4:memory:/slurm[_NODE]/uid_1000/job_211/step_batch[/task_0]
    Torque        3:cpuset:/torque/8845236.server
    PBS Pro, v1   5:cpu,cpuacct:/pbs_jobs.service/jobid/12345[1].server
    PBS Pro, v2   0::/pbs_jobs.service/jobs/12345.1
    SGE, UGE      3:cpuset:/sge/1234.1/23456, 4:memory:/UGE/1234.1: job, task, the shepherd's pid
    LSF           9:freezer:/lsf/CLUSTER/job.4711.23456.1700000000
    HTCondor      0::/system.slice/htcondor/condor_var_lib_condor_execute_slot1_23@host: the slot, but no id

A job may be named on one line of several only, so that all are looked at, and the first that fits is taken. What stands below (a
pilot's own cgroups) does not matter. Sources: NordicHPC/sonar src/linux/slurm_test.rs, mahendrapaipuri/ceems
pkg/collector/cgroup.go, the test suite of openpbs/openpbs, Son of Grid Engine's source, the HTCondor manual; LSF's form is known
from no readable source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SLURM, PBS, SGE, LSF, HTCONDOR = "Slurm", "PBS", "SGE", "LSF", "HTCondor"
"""As the parsers of jobs write `lrms`."""


@dataclass(frozen=True, slots=True)
class CgroupJob:
    """What a cgroup says. `job_id` as written there; None where only the slot is named."""

    lrms: str
    job_id: str | None
    step_id: str | None = None
    slot: str | None = None


_STEP = r"(?:/step_(?P<step>[0-9]+|batch|extern|interactive))?"
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (SLURM, re.compile(rf"/(?:[^/]+_)?slurmstepd\.scope/job_(?P<id>[0-9]+){_STEP}(?:/|$)")),
    (SLURM, re.compile(rf"/(?:[^/]+_)?slurmstepd\.scope/(?P<id>[A-Za-z0-9]{{14}}){_STEP}(?:/|$)")),
    (SLURM, re.compile(rf"/slurm(?:_[^/]+)?/uid_[0-9]+/job_(?P<id>[0-9]+){_STEP}(?:/|$)")),
    (PBS, re.compile(r"/torque/(?P<id>[0-9][^/]*)(?:/|$)")),
    (PBS, re.compile(r"/pbs_jobs\.service/jobid/(?P<id>[0-9][^/]*)(?:/|$)")),
    (PBS, re.compile(r"/pbs_jobs\.service/jobs/(?P<id>[0-9]+(?:\[[0-9]*\])?(?:\.[^/.0-9][^/]*)?)(?:\.[0-9]+)?(?:/|$)")),
    (SGE, re.compile(r"/(?:sge|UGE|uge|age)/(?P<id>[0-9]+\.[0-9]+)(?:/|$)")),
    (LSF, re.compile(r"/lsf/[^/]+/job\.(?P<id>[0-9]+)\.[^/]*(?:/|$)")),
    (HTCONDOR, re.compile(r"/htcondor/condor_[^/]*?_(?P<slot>slot[0-9]+(?:_[0-9]+)?(?:@[^/]+)?)(?:/|$)")),
)
_LIKELY = re.compile(r"job|slurm|torque|/sge/|/uge/|/age/|htcondor", re.IGNORECASE)
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")


def job_of_cgroup(lines: str) -> CgroupJob | None:
    """The job that the first fitting line names; None if none does."""
    if not _LIKELY.search(lines):
        return None
    for line in lines.splitlines():
        path = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), line.split(":", 2)[-1])
        for lrms, form in _FORMS:
            if match := form.search(path):
                found = match.groupdict()
                return CgroupJob(lrms, found.get("id"), found.get("step"), found.get("slot"))
    return None
