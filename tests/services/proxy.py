"""A TCP proxy in front of a broker, that cuts connections, holds frames back or lets nothing through, as a test wants it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK = 65_536


class Proxy:
    """Connections to `port` go on to `target`. What is set here works on those that are open, too.

    cut_before, cut_after: before (after) so many more RECEIPT frames have come back, both sides are closed, once;
    delay_s: each frame from the broker waits so long; stalled: nothing from the client goes on; refuses: new connections are
    closed.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut_before: int | None = None
        self.cut_after: int | None = None
        self.delay_s = 0.0
        self.stalled = False
        self.refuses = False
        self.cuts = 0
        self.receipts = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Closes all that is open."""
        while self._open:
            one = self._open.pop()
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            threading.Thread(target=self._upwards, args=(client, server), daemon=True).start()
            threading.Thread(target=self._downwards, args=(server, client), daemon=True).start()

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                while self.stalled:
                    time.sleep(0.02)
                server.sendall(data)
        self._end(client, server)

    def _downwards(self, server: socket.socket, client: socket.socket) -> None:
        """Frame by frame, and heart-beats by themselves: the frames that a sender gets have no NUL in them."""
        held = b""
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                *frames, held = (held + data).split(b"\0")
                for frame in frames:
                    if not self._passes(frame.lstrip(b"\n"), client):
                        return
                if held == b"\n":
                    client.sendall(held)  # the end of a frame, or a heart-beat
                    held = b""
        self._end(client, server)

    def _passes(self, frame: bytes, client: socket.socket) -> bool:
        is_receipt = frame.startswith(b"RECEIPT")
        if is_receipt and self.cut_before is not None:
            if self.cut_before <= 0:
                self.cut_before = None
                return self._cut_now()
            self.cut_before -= 1
        if self.delay_s:
            time.sleep(self.delay_s)
        client.sendall(frame + b"\0")
        self.receipts += is_receipt
        if is_receipt and self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after <= 0:
                self.cut_after = None
                return self._cut_now()
        return True

    def _cut_now(self) -> bool:
        self.cuts += 1
        self.cut()
        return False

    @staticmethod
    def _end(*sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
