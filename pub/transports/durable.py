"""Files that are handed over: on the disk when they are said to be, and what to do where they cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from batchacct.errors import PublishError
from pub.transports.contract import Message

DIRECTORY_MODE = 0o2770
FILE_MODE = 0o640
"""A group that both sides share may take files away, and nobody else read them: they name people."""

_ADVICE = {
    errno.EACCES: "Let the user that publishes write there (and search every folder on the way), then publish again.",
    errno.EPERM: "Let the user that publishes write there; a file system without hard links cannot be used.",
    errno.EROFS: "The file system is read-only: mount it for writing, or set another folder.",
    errno.ENOSPC: "The file system is full: make room (does whoever reads there run?), then publish again.",
    errno.EDQUOT: "The quota is used up: make room (does whoever reads there run?), then publish again.",
    errno.EFBIG: "The file is larger than this process may write: raise its file size limit (`ulimit -f`).",
    errno.ENOENT: "Create the folder that is missing, or set another one.",
    errno.ENOTDIR: "Something that is no folder stands in its place: move it away, or set another folder.",
    errno.EEXIST: "Another publisher is writing the same message: let only one of them run.",
    errno.EMLINK: "The file system allows no more links there: let whoever reads there empty the folder first.",
}
_OTHER_ADVICE = "See to the file system, then publish again."


def advice(error: OSError) -> str:
    """What to do about it, as a sentence."""
    return _ADVICE.get(error.errno or 0, _OTHER_ADVICE)


def made_directory(path: Path) -> bool:
    """Whether the folder had to be made."""
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        return False
    path.chmod(DIRECTORY_MODE)
    return True


def write(descriptor: int, payload: bytes) -> None:
    """Writes and syncs the payload and closes the file; its mode is set, as the umask may be narrower than it."""
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, FILE_MODE)
        file.write(payload)
        file.flush()
        os.fsync(descriptor)


def demand_same(target: Path, message: Message) -> None:
    """A file of that name is the message itself, handed over before, or nothing may be touched."""
    if target.read_bytes() != message.payload:
        raise PublishError(
            f"Message {message.id} of the outbox cannot be handed over: {target} is there and holds something else. "
            "Find out which publisher wrote it (two outboxes must not share a folder), move it away, publish again."
        )
