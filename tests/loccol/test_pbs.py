"""The PBS parser's careful lane, against values that other programs and hands worked out from the same lines.

Where it differs from `derived.csv` on purpose (DIFFERENCES), the reasons are:

    group          `-default-` is what PBS Pro writes for `the group of the account`; it is no name of a group
    wall, missing  without resources_used.walltime it is end - start, as it is where that is more than twice as long: in the line
                   of job 21048463, edited by hand (69784 s of 24159), and in jobs of 0 s whose node counted 1 s
    slots, nodes   Cray: mppwidth and mppwidth / mppnppn (exec_host is the login node); without exec_host: what was asked for
    gpus           they are counted from the request too, in every spelling, and not in exec_vnode alone
    account        where no account is set the project is charged
"""

from __future__ import annotations

import bz2
import csv
import dataclasses
import datetime as dt
import json
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from batchacct.model import JOB_STATES, LAST_INSTANT
from batchacct.parsing import LINES, Block, Parsed, Part, Reject, Skip, Source
from loccol.pbs import KINDS, PARSER, SKIPPED, parse_unit

SAMPLES = Path(__file__).parent.parent / "samples" / "pbs"
SOURCE = Source("pbs-test", site="SITE", cluster="batch")
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)

Row = dict[str, object]


def sample(name: str) -> bytes:
    data = (SAMPLES / name).read_bytes()
    return bz2.decompress(data) if name.endswith(".bz2") else data


@lru_cache
def parsed_sample(name: str) -> Parsed:
    return parse(sample(name))


def line(name: str, number: int) -> bytes:
    return sample(name).split(b"\n")[number - 1]


def parse(data: bytes, source: Source = SOURCE) -> Parsed:
    """One block through the careful lane, once more through both: they agree."""
    careful = CAREFUL.parse_block(Block(data, 0), source)
    both = PARSER.parse_block(Block(data, 0), source)
    assert both.records.equals(careful.records)
    assert both.parts.equals(careful.parts)
    assert both.rejects == careful.rejects
    assert dict(both.skipped) == dict(careful.skipped)
    assert both.units == len(list(LINES.spans(data)))
    return both


def job(unit: bytes) -> Row:
    outcome = parse_unit(unit, SOURCE)
    assert isinstance(outcome, dict)
    assert outcome["state"] in JOB_STATES
    parse(unit)
    return outcome


def part(unit: bytes, source: Source = SOURCE) -> Row:
    outcome = parse_unit(unit, source)
    assert isinstance(outcome, Part)
    parse(unit, source)
    return outcome.record


def skip(unit: bytes) -> str:
    outcome = parse_unit(unit, SOURCE)
    assert isinstance(outcome, Skip)
    parse(unit)
    return outcome.reason


def reason(unit: bytes) -> str:
    with pytest.raises(Reject) as refused:
        parse_unit(unit, SOURCE)
    assert len(parse(unit).rejects) == 1
    return refused.value.reason


SHORT = (
    b"09/08/2011 00:02:54;E;5190443[169].ff-head.unl.edu;user=dyzhan group=jiang jobname=workload-169 queue=default"
    b" ctime=1315326110 qtime=1315326110 etime=1315326111 start=1315419292"
    b" owner=dyzhan@logon.local exec_host=c3116/3 Resource_List.pmem=3gb"
    b" Resource_List.walltime=144:00:00 session=22856 end=1315458174 Exit_status=0 resources_used.cput=10:46:28"
    b" resources_used.mem=1850156kb resources_used.vmem=3535820kb resources_used.walltime=10:48:02"
)


def edited(old: bytes, new: bytes) -> bytes:
    assert SHORT.count(old) == 1, old
    return SHORT.replace(old, new)


def more(text: bytes) -> bytes:
    return SHORT + b" " + text


