"""Records and parts whose keys are longer than an index may hold are rejects: a database refuses them, and all their neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from batchacct.model import PART, TEXT, RecordType
from batchacct.parsing import Parsed
from batchacct.parsing.contract import rejected
from batchacct.store.columns import longest_of


def without_long_keys(record_type: RecordType, parsed: Parsed, database: str = "") -> Parsed:
    """What was parsed, records and parts with such a value as rejects; of a `database`, where it has limits of its own."""
    records, of_records = _parted(record_type, parsed.records, database)
    parts, of_parts = _parted(PART, parsed.parts, database)
    if not of_records and not of_parts:
        return parsed
    rejects = [rejected(unit, offset, reason) for unit, offset, reason in (*of_records, *of_parts)]
    ordered = tuple(sorted((*parsed.rejects, *rejects), key=lambda reject: reject.offset))
    return replace(parsed, records=records, parts=parts, rejects=ordered)


def _parted(record_type: RecordType, batch: pa.RecordBatch, database: str) -> tuple[pa.RecordBatch, list[tuple[bytes, int, str]]]:
    """The rows that fit, and of the others unit, offset and reason."""
    strange: dict[int, str] = {}
    for column in record_type.columns:
        longest = longest_of(column.name, database) if column.type == TEXT else None
        if longest is None or not batch.num_rows:
            continue
        lengths = pc.binary_length(cast("pa.StringArray", batch.column(column.name)))
        if (pc.max(lengths).as_py() or 0) > longest:
            for row, length in enumerate(lengths.to_pylist()):
                if length is not None and length > longest:
                    strange[row] = f"{column.name} has {length:,} bytes; more than {longest:,} are no {column.name}"
    if not strange:
        return batch, []
    fits = pa.array([row not in strange for row in range(batch.num_rows)])
    units, offsets = batch.column("native"), batch.column("source_offset")
    told = [(units[row].as_py() or b"", offsets[row].as_py(), reason) for row, reason in sorted(strange.items())]
    return batch.filter(fits), told
