"""The model test: random histories of logs and their collector, on each database; nothing lost, nothing doubled.

How many histories are played on each is `BATCHACCT_HISTORIES` (see `make crash`). One that fails is told by its number, and as
the shortest part of it that fails still, which is to be added to FAILED_ONCE with a name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchacct.errors import BatchacctError
from batchacct.parsing import reading
from tests.fix_counts import RecordProperty, record_counts
from tests.following.chances import random_history, shortened
from tests.following.databases import MariaDatabase, PostgresServer, SqliteFile
from tests.following.histories import Database, History, Play
from tests.following.model import LONGEST_UNIT

WANTED = int(os.environ.get("BATCHACCT_HISTORIES", "0"))
NUMBERS = {"SQLite": range(WANTED or 60), "PostgreSQL": range(WANTED or 20), "MariaDB": range(WANTED or 6)}
TOGETHER = 30
SMALL_BLOCK = 700
TOLD = (
    "histories", "actions", "looks", "rotations", "truncations", "kills", "restarts", "database failures",
    "changes in the midst of a look", "lines", "lines destroyed before they could be read", "bytes told to be lost",
)  # fmt: skip
"""What is counted, in the order in which it is told; a line that is lost or doubled fails its history."""

FAILED_ONCE = {
    "an empty file grows between being opened and being read": "glob: during 1 write 2",
    "a head is less than the file when it is read": "glob header: date 0; during 2 write 1",
    "a file that was not there at the last look has changed": "appends: write 20; copy 40 1; truncate; told; copy 40 1",
    "replaced by its like, of which the old one is open": "appends: look; write 1; edit",
    "replaced by its like, with half a line": "appends: look; part 30; edit",
    "replaced by its like, when nothing of it was known": "glob: look; write 1; edit",
    "a long one replaced by its like, when nothing of it was known": "glob: look; write 150; edit",
    "compressed with the rest of a line, the first of its log": "glob: part 99; during 3 rotate 2 1; zip 0 100",
    "compressed with the rest of a line": "appends: part 50; look; rotate 1 0; reopen 1; zip 0 100; step; step; look",
    "a short copy, whose original was read on": "appends glob: bad; copy 100 2; step; write 2; look; truncate; look; restart",
    "a short copy beside its original, after a restart": "glob header: during 8 copy 0 4; write 3; link 1; bad; look; kill 3",
    "a short copy, a like header": "glob header: write 2; copy 100 4; step; write 1; look; newday 1; part 50; look; restart",
    "half a line alone in a copy, and a restart": ": truncate; part 70; copydate 40; truncate; pause 3500; write 3; look; kill 3",
    "half a line in a copy, and a restart": ": part 70; copydate 40; truncate; pause 3500; write 3; look; kill 3",
    "two copies, the first with half a line": "glob: part 40; copy 100 4; step; part 50; copy 100 4; step; truncate; look",
    "what was deleted had the name of another": ": part 99; part 99; during 2 part 95; copy 0 3; truncate; look; copy 0 1",
    "a rotated file of a path, found long after the first look": "appends: newday 1; write 60; pause 90000",
    "a file that was missing is a link to one that was read": "appends: copy 0 2; write 8; during 2 moveout; link 1",
    "a file begins like another and is deleted": "header: delete; reopen 1; look; write 2; delete",
    "a header alone, then another file that begins with it": "glob header: told; write 1; delete",
    "replaced by its like, and moved away, with half a line": "appends: part 30; edit; told; moveout",
    "half a line for hours, in a file that is then renamed": "appends: part 50; look; pause 3700; rotate 3 1; look; rest; reopen 1",
    "half a line for a minute, in a file that is then deleted": "appends: part 50; look; pause 70; delete; look; look; rest; look",
    "half a line when the clock is set": "appends: part 50; look; rotate 3 1; look; clock 4000; look; rest; reopen 1",
    "a path is rotated when the clock was set back": "appends: clock -70; write 20; copy 100 4; truncate",
    "turned into a link, with a line that lacks its end": ": bad; part 99; link 0; link 1; write 20",
    "written anew between being opened and being read": (
        "appends: rotate 3 1; reopen 1; during 13 truncate; write 20; during 1 copy 40 1 & step & truncate & write 300"
    ),
    "truncated behind what was read": "appends: part 95; copy 0 1; truncate; part 99; told; pause 3700; during 10 truncate",
}


class Players:
    """Databases that are made when they are asked for, and a folder for each history."""

    def __init__(self, folder: Path, logs: Path, of_session: Callable[[str], Any]) -> None:
        self._folder, self._logs, self._of_session = folder, logs, of_session
        self._databases: dict[str, Database] = {}
        self._played = 0

    def play(self, kind: str, history: History) -> Counter[str]:
        """Raises: what `Play.run` does."""
        if kind not in self._databases:
            self._databases[kind] = self._made(kind)
        self._played += 1
        path = self._logs / str(self._played)
        assert reading.read_blocks.__kwdefaults__ is not None
        reading.read_blocks.__kwdefaults__["block_bytes"] = SMALL_BLOCK if "small" in history.options else reading.BLOCK_BYTES
        try:
            return Play(history, self._databases[kind], path).run()
        finally:
            shutil.rmtree(path)

    def _made(self, kind: str) -> Database:
        if kind == "SQLite":
            return SqliteFile(self._folder)
        if kind == "PostgreSQL":
            return PostgresServer(self._of_session("postgresql_url"))
        return MariaDatabase(self._of_session("mariadb"))

    def why(self, kind: str, history: History) -> str:
        """What is wrong with a history; "" for nothing."""
        try:
            self.play(kind, history)
        except (AssertionError, BatchacctError, OSError, LookupError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def close(self) -> None:
        for database in self._databases.values():
            database.close()


def sort_of(why: str) -> str:
    """Of all that is wrong the worst, so that what is left of a history that is shortened fails for the same reason."""
    return next((sort for sort in ("LOST", "DOUBLED", "read again", "to be lost", "stopped", "waits") if sort in why), why[:20])


@pytest.fixture(scope="module")
def players(request: pytest.FixtureRequest) -> Iterator[Players]:
    """In folders that a user without rights may enter; the SQLite file where writing to the disk is not waited for."""
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchacct.store.dialects.sqlite.BUSY_TIMEOUT_S", 0.02)
        patch.setattr(reading, "LONGEST_UNIT_BYTES", LONGEST_UNIT)
        stack.callback(os.umask, os.umask(0o022))
        folder, logs = (Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place))) for place in (memory, None))
        logs.chmod(0o755)
        defaults = reading.read_blocks.__kwdefaults__
        assert defaults is not None
        stack.callback(defaults.update, dict(defaults))
        yield stack.enter_context(contextlib.closing(Players(folder, logs, request.getfixturevalue)))


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("name", FAILED_ONCE)
def test_a_history_that_failed_once(players: Players, kind: str, name: str) -> None:
    assert players.play(kind, History.of(FAILED_ONCE[name]))["histories"] == 1


@pytest.mark.parametrize(
    ("kind", "first"),
    [(kind, first) for kind, numbers in NUMBERS.items() for first in numbers[::TOGETHER]],
)
def test_random_histories(players: Players, record_property: RecordProperty, kind: str, first: int) -> None:
    counts: Counter[str] = Counter()
    for number in NUMBERS[kind][first : first + TOGETHER]:
        history = random_history(number)
        try:
            counts += players.play(kind, history)
        except Exception as error:
            wrong = sort_of(f"{type(error).__name__}: {error}")
            short = shortened(history, lambda h, wrong=wrong: sort_of(players.why(kind, h)) == wrong)  # type: ignore[misc]
            raise AssertionError(f"history {number} on {kind}: {short}\n{players.why(kind, short)}") from error
    told = {what: counts[what] for what in TOLD} | {"lines lost": 0, "lines doubled": 0}
    record_counts(record_property, f"random histories on {kind}", told)
    assert counts["histories"] == len(NUMBERS[kind][first : first + TOGETHER])
