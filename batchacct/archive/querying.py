"""Questions to the archive: the very statement that was put to the database, put to DuckDB over the files, month by month.

DuckDB's SQL is so close to PostgreSQL's that SQLAlchemy's statements for the one run on the other. Each month has views that are
named as the tables: `job` (or `identity`) is the file, without what was recalled; `usage`, and the identity of a job, are what
the file says beside each job of the ledger; VO mappings and benchmarks are the database's own. So an answer is as many rows as
months give; whoever asks adds them up, as sums of months are.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from sqlalchemy import Connection, Executable, Select, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from batchacct.archive.holdings import Archived, archived, dataset_of, recalled_ids
from batchacct.archive.layout import Manifest, countable_files, damaged
from batchacct.archive.months import named_month
from batchacct.model import INSTANT, INTEGER, JOB, REAL, TEXT, RecordType
from batchacct.store.spans import ANYTIME, Span
from batchacct.store.tables import benchmark, vo_mapping

T = TypeVar("T")
MEMORY = "256MB"
_DIALECT = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]

_VIEWS = {
    JOB: """
CREATE OR REPLACE TEMP VIEW usage AS SELECT id AS job_id, CAST(epoch(logged_at) AS BIGINT) AS logged_at, outcome, reason,
  CASE WHEN identity_id IS NOT NULL THEN id END AS identity_id, 0 AS identity_at, mapping_id, benchmark_id
  FROM kept WHERE outcome IS NOT NULL;
CREATE OR REPLACE TEMP VIEW identity AS SELECT id, 0 AS recorded_at, vo, ce_id, CAST(NULL AS VARCHAR) AS dn,
  CAST(NULL AS VARCHAR) AS token_issuer, CAST(NULL AS VARCHAR) AS token_subject FROM kept WHERE identity_id IS NOT NULL;
""",
}
"""An identity is known by its job there, and its VO is the job's: that of the identity, else of the mapping. Nobody is named.

Files of older versions do not tell its computing element, which is unknown then.
"""

_OF_FILE = """
CREATE OR REPLACE TEMP VIEW vo_mapping AS SELECT DISTINCT mapping_id AS id, vo
  FROM kept WHERE mapping_id IS NOT NULL AND identity_id IS NULL;
