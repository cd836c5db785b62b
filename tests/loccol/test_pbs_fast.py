"""The PBS fast lane against the careful lane: the same records, parts, rejects and skips, of any bytes and however they are cut."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchacct.model import JOB, PART
from batchacct.parsing import LINES, Block, Parsed, RejectedUnit, Source
from batchacct.parsing.reading import read_blocks
from loccol.pbs import PARSER
from loccol.pbs_fast import fast_lane

SAMPLES = Path(__file__).parent.parent / "samples" / "pbs"
SOURCE = Source("pbs-test", site="SITE", cluster="batch", zone=ZoneInfo("America/Chicago"))
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)
MANY = int(os.environ.get("BATCHACCT_FUZZ", "100"))


def lines_of(name: str, *numbers: int) -> list[bytes]:
    whole = (SAMPLES / name).read_bytes().split(b"\n")
    return [whole[number - 1] for number in numbers]


def first_of(name: str, *kinds: bytes) -> list[bytes]:
    """The first lines of each of these types."""
    whole = (SAMPLES / name).read_bytes().split(b"\n")
    return [unit for kind in kinds for unit in [u for u in whole if u[19:22] == b";%s;" % kind][:3]]


PLAIN = [
    *lines_of("apel-tests.log", 1, 2, 3, 4, 5, 7, 8, 9),
    *lines_of("epcc-safe.log", 1, 5, 6, 13, 18, 41),
    *lines_of("hnormalise.log", 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13),
    *lines_of("misc.log", *range(1, 11)),
    *lines_of("ncar-pbsparse.log", *range(1, 9)),
    *lines_of("osc-pbstools.log", 1, 2, 3, 4),
    *lines_of("xdmod-tests.log", *range(1, 10)),
    *first_of("gratia-pbspro-20100929-extract.log", b"Q", b"S", b"E", b"R", b"D", b"L"),
    *first_of("gratia-torque-20110908-extract.log", b"Q", b"S", b"E", b"R", b"D", b"A"),
]
SHORT = [unit for unit in PLAIN if len(unit) < 1000]
ODD = [
    b"", b" ", b"# comment", b"\0" * 30, b"09/08/2011 00:02:54;E;", b"09/08/2011 00:02:54;E;1.s;", b"09/08/2011 00:02:54;S;1.s; ",
    b"09/08/2011 00:02:54;E;1.s;a", b"09/08/2011 00:02:54;E;1.s;=", b"09/08/2011 00:02:54;E;1.s;start=1 end=2",
    b"09/08/2011 00:02:54;R;1.s; ", b"09/08/2011 00:02:54;Q;12[].s;queue=a", b"x", b";;;;", b"    =;", b"=" * 40, b";" * 40,
    b"11/06/2011 01:30:00;Q;1.s;queue=a", b"03/13/2011 02:30:00;D;1.s;", b"02/29/2011 02:30:00;D;1.s;",
    *lines_of("apel-tests-bad.log", 1, 2, 3, 4), *lines_of("epcc-safe-bad.log", 1, 2, 3), *lines_of("apel-tests.log", 6),
]  # fmt: skip
FRAGMENTS = [
    b" ", b"  ", b"=", b";", b'"', b"'", b'" ', b'="', b" x=1", b" user=a", b" start=5", b" end=9", b"\n", b"\r", b"\r\n",
    b"\t", b"\0",
    b"\xe9", b"\xc3\xa9", b"\x7f", b"\\", b"-", b":", b"*", b"+", b"/", b"*0", b",", b"@", b"[", b"]", b"[3]", b"[]", b"0",
    b"00", b"1",
    b"kb", b"mb", b" Resource_List.mem=3gb", b" resources_used.a=b", b" resources_used.a=b=c", b' resources_used.a="b"',
    b" resources_used.a='b'", b" resources_used.mem=5kb", b" account=\"a\"", b" account=\"\"", b" account=\"a b\"", b" account=",
    b" project=_pbs_project_default", b" group=-default-", b" Resource_List.ngpus=2", b" Resource_List.nodes=2:ppn=3:gpus=1",
    b" exec_vnode=(a:ncpus=2:ngpus=1)", b" exec_vnode=(a:ncpus=0)", b" Exit_status=-11", b" Exit_status=271", b" run_count=2",
    b" start_count=3", b" total_execution_slots=7", b" Resource_List.mppwidth=8", b" resources_used.energy_used=9",
    b" Resource_List.gpu_type=a100", b" Resource_Request_2.0=-L a=1 -L b=2", b" owner=a@b@c", b" owner=@", b" ctime=0",
    b"09/08/2011 00:02:54;E;9.s;user=z",
]  # fmt: skip
VALUES = [
    b"", b"0", b"1", b"-1", b"271", b"265", b"143", b"256", b"-10", b"-11", b"-29", b"00:10:00", b"1:2:3", b"1:02:03", b"100:00:00",
    b"01:0x:00", b":00:00", b"0:00:00", b"4102444799", b"4102444800", b"1315419292", b"99999999999", b"0b", b"0kb", b"12kb",
    b"12KB",
    b"12mb", b"123456789012345kb", b"1234567890123456kb", b"kb", b"12.27M", b"a/0", b"a/0+a/1+b/0", b"a/0-3", b"a/0*4", b"a/0*0",
    b"a/0*04", b"a/1*2+b/1*2", b"a", b"/0", b"a/", b'a"/0', b"a\\/0", b"(a:ncpus=4)", b'"q"', b"'q'", b'"', b'""', b'"a', b'a"',
    b"-default-", b"u@h", b"@", b"h@", b"x=y", b"\\", b"123456789", b"1234567890", b"000", b"2:ppn=4:gpus=2",
]  # fmt: skip


def insert(draw: st.DrawFn, unit: bytes) -> bytes:
    at = draw(st.integers(0, len(unit)))
    return unit[:at] + draw(st.sampled_from(FRAGMENTS)) + unit[at:]


def insert_attribute(draw: st.DrawFn, unit: bytes) -> bytes:
    places = [match.start() for match in re.finditer(rb" |$", unit)][1:] or [len(unit)]
    at = draw(st.sampled_from(places))
    return unit[:at] + draw(st.sampled_from([f for f in FRAGMENTS if f.startswith(b" ")])) + unit[at:]


def remove(draw: st.DrawFn, unit: bytes) -> bytes:
    at = draw(st.integers(0, len(unit)))
    return unit[:at] + unit[at + draw(st.integers(1, 3)) :]


def truncate(draw: st.DrawFn, unit: bytes) -> bytes:
    return unit[: draw(st.integers(0, len(unit)))]


def replace_value(draw: st.DrawFn, unit: bytes) -> bytes:
    places = [match.span(1) for match in re.finditer(rb"=([^ ]*)", unit)]
    if not places:
        return unit
    start, end = draw(st.sampled_from(places))
    return unit[:start] + draw(st.sampled_from(VALUES)) + unit[end:]


def remove_attribute(draw: st.DrawFn, unit: bytes) -> bytes:
    texts = unit.split(b" ")
    del texts[draw(st.integers(0, len(texts) - 1))]
    return b" ".join(texts)


def swap_attributes(draw: st.DrawFn, unit: bytes) -> bytes:
    texts = unit.split(b" ")
    one, other = draw(st.integers(0, len(texts) - 1)), draw(st.integers(0, len(texts) - 1))
    texts[one], texts[other] = texts[other], texts[one]
    return b" ".join(texts)


def change_head(draw: st.DrawFn, unit: bytes) -> bytes:
    parts = unit.split(b";", 3)
    changes: list[list[bytes]] = [
        [
            b"12/31/2099 23:59:59",
            b"01/01/1970 00:00:00",
            b"13/01/2011 00:00:00",
            b"09/08/2011 00:60:00",
            b"09/08/2011 00:02:5",
            b"",
        ],
        [b"E", b"S", b"Q", b"D", b"A", b"R", b"u", b"e", b"c", b"L", b"EE", b"", b" "],
        [
            b"1.s",
            b"1",
            b"1[2].s",
            b"1[].s",
            b"1-2.s",
            b"1[2",
            b"x",
            b"",
            b"1 2",
            b"1=2.s",
            b"1.s\xe9",
            b"1234567890123456789.s",
            b"1@s",
        ],
    ]
    which = draw(st.integers(0, min(2, len(parts) - 1)))
    parts[which] = draw(st.sampled_from(changes[which]))
    return b";".join(parts)


def append(draw: st.DrawFn, unit: bytes) -> bytes:
    return unit + draw(st.sampled_from([b" ", b"  ", b"\r", b" x", b" x=", b"\0", b"=", SHORT[0], b" " + SHORT[0]]))


MUTATIONS: list[Callable[[st.DrawFn, bytes], bytes]] = [
    insert, insert_attribute, insert_attribute, remove, truncate, replace_value, replace_value, replace_value, remove_attribute,
    swap_attributes, change_head, append,
]  # fmt: skip


@st.composite
def units(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 7)) == 0:
        return draw(st.sampled_from(ODD))
    unit = draw(st.sampled_from(SHORT))
    for mutate in draw(st.lists(st.sampled_from(MUTATIONS), max_size=3)):
        unit = mutate(draw, unit)
    return unit


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    newline = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]))
    return newline.join(draw(st.lists(units(), max_size=8))) + draw(st.sampled_from([b"", newline]))


def assert_same(found: Parsed, expected: Parsed) -> None:
    for batch, due in ((found.records, expected.records), (found.parts, expected.parts)):
        for name in due.schema.names:
            assert batch[name].to_pylist() == due[name].to_pylist(), name
        assert batch.equals(due)
    assert found.rejects == expected.rejects
    assert dict(found.skipped) == dict(expected.skipped)
    assert found.units == expected.units


FUZZ = settings(deadline=None, max_examples=MANY, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@FUZZ
@given(logs())
@example(b"")
@example(b"\n")
@example(b" \n\n=\n;\n")
@example(PLAIN[0])
@example(PLAIN[3] + b"\n \n")
@example(b"\n".join(ODD) + b"\n")
@example(b"\n".join(ODD * 2 + PLAIN))
@example(b"\r\n".join(PLAIN) + b"\r\n")
def test_both_lanes_find_the_same(log: bytes) -> None:
    block = Block(log, 1000)
    both = PARSER.parse_block(block, SOURCE)
    assert_same(both, CAREFUL.parse_block(block, SOURCE))
    assert both.units == len(list(LINES.spans(log)))


class _Pieces(io.RawIOBase):
    """A stream that hands out its bytes in pieces of these sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = io.BytesIO(data)
        self._sizes = iter(sizes)

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(size, next(self._sizes, size)))