def test_every_value_of_one_record() -> None:
    [row] = parse(SHORT + b"\n").records.to_pylist()
    known = {name: value for name, value in row.items() if value is not None}
    assert isinstance(known.pop("content_hash"), int)
    ended = dt.datetime(2011, 9, 8, 5, 2, 54, tzinfo=dt.UTC)
    assert known == {
        "record_key": "pbs:E:batch:5190443[169].ff-head.unl.edu:1315419292:1315458174",
        "site": "SITE",
        "cluster": "batch",
        "lrms": "PBS",
        "lrms_job_id": "5190443.ff-head.unl.edu",
        "join_id": "5190443",
        "array_index": 169,
        "user_name": "dyzhan",
        "group_name": "jiang",
        "queue": "default",
        "submit_host": "logon.local",
        "exec_hosts": '["1*c3116"]',
        "submit_at": dt.datetime(2011, 9, 6, 16, 21, 50, tzinfo=dt.UTC),
        "eligible_at": dt.datetime(2011, 9, 6, 16, 21, 51, tzinfo=dt.UTC),
        "start_at": dt.datetime(2011, 9, 7, 18, 14, 52, tzinfo=dt.UTC),
        "end_at": ended,
        "logged_at": ended,
        "wall_duration_s": 38882,
        "cpu_duration_s": 38788,
        "processors": 1,
        "node_count": 1,
        "memory_real_kib": 1850156,
        "memory_virtual_kib": 3535820,
        "exit_code": 0,
        "state": "completed",
        "resources": '{"cput":"10:46:28","mem":"1850156kb","vmem":"3535820kb","walltime":"10:48:02"}',
        "job_name": "workload-169",
        "native": SHORT,
        "source": "pbs-test",
        "source_offset": 0,
        "parser": "pbs/1",
    }


def derived() -> list[dict[str, str]]:
    with (SAMPLES / "derived.csv").open(newline="") as file:
        return list(csv.DictReader(file))


CRAY = {13: (64, 32), 14: (64, 32), 15: (32, 16), 16: (10, 5), 17: (64, 32)}
DIFFERENCES: dict[tuple[str, str], Row] = {
    ("apel-tests.log", "1"): {"wall_duration_s": 24159},
    ("apel-tests.log", "8"): {"processors": 8, "node_count": 1},
    **{("epcc-safe.log", str(n)): {"group_name": None, "wall_duration_s": w} for n, w in enumerate((1, 41399, 181, 181, 3), 1)},
    ("epcc-safe.log", "12"): {"group_name": None},
    **{("epcc-safe.log", str(n)): {"group_name": None, "processors": p, "node_count": h} for n, (p, h) in CRAY.items()},
    **{("epcc-safe.log", str(number)): {"wall_duration_s": 0} for number in (18, 21, 23, 29, 31)},
    ("xdmod-tests.log", "6"): {"wall_duration_s": 8407, "processors": 28, "node_count": 1, "gpu_count": 1},
    ("xdmod-tests.log", "7"): {"gpu_count": 4},
    ("xdmod-tests.log", "8"): {"wall_duration_s": 100000, "gpu_count": 2},
    ("xdmod-tests.log", "9"): {"project": "[project1]"},
}


def number(text: str) -> int | None:
    return int(text) if text else None


def kib(text: str) -> int | None:
    return int(text) // 1024 if text else None


@pytest.mark.parametrize("expected", derived(), ids=lambda e: f"{e['file']}:{e['line']}")
def test_values_worked_out_by_hand(expected: dict[str, str]) -> None:
    unit = line(expected["file"], int(expected["line"])).removeprefix(b"20150327:")
    row = job(unit)
    status = int(expected["exit_status"])
    due: Row = {
        "user_name": expected["user"],
        "group_name": expected["group"],
        "project": expected["account"] or None,
        "queue": expected["queue"],
        "job_name": expected["jobname"],
        "submit_at": number(expected["ctime"]),
        "start_at": number(expected["start"]),
        "end_at": number(expected["end"]),
        "logged_at": number(expected["end"]),
        "wall_duration_s": number(expected["walltime_s"]),
        "cpu_duration_s": number(expected["cput_s"]),
        "processors": number(expected["slots"]),
        "node_count": number(expected["nodes"]),
        "gpu_count": number(expected["gpus"]),
        "memory_real_kib": kib(expected["mem_bytes"]),
        "memory_virtual_kib": kib(expected["vmem_bytes"]),
        "exit_code": status if 0 <= status < 256 else None,
        "exit_signal": status - 256 if status > 256 else None,
    } | DIFFERENCES.get((expected["file"], expected["line"]), {})
    assert {name: row.get(name) for name in due} == due
    assert str(row["lrms_job_id"]) == expected["job"].replace("[389]", "")
    assert (row["state"] == "completed") == (status == 0)


