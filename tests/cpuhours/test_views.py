"""Every figure of every view is what a plain sum over the rows says: by group and measure, in bins, spread, of the capacity."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from batchacct.config import Config, load_config
from batchacct.store import Store
from cpuhours.drawing import bars_of, heat_of, question_of_picture, series_of
from cpuhours.measures import MEASURES
from cpuhours.question import TIMES, Question
from cpuhours.report import Report, make_report
from cpuhours.showing import as_bytes, as_values, records, table_of
from cpuhours.spans import bins_between
from tests.cpuhours.farm import DAY, HOUR, add_benchmark, at, give_benchmark, job_row, join, new_store

BEGIN, END = at("2026-10-20 00:00"), at("2026-11-03 00:00")
"""Clocks in Zurich are set back on 25 October."""
CAPACITY = """
[[cluster]]
name = "lsf1"
[[cluster]]
name = "slurm1"
[publish]
local_job_id = "{cluster}-{id}"
local_job_id_array = "{cluster}-{id}-{index}"
[[capacity]]
cluster = "lsf1"
cores = 4
valid_until = 2026-10-28
[[capacity]]
cluster = "lsf1"
cores = 8
valid_from = 2026-10-28
[[energy]]
g_co2e_per_kwh = 100.0
source = "first"
valid_until = 2026-10-26
[[energy]]
g_co2e_per_kwh = 250.0
source = "second"
valid_from = 2026-10-26
valid_until = 2026-11-01
"""


@dataclass(frozen=True)
class Farm:
    """The store, its configuration, and the same jobs as a frame: the truth that views are held against."""

    store: Store
    config: Config
    jobs: pd.DataFrame

    def report(self, **asked: object) -> Report:
        question = Question(**({"begin": BEGIN, "end": END} | asked))  # type: ignore[arg-type]
        return make_report(self.store, question, capacity=self.config.capacity, energy=self.config.energy)

    def picture(self, kind: str | None = None, **asked: object) -> Report:
        first = self.report(**asked)
        drawn = question_of_picture(first, kind)
        return make_report(self.store, drawn, capacity=self.config.capacity, energy=self.config.energy)


def _row(number: int, chance: random.Random) -> dict[str, object]:
    end = chance.randrange(BEGIN - DAY, END + DAY) if chance.random() < 0.9 else chance.randrange(BEGIN, END, 900)
    wall = chance.choice((0, 1, 59, 900, HOUR, 7 * HOUR, 3 * DAY))
    return job_row(
        number,
        end,
        cluster=chance.choice(("lsf1", "lsf1", "slurm1")),
        site=chance.choice(("SITE", None)),
        queue=chance.choice(("long", "short", None)),
        user_name=f"user{int(chance.paretovariate(0.7)) % 23}",
        group_name=chance.choice(("x_A", "x_B")),
        project=chance.choice(("p1", None)),
        submit_host=chance.choice(("ui1", "ui2")),
        state=chance.choice(("completed", "failed")),
        submit_at=None if chance.random() < 0.1 else end - wall - chance.randrange(2 * HOUR),
        start_at=end - wall,
        wall_duration_s=wall,
        processors=chance.choice((1, 2, 8, None)),
        cpu_duration_s=None if chance.random() < 0.1 else chance.randrange(wall + 1),
        gpu_count=chance.choice((None, 0, 1, 4)),
        energy_j=None if chance.random() < 0.2 else float(chance.randrange(10**8)),
    )


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Four hundred jobs; one day without any record."""
    folder = tmp_path_factory.mktemp("farm")
    chance = random.Random(8)
    rows = [_row(number, chance) for number in range(400)]
    rows = [row for row in rows if not at("2026-10-30 00:00") <= int(str(row["end_at"])) < at("2026-10-31 00:00")]
    store = new_store(folder, rows)
    names = [str(row["lrms_job_id"]) for row in rows]
    vos = {name: ("joined", chance.choice(("atlas", "cms"))) for name in names[:120]}
    join(store, vos)
    add_benchmark(store, 1, "HEPscore23", 10.0)
    add_benchmark(store, 2, "HEPscore23", 12.5)
    levels = {name: chance.choice((1, 2)) for name in names[:100]}
    for name, level in levels.items():
        give_benchmark(store, name, level)
    jobs = pd.DataFrame(rows)
    ids = jobs["lrms_job_id"]
    jobs["vo"] = ids.map(lambda name: vos[name][1] if name in vos else "(not joined yet)")
    jobs["level"] = ids.map(levels).map({1: 10.0, 2: 12.5})
    for column in ("site", "queue", "project"):
        jobs[column] = jobs[column].fillna("(unknown)")
    jobs = jobs.rename(columns={"user_name": "user", "group_name": "group"})
    jobs["core"] = jobs["wall_duration_s"] * jobs["processors"]
    jobs["gpu"] = jobs["wall_duration_s"] * jobs["gpu_count"]
    jobs["wait"] = jobs["start_at"] - jobs["submit_at"]
    path = folder / "c.toml"
    path.write_text(f'site = "SITE"\n[database]\nurl = "sqlite:///{folder / "x.db"}"\n{CAPACITY}')
    yield Farm(store, load_config(path), jobs)
    store.close()


