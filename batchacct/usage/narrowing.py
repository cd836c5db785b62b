"""Facts in as few bytes as they need: to unpack them is most of the work of a question that is put to them.

Jobs are in the order of their ends, and of each is told how long after the one before it ended; how long it ran; how long it
waited; and what its wallclock is less than the time it ran, mostly nothing. Whole numbers are as short as those of a piece allow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TIMES = frozenset(("submit_at", "start_at", "end_at", "wall_duration_s"))
"""Of these columns none can be read without the others."""
_FIRST = b"first_end_at"
_SHORTER = [pa.int8(), pa.int16(), pa.int32()]


def narrowed(table: pa.Table) -> pa.Table:
    """Facts, encoded, as they are packed."""
    table = table.sort_by("end_at").combine_chunks()
    ends: Any = table.column("end_at").to_numpy()
    first = int(ends[0]) if len(ends) else 0
    ran = pc.subtract(table.column("end_at"), table.column("start_at"))
    told = {
        "end_at": pa.chunked_array([np.diff(ends, prepend=first)]),
        "start_at": ran,
        "submit_at": pc.subtract(table.column("start_at"), table.column("submit_at")),
        "wall_duration_s": pc.subtract(ran, table.column("wall_duration_s")),
    }
    columns = [_shorter(told.get(name, column)) for name, column in zip(table.column_names, table.columns, strict=True)]
    return pa.table(columns, table.column_names).replace_schema_metadata({_FIRST: str(first)})


def widened(table: pa.Table) -> pa.Table:
    """What was `narrowed`: all of `TIMES`, or none, and some other columns."""
    columns = {name: _longer(column) for name, column in zip(table.column_names, table.columns, strict=True)}
    if columns.keys() >= TIMES:
        ends = pa.chunked_array([int(table.schema.metadata[_FIRST]) + np.cumsum(columns["end_at"].to_numpy())])
        ran = columns["start_at"]
        starts = pc.subtract(ends, ran)
        columns |= {"end_at": ends, "start_at": starts, "submit_at": pc.subtract(starts, columns["submit_at"])}
        columns["wall_duration_s"] = pc.subtract(ran, columns["wall_duration_s"])
    return pa.table(columns)


def _shorter(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        (one,) = column.chunks or [pa.array([], column.type)]
        return pa.chunked_array([pa.DictionaryArray.from_arrays(_shorter(one.indices), one.dictionary)])
    if column.type != pa.int64() and column.type != pa.int32():
        return column
    extremes = pc.min_max(column)
    least, most = (extremes[name].as_py() or 0 for name in ("min", "max"))
    for kind in _SHORTER:
        if -(1 << (kind.bit_width - 1)) <= least and most < 1 << (kind.bit_width - 1):
            return column.cast(kind)
    return column


def _longer(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        chunks = [pa.DictionaryArray.from_arrays(one.indices.cast(pa.int32()), one.dictionary) for one in column.chunks]
        return pa.chunked_array(chunks)
    return column.cast(pa.int64()) if pa.types.is_integer(column.type) else column
