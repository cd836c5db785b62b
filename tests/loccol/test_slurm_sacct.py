"""The sacct parser against values that other programs worked out from the same rows, and its rules one by one.

Where a value differs from what the program expects that the sample is from:

| sample       | field, and there          | here              | why                                                           |
|--------------|---------------------------|-------------------|---------------------------------------------------------------|
| apel         | cpu: CPUTimeRAW           | null              | processors times wallclock is not CPU time used               |
| apel         | `.batch` rows: records    | parts             | a step is part of its job; beside it, it would count twice    |
| apel-bad     | memory 0: error           | part, no memory   | 0 is how a step without a sample looks                        |
| apel-bad     | CPUTimeRAW -16: error     | part              | the field is not read                                         |
| apel-states  | 6 of 14 rows are records  | parts, skips      | no user, no partition: rows of steps whose ids lost `.batch`  |
| xdmod        | 5692623: 0 nodes, 0 CPUs  | 2 nodes, null     | NodeList names two; 0 is null                                 |
| xdmod        | unknown state: skipped    | reject            | it may be read again once the state is known                  |
| xdmod        | arrays `[1-3]`: elements  | one record        | one row is one run; the elements it lists are in the key      |
| cirrus       | 18853: dropped            | never_started     | cancelled before it started                                   |
| sonar        | CPU without the seconds of MM:SS.mmm | with them |                                                             |
| gc3pie       | 102, 104 to 107: cpu 0    | null              | 66 s of wallclock without any CPU time: nothing was gathered  |
| gc3pie       | 108: relative times       | reject            | `4 Sep 11:18` has no year                                     |
| ceems        | mem 320.5G: 320G          | not read          | RUNNING; `resources` has it as it stands                      |
| bart         | cpu 0                     | null              | UserCPU alone, and 0                                          |
| bart         | second row: skipped       | part of the first | it has neither user nor partition                             |
| reportseff   | read                      | reject            | no Start and End in the list: read here with such added       |
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import json
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchacct.collector import Collector, collect_once
from batchacct.model import JOB_STATES, whole_key
from batchacct.parsing import Block, Completed, Parsed, Source, Whole
from batchacct.parsing.reading import read_blocks
from batchacct.store import Store
from loccol.slurm_sacct import PARSER
from loccol.slurm_sacct_framing import GroupFraming
from loccol.slurm_sacct_layout import RECOMMENDED, header_of, headers
from loccol.slurm_steps import COMPLETION
from tests.loccol.sacct_samples import NAMES, SAMPLES, sample

CAREFUL = dataclasses.replace(PARSER, fast_lane=None)
Row = dict[str, object]


def source(zone: str = "UTC") -> Source:
    return Source("sacct", site="SITE", cluster="main", zone=ZoneInfo(zone))


def parse(data: bytes, zone: str = "UTC") -> Parsed:
    return PARSER.parse_block(Block(data, 0), source(zone))


def stored(batch: pa.RecordBatch) -> list[Row]:
    """Rows as a store gives them: instants as Unix seconds."""
    return [{name: _seconds(value) for name, value in row.items()} for row in batch.to_pylist()]


def _seconds(value: object) -> object:
    return int(value.timestamp()) if isinstance(value, dt.datetime) else value


def rows(data: bytes, zone: str = "UTC") -> list[Row]:
    return stored(parse(data, zone).records)


def by_id(name: str, zone: str = "UTC") -> dict[object, Row]:
    found = rows(sample(name), zone)
    return {row["lrms_job_id"]: row for row in found}


def reasons(data: bytes) -> list[str]:
    return [reject.reason for reject in parse(data).rejects]


def values(row: Row, *names: str) -> tuple[object, ...]:
    return tuple(row[name] for name in names)


def usage(part: Row) -> Row:
    found: Row = json.loads(str(part["usage"]))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_unit_is_something(name: str) -> None:
    data = sample(name)
    parsed = parse(data)
    assert parsed.units == len(list(GroupFraming().spans(data)))
    assert {row["state"] for row in stored(parsed.records)} <= set(JOB_STATES)


OUTCOMES = {
    "apel-tests": (4, 4, 0, 0),
    "apel-tests-bad": (0, 3, 0, 2),
    "apel-tests-states": (0, 9, 5, 0),
    "bart-tests": (1, 0, 1, 0),
    "ceems-tests": (1, 0, 2, 0),
    "gc3pie-tests": (9, 0, 2, 1),
    "issue-apel-114": (2, 0, 0, 0),
    "issue-auditor-1976": (1, 0, 1, 0),
    "issue-reportseff-25": (0, 0, 1, 4),
    "issue-slurm-mail": (1, 0, 1, 1),
    "reportseff-tests": (0, 0, 1, 12),
    "safe-cirrus-tests": (29, 0, 44, 0),
    "safe-oxford-tests": (53, 0, 1, 0),
    "slurm2sql-tests-1": (1, 0, 2, 0),
    "slurm2sql-tests-2": (1, 0, 2, 0),
    "sonar-tests": (59, 0, 64, 0),
    "vcell-tests-multistep": (0, 0, 1, 1),
    "vcell-tests-states": (0, 0, 1, 6),
    "xdmod-tests": (4, 0, 0, 0),
    "xdmod-tests-arrays": (6, 0, 0, 0),
    "xdmod-tests-nonended": (0, 0, 2, 0),
    "xdmod-tests-unknown-state": (0, 0, 0, 2),
    "xdmod-tests-utf8": (1, 0, 0, 0),
}
"""Records, parts, skipped and rejected units."""


@pytest.mark.parametrize("name", NAMES)
def test_outcomes(name: str) -> None:
    parsed = parse(sample(name))
    skipped = sum(parsed.skipped.values())
    assert (parsed.records.num_rows, parsed.parts.num_rows, skipped, len(parsed.rejects)) == OUTCOMES[name]


def test_apel() -> None:
    jobs = by_id("apel-tests")
    columns = ("user_name", "group_name", "wall_duration_s", "cpu_duration_s", "node_count", "processors", "queue", "exec_hosts")
    assert {number: values(row, *columns) for number, row in jobs.items()} == {
        "1000": ("dteam005", "dteam", 2, None, 1, 1, "prod", '["1*cert-40"]'),
        "5940815": ("user1", "group1", 177896, 747636, 1, 8, "partition", '["8*wn1"]'),
        "5961074": ("user2", "group2", 4188, 4158, 1, 1, "partition", '["1*wn2"]'),
        "5979785": ("user3", "group3", 205, 66, 1, 1, "partition", '["1*wn3"]'),
    }
    parts = stored(parse(sample("apel-tests")).parts)
    assert [(p["join_id"], p["kind"], *values(usage(p), "step", "memory_real_kib", "memory_virtual_kib")) for p in parts] == [
        ("278952", "step", "batch", 449024, 1567524),
        ("297720", "step", "batch", 3228, 23820),
        ("321439", "step", "batch", 770728, 1468006),
        ("320816", "step", "batch", 1325232, 2327838),
    ]


def test_apel_bad_and_states() -> None:
    assert reasons(sample("apel-tests-bad")) == [
        "MaxRSS is no amount of memory: a number and one of K, M, G, T, P is due",
        "the step ended before it started",
    ]
    named = sample("apel-tests-states").replace(b"|batch|||", b"|batch|u|g|").replace(b"|16||", b"|16|q|")
    found = rows(named)
    assert [row["state"] for row in found] == [
        *("cancelled", "completed", "failed", "node_fail", "preempted", "timeout", "node_fail", "timeout", "unknown")
    ]
    assert parse(named).skipped == {"a job that has not ended": 5}
    assert [row["memory_real_kib"] for row in rows(sample("issue-apel-114"))] == [None, None]


def test_xdmod() -> None:
    jobs = by_id("xdmod-tests")
    columns = ("submit_at", "start_at", "end_at", "wall_duration_s", "node_count", "processors", "gpu_count", "state")
    assert {number: values(row, *columns) for number, row in jobs.items()} == {
        "4103947": (1435327020, 1435460150, 1435719350, 259200, 32, 256, None, "timeout"),
        "4107166": (1435348285, 1435504489, 1435756673, 252184, 3, 36, None, "cancelled"),
        "4107219": (1435350142, 1435665844, 1435716293, 50449, 4, 48, None, "completed"),
        "5692623": (1470031268, 1470035049, 1470035049, 0, 2, None, 2, "completed"),
    }
    first = jobs["4103947"]
    assert values(first, "exit_code", "exit_signal", "user_id", "project") == (1, None, 192837, "anon")
    assert first["memory_requested_kib"] == 256 * 3000 * 1024
    assert jobs["4107166"]["memory_requested_kib"] == 3 * 48000 * 1024
    assert json.loads(str(first["resources"])) == {"billing": 256, "cpu": 256, "mem": "3000M", "node": 32, "qos": "qos"}
    assert len(json.loads(str(first["exec_hosts"]))) == 32
    assert rows(sample("xdmod-tests-utf8"))[0]["job_name"] == "aàb"
    arrays = rows(sample("xdmod-tests-arrays"))
    assert [row["array_index"] for row in arrays] == [100, None, None, None, None, None]
    assert {row["join_id"] for row in arrays} == {"4103947"}
    assert len({row["record_key"] for row in arrays}) == 6


def test_cirrus() -> None:
    jobs = {row["lrms_job_id"] if row["array_index"] is None else f"{row['lrms_job_id']}_{row['array_index']}": row
            for row in rows(sample("safe-cirrus-tests"), "Europe/London")}  # fmt: skip
    unstarted = jobs.pop("18853")
    assert values(unstarted, "state", "start_at", "wall_duration_s", "processors") == ("never_started", None, None, None)
    with (SAMPLES / "safe-cirrus-tests.expected.csv").open(encoding="utf-8", newline="") as lines:
        expected = list(csv.DictReader(lines))
    assert {row["JobID"] for row in expected} == set(jobs)
    for due in expected:
        job = jobs[due["JobID"]]
        resources = json.loads(str(job["resources"]))
        names = ("user_name", "group_name", "project", "queue", "job_name")
        assert values(job, *names) == tuple(due[name] for name in ("User", "Group", "Account", "Partition", "JobName"))
        numbers = ("submit_at", "start_at", "end_at", "wall_duration_s", "processors", "node_count")
        assert values(job, *numbers) == tuple(
            int(due[name]) for name in ("Submit", "Start", "End", "Elapsed", "AllocCPUS", "AllocNodes")
        )
        assert (resources["qos"], resources["billing"]) == (due["QOS"], int(due["AllocTRESbilling"]))
        assert int(resources["mem"].removesuffix("M")) << 20 == int(due["AllocTRESmem"])


def test_sonar() -> None:
    with (SAMPLES / "sonar-tests.expected.csv").open(encoding="utf-8", newline="") as lines:
        expected = list(csv.DictReader(lines))
    jobs = {row["lrms_job_id"] if row["array_index"] is None else f"{row['lrms_job_id']}_{row['array_index']}": row
            for row in rows(sample("sonar-tests"), "Europe/Oslo")}  # fmt: skip
    memory: Counter[str] = Counter()
    for due in expected:
        if due["step"] and due["max_rss_kib"]:
            memory[due["job_id"]] = max(memory[due["job_id"]], int(due["max_rss_kib"]))
    ended = [due for due in expected if not due["step"] and due["end"] and due["state"] not in ("RUNNING", "PENDING")]
    assert len(ended) == len(jobs)
    for due in ended:
        job = jobs[due["job_id"]]
        if job["state"] == "never_started":
            assert due["elapsed_s"] in ("", "0")
            continue
        start, end = (int(dt.datetime.fromisoformat(due[name]).timestamp()) for name in ("start", "end"))
        assert values(job, "start_at", "end_at", "wall_duration_s") == (start, end, int(due["elapsed_s"]))
        assert job["cpu_duration_s"] == (round(float(due["cpu_s_here"])) if float(due["cpu_s_here"]) else None)
        assert job["memory_real_kib"] == (memory[due["job_id"]] or None)
        assert job["memory_requested_kib"] == int(due["req_mem_kib"])
        resources = {pair.rpartition("=")[0]: pair.rpartition("=")[2] for pair in due["alloc_tres"].split(",")}
        assert {name: str(amount) for name, amount in json.loads(str(job["resources"])).items()} == resources
        assert job["gpu_count"] == (int(resources["gres/gpu"]) if "gres/gpu" in resources else None)
    adopted = jobs["1955319"]
    assert values(adopted, "state", "cpu_user_s") == ("timeout", 5 * 86400 + 23 * 3600 + 90)


def test_gc3pie() -> None:
    jobs = by_id("gc3pie-tests")
    columns = ("wall_duration_s", "cpu_duration_s", "memory_real_kib", "memory_virtual_kib")
    assert values(jobs["101"], "processors", *columns) == (1, 487, 305, 1612088, 7889776)
    assert values(jobs["102"], *columns) == (66, None, None, None)
    assert values(jobs["103"], "processors", *columns) == (64, 23, 1, 7884, 49184)
    assert values(jobs["109"], "processors", *columns) == (16, 449, 3490, 74404, 4115516)
    assert {number: jobs[number]["state"] for number in ("104", "105", "106", "107", "111")} == {
        "104": "cancelled", "105": "node_fail", "106": "failed", "107": "timeout", "111": "completed",
    }  # fmt: skip
    assert values(jobs["107"], "exit_code", "exit_signal") == (0, 1)
    assert reasons(sample("gc3pie-tests")) == ["End is no time: YYYY-MM-DDTHH:MM:SS or Unix seconds are due"]


def test_other_samples() -> None:
    (ceems,) = rows(sample("ceems-tests"))
    assert values(ceems, "lrms_job_id", "processors", "start_at", "end_at", "wall_duration_s") == (
        *("1481508", 2, 1676983746, 1676988623, 4920),
    )
    assert ceems["exec_hosts"] == '["compute-0","compute-1","compute-2"]'
    (bart,) = rows(sample("bart-tests"), "Europe/Stockholm")
    assert values(bart, "submit_at", "start_at", "wall_duration_s", "cpu_duration_s", "processors", "node_count") == (
        *(1339515463, 1339540863, 432026, None, 96, 2),
    )
    assert values(bart, "state", "exec_hosts", "user_name") == ("unknown", '["t-cn1014","t-cn1016"]', "1000")
    (auditor,) = rows(sample("issue-auditor-1976"))
    assert values(auditor, "group_name", "user_name", "wall_duration_s", "processors") == ("staff", "stalio", 7, 2)
    for name in ("slurm2sql-tests-1", "slurm2sql-tests-2"):
        (slurm2sql,) = rows(sample(name))
        assert values(slurm2sql, "wall_duration_s", "cpu_duration_s", "memory_real_kib", "memory_virtual_kib", "energy_j") == (
            *(12805, 15, 231092, 2048, 54156.0),
        )
        assert int(str(slurm2sql["start_at"])) - int(str(slurm2sql["submit_at"])) == 1
        assert values(slurm2sql, "command", "job_name") == ("srun test_submit_line", "spawner-jupyterhub")
    (mail,) = rows(sample("issue-slurm-mail"))
    assert values(mail, "start_at", "end_at", "cpu_duration_s", "memory_real_kib", "memory_requested_kib") == (
        *(1649953099, 1649953129, 0, 396, 4 << 20),
    )
    assert reasons(sample("issue-slurm-mail")) == [
        "the row has fewer fields than the header has names: it is cut short, or of another list"
    ]
    oxford = rows(sample("safe-oxford-tests"), "Europe/London")
    assert Counter(row["state"] for row in oxford) == {"completed": 45, "failed": 5, "timeout": 2, "cancelled": 1}
    for name in ("vcell-tests-states", "issue-reportseff-25"):
        assert set(reasons(sample(name))) == {"the list of fields has no Start or no End: add them to sacct's --format"}
    assert set(reasons(sample("xdmod-tests-unknown-state"))) == {"State is no state of Slurm"}


def with_times(name: str) -> bytes:
    """A sample whose list has neither Start nor End, with such: each job a day after the one before, for two months."""
    header, *lines = sample(name).splitlines()
    day = 0
    timed = [header + b"|Start|End"]
    for text in lines:
        day += b".batch|" not in text and b".extern|" not in text and not any(b".%d|" % n in text for n in range(4))
        timed.append(text + b"|2020-01-%02dT00:00:00|2020-03-%02dT00:00:00" % (day, day))
    return b"\n".join(timed)


def test_reportseff() -> None:
    requeued = rows(with_times("issue-reportseff-25"))
    columns = ("state", "wall_duration_s", "cpu_duration_s", "memory_real_kib", "memory_requested_kib", "processors")
    assert [values(row, *columns) for row in requeued] == [
        ("requeued", 3889, 3882, 13633728, 5000 << 10, 1),
        ("requeued", 4473, 4456, 13801976, 5000 << 10, 1),
        ("requeued", 6122, 6104, 13771372, 5000 << 10, 1),
        ("requeued", 2153, 2146, 14782120, 5000 << 10, 1),
    ]
    assert len({row["record_key"] for row in requeued}) == 4
    jobs = {row["lrms_job_id"]: row for row in rows(with_times("reportseff-tests"))}
    names = ("array_index", "processors", "node_count", "cpu_duration_s", "memory_real_kib", "memory_requested_kib", "state")
    assert values(jobs["39889258"], *names) == (1426, 2, 1, 13407, 3501608, 8 << 20, "completed")
    assert values(jobs["8205048"], *names) == (None, 80, 4, 961, 1764224, 625 << 19, "completed")
    assert values(jobs["6196869"], *names) == (None, 720, 20, 38988024, 33824748, 20 * 191846 << 10, "completed")
    assert values(jobs["46044267"], *names) == (None, 12, 1, 960361, 42475564, 48000 << 10, "timeout")


HEADER = "JobID|JobIDRaw|User|Partition|State|Start|End|Elapsed|Suspended|NCPUS|AllocTRES|TotalCPU|MaxRSS|NodeList|JobName"
DEFAULTS = {
    "JobID": "12", "JobIDRaw": "12", "User": "u", "Partition": "q", "State": "COMPLETED", "Start": "2020-01-01T00:00:00",
    "End": "2020-01-01T00:01:40", "Elapsed": "00:01:40", "NCPUS": "4", "TotalCPU": "01:00.500", "NodeList": "a1", "JobName": "n",
}  # fmt: skip


def line(header: str = HEADER, delimiter: str = "|", **fields: str) -> bytes:
    row = DEFAULTS | fields
    return delimiter.join(row.get(name, "") for name in header.split("|")).encode() + b"\n"


def step(name: str, **fields: str) -> bytes:
    job = fields.pop("job", "12")
    return line(**{"JobID": f"{job}.{name}", "JobIDRaw": f"{job}.{name}", "User": "", "Partition": "", "JobName": name} | fields)


def under(*lines: bytes) -> bytes:
    return HEADER.encode() + b"\n" + b"".join(lines)


@pytest.mark.parametrize("delimiter", ["|", ";", "\t", "\x1f", ", ", "^"])
@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize("case", [str, str.lower])
def test_headers(delimiter: str, trailing: bool, case: type[str]) -> None:
    header = case(HEADER).replace("|", delimiter) + delimiter * trailing
    end = (delimiter * trailing).encode()
    data = b"".join(
        text.rstrip(b"\n") + end + b"\r\n" for text in (line(delimiter=delimiter), step("0").replace(b"|", delimiter.encode()))
    )
    (row,) = rows(header.encode() + b"\n" + data)
    assert values(row, "processors", "job_name", "cpu_duration_s") == (4, "n", 60)


def test_what_is_no_header() -> None:
    for text in (
        b"",
        b"JobID",
        b"JobName|State",
        b"JobID|Foo",
        b"JobID|State||",
        b"JobId",
        b"JobID|State," + b"x" * 5000,
        b"\xff|JobID",
    ):
        assert header_of(text) is None
    assert [start for start, _, _ in headers(b"JobID|State\nxJobID\n\nJobID|End\r\n")] == [0, 20]


def test_the_free_text_field_is_put_together_from_both_ends() -> None:
    (row,) = rows(under(line(JobName="a|b||c|")))
    assert row["job_name"] == "a|b||c|"
    middle = "JobID|JobName|State|Start|End|Elapsed"
    (row,) = rows(middle.encode() + b"\n" + line(middle, JobName="|a|b"))
    assert values(row, "job_name", "state") == ("|a|b", "completed")
    two = middle + "|Comment"
    assert "more fields" in reasons(two.encode() + b"\n" + line(two, JobName="a|b"))[0]
    assert "fewer fields" in reasons(under(line()[:40]))[0]
    assert "cut short" in reasons((HEADER + "|").encode() + b"\n" + line())[0]
    apel = sample("apel-tests").splitlines()[0].replace(b"cream_176801680", b"a|b|c")
    assert rows(apel)[0]["job_name"] == "a|b|c"
    xdmod = sample("xdmod-tests").splitlines()[0]
    assert rows(xdmod + b"|x")[0]["job_name"] == "1AbC-2-3|x"
    assert rows(xdmod + b"|")[0]["job_name"] == "1AbC-2-3"


def test_the_recommended_list_needs_no_header() -> None:
    header = RECOMMENDED.replace(",", "|")
    data = line(header, ElapsedRaw="100", ExitCode="0:9", QOS="normal", TRESUsageInTot="cpu=00:01:00,mem=1K", Restarts="1")
    assert PARSER.recognises(data)
    (row,) = rows(data)
    assert rows(header.encode() + b"\n" + data)[0] | {"source_offset": 0} == row
    assert values(row, "exit_signal", "cpu_duration_s", "resources") == (9, 60, '{"qos":"normal"}')
    assert "no header says what the fields are" in reasons(b"12|COMPLETED\n")[0]


def test_a_header_holds_for_the_blocks_behind_it() -> None:
    pieces = [under(line()), line(JobID="13", JobIDRaw="13"), b"", under(line(JobID="14", JobIDRaw="14"))]
    blocks = [Block(piece, 1000 * number) for number, piece in enumerate(pieces)]
    for workers in (1, 2):
        parsed = list(PARSER.parse(blocks, source(), workers=workers))
        assert [row["join_id"] for one in parsed for row in stored(one.records)] == ["12", "13", "14"]
        assert [one.start_offset for one in parsed] == [0, 1000, 2000, 3000]


def test_reading_that_begins_amid_a_file_knows_the_header_by_its_head() -> None:
    block = Block(line(), 5000)
    assert len(next(PARSER.parse([block], source())).rejects) == 1
    head = dataclasses.replace(source(), head=under(line(), line())[:150])
    (parsed,) = PARSER.parse([block], head)
    assert parsed.records.num_rows == 1
    other = Block(sample("xdmod-tests"), 5000)
    assert next(PARSER.parse([other], head)).records.num_rows == 4


def test_a_file_that_grows_behind_its_header(sqlite_store: Store, tmp_path: Path) -> None:
    """Collected again, it is read on from where reading ended, and its header is at its beginning."""
    path = tmp_path / "main.sacct"
    collector = Collector(PARSER, source(), (str(path),))
    for number in range(12, 15):
        more = line(JobID=str(number), JobIDRaw=str(number)) + step("0", job=str(number), MaxRSS="5K")
        with path.open("ab") as file:
            file.write(more if path.stat().st_size else HEADER.encode() + b"\n" + more)
        counts = collect_once(sqlite_store, collector, lambda: 2_000_000_000).counts
        assert (counts["recorded"], counts["rejected"]) == (1, 0)


def test_headers_at_every_turn() -> None:
    """As a file has them that sacct's output is appended to every hour; the fast lane goes on behind each."""
    data = b"".join(under(line(JobID=str(n), JobIDRaw=str(n)), step("0", job=str(n))) for n in range(1, 200))
    parsed = parse(data)
    assert (parsed.records.num_rows, parsed.skipped) == (199, {"header": 199})


