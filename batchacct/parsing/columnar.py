"""What fast lanes have in common: lines of a block by their offsets, and as one Arrow array over the block's own bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchacct.model import INTEGER, TEXT, content_hash

if TYPE_CHECKING:
    from typing import Any

    Column = pa.Array[Any]

Offsets = npt.NDArray[np.int64]


def line_bounds(data: bytes) -> tuple[Offsets, Offsets]:
    """Where each line begins and, without `\\r` and `\\n`, ends: the spans of LineFraming, and empty ones too."""
    array = np.frombuffer(data, dtype=np.uint8)
    newlines = np.flatnonzero(array == ord("\n"))
    stops = newlines if data.endswith(b"\n") or not data else np.append(newlines, len(data))
    starts = np.append(0, newlines + 1)[: len(stops)]
    if b"\r" in data:
        stops = stops - ((stops > starts) & (array[np.maximum(stops - 1, 0)] == ord("\r")))
    return starts, stops


def lines_of(data: bytes, starts: Offsets) -> Column:
    """The lines that begin at `starts`, each with its end, as one array over the block's own bytes."""
    offsets = np.append(starts, len(data)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
    return cast("Column", pa.Array.from_buffers(pa.binary(), len(starts), buffers))


def spans_left(data: bytes, starts: Offsets, stops: Offsets, taken: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The spans of the lines that were not taken, without empty ones."""
    left = np.flatnonzero(~taken)
    spans = zip(starts[left].tolist(), stops[left].tolist(), strict=True)
    return [(start, stop) for start, stop in spans if data[start:stop].strip()]


def same(text: str | None, count: int) -> Column:
    """A column of one text."""
    return pa.repeat(pa.scalar(text, TEXT), count)


def hashes(native: Column) -> Column:
    """The content hash of each unit."""
    return pa.array([content_hash(unit) for unit in cast("list[bytes]", native.to_pylist())], INTEGER)
