"""`python -m benchmarks.growth`: load, join, publish and report at growing numbers of jobs on one database.

Each phase is a process of its own (`benchmarks.growing`). Prints a Markdown table: seconds, jobs a second, how the seconds grow
with the jobs (1.00 is in proportion), peak memory, and the CPU time of our process and of the database's. The figures are kept,
phase by phase, in docs/explanation/growth.json, in place of earlier ones of the same database; --plot draws all that are there.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from batchacct.store import Store
from benchmarks.farm import Logs, configuration
from benchmarks.figures import Figures
from benchmarks.growing import PHASES
from benchmarks.servers import NAMES, Running, running

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "explanation" / "growth.json"
PLOT = ROOT / "docs" / "explanation" / "growth.svg"
SIZES = (100_000, 1_000_000, 10_000_000)
SEED = 1


@dataclass(frozen=True, slots=True)
class Point:
    """A phase at a number of jobs; `rows` are what it dealt with (jobs, rows of the ledger, records, jobs)."""

    database: str
    phase: str
    jobs: int
    rows: int
    elapsed_s: float
    cpu_s: float
    server_cpu_s: float
    peak_mb: float
    measured_at: str


@contextmanager
def site_of(workdir: Path, logs: Logs, server: Running) -> Iterator[Path]:
    """The configuration of a site with an empty schema; its folder is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="growth-", dir=workdir))
    try:
        url = server.url or f"sqlite:///{folder.resolve()}/batchacct.db"
        store = Store(url)
        store.create()
        store.close()
        yield configuration(folder, logs, url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(database: str, logs: Logs, workdir: Path) -> Iterator[Point]:
    """All phases, one after the other, on a server and a database of their own.

    Raises: RuntimeError if a phase fails, or deals with other rows than the one before it left; MissingServerError.
    """
    with running(database) as server, site_of(workdir, logs, server) as config_path:
        rows: dict[str, int] = {}
        for phase in PHASES:
            before = server.cpu_s()
            told = run("benchmarks.growing", phase, config_path)
            server_cpu_s = server.cpu_s() - before
            rows[phase] = int(told.pop("rows"))
            yield Point(database, phase, logs.jobs, rows[phase], server_cpu_s=server_cpu_s, measured_at=timestamp(), **told)
        if not rows["load"] == rows["join"] == logs.jobs or not 0 < rows["publish"] <= rows["report"] <= logs.jobs:
            raise RuntimeError(f"of {logs.jobs:,} jobs not all went their way: {rows}")


def timestamp() -> str:
    """`2026-11-27 14:10Z`"""
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M}Z"