def test_steps_of_a_job() -> None:
    batch, first = step("batch", TotalCPU="00:10.200", MaxRSS="1.5M"), step("0", TotalCPU="00:05.300", MaxRSS="0")
    (row,) = rows(under(line(TotalCPU="00:00:00"), batch, first, step("extern", TotalCPU="00:00:00", MaxRSS="700K")))
    assert values(row, "cpu_duration_s", "memory_real_kib", "cpu_user_s") == (16, 1536, None)
    assert json.loads(str(row["resources"])) == {"cpu_us_of_steps": {"0": 5_300_000, "batch": 10_200_000}}
    assert bytes(row["native"]).count(b"\n") == 3  # type: ignore[call-overload]


def test_a_bad_step_costs_itself_alone() -> None:
    parsed = parse(under(line(), step("batch", MaxRSS="20H"), step("0", MaxRSS="5K")))
    assert [row["memory_real_kib"] for row in stored(parsed.records)] == [None]
    assert (parsed.parts.num_rows, len(parsed.rejects)) == (1, 1)
    assert [row["memory_real_kib"] for row in completed(stored(parsed.records), stored(parsed.parts))] == [5]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Start": "None", "State": "CANCELLED by 1", "Elapsed": "00:00:00"}, "never_started"),
        ({"Start": "Unknown", "State": "CANCELLED", "Elapsed": "00:00:00"}, "never_started"),
        ({"Start": "2020-01-01T00:01:40", "State": "CANCELLED", "Elapsed": "00:00:00"}, "never_started"),
        ({"Start": "2020-01-01T00:01:40", "AllocTRES": "cpu=4", "Elapsed": "00:00:00"}, "completed"),
        ({"State": "REQUEUED"}, "requeued"),
        ({"State": "RESIZING"}, "unknown"),
        ({"State": "DEADLINE"}, "timeout"),
    ],
)
def test_states(fields: dict[str, str], expected: str) -> None:
    (row,) = rows(under(line(**fields)))
    assert row["state"] == expected
    if expected == "never_started":
        assert values(row, "start_at", "wall_duration_s", "cpu_duration_s", "processors", "exec_hosts") == (None,) * 5