def test_xdmod_finds_the_same() -> None:
    """But for line 9: it reads `0*0` as a range of two; and for GPUs of line 8, of which it knows two of three spellings."""
    found = [
        [row[c] for c in ("processors", "node_count", "gpu_count")] for row in parse(sample("xdmod-tests.log")).records.to_pylist()
    ]
    assert found == [
        [32, 4, None], [32, 4, None], [4, 1, None], [65, 5, None], [12, 2, None], [28, 1, 1], [28, 1, 4], [28, 1, 2], [48, 1, 4],
    ]  # fmt: skip
    last = job(line("xdmod-tests.log", 9))
    assert last["exec_hosts"] == '["48*[hostname_2]"]'
    assert last["state"] == "timeout"
    assert job(line("xdmod-tests.log", 3))["memory_requested_kib"] == 2089811968 // 1024


def test_other_upstream_expectations() -> None:
    ghent = job(line("hnormalise.log", 4))
    assert (ghent["state"], ghent["exit_code"], ghent["exit_signal"]) == ("timeout", None, None)
    assert ghent["exec_hosts"] == '["20*node2612.swalot.gent.vsc","20*node2681.swalot.gent.vsc"]'
    casper = job(line("ncar-pbsparse.log", 1))
    assert (casper["gpu_count"], casper["gpu_model"], casper["project"], casper["run_number"]) == (1, "gp100", "SCSG0001", 1)
    assert job(line("ncar-pbsparse.log", 8))["exec_hosts"] == '["1*crhtc67","1*crhtc70"]'
    rerun = job(line("ncar-pbsparse.log", 2))
    assert (rerun["state"], rerun["run_number"], rerun["cpu_duration_s"], rerun["memory_real_kib"]) == ("requeued", 21, 0, 0)
    assert rerun["record_key"] == "pbs:R:batch:4400521.casper-pbs:1744751695:1744751698"
    osc = job(line("osc-pbstools.log", 4))
    assert osc["resources"] == '{"cput":"0","energy_used":"0","mem":"1776kb","vmem":"292048kb","walltime":"00:01:24"}'
    assert job(line("misc.log", 5))["exec_hosts"] == '["7*cw-vm-d144.sa.nectar.org.au","4*cw-vm-d145.sa.nectar.org.au"]'


@pytest.mark.parametrize(
    ("name", "skipped", "rejected"),
    [
        ("apel-tests.log", {}, ["it does not begin with MM/DD/YYYY HH:MM:SS; (cut off what grep or syslog put before it)"]),
        ("apel-tests-bad.log", {}, ["start is missing", "the job ended before it started", "text before the first attribute"]),
        ("epcc-safe-bad.log", {"job suspended": 1, "unknown record type": 1}, ["fewer than four parts between semicolons"]),
        ("hnormalise.log", {"parent of a job array": 1}, []),
        ("ncar-pbsparse.log", {"checkpoint": 1, "job altered": 1, "reservation": 1}, []),
        ("gratia-pbspro-20101202.log", {"licences": 16}, []),
        ("misc.log", {}, []),
        ("osc-pbstools.log", {}, []),
    ],
)
def test_skips_and_rejects_of_the_samples(name: str, skipped: dict[str, int], rejected: list[str]) -> None:
    parsed = parse(sample(name))
    assert dict(parsed.skipped) == skipped
    assert [reject.reason for reject in parsed.rejects] == rejected


