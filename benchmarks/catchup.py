"""`python -m benchmarks.catchup`: what `batchacct status` shows while a collector catches up through five rotations that were made
while it was down. What it prints is what the commands print.
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
from pathlib import Path

from sqlalchemy import func, select

from batchacct.config import PATH_VARIABLE
from batchacct.store import Store
from batchacct.store.tables import job
from tests.faults.farm import HEAD, source_table
from tests.faults.writer import Log, Style

TURNS = (Style.SHIFT, Style.COMPRESS, Style.COPY, Style.SHIFT, Style.COMPRESS)
PROGRAMS = Path(sys.executable).parent
PATIENCE_S = 300.0


def turned_five_times(log: Log, lines: int) -> None:
    """Writes `lines` lines before each of five rotations, and after the last."""
    for style in (*TURNS, None):
        for first in range(0, lines, 1000):
            log.append(min(1000, lines - first))
        if style is not None:
            log.rotate(style)


class _Site:
    """A folder in which commands are run, and shown, as a person would type them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.logs = folder, folder / "logs"
        self.logs.mkdir()
        self.store = Store(f"sqlite:///{folder}/batchacct.db")
        self.store.create()
        text = HEAD.format(url=f"sqlite:///{folder}/batchacct.db") + source_table("lsf-master", "lsf", self.logs / "lsb.acct*")
        (folder / "batchacct.toml").write_text(text, encoding="utf-8")
        paths = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", PATH_VARIABLE: str(folder / "batchacct.toml")}
        self.environment = {**os.environ, **paths, "LC_ALL": "C.UTF-8"}

    def shell(self, command: str) -> None:
        """Runs a command, and shows it with what it says."""
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False,
        )  # fmt: skip
        print(f"$ {command}\n{done.stdout}", flush=True)

    def collect(self) -> subprocess.Popen[bytes]:
        """Starts a collector, which logs to collect.log."""
        print("$ batchacct collect 2>> collect.log &\n", flush=True)
        with (self.folder / "collect.log").open("ab") as output:
            return subprocess.Popen([PROGRAMS / "batchacct", "collect"], cwd=self.folder, env=self.environment, stderr=output)

    def until(self, records: int) -> None:
        """Waits until so many are stored.  Raises: RuntimeError if that takes too long."""
        never = threading.Event()
        for _ in range(int(PATIENCE_S / 0.05)):
            with self.store.reading() as connection:
                if (connection.scalar(select(func.count()).select_from(job)) or 0) >= records:
                    return
            never.wait(0.05)
        raise RuntimeError(f"{records:,} records are not stored after {PATIENCE_S:.0f} s: see {self.folder}/collect.log")

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> None:
        """As `kill` does."""
        process.send_signal(signal.SIGTERM)
        status = process.wait(PATIENCE_S)
        print(f"$ kill %1; wait %1; echo $?\n{status}\n", flush=True)


def transcript(folder: Path, lines: int) -> None:
    """Prints it: a collector stores the beginning of a log and ends; the log is turned five times; it is started again."""
    site = _Site(folder)
    log = Log(site.logs / "lsb.acct")
    log.append(1000)
    process = site.collect()
    site.until(1000)
    site.end(process)
    turned_five_times(log, lines)
    site.shell("ls -l --time-style=+%T logs")
    site.shell("batchacct status | head -7")
    process = site.collect()
    for share in (0.05, 0.35, 0.65):
        site.until(int(share * len(log.written)))
        site.shell("batchacct status | head -12")
    site.until(len(log.written))
    site.shell("batchacct status")
    site.end(process)
    site.shell("cat collect.log")
    print(f"{len(log.written):,} lines were written.")
    site.store.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catchup", description=__doc__)
    parser.add_argument("--lines", type=int, default=60_000, help="between two rotations [60000]")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="site-"))
    try:
        transcript(folder, options.lines)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
