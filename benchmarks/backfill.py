"""`python -m benchmarks.backfill`: BENCH_JOBS= LSF lines (10,000,000) into Parquet, on this machine's cores and on a Spark cluster.

Both start from the same log. What they make is counted and summed by reading it back: the totals must be equal. The peak is of the
resident memory of each Python process: the command, its workers, the driver, and the workers of Spark.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from batchacct.archive.layout import finished_files
from batchacct.model import JOB
from benchmarks.farm import Logs
from tests.services.spark import spark_cluster

LIMIT_MB = 400


@dataclass
class Peaks:
    """The most that Python processes had resident, by their role and number."""

    kib: dict[tuple[str, int], int] = field(default_factory=dict)

    def look(self, root: int) -> None:
        """At the processes under one, and the Python workers of Spark."""
        below = _descendants(root)
        for place in Path("/proc").glob("[0-9]*"):
            number = int(place.name)
            try:
                command = (place / "cmdline").read_bytes()
                role = "worker of Spark" if b"pyspark" in command and b"daemon" in command else _role(command, number, root, below)
                if role is not None:
                    status = (place / "status").read_text()
                    high = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
                    self.kib[role, number] = max(self.kib.get((role, number), 0), high)
            except OSError:
                continue

    def told(self) -> str:
        """`command 140, worker 210 and 190`, in MB."""
        roles: dict[str, list[int]] = {}
        for (role, _), kib in sorted(self.kib.items()):
            roles.setdefault(role, []).append(kib // 1024)
        return ", ".join(f"{role} {max(each)}" + (f" (of {len(each)})" if len(each) > 1 else "") for role, each in roles.items())

    @property
    def highest_mb(self) -> float:
        return max(self.kib.values(), default=0) / 1024


def _role(command: bytes, number: int, root: int, below: set[int]) -> str | None:
    if number == root:
        return "command"
    return "worker" if number in below and b"python" in command.split(b"\0")[0] and b"spawn_main" in command else None


def _descendants(root: int) -> set[int]:
    found, left = set(), [root]
    while left:
        number = left.pop()
        for task in Path(f"/proc/{number}/task").glob("*/children"):
            try:
                children = [int(text) for text in task.read_text().split()]
            except OSError:
                continue
            found.update(children)
            left += children
    return found


@contextmanager
def watched(process: subprocess.Popen[bytes]) -> Iterator[Peaks]:
    peaks, stop = Peaks(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            peaks.look(process.pid)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join()


def run(arguments: list[str]) -> tuple[float, Peaks]:
    """Seconds and peaks of one command.  Raises: RuntimeError if it fails."""
    command = [sys.executable, "-c", "from batchacct.cli import main; main()", *arguments]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"})
        with watched(process) as peaks:
            status = process.wait()
        if status:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode(errors='replace')[-2000:]}")
    return time.perf_counter() - began, peaks


def totals(folder: Path) -> tuple[int, int, int]:
    """Jobs in force, their wall and CPU seconds, as a reader finds them."""
    jobs = wall = cpu = 0
    for file, _ in finished_files(folder, JOB):
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(columns=["superseded_by", "wall_duration_s", "cpu_duration_s"]):
                kept = batch.filter(pc.is_null(batch.column("superseded_by")))
                jobs += kept.num_rows
                wall += int(pc.sum(kept.column("wall_duration_s")).as_py() or 0)
                cpu += int(pc.sum(kept.column("cpu_duration_s")).as_py() or 0)
    return jobs, wall, cpu


def measure(log: Path, workdir: Path, jobs: int, engines: list[str]) -> bool:
    """Each engine in turn; whether all have the same totals and stay within the limit."""
    table = Table(title=f"{jobs:,} LSF lines ({log.stat().st_size / 1e9:.2f} GB) into Parquet")
    for column in ("engine", "seconds", "jobs/s", "jobs", "wall s", "CPU s", "peak resident MB of Python processes"):
        table.add_column(column, justify="left" if column[0] in "ep" else "right")
    found, highest = [], 0.0
    for engine in engines:
        folder = workdir / f"out-{engine}"
        shutil.rmtree(folder, ignore_errors=True)
        arguments = ["backfill", "--parser", "lsf", "--cluster", "lsf1", "--name", "bench", "--to", str(folder)]
        if engine == "spark":
            with spark_cluster() as cluster:
                seconds, peaks = run([*arguments, "--engine", "spark", "--master", cluster.master, str(log)])
        else:
            seconds, peaks = run([*arguments, str(log)])
        found.append(totals(folder))
        highest = max(highest, peaks.highest_mb)
        count, wall, cpu = found[-1]
        table.add_row(engine, f"{seconds:.1f}", f"{count / seconds:,.0f}", f"{count:,}", f"{wall:,}", f"{cpu:,}", peaks.told())
        shutil.rmtree(folder)
    Console(width=160).print(table)
    equal, within = len(set(found)) == 1 and found[0][0] == jobs, highest < LIMIT_MB
    print(f"totals: {'equal' if equal else 'DIFFERENT'}; highest peak {highest:.0f} MB, the limit is {LIMIT_MB}")
    return equal and within


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill", description=str(__doc__).split("\n", maxsplit=1)[0])
    env = os.environ
    parser.add_argument(
        "--jobs", type=int, default=int(env.get("BENCH_JOBS", "10000000")), help="LSF lines [$BENCH_JOBS, 10000000]"
    )
    parser.add_argument("--engines", default="local,spark", help="which [local,spark]")
    parser.add_argument("--workdir", type=Path, default=env.get("BENCH_WORKDIR"), help="to keep the log in [a new one]")
    options = parser.parse_args()
    kept = options.workdir is not None
    workdir = options.workdir.resolve() if kept else Path(tempfile.mkdtemp(prefix="batchacct-bench-"))
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        log = Logs.made(workdir, options.jobs, 1).acct
        sys.exit(0 if measure(log, workdir, options.jobs, options.engines.split(",")) else 1)
    finally:
        if not kept:
            shutil.rmtree(workdir, ignore_errors=True)


if __name__ == "__main__":
    main()