@pytest.mark.parametrize("fields", [{"State": "RUNNING"}, {"State": "PENDING", "Start": "x"}, {"End": "Unknown"}, {"End": ""}])
def test_what_has_not_ended_is_skipped(fields: dict[str, str]) -> None:
    assert parse(under(line(**fields), step("batch"))).skipped == {"header": 1, "a job that has not ended": 1}
    lone = {name: value for name, value in fields.items() if name != "Start"}
    assert parse(under(step("batch", **lone))).skipped == {"header": 1, "a step that has not ended": 1}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"JobID": "x"}, "JobID is no job id"),
        ({"JobIDRaw": ""}, "JobIDRaw is no job id"),
        ({"State": "FOO"}, "State is no state"),
        ({"Start": "2020-01-01T00:02:00"}, "ended before it started"),
        ({"Start": "yesterday"}, "Start is no time"),
        ({"End": "2100-01-01T00:00:00"}, "End is impossible"),
        ({"Elapsed": "1"}, "Elapsed is no duration"),
        ({"Elapsed": "1-00:02:00"}, "Elapsed is much longer"),
        ({"TotalCPU": "-16"}, "TotalCPU is no duration"),
        ({"AllocTRES": "cpu"}, "AllocTRES is no list"),
        ({"MaxRSS": "x"}, "MaxRSS is no amount"),
        ({"NodeList": "a["}, "NodeList has brackets"),
    ],
)
def test_rejects(fields: dict[str, str], expected: str) -> None:
    data = under(line(JobID="1", JobIDRaw="1"), line(**fields), line(JobID="2", JobIDRaw="2"))
    assert [row["join_id"] for row in rows(data)] == ["1", "2"]
    assert len(reasons(data)) == 1 and expected in reasons(data)[0]


