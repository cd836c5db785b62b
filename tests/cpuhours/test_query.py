"""Usage: which jobs count, where, and how much; every expected number is summed by hand beside the jobs."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchacct.errors import ConfigError
from batchacct.ledger.whose import NOT_JOINED, UNKNOWN, WAITING
from batchacct.store import Store
from cpuhours.query import GROUPS, collection_gaps, ends, logged_span, usage_by
from cpuhours.series_2012 import LeftOut, series_2012
from tests.cpuhours.farm import DAY, HOUR, add_benchmark, at, fill, give_benchmark, job_row, join, new_store, supersede


@pytest.fixture(params=["UTC", "Pacific/Chatham", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The process lives in this zone; no figure may depend on it."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    request.addfinalizer(time.tzset)
    request.addfinalizer(monkeypatch.undo)
    return str(request.param)


def values(frame: pd.DataFrame, key: str, column: str) -> dict[object, object]:
    return dict(zip(frame[key].tolist(), frame[column].tolist(), strict=True))


@pytest.fixture
def mixed(tmp_path: Path) -> Store:
    end = at("2026-11-03 12:00")
    store = new_store(
        tmp_path,
        [
            job_row(1, end, cpu_duration_s=3000, wall_duration_s=4000, processors=2),
            job_row(2, end + 1, cpu_duration_s=500, wall_duration_s=1000),
            job_row(3, end + 2, cpu_duration_s=None, wall_duration_s=700, queue="short"),
            job_row(4, end + 3, cpu_duration_s=100, wall_duration_s=200, processors=None, user_name=None),
            job_row(5, end + 4, cpu_duration_s=900, wall_duration_s=900),
            job_row(6, end + 5, start_at=None, wall_duration_s=None, cpu_duration_s=0, state="never_started"),
            job_row(7, end + 6, cpu_duration_s=77777),
            job_row(8, end + 7, cpu_duration_s=11, wall_duration_s=22, cluster="lsf2"),
        ],
    )
    join(
        store,
        {
            "1": ("joined", "atlas"),
            "2": ("local", "local-nonlcg"),
            "3": ("excluded", "local-nonlcg"),
            "4": ("waiting", "local-atlas"),
            "5": ("excluded", "local-nonlcg"),
            "6": ("excluded", "local-nonlcg"),
        },
    )
    supersede(store, "7", by="1")
    return store


def test_by_vo_counts_every_job_that_started_and_ended(mixed: Store) -> None:
    frame = usage_by(mixed, by="vo")
    assert values(frame, "vo", "jobs") == {"atlas": 1, "local-nonlcg": 3, WAITING: 1, NOT_JOINED: 1}
    assert values(frame, "vo", "cpu_s") == {"atlas": 3000, "local-nonlcg": 500 + 900, WAITING: 100, NOT_JOINED: 11}
    assert values(frame, "vo", "wall_s") == {"atlas": 4000, "local-nonlcg": 1000 + 700 + 900, WAITING: 200, NOT_JOINED: 22}
    assert values(frame, "vo", "core_s") == {"atlas": 8000, "local-nonlcg": 2600, WAITING: 0, NOT_JOINED: 22}


def test_unknown_cpu_and_unknown_cores_are_told_apart_and_not_in_the_efficiency(mixed: Store) -> None:
    frame = usage_by(mixed, by="vo")
    assert values(frame, "vo", "cpu_unknown_jobs") == {"atlas": 0, "local-nonlcg": 1, WAITING: 0, NOT_JOINED: 0}
    assert values(frame, "vo", "core_unknown_jobs") == {"atlas": 0, "local-nonlcg": 0, WAITING: 1, NOT_JOINED: 0}
    efficiency = frame.set_index("vo")["efficiency"]
    assert efficiency["atlas"] == 3000 / 8000
    assert efficiency["local-nonlcg"] == (500 + 900) / (1000 + 900)
    assert pd.isna(efficiency[WAITING])


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("queue", {"grid_atlas": 5, "short": 1}),
        ("user", {"atlas001": 5, UNKNOWN: 1}),
        ("cluster", {"lsf1": 5, "lsf2": 1}),
        ("group", {"x_ATLAS": 6}),
        ("outcome", {"joined": 1, "local": 1, "waiting": 1, "excluded": 2, NOT_JOINED: 1}),
    ],
)
def test_by_other_things(mixed: Store, by: str, expected: dict[str, int]) -> None:
    assert values(usage_by(mixed, by=by), by, "jobs") == expected


def test_a_vo_can_be_picked_and_an_unknown_grouping_is_refused(mixed: Store) -> None:
    assert values(usage_by(mixed, by="cluster", where={"vo": ["atlas", NOT_JOINED]}), "cluster", "jobs") == {"lsf1": 1, "lsf2": 1}
    assert usage_by(mixed, by=("day", "vo"), where={"vo": ["nobody"]}).empty
    with pytest.raises(ConfigError, match="by colour: use one of vo, day"):
        usage_by(mixed, by="colour")
    with pytest.raises(TypeError, match="since"):
        usage_by(mixed, by="vo", since=0)  # type: ignore[call-arg]


def test_a_job_counts_on_the_utc_day_it_ended(tmp_path: Path, zone: str) -> None:
    midnight = at("2026-11-02 00:00")
    store = new_store(
        tmp_path,
        [
            job_row(1, midnight - 1, start_at=midnight - 30 * HOUR, cpu_duration_s=10),
            job_row(2, midnight, cpu_duration_s=200),
            job_row(3, midnight + DAY - 1, cpu_duration_s=3000),
            job_row(4, midnight + DAY, cpu_duration_s=40000),
        ],
    )
    frame = usage_by(store, by="day")
    assert {str(day.date()): cpu for day, cpu in values(frame, "day", "cpu_s").items()} == {  # type: ignore[attr-defined]
        "2026-11-01": 10,
        "2026-11-02": 3200,
        "2026-11-03": 40000,
    }
    assert all(day.timestamp() % DAY == 0 for day in frame["day"])
    assert usage_by(store, by="cluster", begin=midnight, end=midnight + DAY)["cpu_s"].tolist() == [3200]
    assert ends(store) == (midnight - 1, midnight + DAY)


def test_normalised_cpu_is_what_is_published(tmp_path: Path) -> None:
    end = at("2026-11-03 12:00")
    cpus = {1: 100, 2: 1000, 3: 10_000, 4: 100_000, 5: None}
    rows = [job_row(n, end + n, cpu_duration_s=cpu, host_factor=1.25 if n == 2 else 2.5) for n, cpu in cpus.items()]
    store = new_store(tmp_path, rows)
    add_benchmark(store, 1, "HEPscore23", 12.5)
    add_benchmark(store, 2, "HEPscore23", 3.5, per_host=True)
    add_benchmark(store, 3, "Si2k", 400.0)
    join(store, {str(n): ("local", "local-nonlcg") for n in cpus})
    for name, number in {"1": 1, "2": 2, "3": 2, "4": 3}.items():
        give_benchmark(store, name, number)
    frame = usage_by(store, by="vo", normalise="HEPscore23")
    # 3.5 x 1.25 = 4.375, down to 4; 3.5 x 2.5 = 8.75, down to 8; job 4 has another benchmark, job 5 no CPU and no benchmark
    assert frame["normalised_cpu_s"].tolist() == [100 * 12.5 + 1000 * 4 + 10_000 * 8]
    assert frame["not_normalised_jobs"].tolist() == [1]
    assert frame["jobs"].tolist() == [5]
    assert frame["cpu_s"].tolist() == [111_100]


def test_days_without_records_are_gaps_and_idle_days_are_not(tmp_path: Path, zone: str) -> None:
    store = new_store(
        tmp_path,
        [
            job_row(1, at("2026-11-02 10:00")),
            job_row(2, at("2026-11-04 10:00"), start_at=None, state="never_started"),
            job_row(3, at("2026-11-06 23:59")),
            job_row(4, at("2026-11-02 11:00"), cluster="lsf2"),
        ],
    )
    gaps = collection_gaps(store, at("2026-11-01 00:00"), at("2026-11-07 12:00"))
    assert gaps.days == tuple(at(f"2026-11-0{day} 00:00") for day in (1, 3, 5, 7))
    assert gaps.by_cluster == {"lsf2": (at("2026-11-04 00:00"), at("2026-11-06 00:00"))}
    assert logged_span(store) == (at("2026-11-02 10:00"), at("2026-11-06 23:59"))


def test_a_job_logged_the_day_after_it_ended_leaves_no_gap(tmp_path: Path) -> None:
    end = at("2026-11-02 23:59")
    store = new_store(tmp_path, [job_row(1, end, logged_at=end + HOUR)])
    assert collection_gaps(store, at("2026-11-02 00:00"), at("2026-11-04 00:00")).days == ()


def test_an_empty_store_has_nothing_but_gaps(tmp_path: Path) -> None:
    store = new_store(tmp_path, [])
    assert usage_by(store, by=("day", "vo"), normalise="HEPscore23").empty
    assert (ends(store), logged_span(store)) == (None, None)
    assert collection_gaps(store, 0, DAY).days == (0,)


Jobs = st.lists(st.tuples(st.integers(0, 5 * DAY), st.none() | st.integers(0, 10**9), st.integers(1, 4)), max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=Jobs)
def test_the_days_add_up_to_the_same_as_python(
    tmp_path_factory: pytest.TempPathFactory, jobs: list[tuple[int, int | None, int]]
) -> None:
    begin = at("2026-11-01 00:00")
    rows = [
        job_row(n, begin + after, cpu_duration_s=cpu, wall_duration_s=cpu or 5, processors=cores)
        for n, (after, cpu, cores) in enumerate(jobs)
    ]
    frame = usage_by(new_store(tmp_path_factory.mktemp("farm"), rows), by="day")
    expected: dict[int, list[int]] = {}
    for after, cpu, cores in jobs:
        sums = expected.setdefault(begin + after - after % DAY, [0, 0, 0])
        sums[0] += 1
        sums[1] += cpu or 0
        sums[2] += (cpu or 5) * cores
    found = {int(row["day"].timestamp()): [row["jobs"], row["cpu_s"], row["core_s"]] for row in frame.to_dict("records")}
    assert found == expected


def test_every_database_answers_alike(store: Store) -> None:
    end = at("2026-11-03 23:59")
    fill(
        store,
        [job_row(1, end, host_factor=1.25), job_row(2, end + 60, cpu_duration_s=None, processors=None), job_row(3, end + DAY)],
    )
    join(store, {"1": ("joined", "atlas"), "2": ("waiting", "local-nonlcg")})
    add_benchmark(store, 1, "HEPscore23", 3.5, per_host=True)
    give_benchmark(store, "1", 1)
    for by in GROUPS:
        assert usage_by(store, by=by)["jobs"].sum() == 3, by
    frame = usage_by(store, by=("day", "vo"), normalise="HEPscore23")
    assert [(row["day"].day, row["vo"], row["cpu_s"], row["normalised_cpu_s"]) for row in frame.to_dict("records")] == [
        (3, "atlas", 1800, 1800 * 4),
        (4, NOT_JOINED, 1800, 0),
        (4, WAITING, 0, 0),
    ]
    assert usage_by(store, by="vo", where={"vo": ["atlas"]})["cpu_s"].tolist() == [1800]
    assert collection_gaps(store, end - DAY, end + 2 * DAY).days == (at("2026-11-02 00:00"), at("2026-11-05 00:00"))


def test_series_2012(store: Store) -> None:
    noon = at("2026-11-03 12:00")
    fill(
        store,
        [
            job_row(1, noon, cpu_duration_s=DAY, host_factor=2.0),
            job_row(2, noon + 60, cpu_duration_s=DAY, host_factor=0.5),
            job_row(3, noon + 120, cpu_duration_s=DAY, host_factor=None),
            job_row(4, noon + 180, cpu_duration_s=None),
            job_row(5, noon + 240, cpu_duration_s=None, host_factor=None, submit_at=None),
            job_row(6, noon + 300, cpu_duration_s=0, host_factor=None, submit_at=None),
        ],
    )
    day = at("2026-11-03 00:00")
    for measure, factor, value, left in (
        ("cpu", 3.9, 2.5 * 3.9, LeftOut(2, without_factor=2)),
        ("cpu", None, 3.0, LeftOut(2)),
        ("count", 3.9, 4.0, LeftOut(2)),
        ("walltime", None, 4 / 24, LeftOut(2)),
        ("waiting", 2.0, 2.5 * 2 / 24, LeftOut(2, unknown_submission=1, without_factor=1)),
        ("waiting", None, 3 / 24, LeftOut(2, unknown_submission=1)),
    ):
        found, left_out = series_2012(store, measure, begin=day, end=day + DAY, bin_s=DAY, factor=factor, only=[])
        assert found.keys() == {day}
        assert found[day] == pytest.approx(value), measure
        assert left_out == left, measure
    for measure, begin in (("started", noon - HOUR), ("count", noon)):
        by_hour = series_2012(store, measure, begin=day, end=day + DAY, bin_s=HOUR, factor=3.9, only=[])
        assert by_hour == ({begin: 4.0}, LeftOut(2))
