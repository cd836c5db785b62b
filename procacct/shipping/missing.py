"""Bytes of a node's file that a broker has lost for good: what waits for them goes on without them, and a gap row says so.

The file ends where they were missing; what follows is a file of its own, as after `procacct tidy` (`mirror.rest_name`). The gap row
stands in HOST/processes-given-up.jsonl, which the sources of processes read like any other.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchacct.durable import FILE_MODE, sync_folder, write_all
from batchacct.errors import ConfigError
from procacct.node.clocks import SECOND_NS
from procacct.node.rows import Row, Rows
from procacct.shipping.mirror import Mirror
from procacct.shipping.ranges import SpoolName

GIVEN_UP = "processes-given-up.jsonl"
REASON = "bytes of the node were lost on their way"
TAIL_BYTES = 1 << 20
_TIMES = ("logged_at", "left_at", "seen_at")


@dataclass(frozen=True, slots=True)
class Missing:
    """Of a file the bytes from `begin` to `end` have not come; `waiting` bytes of what is behind them have."""

    host: str
    file: SpoolName
    begin: int
    end: int
    waiting: int


def missing(mirror: Mirror) -> list[Missing]:
    """What is waited for, by host and file.  Raises: OSError."""
    sizes = mirror.sizes()
    return [
        Missing(host, file, sizes[host, file], begin, count)
        for (host, file), (begin, count) in sorted(mirror.ahead.waiting().items())
    ]


def give_up(mirror: Mirror, host: str, file: SpoolName) -> Missing:
    """Goes on without the bytes that a file waits for, which are told in a gap row.

    Killed in between, it is to be called again.  Raises: ConfigError if the file waits for nothing, OSError.
    """
    found = next((one for one in missing(mirror) if (one.host, one.file) == (host, file)), None)
    if found is None:
        raise ConfigError(f"{file} of host {host} waits for nothing: `procacct missing` tells which files do")
    if found.end > found.begin:
        _append(mirror.folder / host / GIVEN_UP, _gap(mirror, found))
    mirror.go_on((host, found.file), found.end)
    return found


def _gap(mirror: Mirror, found: Missing) -> Row:
    """From the row before to the row behind; at least one is lost, and nobody knows how many."""
    key = (found.host, found.file)
    first = mirror.ahead.fitting(key, found.end)
    around = [row for row in (_row(mirror.tail(key, TAIL_BYTES), -1), _row(first.content if first else b"", 0)) if row]
    times = [int(row[name]) * SECOND_NS for row in around for name in _TIMES if isinstance(row.get(name), int)]
    boot_id = next((str(row["boot_id"]) for row in around if "boot_id" in row), found.file.boot)
    since_ns = times[0] if times else 0
    row = Rows(found.host, boot_id, lambda _: None).gap(REASON, ["connector"], since_ns, max([since_ns, *times]), 1)
    return row | {"record_key": f"gap/{found.host}/{boot_id}/{found.file}/{found.begin}-{found.end}"}


def _row(content: bytes, which: int) -> dict[str, Any] | None:
    lines = content.splitlines()
    try:
        row = json.loads(lines[which])
    except (IndexError, ValueError):
        return None
    return row if isinstance(row, dict) else None


def _append(path: Path, row: Row) -> None:
    line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        write_all(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)
