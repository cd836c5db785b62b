"""`batchacct backfill` as a user runs it, and into a store as beside a collector."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from batchacct.backfill.pieces import Told
from batchacct.backfill.to_store import backfill_to_store, parsing
from batchacct.store import Store
from tests.backfill.folders import NOW, comparable, rows_in, stored_rows
from tests.backfill.test_piles import ALL, write
from tests.cli.runner import batchacct
from tests.cli.site import Site, lsf

LOGS = Told("lsf", "lsf", "SITE", "lsf1")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    (tmp_path / "logs").mkdir()
    made.configure(ce='"*" = "lsf1"')
    made.good("db", "create")
    return made


def table_row(out: str) -> list[str]:
    return [cell.strip() for cell in out.splitlines()[-2].split("│")[1:-1]]


def test_into_a_folder_without_a_configuration(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "acct.gz", ALL[:20])
    write(tmp_path / "logs" / "acct.copy", ALL[:10])
    done = batchacct("backfill", "--cluster", "c1", "--workers", 1, "--to", tmp_path / "out", tmp_path / "logs")
    assert (done.status, done.err) == (0, "")
    assert table_row(done.out) == ["2", "30", "20", "0", "10", "0", "0", "0", "0", "0"]
    rows = rows_in(tmp_path / "out")
    assert {row["source"] for row in rows} == {row["path"] for row in rows}
    assert {row["cluster"] for row in rows} == {"c1"}


def test_what_went_wrong_is_in_the_exit_status(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "acct", [ALL[0], b"rubbish\n"])
    done = batchacct("backfill", "--parser", "lsf", "--to", tmp_path / "out", tmp_path / "logs", tmp_path / "none")
    assert done.status == 13
    assert "none does not exist" in done.err and "1 units were rejected, see " in done.err


def test_a_pattern_means_folders_too_and_one_that_means_nothing_is_told(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "2026-10" / "acct", ALL[:5])
    write(tmp_path / "logs" / "2026-11" / "acct", ALL[5:7])
    done = batchacct("backfill", "--to", tmp_path / "out", tmp_path / "logs" / "2026-*")
    assert (done.status, done.err) == (0, "")
    assert table_row(done.out)[:3] == ["2", "7", "7"]
    done = batchacct("backfill", "--to", tmp_path / "out", tmp_path / "logs" / "2026-*", tmp_path / "old*")
    assert done.status == 13
    assert f"{tmp_path}/old* does not exist" in done.err


def test_its_own_folder_is_no_pile_of_logs(tmp_path: Path) -> None:
    write(tmp_path / "pile" / "acct", [*ALL[:5], b"rubbish\n"])
    write(tmp_path / "pile" / "out" / "acct", ALL[5:7])
    for known in ("0", "7"):
        done = batchacct("backfill", "--parser", "lsf", "--to", tmp_path / "pile" / "out", tmp_path / "pile")
        assert done.status == 13
        assert "1 units were rejected" in done.err
        assert table_row(done.out) == ["2", "8", str(7 - int(known)), "0", known, "0", "1", "0", "0", "0"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "lsf", "--cluster", "x"], "--source says all"),
        (["--source", "nobody"], "no source is named nobody"),
        (["--parser", "nobody"], "parser 'nobody' is not installed"),
        (["--zone", "Mars/Base"], "no such time zone"),
        ([], "say which with --source"),
        (["--engine", "spark"], "belong together"),
    ],
)
def test_wrong_options(site: Site, arguments: list[str], said: str) -> None:
    done = site.run("backfill", *arguments, site.folder / "logs")
    assert done.status in (3, 11) and said in done.err


def test_a_collection_afterwards_finds_nothing_new(site: Site) -> None:
    site.lsf_log.write_bytes(b"".join(ALL[:30]))
    done = site.run("backfill", "--source", "lsf", "--workers", 1, site.lsf_log)
    assert (done.status, table_row(done.out)[:4]) == (0, ["1", "30", "30", "0"])
    site.good("collect", "--once", "lsf")
    assert (site.source("lsf")["units"], site.source("lsf")["recorded"]) == (30, 30)
    site.lsf_log.write_bytes(b"".join(ALL[:31]))
    site.good("collect", "--once", "lsf")
    assert (site.source("lsf")["units"], site.source("lsf")["recorded"]) == (31, 31)


def test_what_was_collected_is_not_read_again(site: Site) -> None:
    """Nor a compressed copy of it; what was added since is."""
    site.lsf_log.write_bytes(b"".join(ALL[:30]))
    site.good("collect", "--once", "lsf")
    copy = site.folder / "old" / "acct.1.gz"
    copy.parent.mkdir()
    copy.write_bytes(gzip.compress(b"".join(ALL[:40])))
    done = site.run("backfill", "--source", "lsf", "--workers", 1, copy, site.lsf_log)
    assert (done.status, table_row(done.out)[:4]) == (0, ["2", "10", "10", "0"])
    books = site.source("lsf")
    assert (books["units"], books["recorded"], books["known"]) == (40, 40, 0)


def test_a_file_that_was_edited_stops_no_other(site: Site) -> None:
    site.lsf_log.write_bytes(b"".join(ALL[:30]))
    site.good("collect", "--once", "lsf")
    edited = site.folder / "acct.edited"
    edited.write_bytes(b"".join([*ALL[:20], lsf(9999), *ALL[21:40]]))
    other = write(site.folder / "acct.other", ALL[50:60])
    done = site.run("backfill", "--source", "lsf", "--workers", 1, edited, other)
    assert done.status == 13
    assert "acct.edited begins like what source lsf has read" in done.err
    assert table_row(done.out)[2] == "10"


def test_while_it_is_collected(site: Site) -> None:
    site.lsf_log.write_bytes(b"".join(ALL[:3]))
    store = Store(f"sqlite:///{site.folder}/batchacct.db")
    with store.lock("collect lsf"):
        done = site.run("backfill", "--source", "lsf", site.lsf_log)
    store.close()
    assert done.status == 12


def test_by_processes_the_same_as_by_one(tmp_path: Path, sqlite_store: Store) -> None:
    """Every block's records, in the order of the blocks."""
    path = write(tmp_path / "acct", ALL)
    with parsing(2) as by:
        done = backfill_to_store(sqlite_store, [str(path)], LOGS, by, lambda: NOW, rules=[], block_bytes=9000)
    assert (done.counts["recorded"], done.problems) == (400, [])
    one = Store(f"sqlite:///{tmp_path}/one.db")
    one.create()
    with parsing(1) as by:
        backfill_to_store(one, [str(path)], LOGS, by, lambda: NOW, rules=[], block_bytes=9000)
    assert comparable(stored_rows(sqlite_store, "job"), ()) == comparable(stored_rows(one, "job"), ())
    one.close()
