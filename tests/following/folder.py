"""A folder of logs with a writer and all that is done to such files, each step also done to the memory of it (`model`).

Every step says what it does to the files themselves; one that cannot be done as things stand does nothing. Times of files are
those of the clock that the histories set.
"""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import lzma
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zstandard

from tests.following.model import HEADER, File, Log

NAME = "acct"
COMPRESSIONS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    (".gz", lambda content: gzip.compress(content, mtime=0)),
    (".bz2", bz2.compress),
    (".xz", lzma.compress),
    (".zst", zstandard.compress),
)
_ROTATED = re.compile(NAME + r"\.(\d+)(\.\w+)?")
_FIRST_DAY = dt.date(2026, 11, 1)
_TELLING = 11
"""So many bytes of a line name its number."""
PATIENCE_S = 45
"""Nothing stays half done for longer: what is waited for (a copy, the rest of a line) comes within a minute."""


@dataclass
class Writer:
    """The program that writes the log: it keeps its file open, whatever becomes of the name, until it is told to open it anew."""

    handle: int
    file: File
    offset: int


class Folder:
    """`appends`: the writer opens for appending; else it goes on at its old place in a file that was truncated under it.

    `hours`: half a line may stand for hours in the file that has the name, and the clock may be set.
    """

    def __init__(self, path: Path, now: float, *, appends: bool, header: bool, hours: bool) -> None:
        self.path, self.now, self.ticks, self.appends, self.header, self.hours = path, now, 0.0, appends, header, hours
        self.names: dict[str, File] = {}
        self.logs: list[Log] = []
        self.touched: set[str] = set()
        self.writer: Writer | None = None
        self._rest = b""
        self._numbers = self._days = 0
        self._half_done: list[Callable[[], None]] = []
        self._since = 0.0
        (path / "out").mkdir()
        self.reopen(flush=True)

    def readable(self) -> list[tuple[str, Log, int]]:
        """The files of the source that can be read: path, log, how much of that: of a compressed one all, else whole lines."""
        return [
            (str(self.path / name), file.log, file.length if file.compressed else file.log.whole_lines(file.length))
            for name, file in self.names.items()
            if name.startswith(NAME) and file.whole and not file.denied
        ]

    def kept(self) -> dict[Log, int]:
        """How much of each log is there, at the end of a history: half a line, too."""
        found: dict[Log, int] = {}
        for name, file in self.names.items():
            if name.startswith(NAME):
                found[file.log] = max(file.length, found.get(file.log, 0))
        return found

    @property
    def is_odd(self) -> bool:
        """Whether something is as it should not be in the long run: no `acct`, a file cut short, or one that may not be read."""
        return NAME not in self.names or self.is_denied or any(not file.whole for file in self.names.values())

    @property
    def is_denied(self) -> bool:
        return any(file.denied for file in self.names.values())

    # --- time ---------------------------------------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Time goes on; what is half done is done before anybody could take it for all there will be.

        Only half a line in the file that has the name may wait for longer.
        """
        if self.ticks + seconds - self._since > PATIENCE_S:
            self._finish()
            if not self.hours or (self.writer is not None and self.writer.file is not self.names.get(NAME)):
                self.rest()
            self._since = self.ticks
        self.now += seconds
        self.ticks += seconds

    def set_clock(self, seconds: int) -> None:
        """The clock is set, forward or back."""
        if self.hours:
            self.now += seconds

    def settle(self) -> None:
        """Does what is half done: the rest of a line, a copy, a compression."""
        self.rest()
        self._finish()

    def _finish(self) -> None:
        while self._half_done:
            self._half_done.pop(0)()

    def _begun(self) -> None:
        if not (self._half_done or self._rest):
            self._since = self.ticks

    # --- writing ------------------------------------------------------------------------------------------------------------

    def lines(self, count: int, kind: str = "job") -> None:
        """Whole lines, after the rest of one that was begun; a kind that is no job is rejected, or skipped if it is `#`."""
        self.rest()
        self._write(b"".join(self._line(kind) for _ in range(count)))

    def long_line(self, length: int) -> None:
        self.rest()
        self._write(self._line("job", length))

    def part(self, percent: int) -> None:
        """Some of the line that is begun, or of a new one; a log begins with so much that it cannot be taken for another."""
        self._begun()
        whole = self._rest or self._line("job")
        is_first = self.writer is not None and self.writer.file.log.content in (b"", HEADER + b"\n")
        count = max(len(whole) * percent // 100, _TELLING if is_first else 1)
        self._rest = whole[count:]
        self._write(whole[:count])

    def rest(self) -> None:
        """The rest of the line that was begun."""
        rest, self._rest = self._rest, b""
        self._write(rest)

    def _line(self, kind: str, length: int = 0) -> bytes:
        number = self._numbers = self._numbers + 1
        padding = b"%06d." % number * (length // 7 + 6)
        return b"%s %06d %send\n" % (kind.encode(), number, padding[: length or number * 7919 % 97 % 41])

    def _write(self, content: bytes) -> None:
        writer = self.writer
        if writer is None or not content:
            return
        file, log = writer.file, writer.file.log
        if not self.appends and not log.content:
            log.hole = writer.offset
        assert os.write(writer.handle, content) == len(content)
        log.content += content
        file.length, writer.offset, file.modified, file.ticks = log.end, log.end, self.now, self.ticks
        os.utime(writer.handle, ns=(int(self.now * 1e9),) * 2)
        self._touch(*self._names_of(file))

    def reopen(self, *, flush: bool = True) -> None:
        """The writer closes its file (what it has of a line goes there, or nowhere) and opens, or makes, the one of its name."""
        self._open(NAME, flush=flush)

    def _open(self, name: str, *, flush: bool) -> None:
        if flush:
            self.rest()
        self._rest = b""
        if name in self.names and self.names[name].denied:
            self.allow()
        if self.writer is not None:
            os.close(self.writer.handle)
        fresh = name not in self.names
        file = self._make(name) if fresh else self.names[name]
        handle = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self.appends else 0))
        self.writer = Writer(handle, file, os.lseek(handle, 0, os.SEEK_END))
        if fresh and self.header:
            self._write(HEADER + b"\n")

    def close(self) -> None:
        if self.writer is not None:
            os.close(self.writer.handle)
        self.writer = None

    # --- rotation -----------------------------------------------------------------------------------------------------------

    def new_day(self, *, flush: bool) -> None:
        """Daily files: the writer goes on in one named after the day."""
        self._finish()
        self._open(self._dated(), flush=flush)

    def rotate(self, keep: int, *, dated: bool, create: bool) -> None:
        """Renames the file: to a day's name, or to `.1`, and others one further; its writer knows nothing of it yet."""
        self._finish()
        if NAME not in self.names or self._is_link:
            return
        self._move(NAME, self._dated() if dated else self._shifted(keep))
        if create:
            self._make(NAME)

    def copy(self, percent: int, keep: int, *, dated: bool) -> None:
        """Begins to copy the file; the rest is copied later, with what is written meanwhile."""
        self._finish()
        if NAME not in self.names or self._is_link or self.names[NAME].denied:
            return
        source = self.names[NAME]
        name = self._dated() if dated else self._shifted(keep)
        target = self._make(name, source.log)

        def copied(length: int) -> None:
            content = (self.path / NAME).read_bytes()[:length]
            with (self.path / name).open("r+b") as file:
                file.write(content)
            target.length = len(content)
            self._stamp(name)

        def finished() -> None:
            copied(source.length)
            source.log.cuts.add(target.length)

        self._begun()
        copied(source.length * percent // 100)
        self._half_done.append(finished)

    def truncate(self) -> None:
        """Truncates the file to nothing, as is done after copying it; its writer does not know."""
        self._finish()
        if len(self._rest) < 2 * _TELLING:
            self.rest()
        if NAME in self.names and not self._is_link:
            self.names[NAME].log = self._new_log()
            self.names[NAME].length = 0
            os.truncate(self.path / NAME, 0)
            self._stamp(NAME)

    def compress(self, how: int, percent: int) -> None:
        """Begins to compress the oldest rotated file that is not; then it is whole, then the uncompressed one is removed."""
        self._finish()
        plain = [name for name in self._rotated() if not self.names[name].compressed and not self.names[name].denied]
        if not plain:
            return
        old = plain[0]
        file = self.names[old]
        if self.writer is not None and self.writer.file is file:
            self.rest()
        suffix, compressed = COMPRESSIONS[how % len(COMPRESSIONS)]
        content, modified = (self.path / old).read_bytes(), file.modified
        made = compressed(content)
        target = self._make(old + suffix, file.log)
        target.compressed, target.whole, target.length = True, False, len(content)
        (self.path / (old + suffix)).write_bytes(made[: len(made) * percent // 100])

        def whole() -> None:
            (self.path / (old + suffix)).write_bytes(made)
            target.whole = True
            self._stamp(old + suffix, modified)

        self._begun()
        self._half_done += [whole, lambda: self._unlink(old)]

    def next_step(self) -> None:
        """The next step of a copy or a compression."""
        if self._half_done:
            self._half_done.pop(0)()

    def delete(self) -> None:
        self._finish()
        if NAME in self.names:
            self._unlink(NAME)

    def prune(self) -> None:
        """Deletes the oldest of the rotated files."""
        self._finish()
        rotated = self._rotated()
        if rotated:
            self._unlink(rotated[0])

    def move_out(self) -> None:
        """Renames the file to where no source looks; its writer knows nothing of it yet."""
        self._finish()
        if NAME in self.names and not self._is_link:
            self._days += 1
            self._move(NAME, f"out/{NAME}-{self._days}")

    def move_in(self) -> None:
        """What was moved out comes back under a day's name."""
        self._finish()
        out = [name for name in self.names if name.startswith("out/")]
        if out:
            self._move(out[0], self._dated())

    def link(self, *, flush: bool) -> None:
        """Makes the name a link to a day's file (a new one, if it is a link already), and the writer follows it."""
        self._finish()
        target = self._dated()
        if NAME in self.names and not self._is_link:
            self._move(NAME, target)
        else:
            self._open(target, flush=flush)
            (self.path / NAME).unlink(missing_ok=True)
        (self.path / NAME).symlink_to(target)
        self.names[NAME] = self.names[target]
        self._touch(NAME)
        self._open(NAME, flush=flush)

    def edit(self) -> None:
        """An editor writes the file anew as it was, and puts it in its place; the writer opens that."""
        self._finish()
        if NAME not in self.names or self._is_link or self.names[NAME].denied:
            return
        old = self.names.pop(NAME)
        old.log.cuts.add(old.length)
        shutil.copyfile(self.path / NAME, self.path / ".edited")
        (self.path / ".edited").rename(self.path / NAME)
        self.names[NAME] = File(old.log, old.length)
        self._stamp(NAME)
        if self.writer is not None and self.writer.file is old:
            os.close(self.writer.handle)
            handle = os.open(self.path / NAME, os.O_WRONLY | (os.O_APPEND if self.appends else 0))
            self.writer = Writer(handle, self.names[NAME], os.lseek(handle, 0, os.SEEK_END))

    def deny(self) -> None:
        """The file may not be read for a while."""
        if NAME in self.names:
            (self.path / NAME).chmod(0)
            self.names[NAME].denied = True
            self._touch(*self._names_of(self.names[NAME]))

    def allow(self) -> None:
        for name, file in self.names.items():
            if file.denied:
                (self.path / name).chmod(0o644)
                self._touch(name)
        for file in self.names.values():
            file.denied = False

    # --- names --------------------------------------------------------------------------------------------------------------

    @property
    def _is_link(self) -> bool:
        return (self.path / NAME).is_symlink()

    def _rotated(self) -> list[str]:
        """The files that are not written any more by name, the oldest first."""
        current = self.names.get(NAME)
        names = [name for name, file in self.names.items() if name.startswith(NAME) and file is not current]
        return sorted(names, key=lambda name: (self.names[name].modified, name))

    def _dated(self) -> str:
        self._days += 1
        return f"{NAME}-{_FIRST_DAY + dt.timedelta(self._days):%Y%m%d}"

    def _shifted(self, keep: int) -> str:
        numbered = [(int(match[1]), match[2] or "", name) for name in self.names if (match := _ROTATED.fullmatch(name))]
        for number, suffix, name in sorted(numbered, reverse=True):
            if number >= keep:
                self._unlink(name)
            else:
                self._move(name, f"{NAME}.{number + 1}{suffix}")
        return f"{NAME}.1"

    def _new_log(self) -> Log:
        self.logs.append(Log())
        return self.logs[-1]

    def _make(self, name: str, log: Log | None = None) -> File:
        (self.path / name).touch(exist_ok=False)
        self.names[name] = File(log or self._new_log())
        self._stamp(name)
        return self.names[name]

    def _move(self, name: str, to: str) -> None:
        (self.path / name).rename(self.path / to)
        self.names[to] = self.names.pop(name)
        self._since = self.ticks
        self._touch(name, to)

    def _unlink(self, name: str) -> None:
        (self.path / name).unlink()
        del self.names[name]
        self._since = self.ticks
        self._touch(name)

    def _names_of(self, file: File) -> list[str]:
        return [name for name, other in self.names.items() if other is file]

    def _stamp(self, name: str, modified: float | None = None) -> None:
        self.names[name].modified, self.names[name].ticks = self.now if modified is None else modified, self.ticks
        os.utime(self.path / name, ns=(int(self.names[name].modified * 1e9),) * 2)
        self._touch(name)

    def _touch(self, *names: str) -> None:
        self.touched.update(str(self.path / name) for name in names)
