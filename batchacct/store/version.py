"""What state the records are in, as a short text: the same text, the same answers."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, func, select

from batchacct.store.sent import last_step
from batchacct.store.tables import archived_month, benchmark, load, recalled


def version(connection: Connection) -> str:
    """A text that changes whenever records are stored, completed, joined, archived, purged or brought back.

    It takes a few look-ups in indices, however many records there are.
    """
    newest = (func.max(load.c[name]) for name in ("id", "completed_at", "joined_at"))
    loads = [connection.scalar(select(one)) for one in newest]
    months = connection.execute(
        select(func.count(), func.max(archived_month.c.archived_at), func.sum(archived_month.c.purged_records))
    ).one()
    back = connection.scalar(select(func.count()).select_from(recalled))
    levels = connection.scalar(select(func.max(benchmark.c.id)))
    told = repr((loads, last_step(connection), [int(of or 0) for of in months], back, levels))
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()
