"""A simulated farm: one LSF cluster behind two CREAM computing elements, with every oddity their logs are known for.

The log is that of a large farm, thinned out: every job gets an id, which wraps at 999,999, but one job in `stride` is
logged. So ids start near the end, wrap on the first day, and come back after days, in a few thousand lines.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from batchacct.demo.cast import DNS, EXEC_HOSTS, FQANS, KILLS, LOCAL_USERS, ODD_COMMANDS, VOS, WRAPPER
from batchacct.demo.lines import EXIT, BlahIdentity, LsfJob
from batchacct.demo.logs import write_blah, write_lsf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_JOB_ID, FIRST_JOB_ID = 999_999, 999_990
HOUR, DAY = 3600, 86_400
REUSE_AFTER = 5.5
"""Days after which a job id comes back, at the least, where jobs are submitted evenly."""
GRID_SHARE = 0.48
"""Of the jobs outside arrays; arrays are local, and bring it down to 43 % of all."""

VO_MAP: Mapping[str, str] = {
    "x_FOO": "foo",
    "x_BAR": "bar",
    "atlasgrp": "atlas",
    "atlas": "atlas",
    "cms": "cms",
    "lhcb": "lhcb",
}
"""Group (first part of the share account) to VO, for jobs without an identity; it lacks some groups of the farm."""

_WEIGHTS = {
    "done": 780, "killed": 60, "zero_length": 20, "never_started": 40, "unknown_cpu": 15, "over_24h": 20,
    "over_1000h": 2, "half_second": 25, "odd_command": 30, "newline": 2, "double_blank": 3, "array": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written: the files, and how many there are of each kind of job, line and oddity."""

    paths: tuple[Path, ...]
    counts: Mapping[str, int]


@dataclass(slots=True)
class Group:
    """What one job id stands for: a job or the elements of an array, of one kind, and how its identity line fares.

    `identity` is "none" for a local job, else "normal", "late", "lost" or "pending"; an orphan job is not logged.
    """

    kind: str
    jobs: list[LsfJob]
    identity: str = "none"
    orphan: bool = False

    @property
    def submit_at(self) -> int:
        return self.jobs[0].submit_at


def write_logs(folder: Path, *, jobs: int = 3000, seed: int = 1, end_at: int, days: int = 14) -> Summary:
    """Write `jobs` LSF job records of the `days` before `end_at` (Unix seconds), and the BLAH lines of the grid jobs.

    Raises: ValueError for a farm too small for every oddity, too short for ids to come back, or too busy for them.
    """
    if not (500 <= jobs <= 100_000 * days and days >= 10):
        raise ValueError(f"a farm of {jobs} jobs in {days} days: give 500 to {100_000 * days} jobs, and 10 days or more")
    rng = Random(seed)  # noqa: S311  a simulation, nothing secret
    groups = _groups(rng, jobs, end_at - days * DAY, end_at)
    groups.sort(key=lambda group: group.submit_at)
    first_uses = _number(groups, days)
    _lose_identities(groups, first_uses, end_at)
    identities = _identities(rng, groups)
    folder.mkdir(parents=True, exist_ok=True)
    counts = _counts(groups, first_uses)
    logged = [(group.kind, job) for group in groups if not group.orphan for job in group.jobs]
    paths = write_lsf(folder, logged, end_at - days * DAY, end_at, counts)
    paths += write_blah(folder, rng, identities, counts)
    return Summary(tuple(paths), dict(sorted(counts.items())))


