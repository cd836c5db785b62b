"""Commands of `batchacct` as processes: forked by a server that has imported everything, killed, stopped and waited for."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).parents[1]
PATIENCE_S = 180.0


class Forked:
    """A process of the server's; its exit status is there once it is buried."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self.pid = pid
        self.status: int | None = None
        self._handle = os.pidfd_open(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends it by SIGTERM, with status 0."""
        if kind is None:
            assert self.terminate() == 0

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it (SIGKILL) and buries it."""
        self.send(signal.SIGKILL)
        self.wait()

    def terminate(self, within_s: float = PATIENCE_S) -> int:
        """SIGTERM; its exit status."""
        self.send(signal.SIGTERM)
        return self.wait(within_s)

    def has_ended(self, within_s: float = 0.0) -> bool:
        return self.status is not None or bool(select.select([self._handle], [], [], within_s)[0])

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """Its exit status, -9 if it was killed.  Raises: AssertionError if it goes on for longer."""
        assert self.has_ended(within_s), f"process {self.pid} still runs after {within_s:g} s"
        if self.status is None:
            self.status = self._forks.bury(self.pid)
            os.close(self._handle)
        return self.status

    def cpu_s(self) -> float:
        """CPU time it has taken so far, all threads together."""
        return cpu_s(self.pid)


@dataclass
class Forks:
    """The server's other end."""

    _asks: IO[str]
    _answers: IO[str]

    def start(
        self,
        *arguments: str,
        log: Path,
        environment: Mapping[str, str],
        folder: Path = ROOT,
        user: int | None = None,
        settings: Mapping[str, Any] | None = None,
        clock: Path | None = None,
    ) -> Forked:
        """`batchacct collect`, or a module with a `main` and its arguments; standard output and error go to `log`.

        `user`: a user id to run as. `settings`: module attributes to change first, by dotted name. `clock`: a file with the Unix
        seconds it shall take for the time, whenever that changes.
        """
        asked = {
            "arguments": arguments,
            "environment": {"PATH": os.environ["PATH"], **environment},
            "log": str(log),
            "folder": str(folder),
            "user": user,
            "settings": dict(settings or {}),
            "clock": None if clock is None else str(clock),
        }
        return Forked(self, self._ask(asked))

    def bury(self, pid: int) -> int:
        return self._ask({"bury": pid})

    def _ask(self, what: Mapping[str, object]) -> int:
        self._asks.write(f"{json.dumps(what)}\n")
        self._asks.flush()
        answer: int = json.loads(self._answers.readline())
        return answer


@contextmanager
def forking(root: Path = ROOT, imported: Sequence[str] = ()) -> Iterator[Forks]:
    """A server, ready; what still runs when it is no longer wanted is killed.

    `root`: the tree whose commands they are. `imported`: what they need besides that which all do.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # no threads at work where it forks
    with subprocess.Popen(
        [sys.executable, "-m", "tests.forkserver", *imported],
        cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdin is not None
        assert server.stdout is not None
        assert json.loads(server.stdout.readline()) == "ready"
        yield Forks(server.stdin, server.stdout)


def cpu_s(pid: int) -> float:
    """CPU time a process has taken so far, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Its resident memory now, in MB (2^20)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024
