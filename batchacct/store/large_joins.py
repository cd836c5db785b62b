"""For joins of very many rows with a query, which no index helps: MariaDB compares all with all, unless it is told to hash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

_HASHED = {"join_cache_level": 4, "join_buffer_size": 16 << 20, "join_buffer_space_limit": 64 << 20}
"""Variables of a session: 4 lets outer joins hash, too; the sizes are bytes, of one buffer and of all buffers of a statement.

An index that MariaDB makes for a query is of 3,072 bytes at most, and a job's id with its cluster may have more.
"""


@contextmanager
def large_joins(connection: Connection) -> Iterator[None]:
    """Statements in the body may join large queries. PostgreSQL, Oracle and MySQL hash by themselves, SQLite makes an index."""
    if not getattr(connection.dialect, "is_mariadb", False):
        yield
        return
    connection.exec_driver_sql("SET SESSION " + ", ".join(f"{name} = {value}" for name, value in _HASHED.items()))
    try:
        yield
    finally:
        connection.exec_driver_sql("SET SESSION " + ", ".join(f"{name} = DEFAULT" for name in _HASHED))
