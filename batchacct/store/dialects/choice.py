"""Which dialect a database URL asks for; a driver is imported only where it is used."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import URL
from sqlalchemy.engine import Dialect as SqlDialect

from batchacct.errors import ConfigError
from batchacct.store.dialects.base import Dialect


def dialect_of(url: URL) -> Dialect:
    """The dialect for a database URL.  Raises: ConfigError for a database this release does not store into."""
    backend = url.get_backend_name()
    if backend == "oracle":
        return _oracle(url)
    if backend not in _DIALECTS:
        raise ConfigError(
            f"no store for {backend} in this release: use sqlite:///PATH, postgresql://USER@HOST/DATABASE, "
            "mariadb://USER@HOST/DATABASE or oracle+oracledb://USER@HOST/?service_name=NAME"
        )
    return _DIALECTS[backend]()


def statements_of(url: URL) -> SqlDialect:
    """What makes statements for a database, without a connection or, for Oracle, a driver.  Raises: ArgumentError, ImportError."""
    if url.get_backend_name() == "oracle":
        from batchacct.store.dialects.oracle_sql import DRIVERS  # noqa: PLC0415

        return DRIVERS.get(_oracle_driver(url), DRIVERS["oracledb"])()
    return url.get_dialect()()


def _sqlite() -> Dialect:
    from batchacct.store.dialects.sqlite import SqliteDialect  # noqa: PLC0415

    return SqliteDialect()


def _postgresql() -> Dialect:
    from batchacct.store.dialects.postgresql import PostgresDialect  # noqa: PLC0415

    return PostgresDialect()


def _oracle(url: URL) -> Dialect:
    from batchacct.store.dialects.oracle import OracleDialect  # noqa: PLC0415

    return OracleDialect(_oracle_driver(url))


def _oracle_driver(url: URL) -> str:
    """The driver an Oracle URL names; python-oracledb if it names none."""
    return url.drivername.partition("+")[2] or "oracledb"


def _mariadb() -> Dialect:
    from batchacct.store.dialects.mariadb import MariaDialect  # noqa: PLC0415

    return MariaDialect()


_DIALECTS: dict[str, Callable[[], Dialect]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "mysql": _mariadb,
}
