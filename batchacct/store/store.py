"""The store: one database, its schema version, and transactions on it."""

from __future__ import annotations

import contextlib
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import TypeVar

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from batchacct.connection import check_url
from batchacct.errors import BusyError, ConfigError, SchemaError, StoreError
from batchacct.store import schema
from batchacct.store.dialects import dialect_of
from batchacct.store.tables import RECORD_TABLES

log = logging.getLogger(__name__)

T = TypeVar("T")
DEADLOCKS = 5
"""Tries after which a transaction is given up."""
LONGEST_PAUSE_S = 0.5


_EXTRAS = {"postgresql": "postgres", "mariadb": "mysql", "oracle+cx_oracle": "cx_oracle"}
"""What installs the driver of a database, where its name is not the database's."""


class Store:
    """A database by its SQLAlchemy URL; connecting happens at the first use, and every database error is a StoreError."""

    reads_in: Connection | None = None
    """The transaction in which everything is read, of a store of `one_state`."""

    def __init__(self, url: str) -> None:
        self._turn = threading.Lock()
        try:
            parsed = make_url(check_url(url))
            self.dialect = dialect_of(parsed)
            self.shown_url = parsed.render_as_string(hide_password=True)
            self.engine: Engine = self.dialect.engine(parsed)
        except NoSuchModuleError as error:
            raise ConfigError(f"no such database: {error}") from error
        except ImportError as error:
            extra = _EXTRAS.get(parsed.drivername, _EXTRAS.get(parsed.get_backend_name(), parsed.get_backend_name()))
            raise ConfigError(f"the driver for this database is missing ({error}): pip install 'batchacct[{extra}]'") from error

    def create(self) -> bool:
        """Makes the schema in an empty database, in this program's version; False if it is there. Harmless when repeated.

        Raises: SchemaError if the database has another version, or tables of something else; BusyError.
        """
        with self.errors():
            self.dialect.prepare(self.engine)
            found = self._state()
            if found == schema.State(schema.head()):
                return False
            from batchacct.store import migrating  # noqa: PLC0415 - slow to import

            if found.version is not None and not found.is_interrupted:
                with self.engine.connect() as connection:
                    migrating.refuse_foreign(connection, found)
                raise SchemaError(self._older(found.version))
            with self.lock("migrate"):
                migrating.upgrade(self.engine, self.dialect)
        return True

    def migrate(self) -> tuple[str | None, str]:
        """Brings the schema of an older version to this program's: from which version to which.

        One that was interrupted goes on where it stopped.  Raises: SchemaError, BusyError.
        """
        with self.errors():
            found = self._state() if self.dialect.is_there(self.engine) else schema.State(None)
            if found == schema.State(None):
                raise SchemaError(f"{self.shown_url} has no batchacct schema: run `batchacct db create`")
            if found != schema.State(schema.head()):
                from batchacct.store import migrating  # noqa: PLC0415 - slow to import

                self.dialect.prepare(self.engine)
                with self.lock("migrate"):
                    migrating.upgrade(self.engine, self.dialect)
        return found.version, schema.head()

    def preview_migration(self) -> list[str]:
        """The SQL that `migrate` would run.  Raises: SchemaError."""
        from batchacct.store import migrating  # noqa: PLC0415 - slow to import

        with self.errors(), self.engine.connect() as connection:
            return list(migrating.preview(connection, self.dialect))

    def check(self) -> None:
        """Raises: SchemaError unless the schema is there in exactly this program's version."""
        if not self.dialect.is_there(self.engine):
            raise SchemaError(f"{self.shown_url} does not exist: run `batchacct db create`")
        with self.errors():
            found = self._state()
        if found.is_interrupted:
            raise SchemaError(f"{self.shown_url}: a change of its schema was interrupted; `batchacct db migrate` goes on with it")
        if found.version is None:
            raise SchemaError(f"{self.shown_url} has no batchacct schema: run `batchacct db create`")
        if found.version != schema.head():
            raise SchemaError(self._older(found.version))

    def check_rights(self) -> None:
        """Raises: StoreError if this account may not make temporary tables."""
        with self.errors(), self.engine.connect() as connection:
            grant = self.dialect.missing_grant(connection)
        if grant is not None:
            raise StoreError(
                f"database {self.shown_url}: this account may not make temporary tables, as joining does, and storing "
                f"records of which some are known. Have an administrator run: {grant};"
            )

    def _state(self) -> schema.State:
        with self.engine.connect() as connection:
            return schema.state(connection, self.dialect)

    def _older(self, version: str) -> str:
        """What to say of another version."""
        wanted = schema.head()
        advice = "run `batchacct db migrate`" if version < wanted else "upgrade this program"
        return f"{self.shown_url} has schema {version}, this program needs {wanted}: {advice}"

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end of the body, rolled back if that raises."""
        with self.errors(), self.engine.execution_options(writing=True).begin() as connection:
            yield connection

    @contextmanager
    def appending(self) -> Iterator[Connection]:
        """A transaction that appends records: one at a time, in this process (where threads take turns) and in the database.

        Raises: SchemaError if the database was migrated since this process began: it does not know what is to be said there.
        """
        with self._turn, self.writing() as connection:
            self.dialect.append_alone(connection)
            if (found := schema.version(connection)) != schema.head():
                raise SchemaError(
                    f"{self.shown_url} was brought to schema {found} while this program, which needs {schema.head()}, was running: "
                    "restart it. Nothing was stored by this step; what it was to store is still in its source"
                )
            yield connection

    def untangled(self, transaction: Callable[[], T]) -> T:
        """What a transaction comes to; it is tried again if the database has undone it in favour of another one (a deadlock)."""
        for _ in range(DEADLOCKS):
            try:
                return transaction()
            except StoreError as error:
                cause = error.__cause__
                if not self.dialect.is_deadlock(cause.orig if isinstance(cause, DBAPIError) else cause):
                    raise
                log.info("%s: trying again", error.message)
                time.sleep(random.uniform(0, LONGEST_PAUSE_S))  # noqa: S311 - so that two do not meet again
        return transaction()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads, seeing one state of the database; partitions are neither made nor dropped meanwhile."""
        if self.reads_in is not None:
            with self.errors():
                yield self.reads_in
            return
        with self.errors(), self.engine.execution_options(holding=tuple(RECORD_TABLES)).begin() as connection:
            yield connection

    @contextmanager
    def one_state(self) -> Iterator[Store]:
        """This store as it is now: whatever is read of it in the body, in however many questions, is in one transaction.

        A month that is archived anew meanwhile is not found any more: ask within `despite_archiving`.
        """
        with self.reading() as connection:
            as_it_is = copy(self)
            as_it_is.reads_in = connection
            yield as_it_is

    @contextmanager
    def lock(self, *names: str, patience_s: float = 0) -> Iterator[HeldLocks]:
        """Holds the named work for this process.  Raises: BusyError if another has it, and still has it after `patience_s`."""
        locks = self.locks()
        try:
            for name in names:
                locks.take(name, patience_s=patience_s)
            yield locks
        finally:
            locks.close()

    def locks(self) -> HeldLocks:
        """Locks on named work, to be held for long."""
        return HeldLocks(self)

    def size_bytes(self) -> int | None:
        with self.errors():
            return self.dialect.size_bytes(self.engine)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises: StoreError for every database error in the body."""
        try:
            yield
        except DBAPIError as error:
            raise self._told(error.orig) from error
        except self.dialect.driver_error as error:
            raise self._told(error) from error
        except SQLAlchemyError as error:
            raise StoreError(f"database {self.shown_url}: {_first_line(error)}") from error

    def _told(self, error: BaseException | None) -> StoreError:
        return StoreError(f"database {self.shown_url}: {_first_line(error)}. {_advice(error)}")


class HeldLocks:
    """Named work that this process holds, on every machine that uses the database. For any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks = store.dialect.locks(store.engine)

    def take(self, name: str, *, patience_s: float = 0) -> None:
        """Raises: BusyError if another process has it, and does not give it back within `patience_s`; StoreError."""
        until = time.monotonic() + patience_s
        while True:
            try:
                with self._store.errors():
                    self._locks.take(name)
            except BusyError:
                if time.monotonic() >= until:
                    raise
                time.sleep(LONGEST_PAUSE_S)
            else:
                return

    def give(self, name: str) -> None:
        """Gives it back; harmless if it is not held."""
        self._locks.give(name)

    def holds(self, name: str) -> bool:
        """Whether it is held still: with a lost connection its locks are lost.  Raises: StoreError."""
        with self._store.errors():
            return self._locks.holds(name)

    def require(self, name: str) -> None:
        """Raises: StoreError if it is not held any more."""
        if not self.holds(name):
            raise StoreError(
                f"database {self._store.shown_url}: the lock on `{name}` was lost, another process may have it. {_NOTHING_STORED}"
            )

    def close(self) -> None:
        """Gives everything back."""
        self._locks.close()


