"""The SGE fast lane against the careful lane: the same records, parts, rejects and skips, of any bytes and however they are cut."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchacct.model import JOB, PART
from batchacct.parsing import LINES, Block, Parsed, Source
from batchacct.parsing.reading import read_blocks
from loccol.sge import PARSER
from loccol.sge_fast import fast_lane
from tests.loccol.sge_samples import CAREFUL, SAMPLES, SOURCE, lines, sample

FILES = sorted(SAMPLES.glob("*.acct"))
EVERY = [line for path in FILES for line in lines(path.name)]
SERIAL_74 = lines("xdmod-tests-uge.acct")[1].replace(b":threads:16:", b":NONE:1:")
REAL = [
    SERIAL_74, *lines("apel-tests.acct"), *lines("apel-tests-uge82.acct"), *lines("misc.acct"),
    *lines("pretty-accounting-tests.acct"), *lines("psmn-sge819.acct"), *lines("xdmod-tests-uge.acct"),
    *lines("safe-tests-sge6.acct")[10:], *lines("safe-tests-uge862.acct")[19:30], *lines("wyntonquery-sge819.acct")[:3],
]  # fmt: skip

ODD_LINES = [
    b"", b" ", b"# Version: 8.6.2", b"#", b"x", b":" * 60, b"\0" * 300, b"1159530010:acct:" + REAL[0],
    b"1159530010:acct:q:h:1:1:1:1:7:" + b":".join(b"%d" % n for n in range(60)), b"1159530010:host:x", b'{"job_number":4}',
    REAL[0].replace(b":NONE:3", b":1.x:3"),
]  # fmt: skip
FRAGMENTS = [
    b":", b"::", b" ", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbf\xbd", b"\xc3\xa9", b'"', b"\\", b",", b"=", b".",
    b"-", b"+", b"e5", b"0", b"00", b"7", b"NONE", b":NONE:", b":0.000000:NONE:5.0", b"1.node7", b"#", b"-l gpu=2", b"\xe9",
]  # fmt: skip
VALUES = [
    b"", b"NONE", b"0", b"1", b"2", b"-1", b"00", b"01", b"5.", b".5", b"0.5", b"1.5", b"2.500000", b"0.4999999", b"1e5", b"1E-2",
    b"12.34.5", b"1.1234567", b"1.12345678", b"0.00000000", b"nan", b"inf", b"+1", b" 1", b"1 ", b"37", b"44", b"24", b"25", b"100",
    b"137", b"255", b"256", b"4294967295", b"4102444799", b"4102444800", b"100000000000", b"100000000001", b"1543336554",
    b"1543336554999", b"1543336554999999", b"9999999999999999", b"99999999999999999", b"999999999999.9999999", b"1000000000000",
    b"UNKNOWN", b"(null)", b"sge", b"smp", b"1.node07", b"1.a b", b"1.\xc3\xa9", b"caf\xc3\xa9", b"\xff", b'a"b\\c', b"a\tb",
    b"-l h_rt=10", b"-l h_rt=1\xff00\xff00,gpu=2", b"-l h_vmem=1M -pe x 2", b"-soft -l gpu=1", b"alice@login", b"execd@n1",
]  # fmt: skip
CHOSEN = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 16, 31, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 46, 47, 49, 51, 53, 68]
MUTATED = settings(
    deadline=None, max_examples=int(os.environ.get("BATCHACCT_FUZZ", "130")), suppress_health_check=list(HealthCheck)
)  # fmt: skip


def insert(draw: st.DrawFn, line: bytes) -> bytes:
    at = draw(st.integers(0, len(line)))
    return line[:at] + draw(st.sampled_from(FRAGMENTS)) + line[at:]


def remove(draw: st.DrawFn, line: bytes) -> bytes:
    at = draw(st.integers(0, len(line)))
    return line[:at] + line[at + draw(st.integers(1, 3)) :]


def truncate(draw: st.DrawFn, line: bytes) -> bytes:
    return line[: draw(st.integers(0, len(line)))]


def replace(draw: st.DrawFn, line: bytes) -> bytes:
    tokens = line.split(b":")
    number = draw(st.sampled_from(CHOSEN))
    if number < len(tokens):
        tokens[number] = draw(st.sampled_from(VALUES))
    return b":".join(tokens)


def other_length(draw: st.DrawFn, line: bytes) -> bytes:
    tokens = line.split(b":") + [b"0"] * 35
    return b":".join(tokens[: draw(st.sampled_from([39, 40, 42, 43, 44, 45, 46, 47, 52, 53, 54, 55, 60, 73, 74, 75]))])


MUTATIONS: list[Callable[[st.DrawFn, bytes], bytes]] = [
    insert, remove, truncate, other_length, replace, replace, replace, replace, replace,
]  # fmt: skip


@st.composite
def units(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(ODD_LINES))
    line = draw(st.sampled_from(REAL))
    for mutate in draw(st.lists(st.sampled_from(MUTATIONS), max_size=3)):
        line = mutate(draw, line)
    return line


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    newline = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]))
    return newline.join(draw(st.lists(units(), max_size=8))) + draw(st.sampled_from([b"", newline]))


def assert_same(found: Parsed, expected: Parsed) -> None:
    for ours, theirs in ((found.records, expected.records), (found.parts, expected.parts)):
        for name in theirs.schema.names:
            assert ours[name].to_pylist() == theirs[name].to_pylist(), name
        assert ours.equals(theirs)
        ours.validate(full=True)
    assert found.rejects == expected.rejects
    assert dict(found.skipped) == dict(expected.skipped)
    assert found.units == expected.units


@MUTATED
@given(logs())
@example(b"")
@example(b"\n")
@example(REAL[0])
@example(b"\n\n" + REAL[0])
@example(SERIAL_74.replace(b":668106752:", b":0.5:"))
@example(b"a:b:c:d:e:1" + REAL[0][REAL[0].index(b":sge:") :] + b"\n" + REAL[1])
@example(b"\n".join(ODD_LINES))
def test_both_lanes_find_the_same(log: bytes) -> None:
    block = Block(log, 1000)
    assert_same(PARSER.parse_block(block, SOURCE), CAREFUL.parse_block(block, SOURCE))


@MUTATED
@given(logs())
def test_damage_is_foreseen_and_costs_no_neighbour(log: bytes) -> None:
    last = lines("wyntonquery-sge819.acct")[1]
    whole = log + b"\n" + last
    parsed = PARSER.parse_block(Block(whole, 0), SOURCE)
    assert parsed.units == len(list(LINES.spans(whole)))
    assert not any("does not foresee" in reject.reason for reject in parsed.rejects)
    assert parsed.records["source_offset"].to_pylist()[-1] == len(whole) - len(last)


@MUTATED
@given(st.lists(units(), max_size=12), st.lists(st.integers(1, 3000), min_size=1, max_size=6))
def test_any_cutting_finds_the_same(some: list[bytes], sizes: list[int]) -> None:
    log = b"\n".join(some) + b"\n"
    whole = CAREFUL.parse_block(Block(log, 0), SOURCE)
    for size in sizes:
        pieces = [PARSER.parse_block(block, SOURCE) for block in read_blocks(io.BytesIO(log), LINES, block_bytes=size)]
        assert [row for p in pieces for row in p.records.to_pylist()] == whole.records.to_pylist()
        assert [row for p in pieces for row in p.parts.to_pylist()] == whole.parts.to_pylist()
        assert [reject for p in pieces for reject in p.rejects] == list(whole.rejects)
        assert sum(p.units for p in pieces) == whole.units


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_both_lanes_find_the_same_in_the_samples(path: Path) -> None:
    block = Block(path.read_bytes(), 0)
    assert_same(PARSER.parse_block(block, SOURCE), CAREFUL.parse_block(block, SOURCE))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("apel-tests.acct", 1),
        ("gbsc_utils-tests.acct", 0),
        ("misc.acct", 0),
        ("pretty-accounting-tests.acct", 1),
        ("safe-tests-sge6.acct", 0),
        ("safe-tests-uge862.acct", 4),
        ("wyntonquery-sge819.acct", 4),
        ("xdmod-tests-uge.acct", 0),
    ],
)
def test_the_fast_lane_takes_what_is_regular(name: str, left: int) -> None:
    """Else all tests here would pass with a fast lane that takes nothing."""
    data = sample(name)
    regular = fast_lane(Block(data, 0), SOURCE, "sge/1")
    assert len(regular.left) == left
    taken = regular.records.num_rows + regular.parts.num_rows + sum(regular.skipped.values())
    assert taken + left == len(list(LINES.spans(data)))


def test_a_block_of_everything() -> None:
    data = b"\n".join(EVERY)
    assert_same(PARSER.parse_block(Block(data, 7), SOURCE), CAREFUL.parse_block(Block(data, 7), SOURCE))


@pytest.mark.parametrize("source", [Source("s"), Source("s", cluster=None), Source("s", site=None, cluster='\u00e9"')])
def test_whatever_the_source(source: Source) -> None:
    block = Block(sample("safe-tests-sge6.acct"), 0)
    assert_same(PARSER.parse_block(block, source), CAREFUL.parse_block(block, source))


def test_workers_keep_the_order() -> None:
    data = sample("wyntonquery-sge819.acct")
    blocks = list(read_blocks(io.BytesIO(data), LINES, block_bytes=20_000))
    assert len(blocks) > 10
    one, two = ([*PARSER.parse(blocks, SOURCE, workers=n)] for n in (1, 3))
    for what in ("records", "parts"):
        assert pa.Table.from_batches(getattr(p, what) for p in one).equals(pa.Table.from_batches(getattr(p, what) for p in two))


def test_schemas_are_those_of_the_record_types() -> None:
    for data in (b"\n".join(REAL), b"x\n"):
        regular = fast_lane(Block(data, 0), SOURCE, "sge/1")
        assert regular.records.schema.equals(JOB.schema, check_metadata=True)
        assert regular.parts.schema.equals(PART.schema, check_metadata=True)


def test_a_long_line_and_a_binary_one() -> None:
    good = REAL[0]
    for bad in (
        b"\0" * 1_000_000,
        b"a:" * 500_000,
        b"1:" * 500_000,
        b'"' * 1_000_000,
        good + b"9" * 1_000_000,
        b"\xff" * 1_000_000,
    ):
        parsed = PARSER.parse_block(Block(good + b"\n" + bad + b"\n" + good, 0), SOURCE)
        assert parsed.records.num_rows >= 2
        assert parsed.units == 3
