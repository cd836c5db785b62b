"""A folder of plain files, one a message: for a receiver of one's own, or an SSM sender with `path_type: directory`.

A file is written and synced in `<folder>.partial` beside the folder, and renamed into it only then, as such a sender takes whatever
stands in its directory, also under a temporary name. The folder is synced before a receipt is given. The file is called as the
message is (`contract.Message`), without the minute: names sort in the order of the outbox, and a message sent a second time while
the file is there meets itself. Whoever takes files away after a crash may find the last few a second time: same name, same bytes.

Source: ssm 2.4.0 (MessageDirectory) for `path_type: directory`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import ClassVar

from batchacct.config import File, Section, key
from batchacct.durable import sync_folder
from batchacct.errors import PublishError
from pub.transports.contract import Message, Receipt, Refusal
from pub.transports.durable import FILE_MODE, advice, demand_same, made_directory, write


class FilesOptions(Section):
    """A folder of plain files, one a message, whole or not there at all."""

    path: File = key("the folder; made where it is missing, as is one beside it, of the same name with `.partial`")
    suffix: str = key("what names of files end with", "", sample=".jsonl", pattern=r"^[A-Za-z0-9._-]*$")


class Files:
    """Hands messages over as files."""

    options: ClassVar[type[Section]] = FilesOptions
    envelope = None

    def __init__(self, options: FilesOptions) -> None:
        self.path = options.path
        self.partial = options.path.with_name(f"{options.path.name}.partial")
        self._suffix = options.suffix

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """Makes a file of each message."""
        for message in messages:
            yield Receipt(message.id, self._put(message)) if message.payload else Refusal(message.id, "the message is empty")

    def close(self) -> None:
        """Nothing is open between two messages."""

    def _put(self, message: Message) -> str:
        target = self.path / f"{message.name.partition('/')[2]}{self._suffix}"
        try:
            if target.exists():
                demand_same(target, message)
                sync_folder(self.path)
                return target.name
            for folder in (self.path, self.partial):
                if made_directory(folder):
                    sync_folder(folder.parent)
            temporary = self.partial / target.name
            write(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE), message.payload)
            temporary.rename(target)
            sync_folder(self.path)
        except OSError as error:
            raise PublishError(f"Cannot hand over a message as {target}: {error.strerror}. {advice(error)}") from error
        return target.name