def test_arrays_and_components_join_by_what_sbatch_printed() -> None:
    array = rows(under(line(JobID="12_3", JobIDRaw="15"), line(JobID="12_4", JobIDRaw="12")))
    assert [values(row, "lrms_job_id", "array_index", "join_id", "record_key") for row in array] == [
        ("12", 3, "12", "slurm:main:15:1577836800:1577836900"),
        ("12", 4, "12", "slurm:main:12:1577836800:1577836900"),
    ]
    het = rows(under(line(JobID="12+0", JobIDRaw="12"), line(JobID="12+1", JobIDRaw="13"), step("0", job="12+1", JobIDRaw="13.0")))
    assert [values(row, "lrms_job_id", "array_index", "join_id") for row in het] == [("12+0", None, "12"), ("12+1", None, "12")]


def test_the_hour_that_comes_twice_is_told_by_elapsed() -> None:
    def period(start: str, end: str, elapsed: str, suspended: str = "00:00:00") -> tuple[object, ...]:
        row = line(Start=f"2025-10-26T{start}", End=f"2025-10-26T{end}", Elapsed=elapsed, Suspended=suspended)
        return values(rows(under(row), "Europe/Zurich")[0], "start_at", "end_at", "wall_duration_s")

    first, second = 1761438600, 1761442200
    assert period("02:30:00", "02:40:00", "00:10:00") == (first, first + 600, 600)
    assert period("02:30:00", "02:40:00", "01:10:00") == (first, second + 600, 4200)
    assert period("02:30:00", "02:10:00", "00:40:00") == (first, second - 1200, 2400)
    assert period("02:30:00", "03:30:00", "01:00:00") == (second, second + 3600, 3600)
    assert period("01:30:00", "02:30:00", "01:30:00", "00:30:00") == (first - 3600, second, 5400)


