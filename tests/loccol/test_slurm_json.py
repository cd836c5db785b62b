"""The parser of `sacct --json`: each layout of a job, what is made good of Slurm's faults, damage, and any way of cutting."""

from __future__ import annotations

import copy
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.model import JOB_STATES
from batchacct.parsing import Block, Parsed, Reject, Skip, Source
from batchacct.parsing.reading import read_blocks
from loccol.slurm_json import PARSER, parse_unit, recognise

SAMPLE = (Path(__file__).parent.parent / "samples" / "slurm-json" / "vcell-sacct-23.11.json").read_bytes()
SOURCE = Source("slurm-test", site="SITE", cluster="mantis")
FUZZ = int(os.environ.get("BATCHACCT_FUZZ", "50"))
START = 1_786_540_675
END = START + 46_770

Json = Any
Row = dict[str, object]


def number(value: int | None) -> dict[str, object]:
    """The form of v0.0.40: a number that may not be set."""
    return {"set": value is not None, "infinite": False, "number": value or 0}


def counted(**counts: int) -> list[dict[str, object]]:
    return [{"type": name, "name": "", "id": place, "count": count} for place, (name, count) in enumerate(counts.items(), 1)]


def ended(**members: Json) -> Json:
    """The sample's job, ended, with three of its steps and usage; `time` and `state` are merged, other members replaced."""
    job = copy.deepcopy(json.loads(SAMPLE)["jobs"][0])
    job["time"] |= {"end": END, "user": seconds(300, 250_000), "system": seconds(30, 250_000), "total": seconds(330, 500_000)}
    job["state"]["current"] = ["COMPLETED"]
    job["steps"] = job["steps"][:3]
    for place, step in enumerate(job["steps"]):
        step["state"] = ["COMPLETED"]
        step["time"] |= {"user": seconds(100), "system": seconds(10), "total": seconds(110)}
        step["tres"]["requested"] = {
            "max": counted(cpu=90_000, mem=(place + 1) << 30, vmem=0),
            "total": counted(cpu=100_000, mem=1 << 31),
        }
    for name, member in members.items():
        job[name] = job[name] | member if name in ("time", "state") else member
    return job


def seconds(whole: int, micro: int = 0) -> dict[str, int]:
    return {"seconds": whole, "microseconds": micro}


def as_in_21_08(job: Json) -> Json:
    """The layout of dbv0.0.37: plain numbers, states as text, and the eligible time as time.start."""
    job = copy.deepcopy(job)
    job["array"] |= {"task_id": None}
    job["het"] = {"job_id": 0, "job_offset": None}
    job["time"] |= {"limit": 6912, "start": job["time"]["eligible"]}
    job["state"]["current"] = job["state"]["current"][0]
    job["exit_code"] = {"status": "SUCCESS", "return_code": 0}
    job["required"] = {"CPUs": 20, "memory": 8192}
    for step in job["steps"]:
        step["state"] = step["state"][0]
        step["time"] |= {name: step["time"][name]["number"] for name in ("start", "end")}
    return job


def document(*jobs: Json, indent: int | None = None) -> bytes:
    return json.dumps({"jobs": jobs, "meta": {"plugin": {}}, "errors": []}, indent=indent).encode()


def parse(data: bytes) -> Parsed:
    return PARSER.parse_block(Block(data, 0), SOURCE)


def row(job: Json) -> Row:
    outcome = parse_unit(json.dumps(job).encode(), SOURCE)
    assert isinstance(outcome, dict)
    return outcome


def reason(job: Json) -> str:
    with pytest.raises(Reject) as refused:
        parse_unit(json.dumps(job).encode(), SOURCE)
    return refused.value.reason


def skipped(unit: bytes) -> str:
    outcome = parse_unit(unit, SOURCE)
    assert isinstance(outcome, Skip)
    return outcome.reason


def test_the_sample_is_a_job_that_still_runs() -> None:
    parsed = parse(SAMPLE)
    assert parsed.skipped == {"head of a document": 1, "job has not ended": 1, "tail of a document": 1}
    assert parsed.units == 3


