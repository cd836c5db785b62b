"""The outgoing directory of an SSM sender, in the layout of dirq's QueueSimple.

A message becomes the file `<minute>/<element>` of its name (`contract.Message`). So the names are the message's own, sort in the
order of the outbox, and a message sent a second time, after a crash or a doubt, meets itself instead of being added twice.

The text is written and synced under `<element>.tmp`, which no reader looks at, and linked to its name only then; the
directory is synced before a receipt is given. One publisher at a time writes here: a `.tmp` of the same name is what a
killed one left.

Source: dirq 1.8 (QueueSimple.py), which the SSM sender reads with.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from batchacct.config import File, Section, key
from batchacct.durable import sync_folder
from batchacct.errors import PublishError
from pub.transports.contract import Message, Receipt, Refusal, unfit
from pub.transports.durable import DIRECTORY_MODE, FILE_MODE, advice, demand_same, made_directory, write

_ATTEMPTS = 5
"""The sender removes empty directories, and what it has sent, under our hands: so often a lost race is run again."""


class SsmDirectoryOptions(Section):
    """The outgoing directory of an SSM sender."""

    path: File = key("the directory, as in the sender's configuration; made where it is missing")


class SsmDirectory:
    """Hands messages to an SSM sender through its folder of outgoing messages (`path_type: dirq`)."""

    options: ClassVar[type[Section]] = SsmDirectoryOptions
    envelope = None

    def __init__(self, options: SsmDirectoryOptions) -> None:
        self.path = options.path
        self._ready: Path | None = None

    def check(self) -> None:
        """Makes the folder where it is missing; its parent must be there.

        Raises: PublishError where there is no such folder and none can be made, saying what to do.
        """
        try:
            if made_directory(self.path):
                sync_folder(self.path.parent)
        except OSError as error:
            raise _failure(self.path, error) from error

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """Puts the messages into the folder, one after the other."""
        for message in messages:
            reason = unfit(message.payload)
            yield Receipt(message.id, self.put(message)) if reason is None else Refusal(message.id, reason)

    def close(self) -> None:
        """Nothing is open between two messages."""

    def put(self, message: Message) -> str:
        """Puts a message into the folder and syncs it to disk; sending it again while it is there changes nothing.

        Returns: `<minute>/<element>`, the name by which the sender logs it.
        Raises: PublishError, and then the message counts as not sent.
        """
        if self._ready is None:
            self.check()
        target = self.path / message.name
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
        return message.name

    def _put(self, target: Path, message: Message) -> None:
        directory = target.parent
        if self._ready != directory:
            if not made_directory(directory) and directory.stat().st_uid == os.geteuid():
                directory.chmod(DIRECTORY_MODE)
            sync_folder(self.path)
        temporary = target.with_name(f"{target.name}.tmp")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            write(descriptor, message.payload)
            try:
                target.hardlink_to(temporary)
            except FileExistsError:
                demand_same(target, message)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(directory)
        self._ready = directory


def _failure(path: Path, error: OSError) -> PublishError:
    return PublishError(f"Cannot hand over a message as {path}: {error.strerror}. {advice(error)}")
