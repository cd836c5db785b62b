"""Sites to be asked: loaded, joined and summed once, and kept for the next benchmark where that is wanted; the options for it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batchacct.config import load_config
from batchacct.store import Store, partitions
from batchacct.store.months import Month
from batchacct.usage.asking import Source
from benchmarks.farm import Logs, configuration
from benchmarks.growing import PREPARING
from benchmarks.growth import ROOT, SEED, run, tell
from benchmarks.large_logs import BEGIN_AT, DAY_S, HORIZON_S
from benchmarks.servers import NAMES, running

SIZES = (100_000, 1_000_000)
JOBS_A_DAY = 27_400
"""Ten million a year: what is kept of a day is for days of so many."""
DONE = "prepared.json"


FOLDER = "folder"
"""In the place of a database: Parquet files, as back-filling writes them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is asked: a site whose server runs, by its configuration, or a folder of Parquet files.

    `took_s`: seconds of each step that prepared it, the last of which kept the sums.
    """

    jobs: int
    place: Path
    took_s: Mapping[str, float]

    @contextmanager
    def source(self) -> Iterator[Source]:
        if self.place.is_dir():
            yield self.place
            return
        store = Store(load_config(self.place).database.resolved())
        try:
            yield store
        finally:
            store.close()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure: a database, or folders, with so many jobs each."""

    database: str
    sizes: tuple[int, ...]
    workdir: Path | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Wanted:
        return cls(options.database, tuple(map(int, options.sizes.split(","))), options.workdir)

    def each(self) -> Iterator[Measured]:
        """One after the other; all is gone at the end, unless there is a folder to keep it in."""
        with tempfile.TemporaryDirectory(prefix="batchacct-sites-", dir="/tmp") as temporary:
            Path(temporary).chmod(0o755)  # a server of another user has its data in there
            workdir = (self.workdir or Path(temporary)).resolve()
            for jobs in self.sizes:
                logs = Logs.made(workdir, jobs, SEED, JOBS_A_DAY)
                place = workdir / f"{self.database}-{jobs}"
                if self.database == FOLDER:
                    yield _folder(place, logs)
                else:
                    with _site(place, self.database, logs) as site:
                        yield site


def add_options(parser: argparse.ArgumentParser, *more: str) -> None:
    """Those that `Wanted` is made of; `more` that may be asked beside databases."""
    parser.add_argument("--database", choices=[*NAMES, *more], default="sqlite")
    parser.add_argument("--sizes", default=os.environ.get("BENCH_SIZES", ",".join(map(str, SIZES))), help="numbers of jobs")
    parser.add_argument(
        "--workdir",
        type=Path,
        default=os.environ.get("BENCH_WORKDIR"),
        help="keeps logs and databases, and the next run with it asks these; 10^7 jobs take 25 GB",
    )


@contextmanager
def _site(place: Path, database: str, logs: Logs) -> Iterator[Measured]:
    """A site in a folder of its own, prepared unless it is there already.  Raises: RuntimeError if that fails."""
    done = place / DONE
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    with running(database, place / "server") as server:
        url = server.url or f"sqlite:///{place}/batchacct.db"
        config_path = configuration(place, logs, url)
        if not done.exists():
            _create(url, logs)
            _prepare(done, logs, {phase: partial(run, "benchmarks.growing", phase, config_path) for phase in PREPARING})
        yield Measured(logs.jobs, config_path, json.loads(done.read_bytes()))


def _create(url: str, logs: Logs) -> None:
    """A schema with the months of the logs, as those of a site that collects them while they are written."""
    store = Store(url)
    store.create()
    first, last = Month.at(BEGIN_AT), Month.at(BEGIN_AT + logs.jobs * DAY_S // JOBS_A_DAY + HORIZON_S)
    for table in ("job", "identity"):
        partitions.add(store, table, [first + number for number in range(last - first + 1)])
    store.close()


def _folder(place: Path, logs: Logs) -> Measured:
    """The batch system's log as Parquet files; of VOs they know nothing."""
    done = place / DONE
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        words = ["--parser", "lsf", "--cluster", "lsf1", "--name", "bench", "--to", str(place), str(logs.acct)]
        steps = {"backfill": ["backfill", *words], "keep": ["db", "summarise", "--archive", str(place)]}
        _prepare(done, logs, {name: partial(_command, words) for name, words in steps.items()})
    return Measured(logs.jobs, place, json.loads(done.read_bytes()))


def _prepare(done: Path, logs: Logs, steps: Mapping[str, Callable[[], object]]) -> None:
    """Takes the steps, and notes how long each took."""
    took_s = {}
    for name, step in steps.items():
        began = time.perf_counter()
        step()
        took_s[name] = time.perf_counter() - began
        tell(f"{logs.jobs:,} jobs, {name}: {took_s[name]:,.1f} s")
    done.write_text(json.dumps(took_s), encoding="utf-8")


def _command(words: Sequence[str]) -> None:
    """`batchacct ...`, quietly.  Raises: RuntimeError if it fails."""
    command = [sys.executable, "-c", "from batchacct.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
