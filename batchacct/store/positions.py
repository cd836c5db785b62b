"""How far the files of a source were read, and what state the source is in."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sqlalchemy import case, func, insert, or_, select, update

from batchacct.errors import SourceError
from batchacct.following import KnownPositions, Position
from batchacct.model import text_of
from batchacct.parsing.compressed import UndecodableError
from batchacct.store.store import Store
from batchacct.store.tables import followed_file, source_state

COPIED_S = 86_400
"""Of a file that was written to within this time before the last that was, a copy that is shorter may turn up."""


def known_positions(store: Store, source: str) -> list[Position]:
    """Every file of a source that was ever read; with the bytes of their heads those that were written to lately."""
    table = followed_file
    of_source = table.c.source == source
    names = [name for name in Position.__dataclass_fields__ if name != "head"]
    newest = select(func.max(table.c.modified_at)).where(of_source).scalar_subquery()
    head = case((table.c.modified_at > newest - COPIED_S, table.c.head)).label("head")
    with store.reading() as connection:
        rows = connection.execute(select(*(table.c[n] for n in names), head).where(of_source)).mappings()
        return [Position(**{**row, "head": row["head"] or b""}) for row in rows]


def note_place(store: Store, position: Position) -> None:
    """Where a known file is now: it may have been renamed or compressed without anything new in it."""
    table = followed_file
    place: dict[str, object] = {"path": position.path, "device": position.device, "inode": position.inode, "size": position.size}
    place["modified_at"] = position.modified_at
    elsewhere = or_(*(table.c[name] != value for name, value in place.items()))
    if position.id is not None:
        with store.writing() as connection:
            connection.execute(update(table).where(table.c.id == position.id, elsewhere).values(place))


def note_offset(store: Store, known: KnownPositions, position: Position) -> None:
    """From where on a known file is to be read, if that is not behind what was read last."""
    table = followed_file
    values = {"offset": position.offset, "tail_length": position.tail_length, "tail_hash": position.tail_hash}
    with store.writing() as connection:
        connection.execute(update(table).where(table.c.id == position.id).values(values))
    known.put(position)


def note_damage(store: Store, known: KnownPositions, position: Position, error: SourceError) -> None:
    """After an error of reading a file: if it is damaged, what was read of it may be wrong, and is read again once it is mended.

    One that is merely cut short is read on. What was read of another copy stands.
    """
    cause = error.__cause__
    stored = None if position.id is None else known.numbered(position.id)
    if stored is None or stored.is_doubtful or not isinstance(cause, UndecodableError) or cause.damage is None:
        return
    if (stored.size, stored.modified_at) == (position.size, position.modified_at):
        note_offset(store, known, stored.doubted())


def note_state(store: Store, source: str, values: Mapping[str, object], lost_bytes: int = 0) -> None:
    """Sets columns of a source's state, and adds to the bytes that were destroyed before they could be read."""
    table = source_state
    values = {name: text_of(os.fsencode(value)) if isinstance(value, str) else value for name, value in values.items()}
    with store.writing() as connection:
        added = {"lost_bytes": table.c.lost_bytes + lost_bytes} if lost_bytes else {}
        known = connection.execute(update(table).where(table.c.name == source).values({**values, **added}))
        if not known.rowcount:
            connection.execute(insert(table).values(name=source, lost_bytes=lost_bytes, **values))
