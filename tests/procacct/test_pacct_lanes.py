"""The fast lane of BSD accounting is the careful lane, only faster: over records of every kind, whole, damaged and torn."""

from __future__ import annotations

import os
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchacct.parsing import Block, Source
from procacct.pacct import PARSER
from tests.procacct.pacct_records import v3

SAMPLES = Path(__file__).parents[1] / "samples" / "pacct"
SOURCE = Source("s", "SITE", "c1", host="node01")
EXAMPLES = max(300, int(os.environ.get("BATCHACCT_FUZZ", "0")) // 50)

_u16 = st.one_of(st.sampled_from([0, 1, 0x1FFF, 0x2000, 0xFFFF]), st.integers(0, 0xFFFF))
_u32 = st.one_of(st.sampled_from([0, 1, 1 << 22, (1 << 22) + 1, 0xFFFFFFFF]), st.integers(0, 0xFFFFFFFF))
_ticks = st.one_of(
    st.integers(0, 1 << 24).map(float),
    st.floats(0, 2.0**40, width=32),
    st.sampled_from([float("nan"), float("inf"), -1.0, -0.0, 99.0, 100.0, 2.5e11]),
)
_status = st.one_of(st.integers(0, 255).map(lambda code: code << 8), st.sampled_from([9, 15, 0x8B, 64, 65, 127, 0x10000]), _u32)
_fields: dict[str, st.SearchStrategy[Any]] = {
    "flags": st.one_of(st.integers(0, 0x1F), st.integers(0, 255)),
    "version": st.one_of(st.just(3), st.just(3), st.integers(0, 255).map(lambda n: n & 0x7F)),
    "tty": st.one_of(st.just(0), st.integers(0x8800, 0x8FFF), _u16),
    "status": _status,
    "uid": _u32,
    "gid": _u32,
    "pid": st.one_of(st.integers(1, 1 << 22), _u32),
    "parent": st.one_of(st.integers(0, 1 << 22), _u32),
    "began": st.one_of(st.integers(1_500_000_000, 1_900_000_000), _u32),
    "elapsed": _ticks,
    **dict.fromkeys(("user", "system", "memory", "io", "blocks", "minor", "major", "swaps"), _u16),
    "name": st.one_of(st.sampled_from([b"bash", b"cc1plus", b"", b"a\0b", b"exactly15chars_"]), st.binary(max_size=16)),
    "big": st.booleans(),
}
_records = st.fixed_dictionaries({}, optional=_fields).map(lambda fields: v3(**fields))
_partial = st.just(v3(flags=0, status=0, user=0, system=0, memory=0, minor=0, major=0))
_units = st.one_of(_records, _records, _records, _partial, st.binary(min_size=64, max_size=64), st.just(bytes(64)))


def assert_lanes_equal(data: bytes, source: Source = SOURCE) -> None:
    block = Block(data, 640)
    both = PARSER.parse_block(block, source)
    careful = PARSER.parse_spans(block, PARSER.framing.spans(data), source)
    assert both.records.to_pylist() == careful.records.to_pylist()
    assert both.rejects == careful.rejects
    assert Counter(both.skipped) == Counter(careful.skipped)
    both.records.validate(full=True)


@settings(max_examples=EXAMPLES)
@given(st.lists(_units, max_size=12), st.binary(max_size=63))
@example([v3(began=4_102_444_798, elapsed=100.0), v3(began=4_102_444_798, elapsed=200.0)], b"")
@example([v3(elapsed=struct.unpack("<f", struct.pack("<f", 1e10))[0])], b"")
def test_lanes_are_equal(units: list[bytes], torn: bytes) -> None:
    assert_lanes_equal(b"".join(units) + torn)


@pytest.mark.parametrize("big", [False, True])
def test_a_signalling_nan_is_no_time_and_no_warning(*, big: bool) -> None:
    record = bytearray(v3(big=big))
    record[28:32] = (0x7F800001).to_bytes(4, "big" if big else "little")
    assert_lanes_equal(bytes(record))


def test_lanes_are_equal_over_the_samples() -> None:
    every = b"".join(path.read_bytes() for path in sorted(SAMPLES.glob("*.bin")))
    assert_lanes_equal(every)
    assert_lanes_equal(every, Source("s", None, "c1", host="node01"))


def test_without_a_cluster_all_are_rejects() -> None:
    parsed = PARSER.parse_block(Block(v3() * 3, 0), Source("s", "SITE", None))
    assert (parsed.records.num_rows, len(parsed.rejects)) == (0, 3)


@settings(max_examples=50)
@given(st.lists(_records, min_size=1, max_size=20))
def test_most_is_taken_by_the_fast_lane_where_it_is_regular(units: list[bytes]) -> None:
    """What the careful lane makes a record of with a name of plain text, the fast lane takes by itself."""
    block = Block(b"".join(units), 0)
    assert PARSER.fast_lane is not None
    regular = PARSER.fast_lane(block, SOURCE, PARSER.label)
    left = PARSER.parse_spans(block, regular.left, SOURCE)
    odd = [row for row in left.records.to_pylist() if row["native"][1] & 0x0F == 3 and _is_plain(row["native"][48:])]
    assert odd == []


def _is_plain(name: bytes) -> bool:
    text, _, rest = name.partition(b"\0")
    return bool(text) and not any(rest) and all(0x20 <= byte <= 0x7E for byte in text)
