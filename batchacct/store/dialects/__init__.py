"""What differs between databases: one small class each, found by the scheme of the URL."""

from batchacct.store.dialects.base import Dialect, KnownRecordsError, Locks
from batchacct.store.dialects.choice import dialect_of

__all__ = ["Dialect", "KnownRecordsError", "Locks", "dialect_of"]
