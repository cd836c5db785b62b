"""The tables that are partitioned by month, and their primary key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import PrimaryKeyConstraint
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler


class MonthlyKey(PrimaryKeyConstraint):
    """The primary key of a table that is partitioned by month: `id`, which alone tells rows apart, and the column of the time.

    A partitioned table's keys have to hold the column it is partitioned by. SQLite has no partitions, and makes `id` the number
    of the row, which is quicker than any index, only where it is the key alone.
    """

    def __init__(self, time_column: str) -> None:
        super().__init__("id", time_column)


@compiles(MonthlyKey, "sqlite")
def _row_number(_key: MonthlyKey, _compiler: DDLCompiler, **_: Any) -> str:
    return "PRIMARY KEY (id)"
