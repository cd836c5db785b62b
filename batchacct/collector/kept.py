"""Files kept open: what is renamed beyond a source's patterns, or deleted, can still be read through its handle."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from batchacct.following import KnownPositions, OpenFile, Position
from batchacct.following.files import Place, Stamp, begins_another

KEPT_OPEN = 32
"""Of a source so many at the most; of more the one that has not grown for the longest is closed."""


@dataclass
class KeptFile:
    """A file kept open, how far it was read, and when (in ticks) it was last seen to grow, or to lose its name."""

    file: OpenFile
    position: Position
    size: int
    changed_at: float
    has_name: bool = True

    def elsewhere(self, known: KnownPositions, there: Mapping[str, Stamp | None]) -> tuple[int, bool]:
        """How far the content was read, by whatever name, and whether another file has it, too, and may go on with it."""
        if begins_another(self.file, there, as_long=True):
            return self.file.state.st_size, True
        position = known.numbered(self.position.id)
        if position is None or not position.begins(self.file.head):
            return 0, False
        place = (position.device, position.inode)
        return position.offset, place != self.file.place


class KeptFiles:
    """At most so many open files by their place."""

    def __init__(self, most: int = KEPT_OPEN) -> None:
        self._most = most
        self._by_place: dict[Place, KeptFile] = {}

    def __iter__(self) -> Iterator[KeptFile]:
        return iter(list(self._by_place.values()))

    def holds(self, file: OpenFile) -> bool:
        kept = self._by_place.get(file.place)
        return kept is not None and kept.file is file

    def keep(self, file: OpenFile, position: Position, size: int, now: float) -> None:
        """Keeps a file open, in the place of an older handle of it."""
        old = self._by_place.get(file.place)
        changed_at = now if old is None or old.size != size else old.changed_at
        self.drop(file.place, but=file)
        self._by_place[file.place] = KeptFile(file, position, size, changed_at)
        while len(self._by_place) > self._most:
            self.drop(min(self._by_place, key=lambda place: self._by_place[place].changed_at))

    def forget_before(self, ticks: float) -> None:
        """Closes those that have not changed since, and are still under their names."""
        for place, kept in list(self._by_place.items()):
            if kept.has_name and kept.changed_at < ticks:
                self.drop(place)

    def without_name(self, places: Collection[Place]) -> list[KeptFile]:
        """Those that are at none of the places where there are files."""
        return [kept for place, kept in self._by_place.items() if place not in places]

    def drop(self, place: Place, *, but: OpenFile | None = None) -> None:
        """Closes the handle of a file, if it is kept and not `but`."""
        kept = self._by_place.pop(place, None)
        if kept is not None and kept.file is not but:
            kept.file.close()

    def close(self) -> None:
        for place in list(self._by_place):
            self.drop(place)