def completed(records: list[Row], parts: list[Row]) -> list[Row]:
    """The records once the rule has been applied to each whole, as the core does."""
    wholes = {str(part["part_key"]) for part in parts}
    for key in sorted(wholes):
        these = [r for r in records if whole_key(str(r["join_id"]), r["array_index"]) == key]  # type: ignore[arg-type]
        whole = Whole(key, tuple(p for p in parts if p["part_key"] == key), tuple(these))
        for made in COMPLETION.complete(whole):
            assert made.origin in records
            records[records.index(dict(made.origin))] = {**made.origin, **made.record}
    return records


def test_lone_steps_join_the_run_they_began_in() -> None:
    first = line(End="2020-01-01T00:01:40", TotalCPU="", State="NODE_FAIL")
    second = line(Start="2020-01-01T00:01:41", End="2020-01-01T00:11:41", Elapsed="00:10:00", TotalCPU="")
    steps = [
        step("batch", TotalCPU="00:01.000", MaxRSS="9K"),
        step("batch", Start="2020-01-01T00:01:41", End="2020-01-01T00:12:20", TotalCPU="00:02.000", MaxRSS="7K"),
        step("0", Start="2020-01-01T00:05:00", End="2020-01-01T00:06:00", TotalCPU="00:04.000", MaxRSS="8K"),
        step("0", Start="2020-02-01T00:05:00", End="2020-02-01T00:06:00", TotalCPU="00:08.000"),
        step("0", job="13", TotalCPU="00:16.000"),
    ]
    parts = stored(parse(under(*steps)).parts)
    assert len({part["record_key"] for part in parts}) == 5
    records = completed(rows(under(first, second)), parts)
    assert [values(row, "cpu_duration_s", "memory_real_kib", "state") for row in records] == [
        (1, 9, "node_fail"),
        (6, 8, "completed"),
    ]
    assert completed(list(records), parts) == records
    assert completed(list(records), parts[::-1]) == records
    assert completed(completed(rows(under(first, second)), parts[:2]), parts) == records


