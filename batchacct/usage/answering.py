"""What a question about usage comes to, before it is put into bins: frames of groups, units of time, and sums.

Days of which sums are kept, and that did not change since, are answered from these; all others from their rows, in the tables or
the archive. Both in one state of the database: the answer is always that of the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, case, select

from batchacct.archive.holdings import despite_archiving
from batchacct.archive.querying import duck_with
from batchacct.store.spans import ANYTIME
from batchacct.store.usage_tables import usage_day
from batchacct.usage.asking import Rows, Source, Statement, answers, rows_in
from batchacct.usage.jobs import FACTS_SCHEMA, MEASURED
from batchacct.usage.keeping import of_longest_runs, outside, unchanged_days
from batchacct.usage.packs import EVERY_KEPT, FACTS, Kept, added_up, decoded, pieces, summed_in
from batchacct.usage.summing import Asked, Summed

JOBS_AT_ONCE = 2_000_000
"""About how many jobs' facts are in memory at once."""


def answered(source: Source, asked: Asked, wanted: Sequence[Summed]) -> tuple[Asked, list[pd.DataFrame]]:
    """For each of `wanted` the sums that are asked for, and the question they are the answer to: its units may be shorter.

    Columns: keys, levels, `unit` (Unix seconds / `unit_s`), and those of the sums. A group and unit may have several rows: they are
    to be added up. Raises: StoreError, ArchiveError.
    """
    if isinstance(source, Path):
        found = answers(source, [partial(one.in_tables, asked) for one in wanted], asked.period)
        return asked, [_frame(asked, one, [rows]) for one, rows in zip(wanted, found, strict=True)]
    kept = next((kept for kept in EVERY_KEPT if kept.answers(asked)), None)
    asked = asked if kept is None else replace(asked, summed_by_s=kept.bins.unit_s)

    def ask() -> list[pd.DataFrame]:
        with source.reading() as connection:
            return _of_store(connection, asked, wanted, kept)

    return asked, despite_archiving(source, ask)


def _of_store(connection: Connection, asked: Asked, wanted: Sequence[Summed], kept: Kept | None) -> list[pd.DataFrame]:
    period = asked.period(connection)
    statements: list[Statement] = [partial(one.in_tables, asked) for one in wanted]
    clean = of_longest_runs(unchanged_days(connection)) if {*FACTS_SCHEMA.names}.issuperset(asked.needed) else []
    if not clean:
        return [_frame(asked, one, [rows]) for one, rows in zip(wanted, rows_in(connection, statements, period), strict=True)]
    others = replace(period, logged=outside(clean, period.logged))
    rows = rows_in(connection, statements, others, outside(clean, ANYTIME))
    days = _days_with_jobs(connection, asked, set(clean))
    if kept is None:
        sums = _of_facts(connection, asked, wanted, days)
    else:
        sums = [_of_kept(connection, asked, one, kept, days) for one in wanted]
    return [_frame(asked, one, [of_rows, *more]) for one, of_rows, more in zip(wanted, rows, sums, strict=True)]


def _days_with_jobs(connection: Connection, asked: Asked, clean: Collection[int]) -> dict[int, int]:
    """The days that are kept and may have jobs that are asked for, and how many they have."""
    c = usage_day.c
    first: ColumnElement[Any] = c.first_start_at if asked.counted == "started" else c.first_end_at
    last = c.last_start_at if asked.counted == "started" else c.last_end_at
    if asked.counted == "spread":
        first = case((c.first_start_at < c.first_end_at, c.first_start_at), else_=c.first_end_at)
    query = select(c.day, c.jobs).where(c.jobs > 0)
    query = query if asked.begin is None else query.where(last >= asked.begin)
    query = query if asked.end is None else query.where(first < asked.end)
    return {day: jobs for day, jobs in connection.execute(query) if day in clean}


def _of_kept(connection: Connection, asked: Asked, summed: Summed, kept: Kept, days: Collection[int]) -> list[pa.Table]:
    """From the sums that are kept."""
    names = [*asked.needed, "unit", *summed.columns]
    found = (piece for _, piece in pieces(connection, kept.kind(summed, asked), days, names))
    sums = added_up(found, asked, summed)
    return [] if sums is None else [sums]


def _of_facts(connection: Connection, asked: Asked, wanted: Sequence[Summed], days: Mapping[int, int]) -> list[list[pa.Table]]:
    """From the facts, some at a time."""
    found: list[list[pa.Table]] = [[] for _ in wanted]
    names = {*asked.needed, *MEASURED}
    with duck_with({}) as duck:
        for some in _at_once(piece for _, piece in pieces(connection, FACTS, days, names)):
            for one, tables in zip(wanted, found, strict=True):
                tables.append(summed_in(duck, some, asked, one))
    return found


def _at_once(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    together: list[pa.Table] = []
    for table in tables:
        together.append(table)
        if sum(map(len, together)) >= JOBS_AT_ONCE:
            yield pa.concat_tables(together).unify_dictionaries()
            together = []
    if together:
        yield pa.concat_tables(together).unify_dictionaries()


def _frame(asked: Asked, summed: Summed, found: Sequence[Rows | pa.Table]) -> pd.DataFrame:
    """Rows, and tables of the same columns, as one frame."""
    columns = [*asked.keys, *asked.levels, "unit", *summed.columns]
    frames = [
        decoded(one).to_pandas() if isinstance(one, pa.Table) else pd.DataFrame(one, columns=columns) for one in found if len(one)
    ]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    return frame.astype(dict.fromkeys(("unit", *summed.columns), "int64"))
