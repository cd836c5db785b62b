"""Every view of the 2012 script over one farm made by chance: TITLE.data equal to what pandas sums from the same rows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import make_url

from batchacct.store import Store
from cpuhours.cpuhours import main
from cpuhours.data_files import read_distribution
from cpuhours.distribution import Distribution
from cpuhours.plot_distribution import plot_distribution
from tests.cpuhours.farm import DAY, HOUR, SILENT, at, chance_jobs, fill, new_store

BEGIN, END = at("2026-11-01 00:00"), at("2027-01-03 00:00")
ROWS = chance_jobs(900, 4 * DAY)
Frame = pd.DataFrame


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    new_store(folder, ROWS)
    connection = folder / "connection"
    connection.write_text(f"sqlite:///{folder / 'x.db'}\n")
    connection.chmod(0o600)
    return folder


@pytest.fixture(autouse=True)
def folder(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working and home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def run(site: Path, *options: str) -> None:
    assert main(["-c", str(site / "connection"), "-b", "2026-11-01", "-e", "2027-01-03", "-t", "t", *options]) == 0


def frame() -> Frame:
    """What is counted of the farm, whenever it ended."""
    rows = pd.DataFrame(ROWS)
    return rows[rows.start_at.notna() & rows.cpu_duration_s.notna()]


def bin_of(seconds: pd.Series[int], binning: str) -> pd.Series[int]:
    """Begin of the bin, in the calendar's own words."""
    when = pd.to_datetime(seconds, unit="s", utc=True)
    if binning == "MM":
        begins = when.dt.tz_localize(None).dt.to_period("M").dt.start_time
    elif binning == "WW":
        begins = when.dt.normalize().dt.tz_localize(None) - pd.to_timedelta((when.dt.day_of_year - 1) % 7, unit="D")
    else:
        begins = when.dt.tz_localize(None).dt.floor({"MI": "min", "HH24": "h", "DDD": "D"}[binning])
    return (begins - pd.Timestamp(0)) // pd.Timedelta(seconds=1)


def data(path: str = "t.data") -> dict[int, float]:
    return {int(when): float(value) for when, value in (line.split() for line in Path(path).read_text().splitlines()[1:])}


def test_without_host_factor_is_left_out_of_what_is_normalised() -> None:
    assert frame().host_factor.isna().sum() > 50


MEASURES: dict[str, tuple[str, Callable[[Frame], pd.Series[float]]]] = {
    "cpu": ("end_at", lambda jobs: jobs.cpu_duration_s),
    "walltime": ("end_at", lambda jobs: jobs.end_at - jobs.start_at),
    "waiting": ("end_at", lambda jobs: jobs.start_at - jobs.submit_at),
    "cumuwaiting": ("end_at", lambda jobs: jobs.start_at - jobs.submit_at),
    "count": ("end_at", lambda jobs: jobs.end_at * 0 + 1),
    "started": ("start_at", lambda jobs: jobs.end_at * 0 + 1),
}


