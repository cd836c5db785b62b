"""What the 64 bytes of a process accounting record hold, in each of its four layouts and both byte orders.

The layouts are those of `struct acct` and `struct acct_v3` in linux/acct.h, and of the kernels before 2.6 (version 0, without a
version number). Byte 1 is the version, but for its highest bit, which says that the writer was big-endian; a file may hold several
versions, since kernels change between boots.

    version  written by                             differs in
    0        kernels to 2.4                         16-bit ids, no process id, always 100 ticks a second; never marked big-endian
    1        m68k, big-endian                       32-bit ids and longer elapsed time behind the name, packed to two bytes
    2        kernels without BSD_PROCESS_ACCT_V3    the same, and it states its ticks a second
    3        all other ones                         process ids; elapsed time as an IEEE float, 100 ticks a second whatever HZ is

Times are in ticks of `ticks_per_s`, memory is KiB. `ac_io` and `ac_rw` are not read: kernels do not count them (kernel/acct.c).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

RECORD_BYTES = 64
BIG_ENDIAN = 0x80
VERSION_BITS = 0x7F
WRITTEN_VERSIONS = (0, 1, 2, 3)

FORKED = 0x01
SUPERUSER = 0x02
CORE_DUMPED = 0x08
KNOWN_FLAGS = 0x3F
"""AFORK, ASU, ACOMPAT, ACORE, AXSIG, AGROUP: a bit beyond them is none that a kernel sets."""

NAME_BYTES_V3 = 16
AHZ = 100
MOST_PID = 1 << 22
"""PID_MAX_LIMIT of linux/threads.h."""
LAST_SIGNAL = 64

_OLD_TIMES = "I9H"
_LAYOUTS = {
    0: f"BBHHH{_OLD_TIMES}2xI17s11x",
    1: f"BBHHH{_OLD_TIMES}I17sBHII2x",
    2: f"BBHHH{_OLD_TIMES}HI17sBHII",
    3: "BBHIIIIIIf8H16s",
}
_STRUCTS = {
    (version, big): struct.Struct((">" if big else "<") + layout) for version, layout in _LAYOUTS.items() for big in (False, True)
}


@dataclass(frozen=True, slots=True)
class Accounted:
    """One record as it was written, numbers decoded: counts are whole, `elapsed` and CPU are ticks.

    `status` is the wait status of the thread group's leader; `name` has what stands before its NUL, and is None where there is
    no NUL. `pid` and `parent_pid` (0: outside of the namespace) are None below version 3.
    """

    version: int
    flags: int
    terminal: int
    status: int
    user_id: int
    group_id: int
    pid: int | None
    parent_pid: int | None
    began: int
    elapsed: float
    user: int
    system: int
    memory_kib: int
    minor_faults: int
    major_faults: int
    swaps: int
    ticks_per_s: int
    name: bytes | None

    @property
    def ended(self) -> int:
        """The whole second (Unix time) in which it ended: the kernel subtracts just this from the time of day to get `began`."""
        return self.began + math.floor(self.elapsed / self.ticks_per_s)

    @property
    def is_partial(self) -> bool:
        """Whether it is what the kernel writes of the process that has just switched accounting off, or to another file.

        Nothing of that process is collected before it ends, so everything but its times and ids is 0. Of one that ends at least
        the page faults of its beginning are counted; of a kernel thread, which has none, it is said that it was only forked.
        """
        return not (
            self.flags or self.status or self.user or self.system or self.memory_kib or self.minor_faults or self.major_faults
        )


def comp_t(value: int) -> int:
    """A number of 13 bits and an exponent of 3 bits, base 8; 0xffff is what does not fit."""
    return (value & 0x1FFF) << (3 * (value >> 13))


def comp2_t(value: int) -> int:
    """A number of 24 bits: 5 of an exponent, base 2, and 20 of which the first one is not written, unless the exponent is 0."""
    exponent = value >> 19
    return value if not exponent else ((value & 0x7FFFF) | 0x80000) << (exponent - 1)


def version_of(unit: bytes) -> tuple[int, bool]:
    """Version and whether it is big-endian, by byte 1."""
    return unit[1] & VERSION_BITS, bool(unit[1] & BIG_ENDIAN)


def decode(unit: bytes) -> Accounted:
    """A record of one of the WRITTEN_VERSIONS, 64 bytes.  Raises: struct.error for another length, KeyError for another version."""
    version, big = version_of(unit)
    fields = _STRUCTS[version, big].unpack(unit)
    return _decode_v3(fields) if version == 3 else _decode_old(version, fields)


def _decode_v3(fields: tuple[object, ...]) -> Accounted:
    elapsed, name = fields[9], fields[18]
    assert isinstance(elapsed, float)
    assert isinstance(name, bytes)
    flags, _, tty, status, uid, gid, pid, parent, began = (_number(n) for n in fields[:9])
    user, system, memory, _, _, minor, major, swaps = (comp_t(_number(n)) for n in fields[10:18])
    return Accounted(
        3, flags, tty, status, uid, gid, pid, parent, began, elapsed, user, system, memory, minor, major, swaps, AHZ, _name(name)
    )  # fmt: skip


def _decode_old(version: int, fields: tuple[object, ...]) -> Accounted:
    flags, _, uid16, gid16, tty, began = (_number(n) for n in fields[:6])
    user, system, elapsed, memory, _, _, minor, major, swaps = (comp_t(_number(n)) for n in fields[6:15])
    rest = fields[15:]
    ticks_per_s = _number(rest[0]) if version == 2 else AHZ
    if version == 2:
        rest = rest[1:]
    status, name = _number(rest[0]), rest[1]
    assert isinstance(name, bytes)
    uid, gid = uid16, gid16
    if version != 0:
        high, low, uid, gid = (_number(n) for n in rest[2:6])
        elapsed = comp2_t(high << 16 | low)
    return Accounted(
        version, flags, tty, status, uid, gid, None, None, began, float(elapsed), user, system, memory, minor, major, swaps,
        ticks_per_s, _name(name),
    )  # fmt: skip


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _name(field: bytes) -> bytes | None:
    name, end, _ = field.partition(b"\0")
    return name if end else None


def damage(record: Accounted, last_instant: int) -> str | None:
    """Why this can be no record that a kernel wrote; None if it can. `last_instant`: no process ends later (Unix seconds)."""
    return _damage_of_numbers(record) or _damage_of_times(record, last_instant)


def _damage_of_numbers(record: Accounted) -> str | None:
    if record.flags & ~KNOWN_FLAGS:
        return f"flags 0x{record.flags:02x}, of which a kernel does not set all"
    if record.name is None:
        return "a name without an end"
    if record.status > 0xFFFF or record.status & 0x7F > LAST_SIGNAL:
        return f"exit status 0x{record.status:x}, which is none"
    if record.pid is not None and not 0 < record.pid <= MOST_PID:
        return f"process id {record.pid}, which no kernel gives"
    if record.parent_pid is not None and record.parent_pid > MOST_PID:
        return f"parent's process id {record.parent_pid}, which no kernel gives"
    return None


def _damage_of_times(record: Accounted, last_instant: int) -> str | None:
    if not record.ticks_per_s:
        return "0 ticks a second"
    if not (math.isfinite(record.elapsed) and record.elapsed >= 0):
        return f"an elapsed time of {record.elapsed} ticks"
    if not 0 < record.began <= record.ended <= last_instant:
        return f"a process from {record.began} to {record.ended} (Unix seconds)"
    return None


_CONSOLES = {0x0500: "tty", 0x0501: "console"}


def terminal_name(device: int) -> str | None:
    """The name of a terminal by its device number, major << 8 | minor, as `ps` shows it; None for 0, no terminal.

    Pseudo-terminals have majors from 136 on; since the number has 16 bits, pts/256 and later are found by the low bits of theirs.
    """
    if not device:
        return None
    major, minor = device >> 8, device & 0xFF
    if 0x88 <= major <= 0x8F:
        return f"pts/{(major - 0x88) << 8 | minor}"
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    return _CONSOLES.get(device, f"{major}:{minor}")
