"""A report loses nothing and hides nothing: periods left open, groups that are gone, idle time, and what is unknown, said so."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from batchacct.config_reports import Capacity, Energy
from cpuhours.drawing import bars_of, heat_of, question_of_picture, series_of
from cpuhours.question import Question
from cpuhours.report import Report, make_report
from cpuhours.showing import as_bytes, as_values, records, table_of
from tests.cpuhours.farm import DAY, HOUR, add_benchmark, at, give_benchmark, job_row, join, new_store

TEN_CORES = [Capacity(cluster="lsf1", cores=10)]
FIRST = at("2026-11-02 00:00")
"""A Monday."""


def told(
    folder: Path,
    rows: list[dict[str, object]],
    *,
    capacity: Sequence[Capacity] = TEN_CORES,
    energy: Sequence[Energy] = (),
    kind: str | None = None,
    levels: dict[str, int] | None = None,
    **asked: object,
) -> Report:
    """The report of these jobs; `kind`: that of its picture of this kind. `levels`: which jobs have the benchmark HEPscore23."""
    store = new_store(folder, rows)
    add_benchmark(store, 1, "HEPscore23", 10.0)
    if levels:
        join(store, dict.fromkeys(levels, ("joined", "atlas")))
    for name, number in (levels or {}).items():
        give_benchmark(store, name, number)
    question = Question(**({"by": "queue"} | asked))  # type: ignore[arg-type]
    found = make_report(store, question, capacity=capacity, energy=energy)
    if kind:
        found = make_report(store, question_of_picture(found, kind), capacity=capacity, energy=energy)
    store.close()
    return found


def notes(report: Report) -> str:
    return " ".join(report.notes)


# --- the period ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "whole"),
    [
        ({"spread": True, "measures": ("cpu",)}, 72.0),
        ({"measures": ("started",)}, 1),
        ({"measures": ("utilisation",), "by": "day"}, None),
    ],
)
def test_a_period_left_open_begins_with_the_first_start_where_that_counts(
    tmp_path: Path, asked: dict[str, Any], whole: float | None
) -> None:
    rows = [job_row(1, FIRST + 3 * DAY, start_at=FIRST, wall_duration_s=3 * DAY, cpu_duration_s=3 * DAY)]
    report = told(tmp_path, rows, **asked)
    assert report.period == (FIRST, FIRST + 4 * DAY)
    if whole is not None:
        assert report.question.measured[0].values(report.total).iloc[0] == whole


def test_a_period_left_open_begins_with_the_first_end_where_jobs_count_there(tmp_path: Path) -> None:
    rows = [job_row(1, FIRST + 3 * DAY, start_at=FIRST, wall_duration_s=3 * DAY)]
    assert told(tmp_path, rows).period == (FIRST + 3 * DAY, FIRST + 4 * DAY)


# --- compared ------------------------------------------------------------------------------------------------------------------


def _two_weeks(gone: str = "gone") -> list[dict[str, object]]:
    """A job a day of one hour of CPU: in the first week of a queue that is gone in the second."""
    rows = [job_row(day, FIRST + day * DAY + HOUR, queue="new" if day >= 7 else gone) for day in range(14)]
    return [row | {"cpu_duration_s": HOUR, "wall_duration_s": HOUR} for row in rows]


SECOND: dict[str, Any] = {"begin": FIRST + 7 * DAY, "end": FIRST + 14 * DAY, "compare": True}


def test_groups_that_are_gone_are_compared_too(tmp_path: Path) -> None:
    report = told(tmp_path, _two_weeks(), measures=("cpu", "utilisation"), **SECOND)
    new, gone = records(report)
    assert (gone["queue"], gone["jobs"], gone["cpu_s"], gone["cpu_s_before"]) == ("gone", 0, 0, 7 * HOUR)
    assert (gone["cpu_s_difference"], gone["cpu_s_change_percent"]) == (-7 * HOUR, -100.0)
    assert (new["queue"], new["cpu_s_before"], new["cpu_s_change_percent"]) == ("new", 0, None)
    share = pytest.approx(100 / 240, abs=1e-4)
    assert [gone["utilisation_percent"], new["utilisation_percent_before"]] == [0.0, 0.0]
    assert [gone["utilisation_percent_before"], new["utilisation_percent"]] == [share, share]
    assert [(bar.name, bar.value, bar.before) for bar in bars_of(report)] == [("new", 7.0, 0.0), ("gone", 0.0, 7.0)]
    titles, rows = table_of(report)
    assert next(row for row in rows if row[0] == "gone")[titles.index("CPU h +/- %")] == -100.0
    assert sum(int(str(row["cpu_s_before"])) for row in records(report)) == rows[-1][titles.index("CPU h before")] * HOUR  # type: ignore[operator]


def test_what_is_gone_is_in_the_rest_where_only_the_largest_are_told(tmp_path: Path) -> None:
    rows = [*_two_weeks(), *(job_row(100 + n, FIRST + n * DAY, queue=f"gone{n}", cpu_duration_s=HOUR) for n in range(3))]
    report = told(tmp_path, rows, measures=("cpu",), top=1, **SECOND)
    assert [(row["queue"], row["cpu_s"], row["cpu_s_before"]) for row in records(report)] == [
        ("new", 7 * HOUR, 0),
        ("other (4 queues)", 0, 10 * HOUR),
    ]


def test_a_period_before_that_was_never_collected_is_unknown_and_not_zero(tmp_path: Path) -> None:
    rows = [row for row in _two_weeks() if row["queue"] == "new"]
    report = told(tmp_path, rows, measures=("cpu", "jobs"), **SECOND)
    (row,) = records(report)
    assert [row[name] for name in row if "before" in name or "difference" in name or "change" in name] == [None] * 6
    assert table_of(report)[1][-1][-6:] == [None] * 6
    assert math.isnan(bars_of(report)[0].before or 0.0)
    assert "The time it is compared with has 7 days without any job record: nothing is known of them." in notes(report)


def test_days_without_records_in_the_period_before_are_told(tmp_path: Path) -> None:
    report = told(tmp_path, _two_weeks()[2:], measures=("cpu",), **SECOND)
    assert "The time it is compared with has 2 days without any job record" in notes(report)
    assert records(report)[1]["cpu_s_before"] == 5 * HOUR
    assert "The time it is compared with has" not in notes(told(tmp_path, _two_weeks(), measures=("cpu",), **SECOND))


def test_compared_columns_have_the_unit_of_the_figure_beside_them(tmp_path: Path) -> None:
    measures = ("cpu", "mean-wait", "efficiency", "jobs")
    (new, *_) = records(told(tmp_path, _two_weeks("new"), measures=measures, **SECOND))
    for name, value in {"cpu_s": 7 * HOUR, "mean_wait_s": HOUR, "efficiency": 1.0, "jobs": 7}.items():
        assert (new[name], new[f"{name}_before"], new[f"{name}_difference"]) == (value, value, 0), name
        assert new[f"{name}_change_percent"] == 0.0


# --- utilisation ---------------------------------------------------------------------------------------------------------------


def _full_hours(days: Sequence[int]) -> list[dict[str, object]]:
    """The whole capacity, on these days from noon for an hour."""
    return [
        job_row(day, FIRST + day * DAY + 13 * HOUR - 1, start_at=FIRST + day * DAY + 12 * HOUR - 1, processors=10) for day in days
    ]


def test_idle_hours_of_days_with_records_are_used_by_none_of_the_capacity(tmp_path: Path) -> None:
    rows = [*_full_hours([0]), job_row(50, FIRST + 7 * DAY + 20 * HOUR, start_at=FIRST + 7 * DAY + 19 * HOUR)]
    report = told(tmp_path, rows, by="hour", measures=("utilisation",), begin=FIRST, end=FIRST + DAY)
    shares = [row["utilisation_percent"] for row in records(report)]
    assert shares[10:14] == pytest.approx([0.0, 0.03, 99.97, 0.0], abs=0.01)
    assert {row["capacity_core_s"] for row in records(report)} == {10 * HOUR}
    heat = told(tmp_path, rows, kind="heatmap", measures=("utilisation",), begin=FIRST, end=FIRST + 8 * DAY)
    assert heat_of(heat)[0][12].mean == pytest.approx(50.0, abs=0.1), "full on one of two Mondays"
    assert heat_of(heat)[0][3].mean == 0.0
    assert math.isnan(heat_of(heat)[1][12].mean), "nothing is known of the Tuesday"


def test_days_without_records_are_not_idle(tmp_path: Path) -> None:
    rows = [*_full_hours([0, 2]), job_row(90, FIRST + 4 * DAY, start_at=FIRST + 4 * DAY - 1, wall_duration_s=1)]
    asked: dict[str, Any] = {"measures": ("utilisation",), "begin": FIRST, "end": FIRST + 4 * DAY}
    report = told(tmp_path, rows, **asked)
    known_core_s = 2 * DAY * 10
    assert int(report.total["capacity_core_s"].iloc[0]) == known_core_s
    assert report.question.measured[0].values(report.total).iloc[0] == pytest.approx(100 * 20 * HOUR / known_core_s)
    assert "2 days without any job record are left out of the capacity" in notes(report)
    by_day = told(tmp_path, rows, **(asked | {"by": "day"}))
    assert [row["utilisation_percent"] is None for row in records(by_day)] == [False, True, False, True]
    (series,) = series_of(by_day)
    assert series.total == pytest.approx(100 * 20 * HOUR / known_core_s)


def test_what_ran_through_a_day_without_records_is_not_held_against_the_other_days(tmp_path: Path) -> None:
    """All cores, for three days, of whose middle nothing is known: full, and no more than that."""
    rows = [
        job_row(1, FIRST + HOUR, processors=1, start_at=FIRST + HOUR - 1, wall_duration_s=0),
        job_row(2, FIRST + 3 * DAY - 1, start_at=FIRST - 1, wall_duration_s=3 * DAY, processors=10),
    ]
    for by in ("queue", "day"):
        report = told(tmp_path, rows, by=by, measures=("utilisation",), begin=FIRST, end=FIRST + 3 * DAY)
        assert report.gaps.days == (FIRST + DAY,)
        share = report.question.measured[0].values(report.total).iloc[0]
        assert share == pytest.approx(100.0, abs=0.01), by
    assert [row["utilisation_percent"] for row in records(report)] == pytest.approx([100.0, None, 100.0], abs=0.01)


def test_utilisation_and_co2e_are_told_together(tmp_path: Path) -> None:
    rows = [row | {"energy_j": 3.6e6} for row in _full_hours([0])]
    (row,) = records(told(tmp_path, rows, measures=("utilisation", "co2e"), energy=_energy(1)))
    assert (row["co2e_g"], row["held_core_s"], row["capacity_core_s"]) == (100.0, 10 * HOUR, 10 * DAY)


# --- what is unknown -----------------------------------------------------------------------------------------------------------


def _energy(day: int) -> list[Energy]:
    return [Energy(g_co2e_per_kwh=100.0, source="grid", valid_from=dt.date(2026, 11, day))]


def test_co2e_is_unknown_where_nobody_says_what_a_kilowatt_hour_emits(tmp_path: Path) -> None:
    rows = [row | {"energy_j": 3.6e6} for row in _two_weeks("new")]
    report = told(tmp_path, rows, measures=("co2e",), by="week", energy=_energy(9))
    assert [row["co2e_g"] for row in records(report)] == [None, 700.0]
    titles, (first, second, _) = table_of(report)
    assert [row[titles.index("kg CO2e (est.)")] for row in (first, second)] == [None, 0.7]
    compared = told(tmp_path, rows, measures=("co2e",), energy=_energy(9), **SECOND)
    (row,) = records(compared)
    assert (row["co2e_g"], row["co2e_g_before"], row["co2e_g_change_percent"]) == (700.0, None, None)
    none = told(tmp_path, rows, measures=("co2e",), energy=_energy(30))
    assert records(none)[0]["co2e_g"] is None
    assert table_of(none)[1][-1][titles.index("kg CO2e (est.)")] is None


def test_wall_time_that_is_unknown_is_null_and_told(tmp_path: Path) -> None:
    rows = [job_row(n, FIRST + n, queue="a" if n else "b", wall_duration_s=None if n == 0 else HOUR) for n in range(3)]
    report = told(tmp_path, rows, measures=("wall",), normalise="HEPscore23", levels={"1": 1})
    of_queue = {row["queue"]: row for row in records(report)}
    assert (of_queue["b"]["wall_s"], of_queue["b"]["normalised_wall_s"]) == (None, None)
    assert (of_queue["a"]["wall_s"], of_queue["a"]["normalised_wall_s"]) == (2 * HOUR, 10.0 * HOUR)
    assert "1 job of unknown wall time: not in the wall hours." in report.notes
    assert "1 job without HEPscore23 benchmark: not in the HEPscore23 wall hours." in report.notes


def test_the_note_of_unknown_cpu_does_not_say_where_else_these_jobs_are(tmp_path: Path) -> None:
    report = told(tmp_path, [job_row(1, FIRST, cpu_duration_s=None, wall_duration_s=None)])
    assert "1 job of unknown CPU time: in the jobs, not in the CPU hours." in report.notes


def test_gpu_hours_need_wall_time_as_well(tmp_path: Path) -> None:
    rows = [job_row(1, FIRST, gpu_count=None), job_row(2, FIRST, gpu_count=2, wall_duration_s=None)]
    assert "2 jobs of unknown GPUs or wall time: not in the GPU hours." in told(tmp_path, rows, measures=("gpu",)).notes


def test_normalised_wall_that_is_spread_is_said_not_to_be(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"normalise": "HEPscore23", "spread": True}
    wall = told(tmp_path, [job_row(1, FIRST)], measures=("wall",), **asked)
    assert "Wall hours spread over time are not normalised." in notes(wall)
    assert "HEPscore23" not in notes(wall)
    both = told(tmp_path, [job_row(1, FIRST)], measures=("wall", "cpu"), **asked)
    assert "1 job without HEPscore23 benchmark: not in the HEPscore23 hours." in both.notes
    assert "HEPscore23 hours are hours times the HEPscore23 benchmark of one core." in notes(both)


# --- how it was counted --------------------------------------------------------------------------------------------------------


def test_bins_that_are_only_in_part_in_the_period_are_told(tmp_path: Path) -> None:
    rows = [job_row(1, FIRST), job_row(2, FIRST + 20 * DAY)]
    for begin, end, note in (
        (DAY, 20 * DAY, "The first and the last week are only in part in the period."),
        (0, 20 * DAY, "The last week is only in part in the period."),
        (DAY, 21 * DAY, "The first week is only in part in the period."),
        (DAY, 2 * DAY, "The week is only in part in the period."),
    ):
        assert note in told(tmp_path, rows, by="week", begin=FIRST + begin, end=FIRST + end).notes
    assert "in part" not in notes(told(tmp_path, rows, by="week", begin=FIRST, end=FIRST + 21 * DAY))


def test_the_data_have_a_column_of_each_mean_and_share(tmp_path: Path) -> None:
    report = told(tmp_path, _full_hours([0]), measures=("mean-wait", "utilisation"))
    (row,) = csv.DictReader(io.StringIO(as_bytes(report, "csv").decode()))
    assert float(row["mean_wait_s"]) == HOUR
    assert float(row["utilisation_percent"]) == pytest.approx(100 / 24, abs=1e-4)
    bins = json.loads(as_bytes(told(tmp_path, _full_hours([0, 2]), by="day", measures=("mean-wait",)), "json"))["rows"]
    assert [one["mean_wait_s"] for one in bins] == [HOUR, None, HOUR]


def test_a_filter_that_matches_no_job_is_said_to(tmp_path: Path) -> None:
    report = told(tmp_path, [job_row(1, FIRST)], where={"queue": ("nosuch", "no%"), "submit_host": ("ui1",)})
    assert "No job in this period matches --queue nosuch,no% --submit-host ui1." in report.notes
    assert as_values(report)["rows"] == []
    assert "No job" not in notes(told(tmp_path, [job_row(1, FIRST)], where={"queue": ("grid%",)}))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"measures": ("jobs", "started")},
            "UTC days, jobs counted on the day they ended; jobs that started, on the day they started.",
        ),
        (
            {"measures": ("started",), "zone": "Asia/Tokyo"},
            "Asia/Tokyo days, jobs counted on the day they ended; jobs that started,",
        ),
        (
            {"measures": ("cpu", "utilisation")},
            "UTC days, jobs counted on the day they ended; what is held of the capacity is spread evenly over when jobs ran.",
        ),
        (
            {"measures": ("cpu", "started"), "by": "week"},
            "Bins of a week in UTC; a job counts as a whole in the one it ended in; jobs that started, in the one they started in.",
        ),
        (
            {"measures": ("cpu", "started"), "spread": True},
            "Times are spread evenly over when jobs ran; jobs are counted where they ended; jobs that started, where they started.",
        ),
    ],
)
def test_how_it_is_counted_is_true_of_each_measure(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    report = told(tmp_path, [job_row(1, FIRST)], **asked)
    assert report.notes[0].startswith(said)
    assert ("CPU time" in report.notes[0]) == ("cpu" in report.question.measures)