def _first_line(error: BaseException | None) -> str:
    arguments: tuple[object, ...] = getattr(error, "args", ())
    numbered = len(arguments) == 2 and isinstance(arguments[0], int)  # the drivers of MariaDB and MySQL
    said = f"{arguments[1]} (error {arguments[0]})" if numbered else str(error)
    return said.strip().split("\n")[0].rstrip(".")


def _advice(error: BaseException | None) -> str:
    said = _first_line(error).lower() if error is not None else ""
    with contextlib.suppress(StopIteration):
        return next(advice for pattern, advice in _ADVICE if re.search(pattern, said))
    return _NOTHING_STORED


_NOTHING_STORED = "Nothing was stored by this step; what it was to store is still in its source"
_ADVICE = (
    ("create temporary tables", "GRANT TEMPORARY on the database to this account; `batchacct config check` prints the statement"),
    (r"\(error 1045\)", "Check the user name and password in the connection file"),
    (r"\(error (1044|1142|1227|1370)\)", "Grant this user the rights that docs/how-to/databases.md lists"),
    (r"\(error 1049\)", "Create the database, as docs/how-to/databases.md says, or correct the database URL"),
    (r"\(error 1146\)", "Run `batchacct db create`"),
    (r"\(error (1021|1114|1026)\)|errno: 28", "Make room; nothing was lost, it goes on where it stopped"),
    (r"\(error (1205|1213|1412)\)", "Another process was in the way; nothing was lost, it goes on where it stopped"),
    (r"\(error (1153|1301)\)", "Set max_allowed_packet on the database server to more than its largest message or log line"),
    (
        r"\(error (0|2006|2013|2055|1053|1927)\)",
        "Nothing was lost; it goes on once the server is there again (a statement over its max_allowed_packet has the same effect)",
    ),
    (r"\(error (2002|2003|2005)\)", "Is the server running, and the address right?"),
    (r"\(error (1290|1836|3100)\)", "The server is read-only: connect to the one that is written to"),
    (r"ora-(01017|28000|28001)", "Check the user name and password in the connection file"),
    (r"ora-(01031|01045|01950)", "GRANT this user the rights that docs/how-to/oracle.md lists"),
    (r"ora-00942", "Run `batchacct db create`"),
    (r"ora-(0165\d|0168\d|0169\d|01536)", "Make room; nothing was lost, it goes on where it stopped"),
    (r"ora-(00054|00060|04020|30006)", "Another process was in the way; nothing was lost, it goes on where it stopped"),
    (r"ora-(01555|30036)", "The server has too little undo space for this; nothing was lost, it goes on where it stopped"),
    (r"dpy-(4011|6\d\d\d)|ora-(0311\d|12\d\d\d)", "Is the server running, and the address right?"),
    ("password|authentication", "Check the user name and password in the connection file"),
    ('no such table|relation ".*" does not exist', "Run `batchacct db create`"),
    ("does not exist", "Create it, or correct the database URL"),
    ("must be owner", "Run it as the user who owns the tables, or make this one a member of that role"),
    ("refused|could not connect|connection failed|closed the connection", "Is the server running, and the address right?"),
    ("permission denied for", "Grant this user the rights that docs/how-to/databases.md lists"),
    (
        "readonly|read-only|permission denied|unable to open",
        "Give this user write permission on the database and its folder; portal and serve need none while batchacct-collect runs",
    ),
    ("disk is full|no space left", "Make room; nothing was lost, it goes on where it stopped"),
    ("disk i/o error", "If its disk is full, make room, else mend it; nothing was lost, it goes on where it stopped"),
    ("locked", "Another process holds the database; nothing was lost, it goes on where it stopped"),
    ("not a database|malformed", "The file is something else, or damaged: restore it from a backup, or name another"),
)
