"""What is kept of days for sums, in tests: kept at once, held against the rows, and left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from batchacct.store import Store
from batchacct.usage import answering, keeping, recorded


def keep(store: Store) -> int:
    """Keeps all days as their rows are, however few jobs they have; how many were summed anew."""
    with store.lock(keeping.LOCK) as locks:
        return keeping.refresh(store, locks, at_least=0)


def as_rows_are(store: Store) -> int:
    """How many days are taken for unchanged, after they were held against their rows."""
    days, differing = keeping.differing(store)
    assert differing == {}
    return days


@contextmanager
def from_rows() -> Iterator[None]:
    """Has questions answered from the rows alone."""
    with (
        mock.patch.object(answering, "unchanged_days", lambda connection: []),
        mock.patch.object(recorded, "unchanged_days", lambda connection: []),
    ):
        yield
