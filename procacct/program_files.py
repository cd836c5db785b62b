"""Build id and signature of a program by its file, for programs in which no sensor looks: static ones, those with a set user id.

A file is looked at once: it is known by device, inode, size and time of its last change, until so many others came after it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from procacct.elf import ElfError
from procacct.elf_notes import build_id, notes_of_file, signature

MOST_KNOWN = 20_000


class Marks(NamedTuple):
    """build_id in hex; signature: a UUID, also one that is in the file alone (`batchacct procs sign`)."""

    build_id: str | None = None
    signature: str | None = None


class ProgramFiles:
    """What was found in the files that were asked for."""

    def __init__(self, most_known: int = MOST_KNOWN) -> None:
        self._most_known = most_known
        self._known: OrderedDict[tuple[int, int, int, int], Marks] = OrderedDict()

    def marks(self, path: str | Path) -> Marks:
        """Of the program at `path`, such as `/proc/PID/exe`; nothing of one that is gone, may not be read, or is no ELF file."""
        try:
            found = os.stat(path)  # noqa: PTH116 - of a link in /proc whose name leads nowhere any more, too
            key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            marks = _marks_in(path)
        except OSError:
            return Marks()
        self._known[key] = marks
        if len(self._known) > self._most_known:
            self._known.popitem(last=False)
        return marks


def _marks_in(path: str | Path) -> Marks:
    try:
        notes = notes_of_file(path)
    except ElfError:
        return Marks()
    found = signature(notes)
    return Marks(build_id(notes), found.uuid if found else None)
