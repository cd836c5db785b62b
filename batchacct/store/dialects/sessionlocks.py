"""Locks that a database keeps for a session: advisory locks of PostgreSQL, `GET_LOCK` of MariaDB and MySQL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, Engine, literal, select
from sqlalchemy.exc import SQLAlchemyError

from batchacct.errors import BusyError

Question = Callable[[str], ColumnElement[bool]]
"""An expression that takes, or gives back, the lock of a name; true if that worked."""


class SessionLocks:
    """The locks of one session, which is not of the pool and is for nothing else; gone with its connection."""

    def __init__(self, engine: Engine, taking: Question, giving: Question) -> None:
        self._engine, self._taking, self._giving = engine, taking, giving
        self._connection: Connection | None = None
        self._held: set[str] = set()
        self._turn = threading.RLock()

    def take(self, name: str) -> None:
        with self._turn:
            if not self._asked(self._taking(name)):
                raise BusyError(f"another process is doing `{name}` on this database: wait for it, or end it")
            self._held.add(name)

    def give(self, name: str) -> None:
        with self._turn, contextlib.suppress(SQLAlchemyError):  # a connection that is lost holds nothing
            if name in self._held:
                self._held.remove(name)
                self._asked(self._giving(name))

    def holds(self, name: str) -> bool:
        with self._turn:
            return name in self._held and bool(self._asked(literal(value=True)))

    def close(self) -> None:
        with self._turn:
            for name in tuple(self._held):  # a server may take a while to notice that a session has ended
                self.give(name)
            self._lose()

    def _asked(self, question: ColumnElement[bool]) -> bool | None:
        try:
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                self._connection.detach()
            return self._connection.scalar(select(question))
        except SQLAlchemyError:
            self._lose()
            raise

    def _lose(self) -> None:
        self._held.clear()
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None
