"""`batchacct report programs`: every figure is a plain sum over the processes, in the whole, in bins of a zone, and in pictures."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batchacct.config import load_config
from batchacct.errors import BatchacctError, ConfigError, IncompleteError
from batchacct.program_figures import Asked
from batchacct.store import Store
from cpuhours.command import report
from cpuhours.programs import Programs, Shown
from cpuhours.spans import bins_between
from procacct.asking.figures import FIGURES
from tests.procacct.workload import DAY, HOUR, T0, a_job, a_process, add, add_objects, add_processes, an_object, decide

QUIET = T0 + 3 * DAY
"""A day on which no process ended."""
PROGRAMS = [f"/opt/p{number}" for number in range(10)]


@dataclass(frozen=True)
class One:
    """A row of a process, in plain values."""

    program: str
    end: int
    job: str
    user: str
    executions: int
    cpu_s: float
    elapsed_s: float


@dataclass
class Site:
    config: Path
    store: Store
    rows: list[One]

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(report, ["programs", *words, "--config", str(self.config)])

    def good(self, *words: str) -> Result:
        result = self.run(*words)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def error(self, *words: str) -> BatchacctError:
        error = self.run(*words).exception
        assert isinstance(error, BatchacctError), error
        return error

    def records(self, *words: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.good(*words, "--format", "csv").stdout)))


@pytest.fixture
def site(tmp_path: Path, sqlite_store: Store) -> Site:
    config = tmp_path / "batchacct.toml"
    config.write_text(
        f'site = "S"\n[database]\nurl = "{sqlite_store.engine.url}"\n[[cluster]]\nname = "c1"\nmachine_name = "m.example.org"\n',
        encoding="utf-8",
    )
    return Site(config, sqlite_store, [])


@pytest.fixture
def filled(site: Site) -> Site:
    """Two hundred processes of three jobs in six days, of which one has none."""
    chance = random.Random(5)
    jobs = {"1": "alice", "2": "bob", "3": "bob"}
    add(site.store, *(a_job(name, T0, T0 + 6 * DAY, user_name=user) for name, user in jobs.items()))
    decide(site.store, {"1": "atlas", "2": "cms", "3": "cms"})
    found = []
    while len(site.rows) < 200:
        end = chance.randrange(T0 + 100, T0 + 6 * DAY)
        if end // DAY == QUIET // DAY:
            continue
        job = chance.choice(list(jobs))
        one = One(
            *(
                chance.choice(PROGRAMS),
                end,
                job,
                jobs[job],
                chance.choice((1, 1, 7)),
                chance.randrange(40_000) / 4,
                chance.randrange(100),
            )
        )
        site.rows.append(one)
        found.append(
            a_process(
                job,
                end - int(one.elapsed_s),
                end,
                program=one.program,
                user_name=one.user,
                processes=one.executions,
                elapsed_s=one.elapsed_s,
                cpu_user_s=one.cpu_s,
                cpu_system_s=0.0,
            )
        )
    add_processes(site.store, *found)
    return site


def summed(rows: list[One], key: object) -> dict[object, tuple[int, int, int, float, float]]:
    """Executions, jobs, users, CPU and elapsed seconds by what `key` says of a row."""
    by = defaultdict(list)
    for row in rows:
        by[key(row)].append(row)  # type: ignore[operator]
    return {
        name: (
            sum(one.executions for one in of),
            len({one.job for one in of}),
            len({one.user for one in of}),
            sum(one.cpu_s for one in of),
            sum(one.elapsed_s for one in of),
        )
        for name, of in by.items()
    }


def told(record: dict[str, str]) -> tuple[int, int, int, float, float]:
    executions, jobs, users = (int(record[name]) for name in ("executions", "jobs", "users"))
    return executions, jobs, users, float(record["cpu_s"]), float(record["elapsed_s"])


def test_of_the_whole_period(filled: Site) -> None:
    records = filled.records("--top", "100")
    assert {record["program"]: told(record) for record in records} == summed(filled.rows, lambda one: one.program)
    cpu = [float(record["cpu_s"]) for record in records]
    assert cpu == sorted(cpu, reverse=True)


def test_in_days_of_a_zone(filled: Site) -> None:
    begin, end = T0 - HOUR, T0 + 6 * DAY - HOUR  # of Zurich
    records = filled.records("--top", "100", "--bins", "day", "--zone", "Europe/Zurich", "--begin", f"@{begin}", "--end", f"@{end}")
    expected = summed([one for one in filled.rows if begin <= one.end < end], lambda one: (one.program, (one.end - begin) // DAY))
    days = sorted({record["day"] for record in records})
    assert days == [f"2026-11-0{day}" for day in range(1, 7)]
    found = {(record["program"], days.index(record["day"])): told(record) for record in records if record["program"]}
    assert found == expected


def test_a_day_without_records_is_no_day_of_zeros(filled: Site) -> None:
    words = ("--bins", "day", "--begin", f"@{T0}", "--end", f"@{T0 + 6 * DAY}", "--top", "3")
    (quiet,) = [record for record in filled.records(*words) if record["day"] == "2026-11-04"]
    assert {name for name, value in quiet.items() if value} == {"day", "days_without_data"}
    out = filled.good(*words)
    told = " ".join(out.output.split())
    assert "1 day (UTC) without any record of a process, 2026-11-04: nothing is known of them" in told
    assert any("2026-11-04" in line and "no data" in line for line in out.output.splitlines())
    assert json.loads(filled.good(*words, "--format", "json").stdout)["days_without_data"] == ["2026-11-04"]


def test_the_rest_is_one_row_of_which_jobs_are_not_known(filled: Site) -> None:
    records = filled.records("--top", "3", "--measure", "executions")
    assert [record["program"] for record in records][3:] == ["other (7 more)"]
    assert (records[3]["jobs"], records[3]["users"]) == ("", "")
    whole = summed(filled.rows, lambda _: "all")["all"]
    assert sum(int(record["executions"]) for record in records) == whole[0]
    assert math.isclose(sum(float(record["cpu_s"]) for record in records), whole[3])
    kept = sorted(summed(filled.rows, lambda one: one.program).items(), key=lambda item: (-item[1][0], item[0]))[:3]
    assert [record["program"] for record in records][:3] == [name for name, _ in kept]


def test_of_a_vo_and_of_a_user(filled: Site) -> None:
    of_vo = filled.records("--vo", "cms", "--top", "100")
    of_user = filled.records("--user", "bob", "--top", "100")
    expected = summed([one for one in filled.rows if one.user == "bob"], lambda one: one.program)
    assert (
        {record["program"]: told(record) for record in of_vo} == expected == {record["program"]: told(record) for record in of_user}
    )
    title = filled.good("--vo", "cms", "--period", "2026-11").output.splitlines()[0]
    assert title == "Programs, VO cms by program, 2026-11-01 to 2026-11-30"


def test_libraries_overlap(site: Site) -> None:
    add(site.store, a_job("1", T0, T0 + HOUR))
    add_processes(site.store, a_process("1", T0 + 1, object_set="s"))
    add_objects(site.store, an_object("s", "/lib/a.so"), an_object("s", "/lib/b.so"))
    out = site.good("--by", "library").output
    assert "total" not in out
    assert "overlap: a process is in each that it belongs to." in out
    assert "1 more row: --top shows more." in site.good("--by", "library", "--top", "1").output
    error = site.error("--by", "library", "--plot", "x.png", "--kind", "stack")
    assert str(error) == "figures by library do not add up, so that nothing can be stacked: choose --kind lines or bars"


@pytest.mark.parametrize(("kind", "measure"), [("stack", "cpu"), ("lines", "jobs"), ("bars", "elapsed")])
def test_a_picture_and_its_data(filled: Site, tmp_path: Path, kind: str, measure: str) -> None:
    picture, data = tmp_path / "picture.svg", tmp_path / "data.csv"
    period = ("--begin", f"@{T0}", "--end", f"@{T0 + 6 * DAY}")
    filled.good("--kind", kind, "--measure", measure, "--plot", str(picture), "--data", str(data), *period, "--top", "4")
    svg = picture.read_text(encoding="utf-8")
    title = {"cpu": "CPU hours", "jobs": "Jobs", "elapsed": "Elapsed hours of processes"}[measure]
    assert f"<!-- {title} by program -->" in svg
    assert "S, 2026-11-01 to 2026-11-06 (UTC); processes counted where they ended" in svg
    records = list(csv.DictReader(io.StringIO(data.read_text(encoding="utf-8"))))
    assert ("day" in records[0]) == (kind != "bars")
    begins = {f"2026-11-0{number + 1}": T0 + number * DAY for number in range(6)}
    for record in records:
        if record["program"] in PROGRAMS:
            begin = begins.get(record.get("day", ""))
            rows = [one for one in filled.rows if begin is None or begin <= one.end < begin + DAY]
            assert told(record) == summed(rows, lambda one: one.program)[record["program"]]


def test_series_are_what_the_rows_say(filled: Site) -> None:

    period = (T0, T0 + 6 * DAY)
    asked = Asked("program", period, bins_between("day", "UTC", *period))
    figures = FIGURES(filled.store, load_config(filled.config), asked)
    found = Programs(asked, figures, Shown("program", "cpu", 4, "day", "UTC", "S"))
    series = found.series()
    by_day = summed(filled.rows, lambda one: (one.program, one.end // DAY))
    for one in series[:4]:
        expected = [by_day.get((one.name, (T0 + day * DAY) // DAY), (0, 0, 0, 0.0, 0.0))[3] / HOUR for day in range(6)]
        expected[3] = math.nan
        assert one.values == pytest.approx(expected, nan_ok=True)
    assert series[4].look == "other"
    assert sum(one.total for one in series) == pytest.approx(sum(row.cpu_s for row in filled.rows) / HOUR)


def test_what_cannot_be_asked(filled: Site, site: Site) -> None:
    assert isinstance(filled.error("--by", "colour"), ConfigError)
    assert "not by 'colour'" in str(filled.error("--by", "colour"))
    many = filled.error("--bins", "quarter-hour", "--period", "2026-11")
    assert str(many) == "that is 2,880 bins of a quarter hour, and 400 are the most: choose larger --bins"
    assert "--plot FILE" in str(filled.error("--kind", "bars"))
    assert "a picture: ask for --top 21" in str(filled.error("--top", "30", "--plot", "x.png"))
    assert "'atl%' is a pattern" in str(filled.error("--vo", "atl%"))
    back = filled.error("--begin", "2026-11-02", "--end", "2026-11-01")
    assert str(back) == "--begin 2026-11-02 00:00:00Z is not before --end 2026-11-01 00:00:00Z, which is not included"
    assert isinstance(filled.error("--begin", "2027-01-01"), IncompleteError)


def test_without_any_process(site: Site) -> None:
    assert isinstance(site.error(), IncompleteError)


def test_nothing_is_a_report_of_nothing(filled: Site, tmp_path: Path) -> None:
    words = ("--user", "nobody", "--period", "2026-11-02", "--plot", str(tmp_path / "x.svg"), "--data", str(tmp_path / "x.csv"))
    assert "No process of user nobody ended in this time." in filled.good(*words).output
    assert (tmp_path / "x.csv").read_text(encoding="utf-8").startswith("hour,program,executions,jobs,")
    assert filled.records("--period", "2020-01") == []
    assert json.loads(filled.good("--period", "2020-01-01", "--format", "json").stdout)["days_without_data"] == ["2020-01-01"]


def test_of_a_cluster_of_which_nothing_is_known(filled: Site) -> None:
    (day,) = filled.records("--cluster", "c2", "--bins", "day", "--period", "2026-11-02")
    assert (day["executions"], day["days_without_data"]) == ("", "1")


def test_bins_that_are_in_part_known_or_asked_for(filled: Site) -> None:
    words = ("--bins", "week", "--begin", "2026-11-02", "--end", "2026-11-07")
    assert {record["days_without_data"] for record in filled.records(*words)} == {"1"}
    assert "The week is only in part in the period." in filled.good(*words).output


def test_an_open_period_is_of_whole_days(filled: Site) -> None:
    told = json.loads(filled.good("--vo", "cms,atlas", "--zone", "Asia/Tokyo", "--format", "json").stdout)
    assert (told["begin"], told["end"]) == ("2026-10-31 15:00:00Z", "2026-11-07 15:00:00Z")
    assert (told["vo"], told["site"], told["largest_by"]) == (["cms", "atlas"], "S", "cpu")


def test_markdown_and_parquet(filled: Site, tmp_path: Path) -> None:
    text = filled.good("--top", "2", "--format", "markdown").stdout
    assert text.startswith("**Programs by program, ")
    assert "| program | executions | jobs | users | CPU h | elapsed h |" in text
    pd = pytest.importorskip("pandas")
    filled.good("--top", "100", "--data", str(tmp_path / "x.parquet"))
    frame = pd.read_parquet(tmp_path / "x.parquet")
    assert dict(zip(frame["program"], frame["executions"], strict=True)) == {
        name: sums[0] for name, sums in summed(filled.rows, lambda one: one.program).items()
    }
