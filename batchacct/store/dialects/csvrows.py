"""Rows out of a database as CSV that the database itself has written: two calls and no Python object a value.

Texts are quoted wherever they could be taken for anything else, so that null and the empty text stay apart.
"""

from __future__ import annotations

import codecs
from typing import IO, cast

import pyarrow as pa
import pyarrow.csv


def batch_of_csv(content: bytes | bytearray, schema: pa.Schema, *, quote: str, null: str) -> pa.RecordBatch:
    """Rows as a batch: `quote` is around texts, and doubled in them; `null`, without it, is no value."""
    if not content:
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
    if content.startswith(codecs.BOM_UTF8):  # it is of the first text; one at the very beginning is taken for the file's
        content = codecs.BOM_UTF8 + content
    table = pyarrow.csv.read_csv(
        cast("IO[bytes]", pa.BufferReader(pa.py_buffer(content))),
        pyarrow.csv.ReadOptions(column_names=schema.names, block_size=len(content)),
        pyarrow.csv.ParseOptions(quote_char=quote, newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            column_types=schema, null_values=[null], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    return table.combine_chunks().to_batches()[0]
