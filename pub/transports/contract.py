"""What a transport is: hands messages over, and tells of each only when its receiver has it for certain, or will not take it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from batchacct.brokers.pipeline import Receipt as Receipt  # noqa: PLC0414 - exported, as the next one is
from batchacct.brokers.pipeline import Refusal as Refusal  # noqa: PLC0414
from batchacct.config import Section

SSM_GRANULARITY_S = 60


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the outbox: its number there, when it was built (Unix time), and its bytes, the same on every attempt."""

    id: int
    created_at: int
    payload: bytes

    @property
    def name(self) -> str:
        """`<minute>/<element>`, as an SSM sender would name it: the same on every attempt, in the order of the outbox.

        8 hexadecimal digits of its time of building rounded down to 60 s; 8 of that time, and 6 of its number (its rest by 16^6).
        """
        minute = self.created_at - self.created_at % SSM_GRANULARITY_S
        return f"{minute:08x}/{self.created_at:08x}{self.id % 16**6:06x}"


class Envelope(Protocol):
    """What a payload is put into before it leaves, such as a signature; it need not come out the same twice."""

    @property
    def label(self) -> str:
        """Names what it is made with, in 100 characters at most: what was made under another label is made anew."""

    def sealed(self, payload: bytes) -> bytes:
        """What leaves in the payload's place.  Raises: PublishError."""


class Transport(Protocol):
    """A way to one receiver. It connects when there is something to send, not before."""

    @property
    def envelope(self) -> Envelope | None:
        """What messages are to be put into; it is done, and what comes out is kept, before `send` is given them."""

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """Hands the messages over in their order, each durably; sending the same message again is harmless.

        Messages are asked for as they are sent, a few ahead of the receipts. Receipts are told in the order of the messages: one
        without an outcome is sent again, and must not come after a later version of its records. No wait is without a deadline.

        Raises: PublishError when nothing goes any more; messages without an outcome count as not sent.
        """

    def close(self) -> None:
        """Lets go of the receiver, within a few seconds; the transport may be used again."""


class TransportKind(Protocol):
    """Anything registered under `batchacct.transports`: a class of transports, which is made with its options.

    One that may be given messages of some formats alone names them in `formats`, a tuple; others have no such attribute.
    """

    @property
    def options(self) -> type[Section]:
        """The keys of `[publish.options]`. One that is called `path` is `[publish] path` where it is not given there."""

    def __call__(self, options: Section, /) -> Transport:
        """Raises: ConfigError for options that cannot be used, such as a file that is not there."""


def unfit(payload: bytes) -> str | None:
    """Why no receiver of text takes a payload, if so: an SSM sender stops at the first byte that is not ASCII."""
    if not payload:
        return "the message is empty"
    if not payload.isascii():
        at = next(n for n, byte in enumerate(payload) if byte > 0x7F)
        return f"byte {at} of the message, {payload[at]:#04x}, is not ASCII"
    return None
