"""What follows from all lines of a PBS job: requeued and lost attempts, jobs that never ran, deletions, phases.

The two real days are checked against the order of the types of lines of each id alone (`req`, `lost`, `QD`, D within a run).
"""

from __future__ import annotations

import bz2
import dataclasses
import datetime as dt
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from batchacct.model import JOB, whole_key
from batchacct.parsing import Block, Completed, Parsed, Row, Source, Whole
from loccol.pbs import PARSER
from loccol.pbs_whole import DELETION_GRACE_S

SAMPLES = Path(__file__).parent.parent / "samples" / "pbs"
SOURCE = Source("pbs-test", site="SITE", cluster="batch")
T = 1_300_000_000


def stored(parsed: Parsed) -> Iterator[tuple[str, dict[str, object]]]:
    """Rows as the store has them: (`part` or `record`, columns), instants as Unix seconds."""
    for kind, batch in (("part", parsed.parts), ("record", parsed.records)):
        for row in batch.to_pylist():
            yield kind, {name: int(v.timestamp()) if isinstance(v, dt.datetime) else v for name, v in row.items()}


def wholes(parsed: Parsed) -> list[Whole]:
    parts: dict[str, list[Row]] = defaultdict(list)
    records: dict[str, list[Row]] = defaultdict(list)
    for kind, row in stored(parsed):
        if kind == "part":
            parts[str(row["part_key"])].append(row)
        else:
            index = row["array_index"]
            assert index is None or isinstance(index, int)
            records[whole_key(str(row["join_id"]), index)].append(row)
    order = {key: sorted(rows, key=lambda r: (r["logged_at"], r["record_key"])) for key, rows in parts.items()}
    return [Whole(key, tuple(rows), tuple(records[key])) for key, rows in order.items()]


def complete(whole: Whole) -> list[Completed]:
    assert PARSER.completion is not None
    return PARSER.completion.complete(whole)


def as_row(completed: Completed) -> Row:
    """What the store makes of a completed record."""
    origin = {name: completed.origin[name] for name in ("site", "cluster", "lrms", "native", "source", "source_offset", "parser")}
    row = dict.fromkeys(column.name for column in JOB.columns) | origin | completed.record | {"content_hash": 1}
    assert JOB.batch([row]).num_rows == 1
    return row


def with_result(whole: Whole, made: Iterable[Completed]) -> Whole:
    """The whole after what was made of it is stored: a record replaces the one with its key and time."""
    records = {(r["record_key"], r["logged_at"]): r for r in [*whole.records, *map(as_row, made)]}
    return dataclasses.replace(whole, records=tuple(records.values()))


def settled(whole: Whole) -> list[Row]:
    """All records in force of a whole once the rule was applied; applying it again changes nothing."""
    after = with_result(whole, complete(whole))
    again = with_result(after, complete(after))
    assert {r["record_key"]: r for r in again.records} == {r["record_key"]: r for r in after.records}
    return sorted(after.records, key=lambda r: str(r["record_key"]))


def log(*lines: str, zone: dt.tzinfo = dt.UTC) -> bytes:
    """Lines `second|type|message`, seconds after T, of job 7.s; S, R, E, u, e get what they need of themselves."""
    written = []
    for text in lines:
        second, kind, message = text.split("|")
        stamp = dt.datetime.fromtimestamp(T + int(second), zone)
        written.append(f"{stamp:%m/%d/%Y %H:%M:%S};{kind};7.s;{message}\n")
    return "".join(written).encode()


def started(second: int) -> str:
    return f"{second}|S|user=u group=g queue=q jobname=j ctime={T} etime={T} start={T + second} owner=u@sub exec_host=h/0-3"


def ended(start: int, second: int, status: int = 0, more: str = "") -> str:
    return (
        f"{second}|E|user=u queue=q ctime={T} start={T + start} exec_host=h/0-3 end={T + second} Exit_status={status}"
        f" resources_used.cput=5 resources_used.walltime={second - start}{more}"
    )


def outcome(*lines: str) -> list[tuple[str, str, int | None, int | None, int | None]]:
    """(type of line it is made of, state, start, end, wallclock), whatever the order in which the lines were read.

    Read at once, and in two loads divided anywhere, each followed by the rule; the lines of the second may be read first.
    """
    data = log(*lines)
    [whole] = wholes(PARSER.parse_block(Block(data, 0), SOURCE)) or [Whole("7", ())]
    due = [shown(row) for row in settled(whole)]
    mixed = list(whole.parts)
    random.Random(1).shuffle(mixed)
    assert [shown(r) for r in settled(dataclasses.replace(whole, parts=tuple(mixed)))] == due
    for cut in range(len(whole.parts) + 1):
        for parts, records in itertools.product((whole.parts[:cut], whole.parts[cut:]), ((), whole.records)):
            early = with_result(Whole("7", parts, records), complete(Whole("7", parts, records)))
            known = {(r["record_key"], r["logged_at"]): r for r in [*whole.records, *early.records]}
            late = settled(dataclasses.replace(whole, records=tuple(known.values())))
            assert [shown(r) for r in late if not is_taken_back(r)] == due
    return due


