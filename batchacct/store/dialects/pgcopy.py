"""Arrow batches in the binary format of PostgreSQL's COPY, put together column by column without a Python object a value.

The format (PostgreSQL documentation, "COPY", Binary Format): a signature; for each row its number of fields, then for each field
its length in bytes (-1 for null) and its bytes; a trailer. Numbers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = struct.pack(">i", -1)
NUMBER_BYTES = 8
ROWS_AT_A_TIME = 1_000

Cells = pa.BinaryScalar | pa.BinaryArray
"""What a column adds to each row: the same bytes for all of them, or some for each."""


def as_copy_binary(batch: pa.RecordBatch) -> Iterator[bytes]:
    """The batch (columns of int64, float64, string, binary) as COPY reads it into BIGINT, DOUBLE PRECISION, TEXT and BYTEA.

    In pieces, each written while the server is at the one before.
    """
    yield HEADER
    for first in range(0, batch.num_rows, ROWS_AT_A_TIME):
        yield _rows(batch.slice(first, ROWS_AT_A_TIME))
    yield TRAILER


def _rows(batch: pa.RecordBatch) -> bytes:
    cells: list[Cells] = [_constant(struct.pack(">h", batch.num_columns))]
    for column in batch.columns:
        cells += _cells(column)
    rows = pc.binary_join_element_wise(*cast("list[pa.BinaryArray]", cells), cast("pa.BinaryArray", _constant(b"")))
    return _content(rows)


def _cells(column: pa.Array[Any]) -> list[Cells]:
    if column.null_count == len(column):
        return [_constant(NULL)]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return [_numbers(column)]
    raw = cast("pa.BinaryArray", column.cast(pa.binary()))
    lengths = pc.binary_length(raw).fill_null(-1).to_numpy(zero_copy_only=False).astype(">i4")
    return [_fixed_width(lengths.view(np.uint8).reshape(len(column), 4)), cast("pa.BinaryArray", raw.fill_null(b""))]


def _numbers(column: pa.Array[Any]) -> pa.BinaryArray:
    """Length and value of each, 12 bytes; of a null the length alone."""
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    cells = np.empty((len(column), 4 + NUMBER_BYTES), np.uint8)
    cells[:, :4] = np.frombuffer(struct.pack(">i", NUMBER_BYTES), np.uint8)
    big_endian = values.astype(">f8" if pa.types.is_floating(column.type) else ">i8")
    cells[:, 4:] = big_endian.view(np.uint8).reshape(len(column), NUMBER_BYTES)
    if not column.null_count:
        return _fixed_width(cells)
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    cells[is_null, :4] = 0xFF
    written = np.ones(cells.shape, np.bool_)
    written[is_null, 4:] = False
    return _binary_array(cells[written], np.where(is_null, 4, 4 + NUMBER_BYTES))


def _fixed_width(cells: npt.NDArray[np.uint8]) -> pa.BinaryArray:
    return _binary_array(cells.ravel(), np.full(len(cells), cells.shape[1]))


def _binary_array(content: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int_]) -> pa.BinaryArray:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(np.ascontiguousarray(content).data)]
    return cast("pa.BinaryArray", pa.Array.from_buffers(pa.binary(), len(lengths), buffers))


def _content(values: pa.BinaryArray) -> bytes:
    """All values one after the other: the array's own bytes."""
    _, offsets, content = values.buffers()
    ends = np.frombuffer(memoryview(cast("pa.Buffer", offsets)), np.int32)
    first, last = int(ends[values.offset]), int(ends[values.offset + len(values)])
    return cast("pa.Buffer", content).slice(first, last - first).to_pybytes()


def _constant(content: bytes) -> pa.BinaryScalar:
    return pa.scalar(content, pa.binary())
