"""acct of 2012, run as a process and as a daemon."""

from __future__ import annotations

import gzip
import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from batchacct.demo.farm import write_logs
from batchacct.demo.lines import LsfJob, lsf_line
from batchacct.parsing.reading import BLOCK_BYTES
from batchacct.store import Store
from batchacct.store.tables import followed_file, job, load, reject
from tests.demo.independent import read_logs
from tests.scripts_2012 import Site, is_running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

END_AT = 1_335_614_400
ACCT, CREATE = "loccol.acct", "loccol.create"
ACCT_LSB = (ACCT, "-c", "conn", "-a", "lsb.acct")


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    """A site with an SQLite database that is not made yet."""
    made = Site(tmp_path, sqlite_url, now=END_AT)
    yield made
    made.kill_what_runs()


@pytest.fixture
def created(site: Site) -> Site:
    assert site.call(CREATE, "-c", "conn").status == 0
    return site


def line(job_id: int) -> bytes:
    at = 1_335_000_000 + job_id
    return lsf_line(LsfJob("normal", "anna", 20_410, at + 900, at, at + 60, job_id, cpu_us=(500_000_000, 0), host_factor=2.0))


def append(path: Path, *job_ids: int) -> None:
    with path.open("ab") as file:
        file.write(b"".join(map(line, job_ids)))


# --- acct ----------------------------------------------------------------------------------------------------------------------


def test_create_then_acct_on_each_database(tmp_path: Path, store_url: str) -> None:
    site = Site(tmp_path, store_url, now=END_AT)
    write_logs(tmp_path, jobs=600, seed=5, end_at=END_AT)
    assert site.ok(CREATE, "--connfile", "conn").out == "created\n"
    assert site.ok(CREATE, "-c", "conn").out == "was there already, in this program's version\n"
    first = site.ok(ACCT, "--connfile", "conn", "--acctfile", "lsb.acct")
    expected = read_logs(tmp_path, {}, END_AT).counts
    assert f"3 files read: inserted {expected['lsf_jobs']} records" in first.err
    assert site.count(job) == expected["lsf_jobs"]
    assert site.count(reject) == expected["lsf_rejected"]
    assert "inserted 0 records, already known 0" in site.ok(*ACCT_LSB).err


def test_acct_reads_its_file_and_what_it_was_rotated_to_and_nothing_else(created: Site) -> None:
    folder = created.folder
    (folder / "lsb.acct.2.gz").write_bytes(gzip.compress(line(1)))
    for number, name in enumerate(("lsb.acct.1", "lsb.acct", "lsb.acct.index", "lsb.acct.1.bak", "lsb.acct.old"), 2):
        append(folder / name, number)
    created.done(*ACCT_LSB)
    assert _job_ids(created) == ["1", "2", "3"]


def test_acct_wants_the_schema_and_says_how_to_make_it(site: Site) -> None:
    append(site.folder / "lsb.acct", 1)
    outcome = site.call(*ACCT_LSB)
    assert outcome.status == 8
    assert "python -m loccol.create -c conn" in outcome.err
    assert "batchacct db create" in outcome.err


def test_acct_default_source_and_configured_one(created: Site) -> None:
    append(created.folder / "lsb.acct", 1)
    said = created.done(*ACCT_LSB).err
    assert "source acct, cluster default" in said
    created.write(
        "batchacct.toml",
        f'''site = "A-SITE"
[database]
url = "sqlite:////nowhere.db"
[[source]]
name = "elsewhere"
parser = "lsf"
paths = ["/elsewhere/lsb.acct*"]
cluster = "other"
[[source]]
name = "master"
parser = "lsf"
paths = ["{created.folder}/lsb.acct*"]
cluster = "other"
[[cluster]]
name = "other"
''',
    )
    append(created.folder / "lsb.acct", 2)
    created.done(*ACCT_LSB)
    found = _rows(created, select(job.c.lrms_job_id, job.c.source, job.c.cluster, job.c.site).order_by(job.c.id))
    assert [row for row in found if row[1] == "acct"] == [("1", "acct", "default", None)]
    assert ("2", "master", "other", "A-SITE") in found
    created.write("batchacct.toml", "site =")
    assert created.call(*ACCT_LSB).status == 3