def ended(jobs: pd.DataFrame, begin: int = BEGIN, end: int = END) -> pd.DataFrame:
    return jobs[(jobs["end_at"] >= begin) & (jobs["end_at"] < end)]


PLAIN: dict[str, Callable[[pd.DataFrame], float]] = {
    "cpu": lambda of: of["cpu_duration_s"].sum(min_count=1) / HOUR,
    "wall": lambda of: of["wall_duration_s"].sum(min_count=1) / HOUR,
    "core": lambda of: of["core"].sum(min_count=1) / HOUR,
    "jobs": len,
    "wait": lambda of: of["wait"].sum(min_count=1) / HOUR,
    "mean-wait": lambda of: of["wait"].mean() / HOUR,
    "efficiency": lambda of: _share(of.dropna(subset=["cpu_duration_s", "core"])),
    "gpu": lambda of: of["gpu"].sum(min_count=1) / HOUR,
    "energy": lambda of: of["energy_j"].sum(min_count=1) / 3.6e6,
    "co2e": lambda of: (of["energy_j"] / 3.6e6 * of["end_at"].map(_grams)).sum(min_count=1) / 1000,
}
"""What each measure is, summed by hand over jobs as rows; unknown where it is of all of them."""


def _share(known: pd.DataFrame) -> float:
    return 100 * float(known["cpu_duration_s"].sum()) / float(known["core"].sum()) if known["core"].sum() else math.nan


def _grams(at_s: int) -> float:
    return 100.0 if at_s < at("2026-10-26 00:00") else 250.0 if at_s < at("2026-11-01 00:00") else 0.0


@pytest.mark.parametrize("by", ["vo", "queue", "user", "group", "project", "cluster", "site", "submit_host", "state"])
def test_groups(farm: Farm, by: str) -> None:
    found = farm.report(by=by, measures=tuple(PLAIN))
    for measure in found.question.measured:
        values = dict(zip(found.usage[by], measure.values(found.usage), strict=True))
        expected = {str(name): PLAIN[measure.name](rows) for name, rows in ended(farm.jobs).groupby(by)}
        assert values == pytest.approx(expected, nan_ok=True), measure.name
        assert measure.values(found.total).iloc[0] == pytest.approx(PLAIN[measure.name](ended(farm.jobs)))


def test_jobs_that_started(farm: Farm) -> None:
    found = farm.report(by="queue", measures=("started", "jobs"))
    started = farm.jobs[(farm.jobs["start_at"] >= BEGIN) & (farm.jobs["start_at"] < END)].groupby("queue").size().to_dict()
    assert dict(zip(found.usage["queue"], found.usage["started_jobs"], strict=True)) == started
    assert dict(zip(found.usage["queue"], found.usage["jobs"], strict=True)) == ended(farm.jobs).groupby("queue").size().to_dict()