TOTALS = {
    "apel-tests.log": ("E:8", 124730 - 69784 + 24159 - 17012, 204792 - 66716, 21 - 4 + 8),
    "dgas-tests.log": ("Q:5 S:5 E:5", 293, 190, 5),
    "epcc-safe.log": ("Q:7 S:6 E:39 D:1 A:1", 464901 + 41765 - 5, 11785665, 878 + 63 + 63 + 31 + 9 + 63),
    "gratia-torque-2006.log": ("Q:222 S:174 E:174 D:57", 23166, 1728, 174),
    "gratia-torque-20110908-extract.log": ("Q:60 S:160 E:109 D:10 A:1 R:71", 947824, 6779262, 746),
    "gratia-torque-20110908.log.bz2": ("Q:4078 S:7255 E:5340 D:1279 A:1 R:2318", 155182263 - 10, 283380662, 10003),
    "gratia-pbspro-20100929-extract.log": ("Q:119 S:135 E:145 D:25 R:17 L:24", 9333033, 12971667, 1565),
    "gratia-pbspro-20100929.log.bz2": ("Q:6820 S:6609 E:6500 D:739 R:17 L:24", 109568731 - 150, 101876898, 28436),
    "gratia-pbspro-20101202.log": ("Q:15 S:14 E:14 D:6 L:16", 59327, 116911, 282),
    "hnormalise.log": ("Q:2 S:2 E:5 D:1 A:2 R:1", 46193, 1727947, 77),
    "misc.log": ("Q:3 S:2 E:4 D:1", 16304, 2819, 29),
    "ncar-pbsparse.log": ("E:2 D:1 A:1 R:1", 3327, 176, 3),
    "osc-pbstools.log": ("S:2 E:2", 117, 253, 82),
    "xdmod-tests.log": ("E:9", 58216 + 8407 + 100000, 49189, 249 + 28),
}
"""Of the E lines: wallclock, CPU, slots as README has them, plus what the differences above make of it.

On the two days: ten jobs of 0 s with 1 s of walltime; and eight jobs of PBS Pro with more than twice end - start, 150 s in all.
"""


@pytest.mark.parametrize("name", TOTALS)
def test_control_totals(name: str) -> None:
    parsed = parsed_sample(name)
    types, *due = TOTALS[name]
    ended = [row for row in parsed.records.to_pylist() if row["record_key"].startswith("pbs:E:")]
    assert [sum(row[c] or 0 for row in ended) for c in ("wall_duration_s", "cpu_duration_s", "processors")] == due
    letters = Counter(row["record_key"][4] for row in [*parsed.records.to_pylist(), *parsed.parts.to_pylist()])
    letters["L"] = parsed.skipped.get("licences", 0)
    assert +letters == {letter: int(count) for letter, _, count in (t.partition(":") for t in types.split())}


def test_exit_statuses_of_the_two_days() -> None:
    purdue = parsed_sample("gratia-pbspro-20100929.log.bz2").records.to_pylist()
    assert Counter(row["state"] for row in purdue) == {
        "completed": 5700,
        "failed": 737,
        "timeout": 62,
        "requeued": 10,
        "node_fail": 1,
    }
    codes = Counter(row["exit_code"] for row in purdue)
    assert [codes[code] for code in (0, 1, 143, 127, 139)] == [5700, 629, 56, 37, 5]
    assert Counter(row["exit_signal"] for row in purdue) == {None: 6450, 15: 55, 9: 5}
    runs = Counter(row["run_number"] for row in purdue if row["state"] != "requeued")
    assert [runs[run] for run in (1, 2, 4, 6)] == [6413, 84, 1, 2]
    parsed = parsed_sample("gratia-torque-20110908.log.bz2")
    nebraska = parsed.records.to_pylist()
    assert Counter(row["state"] for row in nebraska) == {"completed": 3410, "failed": 1811, "out_of_memory": 119}
    assert sum(row["array_index"] is not None for row in [*nebraska, *parsed.parts.to_pylist()]) == 1751
    assert len({row["record_key"] for row in nebraska}) == 5340, "29 ids have two or three E lines, each of a run of its own"
    assert len({(row["join_id"], row["array_index"]) for row in nebraska}) == 5340 - 30


PRO = next(unit for unit in sample("gratia-pbspro-20100929-extract.log").split(b"\n") if b";E;" in unit and b"account=" in unit)


def status(flavour: bytes, code: int, wall: bytes = b"00:10:00") -> Row:
    mark = {b"Torque": b"owner=a@b", b"PBS Pro": b"run_count=1", b"both": b"owner=a@b run_count=1", b"neither": b"session=1"}
    return job(
        b"09/08/2011 00:02:54;E;1.s;user=u start=1315419292 exec_host=c/3 Resource_List.walltime=00:10:00 end=1315420292"
        b" Exit_status=%d resources_used.walltime=%s %s" % (code, wall, mark[flavour])
    )


