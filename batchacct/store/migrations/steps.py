"""Migrations as lists of steps, each safe to repeat.

Where a database can change its schema in a transaction, all steps of all migrations are one. Where it commits each change, a step
that is done is recorded in the table `migration_step`, which is there only while a migration is under way: one that was killed
goes on from it. A step that was killed after its change and before that was recorded is done again, and finds it done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Row, Select, TextClause
from sqlalchemy.schema import SchemaItem

from batchacct.crashpoints import crash_point
from batchacct.store.dialects import Dialect
from batchacct.store.dialects.partitioning import Layout
from batchacct.store.schema import PROGRESS

Step = Callable[[], None]


def run(migration: str, steps: Sequence[Step]) -> None:
    """Runs the steps of a migration that are not done yet."""
    commits_each = _may_be_done()
    done = _done(migration) if commits_each else 0
    for number, step in enumerate(steps[done:], done + 1):
        step()
        crash_point("migrate.step")
        if commits_each:
            op.execute(sa.update(PROGRESS).where(PROGRESS.c.migration == migration).values(done=number))
            op.get_bind().commit()
            crash_point("migrate.recorded")


def _done(migration: str) -> int:
    connection = op.get_bind()
    done = connection.scalar(sa.select(PROGRESS.c.done).where(PROGRESS.c.migration == migration))
    if done is None:
        connection.execute(sa.insert(PROGRESS).values(migration=migration, done=0))
        connection.commit()
    return done or 0


def dialect() -> Dialect:
    """The database that is migrated."""
    config = op.get_context().config
    assert config is not None
    return cast("Dialect", config.attributes["dialect"])


def _may_be_done() -> bool:
    """Whether what a step is to make may be there: it was killed after it had made it."""
    return dialect().commits_ddl and not op.get_context().as_sql


def add_columns(table: str, *columns: sa.Column[Any]) -> None:
    """Adds those columns that are not there."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)} if _may_be_done() else set()
    for column in columns:
        if column.name not in there:
            op.add_column(table, column)


def drop_columns(table: str, *names: str) -> None:
    """Drops those columns that are there."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)} if _may_be_done() else set(names)
    for name in names:
        if name in there:
            op.drop_column(table, name)


def drop_index(name: str, table: str) -> None:
    """Drops an index if it is there."""
    there = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)} if _may_be_done() else {name}
    if name in there:
        op.drop_index(name, table)


def drop_table(name: str) -> None:
    """Drops a table if it is there."""
    if not _may_be_done() or sa.inspect(op.get_bind()).has_table(name):
        op.drop_table(name)


def create_table(name: str, *elements: SchemaItem) -> None:
    """Makes a table if it is not there."""
    if not (_may_be_done() and sa.inspect(op.get_bind()).has_table(name)):
        op.create_table(name, *elements)


def create_index(name: str, table: str, columns: Sequence[str], *, unique: bool = False, where: TextClause | None = None) -> None:
    """Makes an index if it is not there; `where` is for databases that know partial ones."""
    there = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)} if _may_be_done() else set()
    if name not in there:
        op.create_index(name, table, list(columns), unique=unique, postgresql_where=where, sqlite_where=where)


def widen_index(name: str, table: str, columns: Sequence[str]) -> None:
    """Makes an index anew, of other columns, unless it is of these already."""
    there = {i["name"]: i["column_names"] for i in sa.inspect(op.get_bind()).get_indexes(table)} if _may_be_done() else {name: []}
    if there.get(name) == list(columns):
        return
    if name in there:
        op.drop_index(name, table)
    op.create_index(name, table, list(columns))


def told(what: str) -> None:
    """A comment in the SQL that is only written down: what the program itself does."""
    if op.get_context().as_sql:
        op.get_context().impl.static_output(f"-- {what}")


def bound(query: Select[Any]) -> list[Row[Any]]:
    """The rows of a query; none where the SQL is only written down."""
    return [] if op.get_context().as_sql else list(op.get_bind().execute(query).all())


def partition_by_month(layout: Layout) -> None:
    """Makes a table a partitioned one, where the database has such; all rows that it has are in the catch-all."""
    partitions = dialect().partitions
    if partitions is None or (_may_be_done() and partitions.time_column(op.get_bind(), layout.table)):
        return
    for statement in partitions.convert(layout):
        op.execute(statement)
