"""The temporary tables of a step of the join: the jobs it looks at, their identities, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    MetaData,
    Table,
    exists,
    insert,
    select,
)

from batchacct.store.columns import SHORT_TEXT, BigKey
from batchacct.store.tables import job
from pub import requeues

_scratch = MetaData()
_LOOKED_AT = (
    *("logged_at", "revision", "cluster", "lrms", "lrms_job_id", "array_index", "join_id", "user_name", "user_id", "group_name"),
    *("project", "queue", "submit_at", "start_at", "end_at", "cpu_duration_s", "host_factor"),
)
"""What the join looks at of a job."""

todo = Table(
    "todo",
    _scratch,
    Column("job_id", BigKey, primary_key=True, autoincrement=False),
    *(Column(name, job.c[name].type) for name in _LOOKED_AT),
    prefixes=["TEMPORARY"],
)
"""The jobs of a step, with what the join looks at: of the job table, whose rows are wide, they are read once."""
match = Table(
    "matched",
    _scratch,
    Column("job_id", BigKey, primary_key=True, autoincrement=False),
    Column("identity_id", BigInteger),
    Column("candidates", Integer),
    prefixes=["TEMPORARY"],
)
verdict = Table(
    "verdict",
    _scratch,
    Column("job_id", BigKey, primary_key=True, autoincrement=False),
    Column("logged_at", BigInteger),
    Column("outcome", SHORT_TEXT),
    Column("reason", SHORT_TEXT),
    Column("identity_id", BigInteger),
    Column("identity_at", BigInteger),
    Column("mapping_id", BigInteger),
    Column("benchmark_id", BigInteger),
    prefixes=["TEMPORARY"],
)


def all_tables() -> list[Table]:
    """The temporary tables of the join."""
    return [*_scratch.sorted_tables, *requeues.scratch.sorted_tables]


def fill_todo(connection: Connection, where: FromClause, which: ColumnElement[bool]) -> None:
    """Adds the jobs in force that are found there; those of `job` alone are others at each call, of a join they come once."""
    looked_at = [job.c.id, *(job.c[name] for name in _LOOKED_AT)]
    found = select(*looked_at).select_from(where).where(which, job.c.superseded_by.is_(None))
    if where is not job:
        found = found.where(~exists().where(todo.c.job_id == job.c.id)).distinct()
    connection.execute(insert(todo).from_select(["job_id", *_LOOKED_AT], found))


@contextmanager
def scratch_tables(connection: Connection) -> Iterator[None]:
    """The temporary tables of one step, gone at its end."""
    for tables in (_scratch, requeues.scratch):
        tables.create_all(connection, checkfirst=False)
    yield
    for tables in (_scratch, requeues.scratch):
        tables.drop_all(connection, checkfirst=False)
