"""What the sensor costs an execution: `python -m benchmarks.sensor [--starts 2000] [--rounds 7] [--json FILE]`.

A program in C starts a trivial one so often, one after the other; the ways of doing it take turns, round by round, and each figure
is over the empty library of the same round. Medians, and the least and most of the rounds: by the clock; of processor time; and of
the execution that a tenth are quicker than. Other work on the machine disturbs the latter two less. As root it raises
net.unix.max_dgram_qlen while it runs, as the daemon does.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, NamedTuple

from procacct.policy import Policy, write
from procacct.sensor import build, preload_path

HERE = Path(__file__).parent
QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
QUEUE_LENGTH = 4096
GOAL_US, LIMIT_US = 50, 140
NOTHING, EMPTY, OFF, STOPPED, AWAY = "no preload", "empty library", "sensor off", "sensor, daemon stopped", "sensor, no socket"
NAPPING, WAKING, REDACTED = "sensor, daemon drains every 20 ms", "sensor, daemon woken by each", "sensor, redacted arguments"
WAYS = (NOTHING, EMPTY, OFF, NAPPING, WAKING, REDACTED, STOPPED, AWAY)


class Cost(NamedTuple):
    """Microseconds an execution: the median; over the empty library, with the least and most rounds; otherwise measured."""

    way: str
    total_us: float
    added_us: float
    least_us: float
    most_us: float
    added_cpu_us: float
    added_quick_us: float


class Taken(NamedTuple):
    """Microseconds of one execution: the mean, that of processor time, and the one that a tenth are quicker than."""

    wall: float
    cpu: float
    quick: float


class Bench:
    def __init__(self, folder: Path, starts: int) -> None:
        self.folder, self.starts = folder, starts
        self.socket, self.policy = folder / "sensor.sock", folder / "policy"
        self.spawn, self.reader = _compiled(HERE / "sensor_spawn.c", folder), _compiled(HERE / "sensor_reader.c", folder)
        self.program = _compiled(_source(folder / "trivial.c", "int main(void) { return 0; }\n"), folder)
        self.empty = _compiled(_source(folder / "empty.c", ""), folder, "-shared", "-fPIC")
        self.sensor = preload_path(build(folder / "sensor", policy=self.policy, socket=self.socket))

    def took_us(self, way: str) -> Taken:
        write(self.policy, Policy(socket=self.socket, arguments="redacted" if way == REDACTED else "program"))
        if way in (NAPPING, WAKING, REDACTED, STOPPED):
            with self._reading(0 if way == WAKING else 20) as reader:
                if way == STOPPED:
                    reader.send_signal(signal.SIGSTOP)
                return self._run(way)
        self.socket.unlink(missing_ok=True)
        return self._run(way)

    def _run(self, way: str) -> Taken:
        preloaded = {NOTHING: [], EMPTY: [f"LD_PRELOAD={self.empty}"], OFF: [f"LD_PRELOAD={self.sensor}", "BATCHACCT_SENSOR=0"]}
        environment = [
            *preloaded.get(way, [f"LD_PRELOAD={self.sensor}"]),
            *(f"{k}={v}" for k, v in os.environ.items() if k != "LD_PRELOAD"),
        ]
        done = subprocess.run(
            [self.spawn, str(self.starts), self.program, *environment], capture_output=True, text=True, check=True
        )
        return Taken(*map(float, done.stdout.split()))

    @contextmanager
    def _reading(self, nap_ms: int) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [self.reader, self.socket, str(nap_ms)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reader:
            assert _of(reader.stdout).readline() == "listening\n"
            try:
                yield reader
            finally:
                reader.send_signal(signal.SIGCONT)
                _of(reader.stdin).close()
                reader.wait(timeout=20)


def costs(starts: int, rounds: int) -> list[Cost]:
    """All ways, `rounds` times in turn."""
    with tempfile.TemporaryDirectory() as folder, _long_queue():
        bench = Bench(Path(folder), starts)
        taken = [{way: bench.took_us(way) for way in WAYS} for _ in range(rounds)]
    found = []
    for way in WAYS:
        added = [of[way].wall - of[EMPTY].wall for of in taken]
        cpu, quick = (median(of[way][which] - of[EMPTY][which] for of in taken) for which in (1, 2))
        found.append(Cost(way, median(of[way].wall for of in taken), median(added), min(added), max(added), cpu, quick))
    return found


@contextmanager
def _long_queue() -> Iterator[None]:
    before = QUEUE.read_text(encoding="ascii")
    if os.geteuid() == 0:
        QUEUE.write_text(str(max(int(before), QUEUE_LENGTH)), encoding="ascii")
    try:
        yield
    finally:
        if os.geteuid() == 0:
            QUEUE.write_text(before, encoding="ascii")


def _of(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _source(path: Path, text: str) -> Path:
    path.write_text(text, encoding="ascii")
    return path


def _compiled(source: Path, folder: Path, *options: str) -> Path:
    program = folder / source.stem
    subprocess.run(["gcc", "-O2", *options, "-o", program, source], check=True)
    return program


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--starts", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    began = time.monotonic()
    found = costs(given.starts, given.rounds)
    for cost in found:
        spread = f"({cost.least_us:+.1f} .. {cost.most_us:+.1f})"
        quick = f"of the quickest tenth {cost.added_quick_us:+.1f}"
        over = f"{cost.added_us:+8.1f} over empty {spread}, of processor time {cost.added_cpu_us:+.1f}, {quick}"
        print(f"{cost.way:36} {cost.total_us:8.1f} us  {over}")
    print(f"goal {GOAL_US}, limit {LIMIT_US} us over the empty library; {time.monotonic() - began:.0f} s", file=sys.stderr)
    if given.json:
        given.json.write_text(json.dumps([cost._asdict() for cost in found], indent=1), encoding="ascii")


if __name__ == "__main__":
    main()
