"""The parser of `accounting.jsonl`: values of the real lines, what versions write differently, and what is refused."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchacct.parsing import Block, Part, Reject, Row, Skip
from loccol.sge import parse_unit as parse_colon
from loccol.sge_json import PARSER, REPORTED_JOB, parse_unit, recognise
from loccol.sge_runs import TIMELESS
from tests.loccol.sge_samples import SAMPLES, SOURCE, job, lines, sample

FIRST, SECOND = lines("ocs90.jsonl")
Object = dict[str, object]


def changed(change: Callable[[dict[str, Object]], object], line: bytes = SECOND) -> bytes:
    found = copy.deepcopy(json.loads(line))
    change(found)
    return json.dumps(found).encode()


def with_keys(**keys: object) -> bytes:
    return changed(lambda found: found.update(keys))  # type: ignore[arg-type]


def reason(unit: bytes) -> str:
    with pytest.raises(Reject) as refused:
        parse_unit(unit, SOURCE)
    return refused.value.reason


def read(unit: bytes) -> Row:
    return job(unit, PARSER)


def test_every_value_of_one_record() -> None:
    row = {name: value for name, value in read(FIRST).items() if value is not None}
    for name in ("native", "content_hash"):
        row.pop(name)
    assert row == {
        "record_key": "sge:cell:4:0:1725898190:1725898198:1725898298",
        "site": "SITE",
        "cluster": "cell",
        "lrms": "SGE",
        "lrms_job_id": "4",
        "join_id": "4",
        "user_name": "joga",
        "group_name": "joga",
        "queue": "all.q",
        "exec_hosts": '["1*rocky-8-amd64-1"]',
        "submit_at": 1725898190,
        "start_at": 1725898198,
        "end_at": 1725898298,
        "logged_at": 1725898298,
        "wall_duration_s": 100,
        "cpu_duration_s": 0,
        "processors": 1,
        "node_count": 1,
        "gpu_count": 2,
        "memory_real_kib": 950272 // 1024,
        "memory_virtual_kib": 222384128 // 1024,
        "exit_code": 0,
        "state": "completed",
        "resources": '{"request":{"gpu":"2"},"mem":0.0020704269409179688,"io":0.0010261209681630135}',
        "job_name": "sleep",
        "command": "qsub -o /dev/null -j y -b y -l gpu=2 sleep 100",
        "source": "sge-test",
        "source_offset": 0,
        "parser": "sge-json/1",
    }


def test_the_second_record() -> None:
    row = read(SECOND)
    assert [row[c] for c in ("lrms_job_id", "array_index", "submit_at", "start_at", "end_at")] == [
        "10", 1, 1730532912, 1730532913, 1730532913,
    ]  # fmt: skip
    assert (row["wall_duration_s"], row["cpu_duration_s"]) == (0, 1), "end - start; eusage.wallclock would be 2"
    assert row["memory_real_kib"] == 10284, "as ru_maxrss says it too"


def test_the_block_of_usage_by_either_name() -> None:
    def renamed(found: dict[str, Object]) -> None:
        usage = found["usage"]
        usage["eusage"] = {**usage.pop("usage"), "ioops": 7}  # type: ignore[dict-item]

    row = read(changed(renamed))
    assert row["cpu_duration_s"] == 1
    assert str(row["resources"]).endswith(',"ioops":7}')


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({}, "master"), ({"pe_taskid": "NONE"}, "master"), ({"pe_taskid": ""}, "master"), ({"pe_taskid": "1.node7"}, "task"),
        ({"pe_task_id": "1.node7"}, "task"), ({"pe_taskid": "NONE", "pe_task_id": "1.node7"}, "task"),
    ],
)  # fmt: skip
def test_tasks_of_parallel_jobs(keys: dict[str, object], kind: str) -> None:
    outcome = parse_unit(with_keys(granted_pe="mpi", slots=4, **keys), SOURCE)
    assert isinstance(outcome, Part)
    assert outcome.record["kind"] == kind


def test_who_deleted_it() -> None:
    killed = {"failed": 100, "exit_status": 137}
    assert read(with_keys(**killed))["state"] == "failed"
    assert read(with_keys(**killed, deleted_by="root@master"))["state"] == "cancelled"
    assert read(with_keys(**killed, deleted_by="execd@master"))["state"] == "timeout"
    assert read(with_keys(**killed, deleted_by="qmaster@master", category="-l h_vmem=1M"))["state"] == "out_of_memory"


def test_what_it_is_told_in_both_files_has_one_key() -> None:
    colon = (
        b"all.q:master:root:root:echo:10:sge:0:1730532912:1730532913:1730532913:0:0:0:0.355821:0.161309:10284.000000:0:0:0:0:504:0:0:"
        b"0.000000:11:0:0:0:248:14:NONE:defaultdepartment:NONE:1:1:0.517130:0.004313:0.000008:NONE:0.000000:NONE:21049344.000000:0:0"
    )
    ours, theirs = parse_unit(SECOND, SOURCE), parse_colon(colon, SOURCE)
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)
    assert {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == {"resources", "command"}


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (b"not json", "it is no JSON object on one line"),
        (b"[1]", "it is no JSON object on one line"),
        (SECOND[:200], "it is no JSON object on one line"),
        (b"[" * 100_000, "it is no JSON object on one line"),
        (b'{"job_number":' + b"9" * 5000 + b"}", "it is no JSON object on one line"),
        (SECOND.replace(b"0.51713", b"NaN"), "it is no JSON object on one line"),
        (SECOND.replace(b"0.51713", b"1e99999"), "cpu: a number is due"),
        (SECOND.replace(b"0.51713", b"1e-99999999999999999999"), "it is no JSON object on one line"),
        (SECOND.replace(b"0.51713", b'"0.5"'), "cpu: a number is due"),
        (b"{}", "usage: an object is due"),
        (with_keys(usage=3), "usage: an object is due"),
        (with_keys(usage={"rusage": {}}), "usage: an object is due"),
        (with_keys(job_number="10"), "job_number: a whole number is due"),
        (with_keys(job_number=True), "job_number: a whole number is due"),
        (with_keys(slots=None), "slots: a whole number is due"),
        (with_keys(owner=5), "owner: a text is due"),
        (with_keys(start_time=-1), "start_time is impossible: before 1970 or after 2099"),
        (with_keys(end_time=10**30), "end_time is impossible: before 1970 or after 2099"),
        (with_keys(end_time=0), "end_time is 0 though the job started"),
        (with_keys(time=1, type="acct"), REPORTED_JOB),
    ],
)
def test_what_cannot_be_is_rejected(unit: bytes, said: str) -> None:
    assert reason(unit) == said


def test_what_is_no_job_is_skipped() -> None:
    assert parse_unit(b"# comment", SOURCE) == Skip("comment")
    assert parse_unit(b'{"time":1,"type":"host"}', SOURCE) == Skip("event of a reporting file")
    assert parse_unit(with_keys(start_time=0, end_time=0, submission_time=0), SOURCE) == Skip(TIMELESS)
    outcome = parse_unit(with_keys(start_time=0, end_time=0), SOURCE)
    assert isinstance(outcome, dict)
    assert (outcome["state"], outcome["logged_at"]) == ("never_started", 1730532912)


def test_text_is_valid_whatever_the_bytes() -> None:
    assert read(SECOND.replace(b'"root"', b'"r\xc3\xb6\xff"'))["user_name"] == "r\u00f6\\xff"
    assert read(SECOND.replace(b'"root"', b'"a\\u0000\\ud800"'))["user_name"] == "a\\x00\\ud800"


def test_it_is_recognised() -> None:
    assert recognise(sample("ocs90.jsonl"))
    assert not recognise(b'{"time":1,"type":"acct",' + SECOND[1:])
    for path in SAMPLES.parent.rglob("*"):
        if path.is_file() and path.name != "ocs90.jsonl":
            assert not recognise(path.read_bytes()[:16384]), path.name


FRAGMENTS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b",",
    b":",
    b"\\",
    b"\\u0000",
    b"\xff",
    b"\0",
    b"1e9",
    b"-",
    b".5",
    b"null",
    b"true",
    b"NaN",
    b"\n",
    b"\r",
]
MUTATED = settings(
    deadline=None, max_examples=int(os.environ.get("BATCHACCT_FUZZ", "100")), suppress_health_check=list(HealthCheck)
)


@MUTATED
@given(
    st.sampled_from([FIRST, SECOND]),
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 4), st.sampled_from(FRAGMENTS)), max_size=4),
)
def test_damage_costs_no_neighbour(line: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    for at, removed, inserted in cuts:
        line = line[:at] + inserted + line[at + removed :]
    log = SECOND + b"\n" + line + b"\n" + FIRST + b"\n"
    parsed = PARSER.parse_block(Block(log, 0), SOURCE)
    assert parsed.units == len(list(PARSER.framing.spans(log)))
    ids = parsed.records["source_offset"].to_pylist()
    assert {0, len(log) - len(FIRST) - 1} <= set(ids)
    assert not any("does not foresee" in reject.reason for reject in parsed.rejects)
