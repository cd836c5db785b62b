"""Programs run with the sensor of the sources, and a socket that takes what it sends."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from procacct.datagrams import Datagram, Kind, decode
from procacct.policy import Policy, write
from procacct.sensor import preload_path
from tests.servers import REQUIRED

QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
CREDENTIALS = struct.Struct("=3i")
TIMEOUT_S = 120
BASE = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C", "HOME": "/nonexistent"}
is_root = os.geteuid() == 0


def need(what: str, present: object) -> None:
    """Skips a test without what it needs, which an installation for tests has."""
    if not present:
        if REQUIRED:
            pytest.fail(f"{what} is not here")
        pytest.skip(f"{what} is not here")


def need_program(name: str) -> str:
    path = shutil.which(name)
    need(name, path)
    assert path is not None
    return path


class Received(NamedTuple):
    """A datagram, and who sent it by what the kernel says."""

    datagram: Datagram
    pid: int
    uid: int


class Done(NamedTuple):
    """What a program did that others can see."""

    status: int
    output: bytes
    errors: bytes


@dataclass
class Sensor:
    """The built library, its policy, and the socket it sends to."""

    folder: Path
    library: Path
    received: list[Received] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.folder / "sensor.sock"

    @property
    def policy(self) -> Path:
        return self.folder / "policy"

    @property
    def preload(self) -> str:
        return str(preload_path(self.library))

    def set_policy(self, **keys: object) -> None:
        write(self.policy, Policy(socket=self.socket, **keys))  # type: ignore[arg-type]

    def run(
        self,
        command: Sequence[str | Path],
        *,
        on: bool = True,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Done:
        """A program, with the sensor or without, and nothing else of this process's environment."""
        set_ = {**BASE, **(environment or {})}
        if on:
            set_["LD_PRELOAD"] = ":".join([*filter(None, [set_.get("LD_PRELOAD")]), self.preload])
        done = subprocess.run(
            command, check=False, env=set_, cwd=cwd or self.folder, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def of(self, program: str, kind: Kind = Kind.START) -> list[Datagram]:
        """Datagrams received of programs of this file name."""
        starts = {
            (got.pid, got.datagram.start_monotonic_ns)
            for got in self.received
            if (got.datagram.program or "").endswith("/" + program)
        }
        return [r.datagram for r in self.received if r.datagram.kind == kind and (r.pid, r.datagram.start_monotonic_ns) in starts]

    @contextmanager
    def listening(self, queue: int = 4096) -> Iterator[list[Received]]:
        """Takes datagrams until the end of the context; then `received` has all that were sent within it."""
        self.received = []
        with bound(self.socket, queue) as taking:
            reader = threading.Thread(target=self._take, args=(taking,))
            reader.start()
            try:
                yield self.received
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ending:
                    ending.sendto(b"", str(self.socket))
                reader.join()

    def _take(self, taking: socket.socket) -> None:
        while True:
            data, ancillary, _, _ = taking.recvmsg(1 << 17, 256)
            if not data:
                return
            pid, uid, _ = CREDENTIALS.unpack(ancillary[0][2])
            self.received.append(Received(decode(data), pid, uid))


@contextmanager
def bound(path: Path, queue: int) -> Iterator[socket.socket]:
    """A socket for datagrams with credentials; `queue` is how many may wait in it, which takes root where it is more than usual."""
    before = QUEUE.read_text(encoding="ascii")
    path.unlink(missing_ok=True)
    if is_root:
        QUEUE.write_text(str(queue), encoding="ascii")
    try:
        taking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    finally:
        if is_root:
            QUEUE.write_text(before, encoding="ascii")
    with taking:
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        taking.bind(str(path))
        path.chmod(0o777)
        yield taking
    path.unlink(missing_ok=True)


def compiled(folder: Path, name: str, source: str, *options: str, compiler: str = "gcc") -> Path:
    """A program of C, built once a folder."""
    program = folder / name
    if not program.exists():
        code = folder / f"{name}.c"
        code.write_text(source, encoding="utf-8")
        subprocess.run(
            [need_program(compiler), "-O1", "-w", "-pthread", "-o", program, code, *options], check=True, timeout=TIMEOUT_S
        )
    return program
