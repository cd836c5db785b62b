"""How a database would go about a query: its plan, in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection, Executable, Select, text
from sqlalchemy.ext.compiler import compiles


class Explained(Executable, ClauseElement):
    """The statement that asks for the plan of a query."""

    inherit_cache = False

    def __init__(self, query: Select[Any]) -> None:
        self.query = query


@compiles(Explained)
def _explained(element: Explained, compiler: Any, **words: Any) -> str:
    return f"EXPLAIN {compiler.process(element.query, **words)}"


@compiles(Explained, "sqlite")
def _explained_sqlite(element: Explained, compiler: Any, **words: Any) -> str:
    return f"EXPLAIN QUERY PLAN {compiler.process(element.query, **words)}"


@compiles(Explained, "oracle")
def _explained_oracle(element: Explained, compiler: Any, **words: Any) -> str:
    """Into a table of the session, which `DBMS_XPLAN` shows; it takes no bound values."""
    return f"EXPLAIN PLAN FOR {compiler.process(element.query, **words | {'literal_binds': True})}"


def plan_of(connection: Connection, query: Select[Any]) -> list[str]:
    """The lines of the plan; the query is not run."""
    answer = connection.execute(Explained(query))
    if connection.dialect.name == "oracle":
        return [str(row[0]) for row in connection.execute(text("SELECT plan_table_output FROM TABLE(DBMS_XPLAN.DISPLAY())"))]
    rows = answer.all()
    if connection.dialect.name == "sqlite":
        return _tree(rows)
    return [str(row[0]) for row in rows] if len(answer.keys()) == 1 else _table(list(answer.keys()), rows)


def _tree(rows: Sequence[Any]) -> list[str]:
    """SQLite's rows are id, parent, unused, detail."""
    depth = {0: -1}
    for row in rows:
        depth[row[0]] = depth[row[1]] + 1
    return [f"{'  ' * depth[row[0]]}{row[3]}" for row in rows]


def _table(names: list[str], rows: Sequence[Any]) -> list[str]:
    cells = [names, *([("" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