def test_normalised(farm: Farm) -> None:
    found = farm.report(by="vo", normalise="HEPscore23", measures=("cpu", "wall"))
    jobs = ended(farm.jobs)
    for measure, column in zip(found.question.measured, ("cpu_duration_s", "wall_duration_s"), strict=True):
        values = dict(zip(found.usage["vo"], measure.values(found.usage), strict=True))
        expected = ((jobs[column] * jobs["level"]) / HOUR).groupby(jobs["vo"]).sum()
        assert {k: v for k, v in values.items() if not math.isnan(v)} == pytest.approx({k: v for k, v in expected.items() if v})
    without = jobs[jobs["level"].isna() & jobs["cpu_duration_s"].notna()].groupby("vo").size()
    assert (
        dict(zip(found.usage["vo"], found.usage["not_normalised_jobs"], strict=True)) == {"atlas": 0, "cms": 0} | without.to_dict()
    )


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich", "Pacific/Chatham"])
@pytest.mark.parametrize("size", TIMES)
def test_bins_are_those_of_the_zone(farm: Farm, size: str, zone: str) -> None:
    found = farm.report(by="queue", bins=size, zone=zone, measures=("cpu",))
    local = pd.to_datetime(ended(farm.jobs)["end_at"], unit="s", utc=True).dt.tz_convert(zone)
    naive = local.dt.tz_localize(None)
    unit = {"quarter hour": "15min", "hour": "h", "day": "D", "week": "W-SUN", "month": "M"}[size]
    if size in ("quarter hour", "hour"):
        begins = naive.dt.floor(unit).dt.strftime("%Y-%m-%d %H:%M") + local.map(lambda moment: moment.isoformat()[-6:])
    else:
        begins = naive.dt.to_period(unit).dt.start_time.dt.strftime("%Y-%m" if size == "month" else "%Y-%m-%d")
    expected = ended(farm.jobs).groupby([begins, "queue"])["cpu_duration_s"].sum().to_dict()
    told = {
        (str(row[size.replace(" ", "_")]).replace("Z", "+00:00"), row["queue"]): row["cpu_s"] or 0
        for row in records(found)
        if row["queue"]
    }
    assert told == expected


def overlap(jobs: pd.DataFrame, begin: int, end: int) -> pd.Series[float]:
    """Which share of the time of each job lies between two instants; one of no length is where it ended."""
    length = jobs["end_at"] - jobs["start_at"]
    within = np.minimum(jobs["end_at"], end) - np.maximum(jobs["start_at"], begin)
    share = np.maximum(within, 0) / length.where(length > 0, 1)
    ended_then = ((jobs["end_at"] >= begin) & (jobs["end_at"] < end)).astype(float)
    found: pd.Series[float] = share.where(length > 0, ended_then)
    return found


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich"])
@pytest.mark.parametrize(
    ("measure", "column"), [("cpu", "cpu_duration_s"), ("core", "core"), ("gpu", "gpu"), ("wall", "wall_duration_s")]
)
def test_spread_over_the_bins_that_jobs_ran_in(farm: Farm, zone: str, measure: str, column: str) -> None:
    found = farm.report(by="day", zone=zone, spread=True, measures=(measure,))
    told = dict(zip(found.usage["bin"], MEASURES[measure].values(found.usage).fillna(0.0), strict=True))
    for begin, end in bins_between("day", zone, BEGIN, END):
        begin_s, end_s = max(begin, BEGIN), min(end, END)
        expected = (farm.jobs[column] * overlap(farm.jobs, begin_s, end_s)).sum() / HOUR
        assert told.get(begin, 0.0) == pytest.approx(expected, abs=0.01)


def test_spreading_conserves_the_whole(farm: Farm) -> None:
    whole = (int(farm.jobs["start_at"].min()), int(farm.jobs["end_at"].max()) + 1)
    for size in ("hour", "week"):
        found = farm.report(by=size, begin=whole[0], end=whole[1], spread=True)
        assert int(found.total["cpu_s"].iloc[0]) == int(farm.jobs["cpu_duration_s"].sum())
        assert int(found.total["core_s"].iloc[0]) == int(farm.jobs["core"].sum())


def test_filters_are_ands_of_ors(farm: Farm) -> None:
    found = farm.report(by="user", where={"queue": ("long", "sh%"), "submit_host": ("ui1",), "user": ("user1%",)})
    jobs = ended(farm.jobs)
    jobs = jobs[jobs["queue"].isin(["long", "short"]) & (jobs["submit_host"] == "ui1") & jobs["user"].str.startswith("user1")]
    assert dict(zip(found.usage["user"], found.usage["jobs"], strict=True)) == jobs.groupby("user").size().to_dict()
    assert len(found.usage) > 1


