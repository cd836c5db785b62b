"""The horizon: months that were taken out of the database take no more records, which may be in the archive already.

A record in the tables is known again by its key; one of an archived month is not. So a block of which all records are of such
months is refused whole, and nothing moves; a few among newer ones become rejects, whose units are kept and may be replayed.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, bindparam, select

from batchacct.archive.months import month_name, month_of
from batchacct.errors import HorizonError
from batchacct.model import PART, RecordType
from batchacct.parsing import Parsed
from batchacct.parsing.contract import rejected
from batchacct.store.tables import archived_month

FEW = 10
"""Of a file that is read on, so few records do not stop it: such a log is no old one, whatever is in it."""

# Built once: every block asks.
_ARCHIVED = select(archived_month.c.month).where(
    archived_month.c.record_type == bindparam("of_type"), archived_month.c.month.between(bindparam("first"), bindparam("last"))
)


def archived_months(connection: Connection, record_type: RecordType) -> set[int]:
    """All months of a record type that were archived."""
    return set(connection.scalars(select(archived_month.c.month).where(archived_month.c.record_type == record_type.name)))


def without_archived(
    connection: Connection, record_type: RecordType, parsed: Parsed, *, source: str, path: str, goes_on: bool
) -> Parsed:
    """What was parsed, records and parts of archived months as rejects; `goes_on`: the file was read before, up to here.

    In the transaction that appends, so that nothing is archived in between. Raises: HorizonError if nothing else is in the block.
    """
    of_records, of_parts = _archived_in(connection, record_type, parsed.records), _archived_in(connection, PART, parsed.parts)
    if not of_records and not of_parts:
        return parsed
    old_records, old_parts = _are_of(of_records, record_type, parsed.records), _are_of(of_parts, PART, parsed.parts)
    count = old_records.to_pylist().count(True) + old_parts.to_pylist().count(True)
    total = parsed.records.num_rows + parsed.parts.num_rows
    if count and count == total and not (goes_on and count < FEW):
        months = _months(parsed.records, record_type) | _months(parsed.parts, PART)
        names = [month_name(month) for month in sorted(months)]
        recalls = " and ".join(f"`batchacct db recall {name}`" for name in names)
        raise HorizonError(
            f"source {source}: {path} holds records of {', '.join(names)}, archived meanwhile: they may be counted already, so "
            "none was stored, and reading stops before them. If the file was read before, take it out of the source's paths; if "
            f"it never was, run {recalls} first, and so for each month that is told after it"
        )
    rejects = list(parsed.rejects)
    for batch, old, kind in ((parsed.records, old_records, record_type), (parsed.parts, old_parts, PART)):
        for row in batch.filter(old).select(["native", "source_offset", kind.time_column]).to_pylist():
            at = cast("dt.datetime", row[kind.time_column])
            reason = f"it is of {at:%Y-%m}, which is archived: `batchacct db recall {at:%Y-%m}`, then `batchacct rejects replay`"
            rejects.append(rejected(row["native"] or b"", row["source_offset"], reason))
    return replace(
        parsed,
        records=parsed.records.filter(pc.invert(old_records)),
        parts=parsed.parts.filter(pc.invert(old_parts)),
        rejects=tuple(sorted(rejects, key=lambda reject: reject.offset)),
    )


def _archived_in(connection: Connection, record_type: RecordType, batch: pa.RecordBatch) -> set[int]:
    """The archived months between the first and the last record of a batch."""
    if not batch.num_rows:
        return set()
    at: pa.Array[Any] = batch.column(record_type.time_column).cast(pa.int64())
    asked = {"of_type": record_type.name, "first": month_of(pc.min(at).as_py()), "last": pc.max(at).as_py()}
    return set(connection.scalars(_ARCHIVED, asked))


def _months(batch: pa.RecordBatch, record_type: RecordType) -> set[int]:
    """The months of the records."""
    at: list[Any] = batch.column(record_type.time_column).cast(pa.int64()).to_pylist()
    return {month_of(second) for second in at}


def _are_of(months: set[int], record_type: RecordType, batch: pa.RecordBatch) -> pa.BooleanArray:
    at: list[Any] = batch.column(record_type.time_column).cast(pa.int64()).to_pylist()
    return pa.array([month_of(second) in months for second in at], pa.bool_())
