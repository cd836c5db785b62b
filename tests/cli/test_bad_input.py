"""Bad input of every kind: a clear message, the right exit status, good neighbours kept, nothing marked sent that was not."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.site import ENDED, Site, blah, lsf
from tests.cli.test_parse import noise

GOOD_BEFORE, GOOD_AFTER = lsf(1), lsf(2)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lsf(9)[: lsf(9).index(b" 1415409")] + b"\n", "the record ends before field"),
        (b"\x00\x01\xfe\xff binary \x1b\n", "it does not begin with an event type in quotes"),
        (lsf(9).replace(b'"./run.sh"', b'"./run.sh'), "a bare word was found"),
        (b'"JOB_FINISH" "10.1" 1 2 3\n', "the record ends before field"),
        (lsf(9).replace(b" 33554434 ", b' "x" '), "field"),
        (lsf(9, submit=-5), "submitTime is impossible: before 1970 or after 2099"),
        (lsf(9, end=ENDED - 99_999), "the job ended before it started"),
        (lsf(9, end=4_294_967_295), "eventTime is impossible: before 1970 or after 2099"),
        (lsf("x9"), "field"),
        (lsf(2**70), "jobId"),
    ],
    ids=["truncated", "binary", "open-quote", "few-fields", "text-for-number", "negative-time", "end-before-start", "year-2106",
         "job-id-text", "job-id-huge"],
)  # fmt: skip
def test_a_bad_lsf_line_costs_only_itself(site: Site, bad: bytes, reason: str) -> None:
    site.write([GOOD_BEFORE, bad, GOOD_AFTER])
    done = site.run("collect", "--once")
    assert (done.status, done.err) == (0, "")
    books = site.source("lsf")
    assert (books["units"], books["recorded"], books["rejected"]) == (3, 2, 1)
    listed = site.good("rejects", "list")
    assert reason in listed
    assert str(site.lsf_log) in listed
    assert f"{len(GOOD_BEFORE):,}" in listed
    site.good("publish", "--once")
    assert _published(site) == ["1", "2"]


def _published(site: Site) -> list[str]:
    lines = "".join(site.messages()).splitlines()
    return sorted(line.partition(": ")[2] for line in lines if line.startswith("LocalJobId"))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (blah(9)[:100] + b"\n", "a quote is not closed"),
        (b"\x00\xfe rubbish\n", "text outside the quotes"),
        (b'"timestamp=2026-10-29 10:00:00" "lrmsID=9"\n', ""),
        (blah(9, at="2026-02-30 10:00:00"), ""),
        (blah(9, at="soon"), ""),
        (blah(9, ce="ce99.example.org:8443/x"), "no cluster is configured for CE ce99.example.org:8443/x: add it to [ce]"),
    ],
    ids=["truncated", "binary", "few-fields", "no-such-day", "no-time", "unknown-ce"],
)
def test_a_bad_blah_line_costs_only_itself(site: Site, bad: bytes, reason: str) -> None:
    site.write([GOOD_BEFORE, GOOD_AFTER], [blah(1), bad, blah(2)])
    site.good("collect", "--once")
    books = site.source("ce")
    assert (books["units"], books["recorded"], books["rejected"]) == (3, 2, 1)
    assert reason in site.good("rejects", "list")
    site.good("publish", "--once")
    assert "".join(site.messages()).count("Ada Lovelace") == 2


def test_a_job_that_never_started_is_a_record_and_not_published(site: Site) -> None:
    site.write([GOOD_BEFORE, lsf(3, start=0), GOOD_AFTER])
    site.good("collect", "--once")
    assert site.source("lsf")["recorded"] == 3
    site.good("publish", "--once")
    assert _published(site) == ["1", "2"]
    assert "excluded: never started" in site.good("why", "3")
    assert site.status()["balanced"]


@pytest.mark.parametrize("megabytes", [10, 20])
def test_a_very_long_line(site: Site, megabytes: int) -> None:
    site.write([GOOD_BEFORE, b'"JOB_FINISH" "' + b"x" * (megabytes << 20) + b'"\n', GOOD_AFTER])
    site.good("collect", "--once")
    books = site.source("lsf")
    assert (books["units"], books["recorded"], books["rejected"]) == (3, 2, 1)
    done = site.run("rejects", "replay")
    assert done.status == 13
    assert f"only 65,536 of its {(megabytes << 20) + 15:,} bytes were kept; {site.lsf_log} has the rest" in done.err.replace(
        "16 bytes", "15"
    )


def test_names_that_are_no_utf8(site: Site) -> None:
    site.write([lsf(1, user=b"J\xf6rg"), lsf(2)], [blah(1, dn=b"/DC=ch/CN=J\xf6rg"), blah(2, dn="/DC=ch/CN=Jörg".encode())])
    site.good("collect", "--once")
    site.good("publish", "--once")
    assert _published(site) == ["1", "2"]
    assert site.status()["balanced"]


def test_duplicates_are_known(site: Site) -> None:
    site.write([lsf(1), lsf(1), lsf(2)], [blah(1), blah(1)])
    site.good("collect", "--once")
    for name, units in (("lsf", 3), ("ce", 2)):
        books = site.source(name)
        assert (books["units"], books["recorded"], books["known"]) == (units, units - 1, 1)
    site.good("publish", "--once")
    site.good("collect", "--once")
    site.good("publish", "--once")
    assert _published(site) == ["1", "2"]


def test_an_empty_file(site: Site) -> None:
    site.good("collect", "--once")
    site.good("publish", "--once")
    assert site.messages() == []
    assert site.status()["balanced"]


def test_a_missing_file_and_a_folder_keep_nobody_from_being_read(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    text = site.config.read_text()
    (site.folder / "logs/folder").mkdir()
    paths = f'"{site.folder}/none", "{site.folder}/logs/folder", "{site.lsf_log}"'
    site.config.write_text(text.replace(f'"{site.lsf_log}*"', paths))
    done = site.run("collect", "--once")
    assert done.status == 13
    assert f"{site.folder}/none does not exist: check the path, or the source's `paths` in the configuration" in done.err
    assert f"{site.folder}/logs/folder is a folder: name the files in it" in done.err
    assert "2 files or sources were not read, see above; what else there is was" in done.err
    assert (site.source("lsf")["recorded"], site.source("ce")["recorded"]) == (1, 1)
    assert site.source("lsf")["read_to_end_at"] is None
    assert f"{site.folder}/none does not exist: check the path" in site.good("status")


def test_a_job_id_below_one(site: Site) -> None:
    site.write([lsf(0), lsf(1), lsf(-3)])
    site.good("collect", "--once")
    assert (site.source("lsf")["recorded"], site.source("lsf")["rejected"]) == (1, 2)
    assert site.good("rejects", "list").count("jobId is impossible") == 2


def test_a_file_whose_name_is_no_utf8(site: Site) -> None:
    site.write([lsf(1)])
    (site.folder / b"logs/lsb.acct\xff".decode("utf-8", "surrogateescape")).write_bytes(lsf(2))
    site.good("collect", "--once")
    assert site.source("lsf")["recorded"] == 2
    assert "lsb.acct\\xff" in site.good("why", "2")


def test_a_truncated_log_is_refused_until_told(site: Site) -> None:
    site.write(lsf(n) for n in range(1, 21))
    site.good("collect", "--once")
    site.write(lsf(n) for n in range(1, 11))
    done = site.run("collect", "--once")
    assert done.status == 13
    assert f"`batchacct collect --once --from-start {site.lsf_log} lsf` does so" in done.err
    assert site.source("lsf")["recorded"] == 20
    site.good("collect", "--once", "--from-start", site.lsf_log)
    assert (site.source("lsf")["recorded"], site.source("lsf")["known"]) == (20, 10)


def test_a_connection_file_for_everybody_and_an_unknown_key(site: Site) -> None:
    secret = site.folder / "connection"
    secret.write_text("postgresql://batchacct:hunter2@localhost/batchacct\n")
    secret.chmod(0o644)
    site.configure(database=f'connection_file = "{secret}"')
    done = site.run("status")
    assert done.status == 3
    assert f"run `chmod o-r {secret}`" in done.err
    secret.write_text(f"sqlite:///{site.folder}/batchacct.db\n")
    assert site.run("status").status == 0, "there is no password in it"
    site.configure(more="bunhc = 3\n")
    done = site.run("status")
    assert (done.status, done.err) == (
        3,
        f"batchacct: configuration {site.config}:\n  publish.bunhc: there is no such key; did you mean bunch?\n",
    )


@pytest.mark.parametrize(
    "command", [("status",), ("collect", "--once"), ("publish", "--once"), ("db", "create"), ("why", "1"), ("report",)]
)
@pytest.mark.parametrize(
    ("url", "status", "told"),
    [
        ("postgresql+psycopg://u:hunter2@127.0.0.1:1/d", 7, "Connection refused. Is the server running, and the address right?"),
        ("sqlite:////dev/null/b.db", 7, "the folder of the database, /dev/null, "),
        ("nosuch://x", 3, "nosuch"),
    ],
)
def test_a_database_that_cannot_be_reached(site: Site, command: tuple[str, ...], url: str, status: int, told: str) -> None:
    site.configure(database=f'url = "{url}"')
    site.config.chmod(0o600)
    done = site.run(*command)
    assert (done.status, done.output) == (status, b"")
    assert told in done.err
    assert "hunter2" not in done.err


def test_a_database_that_is_something_else(site: Site) -> None:
    (site.folder / "batchacct.db").write_bytes(b"something else " * 1000)
    done = site.run("status")
    assert done.status == 7
    assert "restore it from a backup" in done.err


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs at `folder`; skips where this user may not mount one."""
    folder.mkdir(exist_ok=True)
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a tmpfs takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [("ro", "The file system is read-only"), ("size=4k", "The file system is full: make room")],
)
def test_an_outgoing_folder_that_takes_nothing(site: Site, options: str, told: str) -> None:
    site.write([lsf(n) for n in range(1, 40)], [blah(1)])
    site.good("collect", "--once")
    with _mounted(site.folder / "outgoing", options):
        done = site.run("publish", "--once")
        assert done.status == 9
        assert told in done.err
        assert str(site.folder / "outgoing") in done.err
        sent = site.status()["destinations"][0]
        assert (sent["confirmed"], sent["unsent"], site.status()["balanced"]) == (0, 39, True)
        assert told in site.good("status")
        assert "not handed over yet" in site.good("why", "1")
        assert site.messages() == []
    site.good("publish", "--once")
    assert (site.status()["destinations"][0]["confirmed"], len(_published(site))) == (39, 39)


def test_an_outgoing_folder_whose_parent_is_missing(site: Site) -> None:
    site.configure(ce='"*" = "lsf1"', outgoing=site.folder / "no/outgoing")
    site.write([lsf(1)])
    site.good("collect", "--once")
    done = site.run("publish", "--once")
    assert done.status == 9
    assert "Create the folder that is missing, or set another one." in done.err
    assert site.status()["destinations"][0]["confirmed"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_fuzz_collect(site: Site, seed: int) -> None:
    """Whatever the bytes: no exception, the books balance, and a second run finds nothing new."""
    chance = random.Random(seed)
    site.write([noise(chance, lsf(1)), b"\n", GOOD_AFTER], [noise(chance, blah(1)), b"\n", blah(2)])
    assert site.run("collect", "--once").status == 0
    books = site.status()
    assert books["balanced"]
    assert "job 2 on lsf1" in site.good("why", "2")
    site.good("publish", "--once")
    again = site.status()
    assert again["balanced"]
    site.good("collect", "--once")
    assert site.status()["sources"][0]["units"] == books["sources"][0]["units"]
