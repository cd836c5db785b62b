"""What a question about usage comes to, before it is put into bins: frames of groups, units of time, and sums.

Days of which sums are kept, and that did not change since, are answered from these; all others from their rows, in the tables or
the archive. Both in one state of the database: the answer is always that of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from sqlalchemy import Connection, select

from batchacct.archive.holdings import despite_archiving
from batchacct.archive.layout import countable_files
from batchacct.archive.querying import duck_with, rows_of_files
from batchacct.model import JOB
from batchacct.store.spans import ANYTIME, Period
from batchacct.store.usage_tables import usage_day
from batchacct.usage.asking import Rows, Source, Statement, rows_in
from batchacct.usage.beside import Beside
from batchacct.usage.jobs import MEASURED
from batchacct.usage.keeping import of_longest_runs, of_others, outside, unchanged_days
from batchacct.usage.packs import EVERY_KEPT, FACTS, Kept, added_up, decoded, of_facts, pieces
from batchacct.usage.summing import Asked, Summed

JOBS_AT_ONCE = 2_000_000
"""About how many jobs' facts are in memory at once."""


Pieces = Callable[[str, Collection[str]], Iterable[pa.Table]]
"""Gives the pieces of a kind, with some columns, of the days that are kept and may have jobs that are asked for."""


def answered(source: Source, asked: Asked, wanted: Sequence[Summed]) -> tuple[Asked, list[pd.DataFrame]]:
    """For each of `wanted` the sums that are asked for, and the question they are the answer to: its units may be shorter.

    Columns: keys, levels, `unit` (Unix seconds / `unit_s`), and those of the sums. A group and unit may have several rows: they are
    to be added up. Raises: StoreError, ArchiveError.
    """
    kept = next((kept for kept in EVERY_KEPT if kept.answers(asked)), None)
    asked = asked if kept is None else replace(asked, summed_by_s=kept.bins.unit_s)
    if isinstance(source, Path):
        return asked, _of_folder(source, asked, wanted, kept)

    def ask() -> list[pd.DataFrame]:
        with source.reading() as connection:
            return _of_store(connection, asked, wanted, kept)

    return asked, despite_archiving(source, ask)


def _of_store(connection: Connection, asked: Asked, wanted: Sequence[Summed], kept: Kept | None) -> list[pd.DataFrame]:
    statements: list[Statement] = [partial(one.in_tables, asked) for one in wanted]
    clean = of_longest_runs(unchanged_days(connection)) if asked.can_be_kept else []
    if not clean:
        found = rows_in(connection, statements, asked.period(connection))
        return [_frame(asked, one, [rows]) for one, rows in zip(wanted, found, strict=True)]
    others = of_others(connection, clean, asked.period(connection, identities=False).logged)
    rows = rows_in(connection, statements, others, outside(clean, ANYTIME))
    days = _with_jobs(connection.execute(select(usage_day)).mappings(), asked).intersection(clean)

    def of_days(kind: str, names: Collection[str]) -> Iterator[pa.Table]:
        return (piece for _, piece in pieces(connection, kind, days, names))

    sums = _of_pieces(of_days, asked, wanted, kept)
    return [_frame(asked, one, [of_rows, *more]) for one, of_rows, more in zip(wanted, rows, sums, strict=True)]


def _of_folder(folder: Path, asked: Asked, wanted: Sequence[Summed], kept: Kept | None) -> list[pd.DataFrame]:
    files = [(file, manifest, Beside.of(file, manifest)) for file, manifest in countable_files(folder, JOB)]
    found: list[list[Rows | pa.Table]] = [[] for _ in wanted]
    bare = [(file, manifest) for file, manifest, beside in files if beside is None or not asked.can_be_kept]
    have_sums = [(file, manifest, beside) for file, manifest, beside in files if beside is not None and asked.can_be_kept]
    for rows, one in zip(found, wanted, strict=True):
        rows.append(rows_of_files(bare, one.in_tables(asked, Period())) if bare else [])
        for file, manifest, beside in have_sums:
            others = outside([row["day"] for row in beside.days], ANYTIME)
            if others.meets(manifest.first_at, manifest.last_at):
                rows.append(rows_of_files([(file, manifest)], one.in_tables(asked, Period(others))))

    def of_days(kind: str, names: Collection[str]) -> Iterator[pa.Table]:
        for _, _, beside in have_sums:
            yield from (piece for _, piece in beside.pieces(kind, _with_jobs(beside.days, asked), names))

    sums = _of_pieces(of_days, asked, wanted, kept)
    return [_frame(asked, one, [*rows, *more]) for one, rows, more in zip(wanted, found, sums, strict=True)]


def _with_jobs(days: Iterable[Mapping[Any, Any]], asked: Asked) -> set[int]:
    """The days, of rows of `usage_day`, that may have jobs that are asked for."""

    def may_have(row: Mapping[Any, Any]) -> bool:
        if not row["jobs"]:
            return False
        how = "start" if asked.counted == "started" else "end"
        first, last = row[f"first_{how}_at"], row[f"last_{how}_at"]
        if asked.counted == "spread":
            first = min(first, row["first_start_at"])
        return (asked.begin is None or last >= asked.begin) and (asked.end is None or first < asked.end)

    return {row["day"] for row in days if may_have(row)}


def _of_pieces(of_days: Pieces, asked: Asked, wanted: Sequence[Summed], kept: Kept | None) -> list[list[pa.Table]]:
    """For each of `wanted` what comes of the sums that are kept, or of the facts."""
    return _of_facts(of_days, asked, wanted) if kept is None else [_of_kept(of_days, asked, one, kept) for one in wanted]


def _of_kept(of_days: Pieces, asked: Asked, summed: Summed, kept: Kept) -> list[pa.Table]:
    """From the sums that are kept."""
    sums = added_up(of_days(kept.kind(summed, asked), [*asked.needed, "unit", *summed.columns]), asked, summed)
    return [] if sums is None else [sums]


def _of_facts(of_days: Pieces, asked: Asked, wanted: Sequence[Summed]) -> list[list[pa.Table]]:
    """From the facts, some at a time."""
    found: list[list[pa.Table]] = [[] for _ in wanted]
    with duck_with({}) as duck:
        for some in _at_once(of_days(FACTS, {*asked.needed, *MEASURED})):
            for tables, sums in zip(found, of_facts(duck, some, asked, wanted), strict=True):
                tables.append(sums)
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