@pytest.mark.parametrize("bins", [None, "week"])
def test_the_rest_is_other_and_the_sum_is_the_same(farm: Farm, bins: str | None) -> None:
    by_user = ended(farm.jobs).groupby("user")["cpu_duration_s"].sum()
    largest = sorted(by_user.items(), key=lambda pair: (-pair[1], str(pair[0])))[:4]
    found = farm.report(by="user", top=4, bins=bins)
    assert found.others is not None
    assert found.others.count == len(by_user) - 4
    name = f"other ({len(by_user) - 4} users)"
    assert found.names == [*(str(user) for user, _ in largest), name]
    of_user = found.usage.groupby("user")["cpu_s"].sum()
    assert of_user.to_dict() == {**dict(largest), name: by_user.sum() - sum(cpu for _, cpu in largest)}
    assert as_values(found)["others"] == len(by_user) - 4


def test_compared_with_as_long_a_time_before(farm: Farm) -> None:
    middle = (BEGIN + END) // 2
    found = farm.report(by="queue", begin=middle, end=END, compare=True, measures=("cpu", "jobs"))
    now, then = (ended(farm.jobs, *span).groupby("queue") for span in ((middle, END), (2 * middle - END, middle)))
    for row in records(found):
        queue = str(row["queue"])
        cpu, before = (float(frame["cpu_duration_s"].sum().to_dict()[queue]) / HOUR for frame in (now, then))
        assert row["cpu_s_before"] == pytest.approx(before * HOUR)
        assert row["cpu_s_difference"] == pytest.approx((cpu - before) * HOUR)
        assert row["cpu_s_change_percent"] == pytest.approx((cpu - before) / before * 100, abs=0.01)
        assert row["jobs_difference"] == now.size().to_dict()[queue] - then.size().to_dict()[queue]
    *_, total = table_of(found)[1]
    cpu, before = (frame["cpu_duration_s"].sum().sum() / HOUR for frame in (now, then))
    assert total[-6:-3] == pytest.approx([before, cpu - before, (cpu - before) / before * 100], abs=0.01)


def test_utilisation_is_spread_core_time_over_what_there_was(farm: Farm) -> None:
    """Four cores of lsf1 until the 28th, eight from then on; slurm1 has no capacity and is left out, and so is the unknown day."""
    lsf = farm.jobs[farm.jobs["cluster"] == "lsf1"]
    change, unknown = at("2026-10-28 00:00"), at("2026-10-30 00:00")

    def held(begin_s: int, end_s: int) -> float:
        known = ((begin_s, min(end_s, unknown)), (max(begin_s, unknown + DAY), end_s))
        return sum(float((lsf["core"] * overlap(lsf, *span)).sum()) for span in known if span[0] < span[1])

    def offered(begin_s: int, end_s: int) -> int:
        eight = max(0, end_s - max(begin_s, change)) - max(0, min(end_s, unknown + DAY) - max(begin_s, unknown))
        return 4 * max(0, min(end_s, change) - begin_s) + 8 * eight

    found = farm.report(by="week", measures=("utilisation",))
    told = dict(zip(found.usage["bin"], found.question.measured[0].values(found.usage), strict=True))
    for begin, end in bins_between("week", "UTC", BEGIN, END):
        begin_s, end_s = max(begin, BEGIN), min(end, END)
        assert told[begin] == pytest.approx(100 * held(begin_s, end_s) / offered(begin_s, end_s), abs=0.01)
    whole = 100 * held(BEGIN, END) / offered(BEGIN, END)
    assert found.question.measured[0].values(found.total).iloc[0] == pytest.approx(whole, abs=0.01)
    assert whole > 100, "more than all is shown as it is"
    by_cluster = farm.report(by="cluster", measures=("utilisation",))
    shares = dict(zip(by_cluster.usage["cluster"], by_cluster.question.measured[0].values(by_cluster.usage), strict=True))
    assert shares["lsf1"] == pytest.approx(whole, abs=0.01)
    assert math.isnan(shares["slurm1"]), "nobody says what it has"
    text = " ".join(found.notes)
    assert "lsf1 4, 8 from 2026-10-28 on" in text
    assert "Clusters without [[capacity]] are left out" in text


def test_co2e_says_what_it_was_made_of_and_what_is_not_in_it(farm: Farm) -> None:
    found = farm.report(measures=("energy", "co2e"))
    text = " ".join(found.notes)
    assert "100 g/kWh from 2026-10-20 (first); 250 g/kWh from 2026-10-26 (second)" in text
    late = ended(farm.jobs, at("2026-11-01 00:00"))["energy_j"].sum() / 3.6e6
    assert f"{late:,.1f} kWh are of days for which no [[energy]] is valid" in text
    unknown = int(ended(farm.jobs)["energy_j"].isna().sum())
    assert f"{unknown} jobs of unknown energy: not in the kWh, and nothing was guessed for them." in text
    assert "estimate" in table_of(found)[0][3] or "est." in " ".join(table_of(found)[0])