def shown(row: Row) -> tuple[str, str, int | None, int | None, int | None]:
    start, end, wall = (row[name] for name in ("start_at", "end_at", "wall_duration_s"))
    assert all(value is None or isinstance(value, int) for value in (start, end, wall))
    first, last = (value - T if isinstance(value, int) else None for value in (start, end))
    return str(row["record_key"])[4], str(row["state"]), first, last, wall if isinstance(wall, int) else None


def is_taken_back(row: Row) -> bool:
    return (row["state"], row["start_at"], row["end_at"], row["wall_duration_s"]) == ("unknown", None, None, None)


def test_a_requeued_attempt_of_torque() -> None:
    assert outcome("0|Q|queue=q", started(10), "50|R|", started(60), ended(60, 90)) == [
        ("E", "completed", 60, 90, 30),
        ("S", "requeued", 10, 50, 40),
    ]
    [whole] = wholes(PARSER.parse_block(Block(log(started(10), "50|R|"), 0), SOURCE))
    [completed] = complete(whole)
    assert completed.origin is whole.parts[0]
    assert {name: value for name, value in completed.record.items() if value is not None} == {
        "record_key": f"pbs:S:batch:7.s:{T + 10}:{T + 10}",
        "lrms_job_id": "7.s",
        "join_id": "7",
        "user_name": "u",
        "group_name": "g",
        "queue": "q",
        "submit_host": "sub",
        "job_name": "j",
        "submit_at": T,
        "eligible_at": T,
        "start_at": T + 10,
        "end_at": T + 50,
        "logged_at": T + 10,
        "wall_duration_s": 40,
        "exec_hosts": '["4*h"]',
        "processors": 4,
        "node_count": 1,
        "state": "requeued",
    }


def test_attempts_in_a_row() -> None:
    assert outcome(started(10), "20|R|", started(30), "30|R|", "40|R|", started(50), "70|R|") == [
        ("S", "requeued", 10, 20, 10),
        ("S", "requeued", 30, 30, 0),
        ("S", "requeued", 50, 70, 20),
    ]


def test_a_requeue_of_the_same_second_as_the_next_start_is_of_the_attempt_before_it() -> None:
    assert outcome(started(10), "20|R|", "25|R|", started(25), started(40), ended(40, 50)) == [
        ("E", "completed", 40, 50, 10),
        ("S", "requeued", 10, 20, 10),
        ("S", "unknown", 25, None, None),
    ]


def test_an_end_before_the_requeue_is_the_record_of_the_attempt() -> None:
    """As 29 jobs of the Nebraska day: E, 12 s later R, then the next attempt."""
    assert outcome(started(10), ended(10, 50, 271), "62|R|", started(70), ended(70, 90)) == [
        ("E", "failed", 10, 50, 40),
        ("E", "completed", 70, 90, 20),
    ]


def test_a_lost_attempt() -> None:
    assert outcome(started(10), started(30), ended(30, 40)) == [("E", "completed", 30, 40, 10), ("S", "unknown", 10, None, None)]
    assert outcome(started(10)) == [], "it may still run"


def test_an_end_that_is_read_late_takes_the_lost_attempt_back() -> None:
    [early] = wholes(PARSER.parse_block(Block(log(started(10), started(30)), 0), SOURCE))
    made = with_result(early, complete(early))
    assert [shown(r) for r in made.records] == [("S", "unknown", 10, None, None)]
    [late] = wholes(PARSER.parse_block(Block(log(started(10), started(30), ended(10, 20)), 0), SOURCE))
    rows = settled(dataclasses.replace(late, records=(*late.records, *made.records)))
    assert [shown(r) for r in rows] == [("E", "completed", 10, 20, 10), ("S", "unknown", None, None, None)]


def test_a_job_that_never_started() -> None:
    assert outcome("0|Q|queue=a", "9|D|requestor=u@h") == [("Q", "never_started", None, 9, None)]
    assert outcome("0|Q|queue=a", "5|Q|queue=b", "9|D|u@h", "10|D|u@h") == [("Q", "never_started", None, 9, None)]
    assert outcome("0|Q|queue=a", "9|D|requestor=u@h", "11|A|") == [("Q", "never_started", None, 11, None)]
    assert outcome("9|D|requestor=u@h") == [], "it may have been queued or running"
    assert outcome("0|Q|queue=a") == []
    assert outcome("0|Q|queue=a", "9|D|requestor=u@h", started(10), ended(10, 20)) == [("E", "completed", 10, 20, 10)]


