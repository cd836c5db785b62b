"""Which benchmark a job is published with, and the benchmarks as the ledger keeps them: a row once used is never changed, only put
out of force.

In force for a job are those that are valid when it ended, for its cluster, or for all, and for its hosts: all of them must match a
pattern, as one figure is published for the whole job. Of several, one of some hosts goes before one of whatever hosts, then that of
the cluster before that of all, then the one that became valid last, then the lowest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, and_, case, cast, false, insert, literal, null, select, update

from batchacct.clock import midnight
from batchacct.config_mapping import BENCHMARKS, Benchmark
from batchacct.store.spans import Span
from batchacct.store.tables import benchmark
from pub.hosts import Hosts, note_hosts
from pub.scratch import on_hosts, todo

log = logging.getLogger(__name__)


class Valid(NamedTuple):
    """A benchmark as the ledger keeps it: instants in Unix seconds, the end not included; `hosts` and `also` are JSON."""

    cluster: str
    type: str
    value: float
    per_host_factor: int
    valid_from: int
    valid_until: int
    hosts: str | None
    also: str | None

    @property
    def place(self) -> tuple[object, ...]:
        """What has a lower place goes before others."""
        rest = (self.type, self.per_host_factor, self.also or "", self.valid_until)
        return (self.hosts is None, self.cluster == "*", -self.valid_from, self.value, *rest, self.cluster, self.hosts or "")

    def fits(self, cluster: str, end_at: int, host_factor: float | None, matching: frozenset[str]) -> bool:
        """Whether it is in force for a job whose hosts match these `hosts`."""
        if not (self.valid_from <= end_at < self.valid_until and self.cluster in ("*", cluster)):
            return False
        if self.hosts is not None and self.hosts not in matching:
            return False
        return not self.per_host_factor or (host_factor is not None and self.value * host_factor >= 1)


_COLUMNS: tuple[Column[object], ...] = tuple(benchmark.c[name] for name in Valid._fields)


def valid_of(configured: Benchmark) -> Valid:
    """A benchmark of the configuration as the ledger keeps it."""
    also = {name: float(configured.also[name]) for name in BENCHMARKS if name in configured.also}
    return Valid(
        configured.cluster,
        configured.type,
        float(configured.value),
        int(configured.per_host_factor),
        midnight(configured.valid_from),
        midnight(configured.valid_until),
        json.dumps(sorted(set(configured.hosts))) if configured.hosts else None,
        json.dumps(also) if also else None,
    )


def in_order(benchmarks: Iterable[Valid]) -> list[Valid]:
    """The first that is in force for a job is the one it is published with."""
    return sorted(benchmarks, key=lambda one: one.place)


def store_benchmarks(connection: Connection, configured: Sequence[Benchmark]) -> bool:
    """Makes the benchmarks in force those of the configuration; True if that changed anything."""
    wanted = {valid_of(b) for b in configured}
    rows = connection.execute(select(benchmark.c.id, benchmark.c.active, *_COLUMNS)).all()
    changed = False
    for row in rows:
        active = int(Valid(*row[2:]) in wanted)
        if active != row.active:
            connection.execute(update(benchmark).where(benchmark.c.id == row.id).values(active=active))
            changed = True
    missing = wanted - {Valid(*row[2:]) for row in rows}
    if missing:
        connection.execute(insert(benchmark), [{**one._asdict(), "active": 1} for one in in_order(missing)])
    if rows and (changed or missing):
        log.warning(
            "the benchmarks were changed: what is published keeps its own, and `batchacct benchmarks` tells where they differ"
        )
    return changed or bool(missing)


def fitting_benchmark(connection: Connection, logged: Span) -> ColumnElement[int | None]:
    """For a row of `todo` beside `on_hosts`: the id of the benchmark of the job; the jobs were logged in that span.

    One CASE with a branch a benchmark: there are few, and a lookup for each job would cost more than the rest of the join.
    """
    rows = connection.execute(select(benchmark.c.id, *_COLUMNS).where(benchmark.c.active == 1)).all()
    number = {Valid(*row[1:]): row.id for row in rows}
    kinds = note_hosts(connection, Hosts.of(one.hosts for one in number), logged)
    branches = []
    for one in in_order(number):
        fits: list[ColumnElement[bool]] = [one.valid_from <= todo.c.end_at, todo.c.end_at < one.valid_until]
        if one.cluster != "*":
            fits.append(todo.c.cluster == one.cluster)
        if one.hosts is not None:
            matching = [kind for lists, kind in kinds.items() if one.hosts in lists]
            fits.append(on_hosts.c.kind.in_(matching) if matching else false())
        if one.per_host_factor:
            fits.append(one.value * todo.c.host_factor >= 1)
        branches.append((and_(*fits), literal(number[one])))
    return case(*branches) if branches else cast(null(), BigInteger)
