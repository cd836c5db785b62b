"""`batchacct report`: figures, what it says about what is not in them, dates, forms."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from batchacct.errors import BatchacctError, ConfigError, IncompleteError
from batchacct.store import Store
from cpuhours.command import report
from tests.cpuhours.farm import DAY, add_benchmark, at, give_benchmark, job_row, join, new_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three hours of CPU for atlas, one for local, on the first and third of three days; the second day has no record."""
    one, three = at("2026-11-01 12:00"), at("2026-11-03 12:00")
    rows = [
        job_row(1, one, cpu_duration_s=7200, wall_duration_s=9000),
        job_row(2, three, cpu_duration_s=3600, wall_duration_s=3600, user_name="[bold]"),
        job_row(3, three + 1, cpu_duration_s=3600, wall_duration_s=3600, processors=2),
        job_row(4, three + 2, cpu_duration_s=None),
    ]
    made = new_store(tmp_path, rows)
    join(made, {"1": ("joined", "atlas"), "2": ("joined", "atlas"), "3": ("waiting", "local-nonlcg")})
    add_benchmark(made, 1, "HEPscore23", 10.0)
    give_benchmark(made, "1", 1)
    (tmp_path / "c.toml").write_text(f'site = "SITE"\n[database]\nurl = "sqlite:///{tmp_path / "x.db"}"\n')
    return made


