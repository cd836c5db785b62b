"""The spool: rows as JSON lines in files of a folder, from where they are collected or shipped.

`KIND-BOOT8-NNNNNN.jsonl`: kind `processes`, `objects` or `groups`; the first eight digits of the boot id; a number that grows. A
file is appended to, in whole lines, until it is large or old enough; then the next one is begun. A daemon that starts begins new
files; the torn line that a killed one may have left at the end of a file is cut off before.

**Bound.** The files never take more than `most_bytes`: the oldest whole one goes, and a gap row says how many rows went with it.
A file that is older than `keep_s` goes without one: whoever collects has had the time.

**Faults.** What cannot be written (full, read-only) is kept in memory up to `BACKLOG_BYTES`, then the oldest of it is given up
and counted; the next row that can be written tells so. Nothing waits for the disk but this process: what the kernel and the
sensors send meanwhile is in their sockets.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from batchacct.durable import sync_folder
from batchacct.errors import BusyError, ConfigError
from procacct.node.rows import Row

log = logging.getLogger(__name__)

PROCESSES, OBJECTS, GROUPS = KINDS = ("processes", "objects", "groups")
BACKLOG_BYTES = 16 << 20
SUFFIX = ".jsonl"
RETRY_NS = 1_000_000_000

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Written:
    """How the program of a row that was written had ended, and when (Unix ns)."""

    ended_by: str
    end_ns: int | None


class _File:
    """One kind's file that is open, and what could not be written yet."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.handle: int | None = None
        self.path: Path | None = None
        self.size = self.opened_ns = 0
        self.pending: deque[bytes] = deque()
        self.pending_bytes = 0
        self.dirty = False


