"""A day of a small farm in a minute and a half: real jobs of every kind, all of them at once on the cluster of `slurm.py`."""

from __future__ import annotations

import time

from tests.services.slurm import USERS, SlurmCluster, until

BURNT_CPU_S = 2
BURNT_KIB = 40_000
BURN = f"perl -e '$x = chr(120) x {BURNT_KIB * 1024}; 1 while (times)[0] < {BURNT_CPU_S}'"
"""Uses at least that much CPU time and memory."""
SLEEP = "exec sleep 600"
AT_FIRST = f'[ "$SLURM_RESTART_COUNT" ] || {SLEEP}; sleep 2'
"""Sleeps long at its first run, and shortly at its second."""
ODD_NAME = "a|b \"c\" 'd' é€ JobState=X State=Y"

UNATTENDED: dict[str, tuple[str, tuple[str, ...]]] = {
    "timeout": (SLEEP, ("--time=1",)),
    "plain": ("sleep 2", ()),
    "burning": (f"{BURN}; srun {BURN}", ("--mem=400M",)),
    "parallel": ("srun sleep 1; srun --ntasks=3 sleep 1", ("--nodes=2", "--ntasks=6")),
    "steps": ("srun true; srun false; srun sleep 1; exit 0", ()),
    "array": ("sleep 1; exit $SLURM_ARRAY_TASK_ID", ("--array=0,3-5%2",)),
    "failed": ("sleep 1; exit 3", ()),
    "killed": ("kill -SEGV $$", ()),
    "high exit": ("exit 200", ()),
    "no command": ("no-such-program", ()),
    "odd name": ("sleep 1", ("--job-name", ODD_NAME, "--comment", "first|second\nthird")),
    "two lines": ("sleep 1", ("--job-name", "first\nsecond")),
    "gpu": ("sleep 1", ("--gres=gpu:a100:1", "--partition=long")),
    "het": ("srun sleep 1", ("--ntasks=1", ":", "--ntasks=2")),
    "deadline": (SLEEP, ("--begin=now+15seconds", "--deadline=now+70seconds", "--time=1")),
    "held": (SLEEP, ("--hold",)),
}
"""Jobs that need nothing but submitting: script, options."""

ATTENDED: dict[str, tuple[str, tuple[str, ...]]] = {
    "cancelled": (SLEEP, ()),
    "requeued": (f"srun sleep 1; {AT_FIRST}", ()),
    "suspended": ("sleep 20", ()),
    "resized": ("sleep 20", ("--nodes=2",)),
    "preempted": (AT_FIRST, ("--partition=low", "--exclusive")),
}
"""Jobs that something happens to while they run."""


def run_jobs(cluster: SlurmCluster) -> dict[str, int]:
    """Runs jobs of every kind; returns kind to job id once the accounting database knows that all have ended but `held`."""
    jobs = {kind: cluster.submit(script, *options) for kind, (script, options) in (UNATTENDED | ATTENDED).items()}
    jobs["other user"] = cluster.submit("sleep 1", user=USERS[1])
    jobs["released"] = cluster.submit("sleep 1", "--hold")
    jobs["cancelled early"] = cluster.submit(SLEEP, "--nodes=2", "--exclusive")  # it has to wait: `timeout` is on one of them
    cluster.run("scancel", jobs["cancelled early"])
    for kind in ATTENDED:
        cluster.wait(jobs[kind], "RUNNING")
    time.sleep(2)  # so that what now happens to them is not in their first second
    cluster.run("scancel", jobs["cancelled"])
    cluster.run("scontrol", "requeue", jobs["requeued"])
    cluster.run("scontrol", "suspend", jobs["suspended"])
    cluster.run("scontrol", "update", f"jobid={jobs['resized']}", "numnodes=1")
    cluster.run("scontrol", "release", jobs["released"])
    jobs["urgent"] = cluster.submit("sleep 1", "--partition=urgent", "--exclusive")
    time.sleep(3)
    cluster.run("scontrol", "resume", jobs["suspended"])
    cluster.wait(jobs["preempted"], "COMPLETED")
    jobs["node failed"] = _fail_node(cluster)
    ending = [job for kind, job in jobs.items() if kind != "held"]
    until("the accounting database knows all jobs, ended", lambda: _ended(cluster, ending), patience_s=400)
    return jobs


def _fail_node(cluster: SlurmCluster) -> int:
    """A job whose node goes down under it (and comes back as soon as it is heard of)."""
    job = cluster.submit(SLEEP, "--partition=low", "--no-requeue")
    cluster.wait(job, "RUNNING")
    time.sleep(1)
    cluster.run("scontrol", "update", "nodename=n3", "state=down", "reason=trial")
    cluster.wait(job, "NODE_FAIL")
    return job


def _ended(cluster: SlurmCluster, jobs: list[int]) -> bool:
    chosen = ("--starttime=now-1hour", f"--jobs={','.join(map(str, jobs))}")
    rows = cluster.run("sacct", "--allusers", "--duplicates", "--noheader", "-P", "-o", "JobIDRaw,State,End", *chosen).splitlines()
    known = {row.partition("|")[0] for row in rows}
    return set(map(str, jobs)) <= known and not any(row.endswith("|Unknown") for row in rows)
