"""How far each configured source is read: in which file, what is left in how many, and for how long it has been lagging."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from batchacct.config import Config, SourceKeys
from batchacct.errors import PluginError
from batchacct.following.files import Place, Stamp, old_siblings, stamps
from batchacct.following.position import may_begin_as
from batchacct.ledger.gaps import Watched
from batchacct.model import text_of
from batchacct.parsing import registry
from batchacct.parsing.compressed import has_compressed_name
from batchacct.store.tables import feed_cursor, followed_file, source_state

LONGEST_LOOK_BYTES = 1 << 20
"""An end of a file longer than this is not looked into: whatever it is, it is unread."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A source now. `file` is the one that is read next, or was read last; what is in the others comes after it.

    `unread_bytes` are those of whole units, in `unread_files` files (compressed ones as they are on disk); `unfinished_bytes` an
    unfinished unit at the end of the last one, which waits for its rest. `lag_s`: for how long there has been something unread (of
    a source that never was read to its end: how long at least); of a feed, the time since it last answered, None if it never did.
    """

    source: str
    file: str | None
    offset: int | None
    size: int | None
    unread_bytes: int | None
    unread_files: int
    unfinished_bytes: int
    lag_s: int | None
    read_to_end_at: int | None
    warning: str | None
    last_error: str | None
    last_error_at: int | None
    lost_bytes: int

    @property
    def is_asked(self) -> bool:
        return self.unread_bytes is None

    def listened_until(self, now: int) -> int:
        """Up to when it is known that the source told of nothing more: until now, where nothing is unread in its files."""
        return now if self.unread_bytes == 0 else self.read_to_end_at or 0


def read_progress(connection: Connection, config: Config, now: int) -> list[Progress]:
    """Every configured source, in the order of the configuration. Files are looked at, and of unfinished ones the end is read."""
    states = {row.name: row for row in connection.execute(select(source_state))}
    cursors = {row.source: row for row in connection.execute(select(feed_cursor))}
    found = []
    for keys in config.source:
        state = states.get(keys.name)
        if keys.feed is not None:
            cursor = cursors.get(keys.name)
            found.append(_progress(keys, state, file=cursor and cursor.cursor, lag_s=cursor and max(now - cursor.updated_at, 0)))
        else:
            of_source = select(followed_file).where(followed_file.c.source == keys.name).order_by(followed_file.c.id)
            found.append(_followed(keys, state, connection.execute(of_source).all(), now))
        try:
            registry.parser(keys.parser)
        except PluginError as error:
            found[-1] = replace(found[-1], last_error=f"it is not collected: {error.message}")
    return found


def watched(config: Config, progress: Iterable[Progress], now: int) -> list[Watched]:
    """The sources as gaps are to be looked for in them."""
    allowed = {keys.name: keys.longest_silence for keys in config.source}
    return [Watched(p.source, p.listened_until(now), allowed.get(p.source)) for p in progress]


def _progress(keys: SourceKeys, state: Row[Any] | None, **values: Any) -> Progress:
    whole: dict[str, Any] = {
        **dict.fromkeys(("file", "offset", "size", "unread_bytes", "lag_s")),
        **dict.fromkeys(("unread_files", "unfinished_bytes"), 0),
        **{name: getattr(state, name, None) for name in ("read_to_end_at", "warning", "last_error", "last_error_at")},
        "lost_bytes": state.lost_bytes if state else 0,
    }
    return Progress(keys.name, **(whole | values))


def _followed(keys: SourceKeys, state: Row[Any] | None, known: Sequence[Row[Any]], now: int) -> Progress:
    old = old_siblings(keys.paths, max((k.modified_at for k in known), default=None))
    there = {p: s for p, s in stamps(keys.paths, old).items() if s is not None}
    by_place: Mapping[Place, Row[Any]] = {(k.device, k.inode): k for k in known}
    positions = {path: _position(keys, path, stamp, by_place.get(stamp.place)) for path, stamp in there.items()}
    left = {path: _unread(path, stamp, positions[path]) for path, stamp in there.items()}
    unread = [path for path, count in left.items() if count]
    unfinished = 0
    if unread and (place := positions[unread[-1]]) is not None and _is_unfinished(keys, unread[-1], place.offset):
        unfinished = left[unread.pop()]
    last_read = max(known, key=lambda k: (k.updated_at, k.id), default=None)
    values: dict[str, Any] = {"unread_bytes": sum(left[path] for path in unread), "unread_files": len(unread)}
    values |= {"unfinished_bytes": unfinished, "lag_s": 0}
    if unread:
        stamp = there[unread[0]]
        position = positions[unread[0]]
        values |= {"file": text_of(os.fsencode(unread[0])), "offset": position.offset if position else 0, "size": stamp.size}
        values["lag_s"] = max(now - _complete_at(state, stamp, position), 0)
    elif last_read is not None:
        values |= {"file": last_read.path, "offset": last_read.offset, "size": last_read.size}
    return _progress(keys, state, **values)


def _position(keys: SourceKeys, path: str, stamp: Stamp, known: Row[Any] | None) -> Row[Any] | None:
    """The position that is known of a file's place, if it is that of the file: the number of an inode is given again."""
    if known is None or has_compressed_name(path) or (known.size, known.modified_at) == (stamp.size, stamp.modified_at):
        return known
    length = registry.unit_bytes_of(keys.parser)
    return known if may_begin_as(path, known.head_length, known.head_hash, length) else None


def _complete_at(state: Row[Any] | None, stamp: Stamp, position: Row[Any] | None) -> int:
    """When nothing was unread, as far as that is known, for what is unread in a file now; else when it was last written to."""
    known = [state.read_to_end_at] if state is not None and state.read_to_end_at is not None else []
    if position is not None and position.offset == position.size:
        known.append(position.updated_at)
    return max(known, default=stamp.modified_at)


def _unread(path: str, stamp: Stamp, position: Row[Any] | None) -> int:
    if position is None:
        return stamp.size
    return 0 if has_compressed_name(path) else max(stamp.size - position.offset, 0)


def _is_unfinished(keys: SourceKeys, path: str, offset: int) -> bool:
    """Whether all that is unread of a file is the beginning of one unit."""
    with contextlib.suppress(OSError, PluginError), Path(path).open("rb") as stream:
        stream.seek(offset)
        end = stream.read(LONGEST_LOOK_BYTES + 1)
        return len(end) <= LONGEST_LOOK_BYTES and registry.parser(keys.parser).framing.cut(end, final=False) == 0
    return False
