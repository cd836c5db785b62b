"""A private MariaDB for the APEL client, with its own defaults: in a temporary folder, on a free loopback port."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import MissingServerError, free_port

DATABASE, USER = "apelclient", "apel"
START_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class MariaDb:
    """A running server with one empty database, whose user has no password."""

    port: int
    socket: Path

    def execute(self, script: str, database: str = "") -> None:
        """Runs an SQL script with the server's own client, which knows DELIMITER."""
        command = ["mariadb", "--no-defaults", f"--socket={self.socket}", "-u", "root", *([database] if database else [])]
        _checked(command, script)


@contextmanager
def mariadb() -> Iterator[MariaDb]:
    """Raises: MissingServerError if it is not installed."""
    if not all(shutil.which(program) for program in ("mariadbd", "mariadb", "mariadb-install-db")):
        raise MissingServerError("MariaDB is not installed, so the APEL client was not run: apt-get install mariadb-server")
    folder = Path(tempfile.mkdtemp(prefix="batchacct-mariadb-", dir="/tmp"))
    user = f"--user={getpass.getuser()}"
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal", user]
    try:
        _checked(install, "")
        server = MariaDb(free_port(), folder / "s.sock")
        places = [f"--datadir={folder}/data", f"--socket={server.socket}", f"--pid-file={folder}/pid"]
        command = [
            "mariadbd",
            "--no-defaults",
            *places,
            f"--port={server.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            user,
        ]
        with (folder / "log").open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            _await(process, server, folder / "log")
            server.execute(
                f"CREATE DATABASE {DATABASE}; CREATE USER {USER}@127.0.0.1; GRANT ALL ON {DATABASE}.* TO {USER}@127.0.0.1"
            )
            yield server
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await(process: subprocess.Popen[bytes], server: MariaDb, output: Path) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.execute("SELECT 1")
        except RuntimeError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"MariaDB did not start:\n{output.read_text(errors='replace')}") from None
            time.sleep(0.2)
        else:
            return


def _checked(command: list[str], script: str) -> None:
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
