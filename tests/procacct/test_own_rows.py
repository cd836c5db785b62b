"""A node sends rows of its own: whatever form they have, nobody else's come through."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from batchacct.brokers.keys import Receive
from procacct.shipping.own_rows import require_own_rows
from procacct.shipping.ranges import Range, SpoolName, Unusable
from tests.procacct.spools import line

NAMES = {kind: SpoolName(kind, "0a1b2c3d", 1) for kind in ("processes", "objects", "groups")}


def demand(content: bytes, names: str = "n1", kind: str = "processes") -> None:
    require_own_rows(Range("n1", NAMES[kind], 0, content, 1), names)


@pytest.mark.parametrize(
    "content",
    [
        b"".join(line("n1", number) for number in range(50)),
        b'{"v":1,"record_key":"gap/n1/b/1/1","host":"n1","kind":"gap"}\n',
        b'{"v":1,"record_key":"sum/n1/b/1/1/1","host":"n1","environment":{"host":"n2","record_key":"n2/"}}\n',
        b'{"v":1,"arguments":["\\"host\\":\\"n2\\""],"record_key":"n1/b/1/1","host":"n1"}\n',
        b'{"v":1,"record_key":"n2/torn',
        b"[]\nnothing\n\0\0\0\n\xff\n",
    ],
)
def test_its_own_and_what_is_no_row(content: bytes) -> None:
    demand(content)


@pytest.mark.parametrize(
    "row",
    [
        b'{"v":1,"record_key":"n1/b/1/1/1","host":"n2"}',
        b'{"v":1,"record_key":"n2/b/1/1/1","host":"n1"}',
        b'{"v":1,"record_key":"gap/n2/b/1/1","host":"n1"}',
        b'{"v":1,"record_key":"sum/n2/b/1/1/1","host":"n1"}',
        b'{"v":1,"record_key":"n1/b/1/1/1","host":"n1","host":"n2"}',
        b'{"v":1,"record_key":"n1/b/1/1/1","environment":{"host":"n1"},"host" : "n2"}',
        b'{"v":1,"record_key":"n1/b/1/1/1","environment":{"host":"n1"},"\\u0068ost":"n2"}',
        b'{"v":1,"environment":{"record_key":"n1/"},"host":"n1","record_key" :"n2/b/1/1/1"}',
        b'{"v":1,"record_key":"n1/b/1/1/1","command":"\xff","host":"n2"}',
    ],
)
def test_of_another_host(row: bytes) -> None:
    assert isinstance(json.loads(row.decode("utf-8", "surrogateescape")), dict)
    with pytest.raises(Unusable, match=r"has a row of host 'n2', which is not n1, as \[receive\] rows says"):
        demand(line("n1", 1) + row + b"\n" + line("n1", 2))


def test_objects_have_keys_of_their_own() -> None:
    """The same objects have the same key, on whichever host."""
    demand(b'{"v":1,"record_key":"5f/0","object_set":"5f","path":"/lib/libc.so.6","host":"n1"}\n', kind="objects")
    with pytest.raises(Unusable, match="'n2'"):
        demand(b'{"v":1,"record_key":"5f/0","object_set":"5f","path":"/lib/libc.so.6","host":"n2"}\n', kind="objects")


def test_a_pattern() -> None:
    demand(line("n1", 1) + line("n1-old", 2), "n1*")
    with pytest.raises(Unusable):
        demand(line("n2", 1), "n1*")


@pytest.mark.parametrize("pattern", ["{hots}", "{", "{0}"])
def test_a_pattern_that_names_what_there_is_not(pattern: str) -> None:
    with pytest.raises(ValidationError, match=r"names \{host\} and \{short\}, and nothing else in braces"):
        Receive.model_validate({"brokers": ["mq:1"], "rows": pattern})
