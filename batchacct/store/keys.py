"""Records that no database can keep, or that nothing can have caused, are rejects.

A key that is longer than an index may hold is refused by a database, with all its neighbours; a number that is damaged (of 2**63
processors) makes no sum right any more, or fails, and so does a time that no calendar has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from batchacct.errors import RecordError
from batchacct.model import INSTANT, INTEGER, PART, TEXT, Column, Record, RecordType
from batchacct.parsing import Parsed
from batchacct.parsing.contract import rejected
from batchacct.store.columns import longest_of


def with_strange_rejected(record_type: RecordType, parsed: Parsed, database: str = "") -> Parsed:
    """What was parsed, records and parts with a strange value as rejects; `database`: whose own limits count too."""
    records, of_records = _parted(record_type, parsed.records, database)
    parts, of_parts = _parted(PART, parsed.parts, database)
    if not of_records and not of_parts:
        return parsed
    rejects = [rejected(unit, offset, reason) for unit, offset, reason in (*of_records, *of_parts)]
    ordered = tuple(sorted((*parsed.rejects, *rejects), key=lambda reject: reject.offset))
    return replace(parsed, records=records, parts=parts, rejects=ordered)


def _parted(record_type: RecordType, batch: pa.RecordBatch, database: str) -> tuple[pa.RecordBatch, list[tuple[bytes, int, str]]]:
    """The rows that fit, and of the others unit, offset and reason."""
    strange = strange_rows(record_type, batch, database)
    if not strange:
        return batch, []
    fits = pa.array([row not in strange for row in range(batch.num_rows)])
    units, offsets = batch.column("native"), batch.column("source_offset")
    told = [(units[row].as_py() or b"", offsets[row].as_py(), reason) for row, reason in sorted(strange.items())]
    return batch.filter(fits), told


def refuse_strange(record_type: RecordType, record: Record) -> None:
    """Raises: RecordError for a record that does not fit its type, or cannot be stored."""
    for reason in strange_rows(record_type, record_type.batch([record])).values():
        raise RecordError(reason)


def strange_rows(record_type: RecordType, batch: pa.RecordBatch, database: str = "") -> dict[int, str]:
    """Why some rows of a batch cannot be stored."""
    strange = _impossible(record_type, batch)
    for column in record_type.columns:
        longest = longest_of(record_type.name, column.name, database) if column.type == TEXT else None
        if longest is None or not batch.num_rows:
            continue
        lengths = pc.binary_length(cast("pa.StringArray", batch.column(column.name)))
        if (pc.max(lengths).as_py() or 0) > longest:
            for row, length in enumerate(lengths.to_pylist()):
                if length is not None and length > longest:
                    strange[row] = f"{column.name} has {length:,} bytes; more than {longest:,} are no {column.name}"
    return strange


def _impossible(record_type: RecordType, batch: pa.RecordBatch) -> dict[int, str]:
    """Rows with a number, or a time, that nothing can have."""
    found: dict[int, str] = {}
    for column in record_type.columns:
        greatest = column.greatest
        if greatest is None or not batch.num_rows:
            continue
        values = batch.column(column.name)
        numbers: pa.Array[Any] = values.cast(INTEGER) if column.type == INSTANT else values
        extremes = pc.min_max(numbers)
        least, most = extremes["min"].as_py(), extremes["max"].as_py()
        if most is not None and (most > greatest or least < 0):
            for row, value in enumerate(numbers.to_pylist()):
                if value is not None and not 0 <= value <= greatest:
                    found[row] = _why_impossible(column, value)
    return found


def _why_impossible(column: Column, value: int) -> str:
    if column.type == INSTANT:
        return f"{column.name} is {value:,} as Unix seconds; a time before 1970 or after 2099 is damage (or no seconds)"
    return f"{column.name} is {value:,}; it is from 0 to {column.most:,}"
