"""A farm whose collectors follow: its folder, configuration and database, its commands as processes, and what has been stored."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, select

from batchacct.config import PATH_VARIABLE
from batchacct.ledger.books import read_books
from batchacct.store.tables import followed_file, identity, job, load, reject, source_state
from tests.faults.writer import Log, cpu_of, identity_line, job_line
from tests.forks import Forked, Forks
from tests.pristine import with_schema

HEAD = """\
site = "TEST-SITE"

[database]
url = "{url}"

[ce]
"*.example.org:8443/cream-lsf-*" = "lsf1"

[[cluster]]
name = "lsf1"
"""
PATIENCE_S = 180.0
TABLES = {"lsf": job, "blah": identity}


def source_table(name: str, parser: str, *patterns: object) -> str:
    """A `[[source]]`."""
    paths = ", ".join(f'"{pattern}"' for pattern in patterns)
    cluster = '\ncluster = "lsf1"' if parser == "lsf" else ""
    return f'\n[[source]]\nname = "{name}"\nparser = "{parser}"\npaths = [{paths}]{cluster}\n'


@dataclass
class Farm:
    """`folder` takes the configuration, the log of the collector and `logs`; `url` is an empty database, whose schema is made.

    `settings`: as of `Forks.start`, for every process.
    """

    folder: Path
    url: str
    forks: Forks
    settings: dict[str, Any] = field(default_factory=dict)
    _started: list[Forked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.configuration = self.folder / "batchacct.toml"
        self.store = with_schema(self.url)
        self.configure(source_table("lsf", "lsf", self.logs / "lsb.acct*"))

    def configure(self, *sources: str, collect: Mapping[str, object] | None = None, url: str | None = None) -> None:
        """Writes the configuration; `url`: where its processes shall look for the database."""
        keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in (collect or {}).items())
        text = HEAD.format(url=url or self.url) + "".join(sources) + (f"\n[collect]\n{keys}" if keys else "")
        self.configuration.write_text(text, encoding="utf-8")

    def log(self, name: str = "lsb.acct", first: int = 1) -> Log:
        """A log that is written to from now on."""
        return Log(self.logs / name, identity_line if name.startswith("blahp") else job_line, first)

    def start(
        self,
        *names: str,
        output: str = "collect.log",
        user: int | None = None,
        clock: Path | None = None,
        crash_at: str = "",
    ) -> Forked:
        """`batchacct collect`, following."""
        environment = {"BATCHACCT_CRASH_AT": crash_at}
        return self.run("batchacct", "collect", *names, output=output, user=user, clock=clock, environment=environment)

    def run(
        self,
        *arguments: str,
        output: str,
        user: int | None = None,
        clock: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Forked:
        started = self.forks.start(
            *arguments,
            log=self.folder / output,
            environment={PATH_VARIABLE: str(self.configuration), **(environment or {})},
            folder=self.folder,
            user=user,
            settings=self.settings,
            clock=clock,
        )
        self._started.append(started)
        return started

    def said(self, output: str = "collect.log") -> str:
        """All that processes wrote there."""
        path = self.folder / output
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def status(self, expected: int = 0) -> dict[str, Any]:
        """What `batchacct status --json` says."""
        output = f"status-{len(self._started)}.json"
        assert self.run("batchacct", "status", "--json", output=output).wait() == expected, self.said(output)
        told: dict[str, Any] = json.loads(self.said(output))
        return told

    def count(self, table: Table = job) -> int:
        with self.store.reading() as connection:
            return connection.scalar(select(func.count()).select_from(table)) or 0

    def state(self, source: str = "lsf") -> Mapping[str, Any]:
        """The row of `source_state`; empty if there is none yet."""
        with self.store.reading() as connection:
            row = connection.execute(select(source_state).where(source_state.c.name == source)).mappings().first()
            return dict(row) if row else {}

    def until_stored(self, *logs: Log) -> float:
        """Waits until as many records are stored as lines were written; the seconds that took."""
        took = 0.0
        for log in logs:
            table = TABLES["blah" if _is_blah(log) else "lsf"]
            took += self.until(f"{log.path.name} is stored", lambda log=log, table=table: self.count(table) >= len(log.written))  # type: ignore[misc]
        return took

    def until(self, what: str, is_so: Callable[[], bool], within_s: float = PATIENCE_S) -> float:
        """Waits until it is so; the seconds that took.  Raises: AssertionError with what the collector said."""
        began = time.monotonic()
        never = threading.Event()
        while not is_so():
            if time.monotonic() - began > within_s:
                self._tell_where_they_are()
                raise AssertionError(f"waited {within_s:g} s until {what}. It said: {self.said()[-9000:]}")
            never.wait(0.02)
        return time.monotonic() - began

    def _tell_where_they_are(self) -> None:
        """Has what still runs write where its threads are; names what does not."""
        for process in self._started:
            if process.has_ended():
                print(f"process {process.pid} has ended with status {process.wait()}")
            else:
                process.send(signal.SIGUSR1)
                process.has_ended(within_s=1)

    def check(self, *logs: Log) -> dict[str, int]:
        """Every line of the ledgers is stored, once, as it was written; nothing was read twice; the books balance.

        Returns what was counted: lines, records, lost, doubled, read again, files, loads.
        """
        with self.store.reading() as connection:
            found: list[tuple[str, bytes]] = []
            for table in (job, identity):
                found += [(row[0], row[1]) for row in connection.execute(select(table.c.lrms_job_id, table.c.native))]
            cpu = connection.scalar(select(func.sum(job.c.cpu_duration_s))) or 0
            sums = (func.coalesce(func.sum(load.c[name]), 0) for name in ("units", "recorded", "known", "skipped", "rejected"))
            units, recorded, known, skipped, rejected = connection.execute(select(*sums)).one()
            rejects = connection.scalar(select(func.count()).select_from(reject))
            files = connection.scalar(select(func.count()).select_from(followed_file)) or 0
            loads = connection.scalar(select(func.count()).select_from(load)) or 0
            lost_bytes = connection.scalar(select(func.coalesce(func.sum(source_state.c.lost_bytes), 0)))
            books = read_books(connection)
        wanted = {line(log, number) for log in logs for number in log.written}
        stored = {native for _, native in found}
        lines = sum(len(log.written) for log in logs)
        counted = {
            "lines": lines, "records": len(found), "lost": len(wanted - stored), "doubled": len(found) - len(stored),
            "read again": int(known), "files": files, "loads": loads,
        }  # fmt: skip
        assert len(wanted) == lines, "the ledger names a line twice"
        assert stored == wanted, counted
        assert len(found) == lines, counted
        assert cpu == sum(cpu_of(n) for log in logs if not _is_blah(log) for n in log.written), counted
        assert (units, recorded, known, skipped, rejected, rejects) == (lines, lines, 0, 0, 0, 0), counted
        assert lost_bytes == 0
        assert books.balanced, books.problems
        return counted

    def close(self) -> None:
        """Kills what still runs."""
        for process in self._started:
            if process.status is None:
                process.send(signal.SIGCONT)
                process.kill()
        self.store.close()


def _is_blah(log: Log) -> bool:
    return log.path.name.startswith("blahp")


def line(log: Log, number: int) -> bytes:
    """The line as a record holds it."""
    return (identity_line if _is_blah(log) else job_line)(number).rstrip(b"\n")


def inotify_handles(pid: int) -> int:
    """How many inotify instances a process has."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(entry.readlink()) == "anon_inode:inotify"
        except FileNotFoundError:
            continue
    return found
