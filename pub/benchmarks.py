"""Benchmarks with validity dates, as the ledger keeps them: a row once used is never changed, only put out of force."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import BigInteger, ColumnElement, Connection, FromClause, and_, case, cast, insert, literal, null, select, update

from batchacct.config import Benchmark
from batchacct.store.tables import benchmark

Key = tuple[str, str, float, int, int, int]


def store_benchmarks(connection: Connection, configured: Sequence[Benchmark]) -> bool:
    """Makes the benchmarks in force those of the configuration; True if that changed anything."""
    wanted = {_key(b) for b in configured}
    columns = [benchmark.c[n] for n in ("cluster", "type", "value", "per_host_factor", "valid_from", "valid_until")]
    rows = connection.execute(select(benchmark.c.id, benchmark.c.active, *columns)).all()
    changed = False
    for row in rows:
        active = int(tuple(row[2:]) in wanted)
        if active != row.active:
            connection.execute(update(benchmark).where(benchmark.c.id == row.id).values(active=active))
            changed = True
    missing = wanted - {tuple(row[2:]) for row in rows}
    if missing:
        names = [c.name for c in columns]
        connection.execute(insert(benchmark), [{**dict(zip(names, k, strict=True)), "active": 1} for k in sorted(missing)])
    return changed or bool(missing)


def _key(configured: Benchmark) -> Key:
    begin, end = (_midnight(day) for day in (configured.valid_from, configured.valid_until))
    return (configured.cluster, configured.type, configured.value, int(configured.per_host_factor), begin, end)


def _midnight(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())


def fitting_benchmark(connection: Connection, jobs: FromClause) -> ColumnElement[int | None]:
    """For a row of `jobs` (cluster, end_at, host_factor): the id of the benchmark in force for its cluster when it ended, its own
    before the one for all.

    One CASE with a branch a benchmark: there are few, and a lookup for each job would cost more than the rest of the join.
    """
    in_force = connection.execute(select(benchmark).where(benchmark.c.active == 1)).all()
    in_force = sorted(in_force, key=lambda row: (row.cluster == "*", -row.valid_from, -row.id))
    branches = []
    for row in in_force:
        fits = [row.valid_from <= jobs.c.end_at, jobs.c.end_at < row.valid_until]
        if row.cluster != "*":
            fits.append(jobs.c.cluster == row.cluster)
        if row.per_host_factor:
            fits.append(row.value * jobs.c.host_factor >= 1)
        branches.append((and_(*fits), literal(row.id)))
    return case(*branches) if branches else cast(null(), BigInteger)
