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
    and_,
    exists,
    func,
    insert,
    select,
)

from batchacct.store.columns import SHORT_TEXT, BigKey
from batchacct.store.spans import IS_OF_JOB, since
from batchacct.store.tables import job, usage
from pub import requeues

_scratch = MetaData()
_LOOKED_AT = (
    *("logged_at", "revision", "cluster", "lrms", "lrms_job_id", "array_index", "join_id", "user_name", "user_id", "group_name"),
    *("project", "queue", "submit_at", "start_at", "end_at", "cpu_duration_s", "host_factor", "state"),
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
on_hosts = Table(
    "on_hosts",
    _scratch,
    Column("job_id", BigKey, primary_key=True, autoincrement=False),
    Column("kind", Integer),
    prefixes=["TEMPORARY"],
)
"""Which lists of host patterns a job's hosts match, by a number for each set of them; filled only where a benchmark asks for it."""


def all_tables() -> list[Table]:
    """The temporary tables of the join."""
    return [*_scratch.sorted_tables, *requeues.scratch.sorted_tables]


def fill_todo(connection: Connection, where: FromClause, which: ColumnElement[bool]) -> None:
    """Adds the jobs in force that are found there; those of `job` alone are others at each call, of a join they come once."""
    noted = todo.alias("noted")
    looked_at = [job.c.id, *(job.c[name] for name in _LOOKED_AT)]
    found = select(*looked_at).select_from(where).where(which, job.c.superseded_by.is_(None))
    if where is not job:
        found = found.where(~exists().where(noted.c.job_id == job.c.id)).distinct()
    connection.execute(insert(todo).from_select(["job_id", *_LOOKED_AT], found))


def add_later_runs(connection: Connection) -> None:
    """Adds the runs in the ledger that continue those of `todo`: whatever came late for the one has come late for the other."""
    put_back = and_(todo.c.lrms == requeues.LRMS, todo.c.state.in_(requeues.PUT_BACK))
    ended = connection.scalar(select(func.min(todo.c.end_at)).where(put_back))
    if ended is None:
        return
    logged = since(connection, ended - requeues.WITHIN_S)
    same_job = and_(job.c.join_id == todo.c.join_id, job.c.cluster == todo.c.cluster, job.c.lrms == requeues.LRMS)
    next_run = job.c.submit_at.between(todo.c.end_at - requeues.WITHIN_S, todo.c.end_at + requeues.WITHIN_S)
    later = todo.join(job, and_(same_job, next_run)).join(usage, IS_OF_JOB)
    before, count = -1, _count(connection)
    while count > before:
        fill_todo(connection, later, and_(put_back, logged.has(job.c.logged_at)))
        before, count = count, _count(connection)


def _count(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(todo)) or 0


@contextmanager
def scratch_tables(connection: Connection) -> Iterator[None]:
    """The temporary tables of one step, gone at its end."""
    for tables in (_scratch, requeues.scratch):
        tables.create_all(connection, checkfirst=False)
    yield
    for tables in (_scratch, requeues.scratch):
        tables.drop_all(connection, checkfirst=False)
