"""Which file is which, and how far it was read: decided by content, never by name.

A file is known again by the hash of its first bytes (up to 4 KiB) and of up to 256 bytes before the position, both of the
uncompressed stream: it may have been renamed, copied or compressed meanwhile. Device, inode and path only say which of several
equally good candidates is tried first.
"""

from __future__ import annotations

import bisect
import contextlib
import enum
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

import xxhash

from batchacct.errors import CheckpointError, SourceError
from batchacct.following.opened import HEAD_BYTES, TAIL_BYTES, OpenFile
from batchacct.model import text_of
from batchacct.parsing.reading import source_errors

DOUBTFUL = "damaged"
"""In the place of a hash of what stands before the offset, where some of that may be wrong: its file was damaged."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far one file of a source was read; `id` is None until it is stored.

    `size` and `modified_at` (Unix seconds) are the file's when it was last looked into; of a compressed one as it is on disk.
    `head`: how it begins, head_length bytes; b"" where that is known by its hash alone, as it is of a file of long ago.
    """

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
    modified_at: int = 0
    head: bytes = b""
    id: int | None = None

    def moved(self, offset: int, head: bytes, tail: bytes, *, begin: int = 0) -> Position:
        """The position after reading on to `offset`; `head` is the content from `begin` on, `tail` what stands before `offset`."""
        head, tail = head[: min(HEAD_BYTES, offset - begin)], tail[-TAIL_BYTES:]
        return replace(
            self,
            head=head,
            head_length=len(head),
            head_hash=digest(head),
            tail_length=len(tail),
            tail_hash=digest(tail),
            offset=offset,
        )

    def doubted(self) -> Position:
        """The same of a file that turned out to be damaged, before the offset or at it."""
        return replace(self, tail_hash=DOUBTFUL)

    def begun_again(self, offset: int, tail: bytes) -> Position:
        """The position before the first byte of the content is read once more; `tail` is what stands before that."""
        tail = tail[-TAIL_BYTES:]
        return replace(self, offset=offset, tail_length=len(tail), tail_hash=digest(tail))

    @property
    def is_doubtful(self) -> bool:
        return self.tail_hash == DOUBTFUL

    def begins(self, head: bytes) -> bool:
        """Whether a file that begins as `head` does begins like this one's, as far as both go."""
        if len(head) < self.head_length:
            return self.head.startswith(head)
        return digest(head[: self.head_length]) == self.head_hash


def digest(content: bytes) -> str:
    text: str = xxhash.xxh3_128_hexdigest(content)
    return text


def may_begin_as(path: str, head_length: int, head_hash: str, longest_unit: int) -> bool:
    """Whether the file at a path begins so, or cannot be read; of one with a compressed name, by its content."""
    with contextlib.suppress(OSError, SourceError), contextlib.closing(OpenFile(path, longest_unit)) as file:
        return len(file.head) >= head_length and digest(file.head[:head_length]) == head_hash
    return True


class KnownPositions:
    """The positions of a source, found by how a file begins: a folder may hold a hundred thousand files."""

    def __init__(self, positions: Iterable[Position] = ()) -> None:
        self._by_id: dict[int | None, Position] = {}
        self._by_head: dict[int, dict[str, list[Position]]] = {}
        self._heads: list[tuple[bytes, int]] = []
        for position in positions:
            self.put(position)

    def put(self, position: Position) -> None:
        """Takes a position in, in the place of the one with its number, if there is one."""
        old = self._by_id.get(position.id)
        if old is not None:
            self._by_head[old.head_length][old.head_hash].remove(old)
            if old.head:
                del self._heads[bisect.bisect_left(self._heads, (old.head, old.id or 0))]
        if position.head:
            bisect.insort(self._heads, (position.head, position.id or 0))
        self._by_id[position.id] = position
        self._by_head.setdefault(position.head_length, {}).setdefault(position.head_hash, []).append(position)

    def numbered(self, number: int | None) -> Position | None:
        return self._by_id.get(number)

    def like(self, head: bytes) -> list[Position]:
        """Those of files that begin as `head` does."""
        lengths = (length for length in self._by_head if 0 < length <= len(head))
        return [p for length in lengths for p in self._by_head[length].get(digest(head[:length]), ())]

    def hold(self, content: bytes, but: tuple[int, int]) -> bool:
        """Whether a file that is not at the place `but` begins with all of `content`, and was read as far."""
        at = bisect.bisect_left(self._heads, (content, 0))
        while at < len(self._heads) and self._heads[at][0].startswith(content):
            holder = self._by_id[self._heads[at][1] or None]
            if (holder.device, holder.inode) != but:
                return True
            at += 1
        return False


