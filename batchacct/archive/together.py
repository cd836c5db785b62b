"""The tables and the archive asked as one: for answers that no sum of months is, as what counts may depend on another month.

DuckDB has a view for each table: its rows, which are written beside the files of the archive as those are, and the files, without
what was recalled. The connection is one of SQLAlchemy's, so whoever asks the database asks this with the same statements. Only what
there is a view of can be asked: the tables of records without their longest columns, `usage` and the VOs as the archive knows them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from sqlalchemy import URL, ColumnElement, Connection, Engine, StaticPool
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import DBAPIError

from batchacct.archive.holdings import Archived, archived, dataset_of, recalled_ids, schema_of
from batchacct.archive.querying import duck_with, small_tables, views_of
from batchacct.archive.taking import records_with_ledger, rows_of
from batchacct.errors import ArchiveError
from batchacct.model import INTEGER, RecordType

Wanted = Mapping[RecordType, ColumnElement[bool]]
"""For each type of records that is asked about, which rows of its table are; of the archive all are that end in time."""

_LONG = frozenset({"native", "arguments", "environment"})


@contextmanager
def together(connection: Connection, wanted: Wanted, since: int) -> Iterator[Connection]:
    """A connection that sees the `wanted` rows of some tables, and what is archived of the months that reach `since` or beyond.

    It has one result at a time: each has to be read to its end. Raises: ArchiveError if a file is missing or damaged.
    """
    with tempfile.TemporaryDirectory(prefix="batchacct-") as folder, duck_with(small_tables(connection)) as duck:
        for record_type, which in wanted.items():
            names = [name for name in schema_of(record_type).names if name not in _LONG]
            _register(duck, f"{record_type.name}_rows", _written(connection, record_type, which, names, Path(folder)))
            months = [month for month in archived(connection, record_type, first=since) if month.file is not None]
            parts = [f"SELECT * FROM {record_type.name}_rows"]  # noqa: S608 - no word of a user
            parts += [_part(duck, month, recalled_ids(connection, record_type, month.month), names) for month in months]
            duck.execute(views_of(record_type, " UNION ALL ".join(parts), set(names)))
        engine = Engine(StaticPool(lambda: cast("Any", _Link(duck))), _Dialect(), URL.create("duckdb"))
        try:
            with engine.connect() as asked:
                yield asked
        except DBAPIError as error:
            told = str(error.orig).split("\n")[0]
            raise ArchiveError(f"the archive cannot be asked: {told}. `batchacct db archive --list` shows its files") from error
        finally:
            engine.dispose()


def _written(connection: Connection, record_type: RecordType, which: ColumnElement[bool], names: list[str], folder: Path) -> Path:
    """The rows of a table in a file of the form of the archive's."""
    query = records_with_ledger(record_type).where(which)
    schema = pa.schema([schema_of(record_type).field(name) for name in names])
    path = folder / f"{record_type.name}.parquet"
    chosen = [column for column in query.selected_columns if column.name in schema.names]
    with pq.ParquetWriter(path, schema) as file:
        for batch in rows_of(connection, query.with_only_columns(*chosen, maintain_column_froms=True), schema):
            file.write_batch(batch)
    return path


def _register(duck: duckdb.DuckDBPyConnection, name: str, file: Path) -> None:
    duck.register(name, ds.dataset(file))


def _part(duck: duckdb.DuckDBPyConnection, month: Archived, back: Sequence[int], names: Sequence[str]) -> str:
    """The select of what counts of a month's file."""
    name = f"{month.record_type.name}_{month.month}"
    duck.register(name, dataset_of(month))
    listed = ", ".join(f'"{column}"' for column in names)
    if not back:
        return f"SELECT {listed} FROM {name}"  # noqa: S608 - names of columns
    duck.register(f"{name}_back", pa.table({"id": pa.array(back, INTEGER)}))
    return f"SELECT {listed} FROM {name} WHERE id NOT IN (SELECT id FROM {name}_back)"  # noqa: S608 - names of columns


class _Dialect(PGDialect):
    """DuckDB's SQL is so close to PostgreSQL's that it is told it as that; there is nothing to ask it about itself."""

    name = "duckdb"
    driver = "duckdb"
    supports_statement_cache = False

    def __init__(self) -> None:
        super().__init__(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
        self.dbapi = cast("Any", duckdb)

    def initialize(self, connection: Connection) -> None:
        del connection


class _Link:
    """A connection of DuckDB as SQLAlchemy wants it: transactions are nothing to it, as nothing is written."""

    def __init__(self, duck: duckdb.DuckDBPyConnection) -> None:
        self._duck = duck

    def cursor(self) -> _Cursor:
        return _Cursor(self._duck)

    def commit(self) -> None:
        pass

    rollback = close = commit


class _Cursor:
    """The connection itself, as what was registered is seen by no other; closing it leaves that open."""

    rowcount = -1

    def __init__(self, duck: duckdb.DuckDBPyConnection) -> None:
        self._duck = duck
        self.fetchone, self.fetchmany, self.fetchall = duck.fetchone, duck.fetchmany, duck.fetchall

    @property
    def description(self) -> Any:
        return self._duck.description

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self._duck.execute(statement, list(parameters))

    def close(self) -> None:
        pass
