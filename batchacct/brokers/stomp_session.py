"""One connection to one broker, by the library stomp.py: from CONNECT to its end, and never used again after that.

The library calls a listener in threads of its own; what it says goes through a queue, and everything here waits on that queue with
a deadline. Facts of stomp.py 8.2 and 9.0 that this rests on, or makes up for:

- The heart-beats of an object that connects a second time stop: a new connection is a new object.
- 9.0 sends by TLS from a thread of its own, and does not notice that the other side has closed: heart-beats do, or the deadline.
- 9.0 without TLS takes the time limit off the socket after connecting: it is given one of the system's own.
- A receipt with two heart-beats right before it never reaches the listener: the deadline finds it, and the message goes again.
- Where connecting fails it has no words for the reason: it is asked for by connecting once more without it.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal

from batchacct.brokers.pipeline import Ended, Taken
from batchacct.tls import TlsFiles, complaint, greet

try:
    import stomp
    from stomp.exception import StompException
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the library stomp.py is not installed: pip install 'batchacct[stomp]'") from error

GOODBYE_S = 5.0
"""So long the answer to a DISCONNECT is waited for..."""
CLOSE_S = 0.5
"""... and for a socket to be closed; then it is left to itself."""
LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Login:
    """How to connect: the same at every broker. Without `tls` it is plain TCP."""

    vhost: str
    user: str | None
    passcode: str | None
    tls: TlsFiles | None
    timeout_s: int
    heart_beat_s: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that came; `acknowledge` is told its `ack`."""

    ack: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Event:
    kind: Literal["connected", "receipt", "message", "error", "lost"]
    told: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class _Listener(stomp.ConnectionListener):  # type: ignore[misc]
    """Puts what the library tells, in its own threads, into a queue."""

    def __init__(self) -> None:
        self.events: SimpleQueue[_Event] = SimpleQueue()
        self.has_ended = False

    def on_connected(self, frame: Any) -> None:
        self.events.put(_Event("connected"))

    def on_receipt(self, frame: Any) -> None:
        self.events.put(_Event("receipt", str(frame.headers.get("receipt-id"))))

    def on_message(self, frame: Any) -> None:
        headers = {str(name): str(value) for name, value in frame.headers.items()}
        self.events.put(_Event("message", headers.get("ack", ""), headers, frame.body or b""))

    def on_error(self, frame: Any) -> None:
        body = (frame.body or b"").decode("utf-8", "replace")
        words = " ".join(f"{frame.headers.get('message', '')} {body}".split())
        self.end("error", words[:LONGEST_TEXT] or "an ERROR without a text")

    def on_disconnected(self) -> None:
        self.end("lost", "the connection was closed")

    def on_heartbeat_timeout(self) -> None:
        self.end("lost", "its heart-beats stopped")

    def end(self, kind: Literal["error", "lost"], why: str) -> None:
        """The first end is the one that counts: it is told once all is that came before."""
        self.events.put(_Event(kind, why))
        self.has_ended = True


