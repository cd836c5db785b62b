"""OGRT's datagrams: u32 type, u32 length (big endian), and a message of Protocol Buffers; and where each begins in a file of them.

Sources: `protocol/ogrt.proto` of OGRT 0.4.1, its client, and the encoding of Protocol Buffers (protobuf.dev, "Encoding").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from batchacct.parsing import Reject
from procacct.recorded_elsewhere import valid_text

PROCESS_INFO = 12
BEGINNING = PROCESS_INFO.to_bytes(4, "big")
HEADER_BYTES = 8
_HEAD = BEGINNING + b"\0\0"
"""A payload has less than 64 KiB, as it was sent by UDP."""
_NEXT = re.compile(rb"[\r\n]|" + re.escape(BEGINNING))
_TEXTS = {
    300: "binpath", 304: "signature", 305: "job_id", 306: "username", 307: "hostname", 308: "cmdline",
}  # fmt: skip
_NUMBERS = {301: "pid", 302: "parent_pid", 303: "time"}
_ENVIRONMENT, _OBJECT, _MODULE = 309, 311, 312
VARINT, EIGHT_BYTES, DELIMITED, FOUR_BYTES = 0, 1, 2, 5


class DatagramsOrLines:
    """A datagram is a unit, by its own length; whatever else stands between is one up to the end of its line."""

    def cut(self, data: bytes, *, final: bool) -> int:
        """Length of the prefix that is whole units."""
        if final:
            return len(data)
        whole = 0
        for _, end, is_whole in self._units(data):
            if not is_whole:
                break
            whole = end
        return whole

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        for start, end, _ in self._units(data):
            if data[start:end].strip() or data.startswith(BEGINNING, start):
                yield start, end

    def _units(self, data: bytes) -> Iterator[tuple[int, int, bool]]:
        """(start, end, whole) of each; only the last can be one that further bytes would change."""
        start = 0
        while start < len(data):
            if data[start] in b"\r\n":
                yield start, start + 1, True
                start += 1
                continue
            end = _end_of_datagram(data, start)
            if end is None:
                match = _NEXT.search(data, start + (len(BEGINNING) if data.startswith(BEGINNING, start) else 1))
                end, whole = (match.start(), True) if match else (len(data), False)
            else:
                end, whole = min(end, len(data)), end <= len(data)
            yield start, end, whole
            start = end


def _end_of_datagram(data: bytes, start: int) -> int | None:
    """Where the datagram at `start` ends, perhaps behind the data; None if there is none.

    Of a header that is not all there yet, the bytes that are there decide, so that further ones change nothing.
    """
    head = data[start : start + HEADER_BYTES]
    if not (head.startswith(_HEAD) or _HEAD.startswith(head)):
        return None
    if len(head) < HEADER_BYTES:
        return start + HEADER_BYTES
    return start + HEADER_BYTES + int.from_bytes(head[4:], "big")


def process_info(datagram: bytes) -> dict[str, object]:
    """A datagram as the JSON of OGRT's server has it.  Raises: Reject."""
    if len(datagram) < HEADER_BYTES or HEADER_BYTES + int.from_bytes(datagram[4:8], "big") != len(datagram):
        raise Reject("the datagram is cut short, or longer than one can be")
    found: dict[str, object] = {}
    environment: list[str] = []
    objects: list[dict[str, object]] = []
    modules: list[dict[str, object]] = []
    for number, value in _fields(datagram[HEADER_BYTES:]):
        if number in _TEXTS and isinstance(value, bytes):
            found[_TEXTS[number]] = _text(value)
        elif number in _NUMBERS and isinstance(value, int):
            found[_NUMBERS[number]] = value
        elif number == _ENVIRONMENT and isinstance(value, bytes):
            environment.append(_text(value))
        elif number == _OBJECT and isinstance(value, bytes):
            objects.append(_named(value, {400: "path", 401: "signature"}))
        elif number == _MODULE and isinstance(value, bytes):
            modules.append(_named(value, {700: "name"}))
    lists = {"environment_variables": environment, "shared_objects": objects, "loaded_modules": modules}
    return found | {name: values for name, values in lists.items() if values}


def _named(message: bytes, names: dict[int, str]) -> dict[str, object]:
    return {names[n]: _text(value) for n, value in _fields(message) if n in names and isinstance(value, bytes)}


def _text(value: bytes) -> str:
    return valid_text(value.decode("utf-8", "surrogateescape"))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a message.  Raises: Reject."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == DELIMITED:
            length, at = _varint(message, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if kind == EIGHT_BYTES else 4
        else:
            raise Reject(f"byte {at} of the message: a field of the unknown kind {kind}")
        if length > len(message) - at:
            raise Reject(f"byte {at} of the message: a field of {length} bytes reaches beyond it")
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise Reject("the message is cut within a number, or the number has more than 64 bits")
