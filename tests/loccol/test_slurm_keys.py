"""Whichever source of Slurm's tells of a run, its key is the same: what is read twice is a revision and not a second job."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from batchacct.parsing import Block, Source, UnitParser
from loccol import slurm_jobcomp, slurm_jobcomp_json, slurm_json, slurm_sacct

SOURCE = Source("slurm-test", cluster="c", zone=dt.UTC)
SUBMIT, START, END = 1_700_000_000, 1_700_000_100, 1_700_000_700

Row = dict[str, object]


def text(instant: int | None) -> str:
    return "Unknown" if instant is None else dt.datetime.fromtimestamp(instant, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def sacct(state: str, start: int | None, nodes: str | None) -> bytes:
    fields = {
        "JobID": "40_7", "JobIDRaw": "47", "User": "u", "Group": "g", "Account": "a", "Partition": "p", "State": state,
        "Submit": text(SUBMIT), "Start": text(start), "End": text(END), "ElapsedRaw": str(END - start) if start else "0",
        "AllocTRES": "cpu=8,node=2" if nodes else "", "NodeList": nodes or "None assigned", "ExitCode": "1:0", "JobName": "n",
    }  # fmt: skip
    return ("|".join(fields) + "\n" + "|".join(fields.values()) + "\n").encode()


def sacct_json(state: str, start: int | None, nodes: str | None) -> bytes:
    job = {
        "account": "a", "allocation_nodes": 2, "array": {"job_id": 40, "task_id": 7}, "association": {}, "group": "g", "job_id": 47,
        "exit_code": {"status": ["ERROR"], "return_code": 1}, "name": "n", "nodes": nodes or "None assigned", "partition": "p",
        "state": {"current": [state]}, "steps": [], "user": "u",
        "time": {"submission": SUBMIT, "start": start or 0, "end": END, "elapsed": END - start if start else 0},
        "tres": {"allocated": [{"type": "cpu", "name": "", "count": 8}, {"type": "node", "name": "", "count": 2}] if nodes else []},
    }  # fmt: skip
    return json.dumps({"jobs": [job]}).encode()


def filetxt(state: str, start: int | None, nodes: str | None) -> bytes:
    state = state.replace("REQUEUED", "PENDING")
    return (
        f"JobId=47 UserId=u(1) GroupId=g(2) Name=n JobState={state} Partition=p TimeLimit=1 StartTime={text(start)}"
        f" EndTime={text(END)} NodeList={nodes or '(null)'} NodeCnt=2 ProcCnt=8 WorkDir=/ ReservationName= Tres="
        f" Account=a QOS= WcKey= Cluster=c SubmitTime={text(SUBMIT)} EligibleTime={text(SUBMIT)}"
        f" ArrayJobId=40 ArrayTaskId=7 DerivedExitCode=0:0 ExitCode=1:0 \n"
    ).encode()


def kafka(state: str, start: int | None, nodes: str | None) -> bytes:
    event = {
        "jobid": 47, "array_job_id": 40, "array_task_id": 7, "username": "u", "groupname": "g", "account": "a", "partition": "p",
        "job_name": "n", "state": state.replace("REQUEUED", "PENDING"), "@submit": text(SUBMIT), "@start": text(start),
        "@end": text(END), "nodes": nodes, "total_cpus": 8, "total_nodes": 2, "exit_code": "1:0",
    }  # fmt: skip
    return json.dumps(event).encode()


def row(parser: UnitParser, log: bytes) -> Row:
    parsed = parser.parse_block(Block(log, 0), SOURCE)
    assert (parsed.records.num_rows, parsed.rejects) == (1, ())
    found: Row = parsed.records.to_pylist()[0]
    return found


SAME = (
    "record_key", "lrms_job_id", "array_index", "join_id", "user_name", "group_name", "project", "queue", "job_name", "submit_at",
    "start_at", "end_at", "logged_at", "wall_duration_s", "processors", "node_count", "exec_hosts", "state", "exit_code", "lrms",
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "start", "nodes"),
    [
        ("COMPLETED", START, "n[1-2]"),
        ("CANCELLED", START, "n[1-2]"),
        ("REQUEUED", START, "n[1-2]"),
        ("RESIZING", START, "n[1-2]"),
        ("CANCELLED", None, None),
        ("CANCELLED", END, None),
        ("FAILED", END, "n[1-2]"),
    ],
)
def test_all_sources_say_the_same(state: str, start: int | None, nodes: str | None) -> None:
    told = [
        row(slurm_sacct.PARSER, sacct(state, start, nodes)),
        row(slurm_json.PARSER, sacct_json(state, start, nodes)),
        row(slurm_jobcomp.PARSER, filetxt(state, start, nodes)),
        row(slurm_jobcomp_json.PARSER, kafka(state, start, nodes)),
    ]
    for other in told[1:]:
        assert {name: other[name] for name in SAME} == {name: told[0][name] for name in SAME}
    assert told[0]["record_key"] == f"slurm:c:47:{START if start == START else END if nodes else ''}:{END}"
