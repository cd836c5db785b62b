"""The folder that backfilling writes into: one command at a time, and what it makes is published all at once.

    FOLDER/<record type>/month=.../backfill-*.parquet    the records, as `batchacct.archive.layout` says
    FOLDER/backfills/<run>.json, <run>.rejects.jsonl     the books of each run that ended, and its rejects
    FOLDER/.backfill/                                    what is under way: staged rows, files to be published
    FOLDER/.backfill/commit.json                         the decision to publish, with the books: what it says will be done

A run that is killed before its `commit.json` is there has changed nothing, and goes on with what is staged. One that is killed
after it publishes the rest when it is started again; until then a month may lack records, and has none twice.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from batchacct.archive.layout import finished_files, manifest_path, remove, write_synced
from batchacct.backfill.merging import PREFIX
from batchacct.crashpoints import crash_point
from batchacct.durable import sync_folder
from batchacct.errors import ArchiveError, BusyError
from batchacct.model import RECORD_TYPES, RecordType

BOOKS = "backfills"


@dataclass(slots=True)
class Books:
    """What a run did: units = recorded + merged + known + skipped + rejected; `completed` records were made of merged parts.

    `revised` are those of recorded, merged and completed that replaced another; `wall_s` and `cpu_s` are sums over all revisions in
    the files that were written. `problems` are whole sentences.
    """

    run: str
    ended_at: int = 0
    files: int = 0
    units: int = 0
    recorded: int = 0
    merged: int = 0
    completed: int = 0
    known: int = 0
    revised: int = 0
    skipped: int = 0
    rejected: int = 0
    waiting: int = 0
    skip_reasons: dict[str, int] = field(default_factory=dict)
    parsers: dict[str, int] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """That of its files."""
        return f"{dt.datetime.fromtimestamp(self.ended_at, dt.UTC):%Y%m%dT%H%M%SZ}-{self.run[:8]}"

    @property
    def balance(self) -> bool:
        return self.units == self.recorded + self.merged + self.known + self.skipped + self.rejected


@dataclass(slots=True)
class Commit:
    """What is to be published: files by their paths in the folder to where they go, and files that go away before."""

    books: Books
    away: list[str] = field(default_factory=list)
    moves: dict[str, str] = field(default_factory=dict)
    rejects: str | None = None


class Folder:
    """The folder, locked for this process. A context manager.  Raises: BusyError if another backfill is at work in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / ".backfill"
        self._lock: int | None = None

    def __enter__(self) -> Folder:
        with told(self.path):
            self.work.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock = os.open(self.work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._close()
                raise BusyError(f"another backfill is at work in {self.path}: wait for it, or end it") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def written(self) -> frozenset[str]:
        """The real paths of the folders in it that backfilling writes into."""
        return frozenset(os.path.realpath(self.path / name) for name in (*RECORD_TYPES, BOOKS, self.work.name))

    @property
    def staging(self) -> Path:
        """Where pieces are staged."""
        return self._made(self.work / "pieces")

    def generation(self, name: str) -> Path:
        """Where that is made which depends on all pieces; what other generations left is taken away."""
        for other in self.work.glob("made-*"):
            if other.name != f"made-{name}":
                shutil.rmtree(other, ignore_errors=True)
        return self._made(self.work / f"made-{name}")

    def _made(self, path: Path) -> Path:
        with told(path):
            path.mkdir(mode=0o750, exist_ok=True)
        return path

    def ours(self, record_type: RecordType) -> dict[str, list[str]]:
        """The finished files that backfilling wrote, by month (`2026-11`)."""
        found: dict[str, list[str]] = {}
        for file, manifest in finished_files(self.path, record_type):
            if file.name.startswith(PREFIX):
                found.setdefault(manifest.month, []).append(str(file))
        return found

    def foreign(self, record_type: RecordType) -> set[str]:
        """The months of which there are files that others wrote."""
        return {manifest.month for file, manifest in finished_files(self.path, record_type) if not file.name.startswith(PREFIX)}

    def decided(self) -> Commit | None:
        """What is to be published still."""
        try:
            values = json.loads((self.work / "commit.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Commit(**{**values, "books": Books(**values["books"])})

    def decide(self, commit: Commit) -> None:
        """From here on it is done, whatever happens."""
        crash_point("backfill.before-commit")
        with told(self.work):
            write_synced(self.work / "commit.json", json.dumps(asdict(commit)))
        crash_point("backfill.after-commit")

    def publish(self, commit: Commit) -> None:
        """Does what was decided, as far as it is not done. Harmless when repeated."""
        with told(self.path):
            for name in commit.away:
                remove(self.path / name)
                crash_point("backfill.removed")
            for name, target in commit.moves.items():
                _move(self.path / name, self.path / target)
                crash_point("backfill.moved")
            books = self._made(self.path / BOOKS)
            if commit.rejects is not None and (self.path / commit.rejects).exists():
                (self.path / commit.rejects).replace(books / f"{commit.books.name}.rejects.jsonl")
            write_synced(
                books / f"{commit.books.name}.json", json.dumps({"name": commit.books.name} | asdict(commit.books), indent=1) + "\n"
            )
            crash_point("backfill.before-end")
            (self.work / "commit.json").unlink()
            sync_folder(self.work)

    def tidy(self) -> None:
        """Takes away what was staged."""
        for name in ("pieces", *(path.name for path in self.work.glob("made-*"))):
            shutil.rmtree(self.work / name, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """A Parquet file and then its manifest, without which it does not count."""
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    for file, place in ((source, target), (manifest_path(source), manifest_path(target))):
        if file.exists():
            file.replace(place)
    sync_folder(target.parent)
    sync_folder(target.parent.parent)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Raises: ArchiveError, saying what to do, for every error of the file system in the body."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            f"{error.filename or path}: {error.strerror or error}. Make room, or mend the file system or its permissions, "
            "and start the same command again: it goes on where it stopped"
        ) from error
