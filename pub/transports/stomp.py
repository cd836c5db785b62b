"""STOMP 1.2 directly to a broker (ActiveMQ, RabbitMQ), without an SSM sender.

Each message is persistent, has an exact content-length, the name `<minute>/<element>` as an SSM sender would give it (header
`empa-id`), and asks for a receipt under that name. With a receipt a broker says that it has stored the message, not that anybody
has read it. Of several brokers the first that answers is used, and the next when it fails.

Tested with ActiveMQ 5.17, RabbitMQ 3.10, stomp.py 8.1 and 9.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from batchacct.brokers.keys import SendingKeys
from batchacct.brokers.links import Brokers
from batchacct.brokers.pipeline import Pipeline
from batchacct.brokers.stomp_session import Login, Session
from batchacct.config import Section
from batchacct.config import key as option
from batchacct.errors import PublishError
from pub.signing import SigningOptions, envelope_of
from pub.transports.contract import Message, Receipt, Refusal, unfit


class StompOptions(SendingKeys, SigningOptions):
    """STOMP 1.2 to a queue of a broker, each message persistent and with a receipt."""

    max_bytes: int = option("a larger message is refused here; the broker's own limit is to be above", 20_000_000, ge=1000)


class _Session(Session):
    """A session that sends messages to the queue, named as an SSM sender names them."""

    def __init__(self, host: str, port: int, login: Login, destination: str) -> None:
        super().__init__(host, port, login)
        self._destination = destination

    def send(self, message: Message) -> None:
        """Sends without waiting for the receipt, which is called as the message is. Where that fails, `answer` tells."""
        self.put(self._destination, message.name, message.payload, "text/plain", {"empa-id": message.name})


class Stomp:
    """Hands messages to a queue; connects when the first one comes."""

    options: ClassVar[type[Section]] = StompOptions

    def __init__(self, options: StompOptions) -> None:
        self.envelope = envelope_of(options)
        self._options = options
        self._brokers = Brokers(options, lambda host, port, login: _Session(host, port, login, options.destination))

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """Sends to whichever broker takes them, a window ahead of the receipts; see `batchacct.brokers.pipeline`."""
        refused: list[Receipt | Refusal] = []
        pipeline = Pipeline(self._brokers, self._fit(messages, refused), self._options.window, self._options.retry_for)
        try:
            for outcome in pipeline.outcomes():
                yield outcome
                yield from refused
                refused.clear()
        except PublishError:
            yield from refused
            raise
        yield from refused

    def close(self) -> None:
        """Says goodbye to the broker."""
        self._brokers.close()

    def _fit(self, messages: Iterable[Message], refused: list[Receipt | Refusal]) -> Iterator[Message]:
        for message in messages:
            reason = unfit(message.payload)
            if reason is None and len(message.payload) > self._options.max_bytes:
                reason = f"{len(message.payload)} bytes are more than max_bytes, {self._options.max_bytes}: lower [publish] bunch"
            if reason is None:
                yield message
            else:
                refused.append(Refusal(message.id, reason))
