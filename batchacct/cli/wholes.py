"""Records of several lines for `batchacct parse`: what a collection does, in a database that lives as long as the command."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from sqlalchemy import select

from batchacct.completing import complete_parts, rules_of
from batchacct.ledger.books import parts_waiting
from batchacct.model import RecordType
from batchacct.parsing import Parsed, Parser
from batchacct.store import Origin, Store, append
from batchacct.store.tables import RECORD_TABLES

RECORDS_AT_ONCE = 10_000


class Wholes:
    """Takes what files were parsed into, and gives the records in force once all parts are there."""

    def __init__(self, record_type: RecordType) -> None:
        self._record_type = record_type
        self._folder = tempfile.TemporaryDirectory(prefix="batchacct-parse-")
        self._store = Store(f"sqlite:///{Path(self._folder.name) / 'parsed.db'}")
        self._store.create()
        self._parsers: dict[str, Parser] = {}
        self.waiting = 0

    def add(self, parser: Parser, parsed: Parsed, path: str) -> None:
        self._parsers[path] = parser
        append(self._store, Origin(path, parser.record_type.name, parser.label, path), parsed, 0)

    def records(self) -> Iterator[pa.RecordBatch]:
        """The records in force: those of one line in the order of the files, then those made of parts."""
        complete_parts(self._store, rules_of(self._parsers.items()), 0)
        table = RECORD_TABLES[self._record_type.name]
        columns = [table.c[c.name] for c in self._record_type.columns]
        query = select(*columns).where(table.c.superseded_by.is_(None)).order_by(table.c.id)
        with self._store.reading() as connection:
            self.waiting = sum(parts_waiting(connection).values())
            rows = connection.execution_options(stream_results=True).execute(query).mappings()
            for some in rows.partitions(RECORDS_AT_ONCE):
                yield self._record_type.batch([dict(row) for row in some])

    def close(self) -> None:
        self._store.close()
        self._folder.cleanup()
