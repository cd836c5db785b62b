"""What a transport is: hands a message over and returns only when that is certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the outbox: its number there, when it was built (Unix time), and its bytes, the same on every attempt."""

    id: int
    created_at: int
    payload: bytes


class Transport(Protocol):
    """Anything registered under `batchacct.transports`."""

    def send(self, message: Message) -> str:
        """Hands the message over durably; sending the same message again is harmless. Returns the receiver's receipt.

        Raises: PublishError, and then the message counts as not sent.
        """
