"""Sums of usage kept, day by day, and kept up to date: the days that changed are summed anew.

A day is that of the logs (`logged_at`), so that what comes touches few of them. It is read from the tables and the archive in one
state of the database; what changes meanwhile says so (`store.changed_days`), and the day is summed once more the next time. Until
then, as long as it is not summed, it is answered from its rows (`answering`).

Who does this holds the lock of publishing, as who archives or purges does: files of the archive are not replaced meanwhile.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Select, delete, func, insert, select

from batchacct.archive.querying import archived_rows, archived_tables, duck_with
from batchacct.clock import shown, unix_now
from batchacct.crashpoints import crash_point
from batchacct.store import HeldLocks, Store
from batchacct.store.changed_days import DAYS_AT_ONCE, note_changed, take_over_appended
from batchacct.store.spans import ANYTIME, DAY, Period, Span, Spans, all_logged, has_partitions, when_logged
from batchacct.store.tables import job, setting
from batchacct.store.usage_tables import usage_appended, usage_changed, usage_day, usage_pack
from batchacct.usage.jobs import FACTS_SCHEMA, RECORDS_SCHEMA, facts_in_tables, records_in_tables
from batchacct.usage.packs import RECORDS, decoded, encoded, kept_of, packed, pieces

log = logging.getLogger(__name__)

LOCK = "publish"
JOBS_AT_ONCE = 200_000
"""About how many jobs are in memory at once."""
BEGUN = "usage.kept"
"""The setting that is there once it is said of every day that has to be summed."""
FEW = 1_000
"""So many jobs are summed from their rows as quickly as anything else."""
MOST_RUNS = 200
"""So many separate runs of days are named in a statement: databases bound its length, SQLite to a thousand conditions."""
LONGEST_GAP = 31
"""So many days without jobs between two with some are noted as such: else each question would look for rows there."""

_CHANGED = select(usage_changed.c.day).union(select(usage_appended.c.day))

Progress = Callable[[int, int], None]
"""Told how many of how many days are done."""


def unchanged_days(connection: Connection) -> list[int]:
    """The days that are kept as their rows are, in order."""
    days = select(usage_day.c.day).order_by(usage_day.c.day)
    return list(connection.scalars(days.where(usage_day.c.day.not_in(_CHANGED))))


def changed_days(connection: Connection) -> list[int]:
    """The days that are summed from their rows, as these changed or their sums have more than 64 bits, in order."""
    return sorted(connection.scalars(_CHANGED))


def of_longest_runs(days: Sequence[int]) -> list[int]:
    """Of some days, which are in order, those of the longest runs of neighbours, as many as can be named in a statement.

    It is no matter which days are answered from what is kept: the others are answered from their rows.
    """
    longest = sorted(_runs(days), key=lambda run: run[1] - run[0])[-MOST_RUNS:]
    return [day for begin, end in sorted(longest) for day in range(begin, end, DAY)]


def outside(days: Sequence[int], within: Span) -> Spans:
    """The instants of a span that are on none of some days, which are in order."""
    spans: list[Span] = []
    first = within.first
    for begin, end in _runs(days):
        if within.meets(begin, end - 1):
            if first is None or first < begin:
                spans.append(Span(first, begin - 1))
            first = end
    if within.last is None or first is None or first <= within.last:
        spans.append(Span(first, within.last))
    return Spans(of=tuple(spans))


def of_others(connection: Connection, clean: Sequence[int], logged: Span) -> Period | None:
    """The jobs logged in a span on other days than those, which are in order; None where there are none."""
    every = all_logged(connection)
    if not outside(clean, every).of:
        return None
    others = outside(clean, every if logged is ANYTIME and has_partitions(connection) else logged)
    if not others.of:
        return None
    first, last = others.ends
    if first is None or last is None:
        return Period(others)
    return Period(others, when_logged(connection, first, last + 1).identities)


def _runs(days: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring days together: when they begin, and end."""
    for _, run in itertools.groupby(enumerate(days), lambda numbered: numbered[1] - numbered[0] * DAY):
        together = [day for _, day in run]
        yield together[0], together[-1] + DAY


