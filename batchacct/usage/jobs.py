"""Where jobs are summed from: the tables, where each is a wide row with a ledger beside it, or what is kept of them for sums."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlalchemy import BigInteger, Column, ColumnElement, Float, FromClause, MetaData, Select, Table, Text, case, func, null, select
from sqlalchemy.types import TypeEngine

from batchacct.ledger.whose import with_ledger
from batchacct.model import INTEGER, REAL, TEXT
from batchacct.store.spans import DAY, Period
from batchacct.store.tables import benchmark, job, usage
from batchacct.usage.dimensions import DIMENSIONS, OF_LEDGER

LEVEL = ("level_type", "level_value", "level_per_host", "level_host_factor")
"""What the benchmark of a job is: the multiplication is done once for all jobs with the same."""

LEVELS: Mapping[str, ColumnElement[Any]] = {
    "level_type": benchmark.c.type,
    "level_value": benchmark.c.value,
    "level_per_host": benchmark.c.per_host_factor,
    "level_host_factor": case((benchmark.c.per_host_factor == 1, job.c.host_factor), else_=null()),
}

MEASURED = ("submit_at", "start_at", "end_at", "cpu_duration_s", "wall_duration_s", "processors", "gpu_count", "energy_j")
"""The columns of a job that its sums are made of."""

Columns = Any
"""Columns with the names of `MEASURED`."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs to be summed: a row each, its columns of `MEASURED`, what its dimensions and levels are, and which rows are meant.

    `units`: what they are summed by in the place of units of time (`summing.UNITS`).
    """

    of: FromClause
    c: Columns
    named: Mapping[str, ColumnElement[Any]]
    which: Collection[ColumnElement[bool]] = ()
    units: Mapping[str, ColumnElement[int]] = field(default_factory=dict)


def counted_jobs() -> list[ColumnElement[bool]]:
    """Which job records are counted: those in force of jobs that started and ended."""
    return [job.c.superseded_by.is_(None), job.c.start_at.is_not(None), job.c.end_at.is_not(None)]


def in_tables(period: Period, names: Collection[str]) -> Jobs:
    """The jobs of a period in the tables; the ledger is asked only if some of these dimensions or levels need it."""
    rows: FromClause = job
    if not OF_LEDGER.union(LEVEL).isdisjoint(names):
        rows = with_ledger(period).outerjoin(benchmark, benchmark.c.id == usage.c.benchmark_id)
    return Jobs(rows, job.c, {**DIMENSIONS, **LEVELS}, (*counted_jobs(), period.logged.has(job.c.logged_at)))


KEPT = tuple(name for name in DIMENSIONS if name != "identity")
"""The dimensions that are kept for sums. Who a person is stays in the tables: the archive and a purge take that away."""

_TYPES: Mapping[str, pa.DataType] = {
    "day": INTEGER,
    **dict.fromkeys(KEPT, TEXT),
    **dict(zip(LEVEL, (TEXT, REAL, INTEGER, REAL), strict=True)),
    **dict.fromkeys(MEASURED, INTEGER),
    "energy_j": REAL,
}
FACTS_SCHEMA = pa.schema(list(_TYPES.items()))
"""What is kept of a job for sums: the UTC day its record was logged on (Unix seconds / 86,400), what it can be grouped by, what is
summed. It has no id: nothing leads from it to a person's job."""

_SQL: dict[pa.DataType, TypeEngine[Any]] = {TEXT: Text(), INTEGER: BigInteger(), REAL: Float(53)}
facts = Table("facts", MetaData(), *(Column(name, _SQL[kind]) for name, kind in _TYPES.items()))


_RECORDS: Mapping[str, pa.DataType] = {"day": INTEGER, "cluster": TEXT, "unit": INTEGER, "first_at": INTEGER, "last_at": INTEGER}
RECORDS_SCHEMA = pa.schema(list(_RECORDS.items()))


def records_in_tables(period: Period) -> Select[Any]:
    """On which days a cluster's job records were logged, and, as `unit`, on which their jobs ended; of all records there are.

    And when the first and the last of them were logged.
    """
    days = (job.c.logged_at // DAY).label("day"), job.c.cluster, (job.c.end_at // DAY).label("unit"), job.c.logged_at
    one = select(*days).where(period.logged.has(job.c.logged_at)).subquery()
    keys = one.c.day, one.c.cluster, one.c.unit
    return select(*keys, func.min(one.c.logged_at).label("first_at"), func.max(one.c.logged_at).label("last_at")).group_by(*keys)


def facts_in_tables(period: Period) -> Select[Any]:
    """The facts of the counted jobs of a period, from the tables."""
    jobs = in_tables(period, FACTS_SCHEMA.names)
    columns = {"day": job.c.logged_at // DAY, **jobs.named, **{name: job.c[name] for name in MEASURED}}
    return select(*(columns[name].label(name) for name in FACTS_SCHEMA.names)).select_from(jobs.of).where(*jobs.which)
