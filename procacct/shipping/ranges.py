"""What goes from a node to the central host: a range of bytes of a spool file, as a message and back.

Headers: `host` whose spool it is, `boot` (first eight digits of its boot id), `file`, `offset`, `length` and `sha256` of the bytes,
`seq` (the number of the message, counted by the node), `coding`: `zstd` or `identity`, whichever is shorter. The body is the range:
whole lines, but for the last one of a file that ends without a newline.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import zstandard

LARGEST_RANGE = 32 << 20
"""No range is longer: what says it is, is not unpacked."""
CONTENT_TYPE = "application/octet-stream"

_FILE = re.compile(
    r"(?P<kind>processes|objects|groups)-(?P<boot>[0-9a-z]{8})-(?P<number>[0-9]{6,12})(?:-(?P<again>[0-9]{1,6}))?\.jsonl"
)
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9][A-Za-z0-9_-]{0,62})*")
_NUMBER = re.compile(r"[0-9]{1,15}")
_WORTH = 0.9
"""Compressed is worth it from this ratio on."""


class Unusable(Exception):  # noqa: N818 - told of a message that others have written
    """A message is no range of a spool file, or claims what it may not."""

    def __init__(self, reason: str, *, is_damaged: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_damaged = is_damaged


@dataclass(frozen=True, slots=True, order=True)
class SpoolName:
    """A spool file's name, `KIND-BOOT8-NNNNNN.jsonl`; `again` counts from 2 where its content was replaced under the same name."""

    kind: str
    boot: str
    number: int
    again: int = 1

    def __str__(self) -> str:
        again = "" if self.again == 1 else f"-{self.again}"
        return f"{self.kind}-{self.boot}-{self.number:06d}{again}.jsonl"

    @classmethod
    def of(cls, text: str) -> SpoolName | None:
        """None for what is no such name."""
        if (match := _FILE.fullmatch(text)) is None:
            return None
        name = cls(match["kind"], match["boot"], int(match["number"]), int(match["again"] or 1))
        return name if str(name) == text else None


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a host's spool file, from `offset` on."""

    host: str
    file: SpoolName
    offset: int
    content: bytes
    seq: int

    @property
    def id(self) -> int:
        return self.seq

    @property
    def name(self) -> str:
        return f"{self.file}@{self.offset}"

    @property
    def end(self) -> int:
        return self.offset + len(self.content)

    def packed(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of its message."""
        squeezed = zstandard.ZstdCompressor(level=3).compress(self.content)
        is_worth = len(squeezed) < _WORTH * len(self.content)
        headers = {
            "host": self.host,
            "boot": self.file.boot,
            "file": str(self.file),
            "offset": str(self.offset),
            "length": str(len(self.content)),
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "seq": str(self.seq),
            "coding": "zstd" if is_worth else "identity",
        }
        return headers, squeezed if is_worth else self.content


def is_host_name(text: str) -> bool:
    """Whether it is one, and so no way out of a folder either."""
    return _HOST.fullmatch(text) is not None


def unpacked(headers: Mapping[str, str], body: bytes) -> Range:
    """The range that a message is.  Raises: Unusable."""
    host, file = headers.get("host", ""), SpoolName.of(headers.get("file", ""))
    if not is_host_name(host):
        raise Unusable(f"{host[:100]!r} is no host name")
    if file is None:
        raise Unusable(f"{headers.get('file', '')[:100]!r} is no name of a spool file")
    if headers.get("boot", file.boot) != file.boot:
        raise Unusable(f"boot {headers['boot'][:40]!r} and file {file} contradict each other")
    offset, length, seq = (_number(headers, name) for name in ("offset", "length", "seq"))
    if not 0 < length <= LARGEST_RANGE:
        raise Unusable(f"{length} bytes are no range: it has at least 1 and at most {LARGEST_RANGE}")
    content = _content(headers.get("coding", ""), body, length)
    if len(content) != length or hashlib.sha256(content).hexdigest() != headers.get("sha256"):
        raise Unusable("the bytes are not those that length and sha256 tell of", is_damaged=True)
    return Range(host, file, offset, content, seq)


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    if _NUMBER.fullmatch(text) is None:
        raise Unusable(f"header {name} is no number: {text[:40]!r}")
    return int(text)


def _content(coding: str, body: bytes, length: int) -> bytes:
    if coding == "identity":
        return body
    if coding != "zstd":
        raise Unusable(f"coding {coding[:40]!r} is neither zstd nor identity")
    try:
        if zstandard.frame_content_size(body) != length:
            raise Unusable("the compressed bytes are of another length than told", is_damaged=True)
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=length)
    except zstandard.ZstdError as error:
        raise Unusable(f"the bytes cannot be unpacked: {error}", is_damaged=True) from error
