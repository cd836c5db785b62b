"""Holes in job ids: never where nothing is lost, whatever the farm is like; with the right range where part of a log is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batchacct.ledger import gaps
from batchacct.ledger.holes import Bools, Ints, Span, find_holes
from batchacct.store import Store, append
from batchacct.store.positions import note_state
from batchacct.store.seen import WEEK
from batchacct.store.tables import IDS_PER_TIME
from tests.ledger.farms import BEGIN, DAY, HOUR, PATTERNS, Farm, farm
from tests.records import ORIGIN, job, parsed


def holes(jobs: Farm, lost: Bools | None = None, now: int | None = None) -> list[Span]:
    """What is found of a farm at a moment, by default the last submission, if `lost` of its log never came."""
    if now is None:
        now = int(jobs.submitted[-1]) if len(jobs.submitted) else BEGIN
    seen = jobs.is_logged & (jobs.logged <= now)
    seen &= ~lost if lost is not None else True
    as_kept = np.lexsort((jobs.numbers[seen], jobs.submitted[seen] // WEEK))
    numbers, submitted = jobs.numbers[seen][as_kept], jobs.submitted[seen][as_kept]
    if not len(numbers):
        return find_holes(numbers, submitted, now)
    return find_holes(numbers, _latest_of_group(numbers, submitted), now - int((jobs.logged - jobs.submitted)[seen].max()) - HOUR)


def _latest_of_group(numbers: Ints, submitted: Ints) -> Ints:
    """The time the store keeps: the latest of some neighbours of a week."""
    _, group = np.unique((submitted // WEEK << 50) | (numbers // IDS_PER_TIME), return_inverse=True)
    latest = np.zeros(int(group.max()) + 1, np.int64)
    np.maximum.at(latest, group, submitted)
    return latest[group]


FARMS = {
    "seed": st.integers(0, 2**32),
    "days": st.integers(3, 70),
    "jobs_a_day": st.sampled_from([2, 10, 60, 400, 2500]),
    "pattern": st.sampled_from(PATTERNS),
    "never_logged": st.sampled_from([0.0, 0.001, 0.05, 0.3]),
    "run_h": st.sampled_from([0.05, 2.0, 20.0]),
}


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries(FARMS))
def test_nothing_is_lost_nothing_is_told(keys: dict[str, int]) -> None:
    assert holes(farm(**keys)) == []  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries(FARMS), st.integers(10, 40))
def test_a_counter_that_begins_anew_is_no_hole(keys: dict[str, int], round_days: int) -> None:
    """(In the first two days of all, a counter that begins anew in one burst may look like one.)"""
    jobs = farm(**keys, last_number=max(keys["jobs_a_day"] * round_days, 6000))  # type: ignore[arg-type]
    anew = jobs.submitted[1:][np.diff(jobs.numbers) < 0]
    assume(not len(anew) or anew[0] > jobs.submitted[0] + 2 * DAY)
    assert holes(jobs) == []


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**32),
            "days": st.just(30),
            "jobs_a_day": st.sampled_from([400, 2500]),
            "pattern": st.sampled_from(["steady", "bursts", "nights off", "weekends off"]),
            "never_logged": st.sampled_from([0.0, 0.05]),
            "last_number": st.sampled_from([10**9, 40_000]),
        }
    ),
    st.sampled_from([(1, 0.1), (24, 0.5), (24, 2.0)]),
)
def test_a_lost_day_or_hour_is_found(keys: dict[str, int], lost_hours: tuple[int, float]) -> None:
    """What was lost, and not only some of it: nine in ten of the numbers of jobs that began and ended in the time that is gone.

    (Where the counter begins anew just then, nobody can know how far it would have come.)
    """
    hours, run_h = lost_hours
    jobs = farm(**keys, run_h=run_h)  # type: ignore[arg-type]
    begin = BEGIN + 15 * DAY + 11 * HOUR
    lost = (jobs.logged >= begin) & (jobs.logged < begin + hours * HOUR)
    inside = lost & (jobs.submitted > begin) & (jobs.submitted + 4 * jobs.run_s < begin + hours * HOUR) & jobs.is_logged
    assume(int(inside.sum()) >= 60)
    assume((np.diff(jobs.numbers[np.abs(jobs.submitted - begin) < 3 * DAY]) > 0).all())
    found = holes(jobs, lost)
    assert found
    covered = np.zeros(len(jobs.numbers), bool)
    for hole in found:
        covered |= (jobs.numbers >= hole.first) & (jobs.numbers <= hole.last)
        assert begin - 3 * jobs.run_s - 8 * HOUR < hole.before_at
        assert hole.after_at < begin + hours * HOUR
        assert hole.missing <= hole.last - hole.first + 1
    assert (covered & inside).sum() > 0.9 * inside.sum()
    outside = (jobs.submitted < begin - 3 * DAY) | (jobs.submitted > begin + 3 * DAY)
    assert not (covered & outside & (np.abs(jobs.submitted - begin) < 10 * DAY)).any()


def _steady(**keys: int) -> Farm:
    return farm(1, **{"days": 30, "jobs_a_day": 400, **keys}, pattern="steady", run_h=0.5)


def test_a_hole_is_told_once_the_longest_job_explains_it_no_more() -> None:
    jobs = _steady()
    lost = (jobs.submitted > BEGIN + 15 * DAY) & (jobs.submitted < BEGIN + 15 * DAY + 12 * HOUR)
    over = BEGIN + 15 * DAY + 12 * HOUR
    assert holes(jobs, lost, over + 2 * HOUR) == []
    (hole,) = holes(jobs, lost, over + jobs.longest_s + 6 * HOUR)
    numbers = jobs.numbers[lost]
    assert (hole.first, hole.last, hole.missing) == (numbers.min(), numbers.max(), len(numbers))
    assert hole.after_at <= jobs.submitted[lost].min()
    assert hole.before_at >= jobs.submitted[lost].max()
    assert hole.before_at - hole.after_at < 14 * HOUR


def test_a_file_that_comes_late_closes_the_hole() -> None:
    jobs = _steady()
    lost = (jobs.logged > BEGIN + 10 * DAY) & (jobs.logged < BEGIN + 11 * DAY)
    assert len(holes(jobs, lost)) == 1
    assert holes(jobs) == []


@pytest.mark.parametrize(("ahead", "found"), [(3_000_000, 0), (200, 1)])
def test_a_counter_set_forward_is_no_hole(ahead: int, found: int) -> None:
    """... if it went further than could have been submitted; else nobody can know."""
    jobs = _steady()
    numbers = np.where(jobs.submitted > BEGIN + 10 * DAY, jobs.numbers + ahead, jobs.numbers)
    assert len(holes(Farm(numbers, jobs.submitted, jobs.logged, jobs.is_logged))) == found


def test_requeued_jobs_and_wrong_clocks_are_no_holes() -> None:
    jobs = _steady()
    submitted = jobs.submitted.copy()
    submitted[::97] += 9 * DAY
    submitted[::89] -= 20 * DAY
    assert holes(Farm(jobs.numbers, submitted, np.maximum(jobs.logged, submitted), jobs.is_logged), now=BEGIN + 30 * DAY) == []


def test_where_holes_are_usual_only_a_great_one_is_told() -> None:
    """Users who delete a hundred waiting jobs, twice a day."""
    jobs = _steady()
    deleted = np.arange(len(jobs.numbers)) % 200 < 100
    deleted &= np.arange(len(jobs.numbers)) % 400 < 200
    assert holes(jobs, deleted) == []
    lost = (jobs.logged > BEGIN + 10 * DAY) & (jobs.logged < BEGIN + 13 * DAY)
    assert len(holes(jobs, deleted | lost)) == 1


def test_too_few_numbers_say_nothing() -> None:
    jobs = _steady(days=1, jobs_a_day=190)
    assert holes(jobs, (jobs.numbers > 40) & (jobs.numbers < 100)) == []
    assert find_holes(np.array([], np.int64), np.array([], np.int64), BEGIN) == []


@pytest.mark.parametrize("most", [10**6, 3000])
def test_of_many_numbers_some_are_looked_at(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Through the store, whole and in part: the same hole, about."""
    monkeypatch.setattr(gaps, "MOST_NUMBERS", most)
    jobs = _steady(jobs_a_day=500)
    lost = (jobs.logged > BEGIN + 10 * DAY) & (jobs.logged < BEGIN + 11 * DAY)
    rows = [
        job(n, record_key=str(n), submit_at=at, logged_at=logged)
        for n, at, logged in zip(
            jobs.numbers[~lost].tolist(), jobs.submitted[~lost].tolist(), jobs.logged[~lost].tolist(), strict=True
        )
    ]
    append(sqlite_store, ORIGIN, parsed(rows), BEGIN)
    now = BEGIN + 31 * DAY
    note_state(sqlite_store, "lsf-master", {"record_type": "job", "read_to_end_at": now})
    with sqlite_store.reading() as connection:
        found = gaps.gaps_now(connection, [gaps.Watched("lsf-master", now)], now)
    (hole,) = found.holes
    missing = jobs.numbers[lost]
    assert (hole.cluster, hole.series) == ("lsf1", "")
    assert abs(hole.span.first - missing.min()) < 60
    assert abs(hole.span.last - missing.max()) < 60
    assert abs(hole.span.missing - len(missing)) < 0.1 * len(missing)
