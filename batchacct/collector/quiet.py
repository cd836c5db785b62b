"""How long a file has not changed."""

from __future__ import annotations

from collections.abc import Callable, Collection

from batchacct.following.files import Place, Stamp


class Quiet:
    """Of each path since when it has had its stamp; of each file since when it has had its size with a newer one behind it.

    `clock` is that of the files' own times; `ticks` goes on evenly when that is set.
    """

    def __init__(self, clock: Callable[[], int], ticks: Callable[[], float]) -> None:
        self._clock, self._ticks = clock, ticks
        self._seen_first: dict[str, tuple[Stamp | None, float]] = {}
        self._turned: dict[Place, tuple[int, int, float]] = {}

    def keep_only(self, paths: Collection[str]) -> None:
        """Forgets what is not there any more."""
        for path in self._seen_first.keys() - paths:
            del self._seen_first[path]
        places = {stamp.place for stamp, _ in self._seen_first.values() if stamp is not None}
        for place in self._turned.keys() - places:
            del self._turned[place]

    def seconds(self, path: str, stamp: Stamp | None) -> float:
        """Of a path, by the file's own time or by that of the looks at it, whichever is longer."""
        first = self._seen_first.get(path)
        if first is None or first[0] != stamp:
            first = self._seen_first[path] = (stamp, self._ticks())
        looked = self._ticks() - first[1]
        return looked if stamp is None else max(looked, self._clock() - stamp.modified_at)

    def turned_seconds(self, path: str, stamp: Stamp) -> float:
        """Of a file that has a newer one behind it, by the looks at it alone: half a line may have stood at its end for hours
        before it was turned, and the clock may have been set; its writer has yet to learn of the new file.
        """
        self.seconds(path, stamp)
        turned = self._turned.get(stamp.place)
        if turned is None or turned[:2] != (stamp.size, stamp.modified_ns):
            turned = self._turned[stamp.place] = (stamp.size, stamp.modified_ns, self._ticks())
        return self._ticks() - turned[2]
