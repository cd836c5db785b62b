"""The control socket of procacctd: one request and one reply a connection, each a line of JSON.

It never waits: the daemon's loop watches `fileno()`, and calls `turn()` when there is something and every now and then. Who asks is
told by the kernel (SO_PEERCRED, unix(7)). A client that sends no request, or does not take its answer, in time is cut off; one
beyond the places there are, of which a user has only some, is told to come again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchacct.errors import BusyError, ConfigError
from procacct.node.unix_sockets import make_folder, take_away_dead

log = logging.getLogger(__name__)

SOCKET = Path("/run/batchacct/procacct.control")
LONGEST_REQUEST = 64 << 10
CHUNK = 64 << 10
CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the kernel says: ids at the time it connected."""

    pid: int
    user_id: int
    group_id: int

    @property
    def is_root(self) -> bool:
        return self.user_id == 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The line of the answer, and lines after it where `head` says so; `close` is called in the end, however far they were read.

    An empty one among the lines says that others may have their turn before the next.
    """

    head: dict[str, Any]
    lines: Iterable[bytes] = ()
    close: Callable[[], None] = lambda: None


def refusal(reason: str) -> Reply:
    """What is told to whoever asks for what cannot be done; `reason` says what to do instead."""
    return Reply({"ok": False, "error": reason})


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections at a time, of all and of one user but root; the time to send a request, and to take a piece of an answer."""

    connections: int = 32
    of_a_user: int = 8
    request_s: float = 5.0
    answer_s: float = 15.0


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    caller: Caller
    until: float
    asked: bytearray = field(default_factory=bytearray)
    answer: memoryview = field(default_factory=lambda: memoryview(b""))
    lines: Iterator[bytes] | None = None
    close: Callable[[], None] = lambda: None


class ControlServer:
    """Listens at `path`; `answer` is called with what JSON made of a request, and who asks, and must not wait for anything."""

    def __init__(self, path: Path, answer: Callable[[object, Caller], Reply], limits: Limits | None = None) -> None:
        """Raises: BusyError if somebody listens there already, ConfigError if the socket cannot be made."""
        self.path, self._answer, self._limits = path, answer, limits or Limits()
        self._connections: set[_Connection] = set()
        self._listening = _listening(path)
        self._selector = selectors.EpollSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)

    def fileno(self) -> int:
        """Can be read from when `turn` has something to do."""
        return self._selector.fileno()

    def turn(self) -> None:
        """Does what can be done without waiting, and ends the connections whose time is over."""
        for key, _ in self._selector.select(0):
            if key.data is None:
                self._accept()
            else:
                self._serve(key.data)
        now = time.monotonic()
        for connection in [one for one in self._connections if one.until < now]:
            self._end(connection)

    def close(self) -> None:
        """Ends all connections, and takes the socket away."""
        for connection in list(self._connections):
            self._end(connection)
        self._selector.close()
        self._listening.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:  # it may have gone again; or there are no descriptors left, then others have to be closed first
            log.debug("no connection at %s: %s", self.path, error)
            return
        accepted.setblocking(False)
        caller = Caller(*CREDENTIALS.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)))
        connection = _Connection(accepted, caller, time.monotonic() + self._limits.request_s)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)
        of_caller = sum(one.caller.user_id == caller.user_id for one in self._connections)
        if len(self._connections) > self._limits.connections or (not caller.is_root and of_caller > self._limits.of_a_user):
            self._start_answer(connection, refusal("too many ask at once: try again a little later"))

    def _serve(self, connection: _Connection) -> None:
        try:
            if connection.lines is None:
                self._read(connection)
            else:
                self._write(connection)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                log.debug("process %d at %s: %s", connection.caller.pid, self.path, error)
                self._end(connection)

    def _read(self, connection: _Connection) -> None:
        got = connection.socket.recv(CHUNK)
        connection.asked += got
        line, newline, _ = bytes(connection.asked).partition(b"\n")
        if newline or (not got and line):
            self._start_answer(connection, self._answer_to(line, connection.caller))
        elif not got:
            self._end(connection)
        elif len(line) > LONGEST_REQUEST:
            self._start_answer(connection, refusal(f"a request is a line of at most {LONGEST_REQUEST} bytes"))

    def _answer_to(self, line: bytes, caller: Caller) -> Reply:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return refusal("a request is a line of JSON")
        try:
            return self._answer(request, caller)
        except Exception:
            log.exception("a request of user %d was not answered, by an error of this program: %.200r", caller.user_id, line)
            return refusal("the daemon failed at it: its log says how")

    def _start_answer(self, connection: _Connection, reply: Reply) -> None:
        connection.answer = memoryview(json.dumps(reply.head).encode() + b"\n")
        connection.lines, connection.close = iter(reply.lines), reply.close
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
        connection.until = time.monotonic() + self._limits.answer_s
        self._serve(connection)

    def _write(self, connection: _Connection) -> None:
        """One piece: others have their turn before the next one."""
        assert connection.lines is not None
        if not connection.answer:
            piece = bytearray()
            line: bytes | None = None
            while len(piece) < CHUNK and (line := next(connection.lines, None)):
                piece += line
            if line is None and not piece:
                self._end(connection)
                return
            connection.answer = memoryview(bytes(piece))
        if connection.answer:
            sent = connection.socket.send(connection.answer)
            connection.answer = connection.answer[sent:]
        connection.until = time.monotonic() + self._limits.answer_s

    def _end(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.close()


def _listening(path: Path) -> socket.socket:
    """A socket that everybody may connect to: what each may ask is decided by who it is."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        make_folder(path)
        take_away_dead(path, socket.SOCK_STREAM)
        listening.bind(os.fspath(path))
        path.chmod(0o666)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"socket {path} cannot be made: {error.strerror or error}. Make its folder, writable for the user that runs procacctd "
            "alone, or set another path"
        ) from error
    except BusyError:
        listening.close()
        raise
    return listening