def run(module: str, phase: str, config_path: Path) -> dict[str, float]:
    """A phase in a process of its own, and what that tells of it.  Raises: RuntimeError if it fails."""
    command = [sys.executable, "-m", module, phase, str(config_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def add_to(figures: Figures, workdir: Path, sizes: list[int], seed: int) -> None:
    """Jobs a second by the number of jobs with SQLite, each beside the smallest one's: equal where cost grows in proportion."""
    smallest: dict[str, float] = {}
    for jobs in sorted(sizes):
        for point in measure("sqlite", Logs.made(workdir, jobs, seed), workdir):
            rate = jobs / point.elapsed_s
            reference = smallest.setdefault(point.phase, rate)
            figures.add(f"growth, {point.phase} {jobs:,} jobs, SQLite", rate, "jobs/s", reference, f"the same with {min(sizes):,}")


def exponent(smaller: Point, larger: Point) -> float:
    """How the time grows: seconds ~ jobs to this power."""
    return math.log(larger.elapsed_s / smaller.elapsed_s) / math.log(larger.jobs / smaller.jobs)


def table(points: list[Point], what: str = "jobs") -> str:
    """Markdown, a row a database, phase and number of jobs, or of what else there are numbers of."""
    measured = ("seconds", f"{what}/s", "growth", "peak, MB", "our CPU, s", "server's CPU, s")
    head = ("database", "phase", what, *measured, "the limit is")
    rows = [head, tuple("---" if place in {0, 1, 9} else "---:" for place in range(len(head)))]
    for point in points:
        smaller = max((p for p in points if _alike(p, point) and p.jobs < point.jobs), key=lambda p: p.jobs, default=None)
        grown = f"{exponent(smaller, point):.2f}" if smaller else ""
        theirs = f"{point.server_cpu_s:,.1f}" if point.database != "sqlite" else ""
        took = (f"{point.elapsed_s:,.1f}", f"{point.jobs / point.elapsed_s:,.0f}", grown, f"{point.peak_mb:,.0f}")
        spent = (f"{point.cpu_s:,.1f}", theirs, limit(point))
        rows.append((NAMES[point.database], point.phase, f"{point.jobs:,}", *took, *spent))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _alike(one: Point, other: Point) -> bool:
    return (one.database, one.phase) == (other.database, other.phase)


def limit(point: Point) -> str:
    """Who was at work most of the time; nobody much, where it waited (for the disk, mostly)."""
    ours, theirs = point.cpu_s / point.elapsed_s, point.server_cpu_s / point.elapsed_s
    if max(ours, theirs) < 0.5:
        return "waiting"
    if point.database == "sqlite":
        return f"our process, SQLite in it ({ours:.2f} cores)"
    who, share = ("our process", ours) if ours >= theirs else ("the server", theirs)
    return f"{who} ({share:.2f} cores)"


def read(path: Path) -> list[Point]:
    """The points kept there, in order."""
    kept = json.loads(path.read_bytes())["points"] if path.exists() else []
    order = list(PHASES)
    points = [Point(**point) for point in kept]
    return sorted(points, key=lambda p: (list(NAMES).index(p.database), order.index(p.phase), p.jobs))


def keep(path: Path, points: list[Point]) -> None:
    """Puts points in the place of those of the same database, phase and number of jobs."""
    new = {(p.database, p.phase, p.jobs) for p in points}
    old = [p for p in read(path) if (p.database, p.phase, p.jobs) not in new] if path.exists() else []
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    lines = ",\n".join(json.dumps(asdict(point)) for point in (*old, *points))
    path.write_text(f'{{"machine": {json.dumps(machine)}, "points": [\n{lines}\n]}}\n', encoding="utf-8")


def draw(points: list[Point], path: Path) -> None:
    """Seconds by jobs, both logarithmic, a panel a phase; a thin line is growth in proportion to the jobs."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - not for who only measures

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for panel, phase in zip(panels, PHASES, strict=True):
        for place, database in enumerate(NAMES):
            mine = [p for p in points if p.database == database and p.phase == phase]
            if mine:
                jobs, took = [p.jobs for p in mine], [p.elapsed_s for p in mine]
                panel.loglog(jobs, took, marker="o^s"[place], color=f"C{place}", label=NAMES[database])
                panel.loglog([jobs[0], jobs[-1]], [took[0], took[0] * jobs[-1] / jobs[0]], color=f"C{place}", lw=0.6, ls=":")
        panel.set_title(phase)
        panel.grid(visible=True, which="major", lw=0.4)
    figure.supxlabel("jobs")
    figure.supylabel("seconds (dotted: in proportion to the jobs)")
    figure.axes[0].legend()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    if path.suffix == ".svg":
        text = path.read_text(encoding="utf-8")
        path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description="Growth of each phase with the jobs.")
    env = os.environ
    parser.add_argument("--database", choices=NAMES, default=env.get("BENCH_DATABASE", "sqlite"), help="[$BENCH_DATABASE, sqlite]")
    sizes = env.get("BENCH_SIZES", ",".join(map(str, SIZES)))
    parser.add_argument("--sizes", default=sizes, help=f"numbers of jobs [$BENCH_SIZES, {','.join(map(str, SIZES))}]")
    parser.add_argument(
        "--workdir", type=Path, default=env.get("BENCH_WORKDIR"), help="keeps the logs for the next run [a new one]"
    )
    parser.add_argument("--keep", type=Path, default=KEPT, help="where the figures are kept")
    parser.add_argument("--plot", type=Path, nargs="?", const=PLOT, help="only draw what is kept, and print its table")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.plot is not None:
        points = read(options.keep)
        draw(points, options.plot)
        print(table(points))
        return
    kept = options.workdir is not None
    workdir = Path(options.workdir).resolve() if kept else Path(tempfile.mkdtemp(prefix="batchacct-growth-"))
    workdir.mkdir(parents=True, exist_ok=True)
    points = []
    try:
        for jobs in sorted(int(size) for size in options.sizes.split(",")):
            tell(f"writing logs of {jobs:,} jobs")
            logs = Logs.made(workdir, jobs, SEED)
            for point in measure(options.database, logs, workdir):
                points.append(point)
                keep(options.keep, [point])
                tell(f"{point.database} {jobs:,} {point.phase}: {point.elapsed_s:.1f} s, {point.peak_mb:.0f} MB")
            if not kept:
                shutil.rmtree(logs.acct.parent)
    finally:
        if not kept:
            shutil.rmtree(workdir, ignore_errors=True)
        print(table(points))


def tell(text: str) -> None:
    """To who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