def test_what_a_queued_job_is_known_by() -> None:
    [torque] = wholes(PARSER.parse_block(Block(log("0|Q|queue=a", "9|A|"), 0), SOURCE))
    [row] = settled(torque)
    assert (row["queue"], row["submit_at"], row["user_name"], row["processors"]) == ("a", T, None, None)
    described = f"0|Q|user=u group=-default- project=p jobname=j queue=b ctime={T - 3} etime=0 Resource_List.select=4:ncpus=2"
    [pro] = wholes(PARSER.parse_block(Block(log(described, "9|A|Job deleted as result of dependency on job 6.s"), 0), SOURCE))
    [row] = settled(pro)
    assert [row[c] for c in ("queue", "submit_at", "user_name", "project", "processors")] == ["b", T - 3, "u", "p", None]


def test_a_number_that_comes_again_is_another_job() -> None:
    assert outcome("0|Q|queue=a", "9|D|", "1000|Q|queue=a", started(1010), ended(1010, 1020)) == [
        ("E", "completed", 1010, 1020, 10),
        ("Q", "never_started", None, 9, None),
    ]
    assert outcome("0|Q|queue=a", started(10), ended(10, 20), "1000|Q|queue=a", "1009|A|") == [
        ("E", "completed", 10, 20, 10),
        ("Q", "never_started", None, 1009, None),
    ]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (271, "cancelled"),
        (265, "cancelled"),
        (143, "cancelled"),
        (137, "cancelled"),
        (-1, "cancelled"),
        (0, "completed"),
        (1, "failed"),
    ],
)
def test_a_job_deleted_while_it_ran(status: int, state: str) -> None:
    plain = "failed" if status else "completed"
    for second, due in ((9, plain), (10, state), (49, state), (50 + DELETION_GRACE_S, state), (51 + DELETION_GRACE_S, plain)):
        assert outcome(started(10), ended(10, 50, status), f"{second}|D|requestor=u@h") == [("E", due, 10, 50, 40)]


def test_a_deletion_does_not_hide_why_the_system_ended_a_job() -> None:
    assert outcome("20|D|", ended(10, 50, -10, " resources_used.energy_used=0 start_count=1")) == [
        ("E", "out_of_memory", 10, 50, 40)
    ]
    assert outcome("20|D|", ended(10, 50, 271, " Resource_List.walltime=40")) == [("E", "timeout", 10, 50, 40)]


def test_a_job_that_was_discarded_with_its_node() -> None:
    assert outcome(started(10), "70|D|Job deleted, execution node h down") == [("S", "node_fail", 10, 70, 60)]


PRO = "user=u queue=q ctime={0} start={1} exec_host=h/0*8 exec_vnode=(h:ncpus=8) session=0 end={2}"


def test_the_second_requeue_record_of_pbs_pro_is_dropped() -> None:
    described = PRO.format(T, T + 10, T + 50)
    used = " Exit_status=-3 resources_used.cput=00:00:00 resources_used.walltime=00:00:40 run_count=1"
    assert outcome(started(10), f"50|R|{described}{used}", f"50|R|{described} run_count=1") == [("R", "requeued", 10, 50, 40)]
    assert outcome(started(10), f"50|R|{described} run_count=1") == [("R", "requeued", 10, 50, 40)]
    assert outcome(f"51|R|{described} run_count=1") == [("R", "requeued", 10, 50, 40)]


def phase(second: int, kind: str, slots: int, wall: int, cput: int) -> str:
    return (
        f"{second}|{kind}|user=u queue=q ctime={T} start={T + 10} exec_host=h/0*{slots} exec_vnode=(h:ncpus={slots})"
        f" session=5 run_count=1 resources_used.cput={cput} resources_used.mem={slots}kb resources_used.walltime={wall}"
    )


def test_a_job_that_gave_up_nodes() -> None:
    """8 slots for 100 s, 4 for 51 s, 1 for 7 s: 1011 slot-seconds."""
    end = ended(10, 168, 0, " run_count=1 exec_vnode=(h:ncpus=8)").replace("walltime=158", "walltime=7")
    lines = (started(10), phase(110, "u", 8, 100, 300), phase(161, "u", 4, 51, 90), phase(168, "e", 1, 7, 3), end)
    assert outcome(*lines) == [("E", "completed", 10, 168, 126)]
    [whole] = wholes(PARSER.parse_block(Block(log(*lines), 0), SOURCE))
    [row] = settled(whole)
    assert (row["processors"], row["wall_duration_s"], row["cpu_duration_s"], row["memory_real_kib"]) == (8, 126, 393, 8)
    said = json.loads(str(row["resources"]))
    assert said["slot_seconds"] == 8 * 100 + 4 * 51 + 7
    assert said["phases"][1] == {"slots": 4, "cput": "90", "mem": "4kb", "walltime": "51"}
    assert round(said["slot_seconds"] / 8) == row["wall_duration_s"]


