"""Answers the questions of the pages: a few at a time, and answers are kept for as long as the records stay as they are."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

from batchacct.clock import unix_now
from batchacct.config import Config
from batchacct.store import Store
from batchacct.store.version import version
from cpuhours.figures import Figures, StoreFigures
from cpuhours.portal.own_figures import OwnFigures
from cpuhours.portal.viewers import Viewer

T = TypeVar("T")

MOST_KEPT = 200
MOST_KEPT_BYTES = 64 << 20
"""Of pictures and downloads."""
PATIENCE_S = 5.0


class TooManyError(Exception):
    """As many questions as may be are being answered, and none of them was done in time."""


class Kept:
    """Answers by their questions, the ones that were not asked for longest forgotten first. For any number of threads."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._known: OrderedDict[Hashable, object] = OrderedDict()
        self._bytes = 0

    def get(self, question: Hashable) -> object | None:
        with self._turn:
            if question in self._known:
                self._known.move_to_end(question)
            return self._known.get(question)

    def put(self, question: Hashable, answer: object) -> None:
        with self._turn:
            self._bytes += _size(answer) - _size(self._known.get(question))
            self._known[question] = answer
            self._known.move_to_end(question)
            while len(self._known) > MOST_KEPT or self._bytes > MOST_KEPT_BYTES:
                _, gone = self._known.popitem(last=False)
                self._bytes -= _size(gone)


def _size(answer: object) -> int:
    return len(answer) if isinstance(answer, bytes) else 0


class Desk:
    """Asked by the pages, of several threads at a time.

    `drawing` is held by who draws: the settings of that library are of the whole process.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config
        self.kept, self.drawing = Kept(), threading.Lock()
        self._turns = threading.BoundedSemaphore(config.portal.at_once)
        self._known = ("", 0.0)
        """The last version, and until when it is good."""

    def now(self) -> int:
        return unix_now()

    def version(self) -> str:
        """What state the records are in, or were in a few seconds ago (`[portal] fresh`)."""
        known, until = self._known
        if time.monotonic() < until:
            return known
        with self.store.reading() as connection:
            known = version(connection)
        self._known = known, time.monotonic() + self.config.portal.fresh
        return known

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Holds one of the places of those that ask the database.  Raises: TooManyError."""
        if not self._turns.acquire(timeout=PATIENCE_S):
            raise TooManyError
        try:
            yield
        finally:
            self._turns.release()

    def look(self, viewer: Viewer) -> Look:
        """At the records as they are now."""
        return Look(self, viewer, self.version())


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody's look at the records in one `state` (`Desk.version`)."""

    desk: Desk
    viewer: Viewer
    state: str

    @property
    def config(self) -> Config:
        return self.desk.config

    @property
    def figures(self) -> Figures:
        """Those that the viewer may see."""
        every = StoreFigures(self.desk.store)
        who = self.viewer
        return OwnFigures(every, who.accounts, who.identities) if who.own_only else every

    def answer(self, question: Hashable, ask: Callable[[], T]) -> T:
        """The answer to a question: the one that was given in this state, else asked now.

        Raises: TooManyError, and what `ask` raises.
        """
        kept, key = self.desk.kept, (self.viewer.key, self.state, question)
        known = kept.get(key)
        if known is None:
            with self.desk.turn():
                known = kept.get(key)
                if known is None:
                    known = ask()
                    kept.put(key, known)
        return cast("T", known)
