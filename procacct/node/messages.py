"""Sensor datagrams on the daemon's busy path; their form, and the careful reading of it, is `procacct.datagrams`, to which a test
holds this one equal. Here the shared objects are taken apart only if these very bytes were not seen before.

What a process sends of itself is bounded and checked here; anything that is not of the form is None, and counted by whoever
receives it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from procacct.datagrams import (
    ARGUMENTS,
    BUILD_ID,
    ENVIRONMENT,
    HEADER,
    ITEM,
    JOB,
    MAGIC,
    MODULES,
    OBJECT,
    OBJECTS,
    PROGRAM,
    SIGNATURE,
    USAGE,
    USED,
    VERSION,
)
from procacct.node.proc_files import text_of
from procacct.node.told import END, START, Told

MOST_BYTES = 65_536
MOSTOBJECTS = 4096
LATEST_NS = (1 << 63) - 1
CLOCK_APART_NS = 5_000_000_000
"""A sensor whose clocks are so far apart is in a time namespace (time_namespaces(7)): its CLOCK_MONOTONIC is not ours."""

AHEAD_NS = 5_000_000
"""A time that is more ahead than this is refused: it would fit no process, and become one of its own."""

Object = tuple[str, str | None, str | None]
"""Path, build id (hex), signature of a shared object."""


class Reader:
    """Decodes datagrams. `set_of` names a set of shared objects, given its item as it came."""

    def __init__(self, set_of: Callable[[bytes], str | None], most_weight: int = 1) -> None:
        """`most_weight`: for how many executions one may stand, by the policy."""
        self._set_of, self._most_weight = set_of, most_weight
        self.ahead = 0
        """Messages refused as their time is still to come: forged, or of a time namespace (time_namespaces(7))."""
        self.other_pids = 0
        """Messages whose header names another process than the kernel: of another pid namespace, or forged. The kernel's counts."""
        self.unsent = 0
        """Messages that processes could not send, by their own count."""
        self.cut = 0

    def may_stand_for(self, most_weight: int) -> None:
        """From now on one may stand for so many; what runs already acts by the policy it began with."""
        self._most_weight = max(self._most_weight, most_weight)

    def read(self, data: bytes | memoryview, pid: int, user_id: int, group_id: int, to_real_ns: int) -> Told | None:
        """The message of a process that the kernel vouches for; None if it is not of the form."""
        if len(data) < HEADER.size:
            return None
        (magic, version, kind, flags, length, own_pid, _, _, _, weight, real_ns, at_ns, start_ns, unsent) = HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION or kind not in (START, END) or length != len(data) or not weight:
            return None
        if max(at_ns, start_ns, real_ns) > LATEST_NS or start_ns > at_ns:
            return None
        shift = real_ns - at_ns - to_real_ns
        if abs(shift) > CLOCK_APART_NS:
            at_ns, start_ns = at_ns + shift, start_ns + shift
        told = Told(kind, pid, user_id, group_id, start_ns, at_ns, min(weight, self._most_weight))
        if at_ns > time.monotonic_ns() + AHEAD_NS:
            self.ahead += 1
            return None
        if not self._items(data, told):
            return None
        self.other_pids += own_pid != pid
        self.unsent += min(unsent, 1 << 20)
        self.cut += bool(flags & 7)
        return told

    def _items(self, data: bytes | memoryview, told: Told) -> bool:
        at, end = HEADER.size, len(data)
        while at < end:
            if end - at < ITEM.size:
                return False
            tag, _, length = ITEM.unpack_from(data, at)
            at += ITEM.size
            if length > end - at:
                return False
            value = bytes(data[at : at + length])
            at += (length + 3) & ~3
            if tag == OBJECTS:
                if (name := self._set_of(value)) is not None:
                    told.columns["object_set"] = name
            elif tag == USED and length == USAGE.size:
                told.rusage = USAGE.unpack(value)
            elif tag == JOB:
                told.variables = _pairs(value)
            elif tag in _COLUMNS:
                column, decoded = _COLUMNS[tag]
                told.columns[column] = decoded(value)
        return True


def objects_of(item: bytes) -> list[Object] | None:
    """The objects of an item; None if it is not of the form."""
    found: list[Object] = []
    at, end = 0, len(item)
    while at + OBJECT.size <= end and len(found) < MOSTOBJECTS:
        path_bytes, build_bytes, signature_bytes = OBJECT.unpack_from(item, at)
        first = at + OBJECT.size
        second, third = first + path_bytes, first + path_bytes + build_bytes
        at = third + signature_bytes
        if at > end:
            return None
        found.append((text_of(item[first:second]), item[second:third].hex() or None, text_of(item[third:at]) or None))
    return found


def _texts(value: bytes) -> list[str]:
    return [text_of(one) for one in value.removesuffix(b"\0").split(b"\0")] if value else []


def _pairs(value: bytes) -> dict[str, str]:
    pairs = (text_of(one).partition("=") for one in value.split(b"\0"))
    return {name: content for name, equals, content in pairs if equals}


def _modules(value: bytes) -> list[str]:
    return [text_of(one) for one in value.split(b":") if one]


_COLUMNS: dict[int, tuple[str, Callable[[bytes], object]]] = {
    PROGRAM: ("program", text_of),
    ARGUMENTS: ("arguments", _texts),
    ENVIRONMENT: ("environment", _pairs),
    BUILD_ID: ("build_id", bytes.hex),
    SIGNATURE: ("signature", text_of),
    MODULES: ("modules", _modules),
}
