"""Real servers for tests and benchmarks: private, in a temporary folder, on a free loopback port, stopped by who started them."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 180
DISK = Path("/tmp")
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 4 << 30
REQUIRED = os.environ.get("BATCHACCT_REQUIRE_SERVICES") == "1"


class MissingServerError(Exception):
    """The server's programs are not installed; the message names the package."""


def memory_or_disk() -> Path:
    """Where to put what need not outlive this machine: in memory, where that has room and programs may be run, nothing waits."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _MEMORY_BYTES or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return DISK
    return _MEMORY


class PostgresServer:
    """A PostgreSQL of its own, with one empty database at `url`; `port` stays the same from start to start.

    PostgreSQL refuses to run as root: then it runs as `postgres` (or `nobody`) in a folder that user owns and can enter.
    In a folder where one was before, it goes on with that one's data.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._programs, self._options = _postgres_programs(), options
        self.folder = folder
        self._user = _server_user(folder)
        self.port = free_port()
        self.url = f"postgresql+psycopg://batchacct@127.0.0.1:{self.port}/postgres"
        if (folder / "data").exists():
            return
        _run(
            self._user, self._programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "batchacct", "--encoding=UTF8",
            "--locale=C",
        )  # fmt: skip

    def start(self) -> None:
        """Returns when it takes connections."""
        settings = " ".join((f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1", *self._options))
        self._control("-l", self.folder / "log", "-w", "-t", START_TIMEOUT_S, "-o", settings, "start")

    def stop(self, mode: str = "immediate") -> None:
        """`immediate`: as if it crashed; `fast`: connections are told, and closed."""
        self._control("-m", mode, "-w", "-t", START_TIMEOUT_S, "stop")

    def _control(self, *arguments: object) -> None:
        _run(self._user, self._programs / "pg_ctl", "-D", self.folder / "data", *arguments)


@contextmanager
def postgres_server(*options: str, kept_in: Path | None = None) -> Iterator[PostgresServer]:
    """A running PostgreSQL that may be stopped, and started again; `options` of the server's command line.

    Its data is gone at the end, unless there is a folder to keep it in, which other users have to be able to enter.
    """
    _postgres_programs()
    with _folder("batchacct-pg-", DISK, kept_in) as folder:
        server = PostgresServer(folder, *options)
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop("immediate" if kept_in is None else "fast")


@contextmanager
def _folder(prefix: str, where: Path, kept: Path | None) -> Iterator[Path]:
    """A folder that is gone at the end, or the one that is kept."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql() -> Iterator[str]:
    """A running PostgreSQL with one empty database; yields its SQLAlchemy URL."""
    with postgres_server() as server:
        yield server.url


class MariaServer:
    """A MariaDB of its own with one empty database at `url`; `port` stays the same from start to start.

    Its user has no password, and no more rights in that database, and in others whose names begin so, than batchacct asks for.
    `options` are the server's own. In a folder where one was before, it goes on with that one's data.
    """

    USER = "batchacct"
    GRANTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, CREATE VIEW, CREATE TEMPORARY TABLES"

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.socket = folder / "s.sock"
        self.url = f"mariadb+pymysql://{self.USER}@127.0.0.1:{self.port}/batchacct"
        self._process: subprocess.Popen[bytes] | None = None
        # two installations at a time make temporary tables of the same names: each has its own place for them
        data, tmp, user = f"--datadir={folder}/data", f"--tmpdir={folder}", f"--user={getpass.getuser()}"
        made_by = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._is_new = not (folder / "data").exists()
        if self._is_new:
            _checked([*made_by, data, tmp, user], "")
        self._command = [
            "mariadbd", "--no-defaults", data, tmp, f"--socket={self.socket}", f"--pid-file={folder}/pid", f"--port={self.port}",
            "--bind-address=127.0.0.1", "--skip-name-resolve", user, *options,
        ]  # fmt: skip

    def start(self) -> None:
        """Returns when it takes connections."""
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._await_connections()
        if self._is_new:
            self._is_new = False
            self.execute(f"CREATE USER {self.USER}@127.0.0.1; GRANT {self.GRANTS} ON `batchacct%`.* TO {self.USER}@127.0.0.1")
            self.empty("batchacct")

    def stop(self, mode: str = "immediate") -> None:
        """`immediate`: as if it crashed; `fast`: connections are told, and closed."""
        if self._process is not None:
            self._process.terminate() if mode == "fast" else self._process.kill()
            self._process.wait(START_TIMEOUT_S)

    def empty(self, database: str) -> None:
        """Makes a database anew."""
        self.execute(f"DROP DATABASE IF EXISTS `{database}`; CREATE DATABASE `{database}`")

    def execute(self, script: str, database: str = "") -> str:
        """Runs an SQL script as root with the server's own client, which knows DELIMITER; what it prints, without headings."""
        command = ["mariadb", "--no-defaults", f"--socket={self.socket}", "-u", "root", "--batch", "--skip-column-names"]
        return _checked([*command, *([database] if database else [])], script)

    def _await_connections(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.execute("SELECT 1")
            except RuntimeError:
                if self._process.poll() is not None or time.monotonic() > until:
                    said = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"MariaDB did not start:\n{said}") from None
                time.sleep(0.1)
            else:
                return


@contextmanager
def mariadb_server(*options: str, in_memory: bool = False, kept_in: Path | None = None) -> Iterator[MariaServer]:
    """A running MariaDB that may be stopped, and started again; `in_memory` if there is room: each CREATE waits for the disk.

    Its data is gone at the end, unless there is a folder to keep it in.
    """
    if not all(shutil.which(program) for program in ("mariadbd", "mariadb", "mariadb-install-db")):
        raise MissingServerError("MariaDB is not installed: apt-get install mariadb-server")
    with _folder("batchacct-mariadb-", memory_or_disk() if in_memory else DISK, kept_in) as folder:
        server = MariaServer(folder, *options)
        try:
            server.start()
            yield server
        finally:
            server.stop("immediate" if kept_in is None else "fast")


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


def _checked(command: list[str], script: str) -> str:
    """What the command prints."""
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout
