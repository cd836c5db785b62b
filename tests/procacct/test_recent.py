"""What is counted, and forgotten."""

from __future__ import annotations

from procacct.shipping.recent import Recent


def test_what_was_seen_lately_is_counted_and_the_oldest_forgotten() -> None:
    recent = Recent(2)
    assert [recent.count(thing) for thing in "aabacabb"] == [1, 2, 1, 3, 1, 4, 1, 2]
    assert len(recent._counts) == 2
