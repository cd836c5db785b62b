"""The statements of `summing` put to facts: DuckDB sums numbers by numbers, and what they stand for is put in their place.

Each group of names has a number; and where bins are longer than the units of time, as days of a zone are, a job is in a unit that
stands for all of its bin. So a group has few units, whatever they are made of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sqlalchemy import BigInteger, Column, ColumnElement, MetaData, Table

from batchacct.archive.querying import for_duck
from batchacct.usage.bins import Instants
from batchacct.usage.dimensions import Where
from batchacct.usage.jobs import MEASURED, Jobs, facts
from batchacct.usage.summing import BEGINNINGS, ENDINGS, ENDINGS_OF_ONE, UNITS, Asked, Summed

Numbers = npt.NDArray[np.int64]
_MOST = 2**62
"""Products of counts of names up to this fit into 64 bits."""

_NUMBER = "number"
_numbered = Table(
    "numbered",
    MetaData(),
    *(Column(name, BigInteger) for name in (_NUMBER, *UNITS)),
    *(Column(name, facts.c[name].type) for name in MEASURED),
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Facts with the number of the group each is of, as `number`, and what the groups are called: row N is group N."""

    jobs: pa.Table
    groups: pa.Table

    @classmethod
    def of(cls, table: pa.Table, names: Sequence[str]) -> Numbered:
        """Facts, by some of their columns, be they encoded or not."""
        numbers = _numbers(table, names)
        numbers, found = pd.factorize(numbers)
        some = np.zeros(len(found), np.int64)
        some[numbers] = np.arange(len(table))
        return cls(
            table.select(MEASURED).append_column(_NUMBER, pa.array(numbers.astype(np.int64))), table.select(names).take(some)
        )

    def with_units(self, asked: Asked) -> Numbered:
        """With the unit of time each job is in, where these are not as long as bins."""
        jobs = self.jobs
        for name, units in _units(asked, jobs).items():
            jobs = jobs.append_column(name, pa.array(units))
        return replace(self, jobs=jobs)

    def answered(self, duck: duckdb.DuckDBPyConnection, asked: Asked, summed: Summed) -> pa.Table:
        """As `summed`, where a group and unit may have several rows, and none that is all zeros.

        Most jobs are in one bin, and have no rates: so those are made only of the others. Raises: as `summed`.
        """
        if summed not in (BEGINNINGS, ENDINGS) or not set(UNITS).issubset(self.jobs.column_names):
            return self.summed(duck, asked, summed)
        c = _numbered.c
        is_of_one = c.started_in >= c.stopped_in
        of_several = self.summed(duck, asked, summed, [~is_of_one])
        if summed is BEGINNINGS:
            return of_several
        of_one = self.summed(duck, asked, ENDINGS_OF_ONE, [is_of_one])
        nothing = pa.array(np.zeros(len(of_one), np.int64))
        for name in of_several.column_names:
            of_one = of_one if name in of_one.column_names else of_one.append_column(name, nothing)
        return pa.concat_tables([of_several, of_one.select(of_several.column_names)])

    def summed(
        self, duck: duckdb.DuckDBPyConnection, asked: Asked, summed: Summed, which: Collection[ColumnElement[bool]] = ()
    ) -> pa.Table:
        """What a statement comes to: columns are those of `groups`, `unit`, and sums of 64 bits; `where` is not looked at.

        Raises: duckdb.DataError for more than 64 bits.
        """
        duck.register(_numbered.name, self.jobs)
        c = _numbered.c
        units = {name: c[name] for name in UNITS if name in self.jobs.column_names}
        jobs = Jobs(_numbered, c, {_NUMBER: c[_NUMBER]}, which, units)
        asked = replace(asked, names=(_NUMBER,), where=Where(), normalise=None)
        text, parameters = for_duck(summed.statement(asked, jobs))
        sums = ", ".join(f"CAST({name} AS BIGINT) AS {name}" for name in summed.columns)
        found: Any = duck.sql(f"SELECT {_NUMBER}, unit, {sums} FROM ({text})", params=parameters).to_arrow_table()  # noqa: S608 - names
        named = self.groups.take(found.column(_NUMBER))
        rest = found.drop_columns(_NUMBER)
        return pa.table([*named.columns, *rest.columns], [*named.column_names, *rest.column_names])


def _numbers(table: pa.Table, names: Sequence[str]) -> Numbers:
    """A number for each row, equal where these columns are."""
    numbers: Numbers = np.zeros(len(table), np.int64)
    count = 1
    for name in names:
        codes, texts = _codes(table.column(name))
        if count * texts >= _MOST:
            factorized, found = pd.factorize(numbers)
            numbers, count = factorized.astype(np.int64), len(found)
        numbers = numbers * texts + codes
        count *= texts
    return numbers


def _codes(column: Any) -> tuple[Numbers, int]:
    """A number for each value of a column, and how many there are; nothing is a value, too."""
    one: Any = pa.table([column], ["one"]).unify_dictionaries().column(0).combine_chunks()
    encoded = one if pa.types.is_dictionary(one.type) else one.dictionary_encode()
    count = len(encoded.dictionary)
    codes = encoded.indices.fill_null(count) if encoded.null_count else encoded.indices
    return codes.to_numpy(zero_copy_only=False), count + 1


def _units(asked: Asked, jobs: pa.Table) -> dict[str, Numbers]:
    """Of each job those of `UNITS` that are asked for, where bins are longer than the units of time; none where they are not.

    The curves of what is spread are read where bins meet, so it is no matter where between they bend (see `cpuhours.spreading`):
    that of a start at the end of its bin, that of an end at the beginning; then no job has more of a bin than it took time.
    """
    if not len(jobs) or not asked.has_longer_bins:
        return {}
    start, end = (jobs.column(name).to_numpy() for name in ("start_at", "end_at"))
    edges = _edges(asked, int(min(start.min(), end.min())), int(max(start.max(), end.max())))
    first_units, last_units = edges[:-1] // asked.unit_s, edges[1:] // asked.unit_s - 1

    def within(instants: Numbers, units: Numbers) -> Numbers:
        found: Numbers = units[np.searchsorted(edges, instants, side="right") - 1]
        return found

    if asked.counted == "ended":
        return {"ended_in": within(end, first_units)}
    started = within(start, last_units)
    if asked.counted == "started":
        return {"started_in": started}
    return dict(zip(UNITS, (started, within(end, first_units), within(end - (end > start), first_units)), strict=True))


def _edges(asked: Asked, first: int, last: int) -> Instants:
    """Where bins meet, and where what is spread is cut, from before an instant to behind another."""
    unit_s = asked.unit_s
    outermost = first // unit_s * unit_s, (last // unit_s + 1) * unit_s
    edges = np.array(outermost, np.int64) if asked.bins is None else asked.bins.edges(first, last)
    if asked.counted != "spread":
        return edges
    cuts = [cut for cut in (asked.begin, asked.end) if cut is not None and edges[0] < cut < edges[-1]]
    return np.union1d(edges, np.array(cuts, np.int64))
