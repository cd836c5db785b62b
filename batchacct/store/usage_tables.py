"""The tables of what is kept of jobs for sums (`batchacct.usage`); as `tables`, of which this is a part.

A day is the Unix second a UTC day begins at, the one its jobs' records were logged on: whatever comes or changes is of a few of
them. `usage_day` has a row a day of which sums are kept: how many counted jobs it has, and when the first and last of them started
and ended. They are in `usage_pack`, of each kind in so many pieces (see `batchacct.usage.packs`).

A day is as its rows are unless it is in `usage_changed` or `usage_appended`: whoever changes what is counted of a job says so in
the same transaction (see `store.changed_days`). In `usage_changed` each says it in a row of its own: nobody waits for another. Who
appends has the turn (`append_alone`), and there may be many a second: `usage_appended` has one row a day.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table

from batchacct.store.columns import WORD_BYTES, BigKey, KeyText
from batchacct.store.tables import metadata

usage_day = Table(
    "usage_day",
    metadata,
    Column("day", BigKey, primary_key=True, autoincrement=False),
    Column("jobs", BigInteger, nullable=False),
    Column("first_start_at", BigInteger),
    Column("last_start_at", BigInteger),
    Column("first_end_at", BigInteger),
    Column("last_end_at", BigInteger),
)

usage_pack = Table(
    "usage_pack",
    metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", KeyText(WORD_BYTES), primary_key=True),
    Column("piece", Integer, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),
)

usage_changed = Table(
    "usage_changed",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("day", BigInteger, nullable=False),
)

usage_appended = Table(
    "usage_appended",
    metadata,
    Column("day", BigKey, primary_key=True, autoincrement=False),
)
