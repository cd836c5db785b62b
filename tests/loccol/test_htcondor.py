"""HTCondor job ads, in long form and JSON: every sample's values, each rule, damage, and any way of cutting.

Where the values differ from those of the samples' own list: nowhere. What its list says of the two live jobs (held, running: "no
record yet") is held here with their JobStatus set to that of a job that left the queue.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.collector import Collector, collect_once
from batchacct.model import JOB, JOB_STATES, LAST_INSTANT
from batchacct.parsing import Block, Parsed, Source, UnitParser
from batchacct.parsing.reading import read_blocks
from batchacct.store import Store
from loccol.htcondor import PARSER, PER_JOB
from loccol.htcondor_json import PARSER as JSON_PARSER

SAMPLES = Path(__file__).parent.parent / "samples"
ADS = SAMPLES / "htcondor"
PER_JOB_FILES = sorted((ADS / "gratia-perjob").iterdir())
SOURCE = Source("schedd", site="SITE", cluster="pool")
FUZZ = int(os.environ.get("BATCHACCT_FUZZ", "100"))
ATTRIBUTES: dict[str, object] = {
    "ClusterId": 7,
    "ProcId": 0,
    "GlobalJobId": "schedd.example.org#7.0#1700000000",
    "Owner": "alice",
    "JobStatus": 4,
    "JobUniverse": 5,
    "QDate": 1_700_000_000,
    "JobStartDate": 1_700_000_100,
    "CompletionDate": 1_700_001_100,
    "EnteredCurrentStatus": 1_700_001_105,
    "RemoteWallClockTime": 1000.0,
    "RemoteUserCpu": 900.0,
    "RemoteSysCpu": 10.0,
    "ExitBySignal": False,
    "ExitCode": 0,
    "RequestCpus": 1,
    "LastRemoteHost": "slot1_3@node1.example.org",
}

Row = dict[str, object]


class Raw(str):
    """An expression that stands in an ad as it is, without quotes."""


def long_form(**changes: object) -> bytes:
    """An ad of a finished job; an attribute given as None is left out."""
    lines = []
    for name, value in (ATTRIBUTES | changes).items():
        if value is not None:
            text = str(value).lower() if isinstance(value, bool) else value
            lines.append(
                f"{name} = {text}" if not isinstance(value, str) or isinstance(value, Raw) else f"{name} = {json.dumps(value)}"
            )
    return "\n".join(lines).encode() + b"\n"


def as_json(**changes: object) -> bytes:
    given = {n: f"/Expr({v})/" if isinstance(v, Raw) else v for n, v in (ATTRIBUTES | changes).items() if v is not None}
    return json.dumps(given).encode()


def parse(data: bytes, parser: UnitParser = PARSER) -> Parsed:
    parsed = parser.parse_block(Block(data, 0), SOURCE)
    assert parsed.records.schema.equals(JOB.schema, check_metadata=True)
    assert parsed.units == len(list(parser.framing.spans(data)))
    return parsed


def rows(data: bytes, parser: UnitParser = PARSER) -> list[Row]:
    parsed = parse(data, parser)
    assert not parsed.rejects
    found: list[Row] = parsed.records.to_pylist()
    return found


def one(**changes: object) -> Row:
    """The record of an ad, from both forms: they are the same."""
    (row,) = rows(long_form(**changes))
    if not any(isinstance(value, Raw) and value.startswith("[") for value in changes.values()):
        (from_json,) = rows(as_json(**changes), JSON_PARSER)
        for column in set(row) - {"content_hash", "native", "parser", "source_offset"}:
            assert row[column] == from_json[column], column
    return row


def reason(data: bytes, parser: UnitParser = PARSER) -> str:
    parsed = parse(data, parser)
    assert not parsed.records.num_rows
    (reject,) = parsed.rejects
    return reject.reason


def skipped(**changes: object) -> str:
    parsed = parse(long_form(**changes))
    assert (parsed.records.num_rows, parsed.rejects) == (0, ())
    assert parse(as_json(**changes), JSON_PARSER).skipped == parsed.skipped
    (found,) = parsed.skipped
    return found


def utc(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def known(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}


def test_a_whole_record_of_7_4() -> None:
    data = (ADS / "gratia-perjob" / "history.377260.0").read_bytes()
    (row,) = rows(data)
    command = (
        "/opt/glite/var/cream_sandbox/vdtuser/_DC_org_DC_doegrids_OU_People_CN_James_Frey_259919_vdt_Role_NULL_Capability_NULL_"
    )
    assert known(row) == {
        "record_key": "htcondor:pool:stress3.chtc.wisc.edu#377260.0#1290671437",
        "content_hash": row["content_hash"],
        "site": "SITE",
        "cluster": "pool",
        "lrms": "HTCondor",
        "lrms_job_id": "stress3.chtc.wisc.edu#377260.0#1290671437",
        "join_id": "377260",
        "user_name": "vdtuser03",
        "submit_host": "stress3.chtc.wisc.edu",
        "exec_hosts": '["1*s1-01.cs.wisc.edu"]',
        "submit_at": utc(1290671437),
        "start_at": utc(1290671460),
        "end_at": utc(1290672370),
        "logged_at": utc(1290672370),
        "wall_duration_s": 910,
        "cpu_user_s": 0.0,
        "cpu_system_s": 0.0,
        "cpu_duration_s": 0,
        "processors": 1,
        "node_count": 1,
        "memory_virtual_kib": 337352,
        "exit_code": 0,
        "state": "completed",
        "resources": '{"CommittedTime":910,"CumulativeSuspensionTime":0,"DiskUsage":75,"DiskUsage_RAW":51,"NumJobStarts":1,'
        '"RequestCpus":1}',
        "command": command + "vdtuser03/51/CREAM511044452/CREAM511044452_jobWrapper.sh",
        "native": data,
        "source": "schedd",
        "source_offset": 0,
        "parser": "htcondor/1",
    }


def test_every_per_job_file_has_the_values_of_the_list() -> None:
    expected = list(csv.DictReader((ADS / "gratia-perjob.expected.csv").read_text().splitlines()))
    assert len(expected) == len(PER_JOB_FILES) == 30
    total = 0
    for path, line in zip(PER_JOB_FILES, expected, strict=True):
        assert path.name == line["file"]
        (row,) = rows(path.read_bytes(), PER_JOB)
        is_removed = line["JobStatus"] == "3"
        end = int(line["EnteredCurrentStatus"] if is_removed else line["CompletionDate"])
        assert row["record_key"] == f"htcondor:pool:{line['GlobalJobId']}"
        assert (row["submit_at"], row["start_at"]) == (utc(int(line["QDate"])), utc(int(line["JobStartDate"])))
        assert (row["end_at"], row["logged_at"]) == (utc(end), utc(end))
        assert row["wall_duration_s"] == float(line["RemoteWallClockTime"])
        assert row["cpu_duration_s"] == float(line["RemoteUserCpu"]) + float(line["RemoteSysCpu"]) == 0
        assert (row["user_name"], row["processors"], row["memory_virtual_kib"]) == (line["Owner"], 1, int(line["ImageSize_RAW"]))
        assert row["exit_code"] == (int(line["ExitCode"]) if line["ExitCode"] else None)
        assert row["state"] == ("cancelled" if is_removed else "completed")
        assert row["exec_hosts"] == json.dumps(["1*" + line["LastRemoteHost"].rpartition("@")[2]])
        assert json.loads(str(row["resources"]))["CommittedTime"] == int(line["CommittedTime"])
        total += int(str(row["wall_duration_s"]))
    assert total == 21965


def test_the_gratia_samples_ends_are_as_gratia_has_them() -> None:
    found = [rows(path.read_bytes())[0] for path in PER_JOB_FILES]
    assert Counter(row["state"] for row in found) == {"completed": 20, "cancelled": 10}
    assert {row["wall_duration_s"] for row in found if row["state"] == "completed"} == {909, 910, 911}
    assert {row["wall_duration_s"] for row in found if row["state"] == "cancelled"} == {376, 377}


def test_a_history_file_with_banners() -> None:
    data = (ADS / "synthetic.history").read_bytes()
    found = rows(data)
    assert [row["join_id"] for row in found] == ["377260", "377261", "377270"]
    assert [row["source_offset"] for row in found] == [0, 4084, 8174]
    for row, name in zip(found, ("377260.0", "377261.0", "377270.0"), strict=True):
        (alone,) = rows((ADS / "gratia-perjob" / f"history.{name}").read_bytes())
        different = {"content_hash", "native", "source_offset"}
        assert {n: v for n, v in row.items() if n not in different} == {n: v for n, v in alone.items() if n not in different}


def test_a_folder_of_per_job_files_is_collected_as_files_come(sqlite_store: Store, tmp_path: Path) -> None:
    """No banner will ever end such a file, so that another framing would wait for the end of each for ever."""
    collector = Collector(PER_JOB, SOURCE, (f"{tmp_path}/history.*",))
    for path in PER_JOB_FILES[:2]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    done = [collect_once(sqlite_store, collector, lambda: 1_800_000_000) for _ in range(2)]
    assert [one_run.counts["units"] for one_run in done] == [2, 0]
    (tmp_path / PER_JOB_FILES[2].name).write_bytes(PER_JOB_FILES[2].read_bytes())
    done.append(collect_once(sqlite_store, collector, lambda: 1_800_000_000))
    assert [one_run.counts["recorded"] for one_run in done] == [2, 0, 1]
    assert not any(one_run.errors for one_run in done)


def test_a_held_job_is_none_yet_and_its_values_were_it_finished() -> None:
    data = (ADS / "chtc-condor_q-long-9.9.0.ad").read_bytes()
    assert parse(data).skipped == {"held, still in the queue": 1}
    (row,) = rows(data.replace(b"\nJobStatus = 5", b"\nJobStatus = 3"))
    assert (row["lrms_job_id"], row["join_id"]) == ("submit-1.chtc.wisc.edu#15872426.5189#1653145687", "15872426.5189")
    assert (row["start_at"], row["wall_duration_s"], row["cpu_duration_s"]) == (utc(1653506929), 1289, 3143)
    assert (row["cpu_user_s"], row["cpu_system_s"], row["processors"]) == (2930.0, 213.0, 4)
    assert (row["memory_real_kib"], row["memory_requested_kib"], row["project"]) == (13594592, 16384 * 1024, "GLOW")
    assert row["exec_hosts"] == '["4*e301.chtc.wisc.edu"]'
    resources = json.loads(str(row["resources"]))
    assert (resources["CPUsUsage"], resources["CumulativeSlotTime"], resources["MemoryProvisioned"]) == (0.0, 5156.0, 16384)
    (row,) = rows(data.replace(b"\nJobStatus = 5", b"\nJobStatus = 3").replace(b"LastJobStatus = 2", b"LastJobStatus = 5"))
    assert row["state"] == "out_of_memory", "HoldReasonCode 34"


def test_a_running_job_is_none_yet_and_its_values_were_it_finished() -> None:
    data = (ADS / "jlab-condor_q-8.8.10.json").read_bytes()
    assert parse(data, JSON_PARSER).skipped == {"head of a document": 1, "running, still in the queue": 1, "tail of a document": 1}
    (row,) = rows(data.replace(b'"JobStatus": 2', b'"JobStatus": 4'), JSON_PARSER)
    assert (row["lrms_job_id"], row["start_at"]) == ("scosg16.jlab.org#3472942.81#1616890323", utc(1616890494))
    assert (row["wall_duration_s"], row["cpu_duration_s"]) == (37327, 38735), "all four attempts; the last alone: 1471"
    assert (row["processors"], row["memory_real_kib"], row["memory_requested_kib"]) == (1, 1551120, 1741 * 1024)
    assert (row["project"], row["exec_hosts"]) == ("CLAS12", '["1*notch009.int.chpc.utah.edu"]')
    lines = JSON_PARSER.parse_block(Block(as_json() + b"\n" + as_json(ProcId=1) + b"\n", 0), SOURCE)
    assert lines.records.num_rows == 2


def test_a_subset_of_attributes_that_lacks_the_job_is_rejected() -> None:
    parsed = parse((ADS / "chtc-restarts-subset.ads").read_bytes())
    assert [reject.reason for reject in parsed.rejects] == ["JobStatus is missing"] * 6


def test_the_ids() -> None:
    assert one()["join_id"] == "7"
    assert one(ProcId=3)["join_id"] == "7.3"
    assert one(RoutedFromJobId="1.0")["join_id"] == "schedd.example.org#7.0#1700000000"
    row = one(GlobalJobId="name@host.example.org#7.0#1")
    assert (row["submit_host"], row["record_key"]) == ("host.example.org", "htcondor:pool:name@host.example.org#7.0#1")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (900.0, 10.0, 910)),
        ({"CumulativeRemoteUserCpu": 2000.5, "CumulativeRemoteSysCpu": 20.0}, (2000.5, 20.0, 2020)),
        ({"CumulativeRemoteUserCpu": 2000.5, "CumulativeRemoteSysCpu": 21.0}, (2000.5, 21.0, 2022)),
        ({"CumulativeRemoteUserCpu": 0.0, "CumulativeRemoteSysCpu": 0.0}, (900.0, 10.0, 910)),
        ({"CumulativeRemoteUserCpu": 5.0}, (5.0, 0.0, 5)),
        ({"RemoteSysCpu": None}, (None, None, None)),
        ({"RemoteSysCpu": None, "CumulativeRemoteUserCpu": 0.0}, (0.0, 0.0, 0)),
        ({"RemoteUserCpu": Raw("Foo + 1")}, (None, None, None)),
    ],
)
def test_cpu(changes: Row, expected: tuple[object, ...]) -> None:
    row = one(**changes)
    assert (row["cpu_user_s"], row["cpu_system_s"], row["cpu_duration_s"]) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("completed", 0, None)),
        ({"ExitCode": 3}, ("failed", 3, None)),
        ({"ExitBySignal": True, "ExitSignal": 9}, ("failed", None, 9)),
        ({"ExitSignal": 9}, ("completed", 0, None)),
        ({"ExitCode": None}, ("unknown", None, None)),
        ({"ExitCode": -1}, ("failed", None, None)),
        ({"ExitBySignal": None, "ExitCode": None}, ("unknown", None, None)),
        ({"JobStatus": 3}, ("cancelled", None, None)),
        ({"JobStatus": 3, "RemoveReason": "via condor_rm (by user a: too much memory)"}, ("cancelled", None, None)),
        ({"JobStatus": 3, "RemoveReason": "Removed due to wall clock limit"}, ("timeout", None, None)),
        (
            {"JobStatus": 3, "RemoveReason": "PeriodicRemove expression '(MemoryUsage > 2000)' was TRUE"},
            ("out_of_memory", None, None),
        ),
        ({"JobStatus": 3, "RemoveReason": "'(MemoryUsage > 2000 || RemoteWallClockTime > 9)' was TRUE"}, ("cancelled", None, None)),
        ({"JobStatus": 3, "LastJobStatus": 5, "HoldReasonCode": 34}, ("out_of_memory", None, None)),
        ({"JobStatus": 3, "LastJobStatus": 5, "HoldReasonCode": 47}, ("timeout", None, None)),
        ({"JobStatus": 3, "LastJobStatus": 2, "HoldReasonCode": 47}, ("cancelled", None, None)),
        ({"JobStatus": 3, "JobStartDate": None, "CompletionDate": None}, ("never_started", None, None)),
    ],
)
def test_how_it_ended(changes: Row, expected: tuple[object, ...]) -> None:
    row = one(**changes)
    assert (row["state"], row["exit_code"], row["exit_signal"]) == expected
    assert row["state"] in JOB_STATES


def test_a_job_that_never_ran() -> None:
    row = one(JobStatus=3, JobStartDate=0, CompletionDate=0, RemoteWallClockTime=0.0, GPUsProvisioned=1)
    assert (row["state"], row["start_at"], row["end_at"]) == ("never_started", None, utc(1_700_001_105))
    for column in ("wall_duration_s", "cpu_duration_s", "cpu_user_s", "processors", "node_count", "gpu_count", "exec_hosts"):
        assert row[column] is None, column


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (1, 1, '["1*node1.example.org"]')),
        ({"CpusProvisioned": 4, "MachineAttrCpus0": 2}, (4, 1, '["4*node1.example.org"]')),
        ({"MachineAttrCpus0": 2}, (2, 1, '["2*node1.example.org"]')),
        ({"CpusProvisioned": 0}, (1, 1, '["1*node1.example.org"]')),
        ({"RequestCpus": Raw("Foo")}, (None, 1, '["1*node1.example.org"]')),
        ({"LastRemoteHost": "slot1_57@glidein_3_1@a248.rcac.edu"}, (1, 1, '["1*a248.rcac.edu"]')),
        ({"LastRemoteHost": None}, (1, 1, None)),
        ({"MaxHosts": 4}, (1, 1, '["1*node1.example.org"]')),
        (
            {"JobUniverse": 11, "MaxHosts": 3, "RequestCpus": 2, "AllRemoteHosts": "slot1@a,slot1@b,slot2@b"},
            (6, 3, '["2*a","4*b"]'),
        ),
    ],
)
def test_allocation(changes: Row, expected: tuple[object, ...]) -> None:
    row = one(**changes)
    assert (row["processors"], row["node_count"], row["exec_hosts"]) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (None, None)),
        ({"RequestGPUs": 1}, (1, None)),
        ({"GPUsProvisioned": 2, "RequestGPUs": 1}, (2, None)),
        ({"GPUsProvisioned": 0}, (0, None)),
        ({"AssignedGPUs": "GPU-c4646e75, GPU-0a"}, (2, None)),
        (
            {"requestgpus": 1, "MachineAttrGPUs_DeviceName0": "NVIDIA A100-SXM4-40GB MIG 1g.5gb"},
            (1, "NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
        ),
        ({"AssignedGPUs": "GPU-c4", "GPUs_GPU_c4": Raw('[ DeviceName = "Tesla V100"; Id = "GPU-c4" ]')}, (1, "Tesla V100")),
    ],
)
def test_gpus(changes: Row, expected: tuple[object, ...]) -> None:
    row = one(**changes)
    assert (row["gpu_count"], row["gpu_model"]) == expected


def test_memory_and_what_is_asked_for() -> None:
    row = one(ResidentSetSize=2000, ResidentSetSize_RAW=1900, ImageSize=5000, RequestMemory=Raw("Foo"), MemoryProvisioned=2)
    assert (row["memory_real_kib"], row["memory_virtual_kib"], row["memory_requested_kib"]) == (1900, 5000, 2048)
    assert one(RequestMemory=3, MemoryProvisioned=4)["memory_requested_kib"] == 3072


def test_accounts_factor_and_resources() -> None:
    row = one(AcctGroup="g", AccountingGroup="h.alice", MachineAttrApelScaling0=1.5, RequestGPUs=Raw("Foo"), FooUsage=Raw("Foo"))
    assert (row["group_name"], row["host_factor"], row["wall_duration_s"]) == ("g", 1.5, 1000)
    assert "Foo" not in str(row["resources"])
    assert one(AccountingGroup="group_atlas.prod.alice")["group_name"] == "group_atlas.prod"
    assert one(AccountingGroup="alice")["group_name"] is None
    row = one(MachineAttrApelSpecs0=Raw("[ HEPSPEC = 10.2; HEPscore23 = 11 ]"))
    assert json.loads(str(row["resources"]))["MachineAttrApelSpecs0"] == {"HEPSPEC": 10.2, "HEPscore23": 11}


@pytest.mark.parametrize(("wall", "seconds"), [(0.5, 0), (1.5, 2), (2.5, 2), (0, 0), (37327.0, 37327)])
def test_wall(wall: float, seconds: int) -> None:
    assert one(RemoteWallClockTime=wall)["wall_duration_s"] == seconds


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"JobStatus": 1}, "idle, still in the queue"),
        ({"JobStatus": 2}, "running, still in the queue"),
        ({"JobStatus": 5}, "held, still in the queue"),
        ({"JobUniverse": 7}, "scheduler universe: it ran on the submit host"),
        ({"JobUniverse": 12, "JobStatus": 5}, "local universe: it ran on the submit host"),
        ({"JobUniverse": 9}, "grid universe: another batch system ran it, and accounts for it"),
        ({"RoutedToJobId": "9.0"}, "routed: its copy in the batch system is the job"),
    ],
)
def test_what_is_skipped(changes: Row, expected: str) -> None:
    assert skipped(**changes) == expected


def test_ads_that_are_no_jobs_are_told_by_their_banner() -> None:
    banner = b'*** Offset = 0 ClusterId = 7 ProcId = 0 Owner = "alice" CompletionDate = 1700001100\n'
    epoch = b"*** EPOCH ClusterId=7 ProcId=0 RunInstanceId=0\n"
    parsed = parse(long_form() + epoch + long_form() + banner + long_form() + b"*** STARTD Offset = 5\n" + banner)
    assert parsed.records.num_rows == 1
    assert parsed.skipped == {
        "one attempt of a job, which the job's own ad counts": 1,
        "the ad of no job": 1,
        "a banner without an ad": 1,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"JobStatus": None}, "JobStatus is missing"),
        ({"JobStatus": 8}, "JobStatus is none that there is"),
        ({"ClusterId": None}, "ClusterId is missing"),
        ({"ProcId": -1}, "ProcId is negative"),
        ({"GlobalJobId": None}, "GlobalJobId is missing"),
        ({"CompletionDate": None, "EnteredCurrentStatus": 0}, "neither CompletionDate nor EnteredCurrentStatus"),
        ({"CompletionDate": -1}, "CompletionDate is impossible"),
        ({"QDate": LAST_INSTANT + 1}, "QDate is impossible"),
        ({"JobStartDate": 1_700_002_000}, "ended before it started"),
        ({"RemoteWallClockTime": None}, "RemoteWallClockTime is missing"),
        ({"RemoteWallClockTime": -1.0}, "RemoteWallClockTime is impossible"),
        ({"RemoteWallClockTime": 2e9}, "RemoteWallClockTime is impossible"),
        ({"RemoteUserCpu": 1e300}, "RemoteUserCpu is impossible"),
    ],
)
def test_rejects(changes: Row, expected: str) -> None:
    assert expected in reason(long_form(**changes))
    assert expected in reason(as_json(**changes), JSON_PARSER)


def test_damage_costs_only_itself() -> None:
    banner = b"*** Offset = 0 ClusterId = 7\n"
    good = long_form() + banner
    for bad in (
        b"\0" * 50 + b"\n",
        b'A = "open\nB\n',
        long_form()[:-20] + b"\n=\n",
        long_form() + long_form(GlobalJobId="x#8.0#1"),
    ):
        parsed = parse(good + bad + banner + good)
        assert (parsed.records.num_rows, len(parsed.rejects)) == (2, 1), bad
    assert "cut short" in reason(long_form()[:-1])
    assert "is not JSON" in reason(b'{"a": }', JSON_PARSER)


def test_recognised() -> None:
    for path in (*PER_JOB_FILES, ADS / "synthetic.history", ADS / "chtc-condor_q-long-9.9.0.ad"):
        assert PARSER.recognises(path.read_bytes())
    assert JSON_PARSER.recognises((ADS / "jlab-condor_q-8.8.10.json").read_bytes())
    for path in SAMPLES.rglob("*"):
        if path.is_file() and path.parent.parent.name != "htcondor" and path.parent.name != "htcondor":
            head = path.read_bytes()[:16384]
            assert not PARSER.recognises(head), path
            assert not JSON_PARSER.recognises(head), path
            assert not PER_JOB.recognises(head), path


HISTORY = (ADS / "synthetic.history").read_bytes() + long_form(ProcId=1) + b"\n" + long_form(JobStatus=5) + b"\n" + long_form()
DOCUMENT = b"[\n" + b",\n".join(as_json(ProcId=n, RequestMemory=Raw("Foo")) for n in range(3)) + b"\n]\n"


def read_in_pieces(data: bytes, size: int, parser: UnitParser) -> tuple[list[Row], list[tuple[int, str]], Counter[str]]:
    records: list[Row] = []
    rejects: list[tuple[int, str]] = []
    skips: Counter[str] = Counter()
    for block in read_blocks(io.BytesIO(data), parser.framing, block_bytes=size):
        parsed = parser.parse_block(block, SOURCE)
        records += parsed.records.to_pylist()
        rejects += [(reject.offset, reject.reason) for reject in parsed.rejects]
        skips += Counter(parsed.skipped)
    return records, rejects, skips


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000))
def test_the_same_records_however_it_is_cut(size: int) -> None:
    for data, parser in ((HISTORY, PARSER), (DOCUMENT, JSON_PARSER)):
        assert read_in_pieces(data, size, parser) == read_in_pieces(data, 1 << 20, parser)


EDITS = st.lists(
    st.tuples(
        st.integers(0, len(HISTORY)),
        st.integers(0, 40),
        st.sampled_from(
            [b"", b"\n", b"\n\n", b"\n*** ", b"=", b'"', b"\\", b"\0", b"\xff", b"[", b"{", b"1e999", b"-1", b"undefined"]
        )
        | st.binary(max_size=4),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=FUZZ)
@given(EDITS, st.sampled_from([(HISTORY, PARSER), (DOCUMENT, JSON_PARSER)]))
def test_no_damage_crashes_it_or_loses_a_unit(edits: list[tuple[int, int, bytes]], form: tuple[bytes, UnitParser]) -> None:
    data, parser = form
    for at, length, piece in edits:
        data = data[: at % len(data)] + piece + data[at % len(data) + length :]
    parsed = parse(data, parser)
    assert not any("does not foresee" in reject.reason for reject in parsed.rejects)
