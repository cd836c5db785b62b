"""Hands each message to a program of ours, on its standard input."""

import subprocess
from collections.abc import Iterable, Iterator
from typing import ClassVar

from batchacct.config import Duration, Section, key
from batchacct.errors import PublishError
from pub.transports.contract import Message, Receipt, Refusal

NOT_TAKEN = 65
"""EX_DATAERR of sysexits.h: the program says of this one message that it will never take it."""


class OurOptions(Section):
    """A program that takes messages."""

    command: list[str] = key("the program and its arguments; the message's name, folder/number, is added", min_length=1)
    timeout: Duration = key("a message is taken within this", 60)


class OurProgram:
    """A message is a call of the program; status 0 is its receipt."""

    options: ClassVar[type[Section]] = OurOptions
    envelope = None

    def __init__(self, options: OurOptions) -> None:
        self._command, self._timeout = options.command, options.timeout

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """One after the other, in their order."""
        for message in messages:
            yield self._hand_over(message)

    def _hand_over(self, message: Message) -> Receipt | Refusal:
        command = [*self._command, message.name]
        try:
            done = subprocess.run(command, input=message.payload, capture_output=True, timeout=self._timeout, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PublishError(f"{command[0]} took no message: {error}. Look at the program, and at timeout") from error
        told = done.stderr.decode(errors="replace").strip()
        if done.returncode == NOT_TAKEN:
            return Refusal(message.id, told or "the program will not take it")
        if done.returncode:
            raise PublishError(f"{command[0]} took no message (status {done.returncode}): {told}. It is sent again by the next run")
        return Receipt(message.id, message.name)

    def close(self) -> None:
        """Nothing is open between two messages."""
