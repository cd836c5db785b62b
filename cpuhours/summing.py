"""The statements that sum jobs: as wholes where they ended or started, or their rates, from which `spreading` spreads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Connection, FromClause, Select, and_, case, cast, func, literal, null, or_, select

from batchacct.ledger.whose import with_ledger
from batchacct.store.spans import Period, since, when_ended
from batchacct.store.tables import benchmark, job, usage
from cpuhours.bins import Bins
from cpuhours.dimensions import DIMENSIONS, OF_LEDGER, Where

Counted = Literal["ended", "started", "spread"]
COUNTED: tuple[Counted, ...] = ("ended", "started", "spread")

SUMS = (
    *("jobs", "cpu_unknown_jobs", "cpu_s", "wall_s", "core_s", "core_unknown_jobs", "wall_unknown_jobs"),
    *("wait_s", "wait_unknown_jobs", "gpu_s", "gpu_jobs", "gpu_unknown_jobs", "energy_j", "energy_unknown_jobs"),
)
"""Columns of every answer, integers. `jobs`; CPU, wall, processors x wall, GPUs x wall and waiting (start - submit, less than 0
where clocks differ) in seconds; energy in joules, a job's rounded down. Of each the jobs that add nothing to it because what it is
made of is unknown; `gpu_jobs` are those that had GPUs."""

BOTH = ("both_cpu_s", "both_core_s")
"""CPU and processors x wall seconds of the jobs of which both are known: what an efficiency is made of."""

AMOUNTS = ("cpu_s", "wall_s", "core_s", "gpu_s", "energy_j", *BOTH)
"""The sums that can be spread over the time jobs ran."""

_RATES = tuple(f"{name}_rate" for name in AMOUNTS)
TOTALS = (*SUMS, *BOTH)
STARTS = (*_RATES, *(f"{name}_of_first" for name in AMOUNTS))
STOPS = (*AMOUNTS, *_RATES, *(f"{name}_before" for name in AMOUNTS))
"""The columns of the statements of these names, after those of the groups and `unit`."""

LEVEL = ("level_type", "level_value", "level_per_host", "level_host_factor")
"""What the benchmark of a job is: the multiplication is done once for all jobs with the same."""

_Sum = str | tuple[str, str]
"""A column to be summed, or two whose product is."""

RATE_BITS = 16
MOST_SPREAD = 2**42
"""Of more, which no job uses, everything is where the job ended: the sums of what is spread fit into 64 bits."""
MOST_ENERGY_J = 2**52
"""More than that, or less than 0, is taken for unknown."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: grouped by which dimensions, of which jobs, counted where (see `cpuhours.query.usage_by`)."""

    names: tuple[str, ...]
    where: Where = field(default_factory=Where)
    begin: int | None = None
    end: int | None = None
    normalise: str | None = None
    bins: Bins | None = None
    counted: Counted = "ended"

    @property
    def keys(self) -> list[str]:
        """The dimensions the database has to group by: also those of which `where` decides afterwards."""
        return list(dict.fromkeys((*self.names, *self.where.inexact)))

    @property
    def levels(self) -> tuple[str, ...]:
        return LEVEL if self.normalise else ()

    @property
    def unit_s(self) -> int:
        """Seconds of the units of time that are summed by: bins, and the bounds where they cut jobs, are made of whole ones."""
        unit = DAY_S if self.bins is None else self.bins.unit_s
        return math.gcd(unit, self.begin or 0, self.end or 0) if self.counted == "spread" else unit

    def period(self, connection: Connection) -> Period:
        """When what is asked for was logged."""
        if self.counted == "started":
            return Period() if self.begin is None else Period(since(connection, self.begin))
        end = self.end if self.counted == "ended" else None
        return when_ended(connection, self.begin, end, identities=True)


def counted_jobs() -> list[ColumnElement[bool]]:
    """Which job records are counted: those in force of jobs that started and ended."""
    return [job.c.superseded_by.is_(None), job.c.start_at.is_not(None), job.c.end_at.is_not(None)]


def within(instant: ColumnElement[int], begin: int | None, end: int | None) -> list[ColumnElement[bool]]:
    found = [] if begin is None else [instant >= begin]
    return found if end is None else [*found, instant < end]


def _energy() -> ColumnElement[int]:
    """Whole joules. Databases differ in how they make an integer of a real number, but never by one or more."""
    whole = cast(job.c.energy_j, BigInteger)
    floor = whole - case((whole > job.c.energy_j, 1), else_=0)
    return case((job.c.energy_j.between(0, MOST_ENERGY_J), floor), else_=null())


def _measures() -> Mapping[str, ColumnElement[Any]]:
    """Of one job each of `SUMS` and `BOTH`; null where it is unknown."""
    cpu, wall, gpus = job.c.cpu_duration_s, job.c.wall_duration_s, job.c.gpu_count
    core, wait, energy = wall * job.c.processors, job.c.start_at - job.c.submit_at, _energy()
    both = and_(cpu.is_not(None), core.is_not(None))

    def unknown(of: ColumnElement[Any]) -> ColumnElement[int]:
        return case((of.is_(None), 1), else_=0)

    return {
        "jobs": literal(1),
        "cpu_unknown_jobs": unknown(cpu),
        "cpu_s": cpu,
        "wall_s": wall,
        "core_s": core,
        "core_unknown_jobs": unknown(core),
        "wall_unknown_jobs": unknown(wall),
        "wait_s": wait,
        "wait_unknown_jobs": unknown(wait),
        "gpu_s": gpus * wall,
        "gpu_jobs": case((gpus > 0, 1), else_=0),
        "gpu_unknown_jobs": case((or_(gpus.is_(None), and_(gpus > 0, wall.is_(None))), 1), else_=0),
        "energy_j": energy,
        "energy_unknown_jobs": unknown(energy),
        "both_cpu_s": case((both, cpu), else_=0),
        "both_core_s": case((both, core), else_=0),
    }