def test_a_job() -> None:
    found = row(ended())
    assert {name: value for name, value in found.items() if value is not None} == {
        "record_key": f"slurm:mantis:2710593:{START}:{END}",
        "lrms_job_id": "2710593",
        "join_id": "2710593",
        "user_name": "vcell",
        "group_name": "domain users",
        "project": "pi-loew",
        "queue": "vcell",
        "job_name": "V_ALPHA_321860411_0_0",
        "command": "sbatch /share/apps/vcell3/htclogs/V_ALPHA_321860411_0_0.slurm.sub",
        "submit_at": START,
        "eligible_at": START,
        "start_at": START,
        "end_at": END,
        "logged_at": END,
        "wall_duration_s": 46_770,
        "cpu_user_s": 300.25,
        "cpu_system_s": 30.25,
        "cpu_duration_s": 330,
        "processors": 20,
        "node_count": 1,
        "exec_hosts": '["20*mantis-041"]',
        "memory_requested_kib": 163_840 * 1024,
        "memory_real_kib": 3 << 20,
        "exit_code": 0,
        "state": "completed",
        "resources": '{"billing":20,"cpu":20,"mem":163840,"node":1,"qos":"vcell"}',
    }


def test_the_layout_of_21_08_says_the_same() -> None:
    """But for the exit code, which that layout says is 0 whatever it was; the start is found from the end."""
    job = ended(time={"eligible": START - 5000, "submission": START - 6000, "elapsed": 46_000, "suspended": 770})
    old, new = row(as_in_21_08(job)), row(job)
    assert old == new
    assert (old["start_at"], old["wall_duration_s"]) == (START, 46_000)
    failed = as_in_21_08(ended(state={"current": ["FAILED"]}))
    assert row(failed)["exit_code"] is None
    failed["exit_code"] = {"status": "SIGNALED", "return_code": -127, "signal": {"signal_id": 9, "name": "Killed"}}
    assert (row(failed)["exit_code"], row(failed)["exit_signal"]) == (None, 9)


def test_in_21_08_a_job_that_waited_until_it_was_cancelled_has_a_start() -> None:
    """Its eligible time; but neither elapsed time nor nodes."""
    waited = ended(state={"current": ["CANCELLED"]}, nodes="None assigned", time={"elapsed": 0, "suspended": 0}, tres={})
    assert row(as_in_21_08(waited))["state"] == "never_started"
    short = row(as_in_21_08(ended(time={"elapsed": 0})))
    assert (short["state"], short["start_at"], short["wall_duration_s"]) == ("completed", END, 0)


def test_a_start_at_the_eligible_time_may_be_right() -> None:
    assert row(ended(time={"elapsed": 46_770}))["start_at"] == START
    assert row(ended(time={"elapsed": 50_000}))["start_at"] == START
    assert row(ended(time={"elapsed": None}))["wall_duration_s"] == 46_770


@pytest.mark.parametrize(
    ("members", "columns"),
    [
        ({}, ("2710593", None, "2710593")),
        ({"array": {"job_id": 2710500, "task_id": number(7), "task": ""}}, ("2710500", 7, "2710500")),
        ({"array": {"job_id": 2710500, "task_id": 0}}, ("2710500", 0, "2710500")),
        ({"array": {"job_id": 0, "task_id": 7}}, ("2710593", None, "2710593")),
        ({"array": {"job_id": 2710500, "task_id": 4294967294}}, ("2710500", None, "2710500")),
        ({"het": {"job_id": 2710590, "job_offset": number(3)}}, ("2710590+3", None, "2710590")),
        ({"het": {"job_id": None, "job_offset": None}}, ("2710593", None, "2710593")),
        ({"array": None, "het": []}, ("2710593", None, "2710593")),
    ],
)
def test_ids(members: Json, columns: tuple[object, ...]) -> None:
    found = row(ended(**members))
    assert (found["lrms_job_id"], found["array_index"], found["join_id"]) == columns
    assert found["record_key"] == f"slurm:mantis:2710593:{START}:{END}"


def test_tasks_that_waited_until_they_were_cancelled() -> None:
    job = ended(array={"job_id": 2710593, "task_id": number(None), "task": "4-9"}, nodes="None assigned", time={"start": END})
    assert row(job)["record_key"] == f"slurm:mantis:2710593::{END}:[4-9]"
    assert row(job)["state"] == "never_started"


@pytest.mark.parametrize(
    ("current", "state"),
    [
        (["COMPLETED"], "completed"),
        ("COMPLETED", "completed"),
        (["FAILED"], "failed"),
        ("CANCELLED by 1000", "cancelled"),
        (["OUT_OF_MEMORY"], "out_of_memory"),
        (["NODE_FAIL", "REQUEUED"], "requeued"),
        (["PENDING", "REQUEUED"], "requeued"),
        (["RUNNING", "RESIZING"], "unknown"),
        (["PREEMPTED"], "preempted"),
        (["DEADLINE"], "timeout"),
    ],
)
def test_states(current: object, state: str) -> None:
    assert row(ended(state={"current": current}))["state"] == state
    assert state in JOB_STATES


