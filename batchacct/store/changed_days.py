"""Which days' sums of usage are not those of their rows any more: said by whoever changes a job, or what the ledger says of it.

A day that is said to have changed is summed from its rows until its sums are made anew. So it must be said in the transaction that
changes it, and may be said too often. What leaves the tables for the archive, or comes back, changes no sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, delete, insert, select

from batchacct.store.spans import DAY
from batchacct.store.usage_tables import usage_appended, usage_changed, usage_day, usage_pack

DAYS_AT_ONCE = 500


def days_of(times: pa.Array[Any]) -> list[int]:
    """The days on which some records were logged; `times` as Unix seconds, or instants."""
    seconds = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return [int(day) for day in np.unique(seconds // DAY * DAY)]


def note_appended(connection: Connection, days: Collection[int]) -> None:
    """Says that jobs of these days came; in a transaction that has the turn of who appends."""
    known = set(connection.scalars(select(usage_appended.c.day)))
    if new := [{"day": day} for day in days if day not in known]:
        connection.execute(insert(usage_appended), new)


def note_changed(connection: Connection, days: Iterable[int]) -> None:
    """Says that jobs of these days, or what the ledger says of them, changed."""
    if rows := [{"day": day} for day in sorted(set(days))]:
        connection.execute(insert(usage_changed), rows)


def take_over_appended(connection: Connection) -> None:
    """Has the days with appended jobs say so as others do; in a transaction that has the turn of who appends."""
    days = connection.scalars(select(usage_appended.c.day)).all()
    note_changed(connection, days)
    connection.execute(delete(usage_appended))


def forget(connection: Connection, days: Iterable[int]) -> None:
    """Drops what is kept of some days, with all names in it: they are summed from their rows, and then anew."""
    every = sorted(set(days))
    note_changed(connection, every)
    for start in range(0, len(every), DAYS_AT_ONCE):
        some = every[start : start + DAYS_AT_ONCE]
        connection.execute(delete(usage_day).where(usage_day.c.day.in_(some)))
        connection.execute(delete(usage_pack).where(usage_pack.c.day.in_(some)))
