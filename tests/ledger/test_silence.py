"""Silence: the rhythm of a source explains nights, weekends and holidays it had before; what it does not explain is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.ledger.silence import HOURS_NEEDED, SHORTEST_S, Silence, Span, merged, rhythm, silences
from tests.ledger.farms import BEGIN, DAY, HOUR, farm

FOREVER = 2**40


def spans_of(times: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[Span]:
    """As the store keeps them: first and last time of each hour."""
    times = np.sort(times)
    hours, first = np.unique(times // HOUR, return_index=True)
    last = np.append(first[1:], len(times)) - 1
    return [(int(times[a]), int(times[b])) for a, b in zip(first, last, strict=True) if len(hours)]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(10, 80),
    st.sampled_from([60, 400, 2500]),
    st.sampled_from(["steady", "nights off", "weekends off"]),
)
def test_a_farm_at_its_rhythm_is_never_silent(seed: int, days: int, jobs_a_day: int, pattern: str) -> None:
    """Idle nights and weekends are rhythm: neither in hindsight nor at any hour does it warn."""
    jobs = farm(seed, days=days, jobs_a_day=jobs_a_day, pattern=pattern, run_h=0.3)
    spans = spans_of(jobs.logged[jobs.logged < BEGIN + days * DAY])
    assert silences("s", spans, 0) == []
    begin = spans[0][0]
    for until in range(begin + 9 * DAY, begin + days * DAY, 7 * HOUR):
        known = [span for span in spans if span[1] <= until]
        assert rhythm("s", known, until).silence is None


@pytest.mark.parametrize(("pattern", "told_after_h"), [("steady", 4), ("nights off", 30), ("weekends off", 140)])
def test_a_source_that_stops_is_told(pattern: str, told_after_h: int) -> None:
    """It takes twice the longest silence there was, that of a night, of a weekend, and two hours."""
    jobs = farm(3, days=40, jobs_a_day=1000, pattern=pattern, run_h=0.3)
    spans = [span for span in spans_of(jobs.logged) if span[1] < BEGIN + 36 * DAY + 18 * HOUR]
    last_at = spans[-1][1]
    assert rhythm("s", spans, last_at + SHORTEST_S).silence is None
    found = rhythm("s", spans, last_at + told_after_h * HOUR).silence
    assert found is not None
    assert (found.since, found.lasted_s, found.goes_on) == (last_at, told_after_h * HOUR, True)
    assert found.allowed_s > told_after_h * HOUR / 2.5


def test_a_silence_of_the_past_is_judged_by_what_was_before_it() -> None:
    jobs = farm(3, days=60, jobs_a_day=1000, pattern="nights off", run_h=0.3)
    gone = (jobs.logged > BEGIN + 20 * DAY) & (jobs.logged < BEGIN + 25 * DAY)
    spans = spans_of(jobs.logged[~gone])
    (found,) = silences("s", spans, 0)
    assert BEGIN + 19 * DAY < found.since < BEGIN + 20 * DAY + HOUR
    assert BEGIN + 25 * DAY <= found.until < BEGIN + 25 * DAY + 9 * HOUR
    assert not found.goes_on
    assert silences("s", spans, found.until + 1) == []
    assert silences("s", spans, found.until) == [found]


def test_there_is_no_rhythm_of_little() -> None:
    hourly = [(BEGIN + i * HOUR, BEGIN + i * HOUR + 60) for i in range(24 * 9)]
    assert rhythm("s", hourly[: 24 * 7], FOREVER).allowed_s is None
    assert rhythm("s", hourly[: 24 * 7], FOREVER).silence is None
    assert rhythm("s", hourly, FOREVER).allowed_s == 3 * 3540 + SHORTEST_S
    assert rhythm("s", hourly[:: len(hourly) // (HOURS_NEEDED - 1) + 1], FOREVER).allowed_s is None
    assert rhythm("s", [], FOREVER).silence is None


def test_what_is_older_than_eight_weeks_is_forgotten() -> None:
    """A shutdown of summer is no rhythm in winter."""
    before = [(BEGIN + i * HOUR, BEGIN + i * HOUR + 60) for i in range(24 * 20)]
    behind = [(BEGIN + 40 * DAY + i * HOUR, BEGIN + 40 * DAY + i * HOUR + 60) for i in range(24 * 70)]
    known = rhythm("s", before + behind[: 24 * 20], FOREVER)
    assert known.allowed_s is not None
    assert known.allowed_s > 39 * DAY
    assert rhythm("s", before + behind, FOREVER).allowed_s == 2 * 3540 + SHORTEST_S


def test_the_site_has_the_last_word() -> None:
    few = [(BEGIN, BEGIN + 60), (BEGIN + DAY, BEGIN + DAY)]
    assert rhythm("s", few, BEGIN + 2 * DAY, 3600).silence == Silence("s", BEGIN + DAY, BEGIN + 2 * DAY, 3600, goes_on=True)
    assert rhythm("s", few, BEGIN + 2 * DAY, DAY).silence is None
    assert [s.since for s in silences("s", few, 0, 3600)] == [BEGIN + 60]


def test_the_clock_that_went_back() -> None:
    assert rhythm("s", [(BEGIN, BEGIN)], BEGIN - 100, 10).silent_s == 0


def test_sources_of_several_clusters_are_one() -> None:
    assert merged([(10, 20), (5, 12), (15, 16), (30, 31)]) == [(5, 20), (30, 31)]