def test_acct_dry_run_tells_and_writes_nothing(created: Site) -> None:
    append(created.folder / "lsb.acct", 1, 2)
    with (created.folder / "lsb.acct").open("ab") as file:
        file.write(b'"JOB_FINISH" "10.1" broken\n')
    outcome = created.done(*ACCT_LSB, "--dryrun")
    assert "would insert job lsf:default:2:" in outcome.err
    assert "would reject" in outcome.err
    assert "Would insert 2 records" in outcome.err
    assert [created.count(table) for table in (job, load, reject, followed_file)] == [0, 0, 0, 0]
    created.done(*ACCT_LSB)
    assert "Would insert 0 records" in created.done(*ACCT_LSB, "-d").err
    assert created.call(*ACCT_LSB, "-d", "-p", "x.pid").status == 3


def test_acct_logs_to_a_file_and_errors_to_standard_error_too(created: Site) -> None:
    append(created.folder / "lsb.acct", 1)
    assert created.done(*ACCT_LSB, "-l", "acct.log").err == ""
    lines = created.text("acct.log").splitlines()
    assert lines[-1].split(" ", 2)[2] == "INFO 1 files read: inserted 1 records, already known 0, skipped 0, rejected 0"
    (created.folder / "lsb.acct").unlink()
    outcome = created.call(*ACCT_LSB, "-l", "acct.log")
    assert outcome.status == 10
    assert outcome.err.startswith("acct: ")
    assert "does not exist" in created.text("acct.log")
    assert created.call(*ACCT_LSB, "-l", "no/such/folder.log").status == 3


def test_acct_reads_the_other_files_when_one_cannot_be_read(created: Site) -> None:
    append(created.folder / "lsb.acct", 1)
    (created.folder / "lsb.acct.1.gz").write_bytes(gzip.compress(line(2) * 100)[:-20])
    assert created.call(*ACCT_LSB).status == 10
    assert "1" in _job_ids(created)
    (created.folder / "lsb.acct.2.gz").write_bytes(gzip.compress(line(3) * 100)[:-20])
    assert created.call(*ACCT_LSB).status == 13


def test_connection_files_that_cannot_be_used(site: Site) -> None:
    append(site.folder / "lsb.acct", 1)
    site.write("conn", "postgresql://u:hunter2@localhost/d\n").chmod(0o644)
    refused = site.call(*ACCT_LSB)
    assert refused.status == 3
    assert "chmod o-r" in refused.err
    (site.folder / "conn").unlink()
    assert site.call(*ACCT_LSB).status == 3
    for content in ("nonsense\n", "nonsense://\n", "sqlite://\n", "mssql://h/d\n"):
        site.write("conn", content).chmod(0o640)
        outcome = site.call(*ACCT_LSB)
        assert (outcome.status, "Traceback" in outcome.err) == (3, False), outcome
    site.write("conn", f"sqlite:///{site.folder}/no/such.db\n").chmod(0o640)
    assert site.call(*ACCT_LSB).status == 7
    assert site.call(ACCT, "-a", "lsb.acct").status == 2


@pytest.mark.skipif(importlib.util.find_spec("oracledb") is not None, reason="the Oracle driver is installed")
def test_oracle_connection_file_of_2012_names_the_extra(site: Site) -> None:
    append(site.folder / "lsb.acct", 1)
    site.write("conn", "acct/secret@lcgdb\n").chmod(0o640)
    for arguments in (ACCT_LSB, (CREATE, "-c", "conn"), ("cecol.whisk", "-c", "conn", "-a", "."), (CREATE, "-c", "conn", "-d")):
        outcome = site.call(*arguments)
        assert outcome.status == 3
        assert "batchacct[oracle]" in outcome.err
        assert "secret" not in outcome.err


# --- a daemon ------------------------------------------------------------------------------------------------------------------


def test_daemon_follows_appended_lines_and_rotation_and_ends_on_sigterm(created: Site) -> None:
    acctfile = created.folder / "lsb.acct"
    append(acctfile, 1)
    pid = created.start(*ACCT_LSB, "--heartbeatdelta", "0.01")
    until(lambda: created.count(job) == 1)
    append(acctfile, 2)
    until(lambda: created.count(job) == 2)
    append(acctfile, 3)
    acctfile.rename(created.folder / "lsb.acct.1")
    append(acctfile, 4)
    until(lambda: created.count(job) == 4)
    busy = created.run(*ACCT_LSB, "-p", "daemon.pid")
    assert busy.status == 12
    assert f"process {pid}" in busy.err
    until(lambda: "Inserted 0 records in the last 0.01 minutes" in created.text())
    created.stop(pid)
    assert not (created.folder / "daemon.pid").exists()
    assert created.text().endswith("INFO ended\n")
    assert sum(int(beat.split()[4]) for beat in created.text().splitlines() if " Inserted " in beat) == 4
    assert [path.name for path in created.folder.glob(".daemon*")] == []
    assert "inserted 0 records" in created.ok(*ACCT_LSB).err