class Likeness(enum.Enum):
    """What a file is to the positions that are known."""

    KNOWN = "it is the file of a position"
    NEW = "it begins like none"
    PART = "it is no more than how one begins, and was read there"
    SHORTER = "it begins like one that was read further than it is long"
    CHANGED = "it begins like one, and differs from it before the offset"
    MENDED = "it begins like one that was damaged when it was read, and is not damaged"


@dataclass(frozen=True, slots=True)
class Located:
    """A file's position, if it is KNOWN, NEW or a PART; else the one it contradicts. `before` are the bytes before the offset.

    The position of one that is MENDED is at its beginning.
    """

    likeness: Likeness
    position: Position
    before: bytes = b""


def locate_open(source: str, file: OpenFile, known: KnownPositions) -> Located:
    """Which of the known positions an open file is of: of several that fit the one furthest on.

    Raises: SourceError, also for a file that is as damaged as when it was read.
    """
    name = text_of(os.fsencode(file.path))
    candidates = known.like(file.head)
    candidates.sort(key=lambda p: (not p.is_doubtful, p.offset, (p.device, p.inode) == file.place, p.path == name), reverse=True)
    is_part = 0 < len(file.head) < HEAD_BYTES and not file.is_cut and known.hold(file.head, file.place)
    shorter: Position | None = None
    for candidate in candidates:
        offset = file.begin if candidate.is_doubtful else candidate.offset
        before = file.before(offset, TAIL_BYTES)
        if len(before) < min(offset, TAIL_BYTES):
            shorter = candidate
        elif candidate.is_doubtful or digest(before[len(before) - candidate.tail_length :]) == candidate.tail_hash:
            if shorter is not None and shorter.head_length > candidate.head_length:
                break  # what both begin with is less than what this file and the longer one do
            if is_part and candidate.offset < file.begin + len(file.head):
                break  # likewise
            if candidate.is_doubtful:
                file.read_through()
                return Located(Likeness.MENDED, _at(candidate.begun_again(offset, before), file), before)
            return Located(Likeness.KNOWN, _at(candidate, file), before)
    if shorter is not None:
        return Located(Likeness.SHORTER, shorter)
    if candidates and not is_part:
        return Located(Likeness.CHANGED, candidates[0])
    before = file.before(file.begin, TAIL_BYTES)
    position = _at(Position(source, name, 0, 0, 0, offset=file.begin), file)
    return Located(Likeness.PART if is_part else Likeness.NEW, position, before)


def _at(position: Position, file: OpenFile) -> Position:
    device, inode = file.place
    name, state = text_of(os.fsencode(file.path)), file.state
    return replace(position, path=name, device=device, inode=inode, size=state.st_size, modified_at=int(state.st_mtime))


def locate(source: str, path: str, known: Iterable[Position] | KnownPositions, unit_bytes: int = 1) -> Position:
    """The position of the file at `path`: the known one whose content it has, or a new one at its beginning (see `OpenFile`).

    Raises: SourceError if it cannot be read; CheckpointError if it begins like a known file and then differs from it.
    """
    with source_errors(path), contextlib.closing(OpenFile(path, unit_bytes)) as file:
        found = locate_open(source, file, known if isinstance(known, KnownPositions) else KnownPositions(known))
    if found.likeness in (Likeness.KNOWN, Likeness.NEW, Likeness.PART, Likeness.MENDED):
        return found.position
    raise changed(source, path, found.position)


def changed(source: str, path: str, known: Position) -> CheckpointError:
    """What is told of a file that contradicts the position it begins like, with the choices there are."""
    which = "" if text_of(os.fsencode(path)) == known.path else f"begins like {known.path}, which "
    return CheckpointError(
        f"{path} {which}was read up to byte {known.offset}, but is another file before that byte, or shorter: it "
        f"was truncated or edited. Nothing of it was read, and of this source nothing more is. Restore the file; or take it out "
        f"of the source's `paths`; or, if its content is to be read as new, `batchacct collect --once --from-start {path} "
        f"{source}` does so (records known already are not doubled)"
    )


def shorter_copy(path: str, size: int, known: Position) -> str:
    """What is told of a file that is taken for a copy of what was read further than it is long."""
    return (
        f"{path} begins like what was read up to byte {known.offset} and has {size} bytes: it is taken for a copy made before the "
        f"rest was written, and not read"
    )
