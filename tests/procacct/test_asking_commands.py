"""`batchacct procs top|programs|jobs|usage-records`: as a user runs them, in each form of output."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert, update

from batchacct.cli.instants import instant
from batchacct.errors import BatchacctError, ConfigError, IncompleteError
from batchacct.store import Store
from batchacct.store.tables import benchmark, process, usage
from procacct.commands import procs
from tests.procacct.workload import HOUR, T0, a_job, a_process, add, add_objects, add_processes, an_object, decide
from tests.usage_record_reader import UR, assert_valid, read_records


class Asker:
    """A store of one job with three programs, and its configuration."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store = store
        self.config = folder / "batchacct.toml"
        self.config.write_text(
            f'site = "S"\n[database]\nurl = "{store.engine.url}"\n[[cluster]]\nname = "c1"\nmachine_name = "master.example.org"\n'
            '[[application]]\nname = "Shells"\nprograms = ["*/bash"]\n',
            encoding="utf-8",
        )

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(procs, [*words, "--config", str(self.config)])

    def good(self, *words: str) -> Result:
        result = self.run(*words)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def error(self, *words: str) -> BatchacctError:
        error = self.run(*words).exception
        assert isinstance(error, BatchacctError), error
        return error


@pytest.fixture
def asker(tmp_path: Path, sqlite_store: Store) -> Asker:
    return Asker(tmp_path, sqlite_store)


@pytest.fixture
def filled(asker: Asker) -> Asker:
    add(asker.store, a_job("7", T0, T0 + HOUR))
    decide(asker.store, {"7": "atlas"})
    add_processes(
        asker.store,
        a_process("7", T0 + 1, T0 + 3601, pid=10, parent_pid=1, program="/bin/bash", cpu_user_s=3.0, cpu_system_s=0.0),
        a_process("7", T0 + 2, T0 + 1802, pid=11, parent_pid=10, program="/opt/sim", cpu_user_s=1797.0, object_set="s"),
        a_process("7", T0 + 3, pid=12, parent_pid=11, program="/bin/ls", processes=40, record_key="sum/n1"),
    )
    add_objects(asker.store, an_object("s", "/lib64/libc.so.6"))
    return asker


def test_top_as_a_table(filled: Asker) -> None:
    out = filled.good("top").output
    assert out.startswith("Programs by program, 2026-11-01 00:00:13Z to 2026-11-01 01:00:02Z\n")
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert lines == [
        ["/opt/sim", "1", "1", "1", "0.5", "0.5"],
        ["/bin/bash", "1", "1", "1", "0.00083", "1.0"],
        ["/bin/ls", "40", "1", "1", "0.00028", "0.0028"],
    ]
    assert "Of 0.5 CPU h of the 1 job that ended in this time 100% is in processes seen." in out


def test_top_for_programs(filled: Asker) -> None:
    told = json.loads(
        filled.good("top", "--by", "application", "--format", "json", "--from", "2026-11-01", "--to", "2026-12").output
    )
    assert [(row["application"], row["executions"], row["cpu_s"]) for row in told["rows"]] == [
        ("sim", 1, 1797.25),
        ("Shells", 1, 3.0),
        ("ls", 40, 1.0),
    ]
    assert (told["begin"], told["by"]) == ("2026-11-01 00:00:00Z", "application")
    assert len(told["notes"]) == 2
    result = filled.good("top", "--format", "csv", "--limit", "1", "--sort", "executions")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert row == {
        "program": "/bin/ls", "executions": "40", "jobs": "1", "users": "1", "cpu_s": "1.0", "elapsed_s": "10.0",
        "cpu_unknown_executions": "0",
    }  # fmt: skip
    assert result.stderr.startswith("2 more rows, of 0.5 CPU h: --limit shows more.\n")


def test_top_says_that_libraries_overlap(filled: Asker) -> None:
    out = filled.good("top", "--by", "library", "--vo", "atlas").output
    assert "Programs, VO atlas by library" in out
    assert "Rows overlap" in out


