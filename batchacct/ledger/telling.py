"""How a record that is not what its unit says is told: by its number, its job, its column, its file and byte."""

from __future__ import annotations

from collections.abc import Mapping

from batchacct.clock import shown
from batchacct.model import INSTANT, LAST_INSTANT, OBJECT, PART, PROCESS, PROCESS_GROUP, Column, RecordType, text_of

LONGEST = 200


def name_of(record_type: RecordType, row: Mapping[str, object]) -> str:
    """`job 1234[5] (record 1048577)`, as a person looks for it."""
    if record_type is PART:
        return f"part {row['kind']} of {row['part_key']} (record {row['id']})"
    if record_type in (PROCESS, OBJECT, PROCESS_GROUP):
        return f"{record_type.name} {row['record_key']} (record {row['id']})"
    index = "" if row["array_index"] is None else f"[{row['array_index']}]"
    of = "" if record_type.name == "job" else f"{record_type.name} of "
    return f"{of}job {row['lrms_job_id']}{index} (record {row['id']})"


def place_of(path: str, row: Mapping[str, object]) -> str:
    """Where its unit stands."""
    return f"{path}, byte {row['source_offset']}"


def difference(column: Column, stored: object, read: object, says: str) -> str:
    """`cpu_duration_s is 1,200, its unit says 600`."""
    return f"{column.name} is {_value(column, stored)}, {says} {_value(column, read)}"


def _value(column: Column, value: object) -> str:
    if value is None:
        return "nothing"
    if column.type == INSTANT and isinstance(value, int) and 0 <= value <= LAST_INSTANT:
        return shown(value)
    if isinstance(value, int) and column.name != "content_hash":
        return f"{value:,}"
    if isinstance(value, bytes):
        value = text_of(value)
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else f"{value[:LONGEST]}...")
    return str(value)
