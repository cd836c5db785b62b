"""`procacct tidy`: takes files of nodes away that are in the database to their end and were not written to for long.

Of each its length stays (HOST/.removed/FILE): a message that a broker gives once more is known by it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from batchacct.store import Store
from batchacct.store.tables import followed_file
from procacct.shipping.durable import FOLDER_MODE, replace_file
from procacct.shipping.mirror import REMOVED
from procacct.shipping.ranges import SpoolName


@dataclass(frozen=True, slots=True)
class Old:
    """A file that nobody writes to any more, and whether it is in the database to its end."""

    path: Path
    size: int
    is_collected: bool


def old_files(folder: Path, store: Store, older_than_s: int) -> Iterator[Old]:
    """Files of nodes that were last written to so long ago.  Raises: StoreError, OSError."""
    read_to = _positions(store)
    now = time.time()
    for path in sorted(folder.glob("[!.]*/*.jsonl")):
        status = path.stat()
        if SpoolName.of(path.name) is not None and now - status.st_mtime >= older_than_s:
            yield Old(path, status.st_size, read_to.get((status.st_dev, status.st_ino), -1) >= status.st_size)


def take_away(old: Old) -> None:
    """Raises: OSError."""
    kept = old.path.parent / REMOVED
    kept.mkdir(mode=FOLDER_MODE, exist_ok=True)
    replace_file(kept / old.path.name, str(old.size).encode())
    old.path.unlink()


def _positions(store: Store) -> dict[tuple[int, int], int]:
    """How far each file was read, by device and inode."""
    columns = select(followed_file.c.device, followed_file.c.inode, followed_file.c.offset)
    with store.reading() as connection:
        return {(row.device, row.inode): row.offset for row in connection.execute(columns)}
