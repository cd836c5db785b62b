"""Following files: which file is which, and how far it was read."""

from batchacct.following.position import Position, locate, read_fully, skip, unread_bytes

__all__ = ["Position", "locate", "read_fully", "skip", "unread_bytes"]
