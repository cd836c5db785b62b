"""`batchacct summaries` and `batchacct sync` as an administrator runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchacct.errors import ConfigError, IncompleteError, PluginError
from tests.apel_reader import read_as_documented
from tests.cli.site import DAY, NOW, Site, blah, lsf

RETENTION = '[archive]\npath = "{folder}/archive"\n[retention]\nkeep = 0\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Three jobs of October, one of them of the grid, published."""
    (tmp_path / "logs").mkdir()
    made = Site(tmp_path)
    made.configure(ce='"*" = "lsf1"', more=f"bunch = 1\n{RETENTION.format(folder=tmp_path)}")
    made.write([lsf(1), lsf(2), lsf(3, user=b"grace")], [blah(1)])
    made.good("db", "create")
    made.good("collect", "--once")
    made.good("publish", "--once")
    return made


def test_summaries_to_standard_output(site: Site) -> None:
    out = site.good("summaries", "--month", "2026-10")
    first, second = (f"APEL-summary-job-message{rest}" for rest in out.split("APEL-summary-job-message")[1:])
    (grid,), (local,) = (read_as_documented(text.encode(), now=NOW) for text in (first, second))
    assert (grid["NumberOfJobs"], local["NumberOfJobs"]) in {(1, 2), (2, 1)}
    assert {grid["InfrastructureType"], local["InfrastructureType"]} == {"grid", "local"}


def test_summaries_to_files(site: Site, tmp_path: Path) -> None:
    done = site.run(
        "summaries", "--month", "2026-10", "--format", "apel-normalised-summary-0.4", "--write-to", tmp_path / "november"
    )
    assert (done.status, done.out) == (0, "")
    for number in (1, 2):
        (record,) = read_as_documented((tmp_path / f"november.{number}").read_bytes(), now=NOW)
        assert record["NormalisedCpuDuration"] == record["CpuDuration"] * 10  # type: ignore[operator]


def test_a_dry_run_shows_hours(site: Site) -> None:
    out = site.good("summaries", "--month", "2026-10", "--dry-run")
    assert "│ 2026-10 │ atlas        │     1 │    1 │" in out
    assert "APEL-" not in out


def test_this_month_and_the_one_before_are_the_default(site: Site) -> None:
    assert site.good("summaries", "--dry-run") == site.good("summaries", "--month", "2026-10", "--month", "2026-11", "--dry-run")
    assert "APEL-" not in site.run("summaries", now=NOW + 60 * DAY).out


def test_a_month_without_jobs_makes_no_message(site: Site) -> None:
    done = site.run("summaries", "--month", "2026-09")
    assert (done.status, done.out) == (0, "")
    assert "no message was written" in done.err


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("summaries", "--month", "2026-12"), ConfigError.exit_code, "has not begun"),
        (("summaries", "--month", "2026-13"), ConfigError.exit_code, "is no month"),
        (("summaries", "--month", "2026-10", "--format", "apel-0.3"), PluginError.exit_code, "is not installed"),
        (("sync", "--from", "2026-10", "--to", "2026-09"), ConfigError.exit_code, "--to lies before --from"),
        (("summaries", "--month", "2026-10", "--write-to", "/nowhere/at/all"), ConfigError.exit_code, "cannot be written"),
    ],
)
def test_what_cannot_be_asked_for(site: Site, words: tuple[str, ...], status: int, told: str) -> None:
    done = site.run(*words)
    assert (done.status, done.out) == (status, "")
    assert told in done.err


def test_sync(site: Site) -> None:
    out = site.good("sync")
    texts = [f"APEL-sync-message{rest}" for rest in out.split("APEL-sync-message")[1:]]
    records = [record for text in texts for record in read_as_documented(text.encode(), now=NOW)]
    assert sorted((r["Year"], r["Month"], r["NumberOfJobs"]) for r in records) == [(2026, 10, 1), (2026, 10, 2)]
    assert "│ 2026-10 │ TEST-SITE │ lsf1" in site.good("sync", "--dry-run")
    assert site.run("sync", "--from", "2026-11").out == ""
    assert site.good("sync", "--from", "2026-09", "--to", "2026-10") == out


def test_an_archived_month_is_refused_and_left_out(site: Site) -> None:
    later = NOW + 40 * DAY
    assert site.run("db", "archive", now=later).status == 0
    done = site.run("summaries", "--month", "2026-10", now=later)
    assert done.status == IncompleteError.exit_code
    assert "3 of its jobs are archived; `batchacct db recall 2026-10` puts them back" in done.err
    assert site.run("sync", now=later).out == ""
