"""Files and standard input as blocks of whole units, whatever they are compressed with."""

from __future__ import annotations

import bz2
import contextlib
import glob
import gzip
import io
import lzma
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

import zstandard

from batchacct.errors import SourceError
from batchacct.parsing.contract import REJECT_BYTES_KEPT, Block
from batchacct.parsing.framing import Framing, MarkedFraming

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 2 << 20
"""How much is read at a time: some thousand lines, one transaction's worth, small enough that memory stays flat."""

LONGEST_UNIT_BYTES = 16 << 20
"""A unit longer than this is rejected: batch systems write lines of 100 kB at the most (`command` holds a whole script)."""

_MARK_BYTES = 1024
"""As much as a framing may have to see at once to know where a unit begins."""

STANDARD_INPUT = "-"


class _ZstandardFrames(io.RawIOBase):
    """The content of zstd frames, one after the other. (The library's own reader takes a file cut short for a whole one.)"""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._read = b""
        self._content = b""
        self._within_frame = False

    def readable(self) -> bool:
        return True

    def readinto(self, target: WriteableBuffer) -> int:
        while not self._content:
            if not self._read:
                self._read = self._raw.read(io.DEFAULT_BUFFER_SIZE)
                if not self._read:
                    if self._within_frame:
                        raise EOFError("it is cut short")
                    return 0
            self._decompress()
        with memoryview(target).cast("B") as room:
            count = min(len(room), len(self._content))
            room[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def _decompress(self) -> None:
        self._content, self._within_frame = self._frame.decompress(self._read), True
        self._read = b""
        if self._frame.eof:
            self._read, self._within_frame = self._frame.unused_data, False
            self._frame = zstandard.ZstdDecompressor().decompressobj()


_MAGIC: tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda raw: cast("IO[bytes]", gzip.GzipFile(fileobj=raw))),
    (b"BZh", lambda raw: cast("IO[bytes]", bz2.BZ2File(raw))),
    (b"\xfd7zXZ\0", lambda raw: cast("IO[bytes]", lzma.LZMAFile(raw))),  # noqa: SIM115 - `open_stream` closes it
    (
        b"\x28\xb5\x2f\xfd",
        lambda raw: cast("IO[bytes]", io.BufferedReader(_ZstandardFrames(raw))),
    ),
)
MAGIC_BYTES = 6
"""As much of a file as tells what it is compressed with."""
_BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError)


@contextmanager
def open_stream(path: str) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of a file (gzip, bzip2, xz, zstd by content, else as they are), or of standard input for `-`.

    Raises: SourceError if it cannot be opened, or if what is read from it in the body cannot be decompressed.
    """
    with source_errors(path), _opened(path) as raw:
        decompress = decompressor(raw.peek(MAGIC_BYTES))
        if decompress is None:
            yield raw
            return
        with decompress(raw) as stream:
            yield stream


@contextmanager
def source_errors(path: str) -> Iterator[None]:
    """Raises: SourceError for whatever can go wrong with the file at `path` in the body."""
    try:
        yield
    except IsADirectoryError as error:
        raise SourceError(f"{path} is a folder: name the files in it, or a pattern such as {path}/*") from error
    except FileNotFoundError as error:
        raise SourceError(f"{path} does not exist: check the path, or the source's `paths` in the configuration") from error
    except PermissionError as error:
        raise SourceError(f"{path} may not be read by this user: give read permission, or run as a user who has it") from error
    except _BROKEN as error:
        raise SourceError(f"{path} cannot be read to its end: {error or 'it is cut short'}") from error


def _opened(path: str) -> AbstractContextManager[io.BufferedReader]:
    if path == STANDARD_INPUT:
        return contextlib.nullcontext(cast("io.BufferedReader", sys.stdin.buffer))
    return Path(path).open("rb")


def has_compressed_name(path: str) -> bool:
    """Whether a file that may not be there any more was a compressed one, as far as its name tells."""
    return path.endswith((".gz", ".bz2", ".xz", ".zst"))


def is_compressed(path: str) -> bool:
    """Whether the file's first bytes are those of a compression that is understood."""
    with Path(path).open("rb") as raw:
        return decompressor(raw.read(MAGIC_BYTES)) is not None


def decompressor(head: bytes) -> Callable[[IO[bytes]], IO[bytes]] | None:
    """What makes the uncompressed stream of a file that begins so; None for one that is not compressed."""
    return next((decompress for magic, decompress in _MAGIC if head.startswith(magic)), None)