def test_daemon_is_a_daemon(created: Site) -> None:
    append(created.folder / "lsb.acct", 1)
    pid = created.start(*ACCT_LSB)
    process = Path(f"/proc/{pid}")
    assert (process / "cwd").readlink() == Path("/")
    assert [str((process / "fd" / str(stream)).readlink()) for stream in range(3)] == ["/dev/null"] * 3
    assert os.getsid(pid) not in {os.getsid(0), pid}, "a session of its own, which it does not lead"
    os.kill(pid, signal.SIGHUP)
    append(created.folder / "lsb.acct", 2)
    until(lambda: created.count(job) == 2)
    (created.folder / "daemon.log").rename(created.folder / "daemon.log.1")
    created.stop(pid)
    assert created.text().endswith("INFO ended\n"), "logrotate has renamed the log"


def test_pid_file_of_a_killed_daemon_is_replaced(created: Site) -> None:
    append(created.folder / "lsb.acct", 1)
    killed = created.start(*ACCT_LSB)
    os.kill(killed, signal.SIGKILL)
    until(lambda: not is_running(killed))
    assert created.text("daemon.pid") == f"{killed}\n"
    pid = created.start(*ACCT_LSB)
    assert pid != killed
    assert f"process {killed}, which did not end as it should, is replaced" in created.text()
    created.stop(pid)


def test_pid_file_that_names_a_process_of_somebody_else_is_stale(created: Site) -> None:
    append(created.folder / "lsb.acct", 1)
    created.write("daemon.pid", f"{os.getpid()}\n")
    pid = created.start(*ACCT_LSB)
    assert pid != os.getpid()
    assert f"process {os.getpid()}, which did not end as it should, is replaced" in created.text()
    created.stop(pid)


def test_what_is_wrong_is_told_before_the_daemon_starts(created: Site) -> None:
    daemon = (*ACCT_LSB, "-p", "daemon.pid", "-l", "daemon.log")
    assert created.run(*daemon).status == 10
    append(created.folder / "lsb.acct", 1)
    assert created.run(*ACCT_LSB, "-p", "no/such/daemon.pid", "-l", "daemon.log").status == 3
    (created.folder / "batchacct.db").rename(created.folder / "away.db")
    assert created.run(*daemon).status == 8
    assert not (created.folder / "daemon.pid").exists()


def test_daemon_goes_on_when_the_database_is_back(created: Site) -> None:
    append(created.folder / "lsb.acct", 1)
    pid = created.start(*ACCT_LSB)
    until(lambda: created.count(job) == 1)
    _do(created, "ALTER TABLE load RENAME TO gone")
    append(created.folder / "lsb.acct", 2)
    until(lambda: "ERROR database" in created.text())
    assert is_running(pid)
    _do(created, "ALTER TABLE gone RENAME TO load")
    until(lambda: created.count(job) == 2)
    created.stop(pid)


def test_sigterm_ends_a_long_reading_soon_and_between_two_blocks(created: Site) -> None:
    acctfile = created.folder / "lsb.acct"
    append(acctfile, *range(1, 60_001))
    assert acctfile.stat().st_size > BLOCK_BYTES * 4
    pid = created.start(*ACCT_LSB)
    until(lambda: created.count(job) > 0)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not is_running(pid))
    [(offset,)] = _rows(created, select(followed_file.c.offset))
    assert isinstance(offset, int)
    assert len(line(1)) < offset <= acctfile.stat().st_size, "it goes on for two seconds at the most"
    assert created.text().endswith("INFO ended\n")
    created.call(*ACCT_LSB)
    assert created.count(job) == 60_000


def _job_ids(site: Site) -> list[str]:
    return sorted(str(row[0]) for row in _rows(site, select(job.c.lrms_job_id)))


def _rows(site: Site, query: object) -> list[tuple[object, ...]]:
    store = Store(site.url)
    with store.reading() as connection:
        rows = [tuple(row) for row in connection.execute(query)]  # type: ignore[call-overload]
    store.close()
    return rows


def _do(site: Site, statement: str) -> None:
    store = Store(site.url)
    with store.writing() as connection:
        connection.execute(text(statement))
    store.close()
