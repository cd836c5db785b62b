"""The daemons as systemd runs them: the handshake over a real socket, reloading, the watchdog, the end."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from batchacct.errors import BusyError, SchemaError
from tests.pristine import with_schema
from tests.scripts_2012 import PATIENCE_S, ROOT, until

CONFIG = """
site = "A-SITE"
[database]
url = "sqlite:///{folder}/batchacct.db"
[[cluster]]
name = "farm"
"""
SOURCE = """
[[source]]
name = "{name}"
parser = "lsf"
paths = ["{folder}/{name}/lsb.acct*"]
cluster = "farm"
"""


@dataclass
class Unit:
    """What stands for systemd: a folder with a configuration, a socket that is listened at, processes that it ends."""

    folder: Path
    socket: socket.socket
    told: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def configure(self, *names: str) -> None:
        sources = "".join(SOURCE.format(name=name, folder=self.folder) for name in names)
        (self.folder / "batchacct.toml").write_text(CONFIG.format(folder=self.folder) + sources, encoding="utf-8")

    def start(self, command: str = "collect", **environment: str) -> subprocess.Popen[str]:
        known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(self.folder / "notify")}
        process = subprocess.Popen(
            [sys.executable, "-c", "from batchacct.cli import main; main()", command], cwd="/", text=True,
            stderr=subprocess.PIPE, env=known | {"BATCHACCT_CONFIG": str(self.folder / "batchacct.toml")} | environment,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def hears(self, wanted: str) -> bool:
        """Whether it has been told this since it was last asked; what was told before it is forgotten."""
        told = self.heard()
        if wanted not in told:
            return False
        del told[: told.index(wanted) + 1]
        return True

    def heard(self) -> list[str]:
        """What it has been told and was not asked for yet."""
        while True:
            try:
                self.told += self.socket.recv(65_536).decode("utf-8").split("\n")
            except BlockingIOError:
                return self.told

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Ends it as systemd does; its status, and what it logged."""
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_S)
        return process.returncode, log


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        unit = Unit(tmp_path, listening)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "lsb.acct").write_bytes(b"no job\n")
        unit.configure("one")
        yield unit
        for process in unit.processes:
            process.kill()
            process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def created(unit: Unit) -> Unit:
    store = with_schema(f"sqlite:///{unit.folder}/batchacct.db")
    store.close()
    return unit


def test_it_says_that_it_is_ready_that_it_lives_and_that_it_ends(created: Unit) -> None:
    process = created.start(WATCHDOG_USEC="400000")
    until(lambda: created.hears("READY=1"))
    until(lambda: created.hears("STATUS=1 source, 0 records"))
    for _ in range(3):
        until(lambda: created.hears("WATCHDOG=1"))
    status, log = created.end(process)
    assert (status, created.hears("STOPPING=1")) == (0, True), log


def test_it_reads_its_configuration_again(created: Unit) -> None:
    process = created.start()
    until(lambda: created.hears("STATUS=1 source, 0 records"))
    created.configure("one", "two")
    process.send_signal(signal.SIGHUP)
    for told in ("RELOADING=1", "READY=1", "STATUS=2 sources, 0 records"):
        until(lambda told=told: created.hears(told))  # type: ignore[misc]
    (created.folder / "batchacct.toml").write_text("nonsense = 1\n", encoding="utf-8")
    process.send_signal(signal.SIGHUP)
    for told in ("RELOADING=1", "READY=1"):
        until(lambda told=told: created.hears(told))  # type: ignore[misc]
    status, log = created.end(process)
    assert status == 0
    assert "the configuration stays as it was" in log


def test_a_second_one_is_refused_and_does_not_say_that_it_is_ready(created: Unit) -> None:
    first = created.start()
    until(lambda: created.hears("READY=1"))
    second = created.start()
    _, log = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == BusyError.exit_code, log
    assert not created.hears("READY=1")
    assert created.end(first)[0] == 0


def test_without_a_schema_it_ends_with_a_status_that_is_not_tried_again(unit: Unit) -> None:
    process = unit.start()
    _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == SchemaError.exit_code, log
    assert not unit.hears("READY=1")


def test_a_publisher_says_what_it_does(created: Unit) -> None:
    config = created.folder / "batchacct.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(f'{text}[publish]\nschedule = "0 0 1 1 *"\nschedule_jitter = 0\n', encoding="utf-8")
    process = created.start("publish", WATCHDOG_USEC="400000")
    until(lambda: created.hears("READY=1"))
    next_year = dt.datetime.now(dt.UTC).year + 1
    until(lambda: created.hears(f"STATUS=next run {next_year}-01-01 00:00:00Z"))
    for _ in range(3):
        until(lambda: created.hears("WATCHDOG=1"))
    config.write_text(f'{text}[publish]\nschedule = "* * * * * *"\n', encoding="utf-8")
    process.send_signal(signal.SIGHUP)
    for told in ("RELOADING=1", "READY=1"):
        until(lambda told=told: created.hears(told))  # type: ignore[misc]
    until(
        lambda: any(re.fullmatch(r"STATUS=next run .*Z; .*Z: 0 records, 0 messages handed over", told) for told in created.heard())
    )
    status, log = created.end(process)
    assert (status, created.hears("STOPPING=1")) == (0, True), log
