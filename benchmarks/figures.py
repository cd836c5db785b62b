"""What a benchmark says: figures, each beside its reference from the same run, as a table and as JSON."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One step: our figure, what it is compared with, both in `unit`; more is better unless the unit is of size."""

    step: str
    ours: float
    unit: str
    reference: float | None = None
    against: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.reference if self.reference else None


class Taken(NamedTuple):
    """Seconds of a measurement, by the clock and of the processors (all threads together)."""

    wall_s: float
    cpu_s: float


TARGET = 5.0
"""How many times as fast as APEL's a parser is to be, on two cores."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """A parser on a log of so many units and bytes.

    careful_s: what its careful lane alone would take; `left`: the share of units that the fast lane leaves to it.
    reference: APEL's parser with the same lines.
    """

    log: str
    unit: str
    units: int
    size: int
    one_thread: Taken
    two_threads: Taken
    careful_s: float
    left: float
    reference: Taken | None = None

    @property
    def ratio(self) -> float | None:
        """Two threads beside APEL, by the clock."""
        return self.reference.wall_s / self.two_threads.wall_s if self.reference else None

    @property
    def cpu_ratio(self) -> float | None:
        """One thread beside APEL, by CPU time: what a busy machine does not change much."""
        return self.reference.cpu_s / self.one_thread.cpu_s if self.reference else None

    @property
    def is_short(self) -> bool:
        return self.ratio is not None and self.ratio < TARGET

    def row(self) -> list[str]:
        """The cells of the table."""
        rates = (self.units / s for s in (self.one_thread.wall_s, self.two_threads.wall_s, self.one_thread.cpu_s, self.careful_s))
        one, two, of_cpu, careful = (f"{rate:,.0f}" for rate in rates)
        bulk = f"{self.size / 1e6 / self.two_threads.wall_s:,.0f}"
        ours = [
            self.log,
            f"{self.units:,} {self.unit}",
            f"{self.size / 1e6:,.0f}",
            one,
            two,
            bulk,
            of_cpu,
            careful,
            f"{self.left:.0%}",
        ]
        if self.reference is None:
            return [*ours, "", "", "", ""]
        mark = f"below {TARGET:g}" if self.is_short else ""
        return [*ours, f"{self.units / self.reference.wall_s:,.0f}", f"{self.ratio:,.2f}", f"{self.cpu_ratio:,.2f}", mark]


@dataclass
class Stopwatch:
    """Adds up the seconds spent in its `running` blocks."""

    elapsed_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.elapsed_s += time.perf_counter() - began


@dataclass
class Figures:
    """Those of one run, with the machine it was on."""

    jobs: int
    seed: int
    began_at: str = field(default_factory=lambda: f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M}Z")
    figures: list[Figure] = field(default_factory=list)
    parsers: list[Throughput] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, step: str, ours: float, unit: str, reference: float | None = None, against: str = "") -> None:
        self.figures.append(Figure(step, ours, unit, reference, against))

    def note(self, text: str) -> None:
        """Something that was left out, and why."""
        if text not in self.notes:
            self.notes.append(text)

    def show(self) -> None:
        console = Console(width=None if os.isatty(1) else 160, highlight=False)
        if self.figures:
            console.print(self._steps())
        if self.parsers:
            console.print(self._parsers())
        for text in self.notes:
            console.print(f"Note: {text}", markup=False)

    def _parsers(self) -> Table:
        title = f"Parsers, units a second, {self.began_at}, {machine()}"
        table = Table(title=title, title_justify="left")
        for name in (
            "log",
            "of",
            "MB",
            "1 thread",
            "2 threads",
            "MB/s",
            "a CPU s",
            "careful",
            "left",
            "APEL",
            "ratio",
            "by CPU",
            "",
        ):
            table.add_column(name, justify="left" if name in ("log", "") else "right", no_wrap=name != "log")
        for parser in self.parsers:
            table.add_row(*parser.row(), style="bold red" if parser.is_short else None)
        return table

    def _steps(self) -> Table:
        table = Table(title=f"{self.jobs:,} jobs, {self.began_at}, {machine()}", title_justify="left")
        for name in ("step", "ours", "reference", "ratio"):
            table.add_column(name, justify="left" if name == "step" else "right", no_wrap=name != "reference")
        table.add_column("unit")
        table.add_column("reference is")
        for f in self.figures:
            ratio = "" if f.ratio is None else f"{f.ratio:,.2f}"
            reference = "" if f.reference is None else _shown(f.reference)
            table.add_row(f.step, _shown(f.ours), reference, ratio, f.unit, f.against)
        return table

    def save(self, path: Path) -> None:
        rows = [{**asdict(f), "ratio": f.ratio} for f in self.figures]
        content = {
            "began_at": self.began_at,
            "machine": machine(),
            "load_average": os.getloadavg(),
            "jobs": self.jobs,
            "seed": self.seed,
            "figures": rows,
            "parsers": [{**asdict(p), "ratio": p.ratio, "cpu_ratio": p.cpu_ratio} for p in self.parsers],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def machine() -> str:
    """`2 cores, Intel(R) Xeon(R) Processor @ 2.50GHz, 24 GiB, Linux 6.1.0, Python 3.11.7`."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")), platform.machine())
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {model}, {memory_gib:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def seconds(work: Callable[[], object]) -> float:
    """How long it takes to do it once."""
    watch = Stopwatch()
    with watch.running():
        work()
    return watch.elapsed_s


def timed(work: Callable[[], object]) -> Taken:
    """What it takes to do it once, in this process."""
    began, cpu_began = time.perf_counter(), time.process_time()
    work()
    return Taken(time.perf_counter() - began, time.process_time() - cpu_began)


def median_of(taken: Iterable[Taken]) -> Taken:
    """The medians of both."""
    wall_s, cpu_s = zip(*taken, strict=True)
    return Taken(median(wall_s), median(cpu_s))


def alternating(ours: Callable[[], float], reference: Callable[[], float], *, times: int = 3) -> tuple[float, float]:
    """Medians of two measurements taken in turn, so that a machine that slows down does so for both."""
    pairs = [(ours(), reference()) for _ in range(times)]
    return median(o for o, _ in pairs), median(r for _, r in pairs)
