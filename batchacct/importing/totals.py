"""Totals of both sides, by month and what else tells cells apart: jobs, wallclock, CPU time; and where they differ.

What stands in the store for the rows of an import are the records of its own sources, and those that were here before, from logs:
for these each row is held against the store once more, and what counts is the record that stands for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, func, literal, select

from batchacct.parsing.rows import RowValues
from batchacct.store import Store
from batchacct.store.tables import identity, job

DAY = 86_400
IDS_PER_QUERY = 500

Key = tuple[str, ...]
"""Month (UTC) and what else tells cells apart."""


class Sums(NamedTuple):
    """Jobs (or identities), wallclock and CPU time in seconds."""

    jobs: int
    wall_s: int
    cpu_s: int


NOTHING = Sums(0, 0, 0)
Totals = dict[Key, Sums]
Cell = Callable[[RowValues], Key]
"""The cell that a row of a foreign table belongs to."""


def added(one: Sums, other: Sums) -> Sums:
    return Sums(*(a + b for a, b in zip(one, other, strict=True)))


def add(totals: Totals, key: Key, sums: Sums) -> None:
    totals[key] = added(totals.get(key, NOTHING), sums)


def month_of_day(day: int) -> str:
    """`2012-05` of the days since 1970."""
    return f"{dt.datetime.fromtimestamp(day * DAY, dt.UTC):%Y-%m}"


def month_of(at: int) -> str:
    """`2012-05` of an instant (Unix seconds)."""
    return month_of_day(at // DAY)


@dataclass(frozen=True, slots=True)
class Difference:
    """A cell of which the two sides say different things."""

    key: Key
    there: Sums
    here: Sums


def differences(there: Mapping[Key, Sums], here: Mapping[Key, Sums]) -> list[Difference]:
    """Where they differ, in order."""
    keys = sorted(there.keys() | here.keys())
    pairs = ((key, there.get(key, NOTHING), here.get(key, NOTHING)) for key in keys)
    return [Difference(key, one, other) for key, one, other in pairs if one != other]


def folded(totals: Mapping[Key, Sums], length: int) -> Totals:
    """The same by the first parts of the keys."""
    found: Totals = {}
    for key, sums in totals.items():
        add(found, key[:length], sums)
    return found


Label = Callable[[str, tuple[Any, ...]], Key]
"""From a month and values of columns to a cell."""


def jobs_here(store: Store, sources: Iterable[str], label: Label, *told: str, with_identities: bool = False) -> Totals:
    """What the jobs in force of some sources come to, by month and by these columns of theirs.

    with_identities: and by VO and computing element of the identity that was imported with each under the same key, and its source,
    null where there is none.
    """
    rows: FromClause = job
    columns: dict[str, ColumnElement[Any]] = {name: job.c[name] for name in told}
    if with_identities:
        with_it = and_(identity.c.record_key == job.c.record_key, identity.c.recorded_at == job.c.logged_at)
        rows = job.outerjoin(identity, and_(with_it, identity.c.superseded_by.is_(None)))
        columns |= {"vo": identity.c.vo, "ce_id": identity.c.ce_id, "who": identity.c.source}
    one = select((job.c.end_at // DAY).label("day"), *(column.label(name) for name, column in columns.items()))
    one = one.add_columns(job.c.wall_duration_s, job.c.cpu_duration_s).select_from(rows)
    return _summed(store, one.where(job.c.source.in_(sorted(sources)), job.c.superseded_by.is_(None)), label, *columns)


def identities_here(store: Store, source: str, label: Label, *told: str) -> Totals:
    """How many identities in force of a source there are, by month and by these columns."""
    nothing = (literal(0).label(name) for name in ("wall_duration_s", "cpu_duration_s"))
    one = select((identity.c.recorded_at // DAY).label("day"), *(identity.c[name] for name in told), *nothing)
    return _summed(store, one.where(identity.c.source == source, identity.c.superseded_by.is_(None)), label, *told)


def _summed(store: Store, one: Select[Any], label: Label, *told: str) -> Totals:
    rows = one.subquery("one")
    keys = [rows.c.day, *(rows.c[name] for name in told)]
    sums = (func.count(), func.sum(rows.c.wall_duration_s), func.sum(rows.c.cpu_duration_s))
    found: Totals = {}
    with store.reading() as connection:
        for day, *named, jobs, wall, cpu in connection.execute(select(*keys, *sums).group_by(*keys)):
            add(found, label(month_of_day(int(day)), tuple(named)), Sums(int(jobs), int(wall or 0), int(cpu or 0)))
    return found


def standing(connection: Connection, numbers: Iterable[int]) -> Iterator[tuple[int, Sums]]:
    """Wallclock and CPU time of some jobs, by their numbers."""
    ordered = sorted(set(numbers))
    columns = job.c.id, job.c.wall_duration_s, job.c.cpu_duration_s
    for start in range(0, len(ordered), IDS_PER_QUERY):
        some = select(*columns).where(job.c.id.in_(ordered[start : start + IDS_PER_QUERY]))
        for number, wall, cpu in connection.execute(some):
            yield number, Sums(1, wall or 0, cpu or 0)
