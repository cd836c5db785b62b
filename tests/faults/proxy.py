"""A TCP proxy before a PostgreSQL server, by which a test cuts the line, leaves it dead, or takes away the answer to a COMMIT."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import cast

LOADING = b'COPY "job"'
"""What a transaction that stores records says on its way to the server."""
COMMIT = b"COMMIT"


class Line(Enum):
    """What becomes of what clients send, and of their connecting."""

    THROUGH = "handed on, as are the answers"
    CUT = "connections are closed at once"
    STALLED = "taken, and not answered: handed on only when the line is through again"


@dataclass(eq=False)
class _Pair:
    """A client's connection and the one to the server for it; `loads`: its transaction stores records."""

    client: socket.socket
    server: socket.socket
    loads: bool = False
    answer_is_lost: bool = False
    seen: bytes = b""


class Proxy:
    """Listens at `port`, and hands on to another."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._pairs: set[_Pair] = set()
        self._wanted = Line.THROUGH
        self._line = Line.THROUGH
        self._ended = threading.Event()
        self._applied = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.answers_to_lose = 0
        """How many of the next COMMITs of records are done by the server, and their answers lost with the connection."""
        self.commits_to_lose = 0
        """How many after those do not come to the server: the connection is cut instead."""

    def set(self, line: Line) -> None:
        """From now on, for the connections there are and new ones."""
        self._wanted = line
        self._applied.clear()
        self._wake.send(b".")
        assert self._applied.wait(10)

    def close(self) -> None:
        self._ended.set()
        self._wake.send(b".")
        self._thread.join()
        self._cut_all()
        for one in (self._listener, self._wake, self._woken):
            one.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._woken.recv(100)
                    self._apply(self._wanted)
                elif key.fileobj is self._listener:
                    self._accept()
                elif key.data in self._pairs and self._line is Line.THROUGH:
                    self._hand_on(key.data, cast("socket.socket", key.fileobj))

    def _apply(self, line: Line) -> None:
        self._line = line
        if line is Line.CUT:
            self._cut_all()
        for pair in self._pairs:
            self._attend(pair)
        self._applied.set()

    def _attend(self, pair: _Pair) -> None:
        """Reads from both ends, or from neither."""
        for one in (pair.client, pair.server):
            with contextlib.suppress(KeyError):
                self._selector.unregister(one)
            if self._line is Line.THROUGH:
                self._selector.register(one, selectors.EVENT_READ, pair)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._to_port))
        except OSError:
            client.close()
            return
        if self._line is Line.CUT:
            client.close()
            server.close()
            return
        pair = _Pair(client, server)
        self._pairs.add(pair)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._attend(pair)

    def _hand_on(self, pair: _Pair, source: socket.socket) -> None:
        try:
            data = source.recv(1 << 16)
            if not data:
                self._cut(pair)
            elif source is pair.server:
                if pair.answer_is_lost:
                    self._cut(pair)
                else:
                    pair.client.sendall(data)
            elif not self._is_to_be_lost(pair, data):
                pair.server.sendall(data)
        except OSError:
            self._cut(pair)

    def _is_to_be_lost(self, pair: _Pair, data: bytes) -> bool:
        """Whether this must not come to the server; notes where records are stored, and where an answer is to be lost."""
        seen = pair.seen + data
        pair.seen = seen[-32:]
        pair.loads = pair.loads or LOADING in seen
        if not (pair.loads and COMMIT in seen):
            return False
        pair.loads, pair.seen = False, b""
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            pair.answer_is_lost = True
        elif self.commits_to_lose:
            self.commits_to_lose -= 1
            self._cut(pair)
            return True
        return False

    def _cut(self, pair: _Pair) -> None:
        self._pairs.discard(pair)
        for one in (pair.client, pair.server):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()

    def _cut_all(self) -> None:
        for pair in list(self._pairs):
            self._cut(pair)


@contextmanager
def proxy(to_port: int) -> Iterator[Proxy]:
    made = Proxy(to_port)
    try:
        yield made
    finally:
        made.close()
