"""The parser of jobcomp/kafka and jobcomp/elasticsearch: each form of a value, events that are none, damage, any way of cutting."""

from __future__ import annotations

import copy
import datetime as dt
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.parsing import Block, Parsed, Reject, Skip, Source
from batchacct.parsing.reading import read_blocks
from loccol.slurm_jobcomp_json import PARSER, parse_unit, recognise

SAMPLE = (Path(__file__).parent.parent / "samples" / "slurm-jobcomp" / "cscs-kafka-23.11.jsonl").read_bytes()
SOURCE = Source("slurm-test", site="SITE", cluster="jg")
FUZZ = int(os.environ.get("BATCHACCT_FUZZ", "70"))

Json = Any
Row = dict[str, object]


def utc(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp())


START, END = utc("2023-11-20T11:53:40"), utc("2023-11-20T11:53:47")


def event(**members: Json) -> Json:
    """The sample's object with members replaced; those that are `...` are left out."""
    whole = json.loads(SAMPLE) | {name.replace("at_", "@"): value for name, value in members.items()}
    return {name: value for name, value in whole.items() if value is not ...}


def row(found: Json) -> Row:
    outcome = parse_unit(json.dumps(found).encode(), SOURCE)
    assert isinstance(outcome, dict)
    return outcome


def reason(found: Json) -> str:
    with pytest.raises(Reject) as refused:
        parse_unit(json.dumps(found).encode(), SOURCE)
    return refused.value.reason


def parse(data: bytes) -> Parsed:
    return PARSER.parse_block(Block(data, 0), SOURCE)


def test_the_sample() -> None:
    assert {name: value for name, value in row(event()).items() if value is not None} == {
        "record_key": f"slurm:jg:87:{START}:{END}",
        "lrms_job_id": "87",
        "join_id": "87",
        "user_name": "jg",
        "user_id": 1000,
        "group_name": "jg",
        "queue": "normal",
        "job_name": "sleep",
        "submit_host": "jg",
        "submit_at": START,
        "eligible_at": START,
        "start_at": START,
        "end_at": END,
        "logged_at": END,
        "wall_duration_s": 7,
        "processors": 4,
        "node_count": 1,
        "exec_hosts": '["4*jg"]',
        "memory_requested_kib": 1000 * 1024,
        "energy_j": 1260.0,
        "exit_code": 0,
        "state": "completed",
        "resources": '{"billing":4,"cpu":4,"energy":1260,"mem":"1000M","node":1,"qos":"normal"}',
    }


@pytest.mark.parametrize(
    ("members", "columns"),
    [
        ({"array_job_id": 80, "array_task_id": 3}, ("80", 3, "80")),
        ({"array_job_id": 80, "array_task_id": 0}, ("80", 0, "80")),
        ({"array_job_id": 0, "array_task_id": 4294967294}, ("87", None, "87")),
        ({"het_job_id": 85, "het_job_offset": 2}, ("85+2", None, "85")),
        ({"het_job_id": ..., "het_job_offset": ..., "pack_job_id": 85, "pack_job_offset": 2}, ("85+2", None, "85")),
        ({"het_job_id": 4294967294, "het_job_offset": 4294967294}, ("87", None, "87")),
        ({"het_job_id": ..., "pack_job_id": ...}, ("87", None, "87")),
    ],
)
def test_ids(members: Json, columns: tuple[object, ...]) -> None:
    found = row(event(**members))
    assert (found["lrms_job_id"], found["array_index"], found["join_id"]) == columns
    assert found["record_key"] == f"slurm:jg:87:{START}:{END}"


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("FAILED", "failed"),
        ("PENDING", "requeued"),
        ("RESIZING", "unknown"),
        ("CANCELLED", "cancelled"),
        ("NODE_FAIL", "node_fail"),
    ],
)
def test_states(word: str, state: str) -> None:
    assert row(event(state=word))["state"] == state


