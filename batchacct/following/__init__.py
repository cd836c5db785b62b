"""Following files: which file is which, and how far it was read."""

from batchacct.following.opened import HEAD_BYTES, TAIL_BYTES, MovedOnError, OpenFile, read_fully, skip
from batchacct.following.position import (
    KnownPositions,
    Likeness,
    Position,
    changed,
    locate,
    locate_open,
    shorter_copy,
)

__all__ = [
    "HEAD_BYTES",
    "TAIL_BYTES",
    "KnownPositions",
    "Likeness",
    "MovedOnError",
    "OpenFile",
    "Position",
    "changed",
    "locate",
    "locate_open",
    "read_fully",
    "shorter_copy",
    "skip",
]
