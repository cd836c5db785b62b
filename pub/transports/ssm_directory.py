"""The outgoing directory of an SSM sender, in the layout of dirq's QueueSimple.

A message becomes `<minute>/<element>`: the minute is 8 hexadecimal digits of its time of building rounded down to
60 s, the element 8 digits of that time and 6 of its number in the outbox (its rest by 16^6). So the names are the
message's own, sort in the order of the outbox, and a message sent a second time, after a crash or a doubt, meets itself
instead of being added twice.

The text is written and synced under `<element>.tmp`, which no reader looks at, and linked to its name only then; the
directory is synced before `send` returns. One publisher at a time writes here: a `.tmp` of the same name is what a
killed one left.

Source: dirq 1.8 (QueueSimple.py), which the SSM sender reads with.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from batchacct.errors import PublishError

if TYPE_CHECKING:
    from pathlib import Path

    from pub.transports.contract import Message

GRANULARITY_S = 60

_DIRECTORY_MODE = 0o2770
_FILE_MODE = 0o640
_ATTEMPTS = 5
"""The sender removes empty directories, and what it has sent, under our hands: so often a lost race is run again."""

_ADVICE = {
    errno.EACCES: "Let the user that publishes write there (and search every folder on the way), then publish again.",
    errno.EPERM: "Let the user that publishes write there; a file system without hard links cannot be used.",
    errno.EROFS: "The file system is read-only: mount it for writing, or set another folder.",
    errno.ENOSPC: "The file system is full: make room (is the SSM sender running?), then publish again.",
    errno.EDQUOT: "The quota is used up: make room (is the SSM sender running?), then publish again.",
    errno.EFBIG: "The file is larger than this process may write: raise its file size limit (`ulimit -f`).",
    errno.ENOENT: "Create the folder that is missing, or set another one.",
    errno.ENOTDIR: "Something that is no folder stands in its place: move it away, or set another folder.",
    errno.EEXIST: "Another publisher is writing the same message: let only one of them run.",
    errno.EMLINK: "The file system allows no more links there: let the SSM sender empty the folder first.",
}
_OTHER_ADVICE = "See to the file system, then publish again."


class SsmDirectory:
    """Hands messages to an SSM sender through its folder of outgoing messages (`path_type: dirq`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ready: Path | None = None

    def check(self) -> None:
        """Makes the folder where it is missing; its parent must be there.

        Raises: PublishError where there is no such folder and none can be made, saying what to do.
        """
        try:
            if _made_directory(self.path):
                _sync(self.path.parent)
        except OSError as error:
            raise _failure(self.path, error) from error

    def send(self, message: Message) -> str:
        """Puts the message into the folder and syncs it to disk; sending it again while it is there changes nothing.

        Returns: `<minute>/<element>`, the name by which the sender logs it.
        Raises: PublishError, and then the message counts as not sent.
        """
        if self._ready is None:
            self.check()
        minute = message.created_at - message.created_at % GRANULARITY_S
        receipt = f"{minute:08x}/{message.created_at:08x}{message.id % 16**6:06x}"
        target = self.path / receipt
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._put(target, message)
            except FileNotFoundError as error:
                self._ready = None
                if attempt == _ATTEMPTS or not self.path.is_dir():
                    raise _failure(target, error) from error
            except OSError as error:
                self._ready = None
                raise _failure(target, error) from error
            else:
                break
        return receipt

    def _put(self, target: Path, message: Message) -> None:
        directory = target.parent
        if self._ready != directory:
            if not _made_directory(directory) and directory.stat().st_uid == os.geteuid():
                directory.chmod(_DIRECTORY_MODE)
            _sync(self.path)
        temporary = target.with_name(f"{target.name}.tmp")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        try:
            _write(descriptor, message.payload)
            try:
                target.hardlink_to(temporary)
            except FileExistsError:
                _demand_same(target, message)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(directory)
        self._ready = directory


def _made_directory(path: Path) -> bool:
    """Whether the folder had to be made; its group may write, as the sender makes links in it and removes from it."""
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        return False
    path.chmod(_DIRECTORY_MODE)
    return True


def _write(descriptor: int, payload: bytes) -> None:
    """Writes and syncs the payload and closes the file; its mode is set, as the umask may be narrower than it."""
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, _FILE_MODE)
        file.write(payload)
        file.flush()
        os.fsync(descriptor)


def _demand_same(target: Path, message: Message) -> None:
    """An element of that name is the message itself, handed over before, or nothing may be touched."""
    if target.read_bytes() != message.payload:
        raise PublishError(
            f"Message {message.id} of the outbox cannot be handed over: {target} is there and holds something else. "
            "Find out which publisher wrote it (two outboxes must not share a folder), move it away, publish again."
        )


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(path: Path, error: OSError) -> PublishError:
    advice = _ADVICE.get(error.errno or 0, _OTHER_ADVICE)
    return PublishError(f"Cannot hand over a message as {path}: {error.strerror}. {advice}")