@pytest.mark.parametrize(
    ("flavour", "code", "state"),
    [
        (b"Torque", -10, "out_of_memory"), (b"Torque", -11, "timeout"), (b"Torque", -12, "timeout"), (b"Torque", -3, "failed"),
        (b"Torque", -29, "failed"), (b"Torque", -1, "failed"),
        (b"PBS Pro", -10, "failed"), (b"PBS Pro", -11, "failed"), (b"PBS Pro", -12, "failed"), (b"PBS Pro", -26, "out_of_memory"),
        (b"PBS Pro", -27, "out_of_memory"), (b"PBS Pro", -28, "timeout"), (b"PBS Pro", -29, "timeout"),
        (b"PBS Pro", -14, "node_fail"),
        (b"PBS Pro", -20, "node_fail"), (b"PBS Pro", -31, "out_of_memory"), (b"PBS Pro", -3, "failed"),
        (b"both", -10, "failed"), (b"both", -29, "failed"), (b"neither", -10, "failed"), (b"neither", -27, "failed"),
        (b"Torque", 0, "completed"), (b"PBS Pro", 0, "completed"), (b"neither", 1, "failed"), (b"neither", 139, "failed"),
    ],
)  # fmt: skip
def test_states(flavour: bytes, code: int, state: str) -> None:
    assert status(flavour, code)["state"] == state


@pytest.mark.parametrize("code", [271, 265, 143, 137])
def test_killed_at_its_limit_is_a_timeout(code: int) -> None:
    assert status(b"Torque", code)["state"] == "timeout"
    assert status(b"Torque", code, b"00:09:59")["state"] == "failed"
    assert status(b"Torque", code - 1)["state"] == "failed"


def test_exit_codes_and_signals() -> None:
    found = [
        (status(b"Torque", code)["exit_code"], status(b"Torque", code)["exit_signal"]) for code in (255, 256, 257, 383, 384, -3)
    ]
    assert found == [(255, None), (None, None), (None, 1), (None, 127), (None, None), (None, None)]
    assert job(edited(b" Exit_status=0", b""))["state"] == "unknown"


@pytest.mark.parametrize(
    ("attribute", "column", "value"),
    [
        (b"resources_used.cput=46", "cpu_duration_s", 46),
        (b"resources_used.cput=19:23:4", "cpu_duration_s", 69784),
        (b"resources_used.cput=258:20:44", "cpu_duration_s", 930044),
        (b"resources_used.cput=-342359:-42:-21", "cpu_duration_s", None),
        (b"resources_used.cput=-1", "cpu_duration_s", None),
        (b"resources_used.walltime=-1", "wall_duration_s", 38882),
        (b"resources_used.walltime=77764", "wall_duration_s", 77764),
        (b"resources_used.walltime=77765", "wall_duration_s", 38882),
        (b"resources_used.mem=0b", "memory_real_kib", 0),
        (b"resources_used.mem=10GB", "memory_real_kib", 10 << 20),
        (b"resources_used.mem=12.27M", "memory_real_kib", 12564),
        (b"resources_used.mem=2047", "memory_real_kib", 1),
        (b"resources_used.mem=3kw", "memory_real_kib", 24),
        (b"resources_used.mem=-1kb", "memory_real_kib", None),
        (b"resources_used.energy_used=12", "energy_j", 12.0),
        (b"resources_used.energy_used=0", "energy_j", None),
        (b"Resource_List.mem=29gb", "memory_requested_kib", 29 << 20),
        (b"Resource_List.mem=lots", "memory_requested_kib", None),
        (b"total_execution_slots=80", "processors", 80),
        (b"start_count=2", "run_number", 2),
        (b"exec_vnode=(v1:ncpus=4:mem=8gb)+(v1:ncpus=4+v2[0]:ncpus=4:ngpus=1)", "processors", 12),
        (b"exec_vnode=(v1:ncpus=4:mem=8gb)+(v1:ncpus=4+v2[0]:ncpus=4:ngpus=1)", "gpu_count", 1),
        (b"exec_vnode=(v1:mem=8gb)", "processors", 1),
        (b"Resource_List.ngpus=0", "gpu_count", None),
        (b"Resource_List.nodes=4:ppn=8:gpus=2:feature", "gpu_count", 8),
        (b"Resource_List.select=2:ncpus=1:ngpus=2:gpu_type=a100 Resource_List.ngpus=4", "gpu_model", "a100"),
        (b'account="a b"', "project", "a b"),
        (b"account='a \"b\" c'", "project", 'a "b" c'),
        (b"account=a b", "project", "a b"),
        (b'account=""', "project", None),
        (b"project=_pbs_project_default", "project", None),
        (b"project=p", "project", "p"),
        (b"account=caf\xc3\xa9", "project", "café"),
        (b"account=caf\xe9", "project", "caf\\xe9"),
        (b'resources_used.x=\'{"eight": 8, "seven": 7}\'', "cpu_duration_s", 38788),
        (b"resources_used.g=tr:(gpu0:Tue Sep 03 23:27:26 2019)", "state", "completed"),
        (b"Resource_Request_2.0=-L tasks=1:lprocs=1 -L tasks=1:lprocs=2 queue2=x", "queue", "default"),
        (b"newattribute=5", "state", "completed"),
    ],
)
def test_one_more_attribute(attribute: bytes, column: str, value: object) -> None:
    name = attribute.partition(b"=")[0] + b"="
    unit = b" ".join(text for text in SHORT.split(b" ") if not text.startswith(name))
    assert job(unit + b" " + attribute).get(column) == value


