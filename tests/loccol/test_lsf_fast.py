"""The LSF fast lane against the careful lane: the same records, rejects and skips, of any bytes and however they are cut."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchacct.model import JOB
from batchacct.parsing import Block, Parsed, RejectedUnit, Source
from loccol.lsf import PARSER
from loccol.lsf_fast import fast_lane

SAMPLES = Path(__file__).parent.parent / "samples" / "lsf"
SOURCE = Source("lsf-test", site="SITE", cluster="batch")
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)


def head_of(name: str, *lines: int) -> list[bytes]:
    whole = (SAMPLES / name).read_bytes().split(b"\n")
    return [whole[line - 1] for line in lines]


PLAIN = [
    *head_of("gratia-lsf6-infn.acct", 1, 2, 300),
    *head_of("apel-tests.acct", 1),
    *head_of("dgas-tests-7.02.acct", 2),
    *head_of("epcc-safe-7.03.acct", 4),
    *head_of("hpc-cost-simulator.acct", 1, 2, 3, 80, 95, 100, 114, 118),
    *head_of("misc-9.12-10.1.acct", 1, 2),
    *head_of("xdmod-tests.acct", 1, 3),
]
PLAIN.append(re.sub(rb" 0 8 host1201-ib .*? 43200 ", b" 0 0 43200 ", PLAIN[-2]))
PLAIN.append(PLAIN[6] + b" 0.466667 0.466667 0.000000")
PLAIN.append(PLAIN[6].replace(b"select[type == any]", b"rusage[ngpus_physical=2.00]"))
ODD_LINES = [
    b"",
    b"# a comment, it's \"quoted",
    b'"PIPPO" "7.02" 1278441653 "glow"',
    b'"EVENT_ADRSV_FINISH" "10.1" 1 2 "r#0"',
    b'"JOB_RESIZE" "7.06" 1',
    b"\0" * 40,
    b'stray "',
    b' "continued',
    b'"JOB_FINISH" "',
    b'"JOB_FINISH" "7.02"',
    *head_of("hpc-cost-simulator-bad.acct", *range(1, 12)),
    *(SAMPLES / "epcc-safe-7.03-folded.acct").read_bytes().split(b"\n")[:3],
    *(SAMPLES / "apel-tests-newline.acct").read_bytes().split(b"\n")[:2],
]
FRAGMENTS = [
    b" ", b"  ", b"\t", b'"', b'""', b'"""', b"\n", b"\r", b"\r\n", b"\0", b"\xa1", b"\xc3\xa9", b"!", b"!\n ", b"-",
    b"-1", b".", b"1.5.2", b"1e5", b"+1", b"00", b"7", b"'", b"\\", b"#", b"*", b"2*a", b'"b"', b' "x" ', b" 0 ",
    b" 0.5 ", b" -1 ", b"99999999999999999999", b"9223372036854775807", b"1234567890123456", b"12345678901234567",
    b'"JOB_FINISH" "7.02" 1089407406 1 2 3', b'"lsfhost.localdomain"', b'"1"', b"ngpus_physical=1", b'"/a//b"',
]  # fmt: skip
NUMBERS = [
    b"-1", b"0", b"1", b"2", b"02", b"-0", b"64", b"32", b"192", b"5", b"16", b"256", b"65280", b"65536", b"-5",
    b"0.5", b"0.500000", b"1.500000", b"2.500000", b"-1.000000", b"0.1234567", b"1e5", b"4102444799", b"4102444800",
    b"1000000001", b"999999999.999999", b"1000000000.000001", b"123456789012345", b"9223372036854775808", b'""',
    b'"1"', b"x",
]  # fmt: skip

STRINGS = [
    b"", b"a", b"lsfhost.localdomain", b"16*h", b"/g/u", b'""', b'a""b', b"a\tb", b"a\\b", b"1.2", b"caf\xc3\xa9", b"\xff",
    b"a b",
]  # fmt: skip


def insert(draw: st.DrawFn, line: bytes) -> bytes:
    at = draw(st.integers(0, len(line)))
    return line[:at] + draw(st.sampled_from(FRAGMENTS)) + line[at:]


