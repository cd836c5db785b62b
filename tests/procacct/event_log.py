"""What the kernel's process events tell, read by a reader of its own: nothing of procacct is used here.

Layout of a message: linux/netlink.h, linux/connector.h, linux/cn_proc.h. All events are asked for, so that the counter of each CPU
tells of what was lost.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

FORK, EXEC, COREDUMP, EXIT = 0x1, 0x2, 0x40000000, 0x80000000
WANTED = {FORK, EXEC, COREDUMP, EXIT}
BUFFER = 64 << 20


class Event(NamedTuple):
    """One event; `pid` is of the process, `thread` of the thread, `parent` and `parent_thread` likewise, of FORK and EXIT."""

    what: int
    at_ns: int
    """CLOCK_MONOTONIC."""
    pid: int
    thread: int
    parent: int
    parent_thread: int
    status: int


class EventLog(threading.Thread):
    """Reads until it is told to end; `lost` counts what the counters miss."""

    def __init__(self, tell: Callable[[Event], None] | None = None) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.lost = 0
        self._tell, self._sequence = tell, dict[int, int]()
        self._end = threading.Event()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, BUFFER)
        self._socket.bind((0, 1))
        self._socket.settimeout(0.05)
        self._ask(1)

    def end(self) -> None:
        """Reads what is there, and ends."""
        time.sleep(0.1)
        self._end.set()
        self.join()
        self._ask(2)
        self._socket.close()

    def run(self) -> None:
        while True:
            try:
                self._take(self._socket.recv(4096))
            except TimeoutError:
                if self._end.is_set():
                    return
            except OSError:
                self.lost += 1

    def _ask(self, operation: int) -> None:
        self._socket.send(struct.pack("=IHHII IIIIHH I", 40, 3, 0, 0, os.getpid(), 1, 1, 0, 0, 4, 0, operation))

    def _take(self, told: bytes) -> None:
        sequence, what, cpu, at_ns = *struct.unpack_from("=I", told, 24), *struct.unpack_from("=IIQ", told, 36)
        self.lost += (sequence - self._sequence.get(cpu, sequence - 1) - 1) & 0xFFFFFFFF
        self._sequence[cpu] = sequence
        if what in WANTED:
            event = _event(what, at_ns, told)
            self.events.append(event)
            if self._tell:
                self._tell(event)


def _event(what: int, at_ns: int, told: bytes) -> Event:
    if what == FORK:
        parent_thread, parent, thread, pid = struct.unpack_from("=iiii", told, 52)
        return Event(what, at_ns, pid, thread, parent, parent_thread, 0)
    thread, pid = struct.unpack_from("=ii", told, 52)
    if what == EXIT:
        status, _signal, parent_thread, parent = struct.unpack_from("=IIii", told, 60)
        return Event(what, at_ns, pid, thread, parent, parent_thread, status)
    return Event(what, at_ns, pid, thread, 0, 0, 0)


@contextmanager
def listening(tell: Callable[[Event], None] | None = None) -> Iterator[EventLog]:
    """Events of the time it is entered, at its end all are there."""
    log = EventLog(tell)
    log.start()
    try:
        yield log
    finally:
        log.end()


def works() -> bool:
    """Whether this host tells events to us."""
    try:
        with listening() as log:
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    except OSError:
        return False
    return any(event.what == EXEC for event in log.events)
