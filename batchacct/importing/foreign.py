"""Another program's database, which is only read: its tables by whatever case it spells them in, its rows in order of time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, ColumnElement, Connection, Select, TableClause, column, create_engine, inspect, make_url
from sqlalchemy import table as table_clause
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from batchacct.connection import check_url
from batchacct.errors import ConfigError, SourceError

ROWS_AT_ONCE = 1000
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "mariadb": "mariadb+pymysql",
    "mysql": "mysql+pymysql",
    "oracle": "oracle+oracledb",
}
"""Of a URL that names none."""


@dataclass(frozen=True, slots=True)
class Question:
    """Rows of a foreign database: `query` selects the columns of a unit, by their labels.

    table: what a unit calls them; `time`, and then `key`, is their order; `where` they come from, for people.
    """

    table: str
    query: Select[Any]
    time: ColumnElement[Any]
    key: tuple[ColumnElement[Any], ...]
    where: str


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """A table, and its columns by the names that are asked for, in whatever case the database has them."""

    clause: TableClause
    columns: Mapping[str, ColumnElement[Any]]

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        return self.columns[name]

    def named(self, *but: str) -> list[ColumnElement[Any]]:
        """All columns under these names, without some."""
        return [one.label(name) for name, one in self.columns.items() if name not in but]


class Foreign:
    """The database at a URL.  Every error of it is a SourceError."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(check_url(url))
            self.shown_url = parsed.render_as_string(hide_password=True)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            self._engine = create_engine(_for_reading(parsed))
        except (NoSuchModuleError, ImportError) as error:
            raise ConfigError(
                f"the driver for that database is missing ({error}): install the extra of batchacct for it"
            ) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection, which changes nothing and sees one state.  Raises: SourceError for whatever goes wrong with it."""
        try:
            with self._engine.connect() as connection:
                yield connection
                connection.rollback()
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
            raise SourceError(f"{self.shown_url} cannot be read: {said}. What was imported before stays; start it again") from error

    def table(self, name: str, needed: Sequence[str], optional: Sequence[str] = ()) -> ForeignTable:
        """A table with these columns under these names.  Raises: ConfigError if it, or a column that is needed, is not there."""
        with self.reading() as connection:
            there = inspect(connection)
            names = {one.lower(): one for one in (*there.get_table_names(), *there.get_view_names())}
            found = names.get(name.lower())
            if found is None:
                raise ConfigError(f"{self.shown_url} has no table {name}; it has {', '.join(sorted(names.values())) or 'none'}")
            columns = {one["name"].lower(): one["name"] for one in there.get_columns(found)}
        if missing := [one for one in needed if one.lower() not in columns]:
            raise ConfigError(f"{self.shown_url}: the table {name} has no column {', '.join(missing)}: it is of another layout")
        wanted = [one for one in (*needed, *optional) if one.lower() in columns]
        clause = table_clause(found, *(column(columns[one.lower()]) for one in wanted))
        return ForeignTable(clause, {one: clause.c[columns[one.lower()]] for one in wanted})

    def instant(self, text: str) -> object:
        """A time as the driver takes it."""
        return text if self.is_sqlite else dt.datetime.fromisoformat(text)

    def rows(self, connection: Connection, query: Select[Any]) -> Iterator[dict[str, Any]]:
        """The rows of a query, as many at a time as memory takes."""
        result = connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE).execute(query)
        for row in result.mappings():
            yield dict(row)

    def close(self) -> None:
        self._engine.dispose()


def _for_reading(url: URL) -> URL:
    """The URL with a driver, and of an SQLite file so that it is not made, or written to."""
    if url.get_backend_name() != "sqlite":
        return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    path = Path(url.database or "").absolute()
    if not path.is_file():
        raise ConfigError(f"there is no database {path}")
    return url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
