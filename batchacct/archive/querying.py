"""Questions to the archive: the very statement that was put to the database, put to DuckDB over the files, month by month.

DuckDB's SQL is so close to PostgreSQL's that SQLAlchemy's statements for the one run on the other. Each month has views that are
named as the tables: `job` (or `identity`) is the file, without what was recalled; `usage`, and the identity and message of a job,
are what the file says beside each job of the ledger; VO mappings, benchmarks and refusals are the database's own. So an answer is
as many rows as months give; whoever asks adds them up, as sums of months are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy import Connection, Executable, Select, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from batchacct.archive.holdings import Archived, archived, dataset_of, recalled_ids
from batchacct.archive.layout import damaged
from batchacct.model import IDENTITY, INSTANT, INTEGER, JOB, REAL, TEXT, RecordType
from batchacct.store.tables import benchmark, refusal, vo_mapping

MEMORY = "256MB"
_DIALECT = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]

_VIEWS = {
    JOB: """
CREATE OR REPLACE TEMP VIEW usage AS SELECT id AS job_id, CAST(epoch(logged_at) AS BIGINT) AS logged_at, outcome, reason,
  CASE WHEN identity_id IS NOT NULL THEN id END AS identity_id, 0 AS identity_at, mapping_id, benchmark_id, message_id
  FROM kept WHERE outcome IS NOT NULL;
CREATE OR REPLACE TEMP VIEW identity AS SELECT id, 0 AS recorded_at, vo FROM kept WHERE identity_id IS NOT NULL;
CREATE OR REPLACE TEMP VIEW message AS SELECT DISTINCT message_id AS id, 1 AS confirmed_at FROM kept WHERE message_id IS NOT NULL;
""",
    IDENTITY: "",
}
"""An identity is known by its job there, and its VO is the job's: that of the identity, else of the mapping."""


def archived_rows(
    connection: Connection,
    statement: Executable,
    record_type: RecordType = JOB,
    *,
    first: int | None = None,
    last: int | None = None,
) -> list[tuple[Any, ...]]:
    """The rows of a statement over each archived month of jobs, or of identities; of those with records between two instants.

    What was purged is in none. Raises: ArchiveError if a file is missing or damaged.
    """
    months = [month for month in archived(connection, record_type, first, last) if month.file is not None]
    if not months:
        return []
    assert isinstance(statement, ClauseElement)
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    parameters = [compiled.params[name] for name in compiled.positiontup or ()]
    small = _small_tables(connection) if record_type is JOB else {}
    found: list[tuple[Any, ...]] = []
    with _duck(small) as duck:
        for month in months:
            assert month.file is not None
            try:
                _show(duck, month, recalled_ids(connection, record_type, month.month))
                found += duck.execute(str(compiled), parameters).fetchall()
            except duckdb.Error as error:
                raise damaged(month.file, str(error).split("\n")[0]) from error
    return found


@contextmanager
def _duck(small: dict[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
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


def _show(duck: duckdb.DuckDBPyConnection, month: Archived, back: Sequence[int]) -> None:
    """Makes the views those of a month.  Raises: ArchiveError if its file is missing."""
    duck.register("file", dataset_of(month))
    duck.register("back", pa.table({"id": pa.array(back, INTEGER)}))
    duck.execute(_own_views(month.record_type, bool(back)))


def _own_views(record_type: RecordType, some_are_back: bool) -> str:
    """The file without what was recalled, and the table it stands for: instants are Unix seconds there."""
    without = " WHERE id NOT IN (SELECT id FROM back)" if some_are_back else ""
    columns = ["id", "revision", "superseded_by"]
    columns += [
        f'CAST(epoch("{c.name}") AS BIGINT) AS "{c.name}"' if c.type == INSTANT else f'"{c.name}"' for c in record_type.columns
    ]
    kept = f"CREATE OR REPLACE TEMP VIEW kept AS SELECT * FROM file{without};"  # noqa: S608 - names of columns
    return f"{kept} CREATE OR REPLACE TEMP VIEW {record_type.name} AS SELECT {', '.join(columns)} FROM kept;{_VIEWS[record_type]}"  # noqa: S608


def _small_tables(connection: Connection) -> dict[str, pa.Table]:
    """What stays in the database and is no larger than what is configured there."""
    numbers: dict[str, pa.DataType] = {"id": INTEGER, "per_host_factor": INTEGER, "job_id": INTEGER, "value": REAL}
    asked: dict[str, Select[Any]] = {
        "vo_mapping": select(vo_mapping.c.id, vo_mapping.c.vo),
        "benchmark": select(benchmark.c.id, benchmark.c.type, benchmark.c.value, benchmark.c.per_host_factor),
        "refusal": select(refusal.c.job_id),
    }
    return {name: _table(connection.execute(query).mappings().all(), query, numbers) for name, query in asked.items()}


def _table(rows: Sequence[Any], query: Select[Any], numbers: dict[str, pa.DataType]) -> pa.Table:
    names = [column.name for column in query.selected_columns]
    return pa.table({name: pa.array([row[name] for row in rows], numbers.get(name, TEXT)) for name in names})
