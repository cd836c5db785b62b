"""Who may put a file in force, and who may take one away: whoever holds the locks, and has the file noted as its own still.

Locks may be lost at any moment (a restarted server, a session that was ended), and nobody is told. So every transaction that
changes what is in force asks whether they are held, takes back its own note of the file, and looks whether what it replaces is in
force still. A file is removed in a transaction that takes its note back. Names of files are never used again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select

from batchacct.archive.holdings import Archived, archive_path, archived, note_place
from batchacct.archive.layout import month_folder, remove
from batchacct.archive.months import month_name
from batchacct.crashpoints import crash_point
from batchacct.errors import ArchiveError, StoreError
from batchacct.model import RECORD_TYPES, RecordType
from batchacct.store import HeldLocks, Store
from batchacct.store.tables import archive_leftover

LOCKS = ("archive", "publish")
"""What nobody else may do meanwhile: what a file says of the ledger is to stay true."""


@contextmanager
def locked(store: Store) -> Iterator[HeldLocks]:
    """Holds the work of archiving and publishing for this process.  Raises: BusyError."""
    with store.lock(*LOCKS) as locks:
        yield locks


def require(locks: HeldLocks) -> None:
    """Raises: StoreError if the locks were lost."""
    for name in LOCKS:
        locks.require(name)


@contextmanager
def unless_overtaken(locks: HeldLocks) -> Iterator[None]:
    """For an ArchiveError in the body, raises a StoreError if the locks were lost: another process has removed the file then."""
    try:
        yield
    except ArchiveError:
        require(locks)
        raise


def require_in_force(connection: Connection, record_type: RecordType, month: int, expected: Archived | None) -> None:
    """Raises: StoreError unless the books of a month are those that were looked at before."""
    if next((one for one in archived(connection, record_type) if one.month == month), None) != expected:
        raise _overtaken(record_type, month)


def note_leftover(connection: Connection, record_type: RecordType, month: int, name: str) -> None:
    """Notes a file that is not in force yet, or not any more."""
    connection.execute(insert(archive_leftover).values(record_type=record_type.name, month=month, file_name=name))


def claim(connection: Connection, record_type: RecordType, month: int, name: str) -> None:
    """Takes back one's own note of a file that is to be in force.  Raises: StoreError if somebody else has."""
    if not _taken_back(connection, record_type.name, month, name):
        raise _overtaken(record_type, month)


def _taken_back(connection: Connection, record_type: str, month: int, name: str) -> bool:
    """Takes a note back; False if it is not there. Whoever else wants to waits until this transaction ends."""
    c = archive_leftover.c
    noted = (c.record_type == record_type, c.month == month, c.file_name == name)
    return connection.execute(delete(archive_leftover).where(*noted)).rowcount == 1


def _overtaken(record_type: RecordType, month: int) -> StoreError:
    return StoreError(
        f"{month_name(month)} of the {record_type.name} records was taken over by another process: nothing was changed. Run again"
    )


def drop_leftover(store: Store, path: Path, record_type: RecordType, month: int, name: str) -> None:
    """Removes a file that is noted as a leftover; one that is not is in force, or gone."""
    with store.writing() as connection:
        if _taken_back(connection, record_type.name, month, name):
            remove(month_folder(path, record_type, month) / name)
            crash_point("archive.removed")


def tidy(store: Store, path: Path, now: int) -> None:
    """Notes where the archive is, all of whose files have to be there, and removes what killed runs have left."""
    with store.reading() as connection:
        known = archive_path(connection)
        for record_type in RECORD_TYPES.values():
            for month in archived(connection, record_type):
                _check_there(month, path, known)
        rows = connection.execute(select(archive_leftover)).all()
    for row in rows:
        drop_leftover(store, known or path, RECORD_TYPES[row.record_type], row.month, row.file_name)
    with store.writing() as connection:
        note_place(connection, path, now)


def _check_there(month: Archived, path: Path, known: Path | None) -> None:
    """Raises: ArchiveError if a file in force is not in the archive: it was moved, or what is at its place is not the archive."""
    if month.file is None:
        return
    file = month_folder(path, month.record_type, month.month) / month.file.name
    if file.is_file():
        return
    if known != path:
        raise ArchiveError(
            f"[archive] path is {path} now, but {file} is not there: move all of {month.file.parents[2]} to it, or set it back"
        )
    raise ArchiveError(
        f"archive: {file} is in force, and is not there: mount the file system of {path}, or restore the file from a backup; "
        "nothing was changed"
    )
