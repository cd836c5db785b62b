"""`python -m benchmarks.soak`: a collector under load for a long time, and at rest.

A process writes lines and turns the log every few seconds; `batchacct collect` follows; this process looks into the database with a
connection of its own, and notes when each line is to be seen there. At rest: ten sources, and thousands of files, of which nothing
is written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from batchacct.config import PATH_VARIABLE
from batchacct.store import Store
from batchacct.store.tables import ROWS_PER_LOAD_BITS, followed_file, job, load, source_state
from benchmarks.figures import machine
from benchmarks.soak_writer import ENTRY
from tests.faults.farm import HEAD, source_table
from tests.faults.writer import job_line
from tests.forks import cpu_s, resident_mb
from tests.servers import postgresql

ROOT = Path(__file__).parents[1]
LOOK_S = 0.025
SAMPLE_S = 5.0
OPEN_LOADS = 200
"""So many of the newest loads may still grow."""
PATIENCE_S = 600.0
Row = tuple[str, str]


class Site:
    """A folder with configuration and logs, and its collector."""

    def __init__(self, folder: Path, url: str, sources: int = 1, settings: str = "") -> None:
        self.folder = folder
        self.logs = [folder / f"logs{n}" for n in range(sources)]
        for logs in self.logs:
            logs.mkdir(parents=True)
        tables = "".join(source_table(f"lsf{n}", "lsf", logs / "lsb.acct*") for n, logs in enumerate(self.logs))
        (folder / "batchacct.toml").write_text(HEAD.format(url=url) + tables + settings, encoding="utf-8")
        self.store = Store(url)
        self.store.create()

    @contextmanager
    def collecting(self) -> Iterator[int]:
        """The process id of `batchacct collect`; ended by SIGTERM.  Raises: RuntimeError if that fails."""
        environment = {**os.environ, PATH_VARIABLE: str(self.folder / "batchacct.toml")}
        with (self.folder / "collect.log").open("ab") as log:
            process = subprocess.Popen([Path(sys.executable).with_name("batchacct"), "collect"], env=environment, stderr=log)
        try:
            yield process.pid
            process.send_signal(signal.SIGTERM)
            if status := process.wait(30):
                raise RuntimeError(f"the collector ended with status {status}: {(self.folder / 'collect.log').read_text()}")
        finally:
            process.kill()
            process.wait()

    def records(self) -> int:
        with self.store.reading() as connection:
            return connection.scalar(select(func.count()).select_from(job)) or 0


@dataclass
class Observer:
    """Notes when each job is to be seen in the database: `numbers` and `seen_ns` go together."""

    store: Store
    numbers: array[int] = field(default_factory=lambda: array("q"))
    seen_ns: array[int] = field(default_factory=lambda: array("q"))
    _last: dict[int, int] = field(default_factory=dict)

    def look(self) -> None:
        newest = max(self._last, default=0)
        with self.store.reading() as connection:
            loads = connection.execute(select(load.c.id, load.c.recorded).where(load.c.id > newest - OPEN_LOADS)).all()
            for number, recorded in loads:
                first = number << ROWS_PER_LOAD_BITS
                last = self._last.get(number, first - 1)
                if last < first + recorded - 1:
                    new = select(job.c.id, job.c.lrms_job_id).where(job.c.id > last, job.c.id < first + (1 << ROWS_PER_LOAD_BITS))
                    rows = connection.execute(new.order_by(job.c.id)).all()
                    self.numbers.extend(int(row[1]) for row in rows)
                    self._last[number] = rows[-1][0] if rows else last
        self.seen_ns.extend([time.monotonic_ns()] * (len(self.numbers) - len(self.seen_ns)))


@dataclass
class Samples:
    """What a process takes, every SAMPLE_S: (seconds since the start, CPU seconds, resident MB)."""

    pid: int
    began: float = field(default_factory=time.monotonic)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def take_if_due(self) -> None:
        elapsed = time.monotonic() - self.began
        if not self.taken or elapsed - self.taken[-1][0] >= SAMPLE_S:
            self.taken.append((elapsed, cpu_s(self.pid), resident_mb(self.pid)))

    def percent(self) -> float:
        """Of a core, without the first sample, which holds the start."""
        (began, before, _), (ended, after, _) = self.taken[0], self.taken[-1]
        return 100 * (after - before) / (ended - began)

    def resident_mb(self, share: float) -> float:
        """Around that share of the time: the median of a tenth of the samples."""
        middle = int(share * (len(self.taken) - 1))
        reach = max(len(self.taken) // 20, 1)
        return float(np.median([mb for _, _, mb in self.taken[max(middle - reach, 0) : middle + reach + 1]]))


def soak(folder: Path, url: str, seconds: float, rate: int) -> list[Row]:
    """Rows of figures.  Raises: RuntimeError if a line is missing, or twice in the database."""
    site, ledger = Site(folder, url), folder / "ledger"
    with site.collecting() as pid:
        _until(lambda: (folder / "collect.log").stat().st_size > 0)
        command = [sys.executable, "-m", "benchmarks.soak_writer", site.logs[0], ledger, rate, seconds]
        with subprocess.Popen(list(map(str, command)), cwd=ROOT) as writer:
            observer, samples = Observer(site.store), Samples(pid)
            _observe(observer, samples, writer, ledger)
    written = np.frombuffer(ledger.read_bytes(), dtype=np.int64).reshape(-1, 3)
    lag_s = _lags(observer, written)
    return [*_counted(site, int(written[:, 1].sum()), observer), *_lag_rows(lag_s), *_taken_rows(samples)]


def _observe(observer: Observer, samples: Samples, writer: subprocess.Popen[bytes], ledger: Path) -> None:
    """Looks until the writer has ended and all it wrote is to be seen."""
    never = threading.Event()
    due = time.monotonic()
    ended_at = None
    while ended_at is None or len(observer.numbers) < _lines(ledger):
        observer.look()
        samples.take_if_due()
        if ended_at is None and writer.poll() is not None:
            if writer.returncode:
                raise RuntimeError("the writer failed")
            ended_at = time.monotonic()
        if ended_at is not None and time.monotonic() - ended_at > PATIENCE_S:
            raise RuntimeError(f"{_lines(ledger) - len(observer.numbers):,} lines are not in the database after {PATIENCE_S:.0f} s")
        due = max(due + LOOK_S, time.monotonic())
        never.wait(due - time.monotonic())


def _lines(ledger: Path) -> int:
    content = ledger.read_bytes()[-ENTRY.size :]
    first, count, _ = ENTRY.unpack(content)
    return int(first + count - 1)


def _lags(observer: Observer, written: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Seconds from when a line was written to when it was seen, for each line that was seen."""
    numbers = np.frombuffer(observer.numbers, dtype=np.int64)
    batch = np.searchsorted(written[:, 0], numbers, side="right") - 1
    lags: npt.NDArray[np.float64] = (np.frombuffer(observer.seen_ns, dtype=np.int64) - written[batch, 2]) / 1e9
    return lags


