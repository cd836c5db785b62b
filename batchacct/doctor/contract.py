"""What a check is: it looks at one thing, changes nothing, and says what it found and what to do.

A check is registered under the entry point group `batchacct.checks`, by the rooms and by plug-ins alike. It runs in a thread of its
own, beside the others, and is left behind where it takes too long.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from batchacct.config import Config
from batchacct.errors import BatchacctError
from batchacct.ledger.state import State, read_state
from batchacct.store import Store

CHECKS = "batchacct.checks"

T = TypeVar("T")


class Level(enum.StrEnum):
    """An error is mended today, a warning looked into; what is not applicable cannot be checked here, or need not be."""

    OK = "ok"
    NOT_APPLICABLE = "not applicable"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of `subject`, in a line; and in another one what to do, if it is a warning or an error."""

    level: Level
    subject: str
    found: str
    todo: str | None = None


def ok(subject: str, found: str) -> Finding:
    return Finding(Level.OK, subject, found)


def not_applicable(subject: str, found: str) -> Finding:
    return Finding(Level.NOT_APPLICABLE, subject, found)


def warning(subject: str, found: str, todo: str) -> Finding:
    return Finding(Level.WARNING, subject, found, todo)


def error(subject: str, found: str, todo: str) -> Finding:
    return Finding(Level.ERROR, subject, found, todo)


class NotKnownError(Exception):
    """What a check looks at cannot be known, as something is wrong that another check tells of."""


class Examined:
    """What is examined: a configuration at a time (Unix seconds). What several checks look at is read once."""

    def __init__(self, config: Config, now: int) -> None:
        self.config, self.now = config, now
        self._turn = threading.RLock()
        self._read: dict[str, object] = {}

    def opened_store(self) -> Store:
        """The database, of this program's schema.  Raises: ConfigError, SchemaError, StoreError."""
        return self._once("store", self._open)

    @property
    def store(self) -> Store:
        """The same for all checks but the database's own.  Raises: NotKnownError."""
        return self._or_not_known(self.opened_store)

    @property
    def state(self) -> State:
        """All that `batchacct status` tells.  Raises: NotKnownError."""
        return self._or_not_known(lambda: self._once("state", lambda: read_state(self.opened_store(), self.config, self.now)))

    def close(self) -> None:
        """Lets go of the database."""
        store = self._read.get("store")
        if isinstance(store, Store):
            store.close()

    def _open(self) -> Store:
        store = Store(self.config.database.resolved())
        try:
            store.check()
        except BatchacctError:
            store.close()
            raise
        return store

    def _or_not_known(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except BatchacctError as failed:
            raise NotKnownError("the database cannot be asked") from failed

    def _once(self, name: str, read: Callable[[], T]) -> T:
        with self._turn:
            if name not in self._read:
                try:
                    self._read[name] = read()
                except BatchacctError as failed:
                    self._read[name] = failed
            found = self._read[name]
        if isinstance(found, BatchacctError):
            raise found
        return cast("T", found)


class Check(Protocol):
    """Anything registered under `CHECKS`."""

    def __call__(self, examined: Examined, /) -> Iterable[Finding]:
        """Looks, and changes nothing; at least one finding, and no wait that is longer than a few seconds where it can be helped.

        Raises: NotKnownError; BatchacctError, which becomes a finding.
        """
