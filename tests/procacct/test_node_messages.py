"""Sensors' datagrams on the busy path: the same as the careful reading says, and nothing of nonsense."""

from __future__ import annotations

import struct
import time

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from procacct import datagrams
from procacct.node.messages import Reader, objects_of
from procacct.node.objects import MOST_NEW_A_MINUTE, ObjectSets
from procacct.node.told import Told

S = 1_000_000_000
TO_REAL_NS = 1_700_000_000_000_000_000
texts = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"."))
names = st.binary(min_size=1, max_size=20).map(lambda raw: raw.replace(b"\0", b".").replace(b"=", b"-"))
pairs = st.dictionaries(names, texts, max_size=4).map(
    lambda found: b"".join(name + b"=" + value + b"\0" for name, value in found.items())
)
objects = st.lists(st.tuples(texts, st.binary(max_size=20), texts), max_size=5).map(
    lambda found: b"".join(struct.pack("=HBB", len(p), len(b), len(s)) + p + b + s for p, b, s in found)
)
several = st.lists(texts, min_size=1, max_size=4).map(lambda found: b"".join(one + b"\0" for one in found))
ids, used, unknown = st.binary(max_size=20), st.binary(min_size=72, max_size=72), st.binary(max_size=9)
items = st.fixed_dictionaries(
    {}, optional={1: texts, 2: several, 3: pairs, 4: objects, 5: ids, 6: texts, 7: used, 8: pairs, 9: texts, 77: unknown}
)


def datagram(found: dict[int, bytes], kind: int = 1, pid: int = 10, at_ns: int = 5_000, real_ns: int | None = None) -> bytes:
    body = b"".join(struct.pack("=HHI", tag, 0, len(value)) + value + bytes(-len(value) % 4) for tag, value in found.items())
    real_ns = TO_REAL_NS + at_ns if real_ns is None else real_ns
    head = (datagrams.MAGIC, 1, kind, 0, 64 + len(body), pid, 1, 0, 0, 1, real_ns, at_ns, at_ns - 1_000, 0)
    return datagrams.HEADER.pack(*head) + body


def read(data: bytes, pid: int = 10) -> tuple[Told | None, Reader, list[bytes]]:
    seen: list[bytes] = []

    def name(item: bytes) -> str | None:
        seen.append(item)
        return "set"

    reader = Reader(name)
    return reader.read(data, pid, 1000, 100, TO_REAL_NS), reader, seen


@given(items, st.sampled_from([1, 2]))
def test_it_says_what_the_careful_reading_says(found: dict[int, bytes], kind: int) -> None:
    data = datagram(found, kind)
    careful = datagrams.decode(data)
    told, _, seen = read(data)
    assert told is not None
    assert (told.kind, told.weight, told.at_ns, told.start_ns) == (
        careful.kind,
        careful.weight,
        careful.monotonic_ns,
        careful.start_monotonic_ns,
    )
    columns = told.columns
    assert columns.get("program") == careful.program
    assert columns.get("arguments") == (None if careful.arguments is None else list(careful.arguments))
    assert columns.get("environment", {}) == careful.environment
    assert columns.get("build_id") == careful.build_id
    assert columns.get("signature") == careful.signature
    assert columns.get("modules", []) == list(careful.modules)
    assert told.variables == careful.job_variables
    assert told.rusage == careful.usage
    assert [objects_of(item) for item in seen] == ([] if careful.objects is None else [list(careful.objects)])


@given(st.binary(max_size=300), items, st.integers(0, 200), st.binary(max_size=20))
def test_nonsense_and_damage_are_messages_or_nothing(noise: bytes, found: dict[int, bytes], at: int, damage: bytes) -> None:
    whole = datagram(found)
    for data in (noise, whole[:at], whole[:at] + damage + whole[at + len(damage) :], whole[:64] + noise):
        told, _, seen = read(data)
        assert told is None or told.pid == 10
        for item in seen:
            objects_of(item)


def test_the_kernels_word_counts_and_another_pid_is_counted() -> None:
    told, reader, _ = read(datagram({1: b"/bin/x"}, pid=1), pid=4711)
    assert told is not None
    assert (told.pid, told.user_id, told.group_id, reader.other_pids) == (4711, 1000, 100, 1)


def test_a_clock_of_another_time_namespace_is_put_right() -> None:
    apart = 86_400_000_000_000
    told, _, _ = read(datagram({}, at_ns=5_000 + apart, real_ns=TO_REAL_NS + 5_000))
    assert told is not None
    assert (told.at_ns, told.start_ns) == (5_000, 4_000)


def test_a_set_is_named_by_what_is_in_it_and_told_once_a_month() -> None:
    rows: list[dict[str, object]] = []
    now = [1_793_000_000]
    sets = ObjectSets("n", rows.append, lambda: now[0])
    one, two = (struct.pack("=HBB", 2, 2, 0) + path + b"\xab\xcd" for path in (b"/a", b"/b"))
    lines = "/a\0abcd\0\n/b\0abcd\0"
    assert sets.name_of(one + two) == sets.name_of(two + one) == xxhash.xxh3_128_hexdigest(lines.encode())
    assert [(row["path"], row["build_id"], str(row["record_key"]).partition("/")[2]) for row in rows] == [
        ("/a", "abcd", "0"),
        ("/b", "abcd", "1"),
    ]
    now[0] += 40 * 86_400
    sets.name_of(one + two)
    assert len(rows) == 4


def test_who_plays_with_sets_is_stopped_and_counted() -> None:
    rows: list[dict[str, object]] = []
    sets = ObjectSets("n", rows.append, lambda: 1_793_000_000)
    for number in range(MOST_NEW_A_MINUTE + 50):
        path = str(number).encode()
        sets.name_of(struct.pack("=HBB", len(path), 0, 0) + path)
    assert (len(rows), sets.untold) == (MOST_NEW_A_MINUTE, 50)


@pytest.mark.parametrize(("ahead_ns", "is_read"), [(-S, True), (0, True), (S // 10, False), (49 * S // 10, False)])
def test_a_time_that_is_still_to_come_is_refused_and_counted(ahead_ns: int, is_read: bool) -> None:
    told, reader, _ = read(datagram({}, at_ns=time.monotonic_ns() + ahead_ns))
    assert (told is not None, reader.ahead) == (is_read, int(not is_read))


@pytest.mark.parametrize(("most", "believed"), [(1, 1), (50, 50), (2**32 - 1, 4_000_000_000)])
def test_a_weight_is_believed_as_far_as_the_policy_samples(most: int, believed: int) -> None:
    data = bytearray(datagram({}))
    struct.pack_into("=I", data, 28, 4_000_000_000)
    told = Reader(lambda _: None, most).read(bytes(data), 10, 0, 0, TO_REAL_NS)
    assert told is not None
    assert told.weight == believed