@pytest.mark.parametrize("members", [{"at_end": ...}, {"at_end": None}, {"at_end": "Unknown"}, {"state": "RUNNING", "at_end": ...}])
def test_a_start_event(members: Json) -> None:
    assert parse_unit(json.dumps(event(**members)).encode(), SOURCE) == Skip("job has not ended")


@pytest.mark.parametrize("nodes", [None, "(null)", ..., ""])
def test_a_job_that_never_started(nodes: Json) -> None:
    for start in ("Unknown", "2023-11-20T11:53:47"):
        found = row(event(nodes=nodes, at_start=start, state="CANCELLED"))
        assert (found["state"], found["start_at"], found["record_key"]) == ("never_started", None, f"slurm:jg:87::{END}")
        absent = ("wall_duration_s", "processors", "node_count", "exec_hosts", "exit_code", "energy_j", "gpu_count")
        assert all(found.get(name) is None for name in absent)
        assert found["resources"] == '{"qos":"normal"}'


def test_a_resized_job_counts_from_its_resizing() -> None:
    found = row(event(state="RESIZING", elapsed=500_000))
    assert (found["start_at"], found["wall_duration_s"]) == (START, 7)


@pytest.mark.parametrize(
    ("members", "gpus", "resources"),
    [
        (
            {"tres_alloc": "cpu=8,mem=3G,gres/gpu=2,gres/gpu:a100=2"},
            (2, "a100"),
            {"cpu": 8, "mem": "3G", "gres/gpu": 2, "gres/gpu:a100": 2},
        ),
        (
            {"tres_alloc": "cpu=8,gres/gpu:h100=1,gres/gpu:a100=2"},
            (3, "a100,h100"),
            {"cpu": 8, "gres/gpu:h100": 1, "gres/gpu:a100": 2},
        ),
        (
            {"tres_alloc_raw": "1=8,2=3000,4=1,5=8,1002=2"},
            (None, None),
            {"cpu": 8, "mem": 3000, "node": 1, "billing": 8, "1002": 2},
        ),
        ({"gres_alloc": "gpu:v100:2"}, (2, "v100"), {"gres/gpu:v100": 2}),
        ({"gres_alloc": ""}, (None, None), {}),
    ],
)
def test_allocations(members: Json, gpus: tuple[object, ...], resources: Json) -> None:
    found = row(event(tres_fmt_alloc_str=..., tres_alloc_str=..., **members))
    assert (found["gpu_count"], found["gpu_model"]) == gpus
    assert json.loads(str(found["resources"])) == resources | {"qos": "normal"}
    assert (found["processors"], found["node_count"]) == (resources.get("cpu", 4), 1)


@pytest.mark.parametrize(
    ("members", "columns"),
    [
        ({"exit_code": "2:0"}, (2, None)),
        ({"exit_code": "0:9"}, (0, 9)),
        ({"exit_code": "0:125"}, (0, None)),
        ({"exit_code": 256}, (1, None)),
        ({"exit_code": ..., "exitcode": 15}, (0, 15)),
        ({"exit_code": 4294967294}, (None, None)),
        ({"exit_code": ...}, (None, None)),
    ],
)
def test_exit_codes(members: Json, columns: tuple[object, ...]) -> None:
    found = row(event(state="FAILED", **members))
    assert (found.get("exit_code"), found.get("exit_signal")) == columns


