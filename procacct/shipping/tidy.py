"""`procacct tidy`: takes files of nodes away that are in the database to their end and were not written to for long.

Of each stays how much it was (HOST/.removed/FILE): a message that a broker gives once more is known by it, and what a node sends
after that, however late, is a file of its own (`mirror.rest_name`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from batchacct.following.position import digest
from batchacct.store import Store
from batchacct.store.tables import followed_file
from procacct.shipping.mirror import file_and_base, note_removed


@dataclass(frozen=True, slots=True)
class Old:
    """A file that nobody writes to any more, and whether it is in the database to its end."""

    path: Path
    size: int
    is_collected: bool


def old_files(folder: Path, store: Store, older_than_s: int) -> Iterator[Old]:
    """Files of nodes that were last written to so long ago.  Raises: StoreError, OSError."""
    positions = _positions(store)
    now = time.time()
    for path in sorted(folder.glob("[!.]*/*.jsonl")):
        status = path.stat()
        if file_and_base(path.name) is not None and now - status.st_mtime >= older_than_s:
            read = positions.get((status.st_dev, status.st_ino), [])
            yield Old(path, status.st_size, any(_is_read_to(path, status.st_size, row) for row in read))


def take_away(old: Old) -> bool:
    """Whether it is as it was when it was looked at, and is gone now.  Raises: OSError."""
    found = file_and_base(old.path.name)
    assert found is not None
    file, base = found
    descriptor = os.open(old.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size != old.size:
            return False
        note_removed(old.path.parent, file, base + old.size)
        old.path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_read_to(path: Path, size: int, row: Row[Any]) -> bool:
    """Whether a position is at the end of this file: a number of a file that was deleted is given to another one."""
    if row.offset != size:
        return False
    with path.open("rb") as file:
        head = file.read(row.head_length)
        file.seek(size - row.tail_length)
        return bool(digest(head) == row.head_hash and digest(file.read(row.tail_length)) == row.tail_hash)


def _positions(store: Store) -> dict[tuple[int, int], list[Any]]:
    """How far files were read, by device and inode, which several may have had."""
    c = followed_file.c
    query = select(c.device, c.inode, c.offset, c.head_length, c.head_hash, c.tail_length, c.tail_hash)
    found: dict[tuple[int, int], list[Any]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            found.setdefault((row.device, row.inode), []).append(row)
    return found