def test_a_lone_step_adds_no_cpu_time_to_a_job_that_has_its_own() -> None:
    (row,) = completed(rows(under(line())), stored(parse(under(step("0", MaxRSS="9K"))).parts))
    assert values(row, "cpu_duration_s", "memory_real_kib", "resources") == (60, 9, None)
    het = completed(rows(under(line(JobID="12+0"))), stored(parse(under(step("0", job="12+1"))).parts))
    assert het[0]["memory_real_kib"] is None


def test_the_completed_record_is_the_origin_amended() -> None:
    (record,) = rows(under(line(TotalCPU="")))
    whole = Whole("12", tuple(stored(parse(under(step("0"))).parts)), (record,))
    (made,) = COMPLETION.complete(whole)
    assert isinstance(made, Completed)
    assert made.origin is record
    assert made.record["record_key"] == record["record_key"] and made.record["logged_at"] == record["logged_at"]
    assert not {"native", "source", "source_offset", "content_hash"} & made.record.keys()


BORNE_BY_ORIGIN = ("native", "content_hash", "source_offset")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([n for n in NAMES if "sonar" not in n and "cirrus" not in n]), st.integers(1, 3000), st.booleans())
def test_records_do_not_depend_on_how_a_file_is_cut(name: str, piece: int, final: bool) -> None:
    """Cut anywhere, the steps that lost their job's row come to it by the rule; the last unit is handed on at once."""
    data = sample(name)
    records: list[Row] = []
    parts: list[Row] = []
    end = 0
    for parsed in PARSER.parse(read_blocks(io.BytesIO(data), PARSER.framing, block_bytes=piece, final=final), source()):
        assert parsed.start_offset == end
        end = parsed.end_offset
        records += stored(parsed.records)
        parts += stored(parsed.parts)
    assert end == len(data)
    whole = parse(data)
    expected = completed(stored(whole.records), stored(whole.parts))
    for row in (*records, *expected):
        for column in BORNE_BY_ORIGIN:
            row[column] = None
    assert _without_doubles(completed(records, parts)) == _without_doubles(expected)


