"""The spool folder of a node as its sender sees it: which files there are, which are finished, and what is in them.

procacctd appends whole lines to the newest file of each kind, and goes on to the next number when that is large or old. A file is
finished if there is a later one of its kind and boot, or if it is of another boot than this one.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from procacct.shipping.ranges import LARGEST_RANGE, SpoolName

MARKED_BYTES = 256
"""So much before an offset tells whether the file is still the one that was read up to there."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Replaced(Exception):  # noqa: N818 - what happened to a file
    """A file is shorter than it was read, or other bytes stand before the offset."""


class TooLong(Exception):  # noqa: N818
    """A line is longer than a range may be."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a file was sent: `mark` is of the bytes before `offset`; `again` counts from 2 where the content was replaced."""

    offset: int = 0
    mark: str = ""
    again: int = 1

    def after(self, content: bytes, before: bytes) -> Cursor:
        """The cursor behind `content`, which stands at this one, behind `before`."""
        tail = (before + content)[-MARKED_BYTES:]
        return Cursor(self.offset + len(content), mark_of(tail), self.again)


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands at a cursor: whole lines, or the unfinished last one of a finished file; `before`: what stands before it."""

    content: bytes
    before: bytes
    is_full: bool


def mark_of(tail: bytes) -> str:
    return hashlib.sha256(tail).hexdigest()[:32] if tail else ""


def boot8() -> str:
    """The first eight digits of the boot id of this host."""
    return BOOT_ID.read_text(encoding="ascii")[:8]


class Spool:
    """A folder of spool files; `boot`: that of the host, as in their names."""

    def __init__(self, folder: Path, boot: str) -> None:
        self.folder = folder
        self.boot = boot

    def names(self) -> list[SpoolName]:
        """All there are, in their order.  Raises: OSError."""
        found = (SpoolName.of(entry.name) for entry in os.scandir(self.folder))
        return sorted(name for name in found if name is not None and name.again == 1)

    def finished(self, names: list[SpoolName]) -> set[SpoolName]:
        """Those that nobody writes to any more."""
        last = {(name.kind, name.boot): name for name in names}
        return {name for name in names if name.boot != self.boot or last[name.kind, name.boot] != name}

    def read(self, name: SpoolName, cursor: Cursor, at_most: int, *, is_finished: bool) -> Reading:
        """Whole lines from the cursor on, at least one if there is one.

        Raises: Replaced, TooLong, FileNotFoundError, OSError.
        """
        with (self.folder / str(name)).open("rb", buffering=0) as file:
            marked = min(MARKED_BYTES, cursor.offset)
            begin = cursor.offset - marked
            wanted = at_most
            while True:
                found = _read_at(file.fileno(), begin, marked + wanted)
                before, content = found[:marked], found[marked:]
                if len(before) < marked or (cursor.mark and mark_of(before) != cursor.mark):
                    raise Replaced
                cut = content.rfind(b"\n") + 1
                is_full = len(content) == wanted
                if cut == 0 and is_full:
                    if wanted >= LARGEST_RANGE:
                        raise TooLong
                    wanted = min(wanted * 4, LARGEST_RANGE)
                    continue
                if is_finished and not is_full:
                    cut = len(content)
                return Reading(content[:cut], before, is_full)

    def size(self, name: SpoolName) -> int:
        return (self.folder / str(name)).stat().st_size

    def remove(self, name: SpoolName) -> None:
        (self.folder / str(name)).unlink(missing_ok=True)


def _read_at(descriptor: int, offset: int, count: int) -> bytes:
    parts: list[bytes] = []
    while count and (part := os.pread(descriptor, count, offset)):
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return b"".join(parts)
