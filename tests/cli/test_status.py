"""`status`: what is read of each source, what is left, and what a person should look into; catching up through rotations."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from batchacct.store import Store
from batchacct.store.positions import note_state
from tests.cli.site import DAY, NOW, Site, blah, lsf
from tests.fix_stores import empty

HOUR = 3600


def following(site: Site, name: str = "lsf", now: int = NOW) -> dict[str, Any]:
    told = json.loads(site.run("status", "--json", now=now).out)
    return next(one for one in told["following"] if one["source"] == name)


def table(text: str, title: str) -> list[list[str]]:
    """The cells of the rows of a table."""
    lines = text.split(title + "\n", 1)[1].splitlines()
    rows = []
    for line in lines[3:]:
        if not line.startswith("│"):
            break
        rows.append([cell.strip() for cell in line.strip("│").split("│")])
    return rows


def test_a_source_that_was_never_read(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    os.utime(site.lsf_log, (NOW - 500, NOW - 500))
    told = following(site)
    size = len(lsf(1))
    assert (told["file"], told["offset"], told["size"]) == (str(site.lsf_log), 0, size)
    assert (told["unread_bytes"], told["unread_files"], told["lag_s"], told["read_to_end_at"]) == (size, 1, 500, None)
    assert table(site.good("status"), "Sources, in bytes")[0][-2:] == ["never", "reading"]


def test_a_source_that_is_read_to_its_end(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    told = following(site, now=NOW + 40)
    assert (told["file"], told["offset"], told["size"]) == (str(site.lsf_log), len(lsf(1)), len(lsf(1)))
    assert (told["unread_bytes"], told["unread_files"], told["lag_s"], told["read_to_end_at"]) == (0, 0, 0, NOW)
    row = table(site.run("status", now=NOW + 40).out, "Sources, in bytes")[0]
    expected = ["lsf", site.lsf_log.name, str(len(lsf(1))), "0", "0", "0 s", "2026-10-29 12:00:00Z", "40 s ago", "ok"]
    assert row == expected


def test_the_lag_is_since_it_was_last_known_to_be_read_to_its_end(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    with site.lsf_log.open("ab") as stream:
        stream.write(lsf(2))
    told = following(site, now=NOW + 90)
    assert (told["unread_bytes"], told["unread_files"], told["lag_s"]) == (len(lsf(2)), 1, 90)
    assert following(site, "ce", now=NOW + 90)["lag_s"] == 0


def test_an_unfinished_line_is_no_lag(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    with site.lsf_log.open("ab") as stream:
        stream.write(lsf(2)[:100])
    told = following(site, now=NOW + 90)
    assert (told["unread_bytes"], told["unfinished_bytes"], told["lag_s"]) == (0, 100, 0)
    assert "unfinished unit of 100 bytes waits" in site.good("status")
    with site.lsf_log.open("ab") as stream:
        stream.write(lsf(2)[100:] + b"x")
    told = following(site, now=NOW + 90)
    assert (told["unread_bytes"], told["unfinished_bytes"], told["lag_s"]) == (len(lsf(2)) + 1, 0, 90)


def test_catching_up_through_rotations(site: Site) -> None:
    """Five rotations while nobody read: which file is next, how far it is read, and how much is left in how many."""
    site.write([lsf(1), lsf(2)], [blah(1)])
    site.good("collect", "--once")
    with site.lsf_log.open("ab") as stream:
        stream.write(lsf(3))
    for number in range(5):
        _rotate(site.lsf_log)
        site.lsf_log.write_bytes(lsf(10 + number) + lsf(20 + number))
    oldest = site.lsf_log.with_name("lsb.acct.5")
    told = following(site, now=NOW + HOUR)
    left = len(lsf(3)) + 5 * 2 * len(lsf(10))
    read = len(lsf(1) + lsf(2))
    assert (told["file"], told["offset"], told["size"]) == (str(oldest), read, read + len(lsf(3)))
    assert (told["unread_bytes"], told["unread_files"], told["lag_s"]) == (left, 6, HOUR)
    row = table(site.run("status", now=NOW + HOUR).out, "Sources, in bytes")[0]
    assert row[:6] == ["lsf", oldest.name, f"{read:,}", f"{left:,}", "6", "1 h"]
    assert row[-1] == "reading"
    _collect_one_file_more(site)
    told = following(site, now=NOW + HOUR)
    assert (told["file"], told["offset"], told["unread_files"]) == (str(oldest.with_suffix(".4")), 0, 5)
    assert told["lag_s"] == HOUR, "the oldest file is read, and nothing else"
    assert site.run("collect", "--once", now=NOW + HOUR).status == 0
    told = following(site, now=NOW + HOUR)
    assert (told["file"], told["unread_bytes"], told["unread_files"], told["lag_s"]) == (str(site.lsf_log), 0, 0, 0)


def _collect_one_file_more(site: Site) -> None:
    """As a collector does that is stopped when it has read the oldest file."""
    whole = site.config.read_text()
    site.config.write_text(whole.replace("lsb.acct*", "lsb.acct.5"))
    site.run("collect", "--once", "lsf", now=NOW + HOUR)
    with sqlite3.connect(site.folder / "batchacct.db") as database:
        database.execute("UPDATE source_state SET read_to_end_at = ? WHERE name = 'lsf'", (NOW,))
    database.close()
    site.config.write_text(whole)


def _rotate(path: Path) -> None:
    for number in range(9, 0, -1):
        old = path.with_name(f"{path.name}.{number}")
        if old.exists():
            old.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))


def test_compressed_files_that_are_known_are_read(site: Site) -> None:
    site.lsf_log.with_name("lsb.acct.1.gz").write_bytes(gzip.compress(lsf(1)))
    site.write([lsf(2)], [blah(1)])
    assert following(site)["unread_files"] == 2
    site.good("collect", "--once")
    assert following(site)["unread_files"] == 0


def test_a_log_that_is_copied_compressed_and_truncated(site: Site) -> None:
    """Its place has other content then, as has that of a deleted file whose inode is given again: what is compressed is read."""
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    site.lsf_log.with_name("lsb.acct.1.gz").write_bytes(gzip.compress(lsf(1)))
    for there in (b"", lsf(2)):
        site.lsf_log.write_bytes(there)
        site.good("collect", "--once")
        told = following(site)
        assert (told["unread_bytes"], told["unread_files"]) == (0, 0)


def test_a_compressed_copy_of_a_log_that_is_still_there(site: Site) -> None:
    """The log is read on where it is."""
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    site.lsf_log.with_name("lsb.acct.1.gz").write_bytes(gzip.compress(lsf(1)))
    site.good("collect", "--once")
    with site.lsf_log.open("ab") as log:
        log.write(lsf(2))
    site.good("collect", "--once")
    assert (site.source("lsf")["recorded"], site.source("lsf")["known"]) == (2, 0)


def test_what_a_collector_noted_is_told(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    store = Store(f"sqlite:///{site.folder}/batchacct.db")
    note_state(store, "lsf", {"last_error": "it may not be read", "last_error_at": NOW - 61, "warning": "a copy?"}, lost_bytes=1234)
    store.close()
    told = following(site)
    assert (told["last_error"], told["last_error_at"], told["warning"], told["lost_bytes"]) == (
        "it may not be read", NOW - 61, "a copy?", 1234,
    )  # fmt: skip
    text = site.good("status")
    assert table(text, "Sources, in bytes")[0][-1] == "error, warning, bytes lost"
    assert "WARNING: source lsf, last error (1 min 1 s ago): it may not be read\n" in text
    assert "WARNING: source lsf: a copy?\n" in text
    assert "WARNING: source lsf: 1,234 bytes were destroyed before they could be read\n" in text


def test_a_file_that_may_not_be_looked_at_is_no_failure(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.lsf_log.unlink()
    site.lsf_log.symlink_to(site.folder / "nowhere")
    assert following(site)["unread_bytes"] == 0


def _hourly(days: int) -> list[bytes]:
    """A job an hour, each an hour long, that ended until `NOW`; ids in order."""
    first = NOW - days * DAY
    return [
        lsf(1000 + hour, submit=first + (hour - 1) * HOUR - 60, start=first + (hour - 1) * HOUR, end=first + hour * HOUR)
        for hour in range(days * 24 + 1)
    ]


def test_a_silent_source_is_a_warning_and_no_failure(site: Site) -> None:
    site.write(_hourly(15), [blah(1)])
    site.good("collect", "--once")
    assert "has been silent" not in site.good("status")
    late = site.run("status", now=NOW + 6 * HOUR)
    assert late.status == 0
    assert table(late.out, "Sources, in bytes")[0][-1] == "silent"
    assert (
        "WARNING: source lsf has been silent for 6 h, since 2026-11-01 12:00:00Z; its rhythm explains 5 h: does the batch system "
        "still write this log?" in late.out
    )


def test_the_site_says_how_long_a_source_may_be_silent(site: Site) -> None:
    site.config.write_text(site.config.read_text().replace('cluster = "lsf1"\n', 'cluster = "lsf1"\nlongest_silence = "4h"\n', 1))
    site.write(_hourly(15), [blah(1)])
    site.good("collect", "--once")
    assert "has been silent" not in site.run("status", now=NOW + 4 * HOUR).out
    assert "has been silent for 5 h" in site.run("status", now=NOW + 5 * HOUR).out


def test_a_source_with_something_unread_is_not_called_silent(site: Site) -> None:
    """Nobody has listened: what it told meanwhile is not known."""
    site.write(_hourly(15), [blah(1)])
    site.good("collect", "--once")
    with site.lsf_log.open("ab") as stream:
        stream.write(lsf(9000))
    assert "has been silent" not in site.run("status", now=NOW + 6 * HOUR).out


@pytest.mark.parametrize("lost", [False, True])
def test_a_hole_in_the_job_ids_is_a_warning(site: Site, lost: bool) -> None:
    """A day's lines that never came; with them there is no hole."""
    lines = _hourly(40)
    site.write([line for number, line in enumerate(lines) if not lost or not 480 <= number < 504], [blah(1)])
    site.good("collect", "--once")
    told = site.good("status")
    hole = (
        "WARNING: cluster lsf1: 24 job ids between 1480 and 1503 are in no log, though jobs of that time have ended (submitted "
        "2026-10-12"
    )
    assert (hole in told) is lost
    holes = site.status()["gaps"]["holes"]
    assert [(h["cluster"], h["span"]["first"], h["span"]["missing"]) for h in holes] == ([("lsf1", 1480, 24)] if lost else [])


def test_rows_without_a_partition_of_their_month_are_told(site: Site, postgresql_url: str) -> None:
    empty(postgresql_url)
    site.configure(database=f'url = "{postgresql_url}"', ce='"*" = "lsf1"')
    site.good("db", "create")
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    told = site.good("status")
    for name in ("job", "identity"):
        assert f"WARNING: rows of table {name} of 2026-10 are in the catch-all, not in a partition of their month" in told
    assert "run `batchacct db partition`" in told
    site.good("db", "partition")
    assert "catch-all" not in site.good("status")
