"""A consumer that counts: takes all that a queue holds, up to a mark that it sends there itself.

The mark goes over a connection of its own: a broker that is full reads nothing more from one over which it is sent something.
"""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import stomp

from tests.services.brokers import PASSCODE, USER, Broker

PATIENCE_S = 90


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as it came out."""

    empa_id: str
    body: bytes
    headers: dict[str, str]


class _Listener(stomp.ConnectionListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.delivered: SimpleQueue[Delivered] = SimpleQueue()
        self.subscribed = threading.Event()

    def on_receipt(self, frame: Any) -> None:
        self.subscribed.set()

    def on_message(self, frame: Any) -> None:
        body = frame.body if isinstance(frame.body, bytes) else frame.body.encode()
        self.delivered.put(Delivered(frame.headers.get("empa-id", ""), body, dict(frame.headers)))


def drained(broker: Broker, queue: str) -> list[Delivered]:
    """All messages of the queue, in order, which is empty afterwards."""
    listener = _Listener()
    connection, marking = _connected(broker, listener), _connected(broker, stomp.ConnectionListener())
    mark = uuid.uuid4().hex
    connection.subscribe(queue, id="1", ack="auto", headers={"receipt": "subscribed"})
    assert listener.subscribed.wait(PATIENCE_S)
    marking.send(queue, b"mark", headers={"empa-id": mark, "persistent": "true"})
    found: list[Delivered] = []
    try:
        while (one := listener.delivered.get(timeout=PATIENCE_S)).empa_id != mark:
            found.append(one)
    except Empty:
        raise AssertionError(f"the mark did not come back; before it came {len(found)} messages") from None
    finally:
        marking.disconnect()
        connection.disconnect()
    return found


def _connected(broker: Broker, listener: stomp.ConnectionListener) -> stomp.Connection12:
    connection = stomp.Connection12([("127.0.0.1", broker.port)], try_loopback_connect=False, vhost="/", auto_decode=False)
    connection.set_listener("consumer", listener)
    connection.connect(USER, PASSCODE, wait=True)
    return connection


def contents(delivered: list[Delivered]) -> dict[str, set[bytes]]:
    """What came under each id."""
    found: dict[str, set[bytes]] = defaultdict(set)
    for one in delivered:
        found[one.empa_id].add(one.body)
    return dict(found)