_MEASURES = _measures()


def totals(asked: Asked, period: Period) -> Select[Any]:
    """Sums of whole jobs by keys, levels and unit of time, those in which they started or ended.

    Grouping is by the columns of an inner query, never by repeated expressions: their bind parameters would make PostgreSQL
    take them for two different things.
    """
    instant = job.c.start_at if asked.counted == "started" else job.c.end_at
    unit = literal(0) if asked.bins is None else instant // asked.unit_s
    return _summed(asked, period, unit, _MEASURES, conditions=within(instant, asked.begin, asked.end), sums=TOTALS)


_DURATION = job.c.end_at - job.c.start_at


def _last_unit(unit_s: int) -> ColumnElement[int]:
    """The unit of a job's last second; one that took no time is in that of its end."""
    return (job.c.end_at - case((_DURATION > 0, 1), else_=0)) // unit_s


def _rates(asked: Asked) -> dict[str, ColumnElement[int]]:
    """Of one job what it uses a second of each of `AMOUNTS`, times 2^`RATE_BITS`, rounded down; 0 if it is in one unit only.

    What rounding leaves is where the job ended.
    """
    of_several = and_(_DURATION > 0, job.c.start_at // asked.unit_s < _last_unit(asked.unit_s))
    return {
        f"{name}_rate": case((and_(of_several, amount <= MOST_SPREAD), amount * 2**RATE_BITS // _DURATION), else_=0)
        for name, amount in ((name, _MEASURES[name]) for name in AMOUNTS)
    }


def starts(asked: Asked, period: Period) -> Select[Any]:
    """By the unit in which jobs started: the sums of their rates, and of what they used of that unit, times 2^`RATE_BITS`."""
    unit = job.c.start_at // asked.unit_s
    columns = _rates(asked) | {"rest_s": (unit + 1) * asked.unit_s - job.c.start_at}
    sums: list[_Sum] = [*_RATES, *((rate, "rest_s") for rate in _RATES)]
    return _summed(asked, period, unit, columns, conditions=_overlapping(asked), sums=sums)


def stops(asked: Asked, period: Period) -> Select[Any]:
    """By the unit in which jobs ended: the sums of what they used, of their rates, and of what they used before that unit.

    The last two times 2^`RATE_BITS`.
    """
    unit = _last_unit(asked.unit_s)
    columns = {name: _MEASURES[name] for name in AMOUNTS} | _rates(asked)
    columns["before_s"] = unit * asked.unit_s - job.c.start_at
    sums: list[_Sum] = [*AMOUNTS, *_RATES, *((rate, "before_s") for rate in _RATES)]
    return _summed(asked, period, unit, columns, conditions=_overlapping(asked), sums=sums)


def _overlapping(asked: Asked) -> list[ColumnElement[bool]]:
    """Whether a job used anything from `begin` to before `end`; one that took no time did where it ended."""
    at_once = _DURATION <= 0
    found: list[ColumnElement[bool]] = []
    if asked.begin is not None:
        found.append(or_(job.c.end_at > asked.begin, and_(at_once, job.c.end_at == asked.begin)))
    if asked.end is not None:
        found.append(case((at_once, job.c.end_at), else_=job.c.start_at) < asked.end)
    return found


def _summed(
    asked: Asked,
    period: Period,
    unit: ColumnElement[int],
    columns: Mapping[str, ColumnElement[Any]],
    *,
    conditions: Sequence[ColumnElement[bool]],
    sums: Sequence[_Sum],
) -> Select[Any]:
    """Rows of keys, levels, unit, and the sums of columns, or of products of two; 0 where all are unknown."""
    level_columns = {
        "level_type": benchmark.c.type,
        "level_value": benchmark.c.value,
        "level_per_host": benchmark.c.per_host_factor,
        "level_host_factor": case((benchmark.c.per_host_factor == 1, job.c.host_factor), else_=null()),
    }
    one = (
        select(
            *(DIMENSIONS[name].label(name) for name in asked.keys),
            *(level_columns[name].label(name) for name in asked.levels),
            unit.label("unit"),
            *(column.label(name) for name, column in columns.items()),
        )
        .select_from(_jobs(asked, period))
        .where(*counted_jobs(), *conditions, *asked.where.conditions(), period.logged.has(job.c.logged_at))
        .subquery()
    )
    keys = [one.c[name] for name in (*asked.keys, *asked.levels, "unit")]
    summed = [one.c[name] if isinstance(name, str) else one.c[name[0]] * one.c[name[1]] for name in sums]
    return select(*keys, *(func.coalesce(func.sum(of), 0) for of in summed)).group_by(*keys)


def _jobs(asked: Asked, period: Period) -> FromClause:
    """The job table, with what the ledger says where that is asked for."""
    if not asked.levels and OF_LEDGER.isdisjoint((*asked.keys, *asked.where.dimensions)):
        return job
    return with_ledger(period).outerjoin(benchmark, benchmark.c.id == usage.c.benchmark_id)
