"""FQANs: APEL's own expected values, and what APEL's parser does not handle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.fqan import NO_FQAN, Fqan, parse_fqan, split_fqans

APEL = Path(__file__).parent.parent / "samples" / "blah" / "parse_fqan.tsv"


def _apel_cases() -> list[tuple[str, Fqan]]:
    """(FQAN, expected); both APEL's null and its text 'None' are our None."""
    cases = []
    for line in APEL.read_text().splitlines():
        if not line.startswith("#"):
            fqan, *rest = line.split("\t")
            role, group, vo = (None if text in ("None", "'None'") else text for text in rest)
            cases.append((fqan, Fqan(vo, group, role)))
    return cases


def test_the_sample_is_complete() -> None:
    assert len(_apel_cases()) == 12


@pytest.mark.parametrize(("fqan", "expected"), _apel_cases())
def test_as_apel(fqan: str, expected: Fqan) -> None:
    assert parse_fqan(fqan) == expected


@pytest.mark.parametrize(
    ("fqan", "expected"),
    [
        ("", NO_FQAN),
        ("  ", NO_FQAN),
        (";", NO_FQAN),
        ("/", NO_FQAN),
        ("//", NO_FQAN),
        ("//atlas//higgs/Role=pilot", Fqan("atlas", "/atlas/higgs", "Role=pilot")),
        ("/atlas/", Fqan("atlas", "/atlas", None)),
        ("/atlas/Capability=NULL", Fqan("atlas", "/atlas", None)),
        ("/Role=pilot", Fqan(None, None, "Role=pilot")),
        ("/Engage/Role=NULL/Capability=NULL", Fqan("Engage", "/Engage", "Role=NULL")),
        ("/testbed.univ.kiev.ua", Fqan("testbed.univ.kiev.ua", "/testbed.univ.kiev.ua", None)),
        ("/cms/uscms /cms", Fqan("cms", "/cms/uscms", None)),
        (" ; /cms ; /atlas", Fqan("cms", "/cms", None)),
        ("/local-atlas", Fqan("local-atlas", "/local-atlas", None)),
    ],
)
def test_beyond_apel(fqan: str, expected: Fqan) -> None:
    assert parse_fqan(fqan) == expected


@pytest.mark.parametrize("between", [";", " ", "  ", "; ", " ;", ";;"])
def test_lists(between: str) -> None:
    assert split_fqans(f"/a/Role=x{between}/b{between}/c/d") == ("/a/Role=x", "/b", "/c/d")


_WORDS = st.text("abcXYZ019-_.", min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(_WORDS, min_size=1, max_size=4), st.none() | _WORDS, st.booleans())
def test_round_trip(groups: list[str], role: str | None, capability: bool) -> None:
    group = "/" + "/".join(groups)
    text = group + (f"/Role={role}" if role else "") + ("/Capability=NULL" if capability else "")
    assert parse_fqan(text) == Fqan(groups[0], group, f"Role={role}" if role else None)


@settings(deadline=None)
@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    fqan = parse_fqan(text)
    assert "" not in (fqan.vo, fqan.group, fqan.role)
    assert fqan.group is None or (fqan.vo is not None and fqan.group.startswith(f"/{fqan.vo}"))
