"""Payloads as the outbox keeps them: a zstd frame with a checksum, a tenth of the bytes, which a database writes twice."""

from __future__ import annotations

import hashlib

import zstandard

LEVEL = 1
"""Of higher ones a message becomes little smaller, and much slower."""

_FRAME = b"\x28\xb5\x2f\xfd"


def packed(payload: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(payload)


def unpacked(stored: bytes) -> bytes:
    """The payload, byte for byte; one stored before payloads were packed is as it was.

    Raises: zstandard.ZstdError if it is damaged.
    """
    return zstandard.ZstdDecompressor().decompress(stored) if stored.startswith(_FRAME) else stored


def digest_of(payload: bytes) -> str:
    """What a payload is known by, whatever becomes of it: the SHA-256, in hexadecimal digits."""
    return hashlib.sha256(payload).hexdigest()