@pytest.mark.parametrize(
    ("hosts", "listed", "slots", "nodes"),
    [
        (b"b372/4+b372/5+b391/0-3", '["2*b372","4*b391"]', 6, 2),
        (b"b391/0-1,5,11", '["4*b391"]', 4, 1),
        (b"c1/0*13+c2/0+c1/1*2", '["15*c1","1*c2"]', 16, 2),
        (b"c1", '["1*c1"]', 1, 1),
        (b"c1+c1/3", '["2*c1"]', 2, 1),
        (b"a\"b/0", '["1*a\\"b"]', 1, 1),
    ],
)  # fmt: skip
def test_hosts(hosts: bytes, listed: str, slots: int, nodes: int) -> None:
    row = job(edited(b"c3116/3", hosts))
    assert [row[c] for c in ("exec_hosts", "processors", "node_count")] == [listed, slots, nodes]


@pytest.mark.parametrize(
    ("asked", "processors", "nodes"),
    [
        (b"Resource_List.nodes=2:sb:ppn=8", 16, 2),
        (b"Resource_List.nodes=h1:ppn=2+h2:ppn=2", 4, 2),
        (b"Resource_List.nodes=nodes=1:ppn=1", 1, 1),
        (b"Resource_List.nodes=node7", 1, 1),
        (b"Resource_List.select=2:ncpus=4:mem=1gb+1:ncpus=2", 10, None),
        (b"Resource_List.select=65", 65, None),
        (b"Resource_List.ncpus=3", 3, None),
        (b"Resource_List.procs=5", 5, None),
        (b"Resource_List.mppwidth=24 Resource_List.mppdepth=2 Resource_List.mppnppn=5", 48, 5),
        (b"session=2", None, None),
    ],
)
def test_without_exec_host_what_was_asked_for_counts(asked: bytes, processors: int | None, nodes: int | None) -> None:
    row = job(edited(b" exec_host=c3116/3", b"").replace(b"session=22856", asked))
    assert (row["processors"], row.get("node_count")) == (processors, nodes)


def test_a_job_that_never_started() -> None:
    row = job(edited(b"start=1315419292", b"start=0"))
    assert (row["state"], row["start_at"], row.get("wall_duration_s"), row.get("cpu_duration_s")) == (
        "never_started",
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("written", "lrms_job_id", "join_id", "index"),
    [
        ("7904", "7904", "7904", None),
        ("123[4].s.org", "123.s.org", "123", 4),
        ("123[0]", "123", "123", 0),
        ("123-4.s", "123.s", "123", 4),
        ("job123", "job123", "job123", None),
        ("Moab.12", "Moab.12", "Moab.12", None),
        ("12.[host_1]", "12.[host_1]", "12", None),
    ],
)
def test_ids(written: str, lrms_job_id: str, join_id: str, index: int | None) -> None:
    row = job(edited(b"5190443[169].ff-head.unl.edu", written.encode()))
    assert [row[c] for c in ("lrms_job_id", "join_id", "array_index")] == [lrms_job_id, join_id, index]
    assert written in str(row["record_key"])
    queued = part(b"09/08/2011 00:02:54;Q;%s;queue=q" % written.encode())
    assert (queued["part_key"], queued["join_id"]) == (join_id if index is None else f"{join_id}[{index}]", join_id)


