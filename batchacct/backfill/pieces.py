"""Pieces: what one worker parses at a time, a file or a range of whole units of a large one.

A compressed file is one piece, and so is one of a format whose units cannot be found from the middle. Pieces in their order are the
files in reading order (oldest first), each from its beginning to its end: of two versions of a record, the later one is in force.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import os
import stat
import zoneinfo
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from batchacct.errors import BatchacctError, SourceError
from batchacct.following.opened import OpenFile
from batchacct.parsing import Parser, Source, registry
from batchacct.parsing.compressed import is_compressed
from batchacct.parsing.framing import SplittableFraming, WholeFiles, unit_bytes
from batchacct.parsing.hosts import this_host
from batchacct.parsing.reading import STANDARD_INPUT, Readable, expand, open_stream, reading_order, source_errors

PIECE_BYTES = 64 << 20
_WINDOW_BYTES = 1 << 20
_MOST_WINDOW_BYTES = 64 << 20

UNFINISHED_S = 3600
"""A file that ends amid a line, and was written to within this time, may get the rest of it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of where the files come from, and the logs do not say. `name` None: each file's path is its source's name.

    `parser` None: guessed from each file's content.
    """

    parser: str | None = None
    name: str | None = None
    site: str | None = None
    cluster: str | None = "default"
    zone: str = "UTC"
    ce_clusters: tuple[tuple[str, str], ...] = ()
    header: str | None = None
    host: str = field(default_factory=this_host)

    def source(self, path: str, head: bytes) -> Source:
        """The source of a file that begins with `head`."""
        given = b"" if self.header is None else self.header.encode() + b"\n"
        zone = zoneinfo.ZoneInfo(self.zone)
        return Source(self.name or shown(path), self.site, self.cluster, zone, self.ce_clusters, given or head, self.host)


@dataclass(frozen=True, slots=True)
class File:
    """A file to be read, as it was when the work was planned; its number is its place in reading order."""

    number: int
    path: str
    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, number: int, path: str, state: os.stat_result) -> File:
        return cls(number, path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)

    @property
    def place(self) -> tuple[int, int]:
        return self.device, self.inode


@dataclass(frozen=True, slots=True)
class Piece:
    """Of a file the bytes from `start` to before `end` (of what is uncompressed; None: to the end of a compressed one).

    `final`: what is at its end is whole, or will get no other end.
    """

    file: File
    parser: str
    start: int = 0
    end: int | None = None
    final: bool = True

    @property
    def size(self) -> int:
        return (self.file.size if self.end is None else self.end) - self.start


def key_of(pieces: Iterable[Piece], told: Told, version: str) -> str:
    """The same for the same bytes of the same unchanged files, read in the same way: what came of them once holds."""
    facts = [[asdict(replace(piece, file=replace(piece.file, number=0))) for piece in pieces], asdict(told), version]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()


def groups(pieces: Iterable[Piece], group_bytes: int, most: int = 1000) -> Iterator[tuple[Piece, ...]]:
    """Pieces that are parsed together: small ones that follow one on the other."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if group and (size + piece.size > group_bytes or len(group) == most):
            yield tuple(group)
            group, size = [], 0
        group.append(piece)
        size += piece.size
    if group:
        yield tuple(group)


@dataclass(frozen=True, slots=True)
class Plan:
    """The pieces of all files in order, which files could not be taken and why, and files that are others under second names."""

    pieces: tuple[Piece, ...]
    files: tuple[File, ...]
    problems: tuple[BatchacctError, ...]
    again: tuple[str, ...]


def shown(path: str) -> str:
    """A path as valid text, whatever bytes it consists of."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unfinished(path: str, count: int) -> str:
    """What is told of a file whose end was left for later."""
    return f"{path}: the last {count:,} bytes are no whole unit and may still be written to: not read; backfill it again later"


def found(paths: Iterable[str], but: Collection[str] = ()) -> list[str]:
    """The files that paths, patterns and folders name, oldest first; what is named and is not there is kept, to be told.

    `but` are the real paths of folders that are no part of a folder.
    """
    files: dict[str, None] = {}
    for path in (one for named in paths for one in _named(named)):
        files.update(dict.fromkeys(_below(path, but) if os.path.isdir(path) else [path]))  # noqa: PTH112 - False where it is forbidden
    return sorted(files, key=reading_order)


def _named(path: str) -> list[str]:
    """The files and folders that a path or pattern means; itself where there are none."""
    files = expand([path])
    folders = [] if files == [path] else [one for one in glob.glob(path) if os.path.isdir(one)]  # noqa: PTH207, PTH112 - as `expand`
    return [*files, *folders] or [path]


def _below(folder: str, but: Collection[str]) -> Iterator[str]:
    """The files in a folder and the folders in it, and the folders that may not be listed."""
    forbidden: list[str] = []
    for place, folders, names in os.walk(folder, onerror=lambda error: forbidden.append(str(error.filename))):
        folders[:] = sorted(name for name in folders if os.path.realpath(os.path.join(place, name)) not in but)  # noqa: PTH118
        paths = (os.path.join(place, name) for name in names)  # noqa: PTH118 - as given
        yield from (path for path in paths if _is_file(path))
    yield from forbidden


def _is_file(path: str) -> bool:
    """Whether it is one as far as one may see: what may not be looked at is told of later."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - names may be any bytes
    except PermissionError:
        return True
    except OSError:
        return False


