"""Following files: which file is which, and how far it was read."""

from batchacct.following.position import Position, locate, read_fully, skip

__all__ = ["Position", "locate", "read_fully", "skip"]
