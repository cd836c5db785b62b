"""Random histories of a folder of logs and its collector: played, compared with the model, and made short when they fail.

A history is a text, `glob appends: write 3; rotate 3 1; kill 2; write 1; during 4 reopen 1 & write 2; look`, so that one that
failed can be kept as a test. What cannot be done as things stand is passed over: any part of a history is a history.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

from batchacct.collector import Collected, Collector, Follower, collect_once
from batchacct.errors import CheckpointError, StoreError
from batchacct.parsing import Source
from batchacct.store import Store
from tests.following.folder import NAME, Folder
from tests.following.model import File, Log, compare, numbered
from tests.records import NOW

STEP_S = 0.37
QUIET_S = 55
"""What became of a deleted file is read through its handle at least until it was quiet for so long."""
LIVE_S = 3600
NOBODY = 65_534


class Killed(BaseException):
    """The process ends here: raised at a crash point, in place of what SIGKILL does there."""


class Fault(AssertionError):  # noqa: N818 - it is found, not made
    """The collector did what it must not."""


class Database(Protocol):
    """One database for many histories. (One store, too: what it has made of its statements is half the work of a history.)"""

    store: Store

    def empty(self) -> None:
        """Leaves the schema in it and nothing else."""

    def hinder(self) -> bool:
        """Makes what is done next fail, as a server does that goes away; whether that was possible."""

    def release(self) -> None:
        """Ends that."""

    def close(self) -> None:
        """Leaves the server as it was."""


@dataclass(frozen=True)
class History:
    """`options`: glob (else the path alone is configured), appends (else the writer is stale), header, small (blocks), cron
    (each look is a run of its own, `collect --once`).
    """

    options: frozenset[str]
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' '.join(sorted(self.options))}: {'; '.join(self.actions)}"

    @staticmethod
    def of(text: str) -> History:
        options, _, actions = text.partition(":")
        return History(frozenset(options.split()), tuple(a for action in actions.split(";") if (a := action.strip())))


class Play:
    """One history as it is played, on one database in one folder."""

    def __init__(self, history: History, database: Database, path: Path) -> None:
        self.database, self.history, self.is_cron = database, history, "cron" in history.options
        path.mkdir(mode=0o755)
        self.folder = Folder(
            path, float(NOW), appends="appends" in history.options, header="header" in history.options, hours=not self.is_cron
        )
        database.empty()
        self.counts: Counter[str] = Counter(histories=1)
        pattern = f"{path}/{NAME}*" if "glob" in history.options else f"{path}/{NAME}"
        self.collector = Collector(numbered, Source("farm"), (pattern,))
        self._held: dict[File, tuple[int, float]] = {}
        self._draining: dict[File, int] = {}
        self._seen: dict[Log, int] = {}
        self.follower = self._new()

    def run(self) -> Counter[str]:
        """Plays it to its end.  Raises: Fault where the store is not what the model says; whatever the collector raises."""
        try:
            if "glob" not in self.history.options:  # what was rotated before the first look was never asked for
                self.act("write 1")
                self.act("look")
            for action in self.history.actions:
                self.act(action)
            self._end()
        finally:
            self.folder.close()
            self.follower.close()
            self.database.store.close()
        return self.counts

    def act(self, action: str) -> None:
        name, *words = action.split()
        self.folder.pause(STEP_S)
        self.counts["actions"] += 1
        self.counts["restarts"] += name == "restart"
        if name in ("kill", "fail"):
            self.look(None, int(words[0]), self._kill if name == "kill" else self._hinder)
        elif name == "during":
            events = [event.split() for event in " ".join(words[1:]).split(" & ")]
            self.look(None, int(words[0]), lambda: self._meanwhile(events), adds_only=all(event[0] in WRITING for event in events))
        elif name in ("look", "told"):
            self.look(frozenset(self.folder.touched) if name == "told" else None)
        elif name == "restart":
            self._start()
        else:
            self._do(name, words)

    # --- looks --------------------------------------------------------------------------------------------------------------

    def look(
        self,
        changed: frozenset[str] | None,
        at: int = 0,
        event: Callable[[], bool] | None = None,
        *,
        adds_only: bool = True,
    ) -> Collected | None:
        """One look; at its crash point number `at`, whichever that is, and at the next ones until it returns True, the event.

        `adds_only`: whatever it does, what could be read before can be read where it was.
        """
        readable, odd = self.folder.readable(), self.folder.is_odd
        self._held = {file: held for file, held in self._held.items() if self.folder.ticks - held[1] < LIVE_S}
        through_handles = {file: file.log.whole_lines(file.length) for file in self._held if not self._is_named(file)}
        self.counts["looks"] += 1
        passed = happened = 0

        def point(name: str) -> None:
            nonlocal passed, happened
            passed += 1
            if event is not None and passed >= at and not happened:
                happened = event()

        try:
            with crash_points(point), acting_as(NOBODY if self.folder.is_denied else os.getuid()):
                done = self._look(changed)
        except Killed:
            self._start()
            return None
        except StoreError:
            if event != self._hinder or not happened:
                raise
            self.counts["database failures"] += 1
            self._draining = {}
            self._held.clear()
            self._seen.clear()
            return None
        finally:
            self.database.release()
        self._check(done, may_err=odd or self.folder.is_odd or event is not None)
        if adds_only:
            self._must_have(done, readable, through_handles)
        if event is None:
            self._note_seen(done)
            self.folder.touched.clear()
        if event == self._kill:
            self.counts["kills"] += 1
            self._start()
        return done

    def _look(self, changed: frozenset[str] | None) -> Collected:
        if self.is_cron:
            return collect_once(self.database.store, self.collector, lambda: int(self.folder.now))
        return self.follower.look(changed)

    def _check(self, done: Collected, *, may_err: bool) -> None:
        for error in done.errors:
            if not self.is_cron and (isinstance(error, CheckpointError) or not may_err):
                raise Fault(f"it stopped, or could not read: {error.message}")
        self.counts["bytes told to be lost"] += done.lost_bytes

    def _must_have(self, done: Collected, readable: list[tuple[str, Log, int]], through_handles: dict[File, int]) -> None:
        """After a look that was completed: what could be read must be in the store."""
        if self.is_cron and done.errors:
            return
        for path, log, length in readable:
            if path not in done.waiting:
                log.due = max(log.due, length)
        for file, length in self._draining.items():
            if file in self._held:
                file.log.due = max(file.log.due, length)
        if not self.is_cron:
            self._draining = through_handles
            self._hold({self.folder.names.get(Path(path).name) for path in done.waiting})

    def _hold(self, waiting: Collection[File | None]) -> None:
        """Notes which files the collector has open by now."""
        now, ticks = self.folder.now, self.folder.ticks
        for file in self.folder.names.values():
            if file in waiting:
                continue
            is_live = max(now - file.modified, ticks - file.ticks) < LIVE_S
            if is_live and file.length and not (file.compressed or file.denied) and self._is_named(file):
                self._held.setdefault(file, (-1, ticks))
        for file, (length, grew_at) in list(self._held.items()):
            if file.length != length:
                self._held[file] = (file.length, ticks)
            elif not self._is_named(file) and ticks - grew_at > QUIET_S:
                del self._held[file]

    def _note_seen(self, done: Collected) -> None:
        """Notes how much of each log the collector knows there was: half a line, too."""
        for name, file in self.folder.names.items():
            is_looked_at = name.startswith(NAME) and not (file.compressed or file.denied or self.is_cron)
            if is_looked_at and str(self.folder.path / name) not in done.waiting:
                self._seen[file.log] = max(file.length, self._seen.get(file.log, 0))

    def _is_named(self, file: File) -> bool:
        return any(other is file and name.startswith(NAME) for name, other in self.folder.names.items())

    # --- what happens to the collector ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        """A new process: its connections are new, and nothing is known but what is in the database."""
        self.follower.close()
        self.database.store.close()
        self._held.clear()
        self._draining = {}
        self._seen.clear()
        self.follower = self._new()

    def _new(self) -> Follower:
        began = self.folder.ticks
        clock, ticks = (lambda: int(self.folder.now)), (lambda: self.folder.ticks - began)
        return Follower(self.database.store, self.collector, clock, ticks=ticks)

    def _kill(self) -> bool:
        self.counts["kills"] += 1
        raise Killed

    def _hinder(self) -> bool:
        return self.database.hinder()

    def _meanwhile(self, events: Sequence[Sequence[str]]) -> bool:
        self.counts["changes in the midst of a look"] += 1
        with acting_as(os.getuid()):
            for name, *words in events:
                self._do(name, words)
        return True

    def _do(self, name: str, words: Sequence[str]) -> None:
        DONE_TO_FILES[name](self.folder, *map(int, words))
        self.counts["rotations"] += name in ROTATIONS
        self.counts["truncations"] += name == "truncate"

    # --- the end ------------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """The writer finishes, and the collector has time."""
        folder = self.folder
        folder.allow()
        folder.settle()
        if folder.writer is None or folder.writer.file is not folder.names.get(NAME):
            folder.reopen()
        folder.lines(1)
        done = None
        for pause_s in (1, 61, 61, 3700, 61, 61):
            folder.pause(pause_s)
            done = self.look(None)
        assert done is not None
        if done.errors or done.waiting or done.again:
            raise Fault(f"after hours, it still waits for {done.waiting}, or failed: {done.errors}")
        compared = compare(self.database.store, folder.logs, folder.kept(), self._seen)
        if compared.faults:
            raise Fault("; ".join(compared.faults))
        self.counts["lines"] = compared.lines
        self.counts["lines destroyed before they could be read"] = compared.destroyed


WRITING = frozenset(("write", "bad", "comment", "long", "part", "rest"))
ROTATIONS = frozenset(("rotate", "date", "copy", "copydate", "newday", "link", "delete", "moveout", "zip"))
DONE_TO_FILES: dict[str, Callable[..., None]] = {
    "write": Folder.lines,
    "bad": lambda folder: folder.lines(1, "bad"),
    "comment": lambda folder: folder.lines(1, "#"),
    "long": Folder.long_line,
    "part": Folder.part,
    "rest": Folder.rest,
    "rotate": lambda folder, keep, create: folder.rotate(keep, dated=False, create=bool(create)),
    "date": lambda folder, create: folder.rotate(0, dated=True, create=bool(create)),
    "copy": lambda folder, percent, keep: folder.copy(percent, keep, dated=False),
    "copydate": lambda folder, percent: folder.copy(percent, 0, dated=True),
    "truncate": Folder.truncate,
    "zip": Folder.compress,
    "step": Folder.next_step,
    "newday": lambda folder, flush: folder.new_day(flush=bool(flush)),
    "reopen": lambda folder, flush: folder.reopen(flush=bool(flush)),
    "delete": Folder.delete,
    "prune": Folder.prune,
    "moveout": Folder.move_out,
    "movein": Folder.move_in,
    "link": lambda folder, flush: folder.link(flush=bool(flush)),
    "edit": Folder.edit,
    "deny": Folder.deny,
    "allow": Folder.allow,
    "pause": Folder.pause,
    "clock": Folder.set_clock,
}


@functools.cache
def _with_crash_points() -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith("batchacct.") and hasattr(module, "crash_point")]


@contextlib.contextmanager
def crash_points(point: Callable[[str], None]) -> Iterator[None]:
    """Calls `point` at each crash point of whatever module."""
    with pytest.MonkeyPatch.context() as patch:
        for module in _with_crash_points():
            patch.setattr(module, "crash_point", point)
        yield


@contextlib.contextmanager
def acting_as(user: int) -> Iterator[None]:
    """As another user, if this is root, who may read every file."""
    own = os.geteuid()
    if os.getuid() == 0:
        os.seteuid(0)
        os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0 if os.getuid() == 0 else own)
        os.seteuid(own)
