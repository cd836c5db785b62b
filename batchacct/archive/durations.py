"""Wallclock and CPU of records, added up exactly: in whole microseconds, so that the order in which they are added makes no odds.

A process states its times as numbers of seconds, of which each is rounded to a microsecond, halves up; all databases, and Arrow,
come to the same sum.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import BigInteger, ColumnElement, Float, Table, func, literal
from sqlalchemy import cast as as_type
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

SECOND_US = 1_000_000

_COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "job": (("wall_duration_s",), ("cpu_duration_s",)),
    "process": (("elapsed_s",), ("cpu_user_s", "cpu_system_s")),
}
"""By record type the columns that are its wallclock, and its CPU time."""


def columns_of(record_type: str) -> list[str]:
    """The columns that are added up."""
    return [name for names in _COLUMNS.get(record_type, ()) for name in names]


def of_batch(record_type: str, batch: pa.RecordBatch) -> tuple[int, int]:
    """Wallclock and CPU of some records, in microseconds; what has no durations adds none."""
    wall, cpu = (sum(_total(batch.column(name)) for name in names) for names in _COLUMNS.get(record_type, ((), ())))
    return wall, cpu


def _total(column: pa.Array[Any]) -> int:
    if column.type == pa.int64():
        return int(pc.sum(column).as_py() or 0) * SECOND_US
    seconds = cast("Any", column.drop_null()).to_numpy(zero_copy_only=False)
    return int(np.floor(seconds * float(SECOND_US) + 0.5).astype(np.int64).sum())


def of_table(table: Table) -> list[ColumnElement[int]]:
    """Two columns of a SELECT over a table, for `microseconds`."""
    return [_sum([table.c[name] for name in names]) for names in _COLUMNS.get(table.name, ((), ()))]


def microseconds(record_type: str, *sums: int | None) -> tuple[int, ...]:
    """What `of_table` gave as microseconds: whole seconds are added up as such, or the sum could be too great for a database."""
    return tuple(int(one or 0) * (SECOND_US if record_type == "job" else 1) for one in sums)


def _sum(columns: list[Any]) -> ColumnElement[int]:
    total: ColumnElement[int] = literal(0)
    for column in columns:
        total = total + func.coalesce(func.sum(_whole(column)), 0)
    return total


def _whole(column: Any) -> Any:
    if isinstance(column.type, BigInteger):
        return column
    return as_type(_Floor(column * literal(float(SECOND_US), Float(53)) + literal(0.5, Float(53))), BigInteger)


class _Floor(GenericFunction[Any]):
    """The greatest whole number that is not greater, of what is not below 0."""

    name = "floor"
    inherit_cache = True


@compiles(_Floor, "sqlite")
def _cut_off(element: _Floor, compiler: SQLCompiler, **options: Any) -> str:
    """SQLite may be built without floor(); its CAST cuts off."""
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"
