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


@contextmanager
def postgresql() -> Iterator[str]:
    """A running PostgreSQL with one empty database; yields its SQLAlchemy URL.

    PostgreSQL refuses to run as root: then it runs as `postgres` (or `nobody`) in a folder that user owns and can enter.
    """
    programs = _postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="batchacct-pg-", dir="/tmp"))
    user = _server_user(folder)
    port = free_port()
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    try:
        _run(user, programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "batchacct", "--encoding=UTF8", "--locale=C")
        _run(user, programs / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-t", "60", "-o", settings, "start")
        try:
            yield f"postgresql+psycopg://batchacct@127.0.0.1:{port}/postgres"
        finally:
            _run(user, programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
