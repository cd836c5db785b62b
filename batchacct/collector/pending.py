"""What was seen at the ends of files and is not read yet: where it is, and whether it is lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from batchacct.following import Position
from batchacct.parsing.reading import has_compressed_name

_Key = int | tuple[int, int]


class Pending:
    """Positions behind which bytes are known to stand, and the paths at which the content of each position was last found."""

    def __init__(self, positions: Iterable[Position] = ()) -> None:
        self._sizes: dict[_Key, tuple[Position, int]] = {}
        self._at: dict[str, _Key] = {}
        self._missing_since: dict[_Key, float] = {}
        for position in positions:
            if position.size > position.offset and not has_compressed_name(position.path):
                self._sizes[_key(position)] = (position, position.size)

    def note(self, path: str, position: Position, size: int) -> None:
        """A file of that size was read up to there."""
        key = _key(position)
        self._at[path] = key
        self._sizes.pop((position.device, position.inode), None)
        if size > position.offset:
            self._sizes[key] = (position, size)
        else:
            self._sizes.pop(key, None)
        self._missing_since.pop(key, None)

    def lost(
        self, paths: Collection[str], kept: Iterable[Position], now: float, patience_s: float
    ) -> Iterator[tuple[Position, int]]:
        """What is at none of these paths, nor kept open, and was not for so long: each (position, size), once."""
        self._at = {path: key for path, key in self._at.items() if path in paths}
        present = {*self._at.values(), *map(_key, kept)}
        for key in [key for key in self._sizes if key not in present]:
            if now - self._missing_since.setdefault(key, now) >= patience_s:
                del self._missing_since[key]
                yield self._sizes.pop(key)


def _key(position: Position) -> _Key:
    return position.id if position.id is not None else (position.device, position.inode)