def test_pictures_have_the_same_figures(farm: Farm) -> None:
    found = farm.picture(by="queue")
    assert found.question.size == "day"
    jobs = ended(farm.jobs)
    for one in series_of(found):
        days = jobs[jobs["queue"] == one.name].groupby(jobs["end_at"] // DAY * DAY)["cpu_duration_s"].sum() / HOUR
        for (begin, _), value in zip(found.bins, one.values, strict=True):
            if begin == at("2026-10-30 00:00"):
                assert math.isnan(value), "nothing is known of that day"
            else:
                assert value == pytest.approx(days.get(begin, 0.0))
        assert one.total == pytest.approx(days.sum())
    bars = {bar.name: bar.value for bar in bars_of(farm.picture("bars", by="queue", measures=("core",)))}
    assert bars == pytest.approx((jobs.groupby("queue")["core"].sum() / HOUR).to_dict())


def test_a_group_that_held_nothing_of_a_known_capacity_is_at_zero(farm: Farm) -> None:
    found = farm.picture("lines", by="vo", bins="hour", measures=("utilisation",), begin=BEGIN + 3 * DAY, end=BEGIN + 4 * DAY)
    held = {(vo, at) for vo, at in zip(found.usage["vo"], found.usage["bin"], strict=True)}
    idle = [
        value
        for one in series_of(found)
        for (begin, _), value in zip(found.bins, one.values, strict=True)
        if (one.name, begin) not in held
    ]
    assert idle
    assert set(idle) == {0.0}


def test_hours_by_weekday(farm: Farm) -> None:
    """Means over the hours that there were: the one that clocks tell twice counts twice, the day without records not at all."""
    zone = "Europe/Zurich"
    found = farm.picture("heatmap", measures=("jobs",), zone=zone)
    moments = pd.to_datetime(ended(farm.jobs)["end_at"], unit="s", utc=True).dt.tz_convert(zone)
    counts = moments.groupby([moments.dt.day_of_week, moments.dt.hour]).size()
    known = pd.Series(pd.date_range("2026-10-20", "2026-11-02 23:00", freq="h", tz="UTC"))
    busy = set(moments.dt.tz_convert("UTC").dt.floor("h"))
    known = known[known.map(lambda moment: moment in busy or moment.day != 30 or moment.month != 10)].dt.tz_convert(zone)
    hours = known.groupby([known.dt.day_of_week, known.dt.hour]).size()
    for row in heat_of(found):
        for one in row:
            there = hours.get((one.weekday, one.hour), 0)
            assert one.hours == there
            assert one.mean == pytest.approx(counts.get((one.weekday, one.hour), 0) / there)
    sunday = heat_of(found)[6][2].hours
    assert sunday == 3, "two o'clock was there twice on the 25th"
    shares = heat_of(farm.picture("heatmap", measures=("efficiency",), zone=zone))
    jobs = ended(farm.jobs).assign(place=moments.dt.day_of_week * 24 + moments.dt.hour)
    for place, rows in jobs.groupby("place"):
        expected = PLAIN["efficiency"](rows)
        assert shares[int(str(place)) // 24][int(str(place)) % 24].mean == pytest.approx(expected, nan_ok=True)


def test_all_formats_have_the_same_rows(farm: Farm, tmp_path: Path) -> None:
    found = farm.report(by="queue", bins="week", top=2)
    rows = records(found)
    assert json.loads(as_bytes(found, "json"))["rows"] == rows
    (tmp_path / "x.parquet").write_bytes(as_bytes(found, "parquet"))
    (tmp_path / "x.csv").write_bytes(as_bytes(found, "csv"))
    for frame in (pd.read_parquet(tmp_path / "x.parquet"), pd.read_csv(tmp_path / "x.csv")):
        assert list(frame.columns) == list(rows[0])
        assert frame["cpu_s"].fillna(-1).tolist() == [-1 if row["cpu_s"] is None else row["cpu_s"] for row in rows]
    assert as_bytes(found, "parquet") == as_bytes(found, "parquet")
    lines = as_bytes(found, "markdown").decode().splitlines()
    assert sum(line.startswith("| 2026-") for line in lines) == len(rows)
    assert ZoneInfo(found.question.zone).key == "UTC"
