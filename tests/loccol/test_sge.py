"""The SGE parser's careful lane, against values that other programs and hands worked out from the same lines.

Where the numbers differ, they do so for a reason:

| sample                          | here                  | there                  | because                                     |
|---------------------------------|-----------------------|------------------------|---------------------------------------------|
| apel-tests 3                    | wall 20365            | APEL 20366             | durations are rounded down                  |
| apel-tests-uge82                | end 1412933085        | APEL 1412933086        | instants are floored (SAFE and XDMoD too)   |
| apel-tests                      | memory_real ru_maxrss | APEL mem x 2^20        | mem is an integral over time, no memory     |
| apel-tests, memory_virtual      | KiB                   | APEL bytes             | the field is bytes                          |
| apel-tests 1, 3, 4              | 1 node                | APEL 0                 | a serial job has one host                   |
| PE jobs with more than one slot | node_count null       | derived names one host | their one record names the master's alone   |
| pretty 6, 7; psmn 5, 6          | skipped               | derived: start 0       | never started, and no time is in the record |
| pretty 1                        | waits                 | derived: a record      | a task's record without its master's        |
| safe-tests-sge6 12, 13          | one job, CPU summed   | SAFE leaves out 12     | the task's CPU is not in the master's       |
| pretty 9 to 11                  | maxvmem               | upstream: x 1000       | the field is bytes in all versions          |
"""

from __future__ import annotations

import csv
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal

import pytest

from batchacct.model import JOB_STATES
from batchacct.parsing import Part, Reject, Skip
from loccol.sge import PARSER, REPORTED_JOB, parse_unit, recognise
from loccol.sge_category import Limits, request_of
from loccol.sge_colon import HEAD, MOST_FIELDS, TAIL
from loccol.sge_runs import TASK_NOT_STARTED, TIMELESS, state_of
from tests.loccol.sge_samples import SAMPLES, SOURCE, job, lines, parse, rows, sample, wholes

GPUS = "xdmod-tests-uge.acct"
PLAIN = lines("safe-tests-uge862.acct")[0]
NAMES = (*HEAD, "category", *TAIL)


def edited(line: bytes = PLAIN, **fields: bytes) -> bytes:
    """The line with other values in some fields, by name."""
    tokens = line.split(b":")
    for name, value in fields.items():
        tokens[NAMES.index(name)] = value
    return b":".join(tokens)


def reason(unit: bytes) -> str:
    with pytest.raises(Reject) as refused:
        parse_unit(unit, SOURCE)
    return refused.value.reason


def skip(unit: bytes) -> str:
    outcome = parse_unit(unit, SOURCE)
    assert isinstance(outcome, Skip)
    return outcome.reason


def state(**fields: bytes) -> object:
    return job(edited(**fields))["state"]


def test_every_value_of_one_record() -> None:
    [row] = parse(lines("apel-tests-uge82.acct")[0]).records.to_pylist()
    known = {name: value for name, value in row.items() if value is not None}
    assert isinstance(known.pop("content_hash"), int)
    assert known.pop("native") == lines("apel-tests-uge82.acct")[0]
    assert {name: str(known.pop(name)) for name in ("submit_at", "start_at", "end_at", "logged_at")} == {
        "submit_at": "2014-10-10 09:21:00+00:00",
        "start_at": "2014-10-10 09:21:05+00:00",
        "end_at": "2014-10-10 09:24:45+00:00",
        "logged_at": "2014-10-10 09:24:45+00:00",
    }
    assert known == {
        "record_key": "sge:cell:3872561:0:1412932860:1412932865:1412933085",
        "site": "SITE",
        "cluster": "cell",
        "lrms": "SGE",
        "lrms_job_id": "3872561",
        "join_id": "3872561",
        "user_name": "atlas235",
        "group_name": "atlas",
        "queue": "grid.q",
        "submit_host": "grid-cream-02.hpc.susx.ac.uk",
        "exec_hosts": '["1*node101.cm.cluster"]',
        "wall_duration_s": 220,
        "cpu_duration_s": 13,
        "processors": 1,
        "node_count": 1,
        "memory_real_kib": 124411904 // 1024,
        "memory_virtual_kib": 1291231232 // 1024,
        "exit_code": 0,
        "state": "completed",
        "resources": '{"mem":0.803193,"io":0.084159}',
        "job_name": "cream_814542935",
        "command": "qsub /tmp/cream_814542935",
        "source": "sge-test",
        "source_offset": 0,
        "parser": "sge/1",
    }