@pytest.mark.parametrize("current", [["RUNNING"], "PENDING", ["COMPLETED", "COMPLETING"], ["SUSPENDED"]])
def test_not_ended(current: object) -> None:
    assert skipped(json.dumps(ended(state={"current": current})).encode()) == "job has not ended"
    assert skipped(json.dumps(ended(time={"end": 0})).encode()) == "job has not ended"


@pytest.mark.parametrize("members", [{"time": {"start": 0}}, {"time": {"start": END, "elapsed": 0}, "nodes": "None assigned"}])
def test_a_job_that_never_started(members: Json) -> None:
    found = row(ended(state={"current": ["CANCELLED"]}, **members))
    assert (found["state"], found["start_at"], found["record_key"]) == ("never_started", None, f"slurm:mantis:2710593::{END}")
    absent = ("wall_duration_s", "cpu_duration_s", "processors", "node_count", "exec_hosts", "exit_code", "gpu_count")
    assert all(found.get(name) is None for name in absent)
    assert found["memory_requested_kib"] == 163_840 * 1024


def test_cpu_time() -> None:
    none = {"user": seconds(0), "system": seconds(0), "total": seconds(0)}
    job = ended(time=none)
    assert (row(job)["cpu_user_s"], row(job)["cpu_duration_s"]) == (300.0, 330)
    for step in job["steps"]:
        step["time"] |= none
    assert (row(job).get("cpu_user_s"), row(job)["cpu_duration_s"]) == (None, 300)
    for step in job["steps"]:
        step["tres"]["requested"]["total"] = []
    assert row(job).get("cpu_duration_s") is None
    assert row(ended(time=none, steps=[])).get("cpu_duration_s") is None
    assert row(ended(time=none, steps=None)).get("cpu_duration_s") is None
    total = ended(time={"user": seconds(0), "system": seconds(0), "total": seconds(1, 500_000)})
    assert (row(total).get("cpu_user_s"), row(total)["cpu_duration_s"]) == (None, 2)


def test_gpus_and_energy() -> None:
    allocated = [
        *counted(cpu=8, mem=1024, energy=-2, node=2, billing=8),
        {"type": "gres", "name": "gpu", "id": 1001, "count": 4},
        {"type": "gres", "name": "gpu:a100", "id": 1002, "count": 4},
    ]
    found = row(ended(tres={"allocated": allocated, "requested": []}, nodes="n[1-2]"))
    assert (found["gpu_count"], found["gpu_model"], found["energy_j"], found["processors"]) == (4, "a100", None, 8)
    assert found["exec_hosts"] == '["n1","n2"]'
    assert found["memory_requested_kib"] is None
    tracked = {"billing": 8, "cpu": 8, "gres/gpu": 4, "gres/gpu:a100": 4, "mem": 1024, "node": 2, "qos": "vcell"}
    assert json.loads(str(found["resources"])) == tracked
    for energy, joules in ((0, None), (2**64 - 2, None), (1_439_089, 1_439_089.0)):
        allocated[2]["count"] = energy
        assert row(ended(tres={"allocated": allocated}))["energy_j"] == joules


def test_node_count_without_allocated_resources() -> None:
    found = row(ended(tres={}, nodes="n[1-3]"))
    assert (found["processors"], found["node_count"]) == (None, 3)
    assert row(ended(tres={}, nodes=""))["node_count"] == 1


@pytest.mark.parametrize(
    ("exit_code", "columns"),
    [
        ({"status": ["ERROR"], "return_code": number(2), "signal": {"id": number(None)}}, (2, None)),
        ({"status": ["SIGNALED"], "return_code": number(None), "signal": {"id": number(15), "name": "Terminated"}}, (None, 15)),
        ({"status": ["PENDING"], "return_code": number(None)}, (None, None)),
        ({"status": ["SUCCESS"], "return_code": number(0), "signal": {"id": number(125)}}, (0, None)),
        ({"status": "ERROR", "return_code": 3}, (3, None)),
        ({}, (None, None)),
    ],
)
def test_exit_codes(exit_code: Json, columns: tuple[object, ...]) -> None:
    found = row(ended(exit_code=exit_code, state={"current": ["FAILED"]}))
    assert (found["exit_code"], found["exit_signal"]) == columns


