"""The 2012 scripts as a site runs them: as processes, in a folder of their own, with a connection file."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Table, func, select

from batchacct.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a script ended, and what it said."""

    status: int
    out: str
    err: str


@dataclass
class Site:
    """A folder with a connection file `conn`; scripts run in it, away from this machine's own configuration."""

    folder: Path
    url: str
    now: int | None = None
    pidfiles: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.write("conn", f"{self.url}\n").chmod(0o640)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def _environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(ROOT), "BATCHACCT_CONFIG": str(self.folder / "batchacct.toml")}
        return own if self.now is None else own | {"BATCHACCT_NOW": str(self.now)}

    def call(self, module: str, *arguments: str) -> Outcome:
        """As `run`, but in this process, which is quicker."""
        root = logging.getLogger()
        before, level = list(root.handlers), root.level
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in self._environment.items():
                patch.setenv(name, value)
            patch.setattr(root, "handlers", [])
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    status = importlib.import_module(module).main(list(arguments))
                except SystemExit as ended:
                    status = ended.code
            for handler in root.handlers:
                handler.close()
        root.handlers, root.level = before, level
        return Outcome(status, out.getvalue(), err.getvalue())

    def run(self, module: str, *arguments: str) -> Outcome:
        environment = os.environ | self._environment
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", module, *arguments], cwd=self.folder, env=environment,
            capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def ok(self, module: str, *arguments: str) -> Outcome:
        outcome = self.run(module, *arguments)
        assert outcome.status == 0, outcome
        return outcome

    def done(self, module: str, *arguments: str) -> Outcome:
        outcome = self.call(module, *arguments)
        assert outcome.status == 0, outcome
        return outcome

    def start(self, module: str, *arguments: str, pidfile: str = "daemon.pid", logfile: str = "daemon.log") -> int:
        """Starts a daemon; its pid."""
        path = self.folder / pidfile
        self.pidfiles.append(path)
        self.ok(module, *arguments, "--pidfile", pidfile, "--logfile", logfile)
        return int(path.read_text())

    def stop(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not is_running(pid))

    def kill_what_runs(self) -> None:
        for path in self.pidfiles:
            pid = int(path.read_text()) if path.exists() else None
            if pid is not None and is_running(pid):
                os.kill(pid, signal.SIGKILL)
                until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]

    def text(self, name: str = "daemon.log") -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def count(self, table: Table) -> int:
        store = Store(self.url)
        try:
            with store.reading() as connection:
                return connection.scalar(select(func.count()).select_from(table)) or 0
        finally:
            store.close()


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie: who adopts a daemon here may be slow to bury it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def until(condition: Callable[[], bool]) -> None:
    """Waits until it holds; fails after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    never = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        never.wait(0.03)
