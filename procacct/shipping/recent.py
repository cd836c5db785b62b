"""How often something was seen lately: of as many different things as are kept, the oldest going first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Recent:
    """Counts what it is told of; what was pushed out by `most` others counts from the beginning."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: OrderedDict[Hashable, int] = OrderedDict()

    def count(self, thing: Hashable) -> int:
        """How often it was told of by now."""
        times = self._counts.pop(thing, 0) + 1
        self._counts[thing] = times
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)
        return times
