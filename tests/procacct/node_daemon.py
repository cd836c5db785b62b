"""A node daemon for tests: run in a folder of its own, asked, stopped or killed; and its rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from batchacct.parsing import Block, Source
from procacct.node import control_client
from procacct.node.connector import Connector
from procacct.node.sources import demand_initial_namespaces
from procacct.node.taskstats import Taskstats
from procacct.records import GROUPS, OBJECTS, PROCESSES
from tests.servers import REQUIRED

ROOT = Path(__file__).parents[2]
WAIT_S = 90.0
Row = dict[str, Any]


def need_kernel() -> None:
    """Skips where the kernel's events cannot be had; fails where services are required."""
    try:
        demand_initial_namespaces()
        Connector(65_536).close()
        Taskstats(65_536).close()
    except OSError as error:
        reason = f"no process events or taskstats here: {error}"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)


class Node:
    """A daemon and what it wrote, in a folder."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.config = folder / "procacctd.toml"
        self.config.write_text(
            f'host = "node1"\nstate = "{folder}/state"\n{extra}\n'
            f'[control]\nsocket = "{folder}/control"\n'
            + ("" if "[spool]" in extra else f'[spool]\npath = "{folder}/spool"\n')
            + ("" if "[sensor]" in extra else f'[sensor]\nsocket = "{folder}/sensor"\npolicy = "{folder}/policy"\n'),
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.since_ns = time.time_ns()
        """Processes that were forked before are not among the rows: pids come again."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._errors = (self.folder / "stderr").open("ab")
        command = [sys.executable, "-m", "procacct.node.command", "--config", str(self.config)]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=self._errors)
        wait_for(self._answers, "the daemon to answer")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"it ended with {self._process.returncode}: {self.errors()}")
        try:
            return bool(self.status()["ok"])
        except Exception:  # noqa: BLE001 - it may not be there yet, in any way
            return False

    def errors(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def status(self) -> dict[str, Any]:
        return control_client.ask(self.folder / "control", "status")

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(WAIT_S)
        self._errors.close()
        self._process = None
        return status

    def settle(self) -> None:
        """Until everything that happened before is in the spool."""
        child = subprocess.run(["/bin/sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
        pid = int(child.stdout)
        wait_for(lambda: any(row["pid"] == pid for row in self.rows()), "the last process to be told")

    def until_saved(self) -> None:
        """Until everything that happened before is in the spool, and in a state that is on the disk."""
        self.settle()
        files = sorted((self.folder / "spool").glob("processes-*.jsonl"))
        last = int(files[-1].stem.rpartition("-")[2]), files[-1].stat().st_size
        state = self.folder / "state/open.json"
        wait_for(lambda: tuple(json.loads(state.read_bytes())["position"]) >= last, "the state to be saved")

    def rows(self, kind: str = "processes") -> list[Row]:
        """Every row in the spool, in the order they were written. Each line is whole, but the last one while it runs."""
        found: list[Row] = []
        for path in sorted((self.folder / "spool").glob(f"{kind}-*.jsonl")):
            lines = path.read_bytes().split(b"\n")
            found += [json.loads(line) for line in lines[:-1]]
        return [row for row in found if kind != "processes" or self._is_new(row)]

    def _is_new(self, row: Row) -> bool:
        """By the time of the fork, which is in the key."""
        return row["kind"] == "gap" or int(row["record_key"].split("/")[3]) >= self.since_ns - 50_000_000

    def demand_readable(self) -> None:
        """Every line is a record of the parsers of the spool."""
        for kind, parser in (("processes", PROCESSES), ("objects", OBJECTS), ("groups", GROUPS)):
            for path in (self.folder / "spool").glob(f"{kind}-*.jsonl"):
                for parsed in parser.parse([Block(path.read_bytes(), 0)], Source("spool", "SITE", "cluster1")):
                    assert not parsed.rejects, (path, parsed.rejects[0])

    def rows_of(self, *pids: int) -> list[Row]:
        return [row for row in self.rows() if row["pid"] in pids]

    def gaps(self, reason: str | None = None) -> list[Row]:
        return [row for row in self.rows() if row["kind"] == "gap" and reason in (None, row["command"])]


@contextmanager
def running(folder: Path, extra: str = "") -> Iterator[Node]:
    """A node daemon that runs; it is ended at last, whatever happens."""
    node = Node(folder, extra)
    try:
        node.start()
        yield node
    finally:
        if node._process is not None and node._process.poll() is None:
            node._process.send_signal(signal.SIGCONT)
            node.stop(signal.SIGKILL)


def wait_for(is_so: Callable[[], bool], what: str, within_s: float = WAIT_S) -> None:
    until = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < until, f"waited {within_s} s for {what}"
        time.sleep(0.05)