def test_parts() -> None:
    stamp = b"09/08/2011 00:02:54;%s;5.s;%s"
    logged = int(dt.datetime(2011, 9, 8, 0, 2, 54, tzinfo=dt.UTC).timestamp())
    for kind, message in ((b"Q", b"queue=a"), (b"D", b"requestor=a@b"), (b"D", b"a@b"), (b"A", b""), (b"R", b""), (b"R", b" ")):
        assert part(stamp % (kind, message)) == {
            "record_key": f"pbs:{kind.decode()}:batch:5.s:0:{logged}",
            "part_key": "5",
            "join_id": "5",
            "array_index": None,
            "kind": KINDS[kind.decode()],
            "logged_at": logged,
            "start_at": None,
        }
    for letter in (b"S", b"u", b"e", b"R"):
        started = part(stamp % (letter, b"user=u start=1315440173 exec_host=h/0 "))
        assert (started["start_at"], started["kind"]) == (1315440173, KINDS[letter.decode()])
        assert started["record_key"] == f"pbs:{letter.decode()}:batch:5.s:1315440173:{logged}"
    assert part(line("apel-tests-bad.log", 3))["kind"] == "abort", "whatever its message"


CHICAGO = ZoneInfo("America/Chicago")


@pytest.mark.parametrize(
    ("stamp", "utc"),
    [
        ("01/15/2011 12:00:00", "2011-01-15 18:00:00"),
        ("07/15/2011 12:00:00", "2011-07-15 17:00:00"),
        ("11/06/2011 01:30:00", "2011-11-06 06:30:00"),
        ("03/13/2011 02:30:00", "2011-03-13 08:30:00"),
    ],
)
def test_zone(stamp: str, utc: str) -> None:
    """In the hour that comes twice it is the first; a time that does not exist is moved as by zoneinfo."""
    row = part(f"{stamp};Q;5.s;queue=a".encode(), dataclasses.replace(SOURCE, zone=CHICAGO))
    assert row["logged_at"] == dt.datetime.fromisoformat(utc + "+00:00").timestamp()


def test_a_zone_whose_offset_changes_within_an_hour() -> None:
    """Lord Howe goes back half an hour at 02:00: between 01:30 and 02:00 the clock shows the same twice."""
    source = dataclasses.replace(SOURCE, zone=ZoneInfo("Australia/Lord_Howe"))
    times = [part(f"04/03/2011 {t};Q;5.s;queue=a".encode(), source)["logged_at"] for t in ("01:29:59", "01:45:00", "02:00:00")]
    assert times == [1301754599, 1301755500, 1301758200]


def test_skips() -> None:
    for letter, due in SKIPPED.items():
        assert skip(b"09/08/2011 00:02:54;%s;R1.s;anything" % letter.encode()) == due
    assert skip(b"09/08/2011 00:02:54;X;1.s;") == "unknown record type"
    for letter in KINDS:
        assert skip(b"09/08/2011 00:02:54;%s;12[].s;start=1" % letter.encode()) == "parent of a job array"


