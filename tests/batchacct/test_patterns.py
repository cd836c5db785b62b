"""Names with `%` in them: what they mean, and that strangers' ones take no time."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from batchacct.usage.dimensions import meant_by


def texts(letters: str, longest: int) -> list[str]:
    return ["".join(one) for length in range(longest + 1) for one in itertools.product(letters, repeat=length)]


def test_percent_is_any_text_and_everything_else_itself() -> None:
    """Held against the expression that says the same, for all short patterns and texts."""
    for pattern in texts("ab%", 4):
        meant = meant_by([pattern])
        says = re.compile(".*".join(map(re.escape, pattern.split("%"))), re.DOTALL)
        for text in texts("ab\n", 4):
            assert meant(text) == (says.fullmatch(text) is not None), (pattern, text)


def test_names_are_alternatives() -> None:
    meant = meant_by(["atlas", "%.cern.ch", "a_b"])
    assert [one for one in ("atlas", "atlas2", "n1.cern.ch", "axb", "a_b", ".*") if meant(one)] == ["atlas", "n1.cern.ch", "a_b"]


@pytest.mark.parametrize("pattern", ["%" * 200 + "!", "%a" * 200 + "!", "%" + "a%" * 200 + "b%"])
def test_any_pattern_is_decided_at_once(pattern: str) -> None:
    began = time.process_time()
    assert not meant_by([pattern])("a" * 4000)
    assert time.process_time() - began < 1
