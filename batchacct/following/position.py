"""Which file is which, and how far it was read: decided by content, never by name.

A file is known again by the hash of its first bytes (up to 4 KiB) and of up to 256 bytes before the position, both of the
uncompressed stream: it may have been renamed, copied or compressed meanwhile. Device, inode and path only say which of several
equally good candidates is tried first.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import xxhash

from batchacct.errors import CheckpointError
from batchacct.model import text_of
from batchacct.parsing.reading import open_stream

HEAD_BYTES = 4096
TAIL_BYTES = 256


@dataclass(frozen=True, slots=True)
class Position:
    """How far one file of a source was read; `id` is None until it is stored."""

    source: str
    path: str
    device: int
    inode: int
    size: int
    head_length: int = 0
    head_hash: str = ""
    tail_length: int = 0
    tail_hash: str = ""
    offset: int = 0
    id: int | None = None

    def moved(self, offset: int, head: bytes, tail: bytes) -> Position:
        """The position after reading on to `offset`; `head` begins the stream, `tail` are its last bytes before `offset`."""
        head, tail = head[: min(HEAD_BYTES, offset)], tail[-TAIL_BYTES:]
        return replace(
            self,
            head_length=len(head),
            head_hash=digest(head),
            tail_length=len(tail),
            tail_hash=digest(tail),
            offset=offset,
        )


def digest(content: bytes) -> str:
    text: str = xxhash.xxh3_128_hexdigest(content)
    return text


class KnownPositions:
    """The positions of a source, found by how a file begins: a folder may hold a hundred thousand files."""

    def __init__(self, positions: Iterable[Position] = ()) -> None:
        self._by_head: dict[int, dict[str, list[Position]]] = {}
        for position in positions:
            self.add(position)

    def add(self, position: Position) -> None:
        """Takes a position in the place of the one with its number, if there is one."""
        of_head = self._by_head.setdefault(position.head_length, {}).setdefault(position.head_hash, [])
        of_head[:] = [*(p for p in of_head if p.id != position.id), position]

    def forget(self, position: Position) -> None:
        """Takes a position out that has moved: what is known of its file now stands elsewhere."""
        of_head = self._by_head.get(position.head_length, {}).get(position.head_hash, [])
        of_head[:] = [p for p in of_head if p.id != position.id]

    def like(self, head: bytes) -> list[Position]:
        """Those of files that begin as `head` does."""
        lengths = (length for length in self._by_head if 0 < length <= len(head))
        return [p for length in lengths for p in self._by_head[length].get(digest(head[:length]), ())]


def locate(source: str, path: str, known: Iterable[Position] | KnownPositions) -> Position:
    """The position of the file at `path`: the known one whose content it has, or a new one at its beginning.

    Raises: SourceError if it cannot be read; CheckpointError if it begins like a known file and then differs from it.
    """
    with open_stream(path) as stream:
        head = read_fully(stream, HEAD_BYTES)
    state = Path(path).stat()
    name = text_of(os.fsencode(path))
    candidates = (known if isinstance(known, KnownPositions) else KnownPositions(known)).like(head)
    here = (state.st_dev, state.st_ino)
    candidates.sort(key=lambda p: ((p.device, p.inode) == here, p.path == name, p.offset), reverse=True)
    for candidate in candidates:
        if _same_before_offset(path, candidate):
            return replace(candidate, path=name, device=state.st_dev, inode=state.st_ino, size=state.st_size)
    if candidates:
        raise _changed(source, path, candidates[0])
    return Position(source, name, state.st_dev, state.st_ino, state.st_size)


def unread_bytes(paths: Iterable[str], known: Iterable[Position]) -> int:
    """How many bytes of these files no collection has read, as far as device and inode tell; compressed ones count as they are.

    A compressed file that is known is read to its end or not at all. Nothing is opened, so that it can be asked at any time.
    """
    by_place = {(p.device, p.inode): p for p in sorted(known, key=lambda p: p.id or 0)}
    unread = 0
    for path in paths:
        with contextlib.suppress(OSError):
            state = Path(path).stat()
            position = by_place.get((state.st_dev, state.st_ino))
            compressed = path.endswith((".gz", ".bz2", ".xz", ".zst"))
            unread += state.st_size if position is None else 0 if compressed else max(state.st_size - position.offset, 0)
    return unread


def _same_before_offset(path: str, position: Position) -> bool:
    with open_stream(path) as stream:
        skip(stream, position.offset - max(position.tail_length, 1))
        before = read_fully(stream, max(position.tail_length, 1))
        return bool(before) and digest(before[: position.tail_length]) == position.tail_hash


def _changed(source: str, path: str, known: Position) -> CheckpointError:
    return CheckpointError(
        f"source {source}: {path} begins like {known.path}, which was read up to byte {known.offset}, but is another file before "
        f"that byte, or shorter: it was truncated or edited. Nothing of it was read. Restore the file; or, if its content is to "
        f"be read as new, `batchacct collect --once --from-start {path}` does so (records known already are not doubled)"
    )


def skip(stream: IO[bytes], count: int) -> None:
    """Moves `count` bytes forward, by seeking where the stream can."""
    if stream.seekable():
        stream.seek(count, io.SEEK_CUR)
        return
    while count > 0:
        piece = stream.read(min(count, 1 << 20))
        if not piece:
            return
        count -= len(piece)


def read_fully(stream: IO[bytes], count: int) -> bytes:
    """Exactly `count` bytes, fewer only at the end of the stream."""
    pieces = []
    while count > 0 and (piece := stream.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