@FUZZ
@given(logs(), st.lists(st.integers(1, 700), max_size=12), st.sampled_from([64, 500, 5000]))
def test_any_cutting_finds_the_same(log: bytes, sizes: list[int], block_bytes: int) -> None:
    blocks = list(read_blocks(_Pieces(log, sizes), PARSER.framing, block_bytes=block_bytes))
    parsed = list(PARSER.parse(blocks, SOURCE))
    whole = CAREFUL.parse_block(Block(log, 0), SOURCE)
    assert [row for p in parsed for row in p.records.to_pylist()] == whole.records.to_pylist()
    assert [row for p in parsed for row in p.parts.to_pylist()] == whole.parts.to_pylist()
    rejects: list[RejectedUnit] = [reject for p in parsed for reject in p.rejects]
    assert rejects == list(whole.rejects)
    assert sum(p.units for p in parsed) == whole.units


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.log")), ids=lambda p: p.name)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_both_lanes_find_the_same_in_the_samples(path: Path, newline: bytes) -> None:
    block = Block(path.read_bytes().replace(b"\n", newline), 0)
    assert_same(PARSER.parse_block(block, SOURCE), CAREFUL.parse_block(block, SOURCE))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("gratia-torque-2006.log", 0),
        ("gratia-torque-20110908-extract.log", 0),
        ("dgas-tests.log", 0),
        ("misc.log", 0),
        ("gratia-pbspro-20101202.log", 16),  # licences
        ("gratia-pbspro-20100929-extract.log", 24 + 17),  # licences, requeues with usage
        ("epcc-safe.log", 6),  # Cray widths
        ("hnormalise.log", 1),  # the parent of an array
        ("osc-pbstools.log", 4),  # a value with blanks
        ("xdmod-tests.log", 3),  # sizes in M, no exec_host, a chunk `*0`
    ],
)
def test_the_fast_lane_takes_what_is_regular(name: str, left: int) -> None:
    """Else all tests here would pass with a fast lane that takes nothing."""
    data = (SAMPLES / name).read_bytes()
    regular = fast_lane(Block(data, 0), SOURCE, "pbs/1")
    assert len(regular.left) == left
    assert regular.records.num_rows + regular.parts.num_rows + left == len(list(LINES.spans(data)))


