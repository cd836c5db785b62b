"""The store: tables, dialects, migrations, and appending to them."""

from batchacct.store.append import Counts, Origin, append, append_completed
from batchacct.store.cursors import store_cursor, stored_cursor
from batchacct.store.positions import known_positions, note_damage, note_offset, note_place, note_state
from batchacct.store.store import HeldLocks, Store

__all__ = [
    "Counts",
    "HeldLocks",
    "Origin",
    "Store",
    "append",
    "append_completed",
    "known_positions",
    "note_damage",
    "note_offset",
    "note_place",
    "note_state",
    "store_cursor",
    "stored_cursor",
]
