"""The LSF parser's careful lane and framing, against values that other programs and hands worked out from the same records.

Where the values differ from what the program expects that the sample is from:

| sample                   | there                 | here          | because                                 |
|--------------------------|-----------------------|---------------|-----------------------------------------|
| hpc-cost-simulator 203   | a job that ran        | never started | the line was edited: its startTime is 0 |
| hpc-cost-simulator 387   | a job                 | a reject      | a field of it is not closed             |
| xdmod 2, after submitExt | shifted values        | as they stand | XDMoD does not skip host usage groups   |
| apel 4, without MPI      | 0 nodes, 0 processors | 1 and 1       | the line says what was allocated        |
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest

from batchacct.model import JOB_STATES
from batchacct.parsing import Block, Parsed, Reject, Skip, Source
from loccol.lsf import PARSER, parse_unit
from loccol.lsf_framing import MOST_LINES, LsfFraming, unfold

SAMPLES = Path(__file__).parent.parent / "samples" / "lsf"
SOURCE = Source("lsf-test", site="SITE", cluster="batch")
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)

Row = dict[str, object]


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def parse(data: bytes) -> Parsed:
    return CAREFUL.parse_block(Block(data, 0), SOURCE)


def rows(data: bytes) -> list[Row]:
    return parse(data).records.to_pylist()


def seconds(instant: object) -> int | None:
    if instant is None:
        return None
    assert isinstance(instant, dt.datetime)
    return int(instant.timestamp())


def job(unit: bytes) -> Row:
    outcome = parse_unit(unit, SOURCE)
    assert isinstance(outcome, dict)
    return outcome


def reason(unit: bytes) -> str:
    with pytest.raises(Reject) as refused:
        parse_unit(unit, SOURCE)
    return refused.value.reason


SHORT = (
    b'"JOB_FINISH" "6.0" 1138280267 1 10417 33554434 1 1138280257 0 0 1138280266 "alice001" "alice" "" "" "" "cert-06" "" "" ""'
    b' "" "1138280257.1" 0 1 "cert-10" 64 1.0 "" "/bin/hostname" 0.230000 0.480000 0 0 -1 0 0 9867 10742 0 0 0 -1 0 0 0 0 0 -1'
    b' "" "default" 0 1 "" "" 0 1804 4652 "" "" "" "" 0 "" 0 "" -1 "/group/sub/alice001"'
)


def edited(old: bytes, new: bytes) -> bytes:
    assert SHORT.count(old) == 1, old
    return SHORT.replace(old, new)


STATUS = b'"cert-10" 64 1.0'
EXIT_STATUS = b'"default" 0 1 "" "" 0'
EXIT_INFO = b'"" 0 "" -1 "/group'
CPU = b"0.230000 0.480000"


def ended(status: int, exit_status: int, exit_info: int) -> bytes:
    unit = edited(STATUS, b'"cert-10" %d 1.0' % status)
    unit = unit.replace(EXIT_STATUS, b'"default" %d 1 "" "" 0' % exit_status)
    return unit.replace(EXIT_INFO, b'"" %d "" -1 "/group' % exit_info)


def test_every_value_of_one_record() -> None:
    [row] = rows(SHORT + b"\n")
    known = {name: value for name, value in row.items() if value is not None}
    digest = known.pop("content_hash")
    assert isinstance(digest, int)
    assert known == {
        "record_key": "lsf:batch:1:0:1138280257:1138280266:1138280267",
        "site": "SITE",
        "cluster": "batch",
        "lrms": "LSF",
        "lrms_job_id": "1",
        "join_id": "1",
        "user_name": "alice001",
        "user_id": 10417,
        "group_name": "group",
        "project": "default",
        "queue": "alice",
        "submit_host": "cert-06",
        "exec_hosts": '["1*cert-10"]',
        "submit_at": dt.datetime(2006, 1, 26, 12, 57, 37, tzinfo=dt.UTC),
        "start_at": dt.datetime(2006, 1, 26, 12, 57, 46, tzinfo=dt.UTC),
        "end_at": dt.datetime(2006, 1, 26, 12, 57, 47, tzinfo=dt.UTC),
        "logged_at": dt.datetime(2006, 1, 26, 12, 57, 47, tzinfo=dt.UTC),
        "wall_duration_s": 1,
        "cpu_user_s": 0.23,
        "cpu_system_s": 0.48,
        "cpu_duration_s": 1,
        "processors": 1,
        "node_count": 1,
        "memory_real_kib": 1804,
        "memory_virtual_kib": 4652,
        "exit_code": 0,
        "state": "completed",
        "host_factor": 1.0,
        "command": "/bin/hostname",
        "native": SHORT,
        "source": "lsf-test",
        "source_offset": 0,
        "parser": "lsf/1",
    }


def derived() -> list[dict[str, str]]:
    with (SAMPLES / "derived.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def number(text: str) -> int | None:
    return int(text) if text else None


@pytest.mark.parametrize("expected", derived(), ids=lambda e: f"{e['file']}:{e['line']}")
def test_values_worked_out_from_the_field_table(expected: dict[str, str]) -> None:
    row = job(sample(expected["file"]).split(b"\n")[int(expected["line"]) - 1])
    start = int(expected["startTime"])
    assert row["lrms_job_id"] == expected["jobId"]
    assert row["array_index"] == (int(expected["idx"]) if int(expected["idx"]) > 0 else None)
    assert [row[c] for c in ("user_name", "queue", "project")] == [expected[c] for c in ("userName", "queue", "projectName")]
    assert (row["submit_at"], row["start_at"]) == (int(expected["submitTime"]), start or None)
    assert row["end_at"] == row["logged_at"] == int(expected["eventTime"])
    assert row["wall_duration_s"] == number(expected["wall_s"])
    assert row.get("cpu_duration_s") == (
        int(Decimal(expected["cpu_s"]).to_integral_value(ROUND_HALF_EVEN)) if expected["cpu_s"] else None
    )
    assert row.get("processors") == (int(expected["slots"]) or None)
    if not expected["file"].startswith("epcc"):
        assert row.get("node_count") == (int(expected["nodes"]) or None)
    for column, name in (("memory_real_kib", "maxRMem"), ("memory_virtual_kib", "maxRSwap")):
        assert row[column] == (int(expected[name]) if expected[name] != "-1" else None)
    assert (row["state"] == "completed") == (expected["jStatus"] == "64" and start > 0)
    assert (row["state"] == "never_started") == (start == 0)
    if start:
        assert row["exit_code"] == int(expected["exitStatus"]) // 256


def test_apel_finds_the_same() -> None:
    found = [
        (r["lrms_job_id"], r["user_name"], r["wall_duration_s"], r["cpu_duration_s"], seconds(r["start_at"]),
         seconds(r["end_at"]), r["memory_real_kib"], r["memory_virtual_kib"], r["node_count"], r["processors"])
        for r in rows(sample("apel-tests.acct"))[:3]
    ]  # fmt: skip
    assert found == [
        ("699195", "raortega", 544, 294, 1089406862, 1089407406, 310424, 339112, 1, 1),
        ("436491", "viglen", 16, 2, 1302184004, 1302184020, 2, 25, 2, 16),
        ("31255091", "oops17", 25, 24, 1380043630, 1380043655, 1495304, 0, 1, 1),
    ]


def test_apel_refuses_the_same() -> None:
    parsed = parse(sample("apel-tests-bad.acct"))
    assert [r.reason for r in parsed.rejects] == [
        "field 21 (jobFile): a quoted string is due, an integer was found",
        "the job ended before it started",
    ]
    assert parsed.skipped == {"event JOB_RESIZE": 1}


def test_xdmod_finds_the_same() -> None:
    first, second, third = rows(sample("xdmod-tests.acct"))
    assert [first[c] for c in ("lrms_job_id", "user_name", "queue", "project", "processors", "node_count")] == [
        "404717", "anonuser", "regular", "anonproject", 128, 8,
    ]  # fmt: skip
    assert [first[c] for c in ("wall_duration_s", "exit_code", "memory_real_kib", "memory_virtual_kib")] == [40368, 0, 10725376, 0]
    assert first["exec_hosts"] == (
        '["16*host1201-ib","16*host1234-ib","16*host1235-ib","16*host1236-ib","16*host1257-ib","16*host1270-ib",'
        '"16*host1301-ib","16*host1303-ib"]'
    )
    assert (second["processors"], second["node_count"]) == (8, 4)
    assert "\\x" not in str(third["command"])
    assert not str(third["command"]).isascii()


def test_safe_finds_the_same() -> None:
    found = {
        r["lrms_job_id"]: (
            r["user_name"], r["queue"], r["state"] == "completed", seconds(r["submit_at"]), seconds(r["start_at"]),
            seconds(r["end_at"]), r["wall_duration_s"], round(float(str(r["cpu_user_s"])) + float(str(r["cpu_system_s"])), 6),
        )
        for r in rows(sample("epcc-safe-7.03.acct"))
    }  # fmt: skip
    assert found == {
        "100581": ("testuser", "n32_6", True, 1276596666, 1276596672, 1276596704, 32, 188.571322),
        "100588": ("benzi", "n4_6", True, 1276598233, 1276598239, 1276598301, 62, 99.838819),
        "100619": ("jmht93", "n4_1", False, 1276621188, 1276621193, 1276621225, 32, 0.262957),
        "100622": ("benzi", "n64_6", False, 1276676915, 1276676917, 1276677130, 213, 12236.487704),
        "100630": ("benzi", "n64_12", True, 1276698635, 1276698638, 1276715766, 17128, 1025160.697822),
    }


def test_lsf_slurm_takes_nodes_from_the_allocation() -> None:
    assert {r["lrms_job_id"]: r["node_count"] for r in rows(sample("epcc-safe-7.03.acct"))}["100622"] == 15
    info = b'"" 0 "ncpus=4;slurm_alloc=%s" 0 "" -1 "/group'
    for allocation, nodes in ((b"a1,b[2-4,7]", 5), (b"hapu3", 1), (b"b[4-2]", 1), (b"b[x]", 1), (b"", 1)):
        unit = edited(b'"cert-10"', b'"lsfhost.localdomain"').replace(b'"" 0 "" 0 "" -1 "/group', info % allocation)
        assert job(unit)["node_count"] == nodes


def hpc_key(job_id: object, start: object) -> tuple[str, str]:
    assert isinstance(start, dt.datetime)
    return str(job_id), start.strftime("%Y-%m-%dT%H:%M:%S")


def duration(text: str) -> Decimal:
    """Seconds of `0:01:04.992202` or, with days, `05-15:30:24`."""
    days, _, clock = text.rpartition("-")
    hours, minutes, rest = clock.split(":")
    return ((Decimal(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + Decimal(rest)


def test_hpc_cost_simulator_finds_the_same_but_for_the_two_it_mends() -> None:
    with (SAMPLES / "hpc-cost-simulator.expected.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    found = {hpc_key(r["lrms_job_id"], r["start_at"]): r for r in rows(sample("hpc-cost-simulator.acct")) if r["start_at"]}
    missing = []
    for want in expected:
        row = found.get((want["job_id"], want["start_time"]))
        if row is None:
            missing.append(want["job_id"])
            continue
        assert row["wall_duration_s"] == duration(want["run_time"])
        assert row["processors"] == int(want["num_cores"])
        assert [row["queue"], row["project"]] == [want["queue"], want["project"]]
        assert row["exit_code"] == int(want["exit_status"]) // 256
        assert row["cpu_user_s"] == pytest.approx(float(duration(want["ru_utime"])), abs=1e-9)
        assert row["cpu_system_s"] == pytest.approx(float(duration(want["ru_stime"])), abs=1e-9)
    assert sorted(missing) == ["203", "387"]


TOTALS = {
    "apel-tests.acct": (4, 0, 0, 1129, "614.171169", 19, 1369),
    "epcc-safe-7.03.acct": (5, 0, 0, 17467, "1037685.858624", 134, 1040968),
    "gratia-lsf6-infn.acct": (1150, 52, 52, 266855, "17411.02", 1108, 267692),
    "gratia-lsf7-ou.acct": (5, 0, 0, 100, "1.637746", 5, 100),
    "hpc-cost-simulator.acct": (118, 8, 8, 962426, "79436.249521", 257, 4589718),
    "misc-9.12-10.1.acct": (2, 0, 1, 899, "39.813947", 2, 899),
    "xdmod-tests.acct": (3, 0, 0, 121104, "17383569.87", 264, 10657152),
}


@pytest.mark.parametrize("name", TOTALS)
def test_control_totals(name: str) -> None:
    found = rows(sample(name))
    cpu = sum(
        (Decimal(str(r[c])).quantize(Decimal("1e-6")) for r in found for c in ("cpu_user_s", "cpu_system_s") if r[c] is not None),
        Decimal(0),
    )
    wall = [int(str(r["wall_duration_s"] or 0)) for r in found]
    slots = [int(str(r["processors"] or 0)) for r in found]
    assert (
        len(found),
        sum(r["state"] == "never_started" for r in found),
        sum(r["cpu_duration_s"] is None for r in found),
        sum(wall),
        cpu.normalize(),
        sum(slots),
        sum(w * s for w, s in zip(wall, slots, strict=True)),
    ) == (*TOTALS[name][:4], Decimal(TOTALS[name][4]).normalize(), *TOTALS[name][5:])


def test_distributions_of_the_infn_file() -> None:
    found = rows(sample("gratia-lsf6-infn.acct"))
    assert Counter(r["processors"] for r in found) == {None: 52, 1: 1091, 2: 5, 3: 1, 4: 1}
    assert Counter(r["state"] for r in found)["never_started"] == 52
    assert Counter(r["exit_code"] for r in found) == {None: 52, 0: 1090, 4: 3, 143: 3, 1: 1, 2: 1}
    assert {r["queue"] for r in found} == {"cert", "alice", "normal"}
    assert len({r["record_key"] for r in found}) == 1150


BAD = (
    "the list execHosts: a quoted string is due, a number with decimals was found",
    "field 1 (version): a quoted string is due, a bare word was found",
    "field 17 (cwd): a quoted string is due, a bare word was found",
    "field 17 (cwd): a quoted string is due, a bare word was found",
    "field 17 (cwd): a quoted string is due, a bare word was found",
    None,
    "the record ends before field (numGPURusages)",
    None,
    "the record ends before field (numKVP)",
    "the record ends inside the list keyValues",
    "the record ends inside the list keyValues",
)


def test_each_damaged_record_is_refused_alone_and_for_what_ails_it() -> None:
    data = sample("hpc-cost-simulator-bad.acct")
    starts = [0]
    while len(starts) < len(BAD):
        starts.append(data.index(b"\n", starts[-1]) + 1)
    parsed = parse(data)
    assert [(r.offset, r.reason) for r in parsed.rejects] == [(s, r) for s, r in zip(starts, BAD, strict=True) if r]
    assert [(r["source_offset"], r["lrms_job_id"]) for r in parsed.records.to_pylist()] == [(starts[5], "384"), (starts[7], "386")]


def test_junk_events_are_skipped_and_counted_under_one_name() -> None:
    assert parse(sample("gratia-lsf7-ou.acct")).skipped == {"unknown event": 2}
    assert parse_unit(b'"EVENT_ADRSV_FINISH" "10.1" 1 2 "x"', SOURCE) == Skip("event EVENT_ADRSV_FINISH")
    assert parse_unit(b"# rotated by root", SOURCE) == Skip("comment")


def test_a_folded_mail_holds_the_same_jobs() -> None:
    folded = rows(sample("epcc-safe-7.03-folded.acct"))
    plain = rows(sample("epcc-safe-7.03.acct"))[:2]
    for row in (*folded, *plain):
        for column in ("native", "content_hash", "source_offset"):
            del row[column]
    assert folded == plain
    crlf = sample("epcc-safe-7.03-folded.acct").replace(b"\n", b"\r\n")
    assert [r["record_key"] for r in rows(crlf)] == [r["record_key"] for r in plain]


def test_a_line_that_merely_looks_folded_stays_as_it_is() -> None:
    assert unfold(b"a!\n b") == b"a!\n b"
    assert unfold(b"a" * 989 + b"!\nb") == b"a" * 989 + b"!\nb"
    assert unfold(b"a" * 989 + b"!\n b") == b"a" * 989 + b"b"


def test_a_newline_inside_a_string() -> None:
    [row] = rows(sample("apel-tests-newline.acct"))
    assert '| tr "\n" " "`; . /etc' in str(row["command"])
    assert row["native"] == sample("apel-tests-newline.acct")[:-1]
    assert row["processors"] == 16


@pytest.mark.parametrize("end", [b'"JOB_FINISH" "10', b"", b'"'])
def test_recognised_by_its_first_lines(end: bytes) -> None:
    assert PARSER.recognises(b"# comment\n" + SHORT + b"\n" + end)
    assert not PARSER.recognises(b'05/01/2019 00:00:00;E;1.host;"JOB_FINISH" "' + end)


@pytest.mark.parametrize(
    ("status", "exit_info", "state"),
    [(64, 5, "completed"), (0xC0, 0, "completed"), (32, 0, "failed"), (32, 10, "failed"), (32, -1, "failed")]
    + [(32, reason, "timeout") for reason in (5, 6, 12)]
    + [(32, reason, "out_of_memory") for reason in (16, 20)]
    + [(32, reason, "cancelled") for reason in (8, 9, 14, 15, 23)],
)
def test_state(status: int, exit_info: int, state: str) -> None:
    assert job(ended(status, 0, exit_info))["state"] == state
    assert state in JOB_STATES


@pytest.mark.parametrize(
    ("status", "code", "signal"),
    [
        (0, 0, None),
        (256, 1, None),
        (33280, 130, None),
        (65280, 255, None),
        (9, 0, 9),
        (139, 0, 11),
        (-1, None, None),
        (65536, None, None),
    ],
)
def test_exit_status(status: int, code: int | None, signal: int | None) -> None:
    row = job(ended(32, status, 0))
    assert (row.get("exit_code"), row.get("exit_signal")) == (code, signal)


def test_a_job_that_never_started() -> None:
    row = job(
        edited(b"0 0 1138280266", b"0 0 0").replace(b'0 1 "cert-10" 64', b"0 0 32").replace(EXIT_STATUS, b'"default" 256 1 "" "" 0')
    )
    assert row["state"] == "never_started"
    assert row["logged_at"] == 1138280267
    for column in ("start_at", "wall_duration_s", "processors", "node_count", "exec_hosts", "exit_code", "exit_signal"):
        assert row.get(column) is None


def test_a_job_that_ran_without_reported_usage_has_wallclock_only() -> None:
    row = rows(sample("misc-9.12-10.1.acct"))[1]
    assert (row["wall_duration_s"], row["cpu_duration_s"], row["cpu_user_s"], row["exit_code"]) == (839, None, None, 255)
    assert job(edited(CPU, b"-1.000000 0.480000")).get("cpu_system_s") is None


@pytest.mark.parametrize(
    ("user", "system", "total"),
    [("0.500000", "0.000000", 0), ("1.250000", "0.250000", 2), ("2.500000", "0.000000", 2), ("2.499999", "0.000002", 3),
     ("1e3", "0.1", 1000), ("0.4999995", "0.0000005", 0), ("0.4999996", "0.000001", 1)],
)  # fmt: skip
def test_cpu_is_summed_exactly_and_rounded_half_to_even(user: str, system: str, total: int) -> None:
    assert job(edited(CPU, f"{user} {system}".encode()))["cpu_duration_s"] == total


def tail_of_10_108(run_time: int = 1, ranges: bytes = b"0", request: bytes = b"", version: bytes = b"10.108") -> bytes:
    unit = edited(b'"6.0"', b'"' + version + b'"')
    unit += b' "" "" "" -1 "" "" 6160 "" 0 "" "" 0 0 -1 0 0 "' + request + b'" "" -1 "" -1 0 "" 0 0 "" %d "" 0 ""' % run_time
    return unit + b" 12.500000 0.00 0.00 0.00 0.00 0 -1 " + ranges + b" 0 0 0 0"


@pytest.mark.parametrize(("run_time", "wall"), [(1, 1), (0, 0), (-1, 1), (2, 1)])
def test_wallclock_is_what_lsf_states_if_that_can_be(run_time: int, wall: int) -> None:
    assert job(tail_of_10_108(run_time))["wall_duration_s"] == wall


@pytest.mark.parametrize(
    ("request_", "gpus"),
    [(b"rusage[ngpus_physical=2.00]", 2), (b"rusage[ngpus_physical=0.50]", None), (b"", None),
     (b"{rusage[ngpus_physical=1.00]} || {rusage[ngpus_physical=4.00]}", None)],
)  # fmt: skip
def test_gpus(request_: bytes, gpus: int | None) -> None:
    unit = tail_of_10_108(request=request_)
    assert job(unit)["gpu_count"] == gpus
    two_hosts = unit.replace(b'0 1 "cert-10"', b'0 2 "cert-10" "cert-11"')
    assert job(two_hosts)["gpu_count"] == (gpus and gpus * 2)
    assert job(two_hosts.replace(b"0 0 1138280266", b"0 0 0"))["gpu_count"] is None


def test_energy_and_later_floats() -> None:
    assert job(tail_of_10_108())["energy_j"] == 12.5
    assert job(tail_of_10_108() + b" 0.466667 0.466667 0.000000")["energy_j"] == 12.5
    assert job(tail_of_10_108() + b' 7 "what later fix packs add"')["energy_j"] == 12.5
    assert job(SHORT)["energy_j"] is None


def test_ranges_of_pending_elements_are_part_of_the_key() -> None:
    pending = (
        tail_of_10_108(ranges=b"2 678 1000 1 5 9 2").replace(b'"" "" 0 1804', b'"" "" -1 1804').replace(b"0 0 1138280266", b"0 0 0")
    )
    row = job(pending)
    assert row["record_key"] == "lsf:batch:1:-1:1138280257:0:1138280267:678-1000-1,5-9-2"
    assert row["array_index"] is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"1138280267 1", b"1138280265 1", "the job ended before it started"),
        (b"1138280267 1", b"4102444800 1", "eventTime is impossible: before 1970 or after 2099"),
        (b"1138280257 0", b"-1 0", "submitTime is impossible: before 1970 or after 2099"),
        (b"0 0 1138280266", b"-5 0 1138280266", "beginTime is impossible: before 1970 or after 2099"),
        (b"0 0 1138280266", b"0 0 99999999999", "startTime is impossible: before 1970 or after 2099"),
        (b"1138280267 1", b"9223372036854775808 1", "field 2 (eventTime): an integer is due, a bare word was found"),
        (b"10417", b"1.5", "field 4 (userId): an integer is due, a number with decimals was found"),
        (b'"alice"', b"alice", "field 12 (queue): a quoted string is due, a bare word was found"),
        (b'"alice"', b'"alice', "field 13 (resReq): a quoted string is due, a bare word was found"),
        (b"1804", b'"1804"', "field 54+o (maxRMem): an integer is due, a quoted string was found"),
        (b'0 1 "cert-10"', b'-1 1 "cert-10"', "field (numAskedHosts) is negative: it counts askedHosts"),
        (b'0 1 "cert-10"', b'0 1000 "cert-10"', "the record ends inside the list execHosts"),
        (b'"cert-10"', b'""', "the list execHosts: a host has no name"),
        (CPU, b"9999999999999.0 0.480000", "ru_utime is impossible: more than 1000000000000 s"),
        (b'"/group/sub/alice001"', b'"/group', ("field 65+o (chargedSAAP): a quoted string is due, "
          "a quote that is never closed was found")),
        (b' "/group/sub/alice001"', b"", "the record ends before field 65+o (chargedSAAP)"),
    ],
)  # fmt: skip
def test_damage_is_named(old: bytes, new: bytes, message: str) -> None:
    assert reason(edited(old, new)) == message


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (b"JOB_FINISH 6.0", "it does not begin with an event type in quotes"),
        (b'"job_finish" "6.0"', "it does not begin with an event type in quotes"),
        (b"\x00\x00\x00", "it does not begin with an event type in quotes"),
        (b'"JOB_NEW" 6', "no format version follows the event type"),
        (b'"JOB_FINISH"', "the record ends before field 1 (version)"),
        (b'"JOB_FINISH" "6.0" 1138', "the record ends before field 3 (jobId)"),
    ],
)
def test_what_is_no_record_is_named(unit: bytes, message: str) -> None:
    assert reason(unit) == message


def test_eligible_is_the_begin_time_asked_for_if_that_was_later() -> None:
    assert job(edited(b"0 0 1138280266", b"1138280260 0 1138280266"))["eligible_at"] == 1138280260
    assert job(edited(b"0 0 1138280266", b"1138280250 0 1138280266"))["eligible_at"] is None


@pytest.mark.parametrize(
    ("account", "group"), [(b"/group/sub/u", "group"), (b"/u", "u"), (b"g/u", "g"), (b"", None), (b"/", None), (b"//u", None)]
)
def test_group_is_the_first_element_of_the_share_account(account: bytes, group: str | None) -> None:
    assert job(edited(b"/group/sub/alice001", account))["group_name"] == group


@pytest.mark.parametrize(
    ("hosts", "text", "slots", "nodes"),
    [
        (b'2 "a" "a"', '["2*a"]', 2, 1),
        (b'3 "b" "a" "b"', '["2*b","1*a"]', 3, 2),
        (b'2 "16*a" "b"', '["16*a","1*b"]', 17, 2),
        (b'2 "2*a" "a"', '["3*a"]', 3, 1),
        (b'1 "h@lsf1"', '["1*h@lsf1"]', 1, 1),
        (b'1 "99999999999999999999*a"', '["1*99999999999999999999*a"]', 1, 1),
        (b'1 "a\\""b"', '["1*a\\\\\\"b"]', 1, 1),
    ],
)
def test_execution_hosts(hosts: bytes, text: str, slots: int, nodes: int) -> None:
    row = job(edited(b'1 "cert-10"', hosts))
    assert (row["exec_hosts"], row["processors"], row["node_count"]) == (text, slots, nodes)


def test_asked_hosts_shift_what_follows() -> None:
    row = job(edited(b'0 1 "cert-10"', b'2 "x" "y" 1 "cert-10"'))
    assert (row["exec_hosts"], row["command"]) == ('["1*cert-10"]', "/bin/hostname")


@pytest.mark.parametrize("version", [b"8.0", b"9.10", b"11.0"])
def test_a_release_without_a_sample_may_end_after_any_field(version: bytes) -> None:
    unit = edited(b'"6.0"', b'"' + version + b'"') + b' "" "" "" -1 "" "" 6160'
    assert job(unit)["lrms_job_id"] == "1"
    assert reason(unit.replace(version, b"7.06")) == "the record ends before field 73+o (resizeNotifyCmd)"


def test_lava_has_no_time_event_and_perhaps_a_post_exec_command() -> None:
    head, tail = edited(b'"6.0"', b'"1"').split(b' 0 "" "" 0 1804')[0].rsplit(b'"" 0 1804', 1)
    lava = head + b'0 1804 4652 "" ""'
    assert tail.startswith(b" 4652")
    assert job(lava)["memory_virtual_kib"] == 4652
    assert job(lava)["group_name"] is None
    with_post_exec = lava.replace(b'"" "" "" "cert-06"', b'"" "" "" "rm -r /tmp/x" "cert-06"')
    assert job(with_post_exec)["submit_host"] == "cert-06"
    assert job(with_post_exec)["command"] == "/bin/hostname"


def test_text_of_any_bytes() -> None:
    row = job(edited(b"/bin/hostname", b'\xa1\x00 ""caf\xc3\xa9"" \\n'))
    assert row["command"] == '\\xa1\\x00 "café" \\n'
    assert job(edited(b'"/bin/hostname"', b'"""exec"" ""sh"""'))["command"] == '"exec" "sh"'


def test_blanks_between_fields() -> None:
    assert job(edited(b"10417 33554434", b"10417  \t 33554434")) == job(SHORT)
    assert job(SHORT + b"  ") == job(SHORT)


def test_missing_blanks_are_forgiven_only_if_all_else_fits() -> None:
    assert job(edited(b'"" "cert-06"', b'""  "cert-06"').replace(b'0 "" 0 "" -1', b'0""0"" -1')) == job(SHORT)
    assert reason(tail_of_10_108().replace(b'0 "" 0 "" -1', b'0""0"" -1') + b" 1") == (
        "two fields without a blank between, and what follows does not fit"
    )


def units(data: bytes) -> list[bytes]:
    return [data[a:b] for a, b in LsfFraming().spans(data)]


def test_a_lost_quote_costs_no_neighbour() -> None:
    broken = edited(b'"cert-06"', b'"cert-06')
    assert units(broken + b"\nx\n" + SHORT + b"\n" + SHORT) == [broken + b"\nx", SHORT, SHORT]


def test_a_lost_quote_at_the_end_is_as_one_before_a_record() -> None:
    assert units(b'a "b\nc\n# d\n') == units(b'a "b\nc\n# d\n' + SHORT)[:1] == [b'a "b\nc\n# d']


@pytest.mark.parametrize("lines", [MOST_LINES - 1, MOST_LINES, MOST_LINES + 1])
def test_a_quote_is_given_up_after_many_lines(lines: int) -> None:
    data = b'a "\n' + b"b\n" * (lines - 1) + b'c" \n' + SHORT
    whole = lines <= MOST_LINES
    assert len(units(data)) == (2 if whole else lines + 2)
    assert units(data)[-1] == SHORT


@pytest.mark.parametrize(
    "torn", [SHORT[:300], SHORT[:185], SHORT + b" ", b"\0" * 9, b"\xef\xbb\xbf", edited(b'"alice"', b'"alice')[:200]]
)
def test_two_records_on_a_line(torn: bytes) -> None:
    assert not torn.endswith(b'"')
    assert units(torn + SHORT + b"\n" + SHORT) == [torn, SHORT, SHORT]


def test_an_event_name_inside_a_string_is_no_record() -> None:
    unit = edited(b"/bin/hostname", b'echo ""JOB_FINISH"" ""6.0"" 1138280267 1 2 3')
    assert units(unit) == [unit]
    assert str(job(unit)["command"]).startswith('echo "JOB_FINISH" "6.0"')


def test_comments_blank_lines_and_carriage_returns() -> None:
    data = b"# it's \"quoted\n\r\n  \n" + SHORT + b"\r\n\n# end"
    assert units(data) == [b"# it's \"quoted", SHORT, b"# end"]


def test_the_last_complete_record_of_a_live_log_does_not_wait() -> None:
    framing = LsfFraming()
    line = SHORT + b"\n"
    assert framing.cut(line, final=False) == len(line)
    assert framing.cut(line + SHORT, final=False) == len(line)
    assert framing.cut(SHORT, final=False) == 0
    assert framing.cut(line + SHORT, final=True) == len(line + SHORT)
    opened = line + edited(b'"cert-06"', b'"cert-06') + b"\n"
    assert framing.cut(opened, final=False) == len(line)
    assert framing.cut(opened + line, final=False) == len(opened + line)


def test_a_folded_line_waits_for_the_rest() -> None:
    framing = LsfFraming()
    data = sample("epcc-safe-7.03-folded.acct")
    first, second, third = (i + 1 for i in [j for j, byte in enumerate(data) if byte == 10][:3])
    assert [framing.cut(data[:n], final=False) for n in (first, second, third)] == [0, 0, third]


def test_the_native_unit_is_kept_byte_for_byte() -> None:
    for name in ("epcc-safe-7.03-folded.acct", "apel-tests-newline.acct", "xdmod-tests.acct"):
        data = sample(name)
        for row in rows(data):
            native, offset = row["native"], row["source_offset"]
            assert isinstance(native, bytes)
            assert isinstance(offset, int)
            assert data[offset : offset + len(native)] == native


def test_a_source_without_a_cluster_yields_rejects_not_records() -> None:
    parsed = PARSER.parse_block(Block(SHORT + b"\n", 0), Source("x", cluster=None))
    assert parsed.records.num_rows == 0
    assert [r.offset for r in parsed.rejects] == [0]
