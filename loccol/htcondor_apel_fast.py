"""The fast lane of `loccol.htcondor_apel`: the regular lines of a block at once, in Arrow, which works outside Python's lock.

A line is regular if it is printable ASCII, has the columns, plain whole numbers in them that are short enough to be possible,
and a start; whatever needs judgement is left to the careful lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.model import BYTES, INSTANT, INTEGER, JOB, LAST_INSTANT, REAL, TEXT
from batchacct.parsing import Block, Regular, Source
from batchacct.parsing.columnar import hashes, line_bounds, lines_of, same, spans_left

if TYPE_CHECKING:
    from typing import Any

    Column = pa.Array[Any]

FACTOR = 10
NUMBERS = ("wall", "user", "system", "start", "end", "resident", "image", "processors")
"""Columns 3 to 10; the factor is the eleventh."""
SMALLEST_IMAGE_KIB = 1024
"""A process that has anything resident has a larger image than this."""

_TEXT = r"[!-{}~]"
_REGULAR = (
    rf"^{_TEXT}+\|{_TEXT}*(?:\|[0-9]{{1,9}}){{3}}(?:\|[1-9][0-9]{{8,9}}){{2}}(?:\|[0-9]{{1,15}}){{2}}"
    r"\|[1-9][0-9]{0,8}(?:\||\|[1-9][0-9]{0,2}(?:\.[0-9]{1,17})?\|?|\|0\.[1-9][0-9]{0,16}\|?)?\r?\n?$"
)
_GLOBAL_ID = "^[^#]*#[^#]*#[^#]*$"
_SCHEDD = "^(?:[^#]*@)?(?P<host>[^#@]+)#"


def fast_lane(block: Block, source: Source, label: str) -> Regular:
    """The regular lines of a block as job records, and the spans of all others."""
    starts, stops = line_bounds(block.data)
    if source.cluster is None or not len(starts):
        regular = np.zeros(len(starts), np.bool_)
        records = JOB.empty()
    else:
        lines = lines_of(block.data, starts)
        regular = np.array(pc.match_substring_regex(lines, _REGULAR).to_numpy(zero_copy_only=False))
        columns = _columns(lines.filter(pa.array(regular)))
        possible = _possible(columns)
        regular[regular] = possible.to_numpy(zero_copy_only=False)
        columns["offset"] = pa.array(starts[regular] + block.offset, INTEGER)
        kept = {name: column if name == "offset" else column.filter(possible) for name, column in columns.items()}
        records = _records(kept, source, label)
    return Regular(records, spans_left(block.data, starts, stops, regular))


def _columns(lines: Column) -> dict[str, Column]:
    """The columns of regular lines, numbers as such; `factor` is null where there is none."""
    text: Column = pc.ascii_rtrim(lines.cast(TEXT), characters="\r\n")
    fields = pc.split_pattern(text, "|")
    first = np.asarray(fields.offsets)[:-1]
    count = np.diff(np.asarray(fields.offsets))
    values = fields.values

    def column(number: int) -> Column:
        taken: Column = values.take(pa.array(first + number, INTEGER))
        return taken

    numbers = {name: column(i).cast(INTEGER) for i, name in enumerate(NUMBERS, start=2)}
    eleventh = np.where(count > FACTOR, first + FACTOR, first)
    factor = values.take(pa.array(eleventh, INTEGER))
    is_there = pc.and_(pa.array(count > FACTOR), pc.not_equal(factor, pa.scalar("")))
    factor = pc.if_else(is_there, factor, pa.scalar(None, TEXT)).cast(REAL)
    return {"native": text, "id": column(0), "owner": column(1), **numbers, "factor": factor}


def _possible(columns: dict[str, Column]) -> Column:
    """Which lines hold what can be, by the rules of the careful lane."""
    ordered = pc.and_(
        pc.less_equal(columns["start"], columns["end"]), pc.less_equal(columns["end"], pa.scalar(LAST_INSTANT, INTEGER))
    )
    least = pc.min_element_wise(columns["resident"], pa.scalar(SMALLEST_IMAGE_KIB, INTEGER))
    possible: Column = pc.and_(ordered, pc.greater_equal(columns["image"], least))
    return possible


def _records(columns: dict[str, Column], source: Source, label: str) -> pa.RecordBatch:
    """Job records of lines of which all is known to be possible."""
    job_id, owner, start, end = (columns[name] for name in ("id", "owner", "start", "end"))
    count = len(job_id)
    native = columns["native"].cast(BYTES)
    times = pc.binary_join_element_wise(same("", count), start.cast(TEXT), end.cast(TEXT), same(":", count))
    times = pc.if_else(pc.match_substring_regex(job_id, _GLOBAL_ID), "", times)
    prefix = f"htcondor:{source.cluster}:"
    ended = end.cast(pa.timestamp("s")).cast(INSTANT)
    made: dict[str, Column] = {
        "record_key": pc.binary_join_element_wise(same(prefix, count), job_id, times, same("", count)),
        "content_hash": hashes(native),
        "site": same(source.site, count),
        "cluster": same(source.cluster, count),
        "lrms": same("HTCondor", count),
        "lrms_job_id": job_id,
        "join_id": job_id,
        "user_name": pc.if_else(pc.equal(owner, pa.scalar("")), pa.scalar(None, TEXT), owner),
        "submit_host": pc.struct_field(pc.extract_regex(job_id, _SCHEDD), "host"),
        "start_at": start.cast(pa.timestamp("s")).cast(INSTANT),
        "end_at": ended,
        "logged_at": ended,
        "wall_duration_s": columns["wall"],
        "cpu_user_s": columns["user"].cast(REAL),
        "cpu_system_s": columns["system"].cast(REAL),
        "cpu_duration_s": pc.add(columns["user"], columns["system"]),
        "processors": columns["processors"],
        "memory_real_kib": columns["resident"],
        "memory_virtual_kib": columns["image"],
        "state": same("unknown", count),
        "host_factor": columns["factor"],
        "native": native,
        "source": same(source.name, count),
        "source_offset": columns["offset"],
        "parser": same(label, count),
    }
    nulls: list[None] = [None] * count
    arrays = [made[c.name] if c.name in made else pa.array(nulls, c.type) for c in JOB.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=JOB.schema)
