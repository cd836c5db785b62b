"""Pictures: the same bytes for the same input, something to see, gaps hatched and never a bar of zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from batchacct.errors import ConfigError
from batchacct.ledger.whose import NOT_JOINED
from cpuhours.plot import (
    COLOURS,
    NOT_JOINED_COLOUR,
    OTHER,
    OTHER_COLOUR,
    Words,
    colours_of,
    plot_days,
    plot_series,
    plot_stack,
    top_of,
)
from tests.cpuhours.farm import DAY, at

WORDS = Words("CPU hours by VO", "SITE, 2026-11-01 to 2026-11-05", "CPU hours per day", "VO", ["UTC days.", "A note."])
GAP = "#F4F4F4"
FIRST = at("2026-11-01 00:00")
DAYS = [FIRST + n * DAY for n in range(5)]
STACKS = {"atlas": {DAYS[0]: 5.0, DAYS[1]: 7.0, DAYS[4]: 2.0}, "_$odd$ <vo>": {DAYS[1]: 3.0}}


def area(path: Path, colour: str) -> int:
    """Pixels of exactly this colour."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    return int((pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum())


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path, zone in zip(paths, ("UTC", "Pacific/Chatham"), strict=True):
        monkeypatch.setenv("TZ", zone)
        plot_days(path, STACKS, DAYS, DAYS[2:3], WORDS)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(paths[0].read_bytes()) > 5000


def test_the_picture_shows_every_stack_and_the_gap(tmp_path: Path) -> None:
    plain, gap = tmp_path / "plain.png", tmp_path / "gap.png"
    plot_days(plain, STACKS, DAYS, [], WORDS)
    plot_days(gap, STACKS, DAYS, DAYS[2:3], WORDS)
    assert area(plain, COLOURS[0]) == pytest.approx(area(plain, COLOURS[1]) * 14 / 3, rel=0.1)
    assert area(plain, GAP) < 100
    assert area(gap, GAP) > 10_000


def test_the_axis_and_the_legend_say_what_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    plot_days(path, STACKS, DAYS, DAYS[2:3], WORDS)
    text = path.read_text()
    for words in ("CPU hours per day", "day (UTC)", "no data", "atlas:  14", "_$odd$ &lt;vo&gt;:  3", "1 Nov", "A note."):
        assert f"<!-- {words}" in text or words in text, words


def test_nothing_but_gaps_can_be_drawn(tmp_path: Path) -> None:
    plot_days(tmp_path / "a.png", {}, DAYS[:1], DAYS[:1], WORDS)
    assert area(tmp_path / "a.png", GAP) > 10_000


def test_a_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one of \.png, \.svg, \.pdf"):
        plot_days(tmp_path / "a.gif", STACKS, DAYS, [], WORDS)
    with pytest.raises(ConfigError, match="does not exist"):
        plot_days(tmp_path / "none" / "a.png", STACKS, DAYS, [], WORDS)


def test_what_is_beyond_the_top_is_other_and_not_joined_stays_apart() -> None:
    stacks = {f"vo{n}": {0: float(n), 1: 1.0} for n in range(1, 10)} | {NOT_JOINED: {0: 99.0}}
    top = top_of(stacks, 7)
    assert list(top) == ["vo9", "vo8", "vo7", "vo6", "vo5", "vo4", "vo3", OTHER, NOT_JOINED]
    assert top[OTHER] == {0: 3.0, 1: 2.0}
    assert sum(sum(v.values()) for v in top.values()) == sum(sum(v.values()) for v in stacks.values())
    assert colours_of(top) == [*COLOURS, OTHER_COLOUR, NOT_JOINED_COLOUR]


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