def _without_doubles(records: list[Row]) -> dict[object, Row]:
    return {row["record_key"]: row for row in records}


def test_the_last_group_is_held_back_only_while_there_is_another() -> None:
    framing = GroupFraming()
    job, steps = line(), step("batch") + step("0")
    assert framing.cut(job + steps, final=False) == len(job + steps)
    assert framing.cut(job + steps + job + steps, final=False) == len(job + steps)
    assert framing.cut(job + steps + job + b"13|", final=False) == len(job + steps)
    assert framing.cut(job + job + steps[:-5], final=True) == len(job + job + steps) - 5
    assert framing.cut(job[:-1], final=False) == 0
    assert framing.cut(steps, final=False) == len(steps)


@pytest.mark.parametrize(
    "junk", [b"\0" * 50, b"|" * 5000, b'"', b"\xff" * 9, b"12|" * 9, b"JobID", b"x" * 100_000, b",a" * 50_000, b"[1-"]
)
def test_junk_costs_itself_alone(junk: bytes) -> None:
    data = under(line(), junk + b"\n", line(JobID="13", JobIDRaw="13"), junk)
    parsed = parse(data)
    assert [row["join_id"] for row in stored(parsed.records)] == ["12", "13"]
    assert len(parsed.rejects) == 2


@pytest.mark.parametrize("name", NAMES)
def test_recognised(name: str) -> None:
    assert PARSER.recognises(sample(name)[:16384])


@pytest.mark.parametrize("head", [b"", b"\n", b"x|y|z", b"12|a|b\n", b"JobID\n", b"\0" * 100, b'"JOB_FINISH" "6.0"'])
def test_not_recognised(head: bytes) -> None:
    assert not PARSER.recognises(head)


def test_another_systems_logs_are_not_recognised() -> None:
    for path in SAMPLES.parent.rglob("*"):
        if path.is_file() and path.parent != SAMPLES:
            assert not PARSER.recognises(path.read_bytes()[:16384]), path


def test_a_line_of_ten_megabytes() -> None:
    data = under(line(JobName="x|" * 5_000_000), line(JobID="13", JobIDRaw="13"), b"12|" * 3_000_000 + b"\n")
    parsed = parse(data)
    assert [row["join_id"] for row in stored(parsed.records)] == ["12", "13"]
    assert len(parsed.rejects) == 1