@pytest.mark.parametrize(
    ("unit", "due"),
    [
        (b"", "it does not begin with"),
        (b"# comment", "it does not begin with"),
        (b"Sep 8 s torque: " + SHORT, "it does not begin with"),
        (b"09/08/2011 00:02:54", "fewer than four parts"),
        (b"09/08/2011 00:02:54;E", "fewer than four parts"),
        (b"09/08/2011 00:02:54;E;", "fewer than four parts"),
        (b"09/08/2011 00:02:54;E;;user=a", "the job id is empty"),
        (b"09/08/2011 00:02:54;EE;1;user=a", "the record type is not one letter"),
        (b"09/08/2011 00:02:54;1;1;user=a", "the record type is not one letter"),
        (b"02/30/2011 00:02:54;Q;1;queue=a", "its date or time does not exist"),
        (b"09/08/2011 24:02:54;Q;1;queue=a", "its date or time does not exist"),
        (b"09/08/0000 00:02:54;Q;1;queue=a", "its date or time does not exist"),
        (b"09/08/1969 00:02:54;Q;1;queue=a", "its date is not between"),
        (b"09/08/2100 00:02:54;Q;1;queue=a", "its date is not between"),
        (b"09/08/2011 00:02:54;S;1;", "start is missing"),
        (b"09/08/2011 00:02:54;S;1;start=x", "start is not a time"),
        (b"09/08/2011 00:02:54;E;1;", "start is missing"),
        (b"09/08/2011 00:02:54;Q;1;queue=09/08/2011 00:02:54;E;2;user=a", "two records run together"),
        (SHORT[:-20] + SHORT, "two records run together"),
        (edited(b"start=1315419292 ", b""), "start is missing"),
        (edited(b"end=1315458174 ", b""), "end is missing"),
        (edited(b"end=1315458174", b"end=0"), "end is 0"),
        (edited(b"end=1315458174", b"end=1315419291"), "the job ended before it started"),
        (edited(b"end=1315458174", b"end=%d" % (LAST_INSTANT + 1)), "end is impossible"),
        (edited(b"end=1315458174", b"end=-1"), "end is not a time in Unix seconds"),
        (edited(b"etime=1315326111", b"etime=1315326111start=5"), "etime is not a time in Unix seconds"),
        (edited(b"ctime=1315326110", b"ctime="), "ctime is not a time"),
        (edited(b"Exit_status=0", b"Exit_status=x"), "Exit_status is not a number"),
        (edited(b"cput=10:46:28", b"cput=10:46"), "resources_used.cput is no duration"),
        (edited(b"cput=10:46:28", b"cput=1:10:46:28"), "resources_used.cput is no duration"),
        (edited(b".walltime=10:48:02", b".walltime=10:48:02x"), "resources_used.walltime is no duration"),
        (edited(b"mem=1850156kb", b"mem=1850156zb"), "resources_used.mem is no size"),
        (edited(b"mem=1850156kb", b"mem=999999999999999999pb"), "resources_used.mem is impossible"),
        (edited(b"c3116/3", b"/3"), "exec_host: a host has no name"),
        (edited(b"c3116/3", b"c1/3+"), "exec_host: a host has no name"),
        (edited(b"c3116/3", b"c1/x"), "exec_host: the slots of a host are not understood"),
        (edited(b"c3116/3", b"c1/3-1"), "exec_host: the slots of a host are not understood"),
        (edited(b"user=dyzhan", b"dyzhan"), "text before the first attribute"),
        (more(b"user=other"), "user has two values: two records run together"),
        (b"\0" * 50, "it does not begin with"),
    ],
)
def test_rejects(unit: bytes, due: str) -> None:
    if unit.strip():
        assert due in reason(unit)
        around = parse(SHORT + b"\n" + unit + b"\n" + SHORT + b"\n")
        assert (around.records.num_rows, len(around.rejects)) == (2, 1)
    else:
        with pytest.raises(Reject):
            parse_unit(unit, SOURCE)


def test_a_resource_named_twice_has_its_last_value() -> None:
    row = job(more(b"resources_used.mem=5kb user=dyzhan"))
    assert row["memory_real_kib"] == 5
    assert json.loads(str(row["resources"]))["mem"] == "5kb"


def test_recognised() -> None:
    for path in SAMPLES.glob("*.log"):
        assert PARSER.recognises(path.read_bytes()[:16384]), path.name
    assert PARSER.recognises(SHORT)
    assert not PARSER.recognises(b"")
    for folder in ("lsf", "blah", "apel"):
        for path in (SAMPLES.parent / folder).iterdir():
            assert not PARSER.recognises(path.read_bytes()[:16384]), path.name


@pytest.mark.parametrize("unit", [SHORT, PRO])
def test_cut_at_every_position(unit: bytes) -> None:
    """A line that lost its end is a reject, or a record of the same run: cut after `end`, usage is missing or cut with it."""
    whole = job(unit)
    for row in CAREFUL.parse_block(Block(b"\n".join(unit[:cut] for cut in range(20, len(unit))), 0), SOURCE).records.to_pylist():
        for column in ("lrms_job_id", "user_name", "queue", "exec_hosts", "processors"):
            assert row[column] == whole[column], column
        assert int(row["start_at"].timestamp()) == whole["start_at"]


def test_long_lines_take_no_longer_a_byte() -> None:
    """None of these may take the square of its length: then each would take minutes, where all of them take seconds."""
    size = 200_000
    begun = time.process_time()
    for piece in (b'account="x ', b"a", b"a=", b" ", b"c/1+", b"'", b"-:", b"a=' ", b"1:"):
        text = piece * (size // len(piece))
        for unit in (SHORT + b" " + text, edited(b"c3116/3", text), edited(b"10:46:28", text), b"1" * size + text):
            CAREFUL.parse_block(Block(unit, 0), SOURCE)
            PARSER.parse_block(Block(unit + b"\n", 0), SOURCE)
    assert time.process_time() - begun < 120
