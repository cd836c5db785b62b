"""The statements that sum jobs: as wholes where they ended or started, or their rates, from which `spreading` spreads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, and_, case, cast, func, literal, null, or_, select

from batchacct.store.spans import Period, since, when_ended
from batchacct.usage.bins import Bins
from batchacct.usage.dimensions import Where
from batchacct.usage.jobs import FACTS_SCHEMA, LEVEL, Columns, Jobs, in_tables

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
LEFT_WHOLE = tuple(name for name in TOTALS if name not in AMOUNTS)
STARTS = (*_RATES, *(f"{name}_of_first" for name in AMOUNTS))
STOPS = (*AMOUNTS, *_RATES, *(f"{name}_before" for name in AMOUNTS))
"""The columns of the statements of these names, after those of the groups and `unit`."""

UNITS = ("started_in", "ended_in", "stopped_in")
"""Names of the units of time that a job is summed by: in which it started, ended, and used something for the last time."""

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
    summed_by_s: int | None = None
    """Seconds of the units of time, where they are to be shorter than they need be."""

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
        if self.summed_by_s is not None:
            return self.summed_by_s
        unit = DAY_S if self.bins is None else self.bins.unit_s
        return math.gcd(unit, self.begin or 0, self.end or 0) if self.counted == "spread" else unit

    @property
    def has_longer_bins(self) -> bool:
        """Whether bins, and where they cut jobs the bounds, are further from each other than units of time."""
        if self.bins is None:
            return self.counted == "spread"
        return self.bins.fixed_s != self.unit_s

    @property
    def needed(self) -> list[str]:
        """All that has to be known of a job, beside what is summed."""
        return [*self.keys, *self.where.dimensions, *self.levels]

    @property
    def can_be_kept(self) -> bool:
        """Whether what is kept of jobs for sums has all that is needed."""
        return {*FACTS_SCHEMA.names}.issuperset(self.needed)

    def period(self, connection: Connection, *, identities: bool = True) -> Period:
        """When what is asked for was logged."""
        if self.counted == "started":
            return Period() if self.begin is None else Period(since(connection, self.begin))
        end = self.end if self.counted == "ended" else None
        return when_ended(connection, self.begin, end, identities=identities)


def within(instant: ColumnElement[int], begin: int | None, end: int | None) -> list[ColumnElement[bool]]:
    found = [] if begin is None else [instant >= begin]
    return found if end is None else [*found, instant < end]


def _energy(told: ColumnElement[float]) -> ColumnElement[int]:
    """Whole joules. Databases differ in how they make an integer of a real number, but never by one or more."""
    whole = cast(told, BigInteger)
    floor = whole - case((whole > told, 1), else_=0)
    return case((told.between(0, MOST_ENERGY_J), floor), else_=null())


def _measures(one: Columns) -> Mapping[str, ColumnElement[Any]]:
    """Of one job each of `SUMS` and `BOTH`; null where it is unknown."""
    cpu, wall, gpus = one.cpu_duration_s, one.wall_duration_s, one.gpu_count
    core, wait, energy = wall * one.processors, one.start_at - one.submit_at, _energy(one.energy_j)
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


def totals(asked: Asked, jobs: Jobs) -> Select[Any]:
    """Sums of whole jobs by keys, levels and unit of time, those in which they started or ended: `TOTALS`."""
    return _wholes(asked, jobs, TOTALS)


def left_whole(asked: Asked, jobs: Jobs) -> Select[Any]:
    """The same of what is never spread: `LEFT_WHOLE`."""
    return _wholes(asked, jobs, LEFT_WHOLE)


def _wholes(asked: Asked, jobs: Jobs, columns: Sequence[str]) -> Select[Any]:
    """Some of `TOTALS`.

    Grouping is by the columns of an inner query, never by repeated expressions: their bind parameters would make PostgreSQL
    take them for two different things.
    """
    instant, name = (jobs.c.start_at, "started_in") if asked.counted == "started" else (jobs.c.end_at, "ended_in")
    unit = literal(0) if asked.bins is None else jobs.units.get(name, instant // asked.unit_s)
    conditions = within(instant, asked.begin, asked.end)
    return _summed(asked, jobs, unit, _measures(jobs.c), conditions=conditions, sums=dict(zip(columns, columns, strict=True)))


def _duration(one: Columns) -> Any:
    return one.end_at - one.start_at


def _first_unit(jobs: Jobs, unit_s: int) -> ColumnElement[int]:
    return jobs.units.get("started_in", jobs.c.start_at // unit_s)


def _last_unit(jobs: Jobs, unit_s: int) -> Any:
    """The unit of a job's last second; one that took no time is in that of its end."""
    return jobs.units.get("stopped_in", (jobs.c.end_at - case((_duration(jobs.c) > 0, 1), else_=0)) // unit_s)


def _rates(jobs: Jobs, unit_s: int) -> dict[str, ColumnElement[int]]:
    """Of one job what it uses a second of each of `AMOUNTS`, times 2^`RATE_BITS`, rounded down; 0 if it is in one unit only.

    What rounding leaves is where the job ended.
    """
    duration, measures = _duration(jobs.c), _measures(jobs.c)
    of_several = and_(duration > 0, _first_unit(jobs, unit_s) < _last_unit(jobs, unit_s))
    return {
        f"{name}_rate": case((and_(of_several, amount <= MOST_SPREAD), amount * 2**RATE_BITS // duration), else_=0)
        for name, amount in ((name, measures[name]) for name in AMOUNTS)
    }


def starts(asked: Asked, jobs: Jobs) -> Select[Any]:
    """By the unit in which jobs started: the sums of their rates, and of what they used of that unit, times 2^`RATE_BITS`."""
    unit = _first_unit(jobs, asked.unit_s)
    columns = _rates(jobs, asked.unit_s) | {"rest_s": (unit + 1) * asked.unit_s - jobs.c.start_at}
    sums: list[_Sum] = [*_RATES, *((rate, "rest_s") for rate in _RATES)]
    return _summed(asked, jobs, unit, columns, conditions=_overlapping(asked, jobs.c), sums=dict(zip(STARTS, sums, strict=True)))


def stops(asked: Asked, jobs: Jobs) -> Select[Any]:
    """By the unit in which jobs ended: the sums of what they used, of their rates, and of what they used before that unit.

    The last two times 2^`RATE_BITS`.
    """
    unit, measures = _last_unit(jobs, asked.unit_s), _measures(jobs.c)
    columns = {name: measures[name] for name in AMOUNTS} | _rates(jobs, asked.unit_s)
    columns["before_s"] = unit * asked.unit_s - jobs.c.start_at
    sums: list[_Sum] = [*AMOUNTS, *_RATES, *((rate, "before_s") for rate in _RATES)]
    return _summed(asked, jobs, unit, columns, conditions=_overlapping(asked, jobs.c), sums=dict(zip(STOPS, sums, strict=True)))


def stops_of_one(asked: Asked, jobs: Jobs) -> Select[Any]:
    """What `stops` says of jobs that were in one unit only, whose rates are 0: `AMOUNTS`."""
    measures = _measures(jobs.c)
    columns = {name: measures[name] for name in AMOUNTS}
    sums = dict(zip(AMOUNTS, AMOUNTS, strict=True))
    return _summed(asked, jobs, _last_unit(jobs, asked.unit_s), columns, conditions=_overlapping(asked, jobs.c), sums=sums)


def _overlapping(asked: Asked, one: Columns) -> list[ColumnElement[bool]]:
    """Whether a job used anything from `begin` to before `end`; one that took no time did where it ended."""
    at_once = _duration(one) <= 0
    found: list[ColumnElement[bool]] = []
    if asked.begin is not None:
        found.append(or_(one.end_at > asked.begin, and_(at_once, one.end_at == asked.begin)))
    if asked.end is not None:
        found.append(case((at_once, one.end_at), else_=one.start_at) < asked.end)
    return found


def _summed(
    asked: Asked,
    jobs: Jobs,
    unit: ColumnElement[int],
    columns: Mapping[str, ColumnElement[Any]],
    *,
    conditions: Sequence[ColumnElement[bool]],
    sums: Mapping[str, _Sum],
) -> Select[Any]:
    """Rows of keys, levels, unit, and the sums of columns, or of products of two; 0 where all are unknown."""
    one = (
        select(
            *(jobs.named[name].label(name) for name in (*asked.keys, *asked.levels)),
            unit.label("unit"),
            *(column.label(name) for name, column in columns.items()),
        )
        .select_from(jobs.of)
        .where(*jobs.which, *conditions, *asked.where.conditions(jobs.named))
        .subquery()
    )
    keys = [one.c[name] for name in (*asked.keys, *asked.levels, "unit")]
    summed = ((one.c[of] if isinstance(of, str) else one.c[of[0]] * one.c[of[1]]).label(name) for name, of in sums.items())
    return select(*keys, *(func.coalesce(func.sum(of), 0).label(of.name) for of in summed)).group_by(*keys)


@dataclass(frozen=True, slots=True)
class Summed:
    """One of the statements above, and the columns of its sums."""

    statement: Callable[[Asked, Jobs], Select[Any]]
    columns: tuple[str, ...]

    def in_tables(self, asked: Asked, period: Period) -> Select[Any]:
        """It, put to the tables."""
        return self.statement(asked, in_tables(period, asked.needed))


WHOLES, BEGINNINGS, ENDINGS = Summed(totals, TOTALS), Summed(starts, STARTS), Summed(stops, STOPS)
BESIDE_SPREAD, ENDINGS_OF_ONE = Summed(left_whole, LEFT_WHOLE), Summed(stops_of_one, AMOUNTS)