class Readable(Protocol):
    """What blocks are read from: any stream of bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


def read_blocks(
    stream: Readable, framing: Framing, *, offset: int = 0, final: bool = True, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Blocks of whole units from where `stream` stands, which is `offset` of its uncompressed bytes.

    `final`: the stream will not grow, so an unfinished unit at its end is handed out as it is; else it is held back, and
    the last block's `end_offset` is where the next reading goes on.
    """
    buffer = b""
    ended = False
    while not ended:
        piece = stream.read(min(block_bytes, LONGEST_UNIT_BYTES))
        ended = not piece
        buffer += piece
        while _unit_is_too_long(framing, buffer):
            block, buffer = _drop_unit(stream, framing, buffer, offset)
            if not (buffer or final):
                return
            yield block
            offset = block.end_offset
        whole = framing.cut(buffer, final=ended and final)
        if not whole and len(buffer) > LONGEST_UNIT_BYTES:
            whole = buffer.find(b"\n") + 1
        if whole:
            yield Block(buffer[:whole], offset)
            offset += whole
            buffer = buffer[whole:]


def _unit_is_too_long(framing: Framing, buffer: bytes) -> bool:
    if len(buffer) <= LONGEST_UNIT_BYTES:
        return False
    if isinstance(framing, MarkedFraming):
        return not framing.cut(buffer, final=False)
    return buffer.find(b"\n", 0, LONGEST_UNIT_BYTES + 1) < 0


def _drop_unit(stream: Readable, framing: Framing, buffer: bytes, offset: int) -> tuple[Block, bytes]:
    """Reads on to the end of the unit in `buffer`: (its beginning as a block, its separator and what follows)."""
    kept = buffer[: min(REJECT_BYTES_KEPT, LONGEST_UNIT_BYTES)]
    length = 0
    while (end := _unit_end(framing, buffer)) < 0:
        overlap = _MARK_BYTES if isinstance(framing, MarkedFraming) else 0
        length += max(len(buffer) - overlap, 0)
        piece = stream.read(min(BLOCK_BYTES, LONGEST_UNIT_BYTES))
        if not piece:
            return Block(kept, offset, length + min(len(buffer), overlap) - len(kept)), b""
        buffer = buffer[max(len(buffer) - overlap, 0) :] + piece
    return Block(kept, offset, length + end - len(kept)), buffer[end:]


def _unit_end(framing: Framing, buffer: bytes) -> int:
    """Where the unit that `buffer` goes on with ends, without separator; -1 if behind it."""
    if isinstance(framing, MarkedFraming):
        return framing.next_start(buffer, 0)
    newline = buffer.find(b"\n")
    return newline if newline < 0 else newline - buffer[:newline].endswith(b"\r")


def expand(paths: Iterable[str]) -> list[str]:
    """Paths and patterns to existing files, oldest first, each once (see `reading_order`).

    A path without a pattern is kept though it does not exist, and a pattern whose folder may not be entered is kept as it is, so
    that this is told when it is opened.
    """
    found: dict[str, None] = {}
    for path in paths:
        is_pattern = glob.has_magic(path) and _is_missing(path)
        matches = sorted(glob.glob(path)) if is_pattern else [path]  # noqa: PTH207 - absolute patterns
        found.update(dict.fromkeys(m for m in matches if m == path or os.path.isfile(m)))  # noqa: PTH113 - False if forbidden
    return sorted(found, key=reading_order)


def _is_missing(path: str) -> bool:
    """Whether there is certainly no file of this name: where its folder may not be entered, nobody knows."""
    try:
        Path(path).stat()
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True
    return False


_ROTATED = re.compile(r"\.(\d{1,4})(?:\.(?:gz|bz2|xz|zst))?$")
_DATED = re.compile(r"[-./]((?:19|20)\d{6}[-_.T\d]*?)(?:\.(?:gz|bz2|xz|zst))?$")


def reading_order(path: str) -> tuple[str, int, int, str]:
    """Sort key that puts older files first: `acct.2.gz`, `acct.1`, `acct`; `acct-20260101.gz`, `acct-20260102`, `acct`.

    Files of one log over time have the first item in common: `acct`, or the folder of `20260101`, `20260102`.
    """
    if rotated := _ROTATED.search(path):
        return path[: rotated.start()], 0, -int(rotated[1]), path
    if dated := _DATED.search(path):
        return path[: dated.start()], 1, 0, path
    return path, 2, 0, path
