"""What each task used, as the kernel tells when it ends: taskstats over generic netlink.

Source: include/uapi/linux/taskstats.h, kernel/taskstats.c, Documentation/accounting/taskstats-struct.rst. The numeric id of the
family is asked for by its name. A message is nlmsghdr (16) and genlmsghdr (4), then attributes; of an ending task AGGR_PID (4)
holds PID (1) and STATS (3); of the last thread of a process with several AGGR_TGID (5) follows, which has delays and CPU only and
is not needed: threads are summed up here. Some 64-bit architectures put a NULL attribute (6) in between, so attributes are walked
one by one.

struct taskstats by version: 8 has 328 bytes, 10 adds ac_btime64, 12 ac_tgid, ac_tgetime and the executable's device and inode; 15
put fields into the middle and shifted the rest, 16 took that back with the same length: 15 is refused. Fields used, with offset:

    0 u16 version, 4 u32 exit code, 8 u8 flag, 72 u64 CPU (ns), 80 comm[32], 120 u32 uid, gid, pid, ppid, 144 u64 elapsed, user,
    system (us), 168 u64 minor, major faults, 200 u64 peak resident, virtual (KiB, of the whole process), 248 u64 bytes read,
    written; from version 12: 368 u32 tgid, 376 u64 elapsed of the process (us), 384 u64 device, 392 u64 inode

User and system time are counted in ticks on most kernels, the sum (72) is exact: it is divided as the ticks are, as the kernel
does for getrusage(2) (kernel/sched/cputime.c, cputime_adjust).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from procacct.node.connector import MOST_EVENTS, grow_buffer

NETLINK_GENERIC = 16
GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 0x10, 3, 1, 2
TASKSTATS_CMD_GET = 1
REGISTER_CPUMASK = 3
PID, STATS, AGGR_PID = 1, 3, 4
NLMSG_ERROR, NLM_F_REQUEST, NLM_F_ACK = 2, 1, 4
TYPE_MASK = 0x3FFF

FIRST_VERSION, SHIFTED_VERSION = 8, 15
AGROUP, ASU = 0x20, 0x02
"""ac_flag (include/uapi/linux/acct.h): the last task of its process; used superuser privilege."""

CPUS_A_SOCKET = 8
MOST_MESSAGES = 2 * MOST_EVENTS
"""Of one socket in a round: all tasks of which the events of the round tell have to be among them."""
POSSIBLE_CPUS = Path("/sys/devices/system/cpu/possible")

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_BASE = struct.Struct("=H2xIB63xQ32s8xIIII8xQQQQQ16xQQ32xQQ")
_OF_PROCESS = struct.Struct("=I4xQQQ")
_BASE_BYTES, _OF_PROCESS_AT, _OF_PROCESS_BYTES = 328, 368, 400


class Task(NamedTuple):
    """What one task (a thread) used until it ended."""

    pid: int
    tgid: int | None
    status: int
    flag: int
    cpu_ns: int
    comm: str
    user_id: int
    group_id: int
    parent_pid: int
    elapsed_us: int
    user_us: int
    system_us: int
    minor_faults: int
    major_faults: int
    resident_kib: int
    virtual_kib: int
    read_bytes: int
    written_bytes: int
    process_elapsed_us: int | None
    device: int | None
    inode: int | None


@dataclass(slots=True)
class Usage:
    """The sum over the tasks of a process that have ended."""

    tasks: int = 0
    user_ns: int = 0
    system_ns: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    resident_kib: int = 0
    virtual_kib: int = 0
    superuser: bool = False

    def add(self, task: Task) -> None:
        user_ns, system_ns = split_cpu(task)
        self.tasks += 1
        self.user_ns += user_ns
        self.system_ns += system_ns
        self.minor_faults += task.minor_faults
        self.major_faults += task.major_faults
        self.read_bytes += task.read_bytes
        self.written_bytes += task.written_bytes
        self.resident_kib = max(self.resident_kib, task.resident_kib)
        self.virtual_kib = max(self.virtual_kib, task.virtual_kib)
        self.superuser = self.superuser or bool(task.flag & ASU)


def split_cpu(task: Task) -> tuple[int, int]:
    """User and system time in ns: the exact sum, divided as the ticks are; the ticks where there is no exact sum."""
    user, system, total = task.user_us, task.system_us, task.cpu_ns
    if not total:
        return 1000 * user, 1000 * system
    in_system = total * system // (user + system) if system else 0
    return total - in_system, in_system


def attributes(message: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, first byte and end of each attribute there; what is cut off or impossible ends it."""
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(message, start)
        if length < 4 or start + length > end:
            return
        yield kind & TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3