def run(folder: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(report, ["--config", str(folder / "c.toml"), *arguments])
    if isinstance(result.exception, BatchacctError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_the_table_has_hours_a_total_and_what_is_not_in_it(tmp_path: Path, store: Store) -> None:
    lines = run(tmp_path).stdout.splitlines()
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in lines if line.startswith("│")]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["atlas"] == ["2", "3.0", "3.5", "3.5", "85.7", "0"]
    assert cells["(waiting for identity)"] == ["1", "1.0", "2.0", "1.0", "50.0", "0"]
    alone = next(line.split("│") for line in lines if "(not joined yet)" in line)
    assert [cell.strip() for cell in alone[2:8]] == ["1", "", "1.0", "1.0", "", "1"], "its CPU is unknown, not 0"
    assert cells["total"] == ["4", "4.0", "6.5", "5.5", "72.7", "1"]
    text = " ".join(lines)
    for note in (
        "UTC days, jobs counted on the day they ended",
        "not normalised",
        "1 day without any job record",
        "1 job of unknown CPU time",
        "1 job still waiting for a grid identity",
        "1 job not joined yet",
    ):
        assert note in text


def test_headings_of_figures_end_where_the_figures_do(tmp_path: Path, store: Store) -> None:
    """In each column but that of names, also where a row has no figure, or a word in its place."""
    for asked in ((), ("--by", "day")):
        lines = [line for line in run(tmp_path, *asked).stdout.splitlines() if line[:1] in {"┃", "│"}]
        head, *rows = [re.split("[┃│]", line)[1:-1] for line in lines]
        for title, *cells in zip(*(row[1:] for row in (head, *rows)), strict=True):
            assert all(text == text.strip().rjust(len(text) - 1) + " " for text in (title, *cells)), (title, cells)
        marks = run(tmp_path, *asked, "--format", "markdown").stdout.splitlines()[3]
        assert marks == f"| --- |{' ---: |' * (len(head) - 1)}"


def test_days_are_complete_and_a_day_without_data_has_no_figures(tmp_path: Path, store: Store) -> None:
    rows = list(
        csv.DictReader(io.StringIO(run(tmp_path, "--by", "day", "--vo", "(waiting for identity)", "--format", "csv").stdout))
    )
    assert [(row["day"], row["jobs"], row["cpu_s"]) for row in rows] == [
        ("2026-11-01", "0", "0"),
        ("2026-11-02", "", ""),
        ("2026-11-03", "1", "3600"),
    ]
    assert "2026-11-02 │ no data" in run(tmp_path, "--by", "day").stdout
    assert "| 2026-11-02 | no data |  |" in run(tmp_path, "--by", "day", "--format", "markdown").stdout


def test_json_has_units_in_names_notes_and_normalised_time(tmp_path: Path, store: Store) -> None:
    told = json.loads(run(tmp_path, "--format", "json", "--normalise", "HEPscore23").stdout)
    assert told["days_without_data"] == ["2026-11-02"]
    expected = {
        "vo": "atlas", "jobs": 2, "cpu_unknown_jobs": 0, "cpu_s": 10_800, "wall_s": 12_600, "core_s": 12_600,
        "core_unknown_jobs": 0, "wait_s": 7200, "wait_unknown_jobs": 0, "gpu_s": None, "gpu_unknown_jobs": 2,
        "energy_j": None, "energy_unknown_jobs": 2, "normalised_cpu_s": 72_000.0, "not_normalised_jobs": 1,
        "normalised_wall_s": 90_000.0, "wall_not_normalised_jobs": 1,
    }  # fmt: skip
    assert {name: told["rows"][0][name] for name in expected} == expected
    assert (told["counted"], told["zone"], told["bins"], told["others"]) == ("ended", "UTC", None, None)
    assert told["rows"][0]["efficiency"] == pytest.approx(10_800 / 12_600, abs=1e-4)
    assert "2 jobs without HEPscore23 benchmark: not in the HEPscore23 hours." in told["notes"]
    with pytest.raises(ConfigError, match="no job was given a benchmark Si2k: there are HEPscore23"):
        run(tmp_path, "--normalise", "Si2k")


def test_begin_is_in_and_end_is_out(tmp_path: Path, store: Store) -> None:
    def jobs(*period: str) -> int:
        return sum(row["jobs"] or 0 for row in json.loads(run(tmp_path, "--format", "json", *period).stdout)["rows"])

    assert jobs("--begin", "2026-11-03") == 3
    assert jobs("--end", "2026-11-03") == 1
    assert jobs("--begin", str(at("2026-11-03 12:00")), "--end", str(at("2026-11-03 12:00") + 1)) == 1
    assert jobs("--begin", "2026-11", "--end", "2026-12") == 4


def test_names_of_users_are_not_markup(tmp_path: Path, store: Store) -> None:
    assert "[bold]" in run(tmp_path, "--by", "user").stdout


def test_periods_that_cannot_be(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ConfigError, match="--begin 2026-11-02 00:00:00Z is not before --end 2026-11-01 00:00:00Z"):
        run(tmp_path, "--begin", "2026-11-02", "--end", "2026-11-01")
    with pytest.raises(IncompleteError, match="the last job ended 2026-11-03"):
        run(tmp_path, "--begin", "2026-12")
    with pytest.raises(IncompleteError, match="the first job ended 2026-11-01"):
        run(tmp_path, "--end", "2026-10")
    assert "31 days without any job record" in run(tmp_path, "--begin", "2026-12", "--end", "2027-01").stdout


def test_an_empty_store_is_said_to_be_empty(tmp_path: Path) -> None:
    new_store(tmp_path, [])
    (tmp_path / "c.toml").write_text(f'site = "SITE"\n[database]\nurl = "sqlite:///{tmp_path / "x.db"}"\n')
    with pytest.raises(IncompleteError, match="no job that started and ended"):
        run(tmp_path)


@pytest.mark.parametrize("by", ["vo", "day", "user"])
def test_the_plot_is_drawn_and_the_same_twice(tmp_path: Path, store: Store, by: str) -> None:
    pictures = [tmp_path / f"{n}.svg" for n in range(2)]
    for picture in pictures:
        run(tmp_path, "--by", by, "--plot", str(picture), "--bins" if by != "day" else "--zone", "day" if by != "day" else "UTC")
    text = pictures[0].read_text()
    assert text == pictures[1].read_text()
    assert "SITE, 2026-11-01 to 2026-11-03 (UTC); jobs counted where they ended" in text
    assert ("[bold]" if by == "user" else "atlas:  3") in text
    assert "CPU hours per day" in text
    assert "no data" in text


def test_every_kind_says_its_unit_zone_and_how_jobs_count(tmp_path: Path, store: Store) -> None:
    for kind, more, words in (
        ("stack", ("--spread", "--zone", "Europe/Zurich"), ("times spread over when jobs ran", "hour (Europe/Zurich)", "per hour")),
        ("lines", ("--measure", "efficiency", "--bins", "week"), ("CPU / core time (%)", "week from Monday (UTC)")),
        ("lines", ("--measure", "started", "--log"), ("jobs that started per hour", "jobs counted where they started")),
        ("bars", ("--measure", "wait", "--log"), ("Hours waited by VO", "atlas")),
        ("heatmap", ("--measure", "core"), ("core hours per hour, mean", "Wednesday", "hour of the day (UTC)")),
    ):
        picture = tmp_path / "a.svg"
        run(tmp_path, "--kind", kind, "--plot", str(picture), *more)
        text = picture.read_text()
        for word in words:
            assert word in text, (kind, word)


def test_the_words_beside_a_picture(tmp_path: Path, store: Store) -> None:
    """A group without name is none of all jobs; how jobs count stands before long filters; a mean is called so once."""
    rows = [job_row(number, at("2026-11-01 12:00"), user_name=name) for number, name in enumerate(("", "alice"), 1)]
    new_store(tmp_path, rows)
    picture = tmp_path / "a.svg"
    run(tmp_path, "--by", "user", "--plot", str(picture), "--measure", "mean-wait", "--queue", "grid%", "--bins", "day")
    text = picture.read_text()
    assert "(no name):  1" in text
    assert "all jobs" not in text
    assert re.search(r"<!-- user: mean wait h -->", text)
    assert "SITE, 2026-11-01 (UTC); jobs counted where they ended; queue grid%" in text


def test_what_cannot_be_drawn_or_asked_says_what_to_do(tmp_path: Path, store: Store) -> None:
    picture = str(tmp_path / "a.png")
    for words, message in (
        (("--plot", str(tmp_path / "a.txt")), "the suffix"),
        (("--plot", picture, "--measure", "efficiency", "--kind", "stack"), "choose --kind lines or bars"),
        (("--plot", picture, "--compare", "previous", "--kind", "lines"), "leave out --kind"),
        (("--plot", picture, "--log"), "add --kind lines"),
        (("--plot", picture, "--by", "day", "--kind", "bars"), "choose --by vo, or --kind lines"),
        (("--plot", picture, "--top", "22"), "ask for --top 21 at most"),
        (("--log",), "say where it goes by --plot FILE"),
        (("--data", str(tmp_path / "a.xls")), "one of .csv, .json, .md, .parquet"),
        (("--by", "day", "--bins", "week"), "leave out --bins"),
        (("--by", "day", "--top", "3"), "say --by vo --bins day"),
        (("--compare", "previous", "--bins", "day"), "leave out --bins"),
        (("--measure", "utilisation"), r"give \[\[capacity\]\]"),
        (("--measure", "co2e"), r"give \[\[energy\]\]"),
        (("--period", "2026-11", "--begin", "2026-11-02"), "leave out --begin and --end"),
        (("--period", "now"), "is an instant and no period"),
        (("--zone", "Mars/Olympus"), "no time zone Mars/Olympus"),
        (("--bins", "quarter-hour", "--begin", "1990-01"), "choose larger --bins"),
        (("--begin", "2026-11-01", "--end", "2026-11-01"), "for a whole day, week or month say --period"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(tmp_path, *words)


def test_a_folder_that_is_missing_is_told_before_anything_is_written(tmp_path: Path, store: Store) -> None:
    picture, data = tmp_path / "a.png", tmp_path / "a.csv"
    for words in ((picture, tmp_path / "none" / "a.csv"), (tmp_path / "none" / "a.png", data)):
        command = ["--config", str(tmp_path / "c.toml"), "--plot", str(words[0]), "--data", str(words[1])]
        result = CliRunner().invoke(report, command)
        assert isinstance(result.exception, ConfigError)
        assert "none does not exist: make it" in str(result.exception)
        assert result.output == ""
    assert not picture.exists()
    assert not data.exists()


def test_names_make_no_rows_of_their_own(tmp_path: Path) -> None:
    """A name with an end of a line, one that looks like the total, and one like the rest."""
    names = ("two\nlines", "total", "other (2 queues)", "a|b<script>", "e")
    rows = [job_row(n, at("2026-11-01 12:00") + n, queue=name, cpu_duration_s=3600 * (9 - n)) for n, name in enumerate(names, 1)]
    new_store(tmp_path, rows)
    (tmp_path / "c.toml").write_text(f'site = "SITE"\n[database]\nurl = "sqlite:///{tmp_path / "x.db"}"\n')
    lines = run(tmp_path, "--by", "queue", "--top", "3").stdout.splitlines()
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in lines if line.startswith("│")]
    assert [row[:3] for row in cells] == [
        ["two\\nlines", "1", "8.0"],
        ["total", "1", "7.0"],
        ["other (2 queues)", "1", "6.0"],
        ["the other (2 queues)", "2", "9.0"],
        ["the total", "5", "30.0"],
    ]
    title = run(tmp_path, "--queue", "a|b<script>", "--format", "markdown").stdout.splitlines()[0]
    assert title.startswith("**Usage of queue a\\|b&lt;script> by VO, ")


def test_messages_name_options_as_they_are_written(tmp_path: Path, store: Store) -> None:
    for words in (("--by", "quarter-hour", "--bins", "day"), ("--by", "quarter-hour", "--top", "2")):
        with pytest.raises(ConfigError, match="--by quarter-hour has"):
            run(tmp_path, *words)


def test_a_year_is_a_period(tmp_path: Path, store: Store) -> None:
    assert "by VO, 2026-01-01 to 2026-12-31" in run(tmp_path, "--period", "2026").stdout
    with pytest.raises(ConfigError, match=r"is no date .*the calendar"):
        run(tmp_path, "--begin", "0001-01-01", "--zone", "Asia/Tokyo")
    assert "by VO, 0001-01-02 00:00+09:18:59 to 2026-11-03" in run(tmp_path, "--begin", "0001-01-02", "--zone", "Asia/Tokyo").stdout
    with pytest.raises(ConfigError, match="the calendar has no such time"):
        run(tmp_path, "--begin", "0001-01-02", "--compare", "previous")


def test_a_period_is_whole_and_in_the_zone(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def jobs(*words: str) -> int:
        return sum(row["jobs"] or 0 for row in json.loads(run(tmp_path, "--format", "json", *words).stdout)["rows"])

    monkeypatch.setenv("BATCHACCT_NOW", str(at("2026-11-04 10:00")))
    assert (jobs("--period", "2026-11"), jobs("--period", "yesterday"), jobs("--period", "last week")) == (4, 3, 1)
    assert jobs("--period", "2026-11-03", "--zone", "Pacific/Kiritimati") == 0, "it is the 4th there by then"
    assert jobs("--period", "2026-11-04", "--zone", "Pacific/Kiritimati") == 3
    assert jobs("--begin", "-1d", "--end", "now") == 3


def test_filters_and_data_beside_the_picture(tmp_path: Path, store: Store) -> None:
    (tmp_path / "users").write_text("[bold]\n")
    picture, data = tmp_path / "a.png", tmp_path / "a.csv"
    run(tmp_path, "--user", f"@{tmp_path / 'users'}", "--plot", str(picture), "--data", str(data), "--kind", "bars")
    (row,) = csv.DictReader(io.StringIO(data.read_text()))
    assert (row["vo"], row["jobs"], row["cpu_s"]) == ("atlas", "1", "3600")
    run(tmp_path, "--kind", "heatmap", "--measure", "jobs", "--plot", str(picture), "--data", str(data))
    rows = list(csv.DictReader(io.StringIO(data.read_text())))
    assert len(rows) == 7 * 24
    there = {(row["weekday"], row["hour"]): row["jobs"] for row in rows if row["hours_known"] != "0.0" and float(row["jobs"])}
    assert there == {("7", "12"): "1.0", ("2", "12"): "3.0"}
    none = run(tmp_path, "--queue", "no%such", "--plot", str(picture), "--format", "csv")
    assert none.stdout.count("\n") == 1


def test_a_period_of_seconds_names_its_days(tmp_path: Path, store: Store) -> None:
    told = run(tmp_path, "--begin", "2026-11-01", "--end", str(at("2026-11-03 00:00") + DAY // 2)).stdout
    assert "2026-11-01 to 2026-11-03 12:00Z" in told


def test_parquet_goes_to_a_file_or_a_pipe(tmp_path: Path, store: Store) -> None:
    run(tmp_path, "--data", str(tmp_path / "a.parquet"))
    assert pd.read_parquet(tmp_path / "a.parquet")["cpu_s"].fillna(-1).tolist() == [10_800, 3600, -1]
    told = CliRunner().invoke(report, ["--config", str(tmp_path / "c.toml"), "--format", "parquet"])
    assert pd.read_parquet(io.BytesIO(told.stdout_bytes))["jobs"].sum() == 4


def test_options_of_a_command_stand_behind_it(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ConfigError, match="stand behind its name"):
        run(tmp_path, "--by", "vo", "monthly", "2026-11")
