"""The spools of all nodes on the central host: FOLDER/HOST/FILE, byte for byte, each byte written once.

A file's length says what is there of it. A range that stands at its end is appended; of one that is there already the bytes are
compared, and nothing is written. One that is ahead of the end is kept beside it (`HOST/.ahead/FILE@OFFSET`) until what is missing
has come: of several brokers one may be away with earlier ranges for hours. How much may be kept so for a host is bounded. Nothing
is acknowledged before `sync` has brought it to the disk.
"""

from __future__ import annotations

import enum
import fcntl
import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from batchacct.crashpoints import crash_point
from batchacct.durable import FILE_MODE, FOLDER_MODE, replace_file, sync_folder, write_all
from procacct.shipping.ahead import Ahead
from procacct.shipping.ranges import Range, SpoolName, Unusable
from procacct.shipping.recent import Recent

log = logging.getLogger(__name__)

CHECKED_KEPT = 20_000
"""Files of which it is known that no zeros end them, as after a power cut; of another one it is looked for again."""

_BLOCK = 1 << 16
_REST = re.compile(r"(.+)\.from-([1-9][0-9]{0,14})\.jsonl")

REMOVED = ".removed"
"""FOLDER/HOST/.removed/FILE holds how much of a file `procacct tidy` took away; what comes after that is HOST/`rest_name`."""

Key = tuple[str, SpoolName]


def note_removed(folder: Path, file: SpoolName, size: int) -> None:
    """The first bytes of a host's file, so many, are not there any more.  Raises: OSError."""
    kept = folder / REMOVED
    kept.mkdir(mode=FOLDER_MODE, exist_ok=True)
    note = kept / str(file)
    before = int(note.read_bytes()) if note.exists() else 0
    replace_file(note, str(max(before, size)).encode())


def rest_name(file: SpoolName, base: int) -> str:
    """The name of what comes of a file after its first `base` bytes were taken away."""
    return str(file) if base == 0 else f"{str(file).removesuffix('.jsonl')}.from-{base}.jsonl"


def file_and_base(text: str) -> tuple[SpoolName, int] | None:
    """What `rest_name` made a name of; None for another one."""
    match = _REST.fullmatch(text)
    file = SpoolName.of(f"{match[1]}.jsonl" if match else text)
    return None if file is None else (file, int(match[2]) if match else 0)


@dataclass(frozen=True, slots=True)
class _File:
    """A file that is open; `base` bytes that stood before it were taken away."""

    descriptor: int
    base: int

    @property
    def end(self) -> int:
        return self.base + os.fstat(self.descriptor).st_size


class Outcome(enum.Enum):
    """What became of a range."""

    WRITTEN = "written"
    KNOWN = "known"
    AHEAD = "ahead"


