"""The kernel's process events: who forked, executed a program, ended; and how many such events were lost on the way.

A datagram holds one event (include/uapi/linux/cn_proc.h, include/uapi/linux/connector.h), host byte order:

    nlmsghdr   0 u32 length, 4 u16 type, 6 u16 flags, 8 u32 seq, 12 u32 pid
    cn_msg     16 u32 idx=1, 20 u32 val=1, 24 u32 seq, 28 u32 ack, 32 u16 length, 34 u16 flags
    proc_event 36 u32 what, 40 u32 cpu, 44 u64 timestamp (CLOCK_MONOTONIC, ns), 52 24 bytes by kind

The u64 is not aligned. Older kernels send a shorter end of the same layout; what is missing counts as zero.

**Loss.** `cn_msg.seq` counts the events of each CPU, so a step other than 1 is so many lost events; this holds for an unfiltered
subscription only, as the kernel counts before it filters. An overrun of the buffer gives one ENOBUFS for any number of lost ones.
The acknowledgement of the subscription may never come and is not waited for; its seq is that of its CPU on newer kernels, and
the one that was sent on older ones (drivers/connector/cn_proc.c).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

NETLINK_CONNECTOR = 11
CN_IDX_PROC = 1
LISTEN, IGNORE = 1, 2
SO_RCVBUFFORCE = 33

NONE, FORK, EXEC, UID, GID, SID = 0x0, 0x1, 0x2, 0x4, 0x40, 0x80
PTRACE, COMM, COREDUMP, EXIT = 0x100, 0x200, 0x40000000, 0x80000000

EVENT_BYTES = 76
LEAST_BYTES = 52
MOST_EVENTS = 16_384
"""Events of one drained batch; the rest is the next one's."""

_EVENT = struct.Struct("=24xI8xIIQ6I")
_REQUEST = struct.Struct("=IHHII" + "IIIIHHI")
_SENT_SEQ = 0x70616363
_WRAP = 1 << 32
_STEP_BACK = 1 << 31

Event = tuple[int, int, int, int, int, int, int, int, int, int]
"""seq, what, cpu, timestamp (ns), and the six u32 of the kind: FORK parent pid, tgid, child pid, tgid; EXIT pid, tgid, status,
signal, parent pid, tgid; UID and GID pid, tgid, real, effective; others begin with pid, tgid."""


def request(operation: int) -> bytes:
    """What asks the kernel for events (LISTEN), or to stop (IGNORE): all of them, as a mask would spoil the counting of losses."""
    return _REQUEST.pack(_REQUEST.size, 3, 0, 0, os.getpid(), CN_IDX_PROC, 1, _SENT_SEQ, 0, 4, 0, operation)


def comm_of(event: Event) -> str:
    """The name that a COMM event tells of; what is no UTF-8 in it as `\\xNN`."""
    return struct.pack("=4I", *event[6:10]).partition(b"\0")[0].decode("utf-8", "backslashreplace")


class Losses:
    """Counts lost events by the sequence of each CPU; `last` is the last number seen of each."""

    def __init__(self) -> None:
        self.last: dict[int, int] = {}
        self.lost = 0

    def checked(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events that are told of, in the order they came; losses between them are counted in passing."""
        last = self.last
        for event in events:
            seq, what, cpu = event[0], event[1], event[2]
            if what == NONE:
                if seq != _SENT_SEQ:
                    last[cpu] = seq
                continue
            before = last.get(cpu)
            if before is not None and seq != before + 1:
                step = (seq - before - 1) % _WRAP
                if step < _STEP_BACK:
                    self.lost += step
            last[cpu] = seq
            yield event


class Batch:
    """Room for the datagrams of one batch, one after the other."""

    def __init__(self, events: int = MOST_EVENTS) -> None:
        self._buffer = bytearray(events * EVENT_BYTES)
        whole = memoryview(self._buffer)
        self.places = [whole[at : at + EVENT_BYTES] for at in range(0, len(self._buffer), EVENT_BYTES)]
        self._whole = whole

    def pad(self, place: int, length: int) -> bool:
        """Makes a short datagram whole; False for one that is no event."""
        if length < LEAST_BYTES:
            return False
        self.places[place][length:] = bytes(EVENT_BYTES - length)
        return True

    def events(self, count: int) -> Iterator[Event]:
        """The first so many, decoded."""
        return _EVENT.iter_unpack(self._whole[: count * EVENT_BYTES])


class Connector:
    """A subscription to the process events of this host.

    Raises: OSError if it cannot be had: no CONFIG_PROC_EVENTS, no CAP_NET_ADMIN, another pid or user namespace (in the last case
    the kernel gives no error and simply sends nothing, or what others asked for).
    """

    def __init__(self, buffer_bytes: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR)
        try:
            self.buffer_bytes = grow_buffer(self._socket, buffer_bytes)
            self._socket.bind((0, CN_IDX_PROC))
            self._socket.setblocking(False)
            self._socket.send(request(LISTEN))
        except OSError:
            self._socket.close()
            raise
        self._batch = Batch()
        self._losses = Losses()
        self.overruns = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def lost(self) -> int:
        """Events lost since it began, by the sequence."""
        return self._losses.lost

    @property
    def last_seen(self) -> dict[int, int]:
        """The last sequence number of each CPU."""
        return self._losses.last

    def go_on_from(self, last_seen: dict[int, int]) -> None:
        """Counts as lost what came after these numbers, of an earlier subscription in the same boot."""
        for cpu, seq in last_seen.items():
            self._losses.last.setdefault(cpu, seq)

    def hear_each_cpu(self) -> None:
        """Makes an event on each CPU it may run on, so that the numbers of all are known: it gives itself its own name."""
        allowed = os.sched_getaffinity(0)
        with open("/proc/self/comm", "rb+", buffering=0) as own:  # noqa: PTH123 - unbuffered, and of this very thread
            name = own.read()
            for cpu in allowed:
                with suppress(OSError):
                    os.sched_setaffinity(0, {cpu})
                    own.write(name.rstrip(b"\n"))
        os.sched_setaffinity(0, allowed)

    def drain(self) -> tuple[list[Event], bool]:
        """What waits, at most `MOST_EVENTS`, and whether that was all."""
        count, is_all = self._received()
        return list(self._losses.checked(self._batch.events(count))), is_all

    def _received(self) -> tuple[int, bool]:
        receive, batch = self._socket.recv_into, self._batch
        count = 0
        for place in batch.places:
            while True:
                try:
                    length = receive(place)
                except BlockingIOError:
                    return count, True
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self.overruns += 1
                    continue
                if length == EVENT_BYTES or batch.pad(count, length):
                    break
            count += 1
        return count, False

    def close(self) -> None:
        with suppress(OSError):
            self._socket.send(request(IGNORE))
        self._socket.close()


def grow_buffer(receiver: socket.socket, wanted_bytes: int) -> int:
    """Gives a socket a receive buffer of this size, beyond the limit of the host where that is allowed; what it has then, in
    bytes."""
    try:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, wanted_bytes)
    except PermissionError:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted_bytes)
    return receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
