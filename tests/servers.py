"""Real servers for tests and benchmarks: private, in a temporary folder, on a free loopback port, stopped by who started them."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REQUIRED = os.environ.get("BATCHACCT_REQUIRE_SERVICES") == "1"


class MissingServerError(Exception):
    """The server's programs are not installed; the message names the package."""


class PostgresServer:
    """A PostgreSQL of its own, with one empty database at `url`; `port` stays the same from start to start.

    PostgreSQL refuses to run as root: then it runs as `postgres` (or `nobody`) in a folder that user owns and can enter.
    """

    def __init__(self, folder: Path) -> None:
        self._programs = _postgres_programs()
        self._folder = folder
        self._user = _server_user(folder)
        self.port = free_port()
        self.url = f"postgresql+psycopg://batchacct@127.0.0.1:{self.port}/postgres"
        _run(
            self._user, self._programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "batchacct", "--encoding=UTF8",
            "--locale=C",
        )  # fmt: skip

    def start(self) -> None:
        """Returns when it takes connections."""
        settings = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1"
        self._control("-l", self._folder / "log", "-w", "-t", "60", "-o", settings, "start")

    def stop(self, mode: str = "immediate") -> None:
        """`immediate`: as if it crashed; `fast`: connections are told, and closed."""
        self._control("-m", mode, "-w", "stop")

    def _control(self, *arguments: object) -> None:
        _run(self._user, self._programs / "pg_ctl", "-D", self._folder / "data", *arguments)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL that may be stopped, and started again."""
    _postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="batchacct-pg-", dir="/tmp"))
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql() -> Iterator[str]:
    """A running PostgreSQL with one empty database; yields its SQLAlchemy URL."""
    with postgres_server() as server:
        yield server.url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    raise MissingServerError("PostgreSQL is not installed: apt-get install postgresql")


def _server_user(folder: Path) -> str | None:
    """The account to run the server as, None for this one; the folder becomes that account's."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    name = "postgres" if "postgres" in names else "nobody"
    account = pwd.getpwnam(name)
    os.chown(folder, account.pw_uid, account.pw_gid)
    return name


def _run(user: str | None, program: Path, *arguments: object) -> None:
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(
        command, user=user, extra_groups=[] if user else None, cwd="/", env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
