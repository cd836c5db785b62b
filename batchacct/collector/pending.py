"""What was seen at the ends of files and is not read yet: where it is, and whether it is lost."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from batchacct.following import Position
from batchacct.parsing.compressed import has_compressed_name

_Key = int | tuple[int, int]


@dataclass
class _Seen:
    """A position, the size up to which its file was seen, and how that begins (only where the position has no number yet)."""

    position: Position
    size: int
    head: bytes


class Pending:
    """Positions behind which bytes are known to stand, and the paths at which the content of each position was last found."""

    def __init__(self, positions: Iterable[Position] = ()) -> None:
        self._seen: dict[_Key, _Seen] = {}
        self._at: dict[str, _Key] = {}
        self._missing_since: dict[_Key, float] = {}
        for position in positions:
            if position.size > position.offset and not has_compressed_name(position.path):
                self._seen[_key(position)] = _Seen(position, position.size, b"")

    def note(self, path: str | None, position: Position, size: int, head: bytes) -> None:
        """A file of that size (compressed: of so many bytes of content), which begins with `head`, was read up to there; `path`
        is None of one that has no name any more.
        """
        key = _key(position)
        if path is not None:
            self._at[path] = key
        known_now = [k for k, seen in self._seen.items() if seen.head and head.startswith(seen.head)]
        for old in known_now:
            self._forget(old)
        if size > position.offset:
            self._seen[key] = _Seen(position, size, b"" if isinstance(key, int) else head)
            self._missing_since.pop(key, None)
        else:
            self._forget(key)

    def leave(self, path: str) -> None:
        """What is at a path is another name of what is at some other path."""
        self._at.pop(path, None)

    def may_be_at(self, path: str, position: Position) -> bool:
        """Whether the content of a position was last found at a path, or nothing is known of that."""
        return self._at.get(path, _key(position)) == _key(position)

    def also_at(self, path: str, position: Position) -> list[str]:
        """The other paths at which the content of a position was last found."""
        return [other for other, key in self._at.items() if key == position.id and other != path]

    def lost(
        self, paths: Collection[str], kept: Iterable[Position], now: float, patience_s: float
    ) -> Iterator[tuple[Position, int]]:
        """What is at none of these paths, nor kept open, and was not for so long: each (position, size), once."""
        self._at = {path: key for path, key in self._at.items() if path in paths}
        present = {*self._at.values(), *map(_key, kept)}
        for key in [key for key in self._seen if key not in present]:
            if not _folder_is_there(self._seen[key].position):
                continue
            if now - self._missing_since.setdefault(key, now) >= patience_s:
                lost = self._seen[key]
                self._forget(key)
                yield lost.position, lost.size

    def _forget(self, key: _Key) -> None:
        self._seen.pop(key, None)
        self._missing_since.pop(key, None)


def _key(position: Position) -> _Key:
    return position.id if position.id is not None else (position.device, position.inode)


def _folder_is_there(position: Position) -> bool:
    """Whether the folder in which a file was last seen is there, of the same file system: else that may be away, and come back."""
    try:
        return os.stat(os.path.dirname(position.path) or ".").st_dev == position.device  # noqa: PTH116, PTH120
    except OSError:
        return False
