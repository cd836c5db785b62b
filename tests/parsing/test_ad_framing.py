"""Files of ClassAds cut into ads: with banners, with blank lines, one ad a file, and however they are read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.classad import Ad
from batchacct.parsing import Reject, Skip
from batchacct.parsing.ad_framing import MOST_BYTES, AdFraming, OneAdFraming, history_ad, type_word
from batchacct.parsing.reading import read_blocks

SAMPLES = Path(__file__).parent.parent / "samples" / "htcondor"
FRAMING = AdFraming()


@pytest.mark.parametrize(
    ("banner", "word"),
    [
        (b"*** Offset = 0 ClusterId = 1", None),
        (b"*** ClusterId=1 ProcId=2", None),
        (b"*** EPOCH ClusterId=1 ProcId=2", "EPOCH"),
        (b"*** STARTD Offset = 12", "STARTD"),
        (b"*** ", None),
    ],
)
def test_type_words(banner: bytes, word: str | None) -> None:
    assert type_word(banner) == word


def test_what_a_unit_is() -> None:
    assert isinstance(history_ad(b"A = 1\n"), Ad)
    assert isinstance(history_ad(b"A = 1\n*** Offset = 0"), Ad)
    skipped = [history_ad(unit) for unit in (b"A = 1\n*** EPOCH ClusterId=1", b"*** Offset = 0", b"A = 1\n*** XFER Offset = 1")]
    assert len({skip.reason for skip in skipped if isinstance(skip, Skip)}) == 3
    for unit in (b"A = 1", b"A = 1\nB = 12"):
        with pytest.raises(Reject, match="cut short"):
            history_ad(unit)


def units(data: bytes) -> list[bytes]:
    return [data[start:end] for start, end in FRAMING.spans(data)]


def read(data: bytes, size: int, framing: AdFraming | OneAdFraming = FRAMING, *, final: bool = True) -> list[tuple[int, bytes]]:
    """(offset, bytes) of each unit, the data read in pieces of `size`."""
    blocks = read_blocks(io.BytesIO(data), framing, final=final, block_bytes=size)
    return [(b.offset + start, b.data[start:end]) for b in blocks for start, end in framing.spans(b.data)]


def test_units_of_each_form() -> None:
    first, second = b"A = 1\nB = 2\n", b"A = 3\n"
    banner = b"*** Offset = 0 ClusterId = 1"
    assert units(first + banner + b"\n" + second + banner + b"\n") == [first + banner, second + banner]
    assert units(first + b"\n" + second) == [first, second]
    assert units(b"\n\n" + first + b"\r\n\r\n" + second + b"\n") == [first, second]
    assert units(first + b"\n" + banner + b"\n" + second) == [first + b"\n" + banner, second]
    assert units(banner + b"\n" + banner) == [banner, banner]
    assert units(b"\r\n\n") == []
    assert units((first + banner + b"\n").replace(b"\n", b"\r\n")) == [first.replace(b"\n", b"\r\n") + banner]


def test_an_ad_whose_banner_is_not_written_yet_waits() -> None:
    data = (SAMPLES / "synthetic.history").read_bytes()
    whole = [len(unit) for unit in units(data)]
    assert len(whole) == 3
    for size in range(len(data)):
        assert FRAMING.cut(data[:size], final=False) in {0, whole[0] + 1, sum(whole[:2]) + 2}
    assert FRAMING.cut(data, final=False) == len(data)
    assert FRAMING.cut(data[:-2], final=False) == sum(whole[:2]) + 2
    assert FRAMING.cut(data[:100], final=True) == 100


def test_the_last_ad_of_condor_history_waits_for_what_may_follow() -> None:
    ad = b"A = 1\n"
    assert FRAMING.cut(ad, final=False) == 0
    assert FRAMING.cut(ad + b"\n", final=False) == 0
    assert FRAMING.cut(ad + b"\n***", final=False) == 0
    assert FRAMING.cut(ad + b"\nB", final=False) == len(ad) + 1
    assert FRAMING.cut(ad + b"\n**A", final=False) == len(ad) + 1


def test_what_has_no_end_is_broken_off() -> None:
    line = b"A = " + b"x" * 1000 + b"\n"
    data = line * (3 * MOST_BYTES // len(line))
    assert 3 <= len(units(data)) <= 4
    assert [len(unit) for unit in units(data)] == [len(unit) for _, unit in read(data, 1 << 20)]
    assert len(units(b"x" * (2 * MOST_BYTES))) == 1


PIECES = st.sampled_from(
    [
        b"A = 1\n",
        b"B = 2\r\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"*** ",
        b"*** Offset = 0 ClusterId = 1\n",
        b"*** EPOCH ClusterId=1\r\n",
        b"***",
        b" ",
        b"x",
    ]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(PIECES, max_size=30).map(b"".join), st.integers(1, 40))
def test_any_way_of_cutting_finds_the_same_units(data: bytes, size: int) -> None:
    whole = [(start, data[start:end]) for start, end in FRAMING.spans(data)]
    assert read(data, size) == whole
    held = read(data, size, final=False)
    assert held == whole[: len(held)]
    assert b"".join(unit for _, unit in whole).replace(b"\r", b"").replace(b"\n", b"") == data.replace(b"\r", b"").replace(
        b"\n", b""
    )


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_a_file_of_one_ad_is_taken_whole_or_not_at_all(size: int) -> None:
    data = (SAMPLES / "gratia-perjob" / "history.377260.0").read_bytes()
    assert read(data, size, OneAdFraming()) == [(0, data)]
    assert read(data, size, OneAdFraming(), final=False) == []
    assert read(b"\n", size, OneAdFraming()) == []
