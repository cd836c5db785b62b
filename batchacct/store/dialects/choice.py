"""Which dialect a database URL asks for; a driver is imported only where it is used."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import URL

from batchacct.errors import ConfigError
from batchacct.store.dialects.base import Dialect


def dialect_of(url: URL) -> Dialect:
    """The dialect for a database URL.  Raises: ConfigError for a database this release does not store into."""
    backend = url.get_backend_name()
    if backend not in _DIALECTS:
        raise ConfigError(
            f"no store for {backend} in this release: use sqlite:///PATH, postgresql://USER@HOST/DATABASE or "
            "mariadb://USER@HOST/DATABASE"
        )
    return _DIALECTS[backend]()


def _sqlite() -> Dialect:
    from batchacct.store.dialects.sqlite import SqliteDialect  # noqa: PLC0415

    return SqliteDialect()


def _postgresql() -> Dialect:
    from batchacct.store.dialects.postgresql import PostgresDialect  # noqa: PLC0415

    return PostgresDialect()


def _mariadb() -> Dialect:
    from batchacct.store.dialects.mariadb import MariaDialect  # noqa: PLC0415

    return MariaDialect()


_DIALECTS: dict[str, Callable[[], Dialect]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "mysql": _mariadb,
}
