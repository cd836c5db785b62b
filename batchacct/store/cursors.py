"""How far feeds were asked: one cursor a source, a text of the feed's own."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from batchacct.store.store import Store
from batchacct.store.tables import feed_cursor


def stored_cursor(store: Store, source: str) -> str | None:
    """The cursor behind the last answer that is stored whole; None if there is none."""
    with store.reading() as connection:
        return connection.scalar(select(feed_cursor.c.cursor).where(feed_cursor.c.source == source))


def store_cursor(store: Store, source: str, cursor: str, now: int) -> None:
    values = {"cursor": cursor, "updated_at": now}
    with store.writing() as connection:
        known = connection.execute(update(feed_cursor).where(feed_cursor.c.source == source).values(values))
        if not known.rowcount:
            connection.execute(insert(feed_cursor).values(source=source, **values))
