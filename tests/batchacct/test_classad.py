"""ClassAds: what is a value and what is not, the last value of a name, and the same from JSON."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.classad import ClassAdError, Expression, Value, json_ad, literal, long_ad
from batchacct.parsing.json_framing import element

SAMPLES = Path(__file__).parent.parent / "samples" / "htcondor"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b" 377260", 377260),
        (b"-8382063121022416774", -8382063121022416774),
        (b"910.000000", Decimal(910)),
        (b"9.974730512006985E-01", Decimal("0.9974730512006985")),
        (b"1E3", Decimal(1000)),
        (b"TRUE", True),
        (b"false\r", False),
        (b"undefined", None),
        (b"UNDEFINED", None),
        (b"error", Expression("error")),
        (b'"a \\"b\\" \\\\ c\\n"', 'a "b" \\ c\\n'),
        (b'""', ""),
        (b'"a" + "b"', Expression('"a" + "b"')),
        (b'"open', Expression('"open')),
        (b'"C:\\"', Expression('"C:\\"')),
        (b"{ 1, 2.5, \"x,y\" }", [1, Decimal("2.5"), "x,y"]),
        (b"{}", []),
        (b"[  ]", {}),
        (b"[ a = 1; B = [ c = {true} ]; d = x + f(1, 2); ]", {"a": 1, "B": {"c": [True]}, "d": Expression("x + f(1, 2)")}),
        (b"[ HEPSPEC = 10.2; HEPscore23 = 11 ]", {"HEPSPEC": Decimal("10.2"), "HEPscore23": 11}),
        (b"[ a = 1 ] == x", Expression("[ a = 1 ] == x")),
        (b"[ a 1 ]", Expression("[ a 1 ]")),
        (b"{ 1, 2", Expression("{ 1, 2")),
        (b"{ a[1], {2} + 1, f({3}) }", [Expression("a[1]"), Expression("{2} + 1"), Expression("f({3})")]),
        (b"DiskUsage", Expression("DiskUsage")),
        (b"((ResidentSetSize + 1023) / 1024)", Expression("((ResidentSetSize + 1023) / 1024)")),
        (b"1_000", Expression("1_000")),
        (b"", Expression("")),
        (b'"\xff\0"', "\\xff\\x00"),
    ],
)  # fmt: skip
def test_values(text: bytes, value: Value) -> None:
    found = literal(text)
    assert (type(found), found) == (type(value), value)


def test_lists_nested_deeper_than_is_read_are_an_expression() -> None:
    found = literal(b"{" * 100_000)
    assert isinstance(found, Expression)
    whole = literal(b"{" * 40 + b"}" * 40)
    assert isinstance(whole, list)


def test_the_last_value_of_a_name_counts_whatever_its_case() -> None:
    ad = long_ad(b"CompletionDate = 0\ncompletiondate=12\nCOMPLETIONDATE = 1290672370\nA=1\n")
    assert ad.integer("CompletionDate") == 1290672370
    assert dict(ad.names()) == {"completiondate": "COMPLETIONDATE", "a": "A"}
    assert "a" in ad
    assert "B" not in ad


def test_accessors_give_only_their_own_kind() -> None:
    ad = long_ad(b'I = 3\nR = 2.0\nF = 2.5\nS = "x"\nE = ""\nB = true\nX = I + 1\nU = undefined\nZ = 0')
    assert [ad.integer(n) for n in "IRFSEBXUZ?"] == [3, 2, None, None, None, None, None, None, 0, None]
    assert [ad.number(n) for n in "IRFSB"] == [3, 2, Decimal("2.5"), None, None]
    assert [ad.text(n) for n in "ISE"] == [None, "x", None]
    assert [ad.boolean(n) for n in "BZIS"] == [True, False, True, None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"A = 1\ngarbage\n", "no `name = value`"),
        (b"A = 1\n = 2\n", "no attribute name"),
        (b"A = 1\nB C = 2\n", "no attribute name"),
        (b"\0\0=\0\n", "no attribute name"),
        (b"A =", "no `name = value`"),
        (b'GlobalJobId = "a#1.0#1"\nA = 1\nGlobalJobId = "a#2.0#1"', "two ads have run together"),
    ],
)
def test_what_is_no_ad(text: bytes, reason: str) -> None:
    with pytest.raises(ClassAdError, match=reason):
        long_ad(text)


def test_json_has_the_same_values() -> None:
    found = element((SAMPLES / "jlab-condor_q-8.8.10.json").read_bytes()[2:-2])
    assert isinstance(found, dict)
    ad = json_ad(found)
    assert ad.number("cpususage") == Decimal("0.9974730512006985")
    assert ad.get("MemoryUsage") == Expression("((ResidentSetSize + 1023) / 1024)")
    assert ad.get("Environment") == ""
    assert ad.boolean("ExitBySignal") is False
    assert json_ad({"A": [1, {"b": None}], "N": float("inf"), "S": "\udcff\0"}).get("a") == [1, {"b": None}]
    assert json_ad({"N": float("inf"), "S": "\udcff\0"}).text("s") == "\\xff\\x00"


@settings(deadline=None)
@given(st.text(st.sampled_from('{}[]();,="\\ a1.\n'), max_size=60).map(str.encode))
def test_any_text_has_a_value(text: bytes) -> None:
    literal(text)
