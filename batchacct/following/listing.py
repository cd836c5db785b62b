"""The files of a source as they were at the last whole look, and what follows from them."""

from __future__ import annotations

import heapq
import os
from collections.abc import Collection, Iterable, Mapping, Set
from pathlib import Path

from batchacct.following.files import Place, Stamp, folders, is_link, may_be_one, stamp_of_path, stamps
from batchacct.parsing.reading import reading_order

MOST_ORIGINALS = 16
"""Of so many files, those written to last, a copy may just be in the making."""

_Order = tuple[str, int, int, str]


class Listing:
    """Everything that is asked at each look is kept here, so that a look costs what has changed and not what is there."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self.there: dict[str, Stamp | None] = {}
        """Paths in reading order, each with its stamp; None where it is not there, or may not be looked at."""
        self.places: set[Place] = set()
        self.recent: Mapping[str, Stamp | None] = {}
        """The files written to last."""
        self._orders: dict[str, _Order] = {}
        self._newest: dict[str, _Order] = {}
        self._links: dict[str, tuple[Place, str | None]] = {}
        self._ever: set[str] = set()

    def renew(self, old: Set[int]) -> list[str]:
        """Looks what there is; all paths in reading order. `old`: as for `stamps`."""
        self.there = stamps(self._patterns, old)
        known = {path: stamp for path, stamp in self.there.items() if stamp is not None}
        self.places = {stamp.place for stamp in known.values()}
        self.recent = {path: known[path] for path in heapq.nlargest(MOST_ORIGINALS, known, key=lambda p: known[p].modified_ns)}
        self._orders = {path: self._orders.get(path) or reading_order(path) for path in self.there}
        self._newest = {order[0]: order for order in self._orders.values()}
        self._links = {path: self._link(path, stamp.place) for path, stamp in known.items()}
        self._ever |= {path for path in self._patterns if path in known}
        return list(self.there)

    def those(self, changed: Collection[str]) -> list[str] | None:
        """Of the files that are there those that changed, under whichever of their names, with new stamps; None if one of them is
        another file, or one that was not there.
        """
        if any(path not in self.there and may_be_one(self._patterns, path) for path in changed):
            return None
        paths = {path for path in changed if path in self.there}
        if links := [(path, real) for path, (_, real) in self._links.items() if real is not None]:
            real_paths = {os.path.realpath(path) for path in changed}
            paths |= {path for path, real in links if real in real_paths}
        for path in paths:
            before, now = self.there[path], stamp_of_path(path)
            if before is None or now is None or before.place != now.place:
                return None
            self.there[path] = now
        return sorted(paths, key=self._orders.__getitem__)

    def has_newer(self, path: str) -> bool:
        """Whether there is a newer file of the same log."""
        order = self._orders.get(path) or reading_order(path)
        return self._newest.get(order[0], order) > order

    def was_there(self, path: str) -> bool:
        """Whether a configured path was ever there."""
        return path in self._ever

    @property
    def folders(self) -> set[str]:
        """The folders whose changes matter."""
        real = (real for _, real in self._links.values() if real is not None)
        return folders(self._patterns, self.there) | {str(Path(path).parent) for path in real}

    def _link(self, path: str, place: Place) -> tuple[Place, str | None]:
        """The file a link leads to; what is the file it was is no other link than it was."""
        known = self._links.get(path)
        return known if known is not None and known[0] == place else (place, os.path.realpath(path) if is_link(path) else None)
