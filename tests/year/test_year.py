"""Some weeks of the site whose whole year `make year` simulates, with one of each event: what went in is what came out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.brokers import Broker
from tests.year.plan import WEEKS, YEAR, Plan
from tests.year.trial import tried


@pytest.mark.usefixtures("with_history")
def test_weeks_with_one_of_each_event(tmp_path: Path, activemq: Broker) -> None:
    trial = tried(WEEKS, tmp_path, None, activemq, seed=1)
    print(trial.ledger)
    assert trial.wrong == []
    months = trial.simulation.months.values()
    assert sum(month.counts["rejects"] for month in months) == len(trial.simulation.rejects.by_id) > 10
    assert sum(month.counts["repeated"] for month in months) > 0, "after the restore"
    assert sum(month.counts["corrected"] for month in months) > 0
    assert sum(month.counts["collect killed"] for month in months) > 0
    assert trial.simulation.truth.unpublished.keys() == {"never started", "requeued", "in the future"}


@pytest.mark.parametrize("plan", [YEAR, WEEKS])
def test_what_a_plan_has_in_it(plan: Plan) -> None:
    days = [plan.first.fromordinal(plan.first.toordinal() + number) for number in range(plan.days)]
    assert any((day.month, day.day) == (2, 29) for day in days)
    assert [plan.hour_that_comes_twice(day) is not None for day in days].count(True) == 1
    once = {plan.upgrade, *(day for pair in (*plan.outages, plan.full_disk, plan.restore, plan.ce_log_late) for day in pair)}
    assert {*once, *plan.wrong_clock, *plan.copied_back, plan.benchmark_from} <= {*days}
    if plan is YEAR:
        assert plan.days == 366
        assert {plan.clocks_changed(day) for day in days} == {"", "a day of 23 hours", "a day of 25 hours"}