def refresh(store: Store, locks: HeldLocks, told: Progress = lambda done, of: None, *, at_least: int | None = None) -> int:
    """Sums the days anew that changed, the first time all there are; how many days that were.

    As long as these have fewer than `at_least` jobs together (`FEW`), they are left to their rows. Some days at a time, each in a
    transaction: whoever is stopped goes on the next time. `locks` hold `LOCK`. Raises: ArchiveError, StoreError.
    """
    with store.appending() as connection:
        take_over_appended(connection)
        _begin(connection)
    with store.reading() as connection:
        jobs = _days_to_sum(connection)
    if sum(jobs.values()) < (FEW if at_least is None else at_least):
        return 0
    seen = summed = 0
    for days in portions(jobs):
        summed += _sum_anew(store, locks, days, jobs)
        seen += len(days)
        told(seen, len(jobs))
    return summed


def forget_all(store: Store) -> None:
    """Drops all that is kept."""
    with store.writing() as connection:
        for table in (usage_pack, usage_day, usage_changed):
            connection.execute(delete(table))
        connection.execute(delete(setting).where(setting.c.name == BEGUN))


def _begin(connection: Connection) -> None:
    """Says of every day with jobs that it changed, the first time: since then, whoever brings jobs says so."""
    if connection.scalar(select(setting.c.name).where(setting.c.name == BEGUN)) is None:
        days = _records_by_day(connection, Span(0, None))
        note_changed(connection, days)
        connection.execute(insert(setting).values(name=BEGUN, value="", since=unix_now()))


def _days_to_sum(connection: Connection) -> dict[int, int]:
    """The days that changed, in order, and about how many records each has; and those without any between days that are near."""
    changed = connection.scalars(select(usage_changed.c.day).where(usage_changed.c.day >= 0).distinct())
    counts = dict.fromkeys(sorted(changed), 0)
    spans = [Span(begin, end - 1) for begin, end in _runs(list(counts))]
    for start in range(0, len(spans), MOST_RUNS):
        counts |= _records_by_day(connection, Spans(of=tuple(spans[start : start + MOST_RUNS])))
    for before, after in itertools.pairwise(sorted({*unchanged_days(connection), *counts})):
        if after - before <= LONGEST_GAP * DAY:
            counts |= dict.fromkeys(range(before + DAY, after, DAY), 0)
    return dict(sorted(counts.items()))


def _records_by_day(connection: Connection, within: Span) -> dict[int, int]:
    """The days of a span that have records, in the tables or the archive, and how many."""
    by_day = records_by_day(within)
    return counted([*connection.execute(by_day), *archived_rows(connection, by_day, within=within)])


