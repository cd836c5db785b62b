"""`batchacct db archive`, `purge` and `recall` as an administrator runs them, and what the other commands say afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchacct.archive import querying
from batchacct.archive.holdings import Archived, dataset_of
from batchacct.errors import ConfigError, HorizonError, IncompleteError
from tests.cli.site import DAY, NOW, Site, blah, lsf

LATER = NOW + 40 * DAY
RETENTION = '[archive]\npath = "{folder}/archive"\n[retention]\nkeep = 0\n{more}\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Three jobs of October, published."""
    (tmp_path / "logs").mkdir()
    made = Site(tmp_path)
    made.configure(ce='"*" = "lsf1"', more=RETENTION.format(folder=tmp_path, more="personal_data = 0"))
    made.write([lsf(1), lsf(2), lsf(3, user=b"grace")], [blah(1)])
    made.good("db", "create")
    made.good("collect", "--once")
    made.good("publish", "--once")
    return made


def test_archived_reported_and_told(site: Site) -> None:
    report, status, why = (site.run(*words, now=LATER).out for words in (("report",), ("status",), ("why", "1")))
    assert "job" in site.run("db", "archive", "--dry-run", now=LATER).out
    done = site.run("db", "archive", now=LATER)
    assert (done.status, done.err) == (0, "")
    assert "│ 2026-10 │ job      │       3 │" in done.out
    assert site.run("report", now=LATER).out == report
    assert site.run("status", now=LATER).out == status
    told = site.run("why", "1", now=LATER).out
    assert told.startswith(why)
    assert "archived: job records of it are in " in told
    assert "Nothing to archive" in site.run("db", "archive", now=LATER).out
    assert "│ 2026-10 │ identity │       1 │" in site.run("db", "archive", "--list", now=LATER).out


def test_a_log_that_is_read_again_stops_its_source(site: Site) -> None:
    site.good("db", "archive")
    assert site.run("db", "archive", now=LATER).status == 0
    again = site.run("collect", "--once", "--from-start", str(site.lsf_log), now=LATER)
    assert again.status == HorizonError.exit_code == 20
    assert again.err.count("archived meanwhile") == 1
    assert "holds records of 2026-10, archived meanwhile" in again.err
    assert "batchacct db recall 2026-10" in again.err
    assert site.source("lsf")["recorded"] == 3
    assert "archived meanwhile" in site.source("lsf")["last_error"]
    assert "│ job      │       3 │" in site.run("db", "recall", "2026-10", now=LATER).out
    site.lsf_log.write_bytes(site.lsf_log.read_bytes() + lsf(4))
    assert site.run("collect", "--once", "--from-start", str(site.lsf_log), now=LATER).status == 0
    assert (site.source("lsf")["recorded"], site.source("lsf")["known"]) == (4, 3)


def test_a_held_month_is_told(site: Site) -> None:
    site.lsf_log.write_bytes(site.lsf_log.read_bytes() + lsf(9))
    site.good("collect", "--once")
    for what in ("archive", "purge"):
        done = site.run("db", what, now=LATER)
        assert done.status == IncompleteError.exit_code
        assert "2026-10 is held: 1 jobs are not joined yet" in done.out
        assert "1 of the closed months stays" in done.err


def test_purged(site: Site) -> None:
    report = site.run("report", "--by", "user", now=LATER).out
    assert "grace" in report
    would = site.run("db", "purge", "--dry-run", now=LATER).out
    assert "│ 2026-10 │ names in table job" in would
    done = site.run("db", "purge", now=LATER)
    assert (done.status, done.err) == (0, "")
    assert done.out == would.replace("Would be purged", "Purged")
    after = site.run("report", "--by", "user", now=LATER).out
    assert "grace" not in after
    assert after.count("anon-") == 2
    assert "Nothing to purge." in site.run("db", "purge", now=LATER).out


def test_a_month_is_archived_anew_during_an_audit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.run("db", "archive", now=LATER).status == 0
    asked = ("audit", "--from", "2026-10-01", "--to", "2026-10-31")
    before = site.run(*asked, now=LATER)
    real, left = dataset_of, [("db", "recall", "2026-10"), ("db", "archive")]

    def opened(month: Archived) -> object:
        while left:
            assert site.run(*left.pop(0), now=LATER).status == 0
        return real(month)

    monkeypatch.setattr(querying, "dataset_of", opened)
    assert site.run(*asked, now=LATER) == before
    assert before.status == 0


@pytest.mark.parametrize("words", [("archive", "--before", "soon"), ("recall", "2026-13"), ("recall", "1999-01")])
def test_what_is_no_month_to_do_anything_with(site: Site, words: tuple[str, ...]) -> None:
    done = site.run("db", *words, now=LATER)
    assert done.status == ConfigError.exit_code
    assert "month" in done.err or "nothing of 1999-01 is archived" in done.err


def test_a_clock_in_the_future(site: Site) -> None:
    for what in ("archive", "purge"):
        done = site.run("db", what, now=LATER + 3650 * DAY)
        assert done.status == IncompleteError.exit_code
        assert "Set the clock" in done.err
    assert not (site.folder / "archive").exists()
