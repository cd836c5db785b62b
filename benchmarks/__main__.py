"""`python -m benchmarks`: measures every step beside a reference from the same run, and prints one table.

docs/explanation/speed.md says what each line of it means.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from batchacct import memory
from benchmarks import apel, growth, loading, parse, parsers, processes, publish, resident, stomp
from benchmarks.farm import Databases, Logs
from benchmarks.figures import Figures

STEPS = ("parse", "parsers", "load", "processes", "join", "publish", "stomp", "whole", "memory", "growth", "apel")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures batchacct, and prints ratios.")
    env = os.environ
    parser.add_argument("--jobs", type=int, default=int(env.get("BENCH_JOBS", "200000")), help="LSF lines [$BENCH_JOBS, 200000]")
    parser.add_argument("--only", type=_steps, default=env.get("BENCH_ONLY", ",".join(STEPS)), help=f"of {','.join(STEPS)}")
    parser.add_argument(
        "--workdir", type=Path, default=env.get("BENCH_WORKDIR"), help="for databases, and to keep the logs in [a new one]"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the logs [1]")
    measurable = ",".join(parsers.names())
    parser.add_argument("--parsers", type=_parsers, default=measurable, help=f"logs of step `parsers` [{measurable}]")
    parser.add_argument(
        "--parser-units", type=int, default=int(env.get("BENCH_UNITS", "200000")), help="lines of each, fewer of long ones [200000]"
    )
    parser.add_argument("--memory-jobs", type=int, default=1_000_000, help="[1000000]")
    parser.add_argument("--growth", type=_sizes, default="10000,100000", help="jobs of each point [10000,100000]")
    parser.add_argument("--apel-jobs", type=int, default=50_000, help="jobs for the APEL client [50000]")
    parser.add_argument("--processes", type=int, default=200_000, help="processes of a spool file [200000]")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    return parser.parse_args()


def run(options: argparse.Namespace, workdir: Path, figures: Figures) -> None:
    """The chosen steps, in order, each told on standard error as it begins."""

    def logs(jobs: int = options.jobs) -> Logs:
        return Logs.made(workdir, jobs, options.seed)

    with ExitStack() as servers:
        databases = Databases(workdir, servers)
        steps: list[tuple[set[str], Callable[[], None]]] = [
            ({"parse"}, lambda: parse.measure(figures, logs(), workdir)),
            ({"parsers"}, lambda: parsers.measure(figures, options.parsers, workdir, options.parser_units, options.seed)),
            ({"load"}, lambda: loading.measure(figures, logs(), databases)),
            ({"processes"}, lambda: processes.measure(figures, workdir, databases, options.processes, options.seed)),
            ({"join", "publish"}, lambda: publish.measure(figures, logs(), databases)),
            ({"stomp"}, lambda: stomp.measure(figures, workdir)),
            ({"whole"}, lambda: publish.measure_whole(figures, logs(), databases)),
            ({"memory"}, lambda: resident.measure_memory(figures, workdir, databases, options.memory_jobs, options.seed)),
            ({"growth"}, lambda: growth.add_to(figures, workdir, options.growth, options.seed)),
            ({"apel"}, lambda: apel.measure(figures, logs(min(options.jobs, options.apel_jobs)), databases)),
        ]
        for names, measure in steps:
            if chosen := names & set(options.only):
                print(f"{time.strftime('%H:%M:%S')} {', '.join(sorted(chosen))}", file=sys.stderr, flush=True)
                measure()
        if databases.missing:
            figures.note(databases.missing)


def _steps(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(STEPS):
        raise argparse.ArgumentTypeError(f"there is no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    return chosen


def _parsers(text: str) -> list[str]:
    chosen, known = text.split(","), parsers.names()
    if unknown := set(chosen) - set(known):
        raise argparse.ArgumentTypeError(f"there is no log {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return chosen


def _sizes(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    memory.keep_freed()  # as the commands do
    options = arguments()
    kept = options.workdir is not None
    workdir = options.workdir.resolve() if kept else Path(tempfile.mkdtemp(prefix="batchacct-bench-"))
    workdir.mkdir(parents=True, exist_ok=True)
    figures = Figures(options.jobs, options.seed)
    try:
        run(options, workdir, figures)
    finally:
        if not kept:
            shutil.rmtree(workdir, ignore_errors=True)
        figures.show()
    if options.json:
        figures.save(options.json)


if __name__ == "__main__":
    main()
