"""Distributions of wall times: every number equal to one that pandas counts from the same rows."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import update

from batchacct.errors import ConfigError
from batchacct.store import Store
from batchacct.store.tables import job
from batchacct.usage.asking import rows_of
from cpuhours.distribution import Chosen, Distribution, bins_for, wall_times
from cpuhours.plot_distribution import Labels, plot_distribution
from tests.archive.farms import archive, left
from tests.archive.test_purge import JULY, MARCH, site_of
from tests.cpuhours.farm import DAY, HOUR, at, chance_jobs, fill, job_row
from tests.cpuhours.test_plot import area

BEGIN, END = at("2026-11-01 00:00"), at("2027-01-01 00:00")


def started(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.start_at.notna() & (frame.end_at >= BEGIN) & (frame.end_at < END)]


def without_cpu(rows: list[dict[str, object]]) -> int:
    return int(started(pd.DataFrame(rows)).cpu_duration_s.isna().sum())


def measured(rows: list[dict[str, object]], factor: float | None) -> pd.Series[float]:
    """Wall times of what is counted, in the unit asked for; NaN without host factor."""
    frame = pd.DataFrame(rows)
    frame = started(frame)[started(frame).cpu_duration_s.notna()]
    wall = (frame.end_at - frame.start_at).astype(float)
    return wall if factor is None else wall * frame.host_factor.astype(float) * factor


def counted(rows: list[dict[str, object]], factor: float | None, bin_s: int, right_s: int) -> Distribution:
    values = measured(rows, factor)
    known = values.dropna()
    shown = known[(known >= 0) & (known < right_s)]
    jobs = pd.Series(np.floor(shown / bin_s).astype(int) * bin_s).value_counts().sort_index()
    counts = {int(begin): int(count) for begin, count in jobs.items()}  # type: ignore[call-overload]
    beyond, unknown, negative = (int(some.sum()) for some in (known >= right_s, values.isna(), known < 0))
    return Distribution(bin_s, right_s, counts, beyond, unknown, negative, without_cpu(rows))


@pytest.mark.parametrize("factor", [None, 3.9])
@pytest.mark.parametrize(
    ("longest_s", "bin_s"), [(200, 10), (1300, 60), (10_000, 600), (9 * DAY, HOUR)], ids=["minutes", "hour", "hours", "days"]
)
def test_equal_to_pandas(sqlite_store: Store, longest_s: int, bin_s: int, factor: float | None) -> None:
    rows = chance_jobs(600, longest_s)
    fill(sqlite_store, rows)
    values = measured(rows, factor)
    found = wall_times(sqlite_store, Chosen(BEGIN, END, factor))
    assert found == counted(rows, factor, found.bin_s, found.right_s)
    assert (found.bin_s, found.right_s) == bins_for(values.max())
    assert found.total == values.notna().sum() > 300
    assert found.unknown_cpu > 100
    assert found.beyond == 0
    if factor is not None:
        assert found.bin_s == bin_s
        assert found.without_factor > 20


@pytest.mark.parametrize("factor", [None, 3.9])
@pytest.mark.parametrize("crop_s", [55, 1799, 1800, 5400, 30 * HOUR + 1, 10**9])
def test_cropped(sqlite_store: Store, crop_s: int, factor: float | None) -> None:
    rows = chance_jobs(300, 9 * DAY)
    fill(sqlite_store, rows)
    values = measured(rows, factor)
    found = wall_times(sqlite_store, Chosen(BEGIN, END, factor), crop_s)
    assert found == counted(rows, factor, found.bin_s, found.right_s)
    assert found.total == values.notna().sum()
    assert crop_s <= found.right_s < crop_s + found.bin_s or crop_s == 10**9


@pytest.mark.parametrize("factor", [None, 3.9])
def test_equal_on_every_database(store: Store, factor: float | None) -> None:
    """Normalised times are binned by the same arithmetic everywhere."""
    rows = [*chance_jobs(400, 9 * DAY), job_row(401, BEGIN + DAY, start_at=BEGIN + DAY + 1)]
    fill(store, rows)
    for crop_s in (None, 3000, 50_000):
        found = wall_times(store, Chosen(BEGIN, END, factor, [job.c.queue == "grid_atlas"]), crop_s)
        of_queue = [row for row in rows if row["queue"] == "grid_atlas"]
        assert found == counted(of_queue, factor, found.bin_s, found.right_s)
        assert found.negative == 1


def test_of_no_job(sqlite_store: Store) -> None:
    columns: list[dict[str, object]] = [{"start_at": None}, {"host_factor": None}, {"cpu_duration_s": None}]
    fill(sqlite_store, [job_row(number, BEGIN, **of_job) for number, of_job in enumerate(columns, 1)])
    assert wall_times(sqlite_store, Chosen(BEGIN, END, 3.9)) == Distribution(10, 1800, {}, without_factor=1, unknown_cpu=1)
    assert wall_times(sqlite_store, Chosen(BEGIN, END, None)) == Distribution(60, 3 * HOUR, {HOUR: 1}, unknown_cpu=1)


def test_no_more_rows_than_bins_come_out(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(sqlite_store, [job_row(n, BEGIN + n, start_at=BEGIN + n - n % 50) for n in range(1, 501)])
    asked: list[int] = []

    def watched(*words: object) -> list[tuple[object, ...]]:
        rows = rows_of(*words)  # type: ignore[arg-type]
        asked.append(len(rows))
        return rows

    monkeypatch.setattr("cpuhours.distribution.rows_of", watched)
    assert wall_times(sqlite_store, Chosen(BEGIN, END)) == Distribution(10, 1800, dict.fromkeys(range(0, 50, 10), 100))
    assert asked == [1, 5]


@pytest.mark.parametrize(
    ("longest_s", "crop_s", "expected"),
    [
        (0, None, (10, 1800)),
        (1799.9, None, (10, 1800)),
        (1800, None, (60, 10_800)),
        (10_799, None, (60, 10_800)),
        (10_800, None, (600, DAY)),
        (DAY - 1, None, (600, DAY)),
        (DAY, None, (3600, 25 * HOUR)),
        (30.5 * HOUR, None, (3600, 31 * HOUR)),
        (100 * HOUR, 1795, (10, 1800)),
        (100 * HOUR, 1700, (10, 1700)),
        (100 * HOUR, 5400, (60, 5400)),
        (100 * HOUR, 36 * HOUR, (3600, 36 * HOUR)),
        (900, 1200, (10, 1200)),
        (900, 7200, (10, 1800)),
    ],
)
def test_bins_by_range(longest_s: float, crop_s: int | None, expected: tuple[int, int]) -> None:
    assert bins_for(longest_s, crop_s) == expected


def test_the_curve_reaches_what_is_shown_and_knows_of_the_rest() -> None:
    found = Distribution(10, 100, {0: 3, 40: 2, 50: 1}, beyond=4)
    assert found.cumulative() == [(0, 0), (10, 3), (40, 3), (50, 5), (60, 6), (100, 6)]
    assert found.total == 10
    assert Distribution(10, 60, {0: 3, 50: 1}).cumulative()[-1] == (60, 4)
    assert Distribution(10, 60, {}, beyond=1).cumulative() == [(0, 0), (60, 0)]


def test_cropping_later_is_cropping_at_once() -> None:
    chance = random.Random(1)
    jobs = {60 * n: chance.randrange(1, 9) for n in range(100)}
    found = Distribution(60, 6000, jobs, beyond=7, without_factor=1, negative=2, unknown_cpu=3)
    cropped = found.cropped(1234)
    assert cropped.right_s == 1260
    assert cropped.jobs == {at_s: count for at_s, count in found.jobs.items() if at_s < 1260}
    assert (cropped.total, cropped.without_factor, cropped.negative, cropped.unknown_cpu) == (found.total, 1, 2, 3)
    assert found.cropped(10**6) == found


LABELS = Labels("a $title$", " x host factor x 3.9", ["A note."])
FOUND = Distribution(600, DAY, {0: 50, 600: 5, 12_000: 1}, beyond=44, without_factor=1, unknown_cpu=2)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("percent", [True, False])
def test_the_picture_says_what_it_shows(tmp_path: Path, log: bool, percent: bool) -> None:
    paths = [tmp_path / f"{n}.svg" for n in range(2)]
    for path in paths:
        plot_distribution(path, FOUND, LABELS, colour="r", log=log, percent=percent)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    words = paths[0].read_text()
    for said in (
        "a $title$",
        "wall time (hours x host factor x 3.9)",
        "jobs per bin of 10 min",
        "cumulative jobs (% of all)" if percent else "cumulative jobs",
        "A note.",
        "Beyond the right edge (24 h or longer): 44 jobs (44 %), part of all jobs.",
        "Left out: 1 job without host factor",
        "Left out, as in 2012: 2 jobs of unknown CPU time.",
    ):
        assert f"<!-- {said}" in words or said in words, said


def test_minutes_up_to_three_hours_and_hours_after(tmp_path: Path) -> None:
    for right_s, unit in ((1800, "minutes"), (10_800, "minutes"), (DAY, "hours")):
        plot_distribution(tmp_path / "a.svg", Distribution(10, right_s, {0: 1}), Labels("t", "", []), colour="k")
        assert f"wall time ({unit})" in (tmp_path / "a.svg").read_text()


def test_bars_are_as_high_as_there_are_jobs(tmp_path: Path) -> None:
    for height, name in ((4, "four"), (2, "two")):
        found = Distribution(600, DAY, {0: 4, 40_000 // 600 * 600: height})
        plot_distribution(tmp_path / f"{name}.png", found, Labels("t", "", []), colour="#FF0000")
    both, half = area(tmp_path / "four.png", "#FF0000"), area(tmp_path / "two.png", "#FF0000")
    assert half == pytest.approx(both * 3 / 4, rel=0.15)
    plot_distribution(tmp_path / "none.png", Distribution(600, 1200, {}, beyond=3), Labels("t", "", []), colour="r", log=True)
    with pytest.raises(ConfigError, match="is no colour"):
        plot_distribution(tmp_path / "a.png", FOUND, LABELS, colour="reddish")


@pytest.mark.parametrize("factor", [None, 3.9])
def test_archived_months_count_as_before(sqlite_store: Store, tmp_path: Path, factor: float | None) -> None:
    site = site_of(sqlite_store, tmp_path)
    with sqlite_store.writing() as connection:
        connection.execute(update(job).where(job.c.queue == "normal").values(host_factor=1.7))
    chosen = Chosen(MARCH, JULY, factor)
    before = [wall_times(sqlite_store, chosen, crop_s) for crop_s in (None, 3000)]
    archive(site, JULY)
    assert left(sqlite_store)["job"] == 0
    assert [wall_times(sqlite_store, chosen, crop_s) for crop_s in (None, 3000)] == before
    assert wall_times(site.config.archive.path, chosen) == before[0]
    assert before[0].total == (4 if factor is None else 2)
