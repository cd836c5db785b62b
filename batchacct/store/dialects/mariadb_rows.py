"""Arrow batches as MariaDB and MySQL read them: the lines of LOAD DATA, and the rows of an INSERT; column by column.

Columns are of int64, float64, string and binary; floats are written with the fewest digits that lead back to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LINES = r"CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'"
"""How LOAD DATA is told what `as_lines` writes."""

_IN_LINES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\0", "\\0"))
_IN_QUOTES = (("\\", "\\\\"), ("'", "\\'"), ("\0", "\\0"))


def as_lines(batch: pa.RecordBatch) -> memoryview:
    """A line a row."""
    *cells, last = (_or_null(_escaped(column, _IN_LINES), b"\\N") for column in batch.columns)
    return _content(_joined(b"\t", *cells, _joined(b"", last, b"\n")))


def as_values(batch: pa.RecordBatch, longest: int) -> Iterator[bytes]:
    """What follows VALUES, in pieces of about `longest` bytes, each of one row at least."""
    rows = _joined(b"", b"(", _joined(b",", *(_literals(column) for column in batch.columns)), b")")
    ends = np.cumsum(pc.binary_length(rows).to_numpy() + 1)
    first = 0
    while first < len(rows):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + longest, side="right")), first + 1)
        yield b",".join(cast("list[bytes]", rows.slice(first, last - first).to_pylist()))
        first = last


def _literals(column: pa.Array[Any]) -> pa.BinaryArray:
    escaped = _escaped(column, _IN_QUOTES)
    if _is_text(column) or pa.types.is_binary(column.type):
        escaped = _joined(b"", b"'" if _is_text(column) else b"_binary'", escaped, b"'")
    return _or_null(escaped, b"NULL")


def _or_null(cells: pa.BinaryArray, null: bytes) -> pa.BinaryArray:
    return cast("pa.BinaryArray", cells.fill_null(null))


def _escaped(column: pa.Array[Any], replacements: tuple[tuple[str, str], ...]) -> pa.BinaryArray:
    if not (_is_text(column) or pa.types.is_binary(column.type)):
        return cast("pa.BinaryArray", column.cast(pa.string()).cast(pa.binary()))
    escaped: Any = column.cast(pa.binary())
    for pattern, replacement in replacements:
        if pc.any(pc.match_substring(escaped, pattern)).as_py():
            escaped = pc.replace_substring(escaped, pattern, replacement)
    return cast("pa.BinaryArray", escaped)


def _is_text(column: pa.Array[Any]) -> bool:
    return pa.types.is_string(column.type)


def _joined(between: bytes, *pieces: pa.BinaryArray | bytes) -> pa.BinaryArray:
    """Row by row one after the other; null where one of the pieces is."""
    arrays = [pa.scalar(piece, pa.binary()) if isinstance(piece, bytes) else piece for piece in (*pieces, between)]
    return cast("pa.BinaryArray", pc.binary_join_element_wise(*cast("list[Any]", arrays)))


def _content(values: pa.BinaryArray) -> memoryview:
    """All values one after the other: the array's own bytes."""
    _, offsets, content = values.buffers()
    ends = np.frombuffer(memoryview(cast("pa.Buffer", offsets)), np.int32)
    return memoryview(cast("pa.Buffer", content))[int(ends[values.offset]) : int(ends[values.offset + len(values)])]