def _counted(site: Site, lines: int, observer: Observer) -> list[Row]:
    with site.store.reading() as connection:
        records, different = connection.execute(
            select(func.count(), func.count(job.c.lrms_job_id.distinct())).select_from(job)
        ).one()
        sums = (func.sum(load.c[name]) for name in ("recorded", "known", "skipped", "rejected"))
        recorded, *others = connection.execute(select(*sums)).one()
        files = connection.scalar(select(func.count()).select_from(followed_file))
        loads = connection.scalar(select(func.count()).select_from(load))
        lost, error, warning = connection.execute(
            select(source_state.c.lost_bytes, source_state.c.last_error, source_state.c.warning)
        ).one()
    found = (records, different, recorded, len(observer.numbers), *others, lost, error, warning)
    if found != (lines, lines, lines, lines, 0, 0, 0, 0, None, None):
        raise RuntimeError(f"{lines:,} lines were written, but records, different ones, recorded, seen, known, ... are {found}")
    return [
        ("lines written = records stored", f"{lines:,}"),
        ("lost / doubled / read again", "0 / 0 / 0"),
        ("files followed", f"{files:,}"),
        ("loads", f"{loads:,}"),
    ]


def _lag_rows(lag_s: npt.NDArray[np.float64]) -> list[Row]:
    p50, p99, p999 = np.percentile(lag_s, [50, 99, 99.9])
    return [("lag p50 / p99 / p99.9 / max (s)", f"{p50:.2f} / {p99:.2f} / {p999:.2f} / {lag_s.max():.2f}")]


