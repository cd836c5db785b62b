"""Whose a job was, as the ledger decided: what reports of jobs, and of what ran in them, are grouped by.

The VO is the one that is published: that of the identity where the join found one, else what the VO map says of the account. A
job that still waits for its identity is under `WAITING`, one the join has not looked at under `NOT_JOINED`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Join, and_, case, func

from batchacct.store.spans import IS_OF_IDENTITY_OF_MANY, Period
from batchacct.store.tables import identity, job, usage, vo_mapping
from batchacct.store.vos import VO

NOT_JOINED = "(not joined yet)"
WAITING = "(waiting for identity)"
UNKNOWN = "(unknown)"

VO_OF_JOB: ColumnElement[Any] = case(
    (usage.c.job_id.is_(None), NOT_JOINED),
    (usage.c.outcome == "waiting", WAITING),
    else_=func.coalesce(VO, UNKNOWN),
)
"""The VO of a row of `with_ledger`."""


def with_ledger(period: Period, jobs: FromClause = job) -> Join:
    """`job`, or some of its rows, with what the ledger says of each: `usage`, `identity`, `vo_mapping`, where there is any."""
    is_of_job = and_(usage.c.job_id == jobs.c.id, usage.c.logged_at == jobs.c.logged_at)
    return (
        jobs.outerjoin(usage, and_(is_of_job, period.ids.has(usage.c.job_id)))
        .outerjoin(identity, and_(IS_OF_IDENTITY_OF_MANY, period.identities.has(identity.c.recorded_at)))
        .outerjoin(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
    )
