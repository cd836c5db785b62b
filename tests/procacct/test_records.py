"""Spool files: what a line becomes, which key a reject names, and both lanes alike whatever is in the lines."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.model import INSTANT, INTEGER, REAL, RecordType
from batchacct.parsing import Block, Parsed, Source, UnitParser
from procacct.record_values import LISTS, ORIGIN, SEEN_BY, WORDS
from procacct.records import GROUPS, OBJECTS, PROCESSES

SAMPLES = Path(__file__).parents[1] / "samples" / "procs"
OF_FILE = {"processes": PROCESSES, "objects": OBJECTS, "groups": GROUPS}
SOURCES = (Source("s", "SITE", "c1"), Source("s", None, None))


def both(parser: UnitParser, data: bytes, source: Source = SOURCES[0]) -> Parsed:
    """What the two lanes together make of a block, which is what the careful one makes of it alone."""
    (together,) = parser.parse([Block(data, 1000)], source)
    (careful,) = replace(parser, fast_lane=None).parse([Block(data, 1000)], source)
    assert together.records.schema.equals(careful.records.schema, check_metadata=True)
    assert together.records.equals(careful.records), careful.records.to_pydict()
    assert together.rejects == careful.rejects
    assert together.units == careful.units
    return together


def fast(parser: UnitParser, data: bytes, source: Source = SOURCES[0]) -> int:
    """How many lines the fast lane takes."""
    assert parser.fast_lane is not None
    return parser.fast_lane(Block(data, 0), source, parser.label).records.num_rows


def lines(name: str) -> list[bytes]:
    return (SAMPLES / f"{name}.jsonl").read_bytes().splitlines(keepends=True)


def test_a_line_becomes_a_record() -> None:
    (row,) = both(PROCESSES, lines("processes")[1]).records.to_pylist()
    assert row["arguments"] == r'["gcc","-c","a \"b\".c","-DX=ä\\n"]'
    assert row["environment"] == '{"OMP_NUM_THREADS":"8","LANG":"C.UTF-8"}'
    assert row["seen_by"] == '["connector","sensor","taskstats"]'
    assert (row["cluster"], row["site"], row["lrms"], row["join_id"]) == ("c1", "SITE", "Slurm", "4242")
    assert row["logged_at"].timestamp() == 1_790_000_003
    assert (row["start_ns"], row["elapsed_s"], row["exit_signal"]) == (1_790_000_000_101_000_000, 3.25, None)
    assert row["source_offset"] == 1000
    (other,) = both(PROCESSES, lines("processes")[7]).records.to_pylist()
    assert (other["cluster"], other["array_index"], other["arguments"]) == ("other", 7, "[]")


@pytest.mark.parametrize("name", OF_FILE)
def test_the_samples_go_through_both_lanes_alike(name: str) -> None:
    for source in SOURCES:
        both(OF_FILE[name], b"".join(lines(name)), source)
        for line in lines(name):
            both(OF_FILE[name], line, source)
    good = b"".join(line for line in lines(name) if both(OF_FILE[name], line).records.num_rows)
    taken = fast(OF_FILE[name], good)
    assert taken >= both(OF_FILE[name], good).records.num_rows - 1, "all but one with claims"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("v", 2, "v: version 1 of the form is due"),
        ("pid", "4711", "pid: a whole number is due"),
        ("pid", 2**63, "pid: it is no number of 64 bits"),
        ("pid", None, "pid: it is missing"),
        ("host", "", "host: it is missing"),
        ("started_at", 1.0, "started_at: a whole number is due"),
        ("elapsed_s", True, "elapsed_s: a number is due"),
        ("elapsed_s", 10**400, "elapsed_s: it is too large a number"),
        ("kind", "thread", "kind: one of program, fork, gap is due"),
        ("seen_by", ["rumour"], "seen_by: a list of some of acct, connector, sensor, taskstats, proc is due"),
        ("arguments", ["a", 1], "arguments: a list of texts is due"),
        ("environment", {"A": None}, "environment: an object of texts is due"),
        ("job_claims", [], "job_claims: an object is due"),
        ("processes", 0, "processes: it is 0 of a gap, and of nothing else"),
        ("kind", "gap", "processes: it is 0 of a gap, and of nothing else"),
        ("shoe_size", 43, "shoe_size: it is no key of process records in version 1"),
    ],
)
def test_a_reject_names_the_key(key: str, value: object, reason: str) -> None:
    line = json.dumps(json.loads(lines("processes")[1]) | {key: value}, separators=(",", ":")).encode()
    assert [one.reason for one in both(PROCESSES, line).rejects] == [reason]


def test_a_gap_says_how_many_were_lost() -> None:
    gap = json.loads(lines("processes")[6])
    del gap["lost_events"]
    (reject,) = both(PROCESSES, json.dumps(gap, separators=(",", ":")).encode()).rejects
    assert reject.reason == "lost_events: a gap says how many were lost"


def test_without_a_cluster_anywhere_it_is_a_reject() -> None:
    parsed = both(PROCESSES, b"".join(lines("processes")[:8]), SOURCES[1])
    assert [row["cluster"] for row in parsed.records.to_pylist()] == ["other"]
    assert {one.reason for one in parsed.rejects} == {"cluster: neither the line nor the configuration of the source names one"}


ODD = st.sampled_from(
    ["", '"', "\\", "\n", "\t", "\x01", "\0", "ä", "\U0001d51e", "\x7f", "\u2028", "a,b", '","', "]", '"environment":{']
)
TEXTS = ODD | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, -(2**63), 2**63]) | st.integers(0, 10**9)
REALS = st.sampled_from([0, 0.0, -0.0, 0.1, 1e-7, 5e-324, 1e300, 10**30, 123456789.125]) | st.floats(0, 1e9)
ODD_VALUES: st.SearchStrategy[object] = st.sampled_from(
    ["", None, "x", 1, 1.0, True, [], ["a"], [None], {}, {"a": "b"}, {"a": 1}, [[]]]
)


def value_of(name: str, kind: object) -> st.SearchStrategy[object]:
    if name in WORDS:
        return st.sampled_from(WORDS[name])
    if name == "seen_by":
        return st.lists(st.sampled_from(SEEN_BY), min_size=1, max_size=3)
    if name in LISTS:
        return st.lists(TEXTS, max_size=4)
    if name == "environment":
        return st.dictionaries(TEXTS, TEXTS, max_size=3)
    if name == "job_claims":
        return st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=2)
    return NUMBERS if kind in (INTEGER, INSTANT) else REALS if kind == REAL else TEXTS.filter(bool)


@st.composite
def line_of(draw: st.DrawFn, record_type: RecordType) -> bytes:
    """Mostly as the daemon writes it; sometimes with another value, another spelling, keys in another order, or twice."""
    odd = draw(st.integers(0, 7))
    found: dict[str, object] = {"v": 1}
    for column in record_type.columns:
        if column.name in ORIGIN or (column.name == "job_claims" and odd):
            continue
        if column.required or draw(st.booleans()):
            found[column.name] = draw(value_of(column.name, column.type))
    if record_type.name == "process":
        found["processes"] = 0 if found["kind"] == "gap" else draw(st.integers(1, 9))
        if found["kind"] == "gap":
            found["lost_events"] = draw(st.integers(0, 9))
    if odd == 1:
        found[draw(st.sampled_from([*sorted(found), "unheard_of"]))] = draw(ODD_VALUES)
    if odd == 2:
        del found[draw(st.sampled_from(sorted(found)))]
    if odd == 3:
        found = dict(draw(st.permutations(list(found.items()))))
    separators = (", ", ": ") if odd == 4 else (",", ":")
    text = json.dumps(found, ensure_ascii=odd == 5, separators=separators)
    if odd == 6:
        name = draw(st.sampled_from(sorted(found)))
        text = text[:-1] + f',"{name}":{json.dumps(found[name], ensure_ascii=False, separators=(",", ":"))}}}'
    return text.encode() + (b"\r\n" if odd == 7 and draw(st.booleans()) else b"\n")


@pytest.mark.parametrize("parser", OF_FILE.values(), ids=OF_FILE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_both_lanes_read_any_lines_alike(parser: UnitParser, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(line_of(parser.record_type), min_size=1, max_size=3))
    both(parser, b"".join(drawn), data.draw(st.sampled_from(SOURCES)))


TOKENS = (
    b"01",
    b"-1",
    b"1.0",
    b"1e2",
    b"1e400",
    b"-0",
    b"NaN",
    b"Infinity",
    b"true",
    b'"1"',
    b"null",
    b"{}",
    b"[]",
    b'""',
    b"2x",
    b"0x1",
)


@pytest.mark.parametrize("token", TOKENS, ids=lambda one: one.decode())
def test_both_lanes_read_any_token_alike(token: bytes) -> None:
    """In the place of a value of a line, before the key, or behind it: each key in turn."""
    found = json.loads(lines("processes")[1])
    for number, (name, value) in enumerate(found.items()):
        spelled = f'"{name}":{json.dumps(value, ensure_ascii=False, separators=(",", ":"))}'.encode()
        assert spelled in lines("processes")[1]
        put = (f'"{name}":'.encode() + token, spelled + token, token + spelled)[(number + len(token)) % 3]
        both(PROCESSES, lines("processes")[1].replace(spelled, put))


@pytest.mark.parametrize("seed", range(3))
def test_both_lanes_read_damaged_lines_alike(seed: int) -> None:
    """An object cut out of a list, two objects on a line, one on two: nothing that is wrong becomes right in the fast lane."""
    rng = random.Random(seed)
    pieces = (
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b" ",
        b"\xff",
        b"\0",
        b"}{",
        b'}\n{"v":1,',
        b',"environment":{"a":"b"}',
        b"1",
    )
    line = lines("processes")[1]
    for _ in range(100):
        damaged = bytearray(line)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(damaged))
            damaged[at : at + rng.choice((0, 0, 1, 20))] = rng.choice(pieces)
        both(PROCESSES, bytes(damaged))


def test_an_environment_within_a_list_is_no_list() -> None:
    line = lines("processes")[3]
    broken = line.replace(b'"seen_by":["connector"]', b'"seen_by":["connector","environment":{"a":"b"}]')
    assert broken != line
    assert both(PROCESSES, broken).records.num_rows == 0


def test_the_regular_is_taken_by_the_fast_lane() -> None:
    assert fast(PROCESSES, b"".join(lines("processes")[:2] * 50)) == 100
    assert fast(OBJECTS, b"".join(lines("objects")[:3])) == 3
    assert fast(GROUPS, b"".join(lines("groups")[:2])) == 2
