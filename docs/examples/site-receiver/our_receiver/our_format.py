"""Our receiver's format: a line a job, `id;vo;start;end;cpu;wall;state`, ASCII, times in Unix seconds."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from batchacct.usage_record import Rendered

LONGEST_VO = 16


class OurLines:
    """A message is lines below a head."""

    name = "our-lines"
    doc = "Lines of our receiver: `id;vo;start;end;cpu;wall;state`."
    wants = frozenset({"state"})

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """A line a record. What our receiver would not take is refused here, alone, with the reason."""
        lines: list[str | None] = []
        reasons: list[str | None] = []
        left_out: Counter[str] = Counter()
        for record in records.to_pylist():
            reason = refused(record, now)
            vo = record["vo"] or ""
            if reason is None and (len(vo) > LONGEST_VO or not vo.isascii()):
                left_out["vo: not ASCII of 16 characters at most"] += 1
                vo = ""
            reasons.append(reason)
            lines.append(None if reason else line(record, vo))
        return Rendered(pa.array(lines, pa.string()), pa.array(reasons, pa.string()), left_out)

    def message(self, records: pa.StringArray) -> bytes:
        """A head and the lines."""
        return "".join(["our-lines 1\n", *records.to_pylist()]).encode("ascii")


def refused(record: Mapping[str, Any], now: int) -> str | None:
    """Why our receiver would not take it, if so: few reasons, and always in the same words, as they are counted."""
    name = str(record["local_job_id"])
    if not name.isascii() or ";" in name:
        return "local_job_id is not ASCII without semicolons"
    if record["cpu_duration_s"] is None:
        return "cpu_duration_s is missing"
    return "end_at is in the future" if record["end_at"] > now else None


def line(record: Mapping[str, Any], vo: str) -> str:
    """The record as our receiver reads it."""
    fields = (
        record["local_job_id"],
        vo,
        *(record[name] for name in ("start_at", "end_at", "cpu_duration_s", "wall_duration_s", "state")),
    )
    return ";".join(map(str, fields)) + "\n"


OUR_LINES = OurLines()
