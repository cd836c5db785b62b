"""Usage records for everyone else, by the names of their columns: JSON lines, and Parquet.

Nothing is asked of a value but what makes a record a record: site, LocalJobId and end, by which a receiver knows a corrected one.
Instants are ISO 8601 with Z, in Parquet timestamps (UTC, milliseconds, as it knows no seconds); durations are seconds, memory
KiB. What is not known is left out of a line, and null in Parquet. A message of JSON lines is ASCII; one of Parquet is a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.parquet as pq

from batchacct.model import INSTANT, LAST_INSTANT, REAL, TEXT
from pub.formats.contract import ON_REQUEST, USAGE_RECORD
from pub.formats.json_text import instants, not_finite, quoted, reals
from pub.formats.text import Sheet, blanked, content_of, outside, valid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchacct.model import Column
    from pub.formats.contract import Rendered
    from pub.formats.text import Values

KEY = ("site", "local_job_id", "end_at")
EVERYTHING = frozenset(c.name for c in ON_REQUEST)
_INSTANTS = tuple(c.name for c in USAGE_RECORD.columns if c.name.endswith("_at"))


def checked(sheet: Sheet, columns: Sequence[Column], records: pa.RecordBatch) -> list[Values]:
    """The columns of the records, without the values that cannot be written; what is refused or left out is told to the sheet."""
    return [_checked(sheet, column, records.column(column.name)) for column in columns]


def _checked(sheet: Sheet, column: Column, values: Values) -> Values:
    name = column.name
    if name in KEY:
        sheet.refuse(~valid(values), f"{name} is missing")
    if name in _INSTANTS:
        unfit, why = outside(values, 1, LAST_INSTANT), "not between 1970 and 2099"
    elif column.type == REAL:
        unfit, why = not_finite(values), "no finite number"
    else:
        return values
    if name in KEY:
        sheet.refuse(unfit, f"{name} is {why}")
    else:
        sheet.note_left_out(unfit, f"{name}: {why}")
    return blanked(values, unfit)


class JsonLines:
    """A record a line, a JSON object."""

    name = "jsonl"
    doc = "JSON lines: an object a record, by the names of the page [records](records.md); ASCII, instants as ISO 8601"
    wants = EVERYTHING

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """`USAGE_RECORD` rows to lines; of `now` nothing depends."""
        del now
        sheet = Sheet(records.num_rows)
        columns = USAGE_RECORD.columns
        texts = (_json(c, values) for c, values in zip(columns, checked(sheet, columns, records), strict=True))
        parts = [(f'{"{" if n == 0 else ","}"{c.name}":', text, "") for n, (c, text) in enumerate(zip(columns, texts, strict=True))]
        return sheet.finished([*parts, "}\n"])

    def message(self, records: Values) -> bytes:
        """One message of these lines (at least one, none of them null)."""
        return bytes(content_of(records))


def _json(column: Column, values: Values) -> Values:
    if column.name in _INSTANTS:
        return instants(values)
    if column.type == TEXT:
        return quoted(values)
    return reals(values) if column.type == REAL else values.cast(TEXT)


class Parquet:
    """A message is a Parquet file."""

    name = "parquet"
    doc = "a Parquet file a message, by the names of the page [records](records.md); for transports that carry bytes"
    wants = EVERYTHING

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """`USAGE_RECORD` rows to structs of `FIELDS`; of `now` nothing depends."""
        del now
        sheet = Sheet(records.num_rows)
        columns = checked(sheet, USAGE_RECORD.columns, records)
        arrays = [values.cast(field.type) for values, field in zip(columns, FIELDS, strict=True)]
        return sheet.told_of(pa.StructArray.from_arrays(arrays, fields=FIELDS))

    def message(self, records: Values) -> bytes:
        """One file of these structs (at least one, none of them null)."""
        table = pa.Table.from_batches([pa.RecordBatch.from_struct_array(cast("pa.StructArray", records))])
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        return sink.getvalue().to_pybytes()


FIELDS = [pa.field(f.name, INSTANT if f.name in _INSTANTS else f.type, f.nullable, f.metadata) for f in USAGE_RECORD.schema]
"""The columns of a Parquet file."""

JSON_LINES = JsonLines()
PARQUET = Parquet()
