"""The 2012 script: its options long and short, its files, and the one thing that differs: a gap is no zero."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from batchacct.clock import NOW_VARIABLE
from cpuhours.cpuhours import main
from cpuhours.data_files import all_bins, read_distribution, week_of
from cpuhours.options_2012 import parser
from tests.cpuhours.farm import DAY, HOUR, at, job_row, new_store

FIRST = at("2026-11-02 00:00")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working and home folder, with a connection file; jobs on 2, 4 and 5 November, none on the 3rd."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    noon = FIRST + 12 * HOUR
    new_store(
        tmp_path,
        [
            job_row(1, noon, cpu_duration_s=DAY, host_factor=2.0, submit_host="ui1"),
            job_row(
                2, noon + 2 * DAY, cpu_duration_s=2 * DAY, host_factor=1.0, queue="grid_cms", user_name="cms1", group_name="x_CMS"
            ),
            job_row(3, noon + 3 * DAY, cpu_duration_s=DAY, host_factor=1.0, queue="GRID_ATLAS"),
            job_row(4, noon + 3 * DAY, start_at=None, cpu_duration_s=None, queue="short"),
        ],
    )
    connection = tmp_path / ".batchacct" / "connection"
    connection.parent.mkdir()
    connection.write_text(f"sqlite:///{tmp_path / 'x.db'}\n")
    connection.chmod(0o600)
    return tmp_path


def run(*arguments: str) -> int:
    return main(["-b", str(FIRST), "-e", str(FIRST + 10 * DAY), *arguments])


def data(name: str) -> dict[int, float]:
    """Days since 2 November -> value."""
    lines = (line.split() for line in Path(f"{name}.data").read_text().splitlines()[1:])
    return {(int(when) - FIRST) // DAY: float(value) for when, value in lines}


def test_everything_in_normalised_days_and_no_zero_for_the_gap(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert data("everything") == {0: 2 * 3.9, 2: 2 * 3.9, 3: 3.9}
    assert Path("everything.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == "everything.png\n"


def test_the_factor_comes_from_the_settings(folder: Path) -> None:
    (folder / ".cpuhours.cfg").write_text("[main]\nfactor = 10\n")
    assert run() == 0
    assert data("everything") == {0: 20.0, 2: 20.0, 3: 10.0}
    (folder / ".cpuhours.cfg").write_text("[main]\nfactor = many\n")
    assert run() == 3


@pytest.mark.parametrize(
    ("options", "suffix", "expected"),
    [
        (["-z"], "", {0: 1.0, 2: 2.0, 3: 1.0}),
        (["--nonorm", "--bar", "--log", "--colour", "k"], "", {0: 1.0, 2: 2.0, 3: 1.0}),
        (["--count", "--table", "lsf_acc"], "-count", {0: 1.0, 2: 1.0, 3: 1.0}),
        (["-n", "-i", "-k", "g", "-r", "loc"], "-count", {0: 1.0, 2: 1.0, 3: 1.0}),
        (["-o"], "-started", {0: 1.0, 2: 1.0, 3: 1.0}),
        (["-w", "-z"], "-walltime", {0: 1 / 24, 2: 1 / 24, 3: 1 / 24}),
        (["--waiting", "-z"], "-waiting", {0: 1 / 24, 2: 1 / 24, 3: 1 / 24}),
        (["-u", "--nonorm"], "-cumuwaiting", {0: 1 / 24, 2: 1 / 24, 3: 1 / 24}),
    ],
)
def test_measures(options: list[str], suffix: str, expected: dict[int, float]) -> None:
    assert run("-t", "a/title", *options) == 0
    assert data("a_title") == pytest.approx(expected, abs=1e-6)
    assert Path(f"a_title{suffix}.png").exists()


@pytest.mark.parametrize(
    ("options", "title", "expected"),
    [
        (["-x", "grid_atlas"], "grid_atlas", {0: 1.0, 2: 0.0, 3: 0.0}),
        (["--what", "grid%"], "grid%", {0: 1.0, 2: 2.0, 3: 0.0}),
        (["-x", "grid_cms,GRID_ATLAS"], "grid_cms,GRID_ATLAS", {0: 0.0, 2: 2.0, 3: 1.0}),
        (["-x", "/x_ATLAS/%"], "_x_ATLAS_%", {0: 1.0, 2: 0.0, 3: 1.0}),
        (["-x", "/x_%,nothing"], "_x_%,nothing", {0: 1.0, 2: 2.0, 3: 1.0}),
        (["-y", "cms%"], "cms%", {0: 0.0, 2: 2.0, 3: 0.0}),
        (["--users", "list"], "list", {0: 1.0, 2: 2.0, 3: 1.0}),
        (["-m", "ui%", "-x", "grid%"], "grid%-ui%", {0: 1.0, 2: 0.0, 3: 0.0}),
        (["--fromhosts", "nowhere"], "nowhere", {0: 0.0, 2: 0.0, 3: 0.0}),
    ],
)
def test_what_users_and_hosts(folder: Path, options: list[str], title: str, expected: dict[int, float]) -> None:
    (folder / "list").write_text("cms1, atlas001\n")
    assert run("-z", *options) == 0
    assert data(title) == expected


def test_hours_of_a_day_with_records_are_zero_up_to_the_newest_record() -> None:
    assert run("-n", "-a", "HH24") == 0
    lines = [line.split() for line in Path("everything.data").read_text().splitlines()[1:]]
    hours = {(int(when) - FIRST) // HOUR: float(value) for when, value in lines}
    day_one = {n: float(n == 12) for n in range(12, 24)}  # before 12 h nothing was read yet
    assert {n: v for n, v in hours.items() if n < 24} == day_one
    assert not any(24 <= n < 48 for n in hours)
    assert max(hours) == 3 * 24 + 12


def test_weeks_are_counted_from_new_year(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-z", "--binning", "WW") == 0
    # 29 October is day 302 of 2026, 43 weeks after 1 January; the next week begins on 5 November
    assert data("everything") == {-4: 3.0, 3: 1.0}
    assert "2 weeks have days without any record" in capsys.readouterr().err
    assert run("-z", "--binning", "WW", "--begin", "2026-11-05") == 0
    assert "1 week has days without any record, and is the sum of its other days" in capsys.readouterr().err
    days = [dt.date(2026, 12, 30), dt.date(2026, 12, 31), dt.date(2027, 1, 1)]
    begins = [week_of(at(f"{day} 00:00")) for day in days]
    assert begins == [at("2026-12-24 00:00"), at("2026-12-31 00:00"), at("2027-01-01 00:00")]


def test_file_and_stack_read_the_data_again(folder: Path) -> None:
    assert run("-z", "-x", "grid%", "-t", "one") == 0
    assert run("-z", "-t", "two") == 0
    first = Path("one.png").read_bytes()
    assert run("-z", "-t", "one", "--file") == 0
    assert Path("one.png").read_bytes() == first
    assert run("-s", "one,two") == 0
    assert Path("one,two-stacked.pdf").read_bytes().startswith(b"%PDF")


def test_files_of_2012_with_local_midnights_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    summer, winter = at("2026-10-24 22:00"), at("2026-10-25 23:00")
    Path("old.data").write_text(f"{summer} 1.5\n{winter} 2.5\n")
    assert run("-t", "old", "-f") == 0
    Path("old.data").write_text(f"{summer} 1.5\nrubbish\n")
    assert run("-t", "old", "-f") == 3
    assert "old.data, line 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-q"], "--percent goes with --walldist"),
        (["--crop", "60"], "--crop goes with --walldist"),
        (["--walldist", "--crop", "0"], "greater than 0"),
        (["--walldist", "-n"], "leave out --count"),
        (["-p", "-f"], "there is none with --file"),
        (["--plan", "-s", "a"], "there is none with --stack"),
        (["-n", "-w"], "not allowed with"),
        (["-t", ""], "a title is the name of files: write one"),
        (["-s", ""], "write the titles of the data files"),
        (["-s", "a,,b"], "write the titles of the data files"),
        (["-a", "YYYY"], "invalid choice"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*options)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["-b", "-2w", "-e", "-0d"], ["--begin=2026-11-02", "--end", "2026-11-12"], ["--begin", "2026-11"]]
)
def test_dates_as_people_write_them(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOW_VARIABLE, str(FIRST + 10 * DAY + 5 * HOUR))
    assert main(["-n", *words]) == 0
    assert data("everything") == {0: 1.0, 2: 1.0, 3: 1.0}


def test_any_unix_time_is_a_date_and_20261101_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-n", "-b", "0", "-e", str(FIRST + 10 * DAY + 5)]) == 0
    assert data("everything") == {0: 1.0, 2: 1.0, 3: 1.0}
    assert main(["-b", "20261101"]) == 3
    assert "'20261101' is no date" in capsys.readouterr().err


def test_months(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = [at("2026-10-31 23:59"), at("2026-11-01 00:00")]
    new_store(folder, [job_row(n, end, cpu_duration_s=DAY) for n, end in enumerate(ends, 1)])
    assert main(["-z", "-b", "2026-10", "-e", "2026-12", "-a", "MM"]) == 0
    months = [at("2026-10-01 00:00"), at("2026-11-01 00:00")]
    assert Path("everything.data").read_text() == "# CPU time (days)\n" + "".join(f"{month} 1.000000\n" for month in months)
    assert "2 months have days without any record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("binning", "there", "between"),
    [
        ("MM", ["2026-10-31 23:00", "2027-01-31 23:00"], ["2026-11-30 23:00", "2026-12-31 23:00"]),
        ("MM", ["2028-01-01 00:00", "2028-04-01 00:00"], ["2028-02-01 00:00", "2028-03-01 00:00"]),
        ("WW", ["2026-12-24 00:00", "2027-01-08 00:00"], ["2026-12-31 00:00", "2027-01-01 00:00"]),
        ("WW", ["2026-12-31 00:00", "2027-01-01 00:00"], []),
        ("DDD", ["2026-10-24 22:00", "2026-10-25 23:00"], []),
        ("DDD", ["2026-03-28 23:00", "2026-03-30 22:00"], ["2026-03-29 23:00"]),
        ("HH24", ["2026-03-28 23:00", "2026-03-29 02:00"], ["2026-03-29 00:00", "2026-03-29 01:00"]),
        ("MI", ["2026-03-28 23:00", "2026-03-28 23:02"], ["2026-03-28 23:01"]),
    ],
)
def test_which_bins_are_missing(binning: str, there: list[str], between: list[str]) -> None:
    values = {at(text): 1.0 for text in there}
    assert all_bins(values, binning) == sorted([*values, *map(at, between)])


def test_a_file_of_names_may_have_lines(folder: Path) -> None:
    (folder / "list").write_text("cms1,\natlas001\n")
    assert run("-z", "-y", "list") == 0
    assert data("list") == {0: 1.0, 2: 2.0, 3: 1.0}


def test_more_names_than_one_list_can_have(folder: Path) -> None:
    new_store(folder, [job_row(n, FIRST + n, user_name=f"u{n}") for n in range(1, 1002)])
    assert run("-n", "-y", "u%") == 0
    assert data("u%") == {0: 1001.0}


def test_help_states_the_difference(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "is not drawn as zero" in capsys.readouterr().out


def test_errors_have_their_status(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", "missing") == 3
    assert run("-k", "reddish") == 3
    assert run("-x", ",") == 3
    assert main(["-b", str(FIRST), "-e", str(FIRST)]) == 3
    assert main(["-b", str(FIRST + 20 * DAY), "-e", str(FIRST + 30 * DAY)]) == 3
    assert "no record from 2026-11-22" in capsys.readouterr().err


def test_jobs_without_host_factor_are_left_out_and_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_store(folder, [job_row(1, FIRST + HOUR, host_factor=None), job_row(2, FIRST + HOUR, cpu_duration_s=DAY, host_factor=1.0)])
    assert run() == 0
    assert data("everything") == {0: 3.9}
    assert "left out: 1 job without host factor" in capsys.readouterr().err
    new_store(folder, [job_row(1, FIRST + HOUR, host_factor=None)])
    assert run("--walldist") == 3
    told = capsys.readouterr().err
    assert "left out: 1 job without host factor" in told
    assert "no job to show from 2026-11-02" in told


def test_jobs_of_which_something_is_unknown_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, object] = {"cpu_duration_s": DAY, "host_factor": 1.0}
    unknown: dict[str, object] = {"cpu_duration_s": None, "host_factor": None, "submit_at": None}
    jobs = [known, known | {"submit_at": None}, unknown, unknown]
    new_store(folder, [job_row(number, FIRST + HOUR, **columns) for number, columns in enumerate(jobs, 1)])
    for options, submission in ((["-n"], False), (["-v"], True), (["--walldist"], False)):
        assert run(*options) == 0
        told = capsys.readouterr().err
        assert "left out: 2 jobs of unknown CPU time" in told, options
        assert ("left out: 1 job of unknown time of submission" in told) == submission, options
        assert "host factor" not in told


def test_a_list_may_be_longer_than_the_name_of_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The two titles begin with the same names, and are not the same."""
    names = ["cms1", *(f"some\N{LATIN SMALL LETTER E WITH ACUTE}one{number}" for number in range(100))]
    for more in ("atlas001", "nobody"):
        assert run("-z", "-y", ",".join([*names, more])) == 0
    files = sorted(path.stem for path in folder.glob("cms1*.data"))
    assert len(files) == 2
    assert all(file.startswith("cms1,some\N{LATIN SMALL LETTER E WITH ACUTE}one0,") for file in files)
    assert {sum(data(file).values()) for file in files} == {2.0, 4.0}
    titles = [f"a title that is no longer than it has to be {number}" for number in range(10)]
    for title in titles:
        Path(f"{title}.data").write_text(f"{FIRST} 1\n")
    assert run("-s", ",".join(titles)) == 0
    assert len(list(folder.glob("*-stacked.pdf"))) == 1


