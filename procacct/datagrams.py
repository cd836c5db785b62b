"""The sensor's datagrams, version 1, as `sensor/datagram.c` writes them; any bytes are a datagram or a DatagramError.

Host byte order. A header of 64 bytes: u32 magic 0x50414342, u8 version, u8 kind, u16 flags, u32 length, pid, ppid, uid, gid,
weight; u64 ns of CLOCK_REALTIME, of CLOCK_MONOTONIC, of CLOCK_MONOTONIC at the start, datagrams lost before. Then items: u16 tag,
u16 zero, u32 length, bytes, zeros up to a multiple of 4. Unknown tags are skipped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple

from batchacct.errors import BatchacctError, Permanent

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = 0x50414342
VERSION = 1
HEADER = struct.Struct("=IBBHIIIIIIQQQQ")
ITEM = struct.Struct("=HHI")
OBJECT = struct.Struct("=HBB")
USAGE = struct.Struct("=9Q")
PROGRAM, ARGUMENTS, ENVIRONMENT, OBJECTS, BUILD_ID, SIGNATURE, USED, JOB, MODULES = range(1, 10)


class DatagramError(Permanent, BatchacctError):
    """Bytes that are no datagram of the sensor."""

    exit_code = 30


class Kind(IntEnum):
    START = 1
    END = 2


class Flags(IntFlag):
    ARGUMENTS_CUT = 1
    OBJECTS_CUT = 2
    ENVIRONMENT_CUT = 4
    START_DROPPED = 8


class SharedObject(NamedTuple):
    """path as the loader was given it; build_id in hex; signature: a UUID."""

    path: str
    build_id: str | None
    signature: str | None


class Usage(NamedTuple):
    """getrusage(2) of the process: microseconds, KiB, blocks of 512 bytes."""

    user_us: int
    system_us: int
    memory_kib: int
    minor_faults: int
    major_faults: int
    blocks_read: int
    blocks_written: int
    voluntary_switches: int
    involuntary_switches: int


@dataclass(frozen=True, slots=True)
class Datagram:
    """pid, ppid, uid and gid are of the process's own namespaces, and what it says of itself.

    weight: how many executions it stands for. dropped: datagrams this process could not send before.
    None is what was not sent.
    """

    kind: Kind
    flags: Flags
    pid: int
    ppid: int
    uid: int
    gid: int
    weight: int
    realtime_ns: int
    monotonic_ns: int
    start_monotonic_ns: int
    dropped: int
    program: str | None = None
    arguments: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    objects: tuple[SharedObject, ...] | None = None
    build_id: str | None = None
    signature: str | None = None
    usage: Usage | None = None
    job_variables: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()


def decode(data: bytes) -> Datagram:
    """One datagram. Bytes that are no UTF-8 become `\\xNN`.  Raises: DatagramError."""
    if len(data) < HEADER.size:
        raise DatagramError(f"{len(data)} bytes are shorter than the header of a datagram, {HEADER.size}.")
    magic, version, kind, flags, length, pid, ppid, uid, gid, weight, realtime, monotonic, start, dropped = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise DatagramError(
            f"Magic {magic:#x} and version {version} are not those of a sensor's datagram, {MAGIC:#x} and {VERSION}."
        )
    if length != len(data):
        raise DatagramError(f"{len(data)} bytes have come of a datagram of {length}.")
    if kind not in (Kind.START, Kind.END):
        raise DatagramError(f"Kind {kind} is neither start nor end.")
    if flags & ~15:
        raise DatagramError(f"Flags {flags:#x} are not all known.")
    if weight == 0:
        raise DatagramError("Its weight is 0.")
    items = _items(data)
    try:
        return Datagram(
            Kind(kind),
            Flags(flags),
            pid,
            ppid,
            uid,
            gid,
            weight,
            realtime,
            monotonic,
            start,
            dropped,
            program=_text(items.get(PROGRAM)),
            arguments=None if ARGUMENTS not in items else tuple(map(_decoded, _parts(items[ARGUMENTS]))),
            environment=_variables(items.get(ENVIRONMENT)),
            objects=None if OBJECTS not in items else tuple(_objects(items[OBJECTS])),
            build_id=items[BUILD_ID].hex() if BUILD_ID in items else None,
            signature=_text(items.get(SIGNATURE)),
            usage=None if USED not in items else Usage(*USAGE.unpack(items[USED])),
            job_variables=_variables(items.get(JOB)),
            modules=tuple(part for part in (_text(items.get(MODULES)) or "").split(":") if part),
        )
    except struct.error as error:
        raise DatagramError(f"Its usage has {len(items[USED])} bytes, and not {USAGE.size}.") from error


def _items(data: bytes) -> dict[int, bytes]:
    items: dict[int, bytes] = {}
    at, size = HEADER.size, len(data)
    while at < size:
        if size - at < ITEM.size:
            raise DatagramError(f"Byte {at}: {size - at} bytes are too few for an item.")
        tag, zero, length = ITEM.unpack_from(data, at)
        begin = at + ITEM.size
        end = begin + length
        at = (end + 3) & ~3
        if zero or at > size:
            raise DatagramError(f"Byte {begin - ITEM.size}: an item of {length} bytes, of a datagram of {size}.")
        if at != end and any(data[end:at]):
            raise DatagramError(f"Byte {end}: there is something between two items.")
        if tag in items:
            raise DatagramError(f"Byte {begin - ITEM.size}: a second item {tag}.")
        items[tag] = data[begin:end]
    return items


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    if b"\0" in value:
        raise DatagramError(f"There is a NUL in {value[:100]!r}.")
    return _decoded(value)


def _parts(value: bytes) -> list[bytes]:
    """The texts, each of which ends with a NUL."""
    *parts, rest = value.split(b"\0")
    if rest:
        raise DatagramError(f"No NUL ends {rest[:100]!r}.")
    return parts


def _variables(value: bytes | None) -> Mapping[str, str]:
    if value is None:
        return {}
    found: dict[str, str] = {}
    for part in _parts(value):
        name, equals, text = part.partition(b"=")
        if not equals:
            raise DatagramError(f"{part[:100]!r} is no variable.")
        found.setdefault(_decoded(name), _decoded(text))
    return found


def _objects(value: bytes) -> list[SharedObject]:
    objects = []
    at = 0
    while at < len(value):
        if len(value) - at < OBJECT.size:
            raise DatagramError(f"{len(value) - at} bytes are too few for an object.")
        path_length, id_length, signature_length = OBJECT.unpack_from(value, at)
        path_end = at + OBJECT.size + path_length
        id_end = path_end + id_length
        end = id_end + signature_length
        if end > len(value):
            raise DatagramError(f"An object has {end - at} bytes, and {len(value) - at} are left.")
        objects.append(
            SharedObject(
                _text(value[at + OBJECT.size : path_end]) or "",
                value[path_end:id_end].hex() or None,
                _text(value[id_end:end]) or None,
            )
        )
        at = end
    return objects
