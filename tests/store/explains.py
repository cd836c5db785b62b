"""Which partitions the statements that a piece of work runs would look into, as the database explains them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from batchacct.store import Store
from batchacct.store.months import Month
from batchacct.store.tables import RECORD_TABLES

_EXPLAINED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
_NAMES = re.compile(rf"\b({'|'.join(RECORD_TABLES)})(_rest|[0-9]{{9,}})\b")
Touched = dict[str, set[str]]


@contextmanager
def touched(store: Store, monkeypatch: Any) -> Iterator[Touched]:
    """For each table of records: its partitions (months, or `rest`) that statements in the body are planned to look into."""
    found: Touched = {name: set() for name in RECORD_TABLES}
    fetch = type(store.dialect).fetch

    def explained_first(self: Any, connection: Any, query: Any, schema: Any) -> Any:
        connection.execute(query).close()
        return fetch(self, connection, query, schema)

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if many or not _EXPLAINED.match(statement) or not any(name in statement for name in RECORD_TABLES):
            return
        if store.dialect.name == "postgresql":
            cursor.execute(f"EXPLAIN {statement}", parameters)
            names = {(match[1], match[2]) for row in cursor.fetchall() for match in _NAMES.finditer(row[0])}
        else:
            cursor.execute(f"EXPLAIN PARTITIONS {statement}", parameters)
            names = _partitions_of(cursor, statement)
        for table, name in names:
            found[table].add("rest" if "rest" in name else str(Month.at(int(name) - 1)))

    monkeypatch.setattr(type(store.dialect), "fetch", explained_first)
    event.listen(store.engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(store.engine, "before_cursor_execute", explain)
        monkeypatch.undo()


def _partitions_of(cursor: Any, statement: str) -> set[tuple[str, str]]:
    """(table, partition) of the rows that MariaDB explains a statement with."""
    aliases = {alias: table for table in RECORD_TABLES for alias in re.findall(rf"\b{table} AS (\w+)", statement)}
    columns = [column[0] for column in cursor.description]
    names: set[tuple[str, str]] = set()
    for row in cursor.fetchall():
        one = dict(zip(columns, row, strict=True))
        table = aliases.get(one["table"], one["table"])
        if table in RECORD_TABLES and one["partitions"]:
            names |= {(table, name.removeprefix(table)) for name in one["partitions"].split(",")}
    return names
