"""Which version of the schema a database has, and which this program needs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, inspect, select

from batchacct.store.dialects import Dialect

MIGRATIONS = Path(__file__).parent / "migrations"
"""Alembic's folder. Versions are numbers of four digits, with which the files of `versions` begin."""

PROGRESS = Table(
    "migration_step",
    MetaData(),
    Column("migration", String(32), primary_key=True),
    Column("done", Integer, nullable=False),
)
"""How many steps of a migration are done."""

_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32)))
"""Alembic's own: the version a database has."""


@dataclass(frozen=True, slots=True)
class State:
    """Which version a database has (None: no schema), and whether a migration of it was interrupted."""

    version: str | None
    is_interrupted: bool = False


@functools.cache
def head() -> str:
    """The version this program works with."""
    return max(path.name[:4] for path in MIGRATIONS.glob("versions/[0-9]*.py"))


def version(connection: Connection) -> str | None:
    """The version a database with a schema has now, as this transaction sees it."""
    found: str | None = connection.scalar(select(_VERSION.c.version_num))
    return found


def state(connection: Connection, dialect: Dialect) -> State:
    """What a database has."""
    tables = inspect(connection)
    found = version(connection) if tables.has_table(_VERSION.name) else None
    return State(found, dialect.commits_ddl and tables.has_table(PROGRESS.name))
