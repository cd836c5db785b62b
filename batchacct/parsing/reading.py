"""Files and standard input as blocks of whole units, whatever they are compressed with."""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, cast

from batchacct.errors import SourceError
from batchacct.parsing.compressed import MAGIC_BYTES, UndecodableError, decompressor
from batchacct.parsing.contract import REJECT_BYTES_KEPT, Block
from batchacct.parsing.framing import Framing, MarkedFraming, unit_bytes

BLOCK_BYTES = 2 << 20
"""How much is read at a time: some thousand lines, one transaction's worth, small enough that memory stays flat."""

LONGEST_UNIT_BYTES = 16 << 20
"""A unit longer than this is rejected: batch systems write lines of 100 kB at the most (`command` holds a whole script)."""

_MARK_BYTES = 1024
"""As much as a framing may have to see at once to know where a unit begins."""

STANDARD_INPUT = "-"


@contextmanager
def open_stream(path: str) -> Iterator[Readable]:
    """The uncompressed bytes of a file (gzip, bzip2, xz, zstd by content, else as they are), or of standard input for `-`.

    Raises: SourceError if it cannot be opened, or if what is read from it in the body cannot be decompressed.
    """
    with source_errors(path), _opened(path) as raw:
        decompress = decompressor(raw.peek(MAGIC_BYTES))
        yield raw if decompress is None else decompress(raw)


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
    except OSError as error:
        raise SourceError(f"{path} cannot be read to its end: {error}") from error
    except UndecodableError as error:
        raise SourceError(f"{path} cannot be read to its end: {_what_to_do(error)}") from error


def _what_to_do(error: UndecodableError) -> str:
    if error.damage is None:
        return (
            f"it is cut short at byte {error.length:,} of its content. What is whole before that counts. Put the whole file in its "
            "place: then the rest is read, and nothing counts twice"
        )
    return (
        f"it is damaged at byte {error.length:,} of its content, or before ({error.damage}). What could be decoded counts. Put a "
        "good copy in its place: it is read from its beginning, what is known does not count twice, and what differs is corrected"
    )


def _opened(path: str) -> AbstractContextManager[io.BufferedReader]:
    if path == STANDARD_INPUT:
        return contextlib.nullcontext(cast("io.BufferedReader", sys.stdin.buffer))
    return Path(path).open("rb")


class Readable(Protocol):
    """What blocks are read from: any stream of bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


class UpToError:
    """Blocks up to the error that ends them: what was read before it is dealt with first, then `check` raises it.

    Whoever parses some blocks ahead would lose them by an error that comes out of the next one.
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = blocks
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Block]:
        try:
            yield from self._blocks
        except (SourceError, UndecodableError, OSError) as error:
            self._error = error

    def check(self) -> None:
        """Raises: the error, if there was one."""
        if self._error is not None:
            raise self._error


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
        whole = _cut(framing, buffer, offset, final=ended and final)
        if not whole and len(buffer) > LONGEST_UNIT_BYTES:
            whole = buffer.find(b"\n") + 1
        if whole:
            yield Block(buffer[:whole], offset)
            offset += whole
            buffer = buffer[whole:]


def _cut(framing: Framing, buffer: bytes, offset: int, *, final: bool) -> int:
    """As the framing has it, but that the rest of a unit which was taken unfinished once, and is read on, is a unit by itself."""
    rest = -offset % unit_bytes(framing)
    if not rest:
        return framing.cut(buffer, final=final)
    return min(rest, len(buffer)) if final or len(buffer) >= rest else 0


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