def remove(draw: st.DrawFn, line: bytes) -> bytes:
    at = draw(st.integers(0, len(line)))
    return line[:at] + line[at + draw(st.integers(1, 3)) :]


def truncate(draw: st.DrawFn, line: bytes) -> bytes:
    return line[: draw(st.integers(0, len(line)))]


def cut_after_field(draw: st.DrawFn, line: bytes) -> bytes:
    fields = line.split(b" ")
    return b" ".join(fields[: draw(st.integers(max(0, len(fields) - 50), len(fields)))])


def replace_number(draw: st.DrawFn, line: bytes) -> bytes:
    places = [m.span(1) for m in re.finditer(rb"(?<= )(-?[0-9.]+)(?= |$)", line)]
    if not places:
        return line
    start, end = draw(st.sampled_from(places))
    return line[:start] + draw(st.sampled_from(NUMBERS)) + line[end:]


def replace_string(draw: st.DrawFn, line: bytes) -> bytes:
    places = [m.span() for m in re.finditer(rb'(?<= )"(?:[^"]|"")*"(?= |$)', line)]
    if not places:
        return line
    start, end = draw(st.sampled_from(places))
    inner = draw(st.sampled_from(STRINGS))
    return line[:start] + b'"' + inner + b'"' + line[end:]


def more_hosts(draw: st.DrawFn, line: bytes) -> bytes:
    hosts = draw(st.lists(st.sampled_from([b"a", b"b", b"16*c", b"d@lsf1", b"0*e", b'f""g', b""]), max_size=5))
    listed = b"".join(b' "%s"' % host for host in hosts)
    return re.sub(rb' 0 1 "[^"]*" ', lambda _: b" 0 %d%s " % (len(hosts), listed), line, count=1)


def array_ranges(draw: st.DrawFn, line: bytes) -> bytes:
    line = re.sub(rb'("" "" )0( [0-9]+ [0-9]+ "" "" "")', rb"\1-1\2", line, count=1)
    return re.sub(rb" -1 0 0 0( 0 0)?$", rb" -1 1 678 1000 1 0 0\1", line, count=1)


def append(draw: st.DrawFn, line: bytes) -> bytes:
    return line + draw(st.sampled_from([b" 0", b" 1 2", b' "x"', b" 0.1 0.2 0.3", b" ", b"\r", b'"', PLAIN[0]]))


MUTATIONS: list[Callable[[st.DrawFn, bytes], bytes]] = [
    insert, remove, truncate, cut_after_field, replace_number, replace_number, replace_string, replace_string, more_hosts,
    array_ranges, append,
]  # fmt: skip


@st.composite
def units(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(ODD_LINES))
    line = draw(st.sampled_from(PLAIN))
    for mutate in draw(st.lists(st.sampled_from(MUTATIONS), max_size=2)):
        line = mutate(draw, line)
    return line


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    newline = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]))
    return newline.join(draw(st.lists(units(), max_size=7))) + draw(st.sampled_from([b"", newline]))


def assert_same(found: Parsed, expected: Parsed) -> None:
    for name in JOB.schema.names:
        assert found.records[name].to_pylist() == expected.records[name].to_pylist(), name
    assert found.records.equals(expected.records)
    assert found.rejects == expected.rejects
    assert dict(found.skipped) == dict(expected.skipped)
    assert found.units == expected.units


SLOW = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@SLOW
@given(logs())
@example(b"")
@example(b"\n")
@example(b'"')
@example(PLAIN[0])
@example(PLAIN[3] + b"\n \n")
@example(b'x "\n' + PLAIN[0] + b"\n")
@example(PLAIN[0] + b"\n" + b'"open\n\n# c\n' + PLAIN[1] + b'\n"\n')
@example(PLAIN[0].replace(b'"" "" 0 1804', b'"JOB_FINISH" "6.0" 1138280267 18 46') + b"\n")
def test_both_lanes_find_the_same(log: bytes) -> None:
    block = Block(log, 1000)
    assert_same(PARSER.parse_block(block, SOURCE), CAREFUL.parse_block(block, SOURCE))


