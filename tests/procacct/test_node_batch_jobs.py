"""The batch job of a process: cgroup lines of every batch system, environments, and where they differ."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pytest

from loccol.htcondor_ad import join_id as join_id_of_the_parser
from loccol.pbs_line import job_id as pbs_id_of_the_parser
from procacct.node.batch_jobs import BatchJob, Found, found_job, mpi_of, of_cgroup, of_environment, read_ad
from procacct.node.cgroups import CgroupJob, job_of_cgroup

SAMPLES = Path(__file__).parent / "samples"
with (SAMPLES / "cgroup-lines.tsv").open(encoding="utf-8", newline="") as stream:
    LINES = list(csv.DictReader(stream, delimiter="\t"))


def expected(key: str) -> tuple[str | None, str | None, str | None]:
    """Job, step and slot of the column `job_key`."""
    if key.startswith("(none"):
        return None, None, None
    if slot := re.match(r"(slot\S+) \(no job id", key):
        return None, None, slot[1]
    if task := re.match(r"(\d+) task (\d+)", key):
        return f"{task[1]}.{task[2]}", None, None
    step = re.match(r"(\d+) step (\w+)", key)
    return (step[1], step[2], None) if step else (key.split(" ", maxsplit=1)[0], None, None)


@pytest.mark.parametrize("row", LINES, ids=[f"{row['batch']}-{number}" for number, row in enumerate(LINES)])
def test_lines_of_cgroups(row: dict[str, str]) -> None:
    lines = f"12:pids:/init.scope\n{row['line_of_proc_pid_cgroup']}\n0::/\n"
    found = job_of_cgroup(lines)
    job, step, slot = expected(row["job_key"])
    if (job, slot) == (None, None):
        assert found is None
    else:
        assert found is not None
        assert (found.job_id, found.step_id, found.slot) == (job, step, slot)


def test_all_lines_were_looked_at() -> None:
    assert len(LINES) == 20


@pytest.mark.parametrize(
    ("line", "job"),
    [
        (r"0::/pbs_jobs.service/jobs/123\x5b4\x5d.server", CgroupJob("PBS", "123[4].server")),
        ("0::/system.slice/slurmstepd.scope/s12AbcDefGh789/step_0/user/task_0", CgroupJob("Slurm", "s12AbcDefGh789", "0")),
        ("0::/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0/pilot/payload_12", CgroupJob("Slurm", "7", "batch")),
        ("0::/user.slice/job_12/step_0", None),
        ("4:memory:/my-slurm-tools/job_12", None),
    ],
)
def test_more_lines_of_cgroups(line: str, job: CgroupJob | None) -> None:
    assert job_of_cgroup(line + "\n") == job


SLURM = {"SLURM_JOB_ID": "4243", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        (SLURM, BatchJob("Slurm", "4243", "4243", "4243", None, "0")),
        ({"SLURM_JOBID": "5", "SLURM_STEP_ID": "4294967291"}, BatchJob("Slurm", "5", "5", "5", None, "batch")),
        (
            SLURM | {"SLURM_ARRAY_JOB_ID": "4200", "SLURM_ARRAY_TASK_ID": "7"},
            BatchJob("Slurm", "4243", "4200", "4200", 7, "0"),
        ),
        ({"SLURM_JOB_ID": "12", "SLURM_HET_JOB_ID": "10", "SLURM_HET_JOB_OFFSET": "2"}, BatchJob("Slurm", "12", "10+2", "10")),
        ({"PBS_JOBID": "123[4].srv.example.org"}, BatchJob("PBS", "123[4]", "123.srv.example.org", "123", 4)),
        ({"PBS_JOBID": "99.srv"}, BatchJob("PBS", "99", "99.srv", "99")),
        ({"LSB_JOBID": "77", "LSB_JOBINDEX": "0"}, BatchJob("LSF", "77", "77", "77")),
        ({"LSB_JOBID": "77", "LSB_JOBINDEX": "3"}, BatchJob("LSF", "77[3]", "77", "77", 3)),
        ({"JOB_ID": "8", "SGE_TASK_ID": "undefined", "SGE_CELL": "default"}, BatchJob("SGE", "8.1", "8", "8")),
        ({"JOB_ID": "8", "SGE_TASK_ID": "1", "SGE_ROOT": "/sge"}, BatchJob("SGE", "8.1", "8", "8", 1)),
        ({"JOB_ID": "8"}, None),
        ({"SLURM_JOB_ID": "rm -rf"}, None),
        ({}, None),
    ],
)
def test_environments(variables: dict[str, str], job: BatchJob | None) -> None:
    assert of_environment(variables) == job


HET = {"SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_0": "5308000", "SLURM_JOB_ID_HET_GROUP_1": "5308001"}


@pytest.mark.parametrize(("raw", "spelled"), [("5308000", "5308000+0"), ("5308001", "5308000+1"), ("5308002", "5308002")])
def test_components_of_a_heterogeneous_job_are_told_by_the_cgroup(raw: str, spelled: str) -> None:
    """As Slurm was seen to do: in all tasks of such a job SLURM_JOB_ID is that of its leader, and nothing says which it is."""
    environment = of_environment({"SLURM_JOB_ID": "5308000", "SLURM_STEP_ID": "0"} | HET)
    found = found_job(of_cgroup(CgroupJob("Slurm", raw, "0")), None, environment)
    assert found.job is not None
    assert (found.job.lrms_job_id, found.job.join_id) == (spelled, spelled.partition("+")[0])
    assert bool(found.claims) == ("+" not in spelled)
    child = found_job(of_cgroup(CgroupJob("Slurm", raw, "0")), found.job, None)
    assert child.job == found.job


@pytest.mark.parametrize("written", ["123.srv", "123[4].srv", "7", "12-3.srv", "123[].srv", "odd.id"])
def test_pbs_ids_are_spelled_as_its_parser_spells_them(written: str) -> None:
    theirs, ours = pbs_id_of_the_parser(written.encode()), of_cgroup(CgroupJob("PBS", written))
    assert (ours.lrms_job_id, ours.join_id, ours.array_index) == (theirs.lrms_job_id, theirs.join_id, theirs.array_index)


@pytest.mark.parametrize(("proc", "routed"), [(0, False), (5, False), (0, True)])
def test_htcondor_ids_are_spelled_as_its_parser_spells_them(tmp_path: Path, proc: int, routed: bool) -> None:
    global_id = f"sched.example.org#41.{proc}#1700000000"
    ad = tmp_path / ".job.ad"
    more = 'RoutedFromJobId = "12.0"\n' if routed else ""
    ad.write_text(f'MyType = "Job"\nClusterId = 41\nProcId = {proc}\n{more}GlobalJobId = "{global_id}"\n', encoding="utf-8")
    job = of_environment({"_CONDOR_JOB_AD": str(ad)}, lambda path: read_ad(path, os.getuid()))
    assert job == BatchJob("HTCondor", f"41.{proc}", global_id, join_id_of_the_parser(41, proc, global_id if routed else None))
    slot = of_cgroup(CgroupJob("HTCondor", None, None, "slot1_2@node"))
    assert slot.join_id is None
    found = found_job(slot, None, job)
    assert found.job is not None
    assert (found.job.join_id, found.job_from, found.claims) == (job.join_id, "cgroup", ())


def test_only_a_plain_file_is_an_ad(tmp_path: Path) -> None:
    fifo, link, secret = tmp_path / "fifo", tmp_path / "link", tmp_path / "secret"
    os.mkfifo(fifo)
    secret.write_text("ClusterId = 1\n", encoding="utf-8")
    secret.chmod(0o600)
    os.chown(secret, 4242, -1) if os.getuid() == 0 else None
    link.symlink_to(secret)
    owner = 4243 if os.getuid() == 0 else os.getuid()
    for path in (fifo, link, tmp_path, tmp_path / "missing", *([secret] if os.getuid() == 0 else [])):
        assert read_ad(str(path), owner) is None
    assert read_ad("a\0b", owner) is None


def test_the_cgroup_is_believed_first_and_what_others_claim_is_kept() -> None:
    a, b, c = (BatchJob("Slurm", raw, raw, raw) for raw in ("1", "2", "3"))
    assert found_job(a, a, a) == Found(a, "cgroup")
    assert found_job(None, b, c) == Found(b, "parent", (("parent", "Slurm 2"), ("environment", "Slurm 3")))
    claims = (("cgroup", "Slurm 1"), ("parent", "Slurm 2"), ("environment", "Slurm 3"))
    assert found_job(a, b, c) == Found(a, "cgroup", claims)
    assert found_job(None, None, c) == Found(c, "environment")
    assert found_job(None, None, None) == Found(None, None)


def test_the_environment_says_which_array_a_raw_id_belongs_to() -> None:
    raw = of_cgroup(CgroupJob("Slurm", "4243", "0"))
    task = of_environment(SLURM | {"SLURM_ARRAY_JOB_ID": "4200", "SLURM_ARRAY_TASK_ID": "7"})
    found = found_job(raw, None, task)
    assert found == Found(BatchJob("Slurm", "4243", "4200", "4200", 7, "0"), "cgroup")
    child = found_job(raw, found.job, None)
    assert child.job is not None
    assert (child.job.join_id, child.job.array_index, child.claims) == ("4200", 7, ())
    forged = of_environment({"SLURM_JOB_ID": "1", "SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "7"})
    assert found_job(raw, None, forged).job == raw


def test_task_one_of_a_cgroup_of_sge_is_no_index_unless_the_environment_says_so() -> None:
    one = of_cgroup(CgroupJob("SGE", "8.1"))
    assert (one.join_id, one.array_index) == ("8", None)
    assert of_cgroup(CgroupJob("SGE", "8.3")).array_index == 3
    found = found_job(one, None, of_environment({"JOB_ID": "8", "SGE_TASK_ID": "1", "SGE_ROOT": "/sge"}))
    assert found.job is not None
    assert (found.job.array_index, found.claims) == (1, ())


def test_ranks_of_the_library_come_before_those_of_slurm() -> None:
    assert mpi_of(SLURM) == (3, 8)
    assert mpi_of(SLURM | {"PMI_RANK": "1", "PMI_SIZE": "2"}) == (1, 2)
    assert mpi_of({"PMI_RANK": "x"}) == (None, None)
