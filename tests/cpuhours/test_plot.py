"""The pictures of the 2012 script: something to see, gaps hatched and never a bar of zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from batchacct.errors import ConfigError
from cpuhours.plot import COLOURS, plot_series, plot_stack
from tests.cpuhours.farm import DAY, at

GAP = "#F4F4F4"
FIRST = at("2026-11-01 00:00")
DAYS = [FIRST + n * DAY for n in range(5)]


def area(path: Path, colour: str) -> int:
    """Pixels of exactly this colour."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    return int((pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum())


@pytest.mark.parametrize("bar", [True, False])
@pytest.mark.parametrize("log", [True, False])
def test_series(tmp_path: Path, bar: bool, log: bool) -> None:
    path = tmp_path / "a.png"
    values = {DAYS[0]: 1.0, DAYS[1]: 0.0, DAYS[3]: 4.0}
    plot_series(path, values, DAYS[:4], title="all $of$ it", y_label="jobs", colour="#FF0000", bar=bar, log=log)
    assert area(path, "#FF0000") > (10_000 if bar else 50)
    assert area(path, GAP) > 10_000
    with pytest.raises(ConfigError, match="is no colour"):
        plot_series(path, values, DAYS[:4], title="all", y_label="jobs", colour="reddish", bar=bar, log=log)


def test_a_stack_has_a_gap_where_one_series_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    plot_stack(path, {"a": {DAYS[0]: 1.0, DAYS[1]: 1.0}, "b": {DAYS[0]: 2.0}}, DAYS[:2], title="a,b", y_label="days")
    assert area(path, COLOURS[1]) == pytest.approx(area(path, COLOURS[0]) * 2, rel=0.05)
    assert area(path, GAP) > 10_000


def test_weeks_and_months_are_as_wide_as_they_are(tmp_path: Path) -> None:
    """The last week of a year has one day: centred bars of a week would cover the next one."""
    weeks = [at("2026-12-24 00:00"), at("2026-12-31 00:00"), at("2027-01-01 00:00"), at("2027-01-08 00:00")]
    values = dict.fromkeys(weeks, 1.0)
    look = {"title": "t", "y_label": "jobs", "colour": "#FF0000", "bar": True, "log": False}
    plot_series(tmp_path / "all.png", values, weeks, **look)  # type: ignore[arg-type]
    del values[weeks[1]]
    plot_series(tmp_path / "gap.png", values, weeks, **look)  # type: ignore[arg-type]
    whole, without = area(tmp_path / "all.png", "#FF0000"), area(tmp_path / "gap.png", "#FF0000")
    assert area(tmp_path / "gap.png", GAP) > 1000
    plot_stack(tmp_path / "stack.png", {"a": dict.fromkeys(weeks, 1.0)}, weeks, title="t", y_label="jobs")
    assert area(tmp_path / "stack.png", COLOURS[0]) > whole * 0.8
    del values[weeks[2]]
    plot_series(tmp_path / "gaps.png", values, weeks, **look)  # type: ignore[arg-type]
    week = without - area(tmp_path / "gaps.png", "#FF0000")
    assert week == pytest.approx(without / 3, rel=0.02), "the three that are left are of seven days each"