"""
"""Where there is no database: the VO of a job without an identity is that of the mapping."""

_SMALL: dict[str, Select[Any]] = {
    "vo_mapping": select(vo_mapping.c.id, vo_mapping.c.vo),
    "benchmark": select(benchmark.c.id, benchmark.c.type, benchmark.c.value, benchmark.c.per_host_factor),
}
_NUMBERS: dict[str, pa.DataType] = {"id": INTEGER, "per_host_factor": INTEGER, "job_id": INTEGER, "value": REAL}


def archived_rows(
    connection: Connection,
    statement: Executable,
    record_type: RecordType = JOB,
    *,
    first: int | None = None,
    last: int | None = None,
    within: Span = ANYTIME,
) -> list[tuple[Any, ...]]:
    """The rows of a statement over each archived month of jobs, or of identities; of those with records between two instants.

    The statement may be asked of months alone that a span meets: of others it has no rows. What was purged is in none.
    Raises: ArchiveError if a file is missing or damaged.
    """
    months = _of_months(connection, statement, record_type, _rows, first=first, last=last, within=within)
    return list(itertools.chain.from_iterable(months))


def archived_tables(connection: Connection, statement: Executable, within: Span) -> list[pa.Table]:
    """The same of jobs, of the months that a span meets, as Arrow tables."""
    return list(_of_months(connection, statement, JOB, duckdb.DuckDBPyRelation.to_arrow_table, within=within))


def _of_months(
    connection: Connection,
    statement: Executable,
    record_type: RecordType,
    fetched: Callable[[duckdb.DuckDBPyRelation], T],
    *,
    first: int | None = None,
    last: int | None = None,
    within: Span,
) -> Iterator[T]:
    months = [month for month in archived(connection, record_type, first, last) if month.file is not None]
    months = [month for month in months if within.meets(month.manifest.first_at, month.manifest.last_at)]
    if not months:
        return
    with duck_with(small_tables(connection) if record_type is JOB else {}) as duck:
        back = (recalled_ids(connection, record_type, month.month) for month in months)
        yield from _asked(duck, statement, zip(months, back, strict=True), fetched)


def folder_rows(folder: Path, statement: Executable) -> list[tuple[Any, ...]]:
    """The rows of a statement over each file of jobs in a folder, which need be no database's; what it tells is of jobs alone.

    Raises: ArchiveError as `countable_files`, and if a file is damaged.
    """
    return rows_of_files(countable_files(folder, JOB), statement)


Files = Sequence[tuple[Path, Manifest]]
"""Files of jobs, each with its manifest."""


def rows_of_files(files: Files, statement: Executable) -> list[tuple[Any, ...]]:
    """The rows of a statement over each of some files of jobs.  Raises: ArchiveError if one is damaged."""
    return list(itertools.chain.from_iterable(_of_files(files, statement, _rows)))


def tables_of_files(files: Files, statement: Executable) -> list[pa.Table]:
    """The same as Arrow tables."""
    return list(_of_files(files, statement, duckdb.DuckDBPyRelation.to_arrow_table))


def _of_files(files: Files, statement: Executable, fetched: Callable[[duckdb.DuckDBPyRelation], T]) -> Iterator[T]:
    months = [Archived(JOB, named_month(m.month), file, 0, m, 0) for file, m in files]
    with duck_with({name: _table([], query, _NUMBERS) for name, query in _SMALL.items() if name != "vo_mapping"}) as duck:
        yield from _asked(duck, statement, ((month, []) for month in months), fetched, _OF_FILE)


def _asked(
    duck: duckdb.DuckDBPyConnection,
    statement: Executable,
    months: Iterable[tuple[Archived, Sequence[int]]],
    fetched: Callable[[duckdb.DuckDBPyRelation], T],
    more_views: str = "",
) -> Iterator[T]:
    """What a statement comes to of each of some months, without the records that are back in their tables.

    Files are read when it is fetched. Raises: ArchiveError if one is missing or damaged.
    """
    text, parameters = for_duck(statement)
    for month, back in months:
        assert month.file is not None
        try:
            _show(duck, month, back, more_views)
            found = fetched(duck.sql(text, params=parameters))
        except duckdb.Error as error:
            raise damaged(month.file, str(error).split("\n")[0]) from error
        yield found


def _rows(relation: duckdb.DuckDBPyRelation) -> list[tuple[Any, ...]]:
    return relation.fetchall()


def for_duck(statement: Executable) -> tuple[str, list[Any]]:
    """A statement, and what its parameters are, as DuckDB takes it."""
    assert isinstance(statement, ClauseElement)
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    return str(compiled), [compiled.params[name] for name in compiled.positiontup or ()]


@contextmanager
def duck_with(small: dict[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of this process's own, of a bounded size, with some small tables."""
    with tempfile.TemporaryDirectory(prefix="batchacct-") as folder:
        duck = duckdb.connect(config={"memory_limit": MEMORY, "threads": 2, "temp_directory": folder})
        try:
            duck.execute("SET integer_division = true; SET preserve_insertion_order = false")
            for name, table in small.items():
                duck.register(name, table)
            yield duck
        finally:
            duck.close()


def _show(duck: duckdb.DuckDBPyConnection, month: Archived, back: Sequence[int], more_views: str) -> None:
    """Makes the views those of a month.  Raises: ArchiveError if its file is missing."""
    duck.register("file", dataset_of(month))
    duck.register("back", pa.table({"id": pa.array(back, INTEGER)}))
    duck.execute(_own_views(month.record_type, bool(back)) + more_views)


def _own_views(record_type: RecordType, some_are_back: bool) -> str:
    """The file without what was recalled, and the table it stands for."""
    without = " WHERE id NOT IN (SELECT id FROM back)" if some_are_back else ""
    return views_of(record_type, f"SELECT * FROM file{without}", record_type.names)  # noqa: S608 - no word of a user


def views_of(record_type: RecordType, records: str, names: Collection[str]) -> str:
    """What makes the views of a table, with those `names` of its columns, of what a query gives: instants are Unix seconds."""
    columns = ["id", "revision", "superseded_by"]
    columns += [
        f'CAST(epoch("{c.name}") AS BIGINT) AS "{c.name}"' if c.type == INSTANT else f'"{c.name}"'
        for c in record_type.columns
        if c.name in names
    ]
    kept = "kept" if record_type in _VIEWS else f"kept_{record_type.name}"
    made = f"CREATE OR REPLACE TEMP VIEW {kept} AS {records};"
    table = f"CREATE OR REPLACE TEMP VIEW {record_type.name} AS SELECT {', '.join(columns)} FROM {kept};"  # noqa: S608 - names of columns
    return f"{made} {table}{_VIEWS.get(record_type, '')}"


def small_tables(connection: Connection) -> dict[str, pa.Table]:
    """What stays in the database and is no larger than what is configured there."""
    return {name: _table(connection.execute(query).mappings().all(), query, _NUMBERS) for name, query in _SMALL.items()}


def _table(rows: Sequence[Any], query: Select[Any], numbers: dict[str, pa.DataType]) -> pa.Table:
    names = [column.name for column in query.selected_columns]
    return pa.table({name: pa.array([row[name] for row in rows], numbers.get(name, TEXT)) for name in names})
