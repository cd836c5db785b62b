"""The store: tables, dialects, migrations, and appending to them."""

from batchacct.store.append import Counts, Origin, append, known_positions, note_place
from batchacct.store.store import Store

__all__ = ["Counts", "Origin", "Store", "append", "known_positions", "note_place"]
