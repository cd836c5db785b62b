"""Compressed files: of one that is damaged or cut short, all that can be decoded is read before the error comes.

A file may hold several members (gzip), streams (bzip2, xz) or frames (zstd), one after the other, with NUL bytes between them.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import zstandard

MAGIC_BYTES = 6
"""As much of a file as tells what it is compressed with."""
_PIECE = 1 << 16
"""So much is decoded at a time, at the most: of NUL bytes a few compressed ones may stand for gigabytes."""


class UndecodableError(Exception):
    """After `length` bytes no more can be decoded: it is cut short there, or damaged there or before.

    To users it is a SourceError (`reading.source_errors`).
    """

    def __init__(self, length: int, damage: str | None) -> None:
        super().__init__(f"cut short at byte {length:,}" if damage is None else f"damaged at byte {length:,}: {damage}")
        self.length, self.damage = length, damage


class _Decoder(Protocol):
    """What bz2 and lzma have: `needs_input` is false while there is more to be had of what it was given."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


class _GzipDecoder:
    """zlib's, which can be copied: so what it had decoded of a piece of input before it found an error is not lost."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._error: zlib.error | None = None

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return self._error is None and not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        if self._error is not None:
            raise self._error
        data = self._decoder.unconsumed_tail + data
        before = self._decoder.copy()
        try:
            return self._decoder.decompress(data, max_length)
        except zlib.error as error:
            self._error = error
        decoded = b""
        with contextlib.suppress(zlib.error):
            for at in range(len(data)):
                decoded += before.decompress(data[at : at + 1])
        return decoded


class _ZstandardDecoder:
    """zstandard's. (The library's own reader takes a file cut short for a whole one.)"""

    needs_input = True

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        del max_length
        return self._decoder.decompress(data)


_FORMATS: tuple[tuple[bytes, Callable[[], _Decoder], int], ...] = (
    (b"\x1f\x8b", _GzipDecoder, 1 << 14),
    (b"BZh", bz2.BZ2Decompressor, 1 << 10),
    (b"\xfd7zXZ\0", lzma.LZMADecompressor, 1 << 10),
    (b"\x28\xb5\x2f\xfd", _ZstandardDecoder, 1 << 9),
)
"""How a file begins, what decodes it, and how much of it is decoded at a time: of that, what comes before an error may be lost."""
_ERRORS = (OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError)


class Content:
    """What is in a compressed file. What can be decoded of it is read first; the error comes from the reading after that."""

    def __init__(self, raw: IO[bytes], decoder: Callable[[], _Decoder], input_bytes: int) -> None:
        self._pieces = _decoded(raw, decoder, input_bytes)
        self._rest = memoryview(b"")
        self._length = 0
        self._error: UndecodableError | OSError | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Raises: UndecodableError, or OSError, once nothing is left that could be read before it."""
        taken: list[memoryview] = []
        left = size
        while left and (self._rest or self._advance()):
            piece = self._rest if left < 0 else self._rest[:left]
            self._rest = self._rest[len(piece) :]
            taken.append(piece)
            left -= len(piece) if left > 0 else 0
        if self._error is not None and not taken and size:
            raise self._error
        return b"".join(taken)

    def _advance(self) -> bool:
        """Decodes the next piece; False if there is none."""
        if self._error is None:
            try:
                self._rest = memoryview(next(self._pieces, b""))
            except _DamagedError as error:
                self._error = UndecodableError(self._length, error.damage)
            except OSError as error:
                self._error = error
        self._length += len(self._rest)
        return bool(self._rest)


class _DamagedError(Exception):
    def __init__(self, damage: str | None) -> None:
        super().__init__(damage)
        self.damage = damage


def _decoded(raw: IO[bytes], new_decoder: Callable[[], _Decoder], input_bytes: int) -> Iterator[bytes]:
    """The content, piece by piece.  Raises: _DamagedError; OSError if the file itself cannot be read."""
    data = raw.read(input_bytes)
    while data:
        decoder = new_decoder()
        ended = False
        while not decoder.eof:
            if not data and decoder.needs_input:
                data = raw.read(input_bytes)
                ended = not data
            try:
                piece = decoder.decompress(data, _PIECE)
            except _ERRORS as error:
                raise _DamagedError(str(error)) from error
            data = b""
            if piece:
                yield piece
            elif ended and not decoder.eof:
                raise _DamagedError(None)
        data = decoder.unused_data.lstrip(b"\0")
        while not data and (more := raw.read(input_bytes)):
            data = more.lstrip(b"\0")


Decompress = Callable[[IO[bytes]], Content]


def decompressor(head: bytes) -> Decompress | None:
    """What makes the content of a file that begins so; None for one that is not compressed."""
    for magic, decoder, input_bytes in _FORMATS:
        if head.startswith(magic):
            return lambda raw: Content(raw, decoder, input_bytes)
    return None


def is_compressed(path: str) -> bool:
    """Whether the file's first bytes are those of a compression that is understood."""
    with Path(path).open("rb") as raw:
        return decompressor(raw.read(MAGIC_BYTES)) is not None


def has_compressed_name(path: str) -> bool:
    """Whether a file that may not be there any more was a compressed one, as far as its name tells."""
    return path.endswith((".gz", ".bz2", ".xz", ".zst"))
