"""A job that gave one of its two nodes back after 2 of its 8 s, as Slurm 22.05.8 accounts for it: no second is counted twice."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pytest

from batchacct.parsing import Source, UnitParser
from batchacct.parsing.reading import read_blocks
from loccol.slurm_json import PARSER as JSON
from loccol.slurm_sacct import PARSER as SACCT
from loccol.slurm_sacct_layout import RECOMMENDED

START, RESIZED, END = 1_795_693_015, 1_795_693_017, 1_795_693_023

ROWS = f"""\
{RECOMMENDED.replace(",", "|")}
21|21|trial|games|5|games|of-games|short|normal|1795693011|1795693011|{START}|{RESIZED}|2|00:00:00|RESIZING|0:0|2|2|200M|\
billing=2,cpu=2,mem=200M,node=2|00:00:00|00:00:00|00:00:00|||||n[1-2]|wrap
21.batch|21.batch|trial||||of-games|||{START}|{START}|{START}|{RESIZED}|2|00:00:00|RESIZING|0:0|1|1||\
cpu=1,mem=100M,node=1|00:00:00|00:00:00|00:00:00||||0|n1|batch
21|21|trial|games|5|games|of-games|short|normal|{RESIZED}|{RESIZED}|{START}|{END}|8|00:00:00|COMPLETED|0:0|1|1|200M|\
billing=1,cpu=1,mem=100M,node=1|00:00:00|00:00:00|00:00:00|||||n1|wrap
"""


def element(submission: int, end: int, state: str, processors: int, nodes: str) -> dict[str, object]:
    time = {"elapsed": end - START, "eligible": submission, "end": end, "start": START, "submission": submission, "suspended": 0}
    allocated = [{"type": "cpu", "name": None, "id": 1, "count": processors}]
    return {
        "job_id": 21, "time": time, "state": {"current": state, "reason": "None"}, "nodes": nodes, "steps": [],
        "exit_code": {"status": "SUCCESS", "return_code": 0}, "tres": {"allocated": allocated, "requested": []},
        "array": {"job_id": 0, "task_id": None}, "het": {"job_id": 0, "job_offset": None}, "user": "games",
    }  # fmt: skip


ELEMENTS = [element(1_795_693_011, RESIZED, "RESIZING", 2, "n[1-2]"), element(RESIZED, END, "COMPLETED", 1, "n1")]
DOCUMENT = json.dumps({"meta": {"plugin": {"type": "openapi/dbv0.0.38"}}, "errors": [], "jobs": ELEMENTS}, indent=2)


@pytest.mark.parametrize(("parser", "answer"), [(SACCT, ROWS), (JSON, DOCUMENT)], ids=["sacct", "json"])
def test_a_resized_job(parser: UnitParser, answer: str) -> None:
    blocks = read_blocks(io.BytesIO(answer.encode()), parser.framing)
    batches = [parsed.records for parsed in parser.parse(blocks, Source("farm", cluster="trial"))]
    rows = pa.Table.from_batches(batches).to_pylist()
    times = [(int(row["start_at"].timestamp()), int(row["end_at"].timestamp()), row["wall_duration_s"]) for row in rows]
    assert times == [(START, RESIZED, 2), (RESIZED, END, 6)]
    assert [row["processors"] for row in rows] == [2, 1]
    assert len({row["record_key"] for row in rows}) == 2
