"""Processes: spool files of the node daemon through their parser and into the store, each beside its reference.

The reference of the parser is `json.loads` of each line, written in C, which checks and names nothing; that of the store is the
database's own bulk path with the very same rows, as in `loading`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from batchacct.parsing import registry
from batchacct.parsing.contract import UnitParser
from batchacct.store.tables import process
from benchmarks.farm import Databases, Logs
from benchmarks.figures import Figures, alternating, seconds
from benchmarks.loading import Load, measure_load
from benchmarks.parse import CAREFUL_LINES, drain, parsed_file

BEGIN = 1_750_000_000
PROGRAMS = [f"/usr/bin/tool{number}" for number in range(300)]
HOSTS = [f"n{number}.example.org" for number in range(500)]
CLUSTER = "farm1"
FIRST_JOB, IN_A_JOB = 100_000, 250
LIBRARIES = [f"/usr/lib64/lib{number}.so.1" for number in range(1000)]
COMMON, IN_A_SET = 10, 30
"""Libraries that every program has loaded, and all that one has."""
COMMON_LIBRARY = "lib0.so.1"
TOLD_EVERY = 100
"""One of so many programs has its daemon tell its set of libraries."""
SIGNATURE = "5f0c6e0a-52d1-4a0e-9d52-7c4f5cbb0a11"
"""Of one program in a thousand."""


def measure(figures: Figures, workdir: Path, databases: Databases, processes: int, seed: int) -> None:
    """Parsing with one thread and two, the careful lane on a sample, and loading on each database."""
    path = workdir / f"processes-{processes}-{seed}.jsonl"
    if not path.exists():
        write(path, processes, seed)
    parser = cast("UnitParser", registry.parser("procs"))
    against = "json.loads of each line, one thread"
    for workers in (1, 2):
        taken = alternating(lambda: seconds(lambda: drain(parser, path, workers)), lambda: seconds(lambda: _loads(path)))  # noqa: B023
        step = f"parse procs, {workers} thread{'s' * (workers > 1)}"
        figures.add(step, processes / taken[0], "processes/s", processes / taken[1], against)
    careful, sample = replace(parser, fast_lane=None), workdir / "sample.procs"
    sample.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:CAREFUL_LINES]))
    taken = alternating(lambda: seconds(lambda: drain(careful, sample, 1)), lambda: seconds(lambda: _loads(sample)), times=1)
    lines = min(processes, CAREFUL_LINES)
    figures.add("parse procs, careful lane alone", lines / taken[0], "processes/s", lines / taken[1], against)
    sample.unlink()
    load = Load("procs", "procs", path, process, list(parsed_file(parser, path, 2)))
    measure_load(figures, Logs(processes, path, path), databases, load, "processes")


def _loads(path: Path) -> None:
    for line in path.open("rb"):
        json.loads(line)


def write(path: Path, processes: int, seed: int) -> None:
    """A spool file of jobs with a few hundred processes each, as the daemon writes it."""
    rng = random.Random(seed)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as spool:
        for number in range(processes):
            spool.write(_line(rng, number))
    unfinished.rename(path)


def _line(rng: random.Random, number: int) -> bytes:
    job = number // IN_A_JOB
    start_ns = (BEGIN + number // 20) * 10**9 + rng.randrange(10**9)
    took_ns = int(rng.lognormvariate(17, 3)) % (3600 * 10**9)
    end_ns, host, pid = start_ns + took_ns, HOSTS[job % len(HOSTS)], 2000 + number % 4_000_000
    program = rng.choice(PROGRAMS)
    columns: dict[str, object] = {
        "v": 1,
        "record_key": f"{host}/3f0c6e0a-52d1-4a0e-9d52-7c4f5cbb0a11/{pid}/{start_ns}/1",
        "lrms": "Slurm",
        "lrms_job_id": str(FIRST_JOB + job),
        "step_id": "batch",
        "join_id": str(FIRST_JOB + job),
        "job_from": "cgroup",
        "host": host,
        "boot_id": "3f0c6e0a-52d1-4a0e-9d52-7c4f5cbb0a11",
        "pid": pid,
        "parent_pid": pid - 1,
        "user_id": 1000 + job % 400,
        "user_name": f"user{job % 400}",
        "group_id": 100,
        "kind": "program",
        "started_at": start_ns // 10**9,
        "start_ns": start_ns,
        "end_ns": end_ns,
        "logged_at": end_ns // 10**9,
        "elapsed_s": took_ns / 10**9,
        "cpu_user_s": took_ns // 2000 / 10**6,
        "cpu_system_s": took_ns // 20_000 / 10**6,
        "program": program,
        "command": program[9:24],
        "arguments": [program, f"--input=/data/{number}.root", "-v"],
        "ended_by": "exit",
        "exit_code": 0 if rng.random() < 0.97 else 1,
        "memory_real_kib": rng.randrange(2000, 4_000_000),
        "minor_faults": rng.randrange(100, 100_000),
        "major_faults": 0,
        "threads": 1,
        "object_set": _set_of(program),
        "processes": 1,
        "seen_by": ["connector", "sensor", "taskstats"],
    }
    if number % 1000 == 0:
        columns["signature"] = SIGNATURE
    if job % 3 == 0:
        columns["modules"] = [f"gcc/{job % 7}", "cmake/3.30"]
    return _spooled(columns)


def _spooled(columns: dict[str, object]) -> bytes:
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _set_of(program: str) -> str:
    """The name of the set of libraries that a program has loaded."""
    return f"{int(program[13:]):032x}"


def write_objects(path: Path, processes: int, seed: int) -> None:
    """The spool file of the sets of libraries beside one of so many processes: each is told by many hosts, as daemons do."""
    rng = random.Random(seed)
    of_program = {one: (*LIBRARIES[:COMMON], *rng.sample(LIBRARIES[COMMON:], IN_A_SET - COMMON)) for one in PROGRAMS}
    with path.open("wb") as spool:
        for number in range(0, processes, TOLD_EVERY):
            program, host = PROGRAMS[number // TOLD_EVERY % len(PROGRAMS)], HOSTS[number // IN_A_JOB % len(HOSTS)]
            told = {"host": host, "seen_at": BEGIN + number // 20}
            for place, library in enumerate(of_program[program]):
                key = f"{_set_of(program)}/{place}"
                spool.write(_spooled({"v": 1, "record_key": key, "object_set": _set_of(program), "path": library, **told}))


def jobs(processes: int) -> Iterator[dict[str, object]]:
    """The batch system's records of the jobs that so many processes ran in."""
    for number in range(-(-processes // IN_A_JOB)):
        start, job_id = BEGIN + number * IN_A_JOB // 20 - 5, str(FIRST_JOB + number)
        yield {
            "cluster": CLUSTER, "lrms": "Slurm", "lrms_job_id": job_id, "join_id": job_id, "user_name": f"user{number % 400}",
            "queue": "long", "submit_at": start - 60, "start_at": start, "end_at": start + 3700, "logged_at": start + 3701,
            "wall_duration_s": 3700, "cpu_duration_s": 3000, "processors": 1, "state": "completed",
        }  # fmt: skip
