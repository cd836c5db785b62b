"""Sets of shared objects: each has a name made of what is in it, and is told once in the life of a daemon, and again in a new
month.

The name is the xxh3-128 in hex of the sorted lines `path NUL build id NUL signature`. Programs load the same sets over and over,
so that most are known by the bytes of their item, and not taken apart.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable

import xxhash

from procacct.node.messages import objects_of
from procacct.node.rows import VERSION, Row

SETS_KEPT = 8192
MOST_NEW_A_MINUTE = 600
"""More new sets than this in a minute are somebody's play: they are counted, and not told."""


class ObjectSets:
    """The sets that were told. `emit` takes rows of the record type `object`."""

    def __init__(self, host: str, emit: Callable[[Row], None], now_s: Callable[[], int]) -> None:
        self._host, self._emit, self._now_s = host, emit, now_s
        self._names: OrderedDict[bytes, str] = OrderedDict()
        self._told: OrderedDict[str, str] = OrderedDict()
        self._minute, self._new = 0, 0
        self.sets = self.untold = self.unreadable = 0

    def name_of(self, item: bytes) -> str | None:
        """The name of the set in an item; None if there is none, or the item is not of the form."""
        if not item:
            return None
        digest = xxhash.xxh3_128_digest(item)
        now_s = self._now_s()
        month = dt.datetime.fromtimestamp(now_s, dt.UTC).strftime("%Y-%m")
        name = self._names.get(digest)
        if name is not None and self._told.get(name) == month:
            return name
        objects = objects_of(item)
        if objects is None:
            self.unreadable += 1
            return None
        if now_s // 60 != self._minute:
            self._minute, self._new = now_s // 60, 0
        self._new += 1
        if self._new > MOST_NEW_A_MINUTE:
            self.untold += 1
            return None
        lines = sorted("\0".join((path, build_id or "", signature or "")) for path, build_id, signature in set(objects))
        name = xxhash.xxh3_128_hexdigest("\n".join(lines).encode("utf-8", "surrogatepass"))
        _keep(self._names, digest, name)
        if self._told.get(name) != month:
            _keep(self._told, name, month)
            self._tell(name, lines, now_s)
        return name

    def _tell(self, name: str, lines: list[str], now_s: int) -> None:
        self.sets += 1
        for number, line in enumerate(lines):
            path, build_id, signature = line.split("\0")
            row: Row = {"v": VERSION, "record_key": f"{name}/{number}", "object_set": name, "path": path}
            row |= {"seen_at": now_s, "host": self._host}
            if build_id:
                row["build_id"] = build_id
            if signature:
                row["signature"] = signature
            self._emit(row)


def _keep(kept: OrderedDict[bytes, str] | OrderedDict[str, str], key: bytes | str, value: str) -> None:
    if len(kept) >= SETS_KEPT:
        kept.popitem(last=False)
    kept[key] = value  # type: ignore[index]