def test_programs_as_a_tree(filled: Asker) -> None:
    out = filled.good("programs", "7", "--libraries").output
    assert out.startswith("Job 7 on c1, user alice, 2026-11-01 00:00:00Z to 2026-11-01 01:00:00Z\n")
    names = [line.split("│")[1].rstrip() for line in out.splitlines() if line.startswith("│")]
    assert names == [" /bin/bash", "   /opt/sim", "       /lib64/libc.so.6", "     /bin/ls x 40"]
    assert "42 executions, 1,801.2 s of CPU, 100% of the 1,800 s that the batch system measured." in out
    told = json.loads(filled.good("programs", "7", "--format", "json", "--libraries").output)
    assert [(row["program"], row["depth"], row["libraries"]) for row in told["rows"]] == [
        ("/bin/bash", 0, []),
        ("/opt/sim", 1, ["/lib64/libc.so.6"]),
        ("/bin/ls", 2, []),
    ]
    rows = list(csv.DictReader(io.StringIO(filled.good("programs", "7", "--format", "csv").stdout)))
    assert [(row["pid"], row["ended_by"], row["run"]) for row in rows] == [
        ("10", "exit", "1"),
        ("11", "exit", "1"),
        ("12", "exit", "1"),
    ]
    assert "2 more programs: --limit shows more." in filled.good("programs", "7", "--limit", "1").output


def test_programs_of_what_is_not_there(filled: Asker) -> None:
    assert isinstance(filled.error("programs", "8"), IncompleteError)
    assert "there is no run 2 of this job: it has 1" in filled.error("programs", "7", "--run", "2").message


def test_jobs_that_used_a_library(filled: Asker) -> None:
    out = filled.good("jobs", "--library", "libc.so.*").output
    assert "1 job of 1 user used it." in out
    assert out.startswith("What used library libc.so.*, ")
    told = json.loads(filled.good("jobs", "--program", "ls", "--format", "json").output)
    assert [(row["job"], row["user"], row["vo"], row["executions"]) for row in told["rows"]] == [("7", "alice", "atlas", 40)]
    assert isinstance(filled.error("jobs"), ConfigError)


def test_a_mark_with_a_typing_error_is_refused(filled: Asker) -> None:
    """It would read as: nobody used it."""
    for wrong in ("nouuid", "", "01a1f98c-555b-7147-bb57-58bdf3043a4"):
        assert "--signature" in str(error := filled.error("jobs", "--signature", wrong, "--program", "ls"))
        assert "write a UUID as `batchacct procs show-signature FILE` shows it" in str(error)
    for wrong in ("zz", "", "abc", "0x"):
        assert "--build-id" in str(error := filled.error("jobs", "--build-id", wrong, "--program", "ls"))
        assert "write an even number of hex digits" in str(error)


def test_marks_are_found_however_they_are_written(filled: Asker) -> None:
    mark = "01a1f98c-555b-7147-bb57-58bdf3043a47"
    with filled.store.writing() as connection:
        connection.execute(update(process).where(process.c.program == "/bin/ls").values(signature=mark, build_id="00fe12"))
    for words in (("--signature", mark.upper()), ("--signature", f" {mark.replace('-', '')} "), ("--build-id", "0x00FE12 ")):
        told = json.loads(filled.good("jobs", *words, "--format", "json").output)
        assert [row["executions"] for row in told["rows"]] == [40], words


def test_usage_records(filled: Asker, tmp_path: Path) -> None:
    with filled.store.writing() as connection:
        row = {"id": 1, "cluster": "*", "type": "HEPscore23", "value": 10.0, "per_host_factor": 0, "valid_from": 0}
        connection.execute(insert(benchmark).values(**row, valid_until=2**40, active=1))
        connection.execute(update(usage).values(benchmark_id=1))
    payload = filled.good("usage-records").stdout_bytes
    assert_valid(payload, UR)
    assert sorted(str(record["JobName"]) for record in read_records(payload, UR)) == ["Shells", "ls", "sim"]
    result = filled.good("usage-records", "--format", "car-1.2", "--per", "account", "--output", str(tmp_path / "out.xml"))
    assert result.stdout == ""
    assert b"<urf:JobName>Shells</urf:JobName>" in (tmp_path / "out.xml").read_bytes()


def test_usage_records_that_cannot_be_made_are_told(filled: Asker) -> None:
    told = filled.error("usage-records").message
    assert told.startswith("3 records were refused by the format, and are not among the 0 written: 3: ServiceLevelType is missing")
    assert "there is no record to write" in filled.error("usage-records", "--vo", "cms").message


def test_a_store_without_processes_and_a_period_without_time(asker: Asker) -> None:
    assert "the store holds no process" in asker.error("top").message
    add_processes(asker.store, a_process("7", T0))
    assert "processes ended from 2026-11-01" in asker.error("top", "--to", "2026-10-01").message
    assert "is not before --to" in asker.error("top", "--from", "2026-10-02", "--to", "2026-10-01").message
    assert isinstance(asker.error("top", "--from", "some day"), ConfigError)
    assert instant("2026-11-01", 0) == T0
