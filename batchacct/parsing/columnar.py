"""What fast lanes have in common: lines of a block by their offsets, and parts of it as one Arrow array over its own bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.model import INTEGER, TEXT, content_hash

if TYPE_CHECKING:
    from typing import Any

    Column = pa.Array[Any]

Offsets = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


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


def spans_left(data: bytes, starts: Offsets, stops: Offsets, taken: Bools) -> list[tuple[int, int]]:
    """The spans of the lines that were not taken, without empty ones."""
    left = np.flatnonzero(~taken)
    spans = zip(starts[left].tolist(), stops[left].tolist(), strict=True)
    return [(start, stop) for start, stop in spans if data[start:stop].strip()]


def spans_of(data: Any, starts: Offsets, ends: Offsets, kind: pa.DataType, there: Bools | None = None) -> Column:
    """The spans, which ascend and do not overlap, as texts or bytes; null where nothing is `there`.

    `data` is bytes, or an array of them. They are every second element of an array that lies over `data` itself.
    """
    count = len(starts)
    which: Any
    offsets = np.zeros(2 * count + 1, np.int32)
    if there is None or there.all():
        which = pa.array(np.arange(0, 2 * count, 2))
    else:
        starts, ends = starts[there], ends[there]
        which = pa.array(2 * np.cumsum(there) - 2, mask=~there)
    offsets[0 : 2 * len(starts) : 2] = starts
    offsets[1 : 2 * len(starts) : 2] = ends
    offsets[2 * len(starts) :] = ends[-1] if len(ends) else 0
    over = pa.Array.from_buffers(kind, 2 * count, [None, pa.py_buffer(offsets.data), pa.py_buffer(data)])
    return cast("Column", pc.take(over, which, boundscheck=False))


def same(text: str | None, count: int) -> Column:
    """A column of one text."""
    return pa.repeat(pa.scalar(text, TEXT), count)


def hashes(native: Column) -> Column:
    """The content hash of each unit."""
    return pa.array([content_hash(unit) for unit in cast("list[bytes]", native.to_pylist())], INTEGER)
