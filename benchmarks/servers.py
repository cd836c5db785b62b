"""The database servers that are measured, and how much CPU time they have had.

They have the defaults of their packages, but for 2 GiB of memory for pages: the default of both, 128 MiB, is for the smallest of
machines. What does not fit MariaDB reads again from the disk, past the operating system's cache; PostgreSQL asks that cache for it,
which made a step of the join of ten million jobs half as long again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import mariadb_server, postgres_server

POSTGRESQL_OPTIONS = ("-c shared_buffers=2GB",)
MARIADB_OPTIONS = ("--innodb-buffer-pool-size=2G",)
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    """A server with an empty database at `url`; `pid_file` names its first process. SQLite has neither."""

    url: str | None = None
    pid_file: Path | None = None

    def cpu_s(self) -> float:
        """CPU time that the server's processes have had, those that have ended included."""
        return tree_cpu_s(int(self.pid_file.read_text().split()[0])) if self.pid_file else 0.0


@contextmanager
def running(database: str, folder: Path | None = None) -> Iterator[Running]:
    """One of `NAMES`; its data stays in a folder, and is found there again.  Raises: MissingServerError if it is not installed."""
    if database == "postgresql":
        with postgres_server(*POSTGRESQL_OPTIONS, kept_in=folder) as server:
            yield Running(server.url, server.folder / "data" / "postmaster.pid")
    elif database == "mariadb":
        with mariadb_server(*MARIADB_OPTIONS, kept_in=folder) as other:
            yield Running(other.url, other.folder / "pid")
    else:
        yield Running()


def tree_cpu_s(pid: int) -> float:
    """CPU time of a process and all below it: what has ended is in the account of its parent."""
    by_parent: dict[int, list[tuple[int, int]]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        by_parent.setdefault(int(fields[1]), []).append((int(path.parent.name), sum(map(int, fields[11:15]))))
    own = {number: ticks for children in by_parent.values() for number, ticks in children}
    todo, total = [pid], 0
    while todo:
        number = todo.pop()
        total += own.get(number, 0)
        todo += [child for child, _ in by_parent.get(number, [])]
    return total / TICKS_A_SECOND
