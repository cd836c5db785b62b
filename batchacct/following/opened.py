"""A file, opened once: whatever becomes of its name meanwhile, this is what is looked at and read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable

from batchacct.errors import SourceError
from batchacct.parsing.compressed import MAGIC_BYTES, UndecodableError, decompressor
from batchacct.parsing.reading import Readable, source_errors

HEAD_BYTES = 4096
TAIL_BYTES = 256
_PIECE = 1 << 20


class MovedOnError(Exception):
    """The file was truncated, or written anew, while it was read: it is to be looked at afresh. It never leaves the follower."""


LEAST_HOLE = 4
"""Fewer NUL are of a unit: a hole is what a writer had written, and that is a line at least. OGRT's datagrams begin with three."""


class OpenFile:
    """An open file; `begin` is where its content begins in the uncompressed stream, `head` up to HEAD_BYTES from there.

    Before the content there may be bytes that are NUL: the hole that a writer leaves which goes on at its old place in a file
    truncated under it (logrotate's copytruncate, and a file not opened for appending). Where units begin at multiples of
    `unit_bytes`, so does the content: a unit may begin with NUL itself. `is_cut`: the file is compressed, and of its head no more
    can be decoded.
    Raises: OSError where it cannot be opened; SourceError from whatever reads it.
    """

    def __init__(self, path: str, unit_bytes: int = 1) -> None:
        self.path = path
        self.is_cut = False
        self._unit_bytes = unit_bytes
        # a pipe is opened without waiting for who writes into it, and refused then
        self._raw = open(path, "rb", buffering=0, opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK))  # noqa: SIM115
        try:
            self.state = os.fstat(self._raw.fileno())
            with source_errors(path):
                _check_is_file(path, self.state)
                self._decompress = decompressor(self._magic())
                self.begin, self.head = self._beginning()
        except BaseException:
            self._raw.close()
            raise

    @property
    def is_compressed(self) -> bool:
        return self._decompress is not None

    @property
    def place(self) -> tuple[int, int]:
        """Device and inode."""
        return self.state.st_dev, self.state.st_ino

    def refresh(self) -> None:
        """Looks again at what was open all the while: its state, and how it begins, which may have been less than a head."""
        self.state = os.fstat(self._raw.fileno())
        with source_errors(self.path):
            self.begin, self.head = self._beginning()

    def before(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes of the uncompressed stream that end at `offset`; fewer, or none, if the stream is shorter."""
        start = max(offset - length, 0)
        with source_errors(self.path):
            if not self.is_compressed:
                return os.pread(self._raw.fileno(), offset - start, start)
            stream = self._stream()
            skip(stream, start)
            return read_fully(stream, offset - start)

    def from_(self, offset: int, before: bytes) -> Readable:
        """What follows on `offset`, before which `before` stands: of a plain file what there was of it when it was looked at, as
        `head` is that of then.  Raises: MovedOnError from its `read`; SourceError.
        """
        if not self.is_compressed:
            begun = self.head[max(offset - self.begin, 0) :] if offset >= self.begin else b""
            return _Continuous(self._raw.fileno(), self.path, offset, before, end=self.state.st_size, begun=begun)
        return _Decompressed(self._stream, self.path, offset)

    def read_through(self) -> None:
        """Decodes a compressed file to its end.  Raises: SourceError if it is damaged or cut short."""
        with source_errors(self.path):
            stream = self._stream()
            while self.is_compressed and stream.read(_PIECE):
                pass

    def close(self) -> None:
        self._raw.close()

    def _magic(self) -> bytes:
        return os.pread(self._raw.fileno(), MAGIC_BYTES, 0)

    def _stream(self) -> Readable:
        self._raw.seek(0)
        return self._raw if self._decompress is None else self._decompress(self._raw)

    def _beginning(self) -> tuple[int, bytes]:
        stream = self._stream()
        begin = 0
        piece = self._decodable(stream, HEAD_BYTES)
        while piece and not (content := piece.lstrip(b"\0")):
            begin += len(piece)
            begin += self._skip_hole(begin)
            piece = self._decodable(stream, _PIECE)
        if not piece:
            return begin - begin % self._unit_bytes, b""
        begin += len(piece) - len(content)
        if begin < LEAST_HOLE:
            begin, content = 0, piece
        of_unit = begin % self._unit_bytes
        begin -= of_unit
        head = (bytes(of_unit) + content)[:HEAD_BYTES]
        return begin, head + self._decodable(stream, HEAD_BYTES - len(head))

    def _decodable(self, stream: Readable, count: int) -> bytes:
        """So many bytes, fewer at the end of the stream, or where no more can be decoded: that is told to who reads it."""
        pieces = []
        try:
            while count > 0 and (piece := stream.read(count)):
                pieces.append(piece)
                count -= len(piece)
        except UndecodableError:
            self.is_cut = True
        return b"".join(pieces)

    def _skip_hole(self, offset: int) -> int:
        """Moves a plain file's stream on from `offset` to where the file system has data; how far that is."""
        if self.is_compressed:
            return 0
        try:
            there = os.lseek(self._raw.fileno(), offset, os.SEEK_DATA)
        except OSError:  # no data behind it
            there = max(self.state.st_size, offset)
        self._raw.seek(there)
        return there - offset


def _check_is_file(path: str, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise SourceError(f"{path} is no file, but a pipe, socket or device: take it out of the source's `paths`")


class _Continuous:
    """A plain file from `offset` to `end`: each reading takes the bytes before along, which prove that it follows on the last.

    `begun`: what of its head stands behind the offset: there may be nothing before it that would prove anything.
    """

    def __init__(self, handle: int, path: str, offset: int, before: bytes, *, end: int, begun: bytes) -> None:
        self._handle, self._path, self._offset, self._before, self._end = handle, path, offset, before, end
        self._begun = begun[: max(end - offset, 0)]

    def read(self, size: int = -1, /) -> bytes:
        wanted = max(min(_PIECE if size < 0 else size, self._end - self._offset), 0)
        overlap = len(self._before)
        with source_errors(self._path):
            content = os.pread(self._handle, wanted + overlap, self._offset - overlap)
        if content[:overlap] != self._before:
            raise MovedOnError
        new = content[overlap:]
        begun, self._begun = self._begun[:wanted], self._begun[wanted:]
        if new[: len(begun)] != begun:
            raise MovedOnError
        self._before = content[-TAIL_BYTES:]
        self._offset += len(new)
        return new


class _Decompressed:
    """A compressed file's content from an offset on."""

    def __init__(self, open_it: Callable[[], Readable], path: str, offset: int) -> None:
        self._path = path
        with source_errors(path):
            self._stream = open_it()
            skip(self._stream, offset)

    def read(self, size: int = -1, /) -> bytes:
        with source_errors(self._path):
            return self._stream.read(size)


def skip(stream: Readable, count: int) -> None:
    """Moves `count` bytes forward, by seeking where the stream can."""
    if isinstance(stream, io.IOBase) and stream.seekable():
        stream.seek(count, io.SEEK_CUR)
        return
    while count > 0:
        piece = stream.read(min(count, _PIECE))
        if not piece:
            return
        count -= len(piece)


def read_fully(stream: Readable, count: int) -> bytes:
    """Exactly `count` bytes, fewer only at the end of the stream."""
    pieces = []
    while count > 0 and (piece := stream.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