def parse_in_pieces(log: bytes, sizes: list[int]) -> tuple[list[dict[str, object]], list[RejectedUnit], Counter[str]]:
    """As a follower does: bytes arrive, whole units are cut off, the rest waits for more."""
    records: list[dict[str, object]] = []
    rejects: list[RejectedUnit] = []
    skipped: Counter[str] = Counter()
    waiting, offset, arrived = b"", 0, 0
    for size in [*sizes, len(log)]:
        waiting += log[arrived : arrived + size]
        arrived = min(arrived + size, len(log))
        whole = PARSER.framing.cut(waiting, final=arrived == len(log) and size == len(log))
        parsed = PARSER.parse_block(Block(waiting[:whole], offset), SOURCE)
        records += parsed.records.to_pylist()
        rejects += parsed.rejects
        skipped.update(parsed.skipped)
        waiting, offset = waiting[whole:], offset + whole
    assert waiting == b""
    return records, rejects, skipped


@SLOW
@given(logs(), st.lists(st.integers(0, 2500), max_size=8))
@example(b'stray "\nx\n' + PLAIN[0] + b' "open\n', [2500])
def test_any_cutting_finds_the_same(log: bytes, sizes: list[int]) -> None:
    records, rejects, skipped = parse_in_pieces(log, sizes)
    whole = CAREFUL.parse_block(Block(log, 0), SOURCE)
    assert records == whole.records.to_pylist()
    assert sorted(rejects, key=lambda r: r.offset) == sorted(whole.rejects, key=lambda r: r.offset)
    assert skipped == Counter(whole.skipped)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.acct")), ids=lambda p: p.name)
def test_both_lanes_find_the_same_in_the_samples(path: Path) -> None:
    block = Block(path.read_bytes(), 0)
    assert_same(PARSER.parse_block(block, SOURCE), CAREFUL.parse_block(block, SOURCE))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("gratia-lsf6-infn.acct", 0),
        ("dgas-tests-7.02.acct", 0),
        ("misc-9.12-10.1.acct", 0),
        ("hpc-cost-simulator.acct", 2),
        ("gratia-lsf7-ou.acct", 2),
        ("epcc-safe-7.03.acct", 5),
    ],
)
def test_the_fast_lane_takes_what_is_regular(name: str, left: int) -> None:
    """Else all tests here would pass with a fast lane that takes nothing."""
    data = (SAMPLES / name).read_bytes()
    regular = fast_lane(Block(data, 0), SOURCE, "lsf/1")
    assert len(regular.left) == left
    assert regular.records.num_rows + left == len(list(PARSER.framing.spans(data)))


@pytest.mark.parametrize("number", range(len(PLAIN)))
def test_every_version_has_a_regular_line(number: int) -> None:
    """All but LSF-SLURM's, one with usage by host, an array range, and job 203, whose CPU times were edited to `-1`."""
    line = PLAIN[number]
    odd = any(mark in line for mark in (b"lsfhost.localdomain", b" 8 host1201-ib ", b"[1-1000]", b'"1656072937.203"'))
    assert fast_lane(Block(line + b"\n", 0), SOURCE, "lsf/1").records.num_rows == (not odd)


def test_workers_keep_the_order() -> None:
    data = (SAMPLES / "gratia-lsf6-infn.acct").read_bytes()
    blocks, start = [], 0
    while start < len(data):
        size = PARSER.framing.cut(data[start : start + 20_000], final=False)
        blocks.append(Block(data[start : start + size], start))
        start += size
    one, two = (pa.Table.from_batches(p.records for p in PARSER.parse(blocks, SOURCE, workers=n)) for n in (1, 3))
    assert len(blocks) > 30
    assert one.equals(two)
    assert one.num_rows == 1150


def test_schema_of_the_fast_lane_is_that_of_the_record_type() -> None:
    assert fast_lane(Block(PLAIN[0] + b"\n", 0), SOURCE, "lsf/1").records.schema.equals(JOB.schema, check_metadata=True)
    assert fast_lane(Block(b"x\n", 0), SOURCE, "lsf/1").records.schema.equals(JOB.schema, check_metadata=True)