def plan(paths: Iterable[str], told: Told, now_s: float, piece_bytes: int = PIECE_BYTES, *, but: Collection[str] = ()) -> Plan:
    """What is to be read of what `paths` name; `but` as for `found`."""
    pieces: list[Piece] = []
    files: list[File] = []
    problems: list[BatchacctError] = []
    again: list[str] = []
    places: set[tuple[int, int]] = set()
    for path in found(paths, but):
        try:
            state = _checked(path)
            file = File.of(len(files), path, state)
            if file.place in places:
                again.append(path)
                continue
            made = list(_pieces(file, told, now_s, piece_bytes))
        except BatchacctError as error:
            problems.append(error)
            continue
        places.add(file.place)
        files.append(file)
        pieces += made
    return Plan(tuple(pieces), tuple(files), tuple(problems), tuple(again))


def _checked(path: str) -> os.stat_result:
    if path == STANDARD_INPUT:
        raise SourceError("standard input cannot be read twice, as resuming may have to: put it into a file")
    with source_errors(path):
        state = Path(path).stat()
        if stat.S_ISDIR(state.st_mode):
            raise SourceError(f"folder {path} may not be listed by this user: give read permission, or run as a user who has it")
        if not stat.S_ISREG(state.st_mode):
            raise SourceError(f"{path} is no file, but a pipe, socket or device: name files")
    return state


def _pieces(file: File, told: Told, now_s: float, piece_bytes: int) -> Iterator[Piece]:
    with source_errors(file.path):
        compressed = is_compressed(file.path)
    if not file.size:
        return
    name = told.parser or _guessed(file.path)
    if name is None:
        return
    framing = parser_named(name).framing
    if compressed:
        yield Piece(file, name)
        return
    final = isinstance(framing, WholeFiles) or now_s - file.modified_ns / 1e9 >= UNFINISHED_S or _ends_with_newline(file)
    start = 0
    if isinstance(framing, SplittableFraming) and file.size > piece_bytes * 3 // 2:
        for end in _ends(file, framing, piece_bytes):
            yield Piece(file, name, start, end)
            start = end
    yield Piece(file, name, start, file.size, final)


def _guessed(path: str) -> str | None:
    """None for a file that is empty, or holds blanks alone.  Raises: PluginError if no parser, or more than one, knows it."""
    with open_stream(path) as stream:
        head = stream.read(registry.HEAD_BYTES)
    return registry.guess_parser(head, path).name if head.strip(b"\0 \t\r\n") else None


def _ends_with_newline(file: File) -> bool:
    with source_errors(file.path), Path(file.path).open("rb") as raw:
        raw.seek(file.size - 1)
        return raw.read(1) == b"\n"


def _ends(file: File, framing: SplittableFraming, piece_bytes: int) -> Iterator[int]:
    """Where one piece ends and the next begins."""
    at = piece_bytes
    with source_errors(file.path), Path(file.path).open("rb") as raw:
        while at + piece_bytes // 2 < file.size:
            end = _next_start(raw.fileno(), framing, at)
            if end is not None and end < file.size:
                yield end
                at = end
            at += piece_bytes


def _next_start(handle: int, framing: SplittableFraming, at: int) -> int | None:
    """Where the next unit surely begins; None if that is far."""
    window = _WINDOW_BYTES
    while window <= _MOST_WINDOW_BYTES:
        data = os.pread(handle, window, at)
        if (place := framing.split_after(data, 0)) > 0:
            return at + place
        if len(data) < window:
            return None
        window *= 4
    return None


@contextlib.contextmanager
def opened(piece: Piece) -> Iterator[tuple[Readable, bytes, int]]:
    """(stream, head, offset) of a piece: its bytes, how its file begins, and where the stream stands in it.

    Raises: SourceError, here or from the stream's `read`; MovedOnError from that if the file is changed meanwhile.
    """
    path, length = piece.file.path, unit_bytes(parser_named(piece.parser).framing)
    with source_errors(path), contextlib.closing(OpenFile(path, length)) as file:
        if file.place != piece.file.place or file.state.st_size < piece.file.size:
            raise SourceError(f"{path} was replaced or truncated while it was read: do it again")
        offset = max(piece.start, file.begin)
        stream = file.from_(offset, file.before(offset, 256))
        yield (stream if piece.end is None else _Limited(stream, piece.end - offset)), file.head, offset


@functools.cache
def parser_named(name: str) -> Parser:
    """The registered parser; to look it up takes many milliseconds, and there may be many files.  Raises: PluginError."""
    return registry.parser(name)


class _Limited:
    """No more than so many bytes of a stream."""

    def __init__(self, stream: Readable, left: int) -> None:
        self._stream, self._left = stream, max(left, 0)

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        content = self._stream.read(wanted) if wanted else b""
        self._left -= len(content)
        return content
