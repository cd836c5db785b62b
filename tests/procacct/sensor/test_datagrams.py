"""The decoder: strict, total, and the inverse of what the sensor writes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procacct.datagrams import HEADER, MAGIC, Datagram, DatagramError, Flags, Kind, SharedObject, Usage, decode

numbers = st.integers(0, 2**32 - 1)
large = st.integers(0, 2**64 - 1)
words = st.binary(max_size=20).filter(lambda b: b"\0" not in b)


def made(items: list[tuple[int, bytes]], kind: int = 1, flags: int = 0, weight: int = 1) -> bytes:
    body = b"".join(struct.pack("=HHI", tag, 0, len(data)) + data + bytes(-len(data) % 4) for tag, data in items)
    return HEADER.pack(MAGIC, 1, kind, flags, HEADER.size + len(body), 10, 9, 8, 7, weight, 6, 5, 4, 3) + body


def test_every_item() -> None:
    obj = struct.pack("=HBB", 3, 2, 1) + b"/a\xff" + b"\x01\xab" + b"s"
    items = [(1, b"/bin/x"), (2, b"x\0\0y\xff\0"), (3, b"A=b=c\0B=\0"), (4, obj * 2), (5, b"\xde\xad"), (6, b"uuid")]
    items += [(7, struct.pack("=9Q", *range(9))), (8, b"SLURM_JOB_ID=1\0"), (9, b"gcc/12::root/6"), (77, b"of the future")]
    datagram = decode(made(items, kind=2, flags=15, weight=9))
    one = SharedObject("/a\\xff", "01ab", "s")
    assert datagram == Datagram(
        *(Kind.END, Flags(15), 10, 9, 8, 7, 9, 6, 5, 4, 3, "/bin/x", ("x", "", "y\\xff"), {"A": "b=c", "B": ""}, (one, one)),
        *("dead", "uuid", Usage(*range(9)), {"SLURM_JOB_ID": "1"}, ("gcc/12", "root/6")),
    )


def test_what_was_not_sent_is_none() -> None:
    datagram = decode(made([]))
    assert (datagram.program, datagram.arguments, datagram.objects, datagram.usage, datagram.build_id) == (None,) * 5
    assert (datagram.environment, datagram.job_variables, datagram.modules) == ({}, {}, ())


WRONG = {
    "nothing": b"",
    "half a header": made([])[:63],
    "a byte too many": made([]) + b"\0",
    "a byte too few": made([(1, b"abcd")])[:-1],
    "magic": b"\0" + made([])[1:],
    "version": made([])[:4] + b"\2" + made([])[5:],
    "kind": made([], kind=3),
    "flags": made([], flags=16),
    "weight": made([], weight=0),
    "two of an item": made([(1, b"a"), (1, b"b")]),
    "a NUL in a path": made([(1, b"a\0b")]),
    "arguments without end": made([(2, b"a\0b")]),
    "no variable": made([(3, b"A\0")]),
    "usage": made([(7, b"1234")]),
    "object": made([(4, struct.pack("=HBB", 10, 0, 0) + b"/a")]),
    "half an object": made([(4, b"abc")]),
    "padding": made([(1, b"a")])[:-1] + b"x",
    "item longer than all": made([(1, b"abcd")]).replace(struct.pack("=HHI", 1, 0, 4), struct.pack("=HHI", 1, 0, 2**32 - 1)),
    "reserved": made([(1, b"abcd")]).replace(struct.pack("=HHI", 1, 0, 4), struct.pack("=HHI", 1, 1, 4)),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_datagram(what: str) -> None:
    with pytest.raises(DatagramError, match=r"\w+ .*\."):
        decode(WRONG[what])


@settings(max_examples=400)
@given(st.binary(max_size=300))
def test_any_bytes_behind_a_header(body: bytes) -> None:
    _total(HEADER.pack(MAGIC, 1, 1, 0, HEADER.size + len(body), *range(5), *range(4)) + body)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, 12), st.binary(max_size=80)), max_size=6), st.data())
def test_damaged_datagrams(items: list[tuple[int, bytes]], data: st.DataObject) -> None:
    good = bytearray(made(items, kind=data.draw(st.integers(0, 3)), weight=data.draw(numbers)))
    for _ in range(data.draw(st.integers(0, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    _total(bytes(good))
    _total(bytes(good[: data.draw(st.integers(0, len(good)))]))


def _total(data: bytes) -> None:
    try:
        datagram = decode(data)
    except DatagramError:
        return
    assert isinstance(datagram, Datagram)
    str(datagram).encode("utf-8")
