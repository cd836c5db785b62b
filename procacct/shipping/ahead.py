"""Ranges that came before what stands in front of them: kept on disk, bounded for each host."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

from batchacct.durable import FILE_MODE, FOLDER_MODE, sync_folder, write_all
from procacct.shipping.ranges import Range, SpoolName

AHEAD = ".ahead"
MOST_RANGES = 20_000
"""Of a host: each is a file, and of a message with one line every five seconds these are those of a day."""

Key = tuple[str, SpoolName]


class Full(Exception):  # noqa: N818 - told of a bound
    """As much is kept ahead for a host as may be."""


class Ahead:
    """FOLDER/HOST/.ahead/FILE@OFFSET, each the bytes of one range."""

    def __init__(self, folder: Path, at_most: int, *, is_to_look: bool = False) -> None:
        """`is_to_look`: another process may be at work in the folder, and nothing is changed.  Raises: OSError."""
        self._folder = folder
        self.at_most = at_most
        self._kept: dict[Key, dict[int, int]] = {}
        self._offsets: dict[Key, list[int]] = {}
        """Of each file a heap: the first is what fits next."""
        self._bytes: Counter[str] = Counter()
        self._ranges: Counter[str] = Counter()
        self._unsynced: dict[Path, int] = {}
        self._used: list[Path] = []
        for path in folder.glob(f"*/{AHEAD}/*"):
            file, _, offset = path.name.partition("@")
            name = SpoolName.of(file)
            if name is not None and offset.isdigit():
                with suppress(*([FileNotFoundError] if is_to_look else [])):
                    self._note((path.parent.parent.name, name), int(offset), path.stat().st_size)
            elif not is_to_look:
                path.unlink()  # what was being written when a process was killed

    def _note(self, key: Key, offset: int, length: int) -> None:
        kept = self._kept.setdefault(key, {})
        self._bytes[key[0]] += length - kept.get(offset, 0)
        if offset not in kept:
            self._ranges[key[0]] += 1
            heapq.heappush(self._offsets.setdefault(key, []), offset)
        kept[offset] = length

    def keep(self, one: Range) -> None:
        """Keeps it until `used`; of several that begin at one place the longest.  Raises: Full, OSError."""
        key, length = (one.host, one.file), len(one.content)
        there = self._kept.get(key, {}).get(one.offset, 0)
        if length <= there:
            return
        if self._bytes[one.host] + length - there > self.at_most or (not there and self._ranges[one.host] >= MOST_RANGES):
            raise Full
        path = self._path(one.host, one.file, one.offset)
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            write_all(descriptor, one.content)
        except OSError:
            os.close(descriptor)
            temporary.unlink()
            raise
        temporary.rename(path)
        if (earlier := self._unsynced.pop(path, None)) is not None:
            os.close(earlier)
        self._unsynced[path] = descriptor
        self._note(key, one.offset, length)

    def fitting(self, key: Key, size: int) -> Range | None:
        """One that begins at or before the end of its file, if there is one.  Raises: OSError."""
        offsets = self._offsets.get(key)
        if not offsets or offsets[0] > size:
            return None
        path = self._path(key[0], key[1], offsets[0])
        return Range(key[0], key[1], offsets[0], path.read_bytes(), 0)

    def used(self, one: Range) -> None:
        """It, which `fitting` gave, is in its file; its own is deleted once that is on the disk."""
        key = (one.host, one.file)
        heapq.heappop(self._offsets[key])
        self._bytes[one.host] -= self._kept[key].pop(one.offset)
        self._ranges[one.host] -= 1
        if not self._kept[key]:
            del self._kept[key], self._offsets[key]
        self._used.append(self._path(one.host, one.file, one.offset))

    def keep_used(self) -> None:
        """What was used may not be on the disk: its own file stays, and is found at the next start."""
        self._used.clear()

    def sync(self) -> None:
        """What is kept is on the disk; what was used is gone. Comes after the files themselves were synced."""
        folders = {path.parent for path in self._unsynced}
        for descriptor in self._unsynced.values():
            os.fsync(descriptor)
            os.close(descriptor)
        self._unsynced.clear()
        for folder in folders:
            sync_folder(folder)
            sync_folder(folder.parent)
            sync_folder(folder.parent.parent)
        for path in self._used:
            path.unlink(missing_ok=True)
        self._used.clear()

    def waiting(self) -> dict[Key, tuple[int, int]]:
        """For each file that something is ahead of: where that begins, and how many bytes it is."""
        return {key: (self._offsets[key][0], sum(kept.values())) for key, kept in self._kept.items()}

    def _path(self, host: str, file: SpoolName, offset: int) -> Path:
        return self._folder / host / AHEAD / f"{file}@{offset}"
