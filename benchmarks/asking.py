"""`python -m benchmarks.asking`: rows of processes into one database, and what is asked about them, at growing numbers of rows.

Each step is a process of its own (`benchmarks.asked`): the collectors read the spool files of the node daemon, and the questions
are the commands that people type. Prints a Markdown table as `benchmarks.growth` does, a row a step and number of rows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import batchacct
from batchacct.store import Store
from benchmarks import processes
from benchmarks.asked import LOAD, QUESTIONS
from benchmarks.growth import Point, run, table, tell, timestamp
from benchmarks.servers import NAMES, Running, running

SEED = 1
SIZES = (100_000, 1_000_000)


@contextmanager
def site(workdir: Path, rows: int, server: Running) -> Iterator[Path]:
    """The configuration of a site that has the records of its jobs, and of nothing that ran in them yet; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="asking-", dir=workdir))
    try:
        url = server.url or f"sqlite:///{folder.resolve()}/batchacct.db"
        store = Store(url)
        store.create()
        batchacct.insert(store, "job", processes.jobs(rows), source="slurm")
        store.close()
        yield _configuration(folder, workdir, rows, url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configuration(folder: Path, workdir: Path, rows: int, url: str) -> Path:
    spool, objects = (workdir / f"{name}-{rows}-{SEED}.jsonl" for name in ("processes", "objects"))
    if not spool.exists():
        processes.write(spool, rows, SEED)
    if not objects.exists():
        processes.write_objects(objects, rows, SEED)
    path = folder / "batchacct.toml"
    content = f'''site = "BENCH-SITE"
database = {{ url = "{url}" }}
source = [
  {{ name = "procs", parser = "procs", paths = ["{spool.resolve()}"], cluster = "{processes.CLUSTER}" }},
  {{ name = "objects", parser = "procs-objects", paths = ["{objects.resolve()}"], cluster = "{processes.CLUSTER}" }},
]
cluster = [{{ name = "{processes.CLUSTER}" }}]
'''
    path.write_text(content, encoding="utf-8")
    return path


def measure(database: str, workdir: Path, rows: int, questions: list[str]) -> Iterator[Point]:
    """Loading, then the questions, on a server and a database of their own.  Raises: RuntimeError, MissingServerError."""
    with running(database) as server, site(workdir, rows, server) as config_path:
        for step in (LOAD, *questions):
            before = server.cpu_s()
            told = run("benchmarks.asked", step, config_path)
            found = int(told.pop("rows"))
            if step == LOAD and found != rows:
                raise RuntimeError(f"of {rows:,} processes {found:,} were recorded")
            yield Point(database, step, rows, found, server_cpu_s=server.cpu_s() - before, measured_at=timestamp(), **told)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asking", description="Rows of processes: loading, and answers.")
    env = os.environ
    parser.add_argument("--database", choices=NAMES, default=env.get("BENCH_DATABASE", "sqlite"), help="[$BENCH_DATABASE, sqlite]")
    sizes = ",".join(map(str, SIZES))
    parser.add_argument("--sizes", default=env.get("BENCH_SIZES", sizes), help=f"rows of processes [$BENCH_SIZES, {sizes}]")
    parser.add_argument("--questions", default=",".join(QUESTIONS), help=f"of {', '.join(QUESTIONS)}; none: loading alone")
    parser.add_argument("--workdir", type=Path, default=env.get("BENCH_WORKDIR"), help="keeps the spool files [a new one]")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    questions = [name for name in options.questions.split(",") if name and name != "none"]
    if unknown := set(questions) - set(QUESTIONS):
        raise SystemExit(f"there is no question {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    kept = options.workdir is not None
    workdir = Path(options.workdir).resolve() if kept else Path(tempfile.mkdtemp(prefix="batchacct-asking-"))
    workdir.mkdir(parents=True, exist_ok=True)
    points: list[Point] = []
    try:
        for rows in sorted(int(size) for size in options.sizes.split(",")):
            for point in measure(options.database, workdir, rows, questions):
                points.append(point)
                tell(f"{point.database} {rows:,} {point.phase}: {point.elapsed_s:.1f} s, {point.peak_mb:.0f} MB")
    finally:
        if not kept:
            shutil.rmtree(workdir, ignore_errors=True)
        print(table(points, "processes"))


if __name__ == "__main__":
    main()