def records_by_day(within: Span) -> Select[tuple[int, int]]:
    """The days of a span that have records (Unix seconds / `DAY`), and how many."""
    some = select((job.c.logged_at // DAY).label("number")).where(within.has(job.c.logged_at)).subquery()
    return select(some.c.number, func.count()).group_by(some.c.number)


def counted(rows: Iterable[Sequence[Any]]) -> dict[int, int]:
    """Rows of `records_by_day` added up, by day (Unix seconds)."""
    counts: Counter[int] = Counter()
    for number, records in rows:
        counts[int(number) * DAY] += int(records)
    return dict(counts)


def portions(jobs: Mapping[int, int]) -> Iterator[list[int]]:
    """Days that are summed together; one of very many jobs alone."""
    portion: list[int] = []
    together = 0
    for day, count in jobs.items():
        if portion and (together + count > JOBS_AT_ONCE or len(portion) == DAYS_AT_ONCE):
            yield portion
            portion, together = [], 0
        portion.append(day)
        together += count
    if portion:
        yield portion


def _sum_anew(store: Store, locks: HeldLocks, days: Sequence[int], jobs: Mapping[int, int]) -> int:
    """Keeps some days as their rows are now; how many days that were: one whose sums have more than 64 bits is left to its rows."""
    try:
        with store.reading() as connection:
            of_days = select(usage_changed.c.id).where(usage_changed.c.day.in_(days))
            changes = connection.scalars(of_days).all()
            made = made_of(lambda span: _read(store, connection, span), days, jobs)
    except duckdb.DataError:
        if len(days) > 1:
            return sum(_sum_anew(store, locks, [day], jobs) for day in days)
        log.warning("day=%s: its sums do not fit into 64 bits, and it is always summed from its rows", shown(days[0]))
        return 0
    crash_point("usage.summed")
    with store.writing() as connection:
        for table in (usage_day, usage_pack):
            connection.execute(delete(table).where(table.c.day.in_(days)))
        connection.execute(insert(usage_day), made.days)
        if made.packs:
            connection.execute(insert(usage_pack), made.packs)
        for start in range(0, len(changes), DAYS_AT_ONCE):
            connection.execute(delete(usage_changed).where(usage_changed.c.id.in_(changes[start : start + DAYS_AT_ONCE])))
        locks.require(LOCK)
        crash_point("usage.before-commit")
    return len(days)


@dataclass(frozen=True, slots=True)
class Made:
    """Rows of `usage_day` and of `usage_pack`."""

    days: list[dict[str, int | None]]
    packs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Read:
    """What is read of jobs to be kept: `FACTS_SCHEMA` of those that are counted, `RECORDS_SCHEMA` of all records."""

    facts: pa.Table
    records: pa.Table

    def kept(self) -> dict[str, pa.Table]:
        """By kind all that is kept of it, each with `day`.  Raises: duckdb.DataError for products or sums of more than 64 bits."""
        with duck_with({}) as duck:
            return {**kept_of(duck, self.facts), RECORDS: encoded(self.records)}


def made_of(read: Callable[[Span], Read], days: Sequence[int], jobs: Mapping[int, int]) -> Made:
    """What is to be kept of some days, of about so many jobs.  Raises: duckdb.DataError as `Read.kept`, and as `read`."""
    bounds = [FACTS_SCHEMA.empty_table().select(["day", "start_at", "end_at"])]
    packs: list[dict[str, Any]] = []
    for piece, span in enumerate(spans_of(days, jobs)):
        found = read(span)
        bounds.append(found.facts.select(["day", "start_at", "end_at"]))
        for (day, kind), of_day in by_days(found.kept()).items():
            packs.append({"day": day, "kind": kind, "piece": piece, "packed": packed(kind, of_day)})
    return Made(_rows_of_days(days, pa.concat_tables(bounds)), packs)


def _rows_of_days(days: Sequence[int], jobs: pa.Table) -> list[dict[str, int | None]]:
    wanted: Any = [("day", "count"), *((f"{name}_at", best) for name in ("start", "end") for best in ("min", "max"))]
    sums: Any = jobs.group_by("day").aggregate(wanted)
    found = {row["day"] * DAY: row for row in sums.to_pylist()}
    columns = {"jobs": "day_count", "first_start_at": "start_at_min", "last_start_at": "start_at_max"}
    columns |= {"first_end_at": "end_at_min", "last_end_at": "end_at_max"}
    nothing = dict.fromkeys(columns.values()) | {"day_count": 0}
    return [{"day": day, **{name: found.get(day, nothing)[of] for name, of in columns.items()}} for day in days]


def spans_of(days: Sequence[int], jobs: Mapping[int, int]) -> list[Span]:
    """When the jobs of days that are summed together were logged; one of very many jobs in parts."""
    some = [day for day in days if jobs[day]]
    if len(some) != 1:
        runs = tuple(Span(begin, end - 1) for begin, end in _runs(some))
        return [Spans(some[0], some[-1] + DAY - 1, runs)] if some else []
    length = -(-DAY // (1 + jobs[some[0]] // JOBS_AT_ONCE))
    return [Span(begin, min(begin + length, some[0] + DAY) - 1) for begin in range(some[0], some[0] + DAY, length)]


def _read(store: Store, connection: Connection, span: Span) -> Read:
    """What is kept of the jobs that were logged in a span, wherever they are.  Raises: ArchiveError, StoreError."""
    assert span.first is not None
    assert span.last is not None
    period = Period(span, when_logged(connection, span.first, span.last + 1).identities, _ids(connection, span))
    tables = [pa.Table.from_batches([store.dialect.fetch(connection, facts_in_tables(period), FACTS_SCHEMA)])]
    archived = archived_tables(connection, facts_in_tables(Period(span)), span)
    facts = pa.concat_tables([*tables, *(table.cast(FACTS_SCHEMA) for table in archived)])
    records = records_in_tables(Period(span))
    rows = [*connection.execute(records), *archived_rows(connection, records, within=span)]
    return Read(facts, records_of(rows))


def _ids(connection: Connection, span: Span) -> Span:
    """Within what numbers the jobs are that were logged in a span: the ledger, which has no months, is read there alone."""
    if not has_partitions(connection):
        return ANYTIME
    extremes = select(func.min(job.c.id), func.max(job.c.id)).where(span.has(job.c.logged_at))
    return Span(*connection.execute(extremes).one())


def records_of(rows: Iterable[Sequence[Any]]) -> pa.Table:
    """Rows of `records_in_tables`."""
    return pa.Table.from_pylist([dict(zip(RECORDS_SCHEMA.names, row, strict=True)) for row in rows], RECORDS_SCHEMA)


def by_days(kept: Mapping[str, pa.Table]) -> dict[tuple[int, str], pa.Table]:
    """Tables with `day` by day (Unix seconds) and kind, without it."""
    found: dict[tuple[int, str], pa.Table] = {}
    for kind, table in ((kind, table) for kind, table in kept.items() if len(table)):
        ordered = table.sort_by("day")
        numbers, begins = np.unique(ordered.column("day").to_numpy(), return_index=True)
        rest = ordered.drop_columns("day")
        for number, begin, end in zip(numbers.tolist(), begins.tolist(), [*begins.tolist()[1:], len(ordered)], strict=True):
            found[number * DAY, kind] = rest.slice(begin, end - begin)
    return found


# --- held against the rows ----------------------------------------------------------------------------------------------


def differing(store: Store, told: Progress = lambda done, of: None) -> tuple[int, dict[int, list[str]]]:
    """How many days are taken for unchanged, and those of them that are not what their rows come to, with the kinds that differ.

    Who calls it holds `LOCK`, so that nothing but appending goes on. Raises: ArchiveError, StoreError.
    """
    with store.reading() as connection:
        clean = set(unchanged_days(connection))
        rows = connection.execute(select(usage_day.c.day, usage_day.c.jobs).order_by(usage_day.c.day))
        jobs = {day: count for day, count in rows if day in clean}
    found: dict[int, list[str]] = {}
    done = 0
    for days in portions(jobs):
        with store.reading() as connection:
            unchanged = set(unchanged_days(connection))
            found |= _differing_of(store, connection, [day for day in days if day in unchanged], jobs)
        done += len(days)
        told(done, len(jobs))
    return len(jobs), found


def _differing_of(store: Store, connection: Connection, days: Sequence[int], jobs: Mapping[int, int]) -> dict[int, list[str]]:
    """Those of some days that differ, with the kinds; one whose sums have more than 64 bits is not to be kept at all."""
    if not days:
        return {}
    found = [_read(store, connection, span) for span in spans_of(days, {day: max(jobs[day], 1) for day in days})]
    try:
        facts, records = (pa.concat_tables([getattr(one, name) for one in found]) for name in ("facts", "records"))
        should = Read(facts, records).kept()
    except duckdb.DataError:
        if len(days) == 1:
            return {days[0]: ["more than 64 bits"]}
        return {day: kinds for one in days for day, kinds in _differing_of(store, connection, [one], jobs).items()}
    return compared(should, lambda kind: pieces(connection, kind, set(days)), days)


def compared(
    should: Mapping[str, pa.Table], kept: Callable[[str], Iterable[tuple[int, pa.Table]]], days: Sequence[int]
) -> dict[int, list[str]]:
    """The days of which something else is kept than should be, with the kinds; `kept` gives pieces of a kind after their days."""
    found: dict[int, list[str]] = {}
    for kind, table in should.items():
        with_days = [piece.append_column("day", pa.array(np.full(len(piece), day // DAY))) for day, piece in kept(kind)]
        is_kept, wanted = _in_order([*with_days, table.slice(0, 0)], table.column_names), _in_order([table], table.column_names)
        for day in () if is_kept.equals(wanted) else days:
            of_day = pc.field("day") == day // DAY
            if not is_kept.filter(of_day).equals(wanted.filter(of_day)):
                found.setdefault(day, []).append(kind)
    return found


_ADDED_UP = {"first_at": "min", "last_at": "max"}


def _in_order(tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    """The rows of some tables, the sums of those with the same keys added up, in one order."""
    table = pa.concat_tables([decoded(table.select(list(names))) for table in tables])
    if "unit" in names:
        last_key = names.index("unit")
        sums: Any = table.group_by(list(names[: last_key + 1]), use_threads=False)
        table = sums.aggregate([(name, "sum") for name in names[last_key + 1 :]])
    return table.sort_by([(name, "ascending") for name in table.column_names]).combine_chunks()