@pytest.mark.parametrize("binning", ["MI", "HH24", "DDD", "WW", "MM"])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("measure", MEASURES)
def test_view(site: Path, measure: str, normalised: bool, binning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture itself is not drawn here, which would take minutes for all of them."""
    monkeypatch.setattr("cpuhours.plot.plot_series", lambda *_words, **_more: None)
    instant, values_of = MEASURES[measure]
    jobs = frame()
    jobs = jobs[(jobs[instant] >= BEGIN) & (jobs[instant] < END)]
    values = values_of(jobs).astype(float)
    if measure not in {"count", "started"}:
        values *= (jobs.host_factor.astype(float) * 3.9 if normalised else 1.0) / DAY
    sums = values.groupby(bin_of(jobs[instant].astype("int64"), binning)).sum(min_count=1).dropna()
    run(site, "-a", binning, *([] if measure == "cpu" else [f"--{measure}"]), *([] if normalised else ["-z"]))
    found = data()
    assert {when: value for when, value in found.items() if value} == pytest.approx(sums[sums > 0].to_dict(), rel=1e-9, abs=1e-6)
    if binning in {"MI", "HH24", "DDD"} and instant == "end_at":
        assert not {when // DAY * DAY for when in found} & SILENT, "a day without records is no zero"
    assert len(found) > {"MI": 80_000, "HH24": 1400, "DDD": 60, "WW": 9, "MM": 2}[binning]


def all_of_it(jobs: Frame) -> pd.Series[bool]:
    return jobs.submit_host.notna() & jobs.queue.str.startswith("grid") & (jobs.user_name == "cmsx1")


SELECTIONS: dict[str, tuple[list[str], Callable[[Frame], pd.Series[bool]]]] = {
    "queue": (["-x", "Short"], lambda jobs: jobs.queue == "Short"),
    "queues": (["-x", "grid%"], lambda jobs: jobs.queue.str.startswith("grid")),
    "group or queue": (["--what", "/x_CMS/any,Short"], lambda jobs: (jobs.group_name == "x_CMS") | (jobs.queue == "Short")),
    "groups": (["-x", "/x_A%"], lambda jobs: jobs.group_name == "x_ATLAS"),
    "underscore": (["-y", "cms_%"], lambda jobs: jobs.user_name == "cms_1"),
    "within": (["--users", "%ms%"], lambda jobs: jobs.user_name.isin(["cms_1", "cmsx1"])),
    "file": (["-y", "names"], lambda jobs: jobs.user_name.isin(["cms_1", "atlas001"])),
    "host": (["-m", "ui2"], lambda jobs: jobs.submit_host == "ui2"),
    "all of it": (["-m", "ui%", "-x", "grid%", "-y", "cmsx1"], all_of_it),
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_filter(site: Path, folder: Path, selection: str) -> None:
    options, chosen = SELECTIONS[selection]
    (folder / "names").write_text("cms_1, atlas%\n")
    jobs = frame()
    jobs = jobs[(jobs.end_at >= BEGIN) & (jobs.end_at < END) & chosen(jobs)]
    run(site, "-n", *options)
    assert sum(data().values()) == len(jobs) > 50
    run(site, "--walldist", "-z", *options)
    assert read_distribution("t")[0].total == len(jobs)


def test_file_draws_the_same_picture_and_cumulates(site: Path) -> None:
    for options, picture in (
        (["-z"], "t.png"),
        (["-u"], "t-cumuwaiting.png"),
        (["-n", "-i", "-l", "-k", "#0072B2", "-a", "WW"], "t-count.png"),
    ):
        run(site, *options)
        first = Path(picture).read_bytes()
        Path(picture).unlink()
        run(site, "--file", *options)
        assert Path(picture).read_bytes() == first


@pytest.mark.parametrize("options", [[], ["-q", "-l"], ["--crop", "100000", "--percent"]])
def test_walldist_and_its_file(
    site: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[Distribution] = []

    def noted(path: Path, found: Distribution, *words: Any, **more: Any) -> None:
        drawn.append(found)
        plot_distribution(path, found, *words, **more)

    monkeypatch.setattr("cpuhours.plot_distribution.plot_distribution", noted)
    run(site, "--walldist", *options)
    assert capsys.readouterr().out == "t-walldist.png\n"
    jobs = frame()
    jobs = jobs[(jobs.end_at >= BEGIN) & (jobs.end_at < END)]
    hours = (jobs.end_at - jobs.start_at) * jobs.host_factor.astype(float) * 3.9 / HOUR
    lines = [line.split() for line in Path("t-walldist.data").read_text().splitlines()[1:]]
    right = math.ceil(100_000 / HOUR) if "--crop" in options else math.floor(hours.max()) + 1
    expected = np.histogram(hours.dropna(), bins=right, range=(0, right))[0]
    assert {int(begin) // HOUR: int(count) for begin, _, count in lines[:-1]} == {n: c for n, c in enumerate(expected) if c}
    assert lines[-1] == [str(right * HOUR), "inf", str((hours >= right).sum())]
    run(site, "--walldist", "--file", *options)
    assert drawn[0].total == hours.notna().sum()
    assert replace(drawn[0], without_factor=0, unknown_cpu=0) == drawn[1]


def test_walldist_keeps_away_from_the_file_of_other_views(site: Path) -> None:
    run(site, "-n")
    before = data()
    run(site, "--walldist")
    assert data() == before


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0 60 5\n60 60 1\n120 inf 0\n", 2),
        ("0 60 5\n60 180 1\n180 inf 0\n", 2),
        ("0 x 1\n60 inf 0\n", 1),
        ("0 60 0\n60 inf 0\n", 1),
        ("60 inf 0\n0 60 1\n", 1),
        ("0 60 5\n", None),
    ],
)
def test_a_file_of_walldist_that_is_wrong_is_refused(text: str, line: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t-walldist.data").write_text(text)
    assert main(["-t", "t", "--walldist", "-f"]) == 3
    assert re.search(f"line {line}: a line is begin" if line else "the last line, what is beyond", capsys.readouterr().err)


def test_walldist_without_jobs(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(site / "connection"), "-b", "2026-11-05", "-e", "2026-11-06", "--walldist"]) == 3
    assert "no job to show from 2026-11-05 to before 2026-11-06" in capsys.readouterr().err
    Path("everything-walldist.data").write_text("60 inf 0\n")
    assert main(["--walldist", "-f"]) == 3
    assert "its data file is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["-z", "-x", "grid%"], ["-o"], ["-a", "MM", "-v"], ["--walldist", "--crop", "60"], ["--walldist", "-z"]]
)
def test_plan(store_url: str, folder: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The database says by which table and index it would go; nothing is written or drawn."""
    store = Store(store_url)
    store.create()
    fill(store, ROWS[:50])
    store.close()
    connection = folder / "connection"
    connection.write_text(f"{store_url}\n")
    connection.chmod(0o600)
    run(folder, "--plan", *options)
    told = capsys.readouterr().out
    backend = make_url(store_url).get_backend_name()
    said = {
        "sqlite": r"(SCAN|SEARCH) job",
        "postgresql": r"Scan .*on job",
        "mysql": r"select_type.*\n.*\bjob\b",
        "mariadb": r"select_type[^\0]*\bjob\b",
    }[backend]
    assert re.search(said, told), told
    assert told.count("The plan of the query for") == (2 if "--walldist" in options else 1)
    assert "This is all that --plan does" in told
    assert [path.name for path in folder.iterdir() if path.suffix in {".data", ".png"}] == []
