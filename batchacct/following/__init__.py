"""Following files: which file is which, and how far it was read."""

from batchacct.following.position import KnownPositions, Position, locate, read_fully, skip, unread_bytes

__all__ = ["KnownPositions", "Position", "locate", "read_fully", "skip", "unread_bytes"]
