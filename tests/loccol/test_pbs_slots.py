"""exec_host and exec_vnode of many lines at once: the same as of each alone."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchacct.parsing import Reject
from loccol.pbs_hosts import Hosts, exec_hosts, vnode_cpus
from loccol.pbs_slots import LONGEST_HOST, MARGIN, Values, allocations, vnode_cpus_of

MANY = int(os.environ.get("BATCHACCT_FUZZ", "100"))
FUZZ = settings(deadline=None, max_examples=MANY)
SHARED = "n" * (LONGEST_HOST - 1)
HOSTS = ["a", "b", "node7", "node8", "node70", "abcdefgh", "abcdefgi", "abcdefghi", "node1.example.org", "node2.example.org",
         SHARED + "1", SHARED + "2", SHARED + "11", "", '"', "\\", "a*", "/", "(a", "0", "0*1"]  # fmt: skip
SLOTS = ["/0", "/0", "/1", "/17", "/0*1", "/0*13", "/3*2", "/0*0", "/0*04", "/0-3", "/0,2", "/123456789", "/1234567890",
         "/0*123456789", "/0*1234567890", "/0*", "/*4", "/", "", "/0*1*2", "/x", "/0/1", "*2/0"]  # fmt: skip


@st.composite
def exec_host(draw: st.DrawFn) -> str:
    plain = draw(st.booleans())
    hosts, slots = (HOSTS[:13], SLOTS[:7]) if plain else (HOSTS, SLOTS)
    runs = draw(st.lists(st.tuples(st.sampled_from(hosts), st.lists(st.sampled_from(slots), min_size=1, max_size=5)), max_size=5))
    return "+".join(host + which for host, several in runs for which in several) or "a/0"


VNODES = ["(v1", ":ncpus=4", ":ncpus=", ":ncpus=123456789", ":ncpus=1234567890", ":ngpus=1", "+v2[0]", ")", ")+(", "4", ":",
          "ncpus=1", ":mem=8gb"]  # fmt: skip
exec_vnode = st.lists(st.sampled_from(VNODES), min_size=1, max_size=9).map("".join)


def values(texts: Sequence[str], behind: str) -> Values:
    raw = [f"{text}{behind}".encode() for text in texts]
    margin = bytes(MARGIN)
    ends = np.cumsum([len(text) for text in raw], dtype=np.int64) + MARGIN - 1
    return Values(np.frombuffer(margin + b"".join(raw) + margin, np.uint8), ends, np.arange(len(raw)))


@FUZZ
@given(st.lists(exec_host(), max_size=6), st.sampled_from([" ", "\n", '"', "'"]))
@example([], " ")
@example(["a/0"], "\n")
@example(["a/0+a/1", "a/2", "a/3+b/0+a/4", "b/0+c/0+d/0"], " ")
def test_lists_are_as_each_of_them(lists: list[str], behind: str) -> None:
    found = allocations(values(lists, behind))
    assert len(found.texts) == len(found.slots) == len(found.nodes) == len(found.regular) == len(lists)
    rows = zip(lists, found.texts.to_pylist(), found.slots.tolist(), found.nodes.tolist(), found.regular.tolist(), strict=True)
    for text, *hosts, regular in rows:
        if regular:
            assert Hosts(*hosts) == exec_hosts(text)


@pytest.mark.parametrize(
    ("text", "regular"),
    [
        ("a/0", True),
        ("a/0*13", True),
        ("+".join(f"node{n // 64}.example.org/{n}" for n in range(640)), True),
        (f"{SHARED}1/0+{SHARED}2/0", True),
        (f"{SHARED}11/0", False),
        ("a/0+b/0+a/1", False),
        ("a/0-3", False),
        ("a/0*0", False),
        ("a", False),
        ('a"/0', False),
    ],
)
def test_what_is_regular_costs_not_its_neighbours(text: str, regular: bool) -> None:
    assert allocations(values(["x/0", text, "y/0"], " ")).regular.tolist() == [True, regular, True]


@pytest.mark.parametrize("text", ["/0", "a/0+", "+a/0", "a/0++a/1", "a/", "a/x"])
def test_what_is_rejected_is_not_regular(text: str) -> None:
    with pytest.raises(Reject):
        exec_hosts(text)
    assert not allocations(values([text], " ")).regular.any()


@FUZZ
@given(st.lists(exec_vnode, max_size=6), st.sampled_from([" ", "\n", '"']))
def test_processors_of_vnodes_are_as_of_each_of_them(texts: list[str], behind: str) -> None:
    expected = [vnode_cpus(text.encode()) or 0 for text in texts]
    assert vnode_cpus_of(values(texts, behind)).tolist() == expected