class Mirror:
    """The folder; used by one process at a time."""

    def __init__(self, folder: Path, ahead_bytes: int, *, is_to_look: bool = False) -> None:
        """`ahead_bytes`: of one host, kept until what is missing has come; `is_to_look`: while another process uses it.

        Raises: OSError.
        """
        self.folder = folder
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self.ahead = Ahead(folder, ahead_bytes, is_to_look=is_to_look)
        self._open: dict[Key, _File] = {}
        self._written: set[Key] = set()
        self._checked = Recent(CHECKED_KEPT)
        self._new_in: set[Path] = set()

    def take(self, one: Range) -> Outcome:
        """Puts a range where it belongs; on the disk it is after the next `sync`.

        Raises: Unusable for one that contradicts what is there, `ahead.Full`, OSError.
        """
        key = (one.host, one.file)
        file = self._opened(key, one)
        base = self._removed(key) if file is None else file.base
        if one.end <= base:
            return Outcome.KNOWN
        if one.offset < base:
            one = replace(one, offset=base, content=one.content[base - one.offset :])
        if file is None or one.offset > file.end:
            self.ahead.keep(one)
            return Outcome.AHEAD
        if not self._append(key, file, one):
            return Outcome.KNOWN
        self._follow_up(key, file)
        return Outcome.WRITTEN

    def sync(self) -> None:
        """All that was taken is on the disk.  Raises: OSError."""
        crash_point("receive.written")
        for key in self._written:
            os.fsync(self._open[key].descriptor)
        for folder in self._new_in:
            sync_folder(folder)
        self._new_in.clear()
        crash_point("receive.synced")
        self.ahead.sync()
        self.close()

    def abandon(self) -> None:
        """Lets go of what was taken and not synced, and is not acknowledged therefore."""
        try:
            self.sync()
        except OSError:
            self.ahead.keep_used()
            self.close()

    def close(self) -> None:
        """Lets go of open files."""
        self._written.clear()
        for file in self._open.values():
            os.close(file.descriptor)
        self._open.clear()

    def sizes(self) -> dict[Key, int]:
        """How much there is of each file that something is ahead of."""
        return {key: self._size(key) for key in self.ahead.waiting()}

    def tail(self, key: Key, at_most: int) -> bytes:
        """The last bytes there are of a file.  Raises: OSError."""
        try:
            with self._path(key, self._removed(key)).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - at_most))
                return file.read()
        except FileNotFoundError:
            return b""

    def go_on(self, key: Key, offset: int) -> None:
        """Goes on with a file where what is ahead of it begins: what was before is ended, and never waited for again.

        Raises: OSError.
        """
        note_removed(self.folder / key[0], key[1], offset)
        if (first := self.ahead.fitting(key, offset)) is not None:
            self.take(first)
        self.sync()

    def _size(self, key: Key) -> int:
        base = self._removed(key)
        try:
            return base + self._path(key, base).stat().st_size
        except FileNotFoundError:
            return base

    def _path(self, key: Key, base: int) -> Path:
        return self.folder / key[0] / rest_name(key[1], base)

    def _removed(self, key: Key) -> int:
        try:
            return int((self.folder / key[0] / REMOVED / str(key[1])).read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0

    def _opened(self, key: Key, one: Range) -> _File | None:
        """The file, open until the next `sync`; None if it is not there and is not begun by `one`.

        It is locked meanwhile: `procacct tidy` takes none away that is written to.
        """
        if key in self._open:
            return self._open[key]
        while True:
            base = self._removed(key)
            path = self._path(key, base)
            if (descriptor := self._descriptor(path, may_make=one.offset <= base < one.end)) is None:
                return None
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink and self._removed(key) == base:
                break
            os.close(descriptor)
        self._open[key] = _File(descriptor, base)
        if self._checked.count(key) == 1:
            _cut_zeros(descriptor, path)
        return self._open[key]

    def _descriptor(self, path: Path, *, may_make: bool) -> int | None:
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            if not may_make:
                return None
        if not path.parent.is_dir():
            path.parent.mkdir(mode=FOLDER_MODE)
            self._new_in.add(self.folder)
        self._new_in.add(path.parent)
        return os.open(path, flags | os.O_CREAT, FILE_MODE)

    def _append(self, key: Key, file: _File, one: Range) -> bool:
        """Whether anything of the range was not there yet.  Raises: Unusable where what is there is something else."""
        there = _read_at(file.descriptor, one.offset - file.base, min(file.end, one.end) - one.offset)
        if there != one.content[: len(there)]:
            at = one.offset + next(n for n, (a, b) in enumerate(zip(there, one.content, strict=False)) if a != b)
            raise Unusable(f"{one.file} has other bytes at {at} than came before. Have two nodes the name {one.host}?")
        if len(there) == len(one.content):
            self._written.add(key)  # a process that was killed may have written it, and not synced it
            return False
        if one.offset > file.base and _read_at(file.descriptor, one.offset - file.base - 1, 1) != b"\n":
            raise Unusable(f"{one.file} begins within a line at {one.offset}: lines are sent whole")
        write_all(file.descriptor, one.content[len(there) :])
        self._written.add(key)
        return True

    def _follow_up(self, key: Key, file: _File) -> None:
        """Appends what was ahead and fits now; where it contradicts what is there, it is dropped, and told."""
        while (one := self.ahead.fitting(key, file.end)) is not None:
            if one.end > file.base:
                skip = max(0, file.base - one.offset)
                fitting = replace(one, offset=one.offset + skip, content=one.content[skip:])
                try:
                    self._append(key, file, fitting)
                except Unusable as unusable:
                    log.error("host=%s: what was kept ahead is dropped: %s", one.host, unusable.reason)  # noqa: TRY400
            self.ahead.used(one)


def _read_at(descriptor: int, offset: int, count: int) -> bytes:
    parts: list[bytes] = []
    while count > 0 and (part := os.pread(descriptor, count, offset)):
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return b"".join(parts)


def _cut_zeros(descriptor: int, path: Path) -> None:
    """After a power failure a file may end in zeros that nobody wrote; lines of JSON have none, and what was there comes again."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        block = os.pread(descriptor, min(_BLOCK, end), max(0, end - _BLOCK))
        kept = len(block.rstrip(b"\0"))
        end -= len(block) - kept
        if kept:
            break
    if end < size:
        log.warning("%s ended in %d zero bytes, as after a power failure: they are cut off", path, size - end)
        os.ftruncate(descriptor, end)