def y_labels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What will stand on the axes of pictures to be drawn."""
    labels: list[str] = []
    monkeypatch.setattr("cpuhours.plot.plot_series", lambda *_words, y_label, **_more: labels.append(y_label))
    monkeypatch.setattr("cpuhours.plot.plot_stack", lambda *_words, y_label, **_more: labels.append(y_label))
    return labels


def test_the_file_says_what_it_has(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    labels = y_labels(monkeypatch)
    for title, *options in (["counts", "-n"], ["waits", "-u", "-z"], ["cpu"], ["more"]):
        assert run("-t", title, *options) == 0
    del labels[:]
    Path("old.data").write_text(f"{FIRST} 1.5\n")
    for title, *options in (["counts"], ["waits", "-u"], ["waits", "-n"], ["old"], ["old", "-u"]):
        assert run("-t", title, "-f", *options) == 0
    for titles in ("cpu,more", "cpu,old"):
        assert run("-s", titles) == 0
    assert labels == [
        "number of finished jobs",
        "cumulative waiting time (days)",
        "waiting time (days)",
        "as in the file",
        "cumulative, as in the file",
        "CPU time (days x host factor x 3.9)",
        "as in the files",
    ]
    assert run("-s", "cpu,counts") == 3
    assert "cpu is CPU time (days x host factor x 3.9); counts is number of finished jobs" in capsys.readouterr().err


def test_the_file_of_wall_times_says_how_they_are_normalised(folder: Path) -> None:
    assert run("-t", "a", "--walldist", "-z") == 0
    drawn = Path("a-walldist.png").read_bytes()
    file = folder / "a-walldist.data"
    first, rest = file.read_text().split("\n", 1)
    assert first == "# wall time (seconds)"
    file.write_text(f"# wall time (seconds x host factor x 9)\n{rest}")
    assert read_distribution("a")[1] == " x host factor x 9"
    file.write_text(rest)
    assert read_distribution("a")[1] is None
    assert run("-t", "a", "--walldist", "-f") == 0
    assert Path("a-walldist.png").read_bytes() != drawn


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_values_without_bounds_are_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (f"{FIRST} {value}", f"{value} 1"):
        Path("old.data").write_text(f"{FIRST} 1\n{line}\n")
        assert run("-t", "old", "-f") == 3
        assert f"old.data, line 2: a line is a Unix time and a number, not '{line}'" in capsys.readouterr().err


def test_every_option_is_in_the_table_of_the_docs_with_tests_that_are_there() -> None:
    root = Path(__file__).parents[2]
    section = (root / "docs/how-to/2012-scripts.md").read_text().split("\n## cpuhours\n")[1].split("\n## ")[0]
    rows = [row.strip("|").split("|") for row in section.splitlines() if row.startswith("| ")]
    named = " ".join(row[0] for row in rows)
    for action in parser()._actions:
        assert action.dest == "help" or any(option in named for option in action.option_strings), action.option_strings
    for row in rows[1:]:
        file = ""
        for where, test in re.findall(r"`(\w+\.py)?::(\w+)`", row[3]):
            file = where or file
            assert f"def {test}(" in (root / "tests/cpuhours" / file).read_text(), (file, test)
