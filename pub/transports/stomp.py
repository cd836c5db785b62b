"""STOMP 1.2 directly to a broker (ActiveMQ, RabbitMQ), without an SSM sender.

Each message is persistent, has an exact content-length, the name `<minute>/<element>` as an SSM sender would give it (header
`empa-id`), and asks for a receipt under that name. With a receipt a broker says that it has stored the message, not that anybody
has read it. Of several brokers the first that answers is used, and the next when it fails.

Tested with ActiveMQ 5.17, RabbitMQ 3.10, stomp.py 8.1 and 9.0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from batchacct.addresses import host_and_port
from batchacct.config import Duration, File, Section
from batchacct.config import key as option
from batchacct.connection import secret_line
from batchacct.errors import PublishError
from pub.signing import SigningOptions, envelope_of
from pub.transports.contract import Message, Receipt, Refusal, unfit
from pub.transports.pipeline import Ended, Pipeline
from pub.transports.stomp_session import Login, Session
from pub.transports.tls import Tls, TlsFiles


def _broker(value: str) -> str:
    host_and_port(value)
    return value


class StompOptions(SigningOptions):
    """STOMP 1.2 to a queue of a broker, each message persistent and with a receipt."""

    brokers: list[Annotated[str, AfterValidator(_broker)]] = option(
        "brokers as host:port; the first that answers is used, the next when it fails",
        sample=["mq1.example.org:61614"],
        min_length=1,
    )
    destination: str = option("queue", sample="/queue/global.accounting.cpu.central", pattern=r"^/queue/[^/\s]+$")
    vhost: str = option("virtual host, of RabbitMQ; ActiveMQ takes no notice", "/")
    login: str | None = option("user, for a broker that asks for one", None)
    passcode_file: File | None = option("file with the password in its first line; not readable for everybody", None)
    tls: Tls | None = option("TLS; without it passwords and messages can be read on their way", None)
    window: int = option("messages sent ahead of their receipts", 50, ge=1, le=1000)
    timeout: Duration = option("longest wait for a connection, for sending a message, for the next receipt", 30, ge=1, le=3600)
    retry_for: Duration = option("connections that fail are made again for so long; then the run ends", 60)
    heart_beat: Duration = option("time between heart-beats; 0 for none", 10, le=3600)
    max_bytes: int = option("a larger message is refused here; the broker's own limit is to be above", 20_000_000, ge=1000)


class Stomp:
    """Hands messages to a queue; connects when the first one comes."""

    options: ClassVar[type[Section]] = StompOptions

    def __init__(self, options: StompOptions) -> None:
        self.envelope = envelope_of(options)
        self._options = options
        self._login = Login(
            vhost=options.vhost,
            user=options.login,
            passcode=None if options.passcode_file is None else secret_line(options.passcode_file, "passcode file"),
            tls=None if options.tls is None else TlsFiles(options.tls),
            timeout_s=options.timeout,
            heart_beat_s=options.heart_beat,
        )
        self._first = 0
        self._session: Session | None = None
        logging.getLogger("stomp.py").setLevel(logging.CRITICAL)  # with tracebacks, what an Ended says in a sentence

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """Sends to whichever broker takes them, a window ahead of the receipts; see `pub.transports.pipeline`."""
        refused: list[Receipt | Refusal] = []
        pipeline = Pipeline(self, self._fit(messages, refused), self._options.window, self._options.retry_for)
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
        if self._session is not None:
            self._session.close()
            self._session = None

    def current(self) -> Session:
        """The session there is, or one with the first broker that answers, the one used last coming first.  Raises: Ended."""
        if self._session is not None and self._session.stands:
            return self._session
        self.drop(is_answer=True)
        brokers = self._options.brokers
        ends: list[Ended] = []
        for number in range(self._first, self._first + len(brokers)):
            host, port = host_and_port(brokers[number % len(brokers)])
            try:
                self._session = Session(host, port, self._options.destination, self._login)
            except Ended as end:
                ends.append(end)
            else:
                self._first = number % len(brokers)
                return self._session
        raise Ended("; ".join(end.why for end in ends), for_good=all(end.for_good for end in ends))

    def drop(self, *, is_answer: bool) -> None:
        """Leaves the session, and where the broker did not even answer, tries the next one first."""
        if self._session is not None:
            self._session.abandon()
            self._session = None
            if not is_answer:
                self._first += 1

    def _fit(self, messages: Iterable[Message], refused: list[Receipt | Refusal]) -> Iterator[Message]:
        for message in messages:
            reason = unfit(message.payload)
            if reason is None and len(message.payload) > self._options.max_bytes:
                reason = f"{len(message.payload)} bytes are more than max_bytes, {self._options.max_bytes}: lower [publish] bunch"
            if reason is None:
                yield message
            else:
                refused.append(Refusal(message.id, reason))
