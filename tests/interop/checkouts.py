"""Checkouts of apel/apel and apel/ssm: where they are, the interpreters they run in, and their daemons as children of the tests.

Nothing of theirs is part of this repository: without the variables that name a checkout, tests that need it are skipped. They are
no services that an installation could have, so that BATCHACCT_REQUIRE_SERVICES does not ask for them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

APEL_SOURCE, SSM_SOURCE = "APEL_SRC", "SSM_SRC"
APEL_PYTHON, SSM_PYTHON = "APEL_PYTHON", "SSM_PYTHON"
PATIENCE_S = 90


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout, and the interpreter it runs in."""

    folder: Path
    python: str

    def command(self, script: str, *arguments: object) -> list[str]:
        return [self.python, str(self.folder / script), *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder)}


def apel_checkout() -> Checkout:
    """That of apel/apel; without one the test is skipped."""
    needed = ("MySQLdb", "daemon", "dirq", "future", "iso8601")
    return _checkout("apel/apel", APEL_SOURCE, (APEL_PYTHON,), "bin/dbloader.py", needed)


def ssm_checkout() -> Checkout:
    """That of apel/ssm; without one the test is skipped."""
    needed = ("OpenSSL", "daemon", "dirq", "pkg_resources", "stomp")
    return _checkout("apel/ssm", SSM_SOURCE, (SSM_PYTHON, APEL_PYTHON), "bin/receiver.py", needed)


def _checkout(name: str, variable: str, pythons: tuple[str, ...], script: str, needed: tuple[str, ...]) -> Checkout:
    """Raises: RuntimeError if what the variables name cannot be used."""
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout of {name}")
    folder = Path(os.environ[variable]).resolve()
    if not (folder / script).is_file():
        raise RuntimeError(f"{variable}: {folder} has no {script}, so that it is no checkout of {name}")
    python = next((os.environ[one] for one in pythons if os.environ.get(one)), "python3")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", f"import {', '.join(needed)}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(
            f"{python} lacks what {name} needs ({told}): let {pythons[0]} name an interpreter with what CONTRIBUTING.md lists"
        )
    return Checkout(folder, python)


class Daemon:
    """One of their daemons, in the foreground: python-daemon does not detach a process whose standard input is a socket."""

    def __init__(self, checkout: Checkout, log: Path, script: str, *arguments: object) -> None:
        self._log = log
        ours, theirs = socket.socketpair()
        with ours, theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                checkout.command(script, *arguments), env=checkout.environment, stdin=theirs.fileno(), stdout=output, stderr=output
            )

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Returns when it holds.  Raises: AssertionError once the daemon has ended, or has had nothing to log for too long."""
        last, size = time.monotonic(), -1
        while not holds():
            if (grown := self._log.stat().st_size) != size:
                last, size = time.monotonic(), grown
            if time.monotonic() > last + PATIENCE_S or not self.lives:
                ended = "" if self.lives else f", and the daemon has ended with {self._process.returncode}"
                raise AssertionError(f"{what}: not so{ended}; its log ends with\n{self.told()[-4000:]}")
            time.sleep(0.05)

    def told(self) -> str:
        """Its log."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        if self.lives:
            self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE_S)