def test_phases_that_are_not_all_known_change_nothing() -> None:
    end = ended(10, 168, 0, " run_count=1")
    assert outcome(phase(110, "u", 8, 100, 300), end) == [("E", "completed", 10, 168, 158)]
    assert outcome(phase(110, "u", 8, 100, 300), phase(168, "e", 0, 7, 3), end) == [("E", "completed", 10, 168, 158)]
    broken = phase(168, "e", 1, 7, 3).replace("walltime=7", "walltime=x")
    assert outcome(phase(110, "u", 8, 100, 300), broken, end) == [("E", "completed", 10, 168, 158)]


def test_a_start_that_is_not_described_as_it_should_be() -> None:
    lines = (f"10|S|start={T + 10} exec_host=/x", "20|R|")
    assert outcome(*lines) == [("S", "requeued", 10, 20, 10)]


def test_the_hour_that_comes_twice() -> None:
    """R in the second pass is taken for the first: then how long the attempt ran is not known, and it is not lost."""
    zone = ZoneInfo("America/Chicago")
    start = int(dt.datetime(2011, 11, 6, 7, 20, tzinfo=dt.UTC).timestamp())
    data = f"11/06/2011 01:20:00;S;7.s;start={start} exec_host=h/0\n11/06/2011 01:30:00;R;7.s;\n".encode()
    [whole] = wholes(PARSER.parse_block(Block(data, 0), dataclasses.replace(SOURCE, zone=zone)))
    [row] = settled(whole)
    assert (row["state"], row["start_at"], row["end_at"], row["wall_duration_s"]) == ("requeued", start, start, None)


@pytest.mark.parametrize("last", [b"D;7.s;requestor=u@h", b"A;7.s;"])
def test_a_job_that_leaves_the_queue_in_the_second_pass_of_the_hour_that_comes_twice(last: bytes) -> None:
    """D is taken for one before Q; the job has left all the same, not before it came."""
    data = b"10/29/2023 02:50:00;Q;7.s;queue=a\n10/29/2023 02:10:00;" + last + b"\n"
    [whole] = wholes(PARSER.parse_block(Block(data, 0), dataclasses.replace(SOURCE, zone=ZoneInfo("Europe/Zurich"))))
    [row] = settled(whole)
    queued_at = int(dt.datetime(2023, 10, 29, 0, 50, tzinfo=dt.UTC).timestamp())
    assert (row["state"], row["submit_at"], row["end_at"]) == ("never_started", queued_at, queued_at)
    assert outcome("0|D|requeue=u@h", "3601|Q|queue=a") == [], "of a job that had the number before"


def of_day(name: str, zone: str) -> tuple[bytes, list[Whole]]:
    data = bz2.decompress((SAMPLES / name).read_bytes())
    return data, wholes(PARSER.parse_block(Block(data, 0), dataclasses.replace(SOURCE, zone=ZoneInfo(zone))))


def by_order(data: bytes) -> Counter[str]:
    """What the types of the lines of each id, in their order, say without any time."""
    found: Counter[str] = Counter()
    types: dict[bytes, str] = defaultdict(str)
    for unit in data.splitlines():
        _, kind, job, _ = unit.split(b";", 3)
        types[job] += kind.decode()
    for order in types.values():
        runs = False
        for letter in order:
            found["unknown"] += letter == "S" and runs
            found["requeued"] += letter == "R" and runs
            runs = letter == "S" or (runs and letter not in "RE")
        found["never_started"] += order.startswith("QD") and not set(order) & set("SE")
    return found


@pytest.mark.parametrize(
    ("name", "zone", "due"),
    [
        (
            "gratia-torque-20110908.log.bz2",
            "America/Chicago",
            {"requeued": 2243, "unknown": 18, "never_started": 151, "cancelled": 124},
        ),
        ("gratia-pbspro-20100929.log.bz2", "America/Indiana/Indianapolis", {"requeued": 10, "never_started": 46, "cancelled": 57}),
    ],
)
def test_the_two_days(name: str, zone: str, due: dict[str, int]) -> None:
    data, found = of_day(name, zone)
    rows = [row for whole in found for row in settled(whole)]
    states = Counter(str(row["state"]) for row in rows)
    assert {state: states[state] for state in due} == due
    expected = by_order(data)
    assert {state: states[state] for state in ("requeued", "unknown", "never_started")} == {
        state: expected[state] for state in ("requeued", "unknown", "never_started")
    }
    assert not any(is_taken_back(row) for row in rows)
    assert all(row["cpu_duration_s"] is None for row in rows if str(row["record_key"])[4] in "SQ")
    keys = [row["record_key"] for row in rows]
    assert len(set(keys)) == len(keys)
