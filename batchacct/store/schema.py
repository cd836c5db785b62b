"""Schema versions: Alembic's numbered migrations, run from inside the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, ColumnElement, Connection, Engine, inspect, select

from batchacct.errors import SchemaError
from batchacct.store import tables
from batchacct.store.dialects import Dialect

_VIEWS = {"job_readable": tables.job, "identity_readable": tables.identity}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def head() -> str:
    """The version this program works with."""
    version = ScriptDirectory.from_config(_config()).get_current_head()
    assert version is not None
    return version


def current(connection: Connection) -> str | None:
    """The version of the database, None where it has no schema."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine, dialect: Dialect) -> bool:
    """Runs the migrations that are missing, in one transaction where the database can.  Raises: SchemaError if it is newer."""
    with engine.execution_options(writing=True).begin() as connection:
        found = current(connection)
        if found == head():
            return False
        if found is not None and found not in {s.revision for s in ScriptDirectory.from_config(_config()).walk_revisions()}:
            raise SchemaError(f"the database has schema {found}, which a newer batchacct made: upgrade this program")
        if found is None and inspect(connection).has_table("load"):
            raise SchemaError("the database has a table named `load` that batchacct did not make: use a database of its own")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _make_views(connection, dialect)
    return True


def _make_views(connection: Connection, dialect: Dialect) -> None:
    """Views that show instants to people, made anew from the tables as they are now."""
    for name, table in _VIEWS.items():
        query = select(*(_shown(column, dialect) for column in table.columns))
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {compiled}")


def _shown(column: Column[Any], dialect: Dialect) -> ColumnElement[Any]:
    return dialect.readable_instant(column).label(column.name) if column.name.endswith("_at") else column
