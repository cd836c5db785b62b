"""The fast lane of the PBS parser: E lines as job records, Q, S, D, A and empty R lines as parts, all of a block at once.

`loccol.pbs_lex` finds the regular lines, `loccol.pbs_attributes` their attributes; here they become columns, each what
`loccol.pbs.parse_unit` makes of the same line. Left to that function is whatever needs judgement: Cray widths, a job without
exec_host, chunks `*0`, values of unusual forms, and all rare types of lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from batchacct.model import JOB, PART, RecordType
from batchacct.parsing import LINES, Block, Regular, Source
from loccol.pbs_attributes import Fields, fields_of
from loccol.pbs_columns import Columns, job_columns, record_keys
from loccol.pbs_lex import Bools, Ints, Lines, compute, ids, lex
from loccol.pbs_rows import Rows, instants, nulls, same, times

KINDS = {"Q": "queued", "S": "start", "R": "requeue", "D": "delete", "A": "abort"}
_KIND_TEXTS = pa.array([KINDS.get(chr(code)) for code in range(128)], pa.string())
_LETTERS = pa.array([chr(code) for code in range(128)], pa.string())


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a block comes from, and the label of the parser that reads it."""

    offset: int
    source: Source
    label: str


def fast_lane(block: Block, source: Source, label: str) -> Regular:
    """The regular lines of a block as records and parts, and the spans of all others."""
    origin = Origin(block.offset, source, label)
    whole = block.data.rfind(b"\n") + 1
    if not whole or source.cluster is None:
        return Regular(JOB.empty(), list(LINES.spans(block.data)))
    lines = lex(block.data, whole, source.zone)
    described = lines.regular & _is_of(lines, b"ES")
    fields, good = fields_of(lines, described)
    lines.regular &= good | ~described
    jobs, job_lines = job_columns(Rows(lines, fields, np.flatnonzero(lines.regular & _is_of(lines, b"E"))), source)
    records = _batch(JOB, jobs, job_lines, lines, origin)
    parts, part_lines = _parts(lines, fields, origin)
    taken = np.zeros(len(lines.starts), np.bool_)
    taken[job_lines] = taken[part_lines] = True
    return Regular(records, list(_left(lines, taken)), parts)


def _is_of(lines: Lines, kinds: bytes) -> Bools:
    is_one = np.zeros(256, np.bool_)
    is_one[list(kinds)] = True
    chosen: Bools = is_one[lines.kinds]
    return chosen


def _parts(lines: Lines, fields: Fields, origin: Origin) -> tuple[pa.RecordBatch, Ints]:
    """The parts, and which lines they are."""
    start, has_start = _starts(lines, fields)
    bare_requeue = _is_of(lines, b"R") & (lines.messages == lines.ends)
    chosen = np.flatnonzero(lines.regular & (has_start | bare_requeue | _is_of(lines, b"QDA")))
    if not len(chosen):
        return PART.empty(), chosen
    found, good = ids(lines, chosen)
    chosen = chosen[good]
    started, logged = start[chosen], lines.logged_at[chosen]
    codes = pa.array(lines.kinds[chosen])
    letters = compute.take(_LETTERS, codes)
    columns = {
        "record_key": record_keys(letters, origin.source, found["written"], started, logged),
        "part_key": compute.coalesce(found["element"], found["number"]),
        "join_id": found["number"],
        "array_index": found["index"],
        "kind": compute.take(_KIND_TEXTS, codes),
        "record_type": same(JOB.name, len(chosen)),
        "family": same("pbs", len(chosen)),
        "logged_at": instants(logged, logged > 0),
        "start_at": instants(started, started > 0),
    }
    return _batch(PART, columns, chosen, lines, origin), chosen


def _starts(lines: Lines, fields: Fields) -> tuple[Ints, Bools]:
    """The start of each S line, and which have one."""
    start, has_start = np.zeros(len(lines.starts), np.int64), np.zeros(len(lines.starts), np.bool_)
    chosen = np.flatnonzero(lines.regular & _is_of(lines, b"S"))
    at = fields.attribute(b"start", chosen)
    chosen, at = chosen[at >= 0], at[at >= 0]
    start[chosen], has_start[chosen] = times(lines, fields, at)
    return start, has_start


def _batch(record_type: RecordType, columns: Columns, chosen: Ints, lines: Lines, origin: Origin) -> pa.RecordBatch:
    """The columns with those of the origin; what is in neither is null."""
    count = len(chosen)
    starts, ends = lines.starts[chosen], lines.ends[chosen]
    units = map(lines.data.__getitem__, map(slice, starts.tolist(), ends.tolist()))
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, units), np.uint64, count)
    columns |= {
        "content_hash": pa.array(hashes.view(np.int64)),
        "site": same(origin.source.site, count),
        "cluster": same(origin.source.cluster, count),
        "lrms": same("PBS", count),
        "native": lines.text(starts, ends, np.ones(count, np.bool_), pa.binary()),
        "source": same(origin.source.name, count),
        "source_offset": pa.array(starts + origin.offset),
        "parser": same(origin.label, count),
    }
    arrays = [columns[c.name] if c.name in columns else nulls(count, c.type) for c in record_type.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=record_type.schema)


def _left(lines: Lines, taken: Bools) -> Iterator[tuple[int, int]]:
    """The units of the lines that were not taken, and of what follows the last whole line."""
    for line in np.flatnonzero(~taken).tolist():
        start = int(lines.starts[line])
        yield from ((start + a, start + b) for a, b in LINES.spans(lines.data[start : int(lines.ends[line])]))
    rest = len(lines.array)
    yield from ((rest + a, rest + b) for a, b in LINES.spans(lines.data[rest:]))
