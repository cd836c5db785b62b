"""Migrating: Alembic's numbered migrations, run from inside the package.

Alembic is slow to import, and most commands find a database as they need it: they import `schema` alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Container, Iterable, Iterator
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Column, ColumnElement, Connection, Engine, inspect, select

from batchacct.crashpoints import crash_point
from batchacct.errors import SchemaError
from batchacct.store import tables
from batchacct.store.dialects import Dialect
from batchacct.store.schema import MIGRATIONS, PROGRESS, State, head, state

_VIEWS = {f"{name}_readable": table for name, table in tables.RECORD_TABLES.items() if table is not tables.part}
_OURS = re.compile(r"\d{4}")


def _config(written: io.StringIO | None = None, **attributes: object) -> Config:
    config = Config(output_buffer=written)
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes.update(attributes)
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _wanting(version: str | None) -> list[Script]:
    """The migrations a database of that version needs, oldest first."""
    return list(reversed(list(_scripts().iterate_revisions("head", version or "base"))))


def refuse_foreign(connection: Connection, found: State) -> None:
    """Raises: SchemaError if the schema is of a newer program, or there are tables that batchacct did not make."""
    if found.version is not None and found.version not in {script.revision for script in _scripts().walk_revisions()}:
        if _OURS.fullmatch(found.version):
            raise SchemaError(f"the database has schema {found.version}, which a newer batchacct made: upgrade this program")
        raise SchemaError("the database has a table named `alembic_version` of another program: use a database of its own")
    if found.is_interrupted:
        return
    there = {*inspect(connection).get_table_names(), *inspect(connection).get_view_names()}
    wanted = {name for script in _wanting(found.version) for name in getattr(script.module, "makes", ())}
    if found.version is None:
        wanted |= _VIEWS.keys()
    if foreign := sorted(wanted & there):
        names = ", ".join(f"`{name}`" for name in foreign)
        what = "a table named" if len(foreign) == 1 else "tables named"
        raise SchemaError(f"the database has {what} {names} that batchacct did not make: use a database of its own")


def upgrade(engine: Engine, dialect: Dialect, to: str = "head") -> None:
    """Runs the migrations that are missing, in one transaction where the database can; who calls it holds the lock `migrate`.

    Raises: SchemaError as `refuse_foreign`.
    """
    with engine.execution_options(writing=True).connect() as connection:
        found = state(connection, dialect)
        if found.version is not None:
            dialect.append_alone(connection)
        refuse_foreign(connection, found)
        if dialect.commits_ddl:
            PROGRESS.create(connection, checkfirst=True)
            connection.commit()
        command.upgrade(_config(connection=connection, dialect=dialect), to)
        for statement in _views(connection, dialect, inspect(connection).get_table_names()):
            connection.exec_driver_sql(statement)
        crash_point("migrate.before-commit")
        connection.commit()
        if dialect.commits_ddl:
            PROGRESS.drop(connection, checkfirst=True)
            connection.commit()


def preview(connection: Connection, dialect: Dialect) -> Iterator[str]:
    """The statements that `upgrade` would run, each with its comments.  Raises: SchemaError as `refuse_foreign`."""
    found = state(connection, dialect)
    refuse_foreign(connection, found)
    if found.version == head():
        return
    written = io.StringIO()
    config = _config(written, dialect=dialect, dialect_name=connection.dialect.name)
    command.upgrade(config, f"{found.version or 'base'}:head", sql=True)
    yield written.getvalue().strip()
    yield from (f"{statement};" for statement in _views(connection, dialect, tables.RECORD_TABLES))


def _views(connection: Connection, dialect: Dialect, of: Container[str]) -> Iterable[str]:
    """Views that show instants to people, made anew from the tables as they are now: new columns after those there were."""
    there = set(inspect(connection).get_view_names()) if dialect.replaces_views else set()
    for name, table in ((name, table) for name, table in _VIEWS.items() if table.name in of):
        known = [column["name"] for column in inspect(connection).get_columns(name)] if name in there else []
        columns = sorted(table.columns, key=lambda c: known.index(c.name) if c.name in known else len(known))
        query = select(*(_shown(column, dialect) for column in columns))
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        if not dialect.replaces_views:
            yield f"DROP VIEW IF EXISTS {name}"
        yield f"CREATE {'OR REPLACE ' if dialect.replaces_views else ''}VIEW {name} AS {compiled}"


def _shown(column: Column[Any], dialect: Dialect) -> ColumnElement[Any]:
    return dialect.readable_instant(column).label(column.name) if column.name.endswith("_at") else column
