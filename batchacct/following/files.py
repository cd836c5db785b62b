"""The files of a source: what there is now, in the order it was written, and the folders in which more may appear."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from batchacct.following.opened import HEAD_BYTES, OpenFile
from batchacct.parsing.reading import expand, reading_order

SLACK_S = 60
"""The clocks of two file systems may differ by so much."""
WAITING_S = 3600 + SLACK_S
"""A sibling counts as written since the last reading if it was no longer before it than half a line at its end is waited for."""

_SIBLING = re.compile(r"(?:\.\d{1,4}|[-.](?:19|20)\d{6}[-_.T\d]*)(?:\.(?:gz|bz2|xz|zst))?")


Place = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written to, renamed or replaced."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def place(self) -> Place:
        return self.device, self.inode

    @property
    def modified_at(self) -> int:
        return self.modified_ns // 1_000_000_000


def stamp_of(state: os.stat_result) -> Stamp:
    return Stamp(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def stamp_of_path(path: str) -> Stamp | None:
    """None where there is no file, or it may not be looked at."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116 - there may be a hundred thousand
    except OSError:
        return None


def stamps(patterns: Iterable[str], old: Set[int]) -> dict[str, Stamp | None]:
    """The files of a source in reading order, each with its stamp; None where it is not there, or may not be looked at.

    A path without a pattern stands for its rotated siblings, too (`acct.1`, `acct-20261126.gz`), but those that were
    last written to at one of the instants `old` (see `old_siblings`).
    """
    patterns = list(patterns)
    found = {path: stamp_of_path(path) for path in expand(patterns)}
    for path in patterns:
        for sibling in _siblings(path):
            stamp = stamp_of_path(sibling)
            if sibling not in found and stamp is not None and stamp.modified_at not in old and os.path.isfile(sibling):  # noqa: PTH113
                found[sibling] = stamp
    return {path: found[path] for path in sorted(found, key=reading_order)}


def old_siblings(patterns: Iterable[str], since: int | None, unfinished: Collection[Place] = ()) -> set[int]:
    """When those rotated siblings of paths were written to that were not after `since` (Unix seconds, by the files' own times;
    None: than the path itself): they were read when they had their first names, or were never asked for. Those that are
    `unfinished` are none of them, nor those in which half a line, and nothing else, may have waited for its end (WAITING_S).

    They are known by that time when they are renamed or compressed; what is written while the clock is set back is none of them.
    """
    found = set()
    for path in patterns:
        own = stamp_of_path(path)
        after = own.modified_at - SLACK_S if own is not None else time.time() - SLACK_S
        if since is not None:
            after = since - WAITING_S
        for sibling in _siblings(path):
            stamp = stamp_of_path(sibling)
            if stamp is not None and stamp.modified_at < after and stamp.place not in unfinished:
                found.add(stamp.modified_at)
    return found


def may_be_one(patterns: Iterable[str], path: str) -> bool:
    """Whether a file at `path` might be one of a source, by its name."""
    return any(fnmatch.fnmatch(path, p) or (path.startswith(p) and _SIBLING.fullmatch(path, len(p))) for p in patterns)


def folders(patterns: Iterable[str], paths: Iterable[str]) -> set[str]:
    """The folders whose changes matter: those of the files, and those in which a pattern may come to match."""
    found = set()
    for pattern in patterns:
        folder = os.path.dirname(pattern)  # noqa: PTH120 - "" where there is none
        while folder and glob.has_magic(folder):
            folder = str(Path(folder).parent)
        found.add(folder or ".")
    return found | {os.path.dirname(path) or "." for path in paths}  # noqa: PTH120 - there may be a hundred thousand


def is_link(path: str) -> bool:
    """Whether it is a symbolic link; not if it may not be looked at."""
    return os.path.islink(path)  # noqa: PTH114 - Path raises then


def _siblings(path: str) -> list[str]:
    """What a path may have been rotated to; of a pattern there is none. (A name may hold brackets, though, and be no pattern.)"""
    folder, name = os.path.split(path)
    if "*" in name or "?" in name:
        return []
    try:
        beside = os.listdir(folder or ".")  # noqa: PTH208 - names are all that is asked
    except OSError:
        return []
    return [str(Path(folder) / n) for n in beside if n.startswith(name) and _SIBLING.fullmatch(n, len(name))]


def begins_another(file: OpenFile, there: Mapping[str, Stamp | None], *, as_long: bool = False) -> bool:
    """Whether all there is of a short file is how another, longer (or as long) one of the same log begins: it may be a copy of
    that, just begun.
    """
    if file.is_compressed or not 0 < len(file.head) < HEAD_BYTES:
        return False
    log_name = reading_order(file.path)[0]
    least = file.state.st_size + (not as_long)
    longer = (p for p, s in there.items() if s is not None and s.size >= least and s.place != file.place)
    return any(_holds(path, file.begin, file.head) for path in longer if reading_order(path)[0] == log_name)


def _holds(path: str, offset: int, content: bytes) -> bool:
    try:
        with Path(path).open("rb") as stream:
            stream.seek(offset)
            return stream.read(len(content)) == content
    except OSError:
        return False


def nothing_there(patterns: Iterable[str]) -> str:
    """What is told where no file matches: that a folder cannot be listed, else that there is none."""
    patterns = list(patterns)
    for folder in folders(patterns, ()):
        try:
            os.listdir(folder)  # noqa: PTH208 - only whether it can be
        except OSError as error:
            return f"folder {folder} cannot be listed: {error.strerror}. Its files are read once it can be"
    return f"no file matches {', '.join(patterns)}: correct the source's `paths`, or wait for the first file"