def _taken_rows(samples: Samples) -> list[Row]:
    start, middle, end = (samples.resident_mb(share) for share in (0.05, 0.5, 1.0))
    return [
        ("collector, resident at start / middle / end (MB)", f"{start:.0f} / {middle:.0f} / {end:.0f}"),
        ("collector, % of a core", f"{samples.percent():.1f}"),
    ]


def idle(folder: Path, watch: str, seconds: float, sources: int, files: int) -> float:
    """% of a core that a collector takes while nothing is written to `files` files of each of its sources."""
    site = Site(folder, f"sqlite:///{folder}/batchacct.db", sources, f'\n[collect]\nwatch = "{watch}"\n')
    numbers = iter(range(1, sources * files + 1))
    for logs in site.logs:
        for n in range(files):
            (logs / f"lsb.acct-{20_260_000 + n}").write_bytes(job_line(next(numbers)))
    with site.collecting() as pid:
        _until(lambda: site.records() == sources * files)
        samples = Samples(pid)
        never = threading.Event()
        while not samples.taken or samples.taken[-1][0] < seconds:
            samples.take_if_due()
            never.wait(1)
    site.store.close()
    return samples.percent()


def _until(is_so: Callable[[], bool]) -> None:
    never = threading.Event()
    for _ in range(int(PATIENCE_S / 0.1)):
        if is_so():
            return
        never.wait(0.1)
    raise RuntimeError(f"nothing happened for {PATIENCE_S:.0f} s")


def show(title: str, rows: list[Row]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if os.isatty(1) else 120, highlight=False).print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="A collector under load, and at rest.")
    env = os.environ
    parser.add_argument("--seconds", type=float, default=float(env.get("SOAK_SECONDS", "1200")), help="[$SOAK_SECONDS, 1200]")
    parser.add_argument("--rate", type=int, default=2000, help="lines a second [2000]")
    databases = ("sqlite", "postgresql")
    parser.add_argument(
        "--database", choices=databases, default=env.get("SOAK_DATABASE", "sqlite"), help="[$SOAK_DATABASE, sqlite]"
    )
    parser.add_argument("--idle-seconds", type=float, default=60, help="for each figure at rest; 0 leaves them out [60]")
    parser.add_argument("--files", type=int, default=3000, help="in one folder, at rest [3000]")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    workdir = Path(tempfile.mkdtemp(prefix="batchacct-soak-"))
    at = f"{machine()}, load average {os.getloadavg()[0]:.1f} before"
    try:
        if options.seconds:
            with ExitStack() as servers:
                url = f"sqlite:///{workdir}/soak/batchacct.db"
                if options.database == "postgresql":
                    url = servers.enter_context(postgresql())
                rows = soak(workdir / "soak", url, options.seconds, options.rate)
            show(f"{options.rate:,} lines/s for {options.seconds:.0f} s into {options.database}, {at}", rows)
        if options.idle_seconds:
            rows = []
            for watch in ("inotify", "poll"):
                for sources, files in ((10, 1), (1, options.files)):
                    percent = idle(workdir / f"{watch}{sources}", watch, options.idle_seconds, sources, files)
                    rows.append((f"{sources} source(s) of {files:,} file(s), {watch}: % of a core", f"{percent:.2f}"))
            show(f"At rest for {options.idle_seconds:.0f} s, {at}", rows)
    finally:
        shutil.rmtree(workdir, ignore_errors=True)


if __name__ == "__main__":
    main()
