"""The store: tables, dialects, migrations, and appending to them."""

from batchacct.store.append import Counts, Origin, append, append_completed, known_positions, note_place
from batchacct.store.cursors import store_cursor, stored_cursor
from batchacct.store.store import Store

__all__ = [
    "Counts",
    "Origin",
    "Store",
    "append",
    "append_completed",
    "known_positions",
    "note_place",
    "store_cursor",
    "stored_cursor",
]
