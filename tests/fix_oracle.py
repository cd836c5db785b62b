"""Every statement that a test has batchacct execute on SQLite is looked at for Oracle (`tests.oracle.portable`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Connection, Engine, SelectBase, event
from sqlalchemy.sql.elements import ClauseElement

from batchacct.store.dialects.sqlite import SqliteDialect
from tests.oracle.portable import problems

ROOT = Path(__file__).parent.parent
OURS = tuple(f"{ROOT}/{room}/" for room in ("batchacct", "cecol", "cpuhours", "loccol", "pub"))
DIALECTS = f"{ROOT}/batchacct/store/dialects/"

_seen: dict[str, list[str]] = {}


def looked_at(statement: ClauseElement, text: str) -> None:
    """Raises: AssertionError for a statement of ours that Oracle would not run, or would run otherwise."""
    if text not in _seen:
        _seen[text] = problems(statement) if _is_ours() else []
    assert not _seen[text], f"not for Oracle: {'; '.join(_seen[text])}\n{text}"


def _is_ours() -> bool:
    """Whether what executes a statement is no test, and not another database's own module."""
    frame: Any = sys._getframe(2)
    while frame is not None and ("sqlalchemy" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(OURS) and not frame.f_code.co_filename.startswith(DIALECTS)


def _before(_connection: Connection, _cursor: object, text: str, _parameters: object, context: Any, _many: object) -> None:
    compiled = context.compiled
    if compiled is not None and compiled.statement is not None and compiled.dialect.name == "sqlite":
        looked_at(compiled.statement, text)


@pytest.fixture(scope="session", autouse=True)
def oracle_statements() -> Iterator[None]:
    """For the whole session; what was swallowed by the program is told at its end."""
    event.listen(Engine, "before_cursor_execute", _before)
    fetch = SqliteDialect.fetch

    def watched(self: SqliteDialect, connection: Connection, query: SelectBase, schema: pa.Schema) -> pa.RecordBatch:
        looked_at(query, str(query))
        return fetch(self, connection, query, schema)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteDialect, "fetch", watched)
        yield
    event.remove(Engine, "before_cursor_execute", _before)
    bad = {text: found for text, found in _seen.items() if found}
    assert not bad, "\n".join(f"{'; '.join(found)}\n{text}" for text, found in bad.items())
