"""The seam: what the store asks of a database beyond SQLAlchemy Core."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa
from sqlalchemy import URL, ColumnElement, Connection, Engine, SelectBase, Table

from batchacct.errors import StoreError
from batchacct.store.dialects.partitioning import Partitioning


class KnownRecordsError(StoreError):
    """A batch was not inserted because at least one of its keys is in the table already; `Store.append` sorts it out."""

    exit_code = 14


class Locks(Protocol):
    """Named work that a process holds: a lock is gone with the process, however that ends. For any number of threads."""

    def take(self, name: str) -> None:
        """Raises: BusyError if another process has it."""

    def give(self, name: str) -> None:
        """Gives a lock back; harmless if it is not held."""

    def holds(self, name: str) -> bool:
        """Whether it is held still: a connection may have been lost, and its locks with it.  Raises: the driver's errors."""

    def close(self) -> None:
        """Gives everything back."""


class Dialect(Protocol):
    """One database. Everything else the store does is plain SQLAlchemy Core."""

    name: str
    driver_error: type[Exception]
    """Base of what the driver raises where `bulk_insert` uses it without SQLAlchemy."""
    commits_ddl: bool
    """Whether each change of the schema is committed by itself: it is in no transaction then."""
    replaces_views: bool
    """Whether a view is made anew by CREATE OR REPLACE; else it is dropped before, if it is there.

    It has to be where who may read a view is forgotten when that is dropped.
    """
    partitions: Partitioning | None
    """How tables are partitioned by month; None where the database has no partitions."""

    def is_deadlock(self, error: BaseException | None) -> bool:
        """Whether an error of the driver says that a transaction was undone in favour of another one, and may be tried again."""

    def engine(self, url: URL) -> Engine:
        """An engine whose commits are durable and whose write transactions do not deadlock with each other."""

    def prepare(self, engine: Engine) -> None:
        """Makes what has to be there before the schema can be made in it."""

    def is_there(self, engine: Engine) -> bool:
        """False if it is known, without connecting, that there is no database."""

    def missing_grant(self, connection: Connection) -> str | None:
        """What an administrator has to run so that this account may make temporary tables; None if it may, or need not."""

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

    def locks(self, engine: Engine) -> Locks:
        """Locks on named work, on every machine that uses the database; nothing is connected or opened before one is taken."""

    def readable_instant(self, column: ColumnElement[int]) -> ColumnElement[object]:
        """An expression that shows Unix seconds to people, as `YYYY-MM-DDTHH:MM:SSZ`."""

    def size_bytes(self, engine: Engine) -> int | None:
        """Size of the database on disk, None where it does not tell."""
