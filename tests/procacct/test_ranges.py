"""Ranges as messages: what comes out is what went in, and what is no range is told."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from procacct.shipping.ranges import LARGEST_RANGE, Range, SpoolName, Unusable, is_host_name, unpacked

NAME = SpoolName("processes", "0a1b2c3d", 7)


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 10**12), st.integers(1, 10**9), st.integers(1, 99))
def test_there_and_back(content: bytes, offset: int, seq: int, again: int) -> None:
    one = Range("n1.example.org", SpoolName("groups", "0a1b2c3d", 1_234_567, again), offset, content, seq)
    assert unpacked(*one.packed()) == one


def test_compressed_only_if_that_pays() -> None:
    lines = b'{"v":1,"host":"n1"}\n' * 500
    headers, body = Range("n1", NAME, 0, lines, 1).packed()
    assert (headers["coding"], len(body) < len(lines) / 10) == ("zstd", True)
    noise = hashlib.sha512(b"x").digest()
    assert Range("n1", NAME, 0, noise, 1).packed()[1] == noise


def message(**changed: str) -> tuple[dict[str, str], bytes]:
    headers, body = Range("n1", NAME, 40, b"a line\n", 3).packed()
    return headers | {"coding" if name == "coding" else name: value for name, value in changed.items()}, body


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"host": ""}, "no host name"),
        ({"host": ".."}, "no host name"),
        ({"host": "../n1"}, "no host name"),
        ({"host": "n1/../n2"}, "no host name"),
        ({"host": ".refused"}, "no host name"),
        ({"host": "n1\n"}, "no host name"),
        ({"host": "n" * 300}, "no host name"),
        ({"file": "../../etc/passwd"}, "no name of a spool file"),
        ({"file": "processes-0a1b2c3d-000007.jsonl/x"}, "no name of a spool file"),
        ({"file": "processes-0a1b2c3d-0000000007.jsonl"}, "no name of a spool file"),
        ({"file": "processes-0a1b2c3d-000007-1.jsonl"}, "no name of a spool file"),
        ({"file": "jobs-0a1b2c3d-000007.jsonl"}, "no name of a spool file"),
        ({"boot": "ffffffff"}, "contradict each other"),
        ({"offset": "-1"}, "header offset is no number"),
        ({"offset": "1e3"}, "header offset is no number"),
        ({"offset": "٣"}, "header offset is no number"),
        ({"length": "0"}, "are no range"),
        ({"length": str(LARGEST_RANGE + 1)}, "are no range"),
        ({"length": "6"}, "not those that length and sha256 tell"),
        ({"sha256": "0" * 64}, "not those that length and sha256 tell"),
        ({"seq": ""}, "header seq is no number"),
        ({"coding": "gzip"}, "neither zstd nor identity"),
        ({"coding": "zstd"}, "cannot be unpacked"),
    ],
)
def test_what_is_no_range(changed: dict[str, str], told: str) -> None:
    with pytest.raises(Unusable, match=told):
        unpacked(*message(**changed))


def test_a_header_that_is_missing() -> None:
    headers, body = message()
    for name in set(headers) - {"boot"}:
        with pytest.raises(Unusable):
            unpacked({key: value for key, value in headers.items() if key != name}, body)


def test_what_would_unpack_to_more_than_it_says() -> None:
    """Nothing is unpacked then: a few kilobytes can stand for gigabytes."""
    bomb = zstandard.ZstdCompressor().compress(b"\0" * (LARGEST_RANGE * 4))
    headers, _ = message(coding="zstd")
    with pytest.raises(Unusable, match="of another length than told") as raised:
        unpacked(headers, bomb)
    assert raised.value.is_damaged


@given(st.text(max_size=40))
def test_no_host_name_leads_out_of_a_folder(text: Any) -> None:
    if is_host_name(text):
        assert not text.startswith(".")
        assert "/" not in text
        assert "\0" not in text


@given(
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(["host", "file", "offset", "length", "sha256", "seq", "coding"]), st.text()),
)
def test_whatever_comes_is_a_range_or_unusable(body: bytes, headers: dict[str, str]) -> None:
    with contextlib.suppress(Unusable):
        unpacked(headers, body)