def _held(folder: Path) -> int:
    """A descriptor that keeps other daemons out of a folder.  Raises: BusyError."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise BusyError(
            f"a daemon uses the spool {folder} already: stop it first (`jobmng stop`), or set another [spool] path"
        ) from error
    return held


class Spool:
    """The files of this boot.  Raises: ConfigError if the folder cannot be made, BusyError if another daemon uses it."""

    def __init__(self, folder: Path, boot_id: str, *, rotate_bytes: int, rotate_s: int, most_bytes: int, keep_s: int) -> None:
        self.folder = folder
        self._boot = _short(boot_id)
        self.bound(rotate_bytes=rotate_bytes, rotate_s=rotate_s, most_bytes=most_bytes, keep_s=keep_s)
        self._files = {kind: _File(kind) for kind in KINDS}
        self.written = self.dropped = self.failures = 0
        self.untold = 0
        """Rows given up, of which no gap row tells yet."""
        self.untold_since_ns: int | None = None
        self.failing: str | None = None
        self._retry_at_ns = 0
        self._syncing = threading.Lock()
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the spool {folder} cannot be made: {error.strerror}. Let the user that runs procacctd write there, "
                "or set another [spool] path"
            ) from error
        self._held: int | None = _held(folder)
        self._mend()
        self.numbers: dict[str, int] = {kind: max((number for _, number in self._of_boot(kind)), default=0) for kind in KINDS}

    def bound(self, *, rotate_bytes: int, rotate_s: int, most_bytes: int, keep_s: int) -> None:
        """How large and old files get, from now on."""
        self._rotate_bytes, self._rotate_ns = rotate_bytes, rotate_s * 1_000_000_000
        self._most_bytes, self._keep_s = most_bytes, keep_s

    def number_from(self, numbers: dict[str, int]) -> None:
        """Goes on after these, of an earlier daemon in this boot, whose files may be shipped and gone: a name is not used twice."""
        for kind in KINDS:
            self.numbers[kind] = max(self.numbers[kind], numbers.get(kind, 0))

    def add(self, kind: str, row: Row) -> None:
        """Takes a row in; `flush` writes it."""
        line = _encode(row).encode("utf-8", "backslashreplace") + b"\n"
        file = self._files[kind]
        file.pending.append(line)
        file.pending_bytes += len(line)

    def flush(self, now_ns: int) -> None:
        """Writes what was taken in. Never raises: what cannot be written is kept, up to a bound."""
        if now_ns < self._retry_at_ns:
            self._shed(now_ns)
            return
        for file in self._files.values():
            if file.pending:
                self._flush(file, now_ns)
            elif file.handle is not None and now_ns - file.opened_ns > self._rotate_ns:
                self._close(file)

    def _flush(self, file: _File, now_ns: int) -> None:
        try:
            if file.handle is not None and (file.size >= self._rotate_bytes or now_ns - file.opened_ns > self._rotate_ns):
                self._close(file)
            while file.pending:
                if file.handle is None:
                    self._open(file, now_ns)
                self._write(file)
                if file.size >= self._rotate_bytes:
                    self._close(file)
        except OSError as error:
            self._failed(error, now_ns)
        else:
            if self.failing is not None:
                log.info("the spool can be written again: %s", self.folder)
                self.failing = None

    def _path_of(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{self._boot}-{number:06d}{SUFFIX}"

    def _open(self, file: _File, now_ns: int) -> None:
        number = self.numbers[file.kind] + 1
        while os.path.lexists(self._path_of(file.kind, number)):  # somebody else's: it is no reason to write nothing any more
            number += 1
        path = self._path_of(file.kind, number)
        file.handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self.numbers[file.kind] = number
        file.path, file.size, file.opened_ns = path, 0, now_ns
        self._make_room(now_ns)

    def _write(self, file: _File) -> None:
        """A piece of what waits, up to the size of a file; a line that was not written whole is taken back."""
        assert file.handle is not None
        lines: list[bytes] = []
        room = max(self._rotate_bytes - file.size, 1)
        for line in file.pending:
            if room <= 0:
                break
            lines.append(line)
            room -= len(line)
        piece = b"".join(lines)
        written, failed = 0, None
        try:
            while written < len(piece):
                written += os.write(file.handle, memoryview(piece)[written:])
        except OSError as error:
            failed = error
        whole = len(piece) if failed is None else piece.rfind(b"\n", 0, written) + 1
        if whole != written:
            os.ftruncate(file.handle, file.size + whole)
        file.size += whole
        file.dirty = file.dirty or whole > 0
        file.pending_bytes -= whole
        done = len(lines) if failed is None else piece.count(b"\n", 0, whole)
        for _ in range(done):
            file.pending.popleft()
        self.written += done
        if failed is not None:
            raise failed

    def _failed(self, error: OSError, now_ns: int) -> None:
        self.failures += 1
        self._retry_at_ns = now_ns + RETRY_NS
        if self.failing is None:
            log.warning("the spool %s cannot be written: %s. Rows are kept in memory, up to %d MiB", self.folder, error.strerror,
                        BACKLOG_BYTES >> 20)  # fmt: skip
        self.failing = error.strerror or str(error)
        self._shed(now_ns)

    def _shed(self, now_ns: int) -> None:
        """Gives up the oldest of what waits beyond the bound."""
        for file in self._files.values():
            while file.pending_bytes > BACKLOG_BYTES:
                file.pending_bytes -= len(file.pending.popleft())
                self._drop(1, now_ns)

    def _drop(self, rows: int, since_ns: int) -> None:
        self.dropped += rows
        self.untold += rows
        self.untold_since_ns = since_ns if self.untold_since_ns is None else min(since_ns, self.untold_since_ns)

    def owe(self, rows: int, since_ns: int) -> None:
        """So many rows were given up by an earlier daemon, and no gap row tells yet."""
        if rows:
            self._drop(rows, since_ns)

    def take_untold(self) -> tuple[int, int] | None:
        """How many rows were given up since the last call, and since when (Unix ns); None for none."""
        if not self.untold or self.untold_since_ns is None:
            return None
        told = self.untold, self.untold_since_ns
        self.untold, self.untold_since_ns = 0, None
        return told

    def _make_room(self, now_ns: int) -> None:
        """Removes what is too old, and of the rest the oldest files until what is there, and one file more, fits."""
        kept: list[tuple[float, int, Path]] = []
        opened = {file.path for file in self._files.values()}
        total = self._rotate_bytes
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                about = path.lstat()
                total += about.st_size
                if path not in opened and path.name.startswith(KINDS):
                    kept.append((about.st_mtime, about.st_size, path))
        for modified, size, path in sorted(kept):
            is_old = self._keep_s and now_ns / 1e9 - modified > self._keep_s
            if not is_old and total <= self._most_bytes:
                break
            total -= size
            self._remove(path, modified, counted=not is_old)

    def _remove(self, path: Path, modified_s: float, *, counted: bool) -> None:
        rows = 0
        try:
            with suppress(OSError):
                rows = _lines_of(path) if counted else 0
            path.unlink()
        except OSError as error:
            log.warning("%s cannot be removed from the spool: %s", path, error.strerror)
            return
        if counted and not path.name.startswith(OBJECTS):
            log.warning("the spool is full: %s went, with %d rows", path, rows)
            self._drop(rows, int(modified_s * 1e9))

    def sync(self) -> None:
        """Puts what was written on the disk, in a thread of its own; one at a time."""
        if not any(file.dirty for file in self._files.values()) or not self._syncing.acquire(blocking=False):
            return
        threading.Thread(target=self._synced, args=(self.to_disk(),), name="spool-sync", daemon=True).start()
        for file in self._files.values():
            file.dirty = False

    def _synced(self, to_disk: Callable[[], None]) -> None:
        try:
            with suppress(OSError):
                to_disk()
        finally:
            self._syncing.release()

    def to_disk(self) -> Callable[[], None]:
        """What puts the rows that are written by now on the disk, to be called once, by any thread.  Raises from it: OSError."""
        handles = [os.dup(file.handle) for file in self._files.values() if file.handle is not None]
        return lambda: _to_disk(handles, self.folder)

    def _close(self, file: _File) -> None:
        if file.handle is None:
            return
        with suppress(OSError):
            os.fdatasync(file.handle)
        os.close(file.handle)
        file.handle, file.path, file.dirty = None, None, False

    def close(self) -> None:
        """Writes what waits, and puts it on the disk; what cannot be written is given up."""
        now_ns = time.time_ns()
        self._retry_at_ns = 0
        self.flush(now_ns)
        if left := self.backlog_rows:
            log.warning("%d rows are lost, as the spool cannot be written: %s", left, self.folder)
            self._drop(left, now_ns)
        for file in self._files.values():
            self._close(file)
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @property
    def backlog_rows(self) -> int:
        return sum(len(file.pending) for file in self._files.values())

    @property
    def position(self) -> tuple[int, int]:
        """Number of the file of processes, and the bytes in it: what was written after this is after it."""
        file = self._files[PROCESSES]
        return self.numbers[PROCESSES], file.size if file.handle is not None else 0

    def written_since(self, boot_id: str, position: tuple[int, int]) -> dict[str, Written]:
        """The rows of processes of a boot that were written after a position, by their keys."""
        found: dict[str, Written] = {}
        for path, number in sorted(self._of_boot(PROCESSES, boot_id), key=lambda one: one[1]):
            if number >= position[0]:
                with suppress(OSError), _opened(path) as stream:
                    stream.seek(position[1] if number == position[0] else 0)
                    for line in stream:
                        with suppress(ValueError, KeyError, TypeError):
                            row = json.loads(line)
                            found[row["record_key"]] = Written(row["ended_by"], row.get("end_ns"))
        return found

    def _of_boot(self, kind: str, boot_id: str | None = None) -> Iterator[tuple[Path, int]]:
        head = f"{kind}-{self._boot if boot_id is None else _short(boot_id)}-"
        for path in self.folder.glob(f"{head}*{SUFFIX}"):
            number = path.name[len(head) : -len(SUFFIX)]
            if number.isdecimal():
                yield path, int(number)

    def _mend(self) -> None:
        """Cuts off the torn line at the end of the last file of each kind."""
        for kind in KINDS:
            last = max(self._of_boot(kind), key=lambda one: one[1], default=None)
            if last is None:
                continue
            with suppress(OSError), _opened(last[0], "rb+") as stream:
                text = stream.read()
                whole = text.rfind(b"\n") + 1
                if whole != len(text):
                    stream.truncate(whole)


def _opened(path: Path, mode: Literal["rb", "rb+"] = "rb") -> IO[bytes]:
    """A file that is there: others may write to the folder, so that a link may lead anywhere, and a FIFO waits for ever.

    Raises: OSError, also if it is no file.
    """
    flags = (os.O_RDWR if mode == "rb+" else os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    stream = os.fdopen(os.open(path, flags), mode)
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise OSError(errno.EINVAL, "it is no file", str(path))


def _to_disk(handles: list[int], folder: Path) -> None:
    try:
        for handle in handles:
            os.fdatasync(handle)
        sync_folder(folder)
    finally:
        for handle in handles:
            os.close(handle)


def _lines_of(path: Path) -> int:
    with _opened(path) as stream:
        return sum(piece.count(b"\n") for piece in iter(lambda: stream.read(1 << 20), b""))


def _short(boot_id: str) -> str:
    return boot_id.replace("-", "")[:8]
