"""Spool files as procacctd writes them: whole lines appended, the next number when a file is full."""

from __future__ import annotations

import json
import random
from pathlib import Path

BOOT = "0a1b2c3d"
LATER_BOOT = "4e5f6a7b"
NOW_S = 1_795_000_000


def line(host: str, number: int, *, size: int = 0, boot: str = BOOT) -> bytes:
    """A row of a process: `number` makes it distinct; about `size` bytes, 400 by default."""
    start_ns = (NOW_S + number) * 10**9 + number
    row = {
        "v": 1, "record_key": f"{host}/{boot}/{number % 32768 + 2}/{start_ns}/1", "host": host, "boot_id": boot,
        "pid": number % 32768 + 2, "parent_pid": 1, "user_id": 1000 + number % 7, "kind": "program", "started_at": NOW_S + number,
        "start_ns": start_ns, "end_ns": start_ns + 10**9 + number, "logged_at": NOW_S + number + 1, "elapsed_s": 1.0,
        "cpu_user_s": number % 100 / 100, "cpu_system_s": 0.01, "program": "/usr/bin/solver" + "x" * max(0, size - 400),
        "command": "solver", "ended_by": "exit", "exit_code": number % 3, "processes": 1, "seen_by": ["connector", "proc"],
    }  # fmt: skip
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


class NodeSpool:
    """What procacctd of one node does to its spool folder."""

    def __init__(self, folder: Path, host: str, *, boot: str = BOOT, rotate_bytes: int = 60_000) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.host, self.boot = folder, host, boot
        self.rotate_bytes = rotate_bytes
        self.rows = 0
        self.written: dict[str, bytes] = {}
        """All that was ever written, by file name: what the mirror has to be."""
        self._number = 1
        self._random = random.Random(host)

    @property
    def file(self) -> str:
        return f"processes-{self.boot}-{self._number:06d}.jsonl"

    def write(self, count: int) -> None:
        """Appends so many rows, a few at a time, and rotates."""
        while count > 0:
            some = min(count, self._random.randrange(1, 40))
            lines = b"".join(
                line(self.host, self.rows + n, size=self._random.choice([400, 400, 900]), boot=self.boot) for n in range(some)
            )
            self.append(lines)
            self.rows += some
            count -= some
            if len(self.written[self.file]) >= self.rotate_bytes:
                self.rotate()

    def append(self, lines: bytes) -> None:
        with (self.folder / self.file).open("ab") as file:
            file.write(lines)
        self.written[self.file] = self.written.get(self.file, b"") + lines

    def rotate(self) -> None:
        self._number += 1
        self.append(line(self.host, self.rows, boot=self.boot))
        self.rows += 1


def mirrored(folder: Path, host: str) -> dict[str, bytes]:
    """The files of a host on the central side."""
    return {path.name: path.read_bytes() for path in sorted((folder / host).glob("*.jsonl"))}
