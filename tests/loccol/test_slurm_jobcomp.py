"""The parser of jobcomp/filetxt: every form of the line, names that hold anything, zones, damage; both lanes say the same."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchacct.model import JOB
from batchacct.parsing import Block, Parsed, Reject, Skip, Source
from batchacct.parsing.reading import read_blocks
from loccol.slurm_jobcomp import PARSER, parse_unit, recognise
from loccol.slurm_jobcomp_fast import fast_lane

SAMPLES = Path(__file__).parent.parent / "samples" / "slurm-jobcomp"
BERLIN = Source("slurm-test", site="SITE", cluster="alex", zone=ZoneInfo("Europe/Berlin"))
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)
FUZZ = int(os.environ.get("BATCHACCT_FUZZ", "100"))

OLD, SAVIO, ALEX = (SAMPLES / "misc-jobcomp.filetxt").read_bytes().splitlines()
TASK = (SAMPLES / "safe-jobcomp-tests.filetxt").read_bytes().splitlines()[0]
HET = ALEX.replace(b" DerivedExitCode", b" HetJobId=2293670 HetJobOffset=9 DerivedExitCode")

Row = dict[str, object]


def unix(text: str, zone: dt.tzinfo = BERLIN.zone) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


def row(line: bytes, source: Source = BERLIN) -> Row:
    outcome = parse_unit(line, source)
    assert isinstance(outcome, dict)
    return outcome


def edited(old: bytes, new: bytes, line: bytes = ALEX) -> bytes:
    assert line.count(old) == 1, old
    return line.replace(old, new)


def with_times(start: bytes, end: bytes) -> bytes:
    return edited(
        b"EndTime=2025-01-11T22:45:18", b"EndTime=" + end, edited(b"StartTime=2025-01-11T22:45:16", b"StartTime=" + start)
    )


def reason(line: bytes) -> str:
    with pytest.raises(Reject) as refused:
        parse_unit(line, BERLIN)
    return refused.value.reason


def test_a_line_of_20_11_or_later() -> None:
    assert {name: value for name, value in row(ALEX).items() if value is not None} == {
        "record_key": f"slurm:alex:2293679:{unix('2025-01-11T22:45:16')}:{unix('2025-01-11T22:45:18')}",
        "lrms_job_id": "2293679",
        "join_id": "2293679",
        "user_name": "btr0104h",
        "user_id": 210_981,
        "group_name": "btr0",
        "project": "btr0",
        "queue": "a100",
        "job_name": "run.sh",
        "submit_at": unix("2025-01-11T22:45:14"),
        "eligible_at": unix("2025-01-11T22:45:14"),
        "start_at": unix("2025-01-11T22:45:16"),
        "end_at": unix("2025-01-11T22:45:18"),
        "logged_at": unix("2025-01-11T22:45:18"),
        "wall_duration_s": 2,
        "processors": 16,
        "node_count": 1,
        "exec_hosts": '["16*a0532"]',
        "memory_requested_kib": 240_000 * 1024,
        "exit_code": 2,
        "state": "failed",
        "resources": '{"qos":"normal"}',
    }


def test_a_line_of_17_11_to_20_02() -> None:
    found = row(SAVIO)
    assert (found["project"], found["memory_requested_kib"], found["exit_code"]) == ("co_lsdi", None, 0)
    assert row(edited(b"Gres= ", b"Gres=gpu:2 ", SAVIO))["memory_requested_kib"] is None


def test_a_line_of_before_17_11() -> None:
    for line in (OLD, OLD + b" "):
        found = row(line)
        assert (found["user_name"], found["processors"], found["wall_duration_s"], found["state"]) == (
            "walter",
            12,
            10,
            "completed",
        )
        assert not {"project", "submit_at", "exit_code", "resources"} & {name for name, value in found.items() if value is not None}


def test_array_tasks_and_components() -> None:
    lines = (SAMPLES / "safe-jobcomp-tests.filetxt").read_bytes().splitlines()
    ids = [(found["lrms_job_id"], found["array_index"], found["join_id"]) for found in map(row, lines)]
    assert ids == [("40", 27, "40"), ("40", 28, "40"), ("40", 29, "40")]
    assert [str(row(line)["record_key"]).split(":")[2] for line in lines] == ["68", "69", "70"]
    assert (row(HET)["lrms_job_id"], row(HET)["join_id"]) == ("2293670+9", "2293670")
    assert row(HET.replace(b"HetJob", b"PackJob"))["lrms_job_id"] == "2293670+9"
    both = TASK.replace(b" DerivedExitCode", b" HetJobId=39 HetJobOffset=1 DerivedExitCode")
    assert (row(both)["lrms_job_id"], row(both)["array_index"]) == ("39+1", 27)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        (b"COMPLETED", "completed"),
        (b"CANCELLED", "cancelled"),
        (b"TIMEOUT", "timeout"),
        (b"NODE_FAIL", "node_fail"),
        (b"PREEMPTED", "preempted"),
        (b"PENDING", "requeued"),
        (b"RESIZING", "unknown"),
        (b"OUT_OF_MEMORY", "out_of_memory"),
    ],
)
def test_states(word: bytes, state: str) -> None:
    assert row(edited(b"JobState=FAILED", b"JobState=" + word))["state"] == state


def test_what_has_not_ended() -> None:
    assert parse_unit(edited(b"JobState=FAILED", b"JobState=RUNNING"), BERLIN) == Skip("job has not ended")
    assert parse_unit(with_times(b"2025-01-11T22:45:16", b"Unknown"), BERLIN) == Skip("job has not ended")


def test_a_job_that_never_started() -> None:
    nowhere = edited(b"NodeList=a0532", b"NodeList=(null)", with_times(b"2025-01-11T22:45:18", b"2025-01-11T22:45:18"))
    for line in (nowhere, with_times(b"Unknown", b"2025-01-11T22:45:18")):
        found = row(line)
        assert found["record_key"] == f"slurm:alex:2293679::{unix('2025-01-11T22:45:18')}"
        assert (found["state"], found["start_at"], found["end_at"]) == ("never_started", None, unix("2025-01-11T22:45:18"))
        assert not {"wall_duration_s", "processors", "node_count", "exec_hosts", "exit_code"} & found.keys()
        assert found["memory_requested_kib"] == 240_000 * 1024
    short = with_times(b"2025-01-11T22:45:18", b"2025-01-11T22:45:18")
    assert (row(short)["state"], row(short)["wall_duration_s"]) == ("failed", 0)


def test_what_slurmctld_does_not_know() -> None:
    line = edited(b"SubmitTime=2025-01-11T22:45:14", b"SubmitTime=unknown", edited(b"Account=btr0", b"Account=(null)"))
    line = edited(b"QOS=normal", b"QOS=", edited(b"Partition=a100", b"Partition=", line))
    found = row(line)
    assert (found["submit_at"], found["project"], found["queue"], found["resources"]) == (None, None, None, None)
    nodes = row(edited(b"NodeList=a0532 NodeCnt=1 ProcCnt=16", b"NodeList=a[1-3] NodeCnt=0 ProcCnt=0"))
    assert (nodes["node_count"], nodes["processors"], nodes["exec_hosts"]) == (3, None, '["a1","a2","a3"]')


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"a b",
        b"x=1 y=2",
        b" JobState=",
        b"JobState=COMPLETED Partition=x",
        b"n ReservationName= Tres= Account=root",
        b"\xe9\0",
        b"a  b ",
    ],
)
def test_names_and_directories_hold_anything(name: bytes) -> None:
    for old in (b"Name=run.sh", b"WorkDir=/home/hpc/btr0/btr0104h/llm-o-mat"):
        found = row(edited(old, old.split(b"=")[0] + b"=" + name))
        assert (found["project"], found["state"], found["exit_code"]) == ("btr0", "failed", 2)
    assert row(edited(b"Name=run.sh", b"Name=" + name))["job_name"] == (
        name.decode("utf-8", "backslashreplace").replace("\0", "\\x00") or None
    )
    spaced = row(edited(b"GroupId=btr0(14700)", b"GroupId=domain users(7)", edited(b"btr0104h(210981)", b"AD\\a b(c)(1)")))
    assert (spaced["user_name"], spaced["user_id"], spaced["group_name"]) == ("AD\\a b(c)", 1, "domain users")


def test_a_name_cannot_say_what_became_of_the_job() -> None:
    forged_middle = (
        b"x JobState=CANCELLED Partition=a TimeLimit=1 StartTime=Unknown EndTime=Unknown NodeList= NodeCnt=0 ProcCnt=0 WorkDir="
    )
    forged_end = (
        b"x ReservationName= Tres= Account=b QOS= WcKey= Cluster= SubmitTime=unknown EligibleTime=unknown"
        b" DerivedExitCode=0:0 ExitCode=0:0"
    )
    assert "in two ways: JobState to WorkDir" in reason(edited(b"Name=run.sh", b"Name=" + forged_middle))
    assert "in two ways: JobState to WorkDir" in reason(edited(b"WorkDir=/", b"WorkDir=/" + forged_middle))
    assert "in two ways: ReservationName to ExitCode" in reason(edited(b"WorkDir=/", b"WorkDir=/" + forged_end))


def test_local_times_in_the_hour_that_comes_twice() -> None:
    """On 2024-10-27 clocks in Berlin went back from 3:00 to 2:00."""
    first, second = unix("2024-10-27T02:30:00"), unix("2024-10-27T02:30:00") + 3600
    usual = row(with_times(b"2024-10-27T02:30:00", b"2024-10-27T02:40:00"))
    assert (usual["start_at"], usual["wall_duration_s"]) == (first, 600)
    across = row(with_times(b"2024-10-27T02:50:00", b"2024-10-27T02:30:00"))
    assert (across["end_at"], across["wall_duration_s"]) == (second, 2400)
    gap = row(with_times(b"2024-03-31T02:30:00", b"2024-03-31T03:30:00"))
    assert (gap["start_at"], gap["end_at"]) == (unix("2024-03-31T02:30:00"), unix("2024-03-31T03:30:00"))


def test_no_zone_but_the_sources() -> None:
    for zone in (dt.UTC, ZoneInfo("America/St_Johns"), dt.timezone(dt.timedelta(hours=-3, minutes=-7))):
        source = dataclasses.replace(BERLIN, zone=zone)
        assert row(ALEX, source)["end_at"] == unix("2025-01-11T22:45:18", zone)
        assert_same(ALEX + b"\n" + TASK + b"\n", source)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (ALEX[:60], "it does not begin with JobId, UserId, GroupId and Name"),
        (b"JobId=7 JobName=x UserId=a(1) GroupId=b(2) Priority=1", "it does not begin with"),
        (ALEX[:120], "JobState to WorkDir do not follow Name"),
        (ALEX[:320], "ReservationName to ExitCode do not follow WorkDir"),
        (ALEX[:-3], "ReservationName to ExitCode do not follow WorkDir"),
        (edited(b"JobId=2293679", b"JobId=0"), "JobId is no job id of Slurm"),
        (edited(b"JobState=FAILED", b"JobState=RAN"), "JobState is no state of Slurm"),
        (with_times(b"2025-01-11T22:45:19", b"2025-01-11T22:45:18"), "the job ended before it started"),
        (with_times(b"2025-02-30T00:00:00", b"2025-03-11T22:45:18"), "StartTime does not exist in the calendar"),
        (with_times(b"2025-01-11 22:45:16", b"2025-01-11T22:45:18"), "JobState to WorkDir do not follow Name"),
        (with_times(b"2025-01-11T22:45:16", b"2125-01-11T22:45:18"), "EndTime is impossible"),
        (edited(b"Tres=cpu", b"Tres=,cpu"), "Tres is no list of name=amount"),
        (edited(b"mem=240000M", b"mem=240000X"), "Tres is no amount of memory"),
        (edited(b"NodeList=a0532", b"NodeList=a[05"), "NodeList has brackets that hold no numbers"),
        (b"\0" * 100, "it does not begin with"),
    ],
)
def test_rejects(line: bytes, expected: str) -> None:
    assert expected in reason(line)
    around = PARSER.parse_block(Block(ALEX + b" \n" + line + b"\n" + TASK + b" \n", 0), BERLIN)
    assert around.records["lrms_job_id"].to_pylist() == ["2293679", "40"]


def test_recognised() -> None:
    for path in SAMPLES.glob("*.filetxt"):
        assert recognise(path.read_bytes())
        assert recognise(path.read_bytes()[100:]) == (path.read_bytes().count(b"\n") > 1)
    assert not recognise(b"JobId=7 JobName=x\n   UserId=a(1) GroupId=b(2) MCS_label=N/A\n   JobState=RUNNING Reason=None\n")
    assert not recognise(b"JobId=7 " * 2000)


def assert_same(log: bytes, source: Source = BERLIN) -> Parsed:
    both, careful = PARSER.parse_block(Block(log, 1000), source), CAREFUL.parse_block(Block(log, 1000), source)
    assert both.records.to_pylist() == careful.records.to_pylist()
    assert both.records.equals(careful.records)
    assert (both.rejects, dict(both.skipped), both.units) == (careful.rejects, dict(careful.skipped), careful.units)
    return both


def test_the_fast_lane_takes_what_is_regular() -> None:
    """Else the tests below would pass with a fast lane that takes nothing."""
    for blank in (b"", b" "):
        log = b"".join(line + blank + b"\n" for line in (ALEX, SAVIO, TASK))
        regular = fast_lane(Block(log, 7), BERLIN, "slurm-jobcomp/1")
        assert (regular.records.num_rows, regular.left) == (3, [])
        assert regular.records.schema.equals(JOB.schema, check_metadata=True)
        assert fast_lane(Block(log[:-1], 7), BERLIN, "slurm-jobcomp/1").records.num_rows == 2
    assert fast_lane(Block(b"", 0), BERLIN, "x").records.schema.equals(JOB.schema)
    assert len(fast_lane(Block(OLD + b"\n" + HET + b"\n" + ALEX + b"\r\n", 0), BERLIN, "x").left) == 3


NUMBERS = [b"", b"0", b"1", b"01", b"4294967295", b"99999999999", b"-1", b"7x", b"(null)", b"Unknown", b"unknown"]
VALUES = [
    *NUMBERS, b"a", b"a b", b"a=b", b"\xe9", b"\0", b"\t", b"a\r", b"n[1-3]", b"n[1-", b"n1,n[02-04]x", b"0:15", b"256:0",
    b"cpu=1,mem=3G", b"mem=0", b"mem=x", b"u(1)", b"u(x)(2)", b"(3)", b"COMPLETED", b"RUNNING", b"PENDING", b"RAN", b"gpu:2",
]  # fmt: skip
DATES = [
    b"2024-10-27T02:30:00", b"2024-10-27T02:10:00", b"2024-03-31T02:30:00", b"2024-10-27T00:59:59", b"1970-01-01T00:00:00",
    b"1969-12-31T23:59:59", b"1970-01-01T01:00:01", b"2099-12-31T23:59:59", b"2100-01-01T01:00:00", b"2024-02-29T00:00:00",
    b"2023-02-29T00:00:00", b"2024-13-01T00:00:00", b"2024-00-10T00:00:00", b"2024-01-00T00:00:00", b"2024-01-01T24:00:00",
    b"2024-01-01T23:60:00", b"2024-01-01T23:59:60", b"2025-01-11T22:45:16Z", b"2025-01-11T22:45", b"1736631916", b"0", b"Unknown",
    b"unknown", b"9999-12-31T23:59:59", b"0001-01-01T00:00:00", b"2025-01-11t22:45:16",
]  # fmt: skip
ZONES = [dt.UTC, BERLIN.zone, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Africa/Monrovia"), dt.timezone(dt.timedelta(seconds=-754))]


def replace_value(draw: st.DrawFn, line: bytes) -> bytes:
    places = [m.span(2) for m in re.finditer(rb"(?<![^ ])([A-Za-z]+)=(\S*)", line)]
    if not places:
        return line
    start, end = draw(st.sampled_from(places))
    return line[:start] + draw(st.sampled_from(DATES if b"T" in line[start:end][10:11] else VALUES)) + line[end:]


def replace_time(draw: st.DrawFn, line: bytes) -> bytes:
    places = [m.span(1) for m in re.finditer(rb"Time=(\S*)", line)]
    if not places:
        return line
    start, end = draw(st.sampled_from(places))
    return line[:start] + draw(st.sampled_from(DATES)) + line[end:]


def insert(draw: st.DrawFn, line: bytes) -> bytes:
    at = draw(st.integers(0, len(line)))
    return (
        line[:at]
        + draw(st.sampled_from([b" ", b"=", b"\0", b"\xff", b"\n", b"\r", b" JobState=", b"(1) GroupId=", b" Name=", line]))
        + line[at:]
    )


def remove(draw: st.DrawFn, line: bytes) -> bytes:
    at = draw(st.integers(0, len(line)))
    return line[:at] + line[at + draw(st.integers(1, 40)) :]


def truncate(draw: st.DrawFn, line: bytes) -> bytes:
    return line[: draw(st.integers(0, len(line)))]


def rename(draw: st.DrawFn, line: bytes) -> bytes:
    keys = re.findall(rb"[A-Za-z]+=", line) or [b"x"]
    return line.replace(draw(st.sampled_from(keys)), draw(st.sampled_from([*keys, b"Gres=", b"Tres="])), 1)


def add_id(draw: st.DrawFn, line: bytes) -> bytes:
    ids = draw(
        st.sampled_from(
            [b"ArrayJobId=5 ArrayTaskId=0", b"ArrayJobId=0 ArrayTaskId=3", b"HetJobId=5 HetJobOffset=1", b"ArrayJobId=5"]
        )
    )
    return line.replace(b" DerivedExitCode", b" " + ids + b" DerivedExitCode", 1)


MUTATIONS: list[Callable[[st.DrawFn, bytes], bytes]] = [
    replace_value, replace_value, replace_value, replace_time, replace_time, insert, remove, truncate, rename, add_id,
]  # fmt: skip


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        line = draw(st.sampled_from([OLD, SAVIO, ALEX, ALEX, TASK, TASK, HET, b"", b" "])) + draw(st.sampled_from([b"", b" "]))
        for mutate in draw(st.lists(st.sampled_from(MUTATIONS), max_size=3)):
            line = mutate(draw, line)
        lines.append(line)
    return b"\n".join(lines) + draw(st.sampled_from([b"", b"\n"]))


@settings(deadline=None, max_examples=FUZZ)
@given(logs(), st.sampled_from(ZONES), st.integers(1, 900))
@example(b"", dt.UTC, 1)
@example(b"\n \n", dt.UTC, 1)
@example(with_times(b"2024-10-27T02:50:00", b"2024-10-27T02:30:00") + b"\n", BERLIN.zone, 1)
@example(with_times(b"1972-01-07T00:10:00", b"1972-01-07T00:50:00") + b"\n", ZoneInfo("Africa/Monrovia"), 1)
def test_both_lanes_and_any_cutting_find_the_same(log: bytes, zone: dt.tzinfo, size: int) -> None:
    source = dataclasses.replace(BERLIN, zone=zone)
    whole = assert_same(log, source)
    assert not any("does not foresee" in reject.reason for reject in whole.rejects)
    blocks = [
        PARSER.parse_block(block, source) for block in read_blocks(io.BytesIO(log), PARSER.framing, offset=1000, block_bytes=size)
    ]
    assert [record for parsed in blocks for record in parsed.records.to_pylist()] == whole.records.to_pylist()
    assert [reject for parsed in blocks for reject in parsed.rejects] == list(whole.rejects)


@pytest.mark.parametrize(
    "piece",
    [
        b"(1) GroupId=",
        b"(1) Name=",
        b" JobState=A",
        b" JobState=A Partition=B TimeLimit=1 StartTime=",
        b" ReservationName= Tres=",
        b"(",
        b"1",
        b" ",
    ],
)
def test_no_repetition_takes_forever(piece: bytes) -> None:
    """Nothing is timed; what were quadratic would take hours."""
    for head in (b"JobId=1 UserId=", b"JobId=1 UserId=a(1) GroupId=", b"JobId=1 UserId=a(1) GroupId=b(2) Name=", ALEX):
        line = head + piece * (1_000_000 // len(piece))
        assert PARSER.parse_block(Block(line + b"\n" + ALEX + b"\n", 0), BERLIN).records.num_rows in (1, 2)
        recognise(line[:16_384])