def _groups(rng: Random, wanted: int, begin_at: int, end_at: int) -> list[Group]:
    """The farm's work, ids still 0: first some of each kind, then as the weights have it, until it is enough."""
    some = max(3, wanted // 300)
    kinds = [kind for kind in _WEIGHTS for _ in range(some if _WEIGHTS[kind] > 4 else 2)]
    groups: list[Group] = []
    for _ in range(5):
        groups.append(_grid_group(rng, "done", end_at - rng.randint(60, 5 * HOUR), "pending"))
        groups.append(_grid_group(rng, "done", end_at - rng.randint(60, 5 * HOUR), "normal"))
    late_end = begin_at + rng.randint(2 * DAY, 8 * DAY)
    late = replace(_grid_job(rng, "atlas", late_end), submit_at=late_end - 1900, start_at=late_end - 1860)
    groups.append(Group("done", [_with_usage(rng, late)], "late"))
    missing = wanted - 1 - sum(len(group.jobs) for group in groups)
    while missing > 0:
        kind = kinds.pop() if kinds else rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        group_end = rng.randint(begin_at + HOUR, end_at - 60)
        if kind == "array":
            group = _array(rng, min(rng.randint(5, 40), missing), min(group_end, end_at - 12 * HOUR))
        elif kind != "over_1000h" and rng.random() < GRID_SHARE:
            group = _grid_group(rng, kind, group_end, "normal")
        else:
            group = _local_group(rng, kind, group_end)
        groups.append(group)
        missing -= len(group.jobs)
    orphans = [_grid_group(rng, "done", rng.randint(begin_at + DAY, end_at - 60), "normal") for _ in range(some)]
    for group in orphans:
        group.orphan = True
    return groups + orphans


def _local_group(rng: Random, kind: str, event_at: int) -> Group:
    user, saap = rng.choice(LOCAL_USERS)
    queue = "long" if kind.startswith("over_") else rng.choice(("short", "normal", "normal", "long"))
    job = LsfJob(queue, user, 20_000 + sum(user.encode()), event_at, 0, 0, saap=saap, cwd=f"work/{user}/run{rng.randint(1, 99)}")
    return Group(kind, [_ran(rng, job, kind)])


def _grid_group(rng: Random, kind: str, event_at: int, identity: str) -> Group:
    job = _grid_job(rng, rng.choices(VOS, (5, 3, 2))[0], event_at)
    return Group(kind, [_ran(rng, job, kind)], identity)


def _grid_job(rng: Random, vo: str, event_at: int) -> LsfJob:
    """A job of a pool account of `vo`, as a computing element submits it; when, and what it used, is still open."""
    account = rng.randint(1, 40)
    return LsfJob(
        queue=f"grid_{vo}",
        user_name=f"{vo}{account:03d}",
        user_id=30_000 + 100 * VOS.index(vo) + account,
        event_at=event_at,
        submit_at=0,
        start_at=0,
        saap=f"/{vo}/{vo}{account:03d}",
        submit_host=f"ce{1 + account % 2:02d}.example.org",
        job_name=f"cream_{rng.randint(1, 999_999_999):09d}",
        command=f"#!/bin/bash;# LSF job wrapper generated by lsf_submit.sh;#BSUB -q grid_{vo};{WRAPPER}",
    )


def _ran(rng: Random, job: LsfJob, kind: str) -> LsfJob:
    """`job`, which ended at its `event_at`, with the times, usage, hosts and status of a job of this kind."""
    wall_s = min(int(rng.lognormvariate(8.3, 1.2)) + 1, 20 * HOUR)
    if kind == "over_24h":
        wall_s = rng.randint(25 * HOUR, 90 * HOUR)
    elif kind == "over_1000h":
        wall_s = rng.randint(1001 * HOUR, 1100 * HOUR)
    elif kind == "zero_length":
        wall_s = 0
    start_at = job.event_at - wall_s
    job = replace(job, start_at=start_at, submit_at=start_at - min(int(rng.expovariate(1 / 1500)), 6 * HOUR) - 1)
    if kind == "never_started":
        return replace(job, start_at=0, status=EXIT, exit_info=rng.choice((14, 15)), host_factor=60.0)
    if kind in ("odd_command", "newline"):
        odd = ODD_COMMANDS[0] if kind == "newline" else rng.choice(ODD_COMMANDS[1:])
        job = replace(job, command=odd)
    if kind == "killed":
        exit_status, exit_info = rng.choice(KILLS)
        job = replace(job, status=EXIT, exit_status=exit_status, exit_info=exit_info)
    job = _with_usage(rng, job)
    if kind == "unknown_cpu":
        return replace(job, cpu_us=None, status=EXIT, exit_status=65280)
    if kind == "half_second" and job.cpu_us is not None:
        user, system = job.cpu_us
        job = replace(job, cpu_us=(user - user % 1_000_000 + 250_000, system - system % 1_000_000 + 250_000))
    return job


def _with_usage(rng: Random, job: LsfJob) -> LsfJob:
    """`job` with hosts, one in ten more than one, and with CPU and memory to match."""
    slots, hosts = 1, [rng.choice(EXEC_HOSTS)]
    if rng.random() < 0.1:
        slots, hosts = rng.choice((2, 4, 8, 16)), rng.sample(EXEC_HOSTS, rng.randint(2, 4))
    elif rng.random() < 0.1:
        slots = 8
    compressed = slots > 1 and rng.random() < 0.5
    entries = [f"{slots}*{host}" for host in hosts] if compressed else [host for host in hosts for _ in range(slots)]
    span_us = (job.event_at - job.start_at) * slots * len(hosts) * 1_000_000
    memory_kib = rng.randint(1_000, 2_000_000)
    return replace(
        job,
        exec_hosts=tuple(entries),
        asked_hosts=tuple(hosts[:1]) if rng.random() < 0.05 else (),
        processors=slots * len(hosts),
        res_req="span[ptile=16]" if len(hosts) > 1 else "",
        cpu_us=(int(span_us * rng.uniform(0.3, 0.97)), int(span_us * rng.uniform(0.001, 0.02))),
        memory_kib=memory_kib,
        swap_kib=memory_kib + rng.randint(0, 500_000),
        host_factor=rng.choice((9.5, 10.1, 11.2)),
    )


def _array(rng: Random, size: int, latest: int) -> Group:
    """An array of `size` elements, all over within twelve hours of `latest`."""
    user, saap = rng.choice(LOCAL_USERS)
    submit_at = latest - rng.randint(60, 2 * HOUR)
    first = LsfJob("normal", user, 20_000 + sum(user.encode()), 0, submit_at, 0, job_name=f"sim[1-{size}]", saap=saap)
    elements = []
    for index in range(1, size + 1):
        start_at = latest + rng.randint(0, 3 * HOUR)
        event_at = start_at + rng.randint(1, 8 * HOUR)
        elements.append(_with_usage(rng, replace(first, index=index, start_at=start_at, event_at=event_at)))
    return Group("array", elements)


def _number(groups: list[Group], days: int) -> dict[int, Group]:
    """Give the groups, in order of submission, their job ids.

    Returns the earlier use of each id that was used before, by the `id()` of the later group.
    A job of weeks got its id weeks ago, so it takes one that the others step over.
    """
    long_ones = [group for group in groups if group.kind == "over_1000h"]
    rest = [group for group in groups if group.kind != "over_1000h"]
    cycle_at_least = len(rest) * REUSE_AFTER / days
    widest = int(MAX_JOB_ID / cycle_at_least)
    stride = next(step for step in range(widest, 0, -1) if MAX_JOB_ID % step == 0)
    numbered = [(group, FIRST_JOB_ID + position * stride) for position, group in enumerate(rest)]
    numbered += [(group, FIRST_JOB_ID + 1 + position * stride) for position, group in enumerate(long_ones)]
    users: dict[int, Group] = {}
    earlier: dict[int, Group] = {}
    for group, number in numbered:
        job_id = (number - 1) % MAX_JOB_ID + 1
        group.jobs = [replace(job, job_id=job_id) for job in group.jobs]
        if job_id in users:
            earlier[id(group)] = users[job_id]
        users[job_id] = group
    return earlier


def _lose_identities(groups: list[Group], first_uses: Mapping[int, Group], end_at: int) -> None:
    """Lose some identity lines, of ids first whose earlier use has one: a join by job id alone takes the wrong one."""
    open_to = [g for g in groups if g.identity == "normal" and not g.orphan and g.jobs[0].event_at < end_at - 2 * DAY]
    open_to = [group for group in open_to if group.kind == "done"]
    wrong = [group for group in open_to if (first := first_uses.get(id(group))) and first.identity == "normal"]
    for group in (wrong + open_to)[: max(4, len(groups) // 300)]:
        group.identity = "lost"


def _identities(rng: Random, groups: list[Group]) -> list[BlahIdentity]:
    """The identity lines of the grid jobs, in order of submission."""
    identities = []
    for group in groups:
        if group.identity not in ("normal", "late"):
            continue
        job = group.jobs[0]
        vo = job.queue.removeprefix("grid_")
        delay_s = 8280 if group.identity == "late" else rng.randint(0, 3)
        identities.append(
            BlahIdentity(
                recorded_at=job.submit_at + delay_s,
                dn=rng.choice(DNS[vo]),
                fqans=rng.choice(FQANS[vo]),
                ce_id=f"{job.submit_host}:8443/cream-lsf-{job.queue}",
                grid_job=int(job.job_name[-9:]),
                job_id=job.job_id,
                user_id=job.user_id,
            )
        )
    return identities


def _counts(groups: list[Group], first_uses: Mapping[int, Group]) -> Counter[str]:
    """What there is of each kind, in job records; identity kinds in jobs."""
    counts: Counter[str] = Counter()
    for group in groups:
        if group.orphan:
            counts["identity_without_job"] += 1
            continue
        counts[group.kind] += len(group.jobs)
        counts["jobs"] += len(group.jobs)
        counts["grid" if group.identity != "none" else "local"] += len(group.jobs)
        counts["arrays"] += group.kind == "array"
        counts["reused_id"] += id(group) in first_uses
        if group.identity != "none":
            counts[f"identity_{group.identity}"] += 1
            first = first_uses.get(id(group))
            counts["reused_id_grid_twice"] += first is not None and first.identity != "none"
        for job in group.jobs:
            counts["multi_host"] += len({entry.rpartition("*")[2] for entry in job.exec_hosts}) > 1
            counts["compressed_hosts"] += any("*" in entry for entry in job.exec_hosts)
    return counts
