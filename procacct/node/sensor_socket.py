"""Where sensors send to: a datagram socket that every process of the host may write to, and the kernel says who did (SO_PASSCRED,
unix(7))."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchacct.errors import BusyError, ConfigError
from procacct.node.connector import grow_buffer
from procacct.node.messages import MOST_BYTES, Reader
from procacct.node.told import Told
from procacct.node.unix_sockets import make_folder, take_away_dead

log = logging.getLogger(__name__)

MOST_MESSAGES = 20_000
"""In one round: beyond that the next one goes on, so that nobody who floods the socket stops the rest."""
QUEUE_LIMIT = Path("/proc/sys/net/unix/max_dgram_qlen")
LONGEST_QUEUE = 2048
"""Messages that wait to be read: those of a thousand programs."""
CREDENTIALS = struct.Struct("=iII")
"""struct ucred: pid, real user, real group, in the terms of this process's namespaces."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(CREDENTIALS.size)


class SensorSocket:
    """Raises: BusyError if a daemon listens there, ConfigError if the socket cannot be made."""

    def __init__(self, path: Path, reader: Reader, buffer_bytes: int) -> None:
        self.path, self._reader = path, reader
        with _long_queue():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            grow_buffer(self._socket, buffer_bytes)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            make_folder(path)
            take_away_dead(path, socket.SOCK_DGRAM)
            self._socket.bind(os.fspath(path))
            path.chmod(0o666)
        except OSError as error:
            self._socket.close()
            raise ConfigError(
                f"socket {path} cannot be made: {error.strerror}. Make its folder, writable for the user that runs procacctd "
                "alone, or set another [sensor] socket"
            ) from error
        except BusyError:
            self._socket.close()
            raise
        self._buffer = bytearray(MOST_BYTES)
        self._view = memoryview(self._buffer)
        self.received = self.unreadable = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self, to_real_ns: int) -> tuple[list[Told], bool]:
        """Messages that wait, and whether these were all."""
        messages: list[Told] = []
        receive, buffers, read = self._socket.recvmsg_into, [self._buffer], self._reader.read
        for _ in range(MOST_MESSAGES):
            try:
                length, ancillary, _, _ = receive(buffers, _ANCILLARY_BYTES)
            except BlockingIOError:
                return messages, True
            self.received += 1
            sender = _sender(ancillary)
            told = None if sender is None else read(self._view[:length], *sender, to_real_ns)
            if told is None:
                self.unreadable += 1
            else:
                messages.append(told)
        return messages, False

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def _long_queue() -> Iterator[None]:
    """A socket that is made within takes so many messages before it is read, where the host lets us: a socket has for life what
    net.unix.max_dgram_qlen is when it is made, and that is 10 by the kernel's default (unix(7), net/unix/af_unix.c)."""
    before = None
    try:
        before = int(QUEUE_LIMIT.read_text(encoding="ascii"))
        if before < LONGEST_QUEUE:
            QUEUE_LIMIT.write_text(str(LONGEST_QUEUE), encoding="ascii")
    except (OSError, ValueError) as error:
        log.warning("%s cannot be raised: %s. Sensors send in vain when %s messages wait", QUEUE_LIMIT, error, before or "a few")
        before = None
    try:
        yield
    finally:
        if before is not None and before < LONGEST_QUEUE:
            QUEUE_LIMIT.write_text(str(before), encoding="ascii")


def _sender(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int, int] | None:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) >= CREDENTIALS.size:
            pid, user_id, group_id = CREDENTIALS.unpack_from(data)
            return (pid, user_id, group_id) if pid > 0 else None
    return None