def test_other_forms() -> None:
    assert row({"_index": "slurm", "_source": event()}) == row(event())
    assert row(event(at_submit=..., at_eligible=..., eligible_time="2023-11-20T11:00:00"))["eligible_at"] == utc(
        "2023-11-20T11:00:00"
    )
    assert row(event(account="root", qos=..., tres_req=...))["project"] == "root"
    assert row(event(at_end="2023-11-20T11:53:47Z"))["end_at"] == END
    pretty = json.dumps([event(), event(jobid=88)], indent=2).encode()
    assert parse(pretty).records["lrms_job_id"].to_pylist() == ["87", "88"]
    latin = parse(SAMPLE.replace(b'"sleep"', b'"caf\xe9\\u0000"'))
    assert latin.records["job_name"].to_pylist() == ["caf\\xe9\\x00"]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"jobid": ...}, "jobid is missing"),
        ({"jobid": 0}, "jobid is no job id of Slurm"),
        ({"jobid": "87"}, "jobid is no number of 32 bits"),
        ({"jobid": True}, "jobid is no number of 32 bits"),
        ({"user_id": -1}, "user_id is no number of 32 bits"),
        ({"total_cpus": 1 << 40, "tres_fmt_alloc_str": ..., "tres_alloc_str": ...}, "total_cpus is no number of 32 bits"),
        ({"state": ...}, "state is no state of Slurm"),
        ({"at_start": "2023-11-20T11:53:48"}, "the job ended before it started"),
        ({"at_end": "yesterday"}, "@end is no time"),
        ({"at_end": "2123-11-20T11:53:48"}, "@end is impossible"),
        ({"tres_fmt_alloc_str": "cpu"}, "tres_fmt_alloc_str is no list of name=amount"),
        ({"nodes": "a["}, "nodes has brackets that hold no numbers"),
    ],
)
def test_rejects(members: Json, expected: str) -> None:
    assert expected in reason(event(**members))
    around = parse(SAMPLE + json.dumps(event(**members)).encode() + b"\n" + SAMPLE)
    assert (around.records.num_rows, len(around.rejects)) == (2, 1)


def test_recognised() -> None:
    assert recognise(SAMPLE)
    assert recognise(json.dumps([event()], indent=2).encode())
    assert not recognise(b'{"jobs": [{"account": "a", "job_id": 7}]}')


@settings(deadline=None, max_examples=FUZZ)
@given(
    edits=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 20),
            st.sampled_from([b"", b'"', b"{", b"}", b"\\", b"\n", b"\0", b"\xff", b"null", b"[]", SAMPLE]) | st.binary(max_size=3),
        ),
        max_size=5,
    ),
    size=st.integers(1, 2000),
)
def test_damage_and_cutting(edits: list[tuple[float, int, bytes]], size: int) -> None:
    """Every unit is a record, a skip or a reject, cutting makes no difference, and damage costs no line but its own."""
    lines = [SAMPLE.strip()] * 4
    for place, length, piece in edits:
        at = round(place * len(lines[1]))
        lines[1] = lines[1][:at] + piece + lines[1][at + length :]
    data = b"\n".join(lines)
    whole = parse(data)
    found = [record["native"] for record in whole.records.to_pylist()]
    assert found[0] == found[-1] == found[-2] == lines[0]
    assert whole.units == len(list(PARSER.framing.spans(data)))
    blocks = [PARSER.parse_block(block, SOURCE) for block in read_blocks(io.BytesIO(data), PARSER.framing, block_bytes=size)]
    assert [record for parsed in blocks for record in parsed.records.to_pylist()] == whole.records.to_pylist()
    assert [reject for parsed in blocks for reject in parsed.rejects] == list(whole.rejects)
    assert sum((Counter(parsed.skipped) for parsed in blocks), Counter()) == Counter(whole.skipped)


@settings(deadline=None, max_examples=FUZZ)
@given(st.data())
def test_any_value_in_any_place(data: st.DataObject) -> None:
    """Values of the wrong kind are rejects of their own, never something the parser does not foresee."""
    odd: st.SearchStrategy[Json] = st.sampled_from(
        [None, True, -1, 0, 2**70, 1.5, "", "x", "0", "(null)", "Unknown", "1=2", "cpu=1", [], {}, [[]]]
    ).map(copy.deepcopy)
    found = event()
    for key in data.draw(st.lists(st.sampled_from(sorted(found)), min_size=1, max_size=4)):
        found[key] = data.draw(odd)
    parsed = parse(json.dumps(found).encode())
    assert parsed.units == 1
    assert not any("does not foresee" in reject.reason or "takes" in reject.reason for reject in parsed.rejects), parsed.rejects