def test_a_block_with_many_names_of_attributes() -> None:
    """And so with as many layouts as lines."""
    lines = [PLAIN[1] + b" resources_used.n%d=1" % number for number in range(400)]
    block = Block(b"\n".join(lines) + b"\n", 0)
    assert_same(PARSER.parse_block(block, SOURCE), CAREFUL.parse_block(block, SOURCE))
    assert not fast_lane(block, SOURCE, "pbs/1").left


def test_a_line_with_many_attributes_costs_no_neighbour() -> None:
    names = b"".join(b" resources_used.n%d=1" % number for number in range(5000))
    block = Block(b"\n".join([PLAIN[1], PLAIN[1] + names, PLAIN[2]]) + b"\n", 0)
    assert_same(PARSER.parse_block(block, SOURCE), CAREFUL.parse_block(block, SOURCE))


@pytest.mark.parametrize("zone", ["America/Chicago", "Australia/Lord_Howe", "Pacific/Apia", "UTC"])
def test_every_hour_of_a_year_has_the_same_time(zone: str) -> None:
    source = dataclasses.replace(SOURCE, zone=ZoneInfo(zone))
    first = dt.datetime(2011, 1, 1, 0, 17, 5, tzinfo=dt.UTC)
    stamps = [first + dt.timedelta(minutes=30 * number) for number in range(2 * 24 * 365)]
    block = Block("".join(f"{stamp:%m/%d/%Y %H:%M:%S};Q;1.s;queue=a\n" for stamp in stamps).encode(), 0)
    assert PARSER.parse_block(block, source).parts.equals(CAREFUL.parse_block(block, source).parts)


def test_without_a_cluster_nothing_is_lost() -> None:
    block = Block(b"\n".join(PLAIN), 0)
    source = dataclasses.replace(SOURCE, cluster=None)
    assert PARSER.parse_block(block, source).units == len(PLAIN)


def test_workers_keep_the_order() -> None:
    data = (SAMPLES / "gratia-torque-2006.log").read_bytes()
    blocks = list(read_blocks(io.BytesIO(data), PARSER.framing, block_bytes=9000))
    one, two = (pa.Table.from_batches(p.records for p in PARSER.parse(blocks, SOURCE, workers=n)) for n in (1, 3))
    assert len(blocks) > 10
    assert one.equals(two)
    assert one.num_rows == 174


def test_schemas_are_those_of_the_record_types() -> None:
    for data in (b"\n".join(PLAIN) + b"\n", b"x\n", b""):
        regular = fast_lane(Block(data, 0), SOURCE, "pbs/1")
        assert regular.records.schema.equals(JOB.schema, check_metadata=True)
        assert regular.parts.schema.equals(PART.schema, check_metadata=True)
