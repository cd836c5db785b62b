"""Bins of time: every instant is in one, and they begin when the clocks of the zone say so."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.errors import ConfigError
from batchacct.usage.bins import SIZES, Bins
from tests.cpuhours.clocks import begin_of

ZONES = ("UTC", "Europe/Zurich", "Asia/Kathmandu", "Pacific/Chatham", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia")
FIRST, LAST = 946_684_800, 4_102_444_799
"""2000 to 2099."""


@settings(max_examples=150, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    zone=st.sampled_from(ZONES),
    first=st.integers(FIRST, LAST),
    more=st.lists(st.integers(0, 40 * 86_400), max_size=4),
)
def test_every_instant_is_in_the_bin_its_clocks_say(size: str, zone: str, first: int, more: list[int]) -> None:
    bins = Bins(size, zone)
    instants = np.array([first, *(first + later for later in more)], np.int64)
    assert bins.of(instants).tolist() == [begin_of(at, bins) for at in instants.tolist()]
    last = first + min(max(more, default=0), 86_400 if size == "minute" else 40 * 86_400)
    edges = bins.edges(first, last)
    assert edges[0] == begin_of(first, bins)
    assert edges[-2] <= last < edges[-1]
    assert (np.diff(edges) > 0).all()
    assert bins.of(edges).tolist() == edges.tolist()


def at(text: str, zone: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("size", "zone", "first", "hours"),
    [
        ("day", "Europe/Zurich", "2026-03-28", [24, 23, 24]),
        ("day", "Europe/Zurich", "2026-10-24", [24, 25, 24]),
        ("day", "Australia/Lord_Howe", "2026-04-04", [24, 24.5, 24]),
        ("hour", "Australia/Lord_Howe", "2026-04-05 00:00", [1, 1.5, 1]),  # 01:30 to 02:00 is shown twice
        ("hour", "Europe/Zurich", "2026-10-25 01:00", [1, 1, 1, 1]),
        ("week", "Europe/Zurich", "2026-03-23", [167, 168]),
        ("month", "Pacific/Chatham", "2026-02-01", [28 * 24, 31 * 24, 30 * 24 + 1]),
        ("day", "America/Sao_Paulo", "2018-11-03", [24, 23, 24]),  # from midnight to 01:00
        ("day", "Pacific/Apia", "2011-12-29", [24, 24]),  # there was no 30th
    ],
)
def test_where_clocks_change(size: str, zone: str, first: str, hours: list[float]) -> None:
    begin = at(first, zone)
    edges = Bins(size, zone).edges(begin, begin + int(sum(hours) * 3600) - 1)
    assert (np.diff(edges) / 3600).tolist() == hours


def test_quarters_of_an_hour_are_enough_for_kathmandu() -> None:
    assert Bins("hour", "Asia/Kathmandu").of(np.array([at("2026-11-02 12:59:59", "Asia/Kathmandu")])) % 3600 == 900


@pytest.mark.parametrize(
    ("size", "zone", "said"), [("year", "UTC", "bins of a year"), ("day", "Mars/Olympus", "no time zone Mars")]
)
def test_what_there_is_not(size: str, zone: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Bins(size, zone)
