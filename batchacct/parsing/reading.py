"""Files and standard input as blocks of whole units, whatever they are compressed with."""

from __future__ import annotations

import bz2
import contextlib
import glob
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

import zstandard

from batchacct.errors import SourceError
from batchacct.parsing.contract import REJECT_BYTES_KEPT, Block
from batchacct.parsing.framing import Framing

BLOCK_BYTES = 4 << 20
"""How much is read at a time: some thousand lines, one transaction's worth, small enough that memory stays flat."""

LONGEST_UNIT_BYTES = 16 << 20
"""A unit longer than this is rejected: batch systems write lines of 100 kB at the most (`command` holds a whole script)."""

STANDARD_INPUT = "-"

_MAGIC: tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda raw: cast("IO[bytes]", gzip.GzipFile(fileobj=raw))),
    (b"BZh", lambda raw: cast("IO[bytes]", bz2.BZ2File(raw))),
    (b"\xfd7zXZ\0", lambda raw: cast("IO[bytes]", lzma.LZMAFile(raw))),  # noqa: SIM115 - `open_stream` closes it
    (
        b"\x28\xb5\x2f\xfd",
        lambda raw: cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)),
    ),
)
_BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError)


@contextmanager
def open_stream(path: str) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of a file (gzip, bzip2, xz, zstd by content, else as they are), or of standard input for `-`.

    Raises: SourceError if it cannot be opened, or if what is read from it in the body cannot be decompressed.
    """
    try:
        with _opened(path) as raw:
            decompress = _decompressor(raw.peek(6))
            if decompress is None:
                yield raw
                return
            with decompress(raw) as stream:
                yield stream
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


def is_compressed(path: str) -> bool:
    """Whether the file's first bytes are those of a compression that is understood."""
    with Path(path).open("rb") as raw:
        return _decompressor(raw.read(6)) is not None


def _decompressor(head: bytes) -> Callable[[IO[bytes]], IO[bytes]] | None:
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
        piece = stream.read(block_bytes)
        ended = not piece
        buffer += piece
        whole = framing.cut(buffer, final=ended and final)
        if whole:
            yield Block(buffer[:whole], offset)
            offset += whole
            buffer = buffer[whole:]
        elif len(buffer) > LONGEST_UNIT_BYTES:
            block, buffer = _drop_unit(stream, buffer, offset)
            yield block
            offset = block.end_offset


def _drop_unit(stream: Readable, buffer: bytes, offset: int) -> tuple[Block, bytes]:
    """Reads on to the end of the line in `buffer`, keeping none of it: (its beginning as a block, what follows it)."""
    kept = buffer[:REJECT_BYTES_KEPT]
    length = 0
    while (newline := buffer.find(b"\n")) < 0:
        length += len(buffer)
        buffer = stream.read(BLOCK_BYTES)
        if not buffer:
            return Block(kept, offset, length - len(kept)), b""
    length += newline + 1
    return Block(kept, offset, length - len(kept)), buffer[newline + 1 :]


def expand(paths: Iterable[str]) -> list[str]:
    """Paths and patterns to existing files, oldest first, each once (see `reading_order`).

    A path without a pattern is kept though it does not exist, so that its absence is told when it is opened.
    """
    found: dict[str, None] = {}
    for path in paths:
        matches = sorted(glob.glob(path)) if glob.has_magic(path) else [path]  # noqa: PTH207 - absolute patterns
        found.update(dict.fromkeys(m for m in matches if m == path or Path(m).is_file()))
    return sorted(found, key=reading_order)


_ROTATED = re.compile(r"\.(\d{1,4})(?:\.(?:gz|bz2|xz|zst))?$")


def reading_order(path: str) -> tuple[str, int, str]:
    """Sort key that puts older files first: `acct.2.gz`, `acct.1`, `acct`; dated names in the order of their dates."""
    rotated = _ROTATED.search(path)
    if rotated:
        return path[: rotated.start()], -int(rotated[1]), path
    return path, 0, path