class Session:
    """A connection that stands, until an `Ended`."""

    def __init__(self, host: str, port: int, login: Login) -> None:
        """Connects.  Raises: Ended."""
        self.receiver = f"{host}:{port}"
        self._address = (host, port)
        self._login = login
        self._listener = _Listener()
        beat_ms = login.heart_beat_s * 1000
        self._connection = stomp.Connection12(
            [self._address], try_loopback_connect=False, reconnect_attempts_max=1, timeout=login.timeout_s, keepalive=True,
            heartbeats=(beat_ms, beat_ms), vhost=login.vhost, auto_decode=False,
        )  # fmt: skip
        self._connection.set_listener("batchacct", self._listener)
        if login.tls is not None:
            files = {"ca_certs": login.tls.ca, "cert_file": login.tls.certificate, "key_file": login.tls.key}
            self._connection.set_ssl(for_hosts=[self._address], **files)
        try:
            self._connect()
        except Ended:
            self.abandon()
            raise

    @property
    def stands(self) -> bool:
        """Whether its end was not heard of yet."""
        return not self._listener.has_ended

    def put(self, destination: str, name: str, body: bytes, content_type: str, headers: Mapping[str, str]) -> None:
        """Sends a persistent message without waiting for its receipt, which is called `name`. Where that fails, `answer` tells."""
        all_headers = {"receipt": name, "persistent": "true", **headers}
        self._do("a message", lambda: self._connection.send(destination, body, content_type=content_type, headers=all_headers))

    def answer(self) -> Taken:
        """Waits for the next receipt.  Raises: Ended, once all that came before the end are told."""
        event = self._heard(f"no receipt came within {self._login.timeout_s} s")
        if event.kind == "error":
            raise self._ended(f"ERROR: {event.told}", is_answer=True)
        if event.kind == "lost":
            raise self._ended(event.told)
        return Taken(event.told, f"{self.receiver} {event.told}")

    def subscribe(self, destination: str, prefetch: int) -> None:
        """Asks for what is in a queue: so many messages at most that were not acknowledged, each by itself.

        The limit is `activemq.prefetchSize` to ActiveMQ, `prefetch-count` to RabbitMQ; neither minds the other's.
        """
        headers = {"activemq.prefetchSize": str(prefetch), "prefetch-count": str(prefetch)}
        self._do("SUBSCRIBE", lambda: self._connection.subscribe(destination, id="1", ack="client-individual", headers=headers))

    def received(self, within_s: float) -> Delivery | None:
        """The next message of what was subscribed to; None if there is none in this time.  Raises: Ended."""
        try:
            event = self._listener.events.get(timeout=within_s)
        except Empty:
            return None
        if event.kind == "error":
            raise self._ended(f"ERROR: {event.told}", is_answer=True)
        if event.kind == "lost":
            raise self._ended(event.told)
        return Delivery(event.told, event.headers, event.body) if event.kind == "message" else None

    def acknowledge(self, delivery: Delivery) -> None:
        """The broker may forget it. Where that fails, `received` tells, and the message comes again."""
        self._do("ACK", lambda: self._connection.ack(delivery.ack))

    def close(self) -> None:
        """Says goodbye, if there is somebody to say it to, and waits a little for the answer."""
        if self.stands:
            try:
                self._connection.disconnect()
                while self._listener.events.get(timeout=GOODBYE_S).kind != "lost":
                    pass
            except (StompException, OSError, Empty):
                pass
        self.abandon()

    def abandon(self) -> None:
        """Closes the socket; what the library waits for while it does so is waited for here with a deadline."""
        stopping = threading.Thread(target=self._stop, name="stomp-stop", daemon=True)
        stopping.start()
        stopping.join(CLOSE_S)

    def _do(self, what: str, send: Callable[[], None]) -> None:
        try:
            send()
        except (StompException, OSError) as error:
            self._listener.end("lost", f"{what} could not be sent: {_words(error)}")

    def _stop(self) -> None:
        with suppress(StompException, OSError):
            self._connection.transport.stop()

    def _connect(self) -> None:
        try:
            self._connection.connect(self._login.user, self._login.passcode)
        except (StompException, OSError) as error:
            why, for_good = self._why_not(_words(error))
            raise self._ended(why, for_good=for_good) from error
        self._limit_waits()
        silence = f"did not answer within {self._login.timeout_s} s"
        try:
            event = self._heard(silence)
        except Ended:  # by TLS the library does not notice that it was refused
            why, for_good = self._why_not(silence)
            raise self._ended(why, for_good=for_good) from None
        if event.kind == "error":
            raise self._ended(f"did not accept the login: {event.told}", is_answer=True, for_good=True)
        if event.kind == "lost":
            why, for_good = self._why_not(f"{event.told} before it answered")
            raise self._ended(why, for_good=for_good)

    def _limit_waits(self) -> None:
        """Sending on a socket that nobody reads from, and closing TLS with nobody to answer, end after a while."""
        limit = struct.pack("ll", self._login.timeout_s, 0)
        try:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                self._connection.transport.socket.setsockopt(socket.SOL_SOCKET, option, limit)
        except (AttributeError, OSError):
            pass  # it is gone already, and the queue will say so

    def _heard(self, missing: str) -> _Event:
        try:
            return self._listener.events.get(timeout=self._login.timeout_s)
        except Empty:
            raise self._ended(missing) from None

    def _ended(self, why: str, *, is_answer: bool = False, for_good: bool = False) -> Ended:
        return Ended(f"broker {self.receiver}: {why}", is_answer=is_answer, for_good=for_good)

    def _why_not(self, told: str) -> tuple[str, bool]:
        """The reason, for which the library has no words, found by trying once more without it; whether it is a lasting one."""
        try:
            if self._login.tls is None:
                socket.create_connection(self._address, self._login.timeout_s).close()
                return f"{told}. Is this its port for STOMP, and not the one for TLS (options.tls)?", False
            greet(self._address, self._login.tls, self._login.timeout_s)
        except TimeoutError:
            return told, False
        except ssl.SSLError as error:
            return complaint(error), True
        except OSError as error:
            return f"cannot be reached: {_words(error)}", False
        return told, False


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