def derived() -> list[dict[str, str]]:
    with (SAMPLES / "derived.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def whole(seconds: str) -> int | None:
    return int(Decimal(seconds)) or None


def rounded(seconds: str) -> int:
    return int(Decimal(seconds).to_integral_value(ROUND_HALF_EVEN))


@pytest.mark.parametrize("expected", derived(), ids=lambda e: f"{e['file']}:{e['line']}")
def test_values_worked_out_by_hand(expected: dict[str, str]) -> None:
    line = sample(expected["file"]).split(b"\n")[int(expected["line"]) - 1]
    assert line.count(b":") + 1 == int(expected["tokens"])
    if expected["start"] == "0":
        assert skip(line) == TIMELESS
        return
    if expected["pe_taskid"] != "NONE":
        assert [part["kind"] for part in parse(line).parts.to_pylist()] == ["task"]
        assert rows(line) == []
        return
    row = job(line)
    slots = int(expected["slots"])
    assert [row[c] for c in ("lrms_job_id", "queue", "user_name", "group_name")] == [
        expected[c] for c in ("job", "queue", "owner", "group")
    ]
    assert row["array_index"] == (int(expected["task"]) or None)
    assert [row[c] for c in ("submit_at", "start_at", "end_at")] == [whole(expected[c]) for c in ("submit", "start", "end")]
    assert row["wall_duration_s"] == int(Decimal(expected["ru_wallclock"]))
    assert row["cpu_duration_s"] == rounded(expected["cpu"])
    assert (row["processors"], row["node_count"]) == (slots, 1 if slots == 1 else None)
    assert row["exec_hosts"] == (f'["1*{expected["host"]}"]' if slots == 1 else f'["{expected["host"]}"]')
    assert row["memory_virtual_kib"] == (int(Decimal(expected["maxvmem"])) // 1024 or None)
    assert row["exit_code"] == int(expected["exit"])
    assert (row["state"] == "completed") == (expected["failed"] == expected["exit"] == "0")


def test_safe_finds_the_same() -> None:
    with (SAMPLES / "safe-tests.expected.csv").open(newline="") as file:
        due = list(csv.DictReader(file))
    assert len(due) == 133
    for name in ("safe-tests-sge6.acct", "safe-tests-uge862.acct"):
        found = {
            tuple(row[c] for c in ("lrms_job_id", "array_index", "user_name", "group_name", "queue", "processors", "submit_at",
                                   "start_at", "end_at", "wall_duration_s", "project", "job_name"))
            for row in rows(sample(name))
        }  # fmt: skip
        expected = {
            (e["SgeId"], int(e["Task"]) or None, e["UserName"], e["GroupName"], e["Queue"], int(e["Slots"]), int(e["Submitted"]),
             int(e["Started"]), int(e["Completed"]), int(float(e["Wall"])), e["Project"].replace("NONE", "") or None, e["JobName"])
            for e in due if e["file"] == name
        }  # fmt: skip
        assert found == expected
    cpu = {(e["SgeId"], int(e["Task"]) or None): rounded(e["CPUTime"]) for e in due if e["file"].endswith("uge862.acct")}
    of_ours = {(r["lrms_job_id"], r["array_index"]): r["cpu_duration_s"] for r in rows(sample("safe-tests-uge862.acct"))}
    assert of_ours == cpu


def test_apel_finds_the_same() -> None:
    found = [
        [row[c] for c in ("lrms_job_id", "user_name", "group_name", "wall_duration_s", "cpu_duration_s", "start_at", "end_at",
                          "memory_virtual_kib", "processors")]
        for line in lines("apel-tests.acct")[:4]
        for row in rows(line)
    ]  # fmt: skip
    assert found == [
        ["43", "dteam041", "dteam", 1, 0, 1200093294, 1200093295, 30171136 // 1024, 1],
        ["6972834", "csfiylfl", "csic", 180001, 1026707, 1318560254, 1318740255, 821923840 // 1024, 9],
        ["1630912", "pilatl10", "pilatl", 20365, 1273, 1358190002, 1358210574, 1546682368 // 1024, 1],
        ["3294013", "prdatl26", "prdatl", 359, 51, 1404169049, 1404169408, 5944487936 // 1024, 1],
    ]
    assert [job(line)["project"] for line in lines("apel-tests.acct")[:4]] == [None, "por_defecto", "pilatl.p", None]


def test_xdmod_finds_the_same() -> None:
    row = job(lines(GPUS)[1])
    assert [row[c] for c in ("submit_at", "start_at", "end_at")] == [1652111621, 1652111622, 1652124460]
    assert (row["gpu_count"], row["processors"], row["wall_duration_s"], row["cpu_duration_s"]) == (1, 16, 12837, 198790)
    assert row["resources"] == (
        '{"request":{"gpu":"1","m_mem_free":"1.000G"},"granted":{"gpu":"1","m_mem_free":"1G"},'
        '"mem":1680849.506333,"io":0.490467,"ioops":954601}'
    )
    first, second = (job(line) for line in lines("xdmod-tests-sge.acct"))
    assert first["record_key"] == second["record_key"] == job(lines(GPUS)[0])["record_key"]
    assert '"mem_free":"1.000T","s_vmem":"1.024t"' in str(second["resources"])


def test_gbsc_counts_the_same() -> None:
    found = rows(sample("gbsc_utils-tests.acct"))
    assert len(found) == 133
    assert sum("mergesplit" in str(row["job_name"]) for row in found) == 38
    assert sum("L8" in str(row["job_name"]) for row in found) == 28
    assert {row["user_name"] for row in found} == {"bettingr", "nhammond", "dsalins"}
    starts = Counter((int(str(row["start_at"])) > 1375813269) - (int(str(row["start_at"])) < 1375813269) for row in found)
    assert (starts[0], starts[1], starts[-1]) == (4, 3, 126)


def test_wyntonquery_counts_the_same() -> None:
    parsed = parse(sample("wyntonquery-sge819.acct"))
    found = rows(sample("wyntonquery-sge819.acct"))
    assert parsed.units == 1004
    assert parsed.skipped == {"comment": 4, TIMELESS: 1}
    assert len(found) == len({row["record_key"] for row in found}) == 999
    assert sum(row["array_index"] is not None for row in found) == 669
    assert (parsed.records.num_rows, parsed.parts.num_rows) == (729, 270)
    assert Counter(row["state"] for row in found)["timeout"] == 2
    cpu = Counter(rounded(line.split(b":")[36].decode()) for line in lines("wyntonquery-sge819.acct"))
    assert Counter(row["cpu_duration_s"] for row in found) == cpu - Counter({0: 1})


def test_gruber_finds_the_same() -> None:
    row = job(lines("misc.acct")[3])
    assert [row[c] for c in ("queue", "exec_hosts", "submit_host", "group_name")] == [
        "vcontrol.q", '["1*maui"]', "maui", "sgegroup",
    ]  # fmt: skip
    assert [row[c] for c in ("exit_code", "exit_signal", "state", "array_index")] == [137, 9, "cancelled", None]
    assert row["resources"] == '{"request":{"h_stack":"16M","s_stack":"16M"},"mem":233.209213,"io":0.796364}'


def test_colons_within_a_field_are_found_again() -> None:
    unescaped, replaced, command = (
        lines("pretty-accounting-tests.acct")[4], lines("safe-tests-uge862.acct")[28], lines("pretty-accounting-tests.acct")[3],
    )  # fmt: skip
    assert '"cpu":"24:00:00"' in str(job(unescaped)["resources"])
    assert "\ufffd" in replaced.decode()
    assert ":" in str(job(replaced)["resources"]).partition('"mem"')[0]
    assert str(job(command)["command"]).startswith("qsub -N jsv-test -l h_rt=900,h_vmem=1G -binding linear:1 -b y")
    for mark in (b"\xff", b"\xef\xbf\xbd", b"\xc3\xbf"):
        request = b"-l h_rt=24" + mark + b"00" + mark + b"00"
        assert job(edited(category=request))["resources"] == job(edited(category=b"-l h_rt=24:00:00"))["resources"]


@pytest.mark.parametrize("count", [39, 43, 44, 45, 46, 52, 53, 54, 55, 74])
def test_every_version_is_read(count: int) -> None:
    tokens = PLAIN.split(b":") + [b"0"] * 19
    row = job(b":".join(tokens[:count]))
    assert (row["lrms_job_id"], row["cpu_duration_s"], row["start_at"]) == ("1", 120, 1543336554)
    assert row.get("memory_virtual_kib") == (143335424 // 1024 if count > 39 else None)
    assert row.get("command") == (None if count < 52 else "qsub /exports/applications/gridengine/ge-8.6.2/examples/jobs/worker.sh")
    assert ("ioops" in str(row["resources"])) == (count >= 54)


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (b"# Version: 8.6.2", "comment"),
        (b"# ", "comment"),
        (b"x", "a line of one character"),
        (b"1159530010:host_consumable:node01:1159530010::X:slots=1", "event of a reporting file"),
        (edited(start_time=b"0", end_time=b"0", submission_time=b"0"), TIMELESS),
        (edited(start_time=b"0", end_time=b"0", submission_time=b"0", pe_taskid=b"1.node01"), TASK_NOT_STARTED),
    ],
)
def test_what_is_no_job_is_skipped(unit: bytes, said: str) -> None:
    assert skip(unit) == said


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (PLAIN[:100], "a record has at least 39 fields between colons"),
        (b"\0" * 50, "a record has at least 39 fields between colons"),
        (b'{"job_number":4}', "a record has at least 39 fields between colons"),
        (b":".join(PLAIN.split(b":")[:41]), "no iow, pe_taskid and maxvmem follow the category"),
        (b":" * 100_000, f"more than {MOST_FIELDS} fields between colons"),
        (b"1159530010:acct:" + PLAIN, REPORTED_JOB),
        (edited(job_number=b"x"), "job_number (field 5): a whole number is due"),
        (edited(job_number=b"0"), "job_number is impossible: SGE numbers jobs from 1"),
        (edited(slots=b"-1"), "task_number or slots is impossible: negative"),
        (edited(cpu=b"NONE"), "cpu (field 36): a number is due"),
        (edited(cpu=b"9" * 14), "cpu is impossible: more than 1000000000000 s"),
        (edited(start_time=b""), "start_time (field 9): a whole number is due"),
        (edited(end_time=b"0"), "end_time is 0 though the job started"),
        (edited(end_time=b"1543336500"), "the job ended before it started"),
        (edited(start_time=b"4102444800", end_time=b"4102444800"), "start_time is impossible: before 1970 or after 2099"),
        (edited(submission_time=b"-5"), "submission_time is impossible: before 1970 or after 2099"),
        (edited(maxrss=b"x"), "maxrss (after the category): a number is due"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_rejected(unit: bytes, said: str) -> None:
    assert reason(unit) == said


def test_a_job_that_never_started_keeps_what_is_known() -> None:
    never = {"start_time": b"0", "end_time": b"0", "slots": b"0", "failed": b"26"}
    row, other = job(edited(**never)), job(edited(**never, hostname=b"node2"))
    assert (row["state"], row["submit_at"], row["logged_at"]) == ("never_started", 1543336554, 1543336554)
    for column in (
        "start_at",
        "end_at",
        "wall_duration_s",
        "cpu_duration_s",
        "processors",
        "node_count",
        "exec_hosts",
        "exit_code",
    ):
        assert row.get(column) is None, column
    assert row["record_key"] != other["record_key"], "several hosts may have been tried"
    assert isinstance(parse_unit(edited(**never, granted_pe=b"mpi"), SOURCE), dict), "and it is no part"


def test_what_says_nothing_is_null() -> None:
    nothing = edited(qname=b"UNKNOWN", hostname=b"(null)", owner=b"NONE", group=b"", job_name=b"NONE", submit_host=b"NONE",
                     submit_cmd=b"NONE", submission_time=b"0", maxvmem=b"0", maxrss=b"0", ru_maxrss=b"0")  # fmt: skip
    row = job(nothing)
    for column in ("queue", "exec_hosts", "node_count", "user_name", "group_name", "project", "job_name", "submit_host", "command",
                   "submit_at", "memory_virtual_kib", "memory_real_kib", "gpu_count", "exit_signal", "cpu_user_s"):  # fmt: skip
        assert row.get(column) is None, column
    assert job(edited(exit_status=b"4294967295"))["exit_code"] is None
    assert job(edited(cpu=b"-1"))["cpu_duration_s"] is None


def test_project_or_account() -> None:
    assert job(edited(project=b"p", account=b"a"))["project"] == "p"
    assert job(edited(project=b"NONE", account=b"a"))["project"] == "a"
    assert job(edited(project=b"NONE", account=b"sge"))["project"] is None


def test_wall_is_that_of_the_batch_system_where_it_can_be() -> None:
    assert job(edited(ru_wallclock=b"100.9"))["wall_duration_s"] == 100
    assert job(edited(ru_wallclock=b"0.32"))["wall_duration_s"] == 0
    assert job(edited(ru_wallclock=b"0"))["wall_duration_s"] == 120
    assert job(edited(ru_wallclock=b"962"))["wall_duration_s"] == 120, "a sum over eight tasks"


def test_memory_is_measured_in_kib() -> None:
    assert job(edited(maxrss=b"2048", ru_maxrss=b"7"))["memory_real_kib"] == 2
    assert job(edited(maxrss=b"0", ru_maxrss=b"7"))["memory_real_kib"] == 7
    assert job(edited(maxvmem=b"5632.000000"))["memory_virtual_kib"] == 5


@pytest.mark.parametrize(
    ("category", "gpus"),
    [
        (b"-l gpu=2", 2), (b"-q x -l h_rt=1,gpus=4 -pe smp 2", 4), (b"-l ngpus=1", 1), (b"-l gpu=2(0 1)", 2), (b"-l gpu=1.000", 1),
        (b"-l gpu=0", None), (b"-l r_gpu=false", None), (b"-l gpu=TRUE", None), (b"-soft -l gpu=2", None), (b"NONE", None),
        (b"-l", None), (b"-l ,,=", None),
    ],
)  # fmt: skip
def test_gpus_of_the_request(category: bytes, gpus: int | None) -> None:
    assert job(edited(category=category))["gpu_count"] == gpus


def test_limits_of_the_request() -> None:
    asked = "-l h_rt=1:00:00,s_rt=3500,h_cpu=INFINITY,s_cpu=60,h_vmem=1.5G,s_vmem=2500m -soft -l h_rt=5"
    assert request_of(asked).limits == Limits(3500, 60, 1.5 * 1024**3)
    assert request_of("-l h_vmem=3T,h_rt=x").limits == Limits(None, None, 3.0 * 1024**4)


def test_states() -> None:
    assert state() == "completed"
    assert state(exit_status=b"1") == "failed"
    assert state(failed=b"25", exit_status=b"137") == "requeued"
    assert state(failed=b"24") == "requeued"
    assert state(failed=b"15") == "failed"
    killed = {"failed": b"100", "exit_status": b"137"}
    assert state(**killed) == "failed", "who sent the signal is not said"
    assert state(**killed, qdel_info=b"alice@login01") == "cancelled"
    assert state(**killed, category=b"-l h_rt=121") == "timeout"
    assert state(**killed, category=b"-l h_cpu=120") == "timeout"
    assert state(**killed, category=b"-l h_rt=500,h_vmem=100M") == "out_of_memory"
    assert state(**killed, category=b"-l h_rt=500,h_vmem=200M") == "failed"
    assert state(failed=b"37", exit_status=b"137") == "timeout"
    assert state(failed=b"44", exit_status=b"137", category=b"-l h_vmem=100M") == "out_of_memory"
    assert state(qdel_info=b"alice@login01") == "completed"
    assert state(exit_status=b"143", qdel_info=b"alice@login01,root@head") == "cancelled"
    assert state_of(100, 137, "execd@node1", Limits(), slots=1, wall_s=9, cpu_s=1, maxvmem=0) == "timeout"
    assert state_of(100, 137, None, Limits(cpu_s=10), slots=4, wall_s=9, cpu_s=39, maxvmem=0) == "failed"
    assert state_of(100, 137, None, Limits(cpu_s=10), slots=4, wall_s=9, cpu_s=40, maxvmem=0) == "timeout"


def test_states_of_the_samples() -> None:
    found = Counter(row["state"] for path in SAMPLES.glob("*.acct") for row in rows(path.read_bytes()))
    assert found.keys() <= set(JOB_STATES)
    limited = job(next(line for line in lines("safe-tests-uge862.acct") if b":44:137:" in line))
    assert (limited["state"], limited["wall_duration_s"], limited["exit_signal"]) == ("timeout", 9, 9)
    assert job(lines("misc.acct")[2])["state"] == "timeout"


def test_signals_are_those_of_the_job_itself() -> None:
    assert job(edited(failed=b"100", exit_status=b"152"))["exit_signal"] == 24
    assert job(edited(failed=b"0", exit_status=b"152"))["exit_signal"] is None
    assert job(edited(failed=b"100", exit_status=b"255"))["exit_signal"] is None


def test_parallel_jobs_are_parts_even_with_one_slot() -> None:
    outcome = parse_unit(edited(granted_pe=b"pvm"), SOURCE)
    assert isinstance(outcome, Part)
    assert outcome.record == {
        "record_key": "sge:cell:1:0:1543336554:1543336554:1543336674",
        "part_key": "1.0",
        "kind": "master",
        "logged_at": 1543336674,
        "start_at": 1543336554,
        "end_at": 1543336674,
    }
    assert len(wholes(parse(sample("wyntonquery-sge819.acct")))) == 270


def test_it_is_recognised() -> None:
    for path in SAMPLES.glob("*.acct"):
        assert recognise(path.read_bytes()[:16384]), path.name
    assert recognise(b"# Version: 8.6.2\n# \n# DO NOT MODIFY THIS FILE MANUALLY!\n# \n")
    assert not recognise(b"")
    others = [path for path in SAMPLES.parent.rglob("*") if path.is_file() and path not in set(SAMPLES.glob("*.acct"))]
    assert len(others) > 40
    for path in others:
        assert not recognise(path.read_bytes()[:16384]), path.name


def test_the_page_of_the_parser() -> None:
    assert PARSER.label == "sge/1"
    assert PARSER.completion is not None
    assert PARSER.completion.family == "sge"
