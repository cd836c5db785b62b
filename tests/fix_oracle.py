"""Every statement that a test has batchacct execute on SQLite is looked at for Oracle (`tests.oracle.portable`)."""

from __future__ import annotations

import hashlib
import os
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

_seen: dict[str, tuple[ClauseElement, str] | None] = {}
"""By its text a statement of ours, and the test it was first seen in; None for what is not ours."""


def _note(statement: ClauseElement, text: str) -> None:
    if text not in _seen:
        _seen[text] = (statement, os.environ.get("PYTEST_CURRENT_TEST", "")) if _is_ours() else None


def _is_ours() -> bool:
    """Whether what executes a statement is no test, and not another database's own module."""
    frame: Any = sys._getframe(2)
    while frame is not None and ("sqlalchemy" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(OURS) and not frame.f_code.co_filename.startswith(DIALECTS)


def _before(_connection: Connection, _cursor: object, text: str, _parameters: object, context: Any, _many: object) -> None:
    compiled = context.compiled
    if compiled is not None and compiled.statement is not None and compiled.dialect.name == "sqlite":
        _note(compiled.statement, text)


@pytest.fixture(scope="session", autouse=True)
def oracle_statements(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Notes the statements of the whole session, and judges them at its end: meanwhile that would cost the tests time.

    Workers of pytest-xdist see mostly the same ones: each judges those that no other has taken.
    """
    own = tmp_path_factory.getbasetemp()
    taken = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "oracle-statements"
    taken.mkdir(exist_ok=True)
    event.listen(Engine, "before_cursor_execute", _before)
    fetch = SqliteDialect.fetch

    def watched(self: SqliteDialect, connection: Connection, query: SelectBase, schema: pa.Schema) -> pa.RecordBatch:
        _note(query, str(query))
        return fetch(self, connection, query, schema)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteDialect, "fetch", watched)
        yield
    event.remove(Engine, "before_cursor_execute", _before)
    bad = [
        f"{test}: not for Oracle: {'; '.join(found)}\n{text}"
        for text, (statement, test) in ((text, seen) for text, seen in _seen.items() if seen)
        if _is_first(taken / hashlib.sha256(text.encode()).hexdigest()) and (found := problems(statement))
    ]
    assert not bad, "\n".join(bad)


def _is_first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
