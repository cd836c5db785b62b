"""The seam: what the store asks of a database beyond SQLAlchemy Core."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import pyarrow as pa
from sqlalchemy import URL, ColumnElement, Connection, Engine, SelectBase, Table

from batchacct.errors import StoreError


class KnownRecordsError(StoreError):
    """A batch was not inserted because at least one of its keys is in the table already; `Store.append` sorts it out."""

    exit_code = 14


class Dialect(Protocol):
    """One database. Everything else the store does is plain SQLAlchemy Core."""

    name: str
    driver_error: type[Exception]
    """Base of what the driver raises where `bulk_insert` uses it without SQLAlchemy."""

    def engine(self, url: URL) -> Engine:
        """An engine whose commits are durable and whose write transactions do not deadlock with each other."""

    def append_alone(self, connection: Connection) -> None:
        """Lets no other process append until this transaction ends: two that held the same keys would deadlock, or both find
        them new."""

    def bulk_insert(self, connection: Connection, table: Table, batch: pa.RecordBatch) -> None:
        """All rows of `batch` into `table` by the database's own bulk path, in the connection's transaction.

        Column names are the table's; instants are Unix seconds already.
        Raises: KnownRecordsError if a unique key is violated; the transaction must then be rolled back to a savepoint.
        """

    def fetch(self, connection: Connection, query: SelectBase, schema: pa.Schema) -> pa.RecordBatch:
        """The rows of a query as one Arrow batch, by the database's own quickest way out; its columns are those of `schema`."""

    def lock(self, engine: Engine, name: str) -> AbstractContextManager[None]:
        """Holds the named work for this process, on every machine that uses the database.  Raises: BusyError if it is taken."""

    def readable_instant(self, column: ColumnElement[int]) -> ColumnElement[object]:
        """An expression that shows Unix seconds to people, as `YYYY-MM-DDTHH:MM:SSZ`."""

    def size_bytes(self, engine: Engine) -> int | None:
        """Size of the database on disk, None where it does not tell."""