class Refused(Exception):  # noqa: N818 - of a message, not of this program
    """A version of the struct whose offsets are not those that are known."""


def task_of(message: bytes) -> Task | None:
    """The ended task that a message tells of; None if it is none.  Raises: Refused for a version of other offsets."""
    for kind, start, end in attributes(message, 20, len(message)):
        if kind == AGGR_PID:
            for inner, first, last in attributes(message, start, end):
                if inner == STATS:
                    return _task(message, first, last - first)
    return None


def _task(message: bytes, at: int, length: int) -> Task | None:
    if length < _BASE_BYTES:
        return None
    (version, status, flag, cpu_ns, comm, user_id, group_id, pid, parent_pid, *counts) = _BASE.unpack_from(message, at)
    if version < FIRST_VERSION or version == SHIFTED_VERSION:
        raise Refused(f"taskstats version {version}")
    tgid = elapsed = device = inode = None
    if length >= _OF_PROCESS_BYTES:
        tgid, elapsed, device, inode = _OF_PROCESS.unpack_from(message, at + _OF_PROCESS_AT)
    name = comm.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    values = (pid, tgid, status, flag, cpu_ns, name, user_id, group_id, parent_pid, *counts, elapsed, device, inode)
    return Task._make(values)


class Taskstats:
    """A registration for the ends of all tasks of this host.

    Raises: OSError if it cannot be had: no CONFIG_TASKSTATS, no CAP_NET_ADMIN, not in the initial namespaces.
    """

    def __init__(self, buffer_bytes: int) -> None:
        self.sockets: list[socket.socket] = []
        self.overruns = 0
        self.refused = 0
        self.unreadable = 0
        try:
            for cpus in _masks(POSSIBLE_CPUS.read_text(encoding="ascii").strip()):
                self.sockets.append(_registered(cpus, buffer_bytes))
        except OSError:
            self.close()
            raise

    def drain(self) -> tuple[list[Task], bool]:
        """Tasks that ended, at most `MOST_MESSAGES` of each socket, and whether that was all."""
        tasks: list[Task] = []
        is_all = True
        for one in self.sockets:
            is_all = self._drain(one, tasks) and is_all
        return tasks, is_all

    def _drain(self, receiver: socket.socket, tasks: list[Task]) -> bool:
        receive = receiver.recv
        for _ in range(MOST_MESSAGES):
            try:
                message = receive(8192)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            try:
                task = task_of(message)
            except Refused:
                self.refused += 1
                continue
            if task is None:
                self.unreadable += 1
            else:
                tasks.append(task)
        return False

    def close(self) -> None:
        for one in self.sockets:
            one.close()
        self.sockets = []


def _masks(possible: str) -> Iterator[str]:
    """CPU lists of a few CPUs each that make up the possible ones, `0-3,8`: a socket for each, whose buffers add up."""
    cpus: list[int] = []
    for part in possible.split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    size = max(CPUS_A_SOCKET, -(-len(cpus) // CPUS_A_SOCKET))
    for at in range(0, len(cpus), size):
        yield ",".join(map(str, cpus[at : at + size]))


def _registered(cpus: str, buffer_bytes: int) -> socket.socket:
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
    try:
        one.bind((0, 0))
        one.settimeout(2.0)
        family = _family(one)
        grow_buffer(one, buffer_bytes)
        one.send(_message(family, TASKSTATS_CMD_GET, REGISTER_CPUMASK, cpus.encode() + b"\0", NLM_F_ACK))
        _answered(one)
        one.setblocking(False)
    except BaseException:
        one.close()
        raise
    return one


def _message(family: int, command: int, attribute: int, value: bytes, flags: int = 0) -> bytes:
    padded = value + bytes(-len(value) % 4)
    body = _GENERIC.pack(command, 1, 0) + _ATTRIBUTE.pack(4 + len(value), attribute) + padded
    return _HEADER.pack(16 + len(body), family, NLM_F_REQUEST | flags, 1, 0) + body


def _family(one: socket.socket) -> int:
    one.send(_message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0"))
    reply = _answered(one)
    for kind, start, _ in attributes(reply, 20, len(reply)):
        if kind == CTRL_ATTR_FAMILY_ID:
            return int(struct.unpack_from("=H", reply, start)[0])
    raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))


def _answered(one: socket.socket) -> bytes:
    """The answer to a request; messages of ending tasks that come before it are left out.  Raises: OSError the kernel told of."""
    while True:
        reply = one.recv(65_536)
        _, kind, _, seq, _ = _HEADER.unpack_from(reply)
        if kind == NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", reply, 16)
            if code:
                raise OSError(-code, os.strerror(-code))
            return reply
        if kind == GENL_ID_CTRL and seq == 1:
            return reply