def test_other_members() -> None:
    assert row(ended(restart_cnt=2))["run_number"] == 3
    assert row(ended(user=""))["user_name"] == "vcell"
    assert row(ended(user="", association={}, group=""))["user_name"] is None
    assert parse(document(ended(name="a\0é")).replace(b"\\u00e9", b"\xe9")).records["job_name"].to_pylist() == ["a\\x00\\xe9"]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"job_id": 0}, "job_id is no job id of Slurm"),
        ({"job_id": "7"}, "job_id is not a whole number"),
        ({"job_id": True}, "job_id is not a whole number"),
        ({"time": {"end": 4_102_444_800}}, "time.end is impossible"),
        ({"time": {"end": -1}}, "time.end is impossible"),
        ({"time": {"end": 1.5}}, "time.end is not a whole number"),
        ({"time": {"submission": 2**40}}, "time.submission is impossible"),
        ({"time": {"start": END + 1, "eligible": 1}}, "the job ended before it started"),
        ({"time": {"user": seconds(10**13)}}, "time.user is impossible"),
        ({"time": {"elapsed": -5, "eligible": 1}}, "time.elapsed is impossible"),
        ({"time": {"elapsed": 46_770 + 86_401}}, "time.elapsed is much longer than from start to end"),
        ({"state": {"current": ["RAN"]}}, "state.current is no state of Slurm"),
        ({"state": {"current": []}}, "state.current is missing"),
        ({"nodes": "n[1-"}, "nodes has brackets that hold no numbers"),
        ({"tres": {"allocated": [{"count": 1}]}}, "tres.allocated is no list of resources"),
    ],
)
def test_rejects(members: Json, expected: str) -> None:
    assert expected in reason(ended(**members))
    parsed = parse(document(ended(), ended(**members), ended()))
    assert (parsed.records.num_rows, len(parsed.rejects)) == (2, 1)


def test_what_is_no_job() -> None:
    assert skipped(b'{"meta": {}, "errors": [], "warnings": []}') == "document without jobs"
    assert skipped(b'], "errors": [{"error": "slurmdbd is down"}]}').startswith("document in which sacct reports errors")
    assert skipped(b'{"errors": [{"error": 1}], "jobs": [').startswith("document in which sacct reports errors")
    assert reason({"name": "x"}) == "job_id is missing"
    with pytest.raises(Reject, match="it is not JSON"):
        parse_unit(b'{"job_id": 1, "name": "', SOURCE)


def test_recognised() -> None:
    assert recognise(SAMPLE[:16_384])
    assert recognise(document(ended()))
    assert recognise(json.dumps(ended()).encode())
    assert not recognise(b'{"jobs": [{"account": "a", "accrue_time": 0, "association_id": 1, "job_id": 7}]}')
    assert not recognise(b"JobID|" + SAMPLE)


PIECES = (
    b"",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\",
    b"\n",
    b",",
    b"\0",
    b"\xff",
    b"-1",
    b"1e999",
    b'{"jobs": [',
    b'{"account":',
    b"null",
    b"[]",
    b"{}",
)


@settings(deadline=None, max_examples=FUZZ)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=3)), max_size=5),
    indent=st.sampled_from([None, 2]),
    size=st.integers(100, 9000),
)
def test_damage_and_cutting(edits: list[tuple[float, int, bytes]], indent: int | None, size: int) -> None:
    """Whatever happens to a document, every unit is a record, a skip or a reject, and cutting it makes no difference."""
    good = ended()
    good["steps"] = good["steps"][:1]
    data = document(good, as_in_21_08(good), indent=indent) + b"\n" + document(good, indent=indent)
    for place, length, piece in edits:
        at = round(place * len(data))
        data = data[:at] + piece + data[at + length :]
    whole = parse(data)
    assert whole.units == len(list(PARSER.framing.spans(data)))
    blocks = [PARSER.parse_block(block, SOURCE) for block in read_blocks(io.BytesIO(data), PARSER.framing, block_bytes=size)]
    assert [record for parsed in blocks for record in parsed.records.to_pylist()] == whole.records.to_pylist()
    assert [reject for parsed in blocks for reject in parsed.rejects] == list(whole.rejects)
    assert sum((Counter(parsed.skipped) for parsed in blocks), Counter()) == Counter(whole.skipped)


@settings(deadline=None, max_examples=FUZZ)
@given(st.data())
def test_any_value_in_any_place(data: st.DataObject) -> None:
    """Values of the wrong kind are rejects of their own, never something the parser does not foresee."""
    job = ended()
    odd: st.SearchStrategy[Json] = st.sampled_from(
        [None, True, -1, 0, 2**70, 1.5, float("nan"), "", "x", [], [1], {}, {"set": True}, {"number": 3}, [[]]]
    ).map(copy.deepcopy)
    for _ in range(data.draw(st.integers(1, 3))):
        place: Json = job
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
                place = place[key]
                continue
            place[key] = data.draw(odd)
            break
    parsed = parse(json.dumps(job).encode())
    assert parsed.units == 1
    assert not any("does not foresee" in reject.reason or "takes" in reject.reason for reject in parsed.rejects), parsed.rejects
