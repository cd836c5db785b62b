"""Pictures of reports: the same bytes for the same input, something to see, gaps hatched, names as text whatever they are."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from batchacct.errors import ConfigError
from cpuhours.pictures import Bar, Series, TimeAxis, draw_bars, draw_heatmap, draw_lines, draw_stack
from cpuhours.plot import COLOURS, NOT_JOINED_COLOUR, OTHER_COLOUR, Words
from cpuhours.spans import bins_between
from tests.cpuhours.farm import DAY, at
from tests.cpuhours.test_plot import GAP, area

WORDS = Words("CPU hours by VO", "SITE, 2026-11-01 to 2026-11-05", "CPU hours per day", "VO", ["UTC days.", "A note."])
FIRST = at("2026-11-01 00:00")
BINS = [(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(5)]
AXIS = TimeAxis(BINS, "day", "UTC")
GAPPY = TimeAxis(BINS, "day", "UTC", [BINS[2][0]])
SERIES = [Series("atlas", [5.0, 7.0, math.nan, 0.0, 2.0], 14.0), Series("_$odd$ <vo>\x01", [0.0, 3.0, math.nan, 0.0, 0.0], 3.0)]
BARS = [Bar("atlas", 14.0, 7.0), Bar("_$odd$ <vo>\x01", 3.0, 0.0), Bar("unknown", math.nan, math.nan)]
WEEK = [[float(day * 24 + hour) for hour in range(24)] for day in range(6)] + [[math.nan] * 24]

DRAWN: dict[str, Callable[[Path], None]] = {
    "stack": lambda path: draw_stack(path, SERIES, GAPPY, WORDS),
    "lines": lambda path: draw_lines(path, SERIES, GAPPY, WORDS),
    "log": lambda path: draw_lines(path, SERIES, GAPPY, WORDS, log=True),
    "bars": lambda path: draw_bars(path, BARS, WORDS),
    "heatmap": lambda path: draw_heatmap(path, WEEK, WORDS, "Europe/Zurich"),
}


@pytest.mark.parametrize("kind", list(DRAWN))
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kind: str) -> None:
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path, zone in zip(paths, ("UTC", "Pacific/Chatham"), strict=True):
        monkeypatch.setenv("TZ", zone)
        DRAWN[kind](path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(paths[0].read_bytes()) > 5000


@pytest.mark.parametrize("kind", list(DRAWN))
def test_a_picture_is_xml_whatever_names_are(tmp_path: Path, kind: str) -> None:
    DRAWN[kind](tmp_path / "a.svg")
    ET.parse(tmp_path / "a.svg")
    if kind != "heatmap":
        assert "_$odd$ &lt;vo&gt;\\x01" in (tmp_path / "a.svg").read_text()


def test_stacks_have_their_areas_and_gaps_are_hatched(tmp_path: Path) -> None:
    plain, gap = tmp_path / "plain.png", tmp_path / "gap.png"
    draw_stack(plain, SERIES, AXIS, WORDS)
    draw_stack(gap, SERIES, GAPPY, WORDS)
    assert area(plain, COLOURS[0]) == pytest.approx(area(plain, COLOURS[1]) * 14 / 3, rel=0.1)
    assert area(plain, GAP) < 100
    assert area(gap, GAP) > 10_000


def test_bars_are_as_long_as_what_they_stand_for(tmp_path: Path) -> None:
    draw_bars(tmp_path / "a.png", [Bar("a", 10.0, 5.0)], WORDS)
    legend = 400
    assert area(tmp_path / "a.png", COLOURS[0]) == pytest.approx(2 * area(tmp_path / "a.png", "#B8B8B8"), rel=0.05, abs=legend)


def test_more_than_all_is_not_cut(tmp_path: Path) -> None:
    """Bars of 500 and of 250 in all, on axes that end 6 % above the highest."""
    over, below = tmp_path / "over.png", tmp_path / "below.png"
    draw_stack(over, [Series("all jobs", [50.0, 150.0, 80.0, 100.0, 120.0], 100.0)], AXIS, WORDS, full_at=100.0)
    draw_stack(below, [Series("all jobs", [50.0] * 5, 50.0)], AXIS, WORDS, full_at=100.0)
    assert area(over, COLOURS[0]) / area(below, COLOURS[0]) == pytest.approx((500 / 150) / (250 / 100), rel=0.03)
    draw_stack(tmp_path / "a.svg", [Series("all jobs", [50.0] * 5, 50.0)], AXIS, WORDS, full_at=100.0)
    assert "100 %: all cores" in (tmp_path / "a.svg").read_text()


def test_what_is_no_group_is_grey_and_the_palette_begins_anew_hatched(tmp_path: Path) -> None:
    many = [Series(f"vo{n}", [1.0] * 5, 5.0) for n in range(21)]
    many += [Series("other (3 VOs)", [2.0] * 5, 10.0, "other"), Series("(not joined yet)", [2.0] * 5, 10.0, "pending")]
    draw_stack(tmp_path / "a.png", many, AXIS, WORDS)
    for colour in (OTHER_COLOUR, NOT_JOINED_COLOUR):
        assert area(tmp_path / "a.png", colour) > 5_000
    plain = area(tmp_path / "a.png", COLOURS[0])
    assert plain > 1_000


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich"])
@pytest.mark.parametrize(
    ("size", "days", "texts"),
    [
        ("hour", 1, ["00:00", "1 Nov 2026", "22:00"]),
        ("day", 45, ["1 Nov", "2026", "3 Dec"]),
        ("week", 80, ["26 Oct", "2026", "4 Jan", "2027"]),
        ("month", 420, ["Nov", "2026", "2027"]),
    ],
)
def test_the_axis_is_dated_in_the_zone(tmp_path: Path, zone: str, size: str, days: int, texts: list[str]) -> None:
    begin = FIRST if zone == "UTC" else FIRST - 3600
    bins = bins_between(size, zone, begin, begin + days * DAY)
    draw_lines(tmp_path / "a.svg", [Series("a", [1.0] * len(bins), 1.0)], TimeAxis(bins, size, zone), WORDS)
    text = (tmp_path / "a.svg").read_text()
    for words in (*texts, zone):
        assert f"<!-- {words}" in text or words in text, words


def test_one_bin_no_bar_and_nothing_but_gaps(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = TimeAxis(BINS[:1], "day", "UTC", [FIRST])
        draw_stack(tmp_path / "a.png", [], one, WORDS)
        assert area(tmp_path / "a.png", GAP) > 10_000
        draw_lines(tmp_path / "a.png", [Series("a", [3.0], 3.0)], TimeAxis(BINS[:1], "day", "UTC"), WORDS)
        draw_lines(tmp_path / "a.png", [Series("a", [math.nan], math.nan)], one, WORDS, log=True)
        draw_bars(tmp_path / "a.svg", [], WORDS, log=True)
        draw_heatmap(tmp_path / "b.png", [[math.nan] * 24] * 7, WORDS, "UTC")
    assert "no job in this period" in (tmp_path / "a.svg").read_text()


def test_names_in_any_script_are_drawn(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_bars(tmp_path / "a.svg", [Bar("\N{CJK UNIFIED IDEOGRAPH-4E2D}\n--> <b>", 1.0)], WORDS)
    ET.parse(tmp_path / "a.svg")


def test_long_names_keep_both_ends(tmp_path: Path) -> None:
    name = "/DC=ch/DC=cern/OU=Organic Units/OU=Users/CN=alice/CN=12345"
    draw_bars(tmp_path / "a.svg", [Bar(name, 1.0)], WORDS)
    assert "/DC=ch/DC=cern/OU\N{HORIZONTAL ELLIPSIS}e/CN=12345" in (tmp_path / "a.svg").read_text()


def test_a_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one of \.png, \.svg, \.pdf"):
        draw_bars(tmp_path / "a.gif", BARS, WORDS)
    with pytest.raises(ConfigError, match="does not exist"):
        draw_bars(tmp_path / "none" / "a.png", BARS, WORDS)


def test_what_is_negative_is_drawn_below_zero(tmp_path: Path) -> None:
    """Clocks that differ make negative waits: 10 up and 5 down are 15 of bars, in whatever order they stand on each other."""
    up, down = Series("up", [10.0] * 5, 50.0), Series("down", [-5.0] * 5, -25.0)
    for series in ([up, down], [down, up]):
        draw_stack(tmp_path / "a.png", series, AXIS, WORDS)
        first, second = (area(tmp_path / "a.png", colour) for colour in COLOURS[:2])
        assert first / second == pytest.approx(2 if series[0] is up else 0.5, rel=0.1)
    draw_lines(tmp_path / "lines.png", [up, down], AXIS, WORDS)
    assert area(tmp_path / "lines.png", COLOURS[1]) == pytest.approx(area(tmp_path / "lines.png", COLOURS[0]), rel=0.2)
    draw_bars(tmp_path / "bars.png", [Bar("up", 10.0), Bar("down", -10.0)], WORDS)
    draw_bars(tmp_path / "up.png", [Bar("up", 10.0), Bar("none", 0.0)], WORDS)
    assert area(tmp_path / "bars.png", COLOURS[0]) == pytest.approx(area(tmp_path / "up.png", COLOURS[0]), rel=0.15)
    draw_bars(tmp_path / "a.svg", [Bar("down", -12.5, -10.0)], WORDS)
    assert "-12.5  (-25 %)" in (tmp_path / "a.svg").read_text()
    darkest, lightest = "#00224E", "#FEE838"
    draw_heatmap(tmp_path / "heat.png", [[-1.0] * 24, [0.0] * 24, [1.0] * 24, *[[1.0] * 24] * 4], WORDS, "UTC")
    assert area(tmp_path / "heat.png", darkest) > 10_000
    assert area(tmp_path / "heat.png", lightest) > 10_000
    draw_heatmap(tmp_path / "heat.png", [[-1.0] * 24, *[[-2.0] * 24] * 6], WORDS, "UTC")
    assert area(tmp_path / "heat.png", darkest) == pytest.approx(6 * (area(tmp_path / "heat.png", "#7D7C78") or 1), rel=0.3)


def test_a_group_without_name_is_not_all_jobs(tmp_path: Path) -> None:
    draw_lines(tmp_path / "a.svg", [Series("", [1.0] * 5, 5.0), Series("a", [1.0] * 5, 5.0)], AXIS, WORDS)
    assert "(no name):  5" in (tmp_path / "a.svg").read_text()


def test_a_long_subtitle_is_wrapped_and_then_shortened(tmp_path: Path) -> None:
    for names, complete in ((30, True), (300, False)):
        filters = ", ".join(f"name{number}" for number in range(names))
        draw_bars(tmp_path / "a.svg", BARS, replace(WORDS, subtitle=f"SITE, in October; jobs counted where they ended; {filters}"))
        lines = re.findall(r"<!-- (.*name\d.*) -->", (tmp_path / "a.svg").read_text())
        assert 1 < len(lines) <= 3
        assert max(map(len, lines)) <= 145
        assert "counted where they ended" in lines[0]
        assert lines[-1].endswith("name29" if complete else "\N{HORIZONTAL ELLIPSIS}")


@pytest.mark.parametrize("values", [(2000.0, 4000.0), (10.0, 900.0), (1.0, 10.0**6)])
def test_logarithmic_bars_have_several_ticks(tmp_path: Path, values: tuple[float, float]) -> None:
    draw_bars(tmp_path / "a.svg", [Bar("a", values[0]), Bar("b", values[1]), Bar("c", -5.0)], WORDS, log=True)
    ticks = (tmp_path / "a.svg").read_text().split('id="matplotlib.axis_2"')[0].split('id="xtick_')[1:]
    assert "<!-- -5 -->" in (tmp_path / "a.svg").read_text(), "what such an axis does not have stands at its edge"
    assert sum(bool(re.search(r"<!-- [\d,.]+ -->", tick)) for tick in ticks) >= 3
