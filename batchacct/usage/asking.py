"""Statements put to whatever holds jobs: a database and its archive, or a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Executable

from batchacct.archive.holdings import archived, despite_archiving
from batchacct.model import JOB
from batchacct.store import Store
from batchacct.store.spans import ANYTIME, Period, Span, when_ended

Source = Store | Path
"""What is asked: a store with its archive, or a folder of Parquet files as back-filling and `db archive` write them."""

Statement = Callable[[Period], Executable]
"""A statement for the jobs of a period; it may leave it to the period where in the database they are."""

Rows = list[tuple[Any, ...]]


def rows_of(
    source: Source, statement: Statement, begin: int | None = None, end: int | None = None, *, identities: bool = False
) -> Rows:
    """The rows of a statement for the jobs that ended from `begin` to before `end`.

    Those of the database, and those of each month of the archive: sums are to be added up, and extremes compared.
    """
    return answers(source, [statement], lambda connection: when_ended(connection, begin, end, identities=identities))[0]


def answers(source: Source, statements: Sequence[Statement], period: Callable[[Connection], Period]) -> list[Rows]:
    """The rows of several statements, of one state of the database.  Raises: StoreError, ArchiveError."""
    if isinstance(source, Path):
        from batchacct.archive.querying import folder_rows  # noqa: PLC0415 - slow to import

        return [folder_rows(source, statement(Period())) for statement in statements]
    store = source

    def ask() -> list[Rows]:
        with store.reading() as connection:
            return rows_in(connection, statements, period(connection))

    return despite_archiving(store, ask)


def rows_in(
    connection: Connection, statements: Sequence[Statement], period: Period | None, archived_at: Span = ANYTIME
) -> list[Rows]:
    """The rows of several statements in a database, and in its archive: there of what was logged in a span.

    Where `period` is None, the tables have nothing that is asked for. Raises: ArchiveError.
    """
    found: list[Rows] = [[] for _ in statements]
    if period is not None:
        found = [[tuple(row) for row in connection.execute(statement(period))] for statement in statements]
    if archived(connection, JOB):
        from batchacct.archive.querying import archived_rows  # noqa: PLC0415 - slow to import

        for rows, statement in zip(found, statements, strict=True):
            rows.extend(archived_rows(connection, statement(Period(archived_at)), within=archived_at))
    return found
