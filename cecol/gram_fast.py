"""The fast lane of `cecol.gram`: what job managers write, taken column by column.

Regular are lines of printable ASCII without quote and backslash (JSON as they stand), with a JM id of the usual length and one of
the four messages. What many lines have in common (`for DN on peer`, `mapped to account`, the minute) is read by the careful lane,
once for each distinct text of a block. Every other line is left to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.model import BYTES, IDENTITY, INSTANT, INTEGER, PART, TEXT
from batchacct.parsing.columnar import hashes, line_bounds, lines_of, same, spans_left
from batchacct.parsing.contract import Part, Regular, Reject
from cecol.blah import UNKNOWN_LRMS, by_distinct
from cecol.gram_parts import COMPLETION, batch_job, local_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from batchacct.parsing.contract import Block, Outcome, Source

    Column = pa.Array[Any]

_PLAIN = r"[ !#-\[\]-~]"
_LINE = (
    r"^JMA (?P<time>20[0-8][0-9]/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-5][0-9]) GATEKEEPER_JM_ID "
    r"(?P<jm_id>[0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{10}\.[0-9]{10}) "
    rf"(?P<said>{_PLAIN}*[!#-\[\]-~])\r?\n?$"
)
_OF_JOB = (
    r"^has GRAM_SCRIPT_JOB_ID (?P<number>[1-9][0-9]{0,17})(?P<server>(?:\.[A-Za-z0-9.-]{0,60})?) manager type (?P<manager>[a-z]+)$"
)
_OF_USER = r"^(?:for|mapped to) "
_EXITING = "JM exiting"
_MINUTE, _SECOND = slice(0, 16), slice(17, 19)


@dataclass(frozen=True, slots=True)
class FastLane:
    """of_user(text, source): the careful lane's outcome for what stands after a JM id; the reason for the lines it skips."""

    of_user: Callable[[str, Source], Outcome]
    exiting: str

    def __call__(self, block: Block, source: Source, label: str) -> Regular:
        starts, stops = line_bounds(block.data)
        lines = lines_of(block.data, starts)
        columns = self._columns(lines, source)
        taken, exiting = (columns.pop(name) for name in ("taken", "exiting"))
        every = pa.RecordBatch.from_pydict({"line": lines, "start": pa.array(starts), **columns})
        parts = _parts(every.filter(taken), block.offset, source, label)
        done = np.asarray(pc.or_(taken, exiting))
        skipped = _count(exiting)
        return Regular(
            IDENTITY.empty(),
            spans_left(block.data, starts, stops, done),
            parts,
            {self.exiting: skipped} if skipped else {},
        )

    def _columns(self, lines: Column, source: Source) -> dict[str, Column]:
        """What the lines say, and which are taken as parts, or skipped: `exiting`."""
        head = pc.extract_regex(lines, _LINE)
        time, jm_id, said = (pc.struct_field(head, name) for name in ("time", "jm_id", "said"))
        job = pc.extract_regex(said, _OF_JOB)
        number, server, manager = (pc.struct_field(job, name) for name in ("number", "server", "manager"))
        minute = pc.utf8_slice_codeunits(time.cast(TEXT), _MINUTE.start, _MINUTE.stop).cast(BYTES)
        of_user = pc.if_else(pc.match_substring_regex(said, _OF_USER), said, pa.scalar(None, BYTES))
        told = by_distinct(of_user, ("kind", "usage"), lambda text: self._told(text, source))
        at_minute = by_distinct(minute, ("at",), lambda text: (_at(text, source),))["at"].cast(INTEGER)
        dated = at_minute.is_valid()
        fork = pc.equal(manager, pa.scalar(b"fork")).fill_null(False)
        number, server = (pc.if_else(fork, pa.scalar(None, BYTES), column) for column in (number, server))
        told |= {name: pc.if_else(fork, text, told[name]) for name, text in (("kind", "fork"), ("usage", "{}"))}
        return {
            "at": pc.add(at_minute, pc.utf8_slice_codeunits(time.cast(TEXT), _SECOND.start, _SECOND.stop).cast(INTEGER)),
            "jm_id": jm_id.cast(TEXT),
            "job_id": _joined(number.cast(TEXT), server.cast(TEXT)),
            "number": number.cast(TEXT),
            **by_distinct(manager, ("lrms",), lambda text: (str(batch_job("1", text)["lrms"]),)),
            **told,
            "taken": pc.and_(dated, pc.or_(number.is_valid(), told["kind"].is_valid())),
            "exiting": pc.and_(dated, pc.equal(said, pa.scalar(_EXITING.encode())).fill_null(False)),
        }

    def _told(self, said: str, source: Source) -> tuple[str | None, ...]:
        """Kind and usage of the part that the careful lane makes of a message; nulls if it makes none."""
        try:
            outcome = self.of_user(said, source)
        except Reject:
            return None, None
        if not isinstance(outcome, Part):
            return None, None
        return str(outcome.record["kind"]), str(outcome.record["usage"])


def _at(minute: str, source: Source) -> str | None:
    """Unix seconds of the first second of a minute, as text; None for one that does not exist, or without a cluster."""
    try:
        source.cluster_of_ce(None)
        return str(local_time(f"{minute}:00", "the time", source))
    except Reject:
        return None


def _count(mask: Column) -> int:
    return int(np.count_nonzero(np.asarray(mask)))


def _parts(regular: pa.RecordBatch, offset: int, source: Source, label: str) -> pa.RecordBatch:
    """Parts of the lines whose columns are given."""
    count = regular.num_rows
    if not count:
        return PART.empty()
    job_id, number = regular["job_id"], regular["number"]
    kind = regular["kind"].fill_null("job")
    cluster = same(source.cluster_of_ce(None), count)
    key = _joined("gram:", cluster, ":", regular["jm_id"], ":", kind, ":", regular["at"].cast(TEXT))
    native = pc.ascii_rtrim(regular["line"].cast(TEXT), characters="\r\n").cast(BYTES)
    columns: dict[str, Column] = {
        "record_key": pc.coalesce(_joined(key, ":", job_id), key),
        "content_hash": hashes(native),
        "site": same(source.site, count),
        "cluster": cluster,
        "lrms": regular["lrms"].fill_null(UNKNOWN_LRMS),
        "record_type": same(COMPLETION.record_type.name, count),
        "family": same(COMPLETION.family, count),
        "part_key": regular["jm_id"],
        "kind": kind,
        "logged_at": regular["at"].cast(pa.timestamp("s")).cast(INSTANT),
        "usage": pc.coalesce(regular["usage"], _of_job(job_id, number)),
        "native": native,
        "source": same(source.name, count),
        "source_offset": pc.add(regular["start"], offset),
        "parser": same(label, count),
    }
    nulls: list[None] = [None] * count
    arrays = [columns[c.name] if c.name in columns else pa.array(nulls, c.type) for c in PART.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=PART.schema)


def _of_job(job_id: Column, number: Column) -> Column:
    """The usage of a job's part: JSON of ids that need no escapes."""
    return _joined('{"lrms_job_id": "', job_id, '", "join_id": "', number, '", "array_index": null}')


def _joined(*pieces: Column | str) -> Column:
    """Columns and literal texts put together row by row; null where one of the columns is."""
    return cast("Column", pc.binary_join_element_wise(*pieces, ""))  # type: ignore[call-overload]
