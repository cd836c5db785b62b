"""`batchacct procs report` of the store and of files: who told of what, and nothing twice."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from batchacct.errors import ConfigError, IncompleteError, PluginError
from batchacct.model import PROCESS, PROCESS_GROUP, Record
from batchacct.store import Origin, Store, append
from batchacct.store.tables import process as store_process
from procacct.asking.accounting_report import report
from procacct.pacct import PARSER
from tests.procacct.pacct_records import v3
from tests.records import LOGGED_AT, membership, parsed, process

NS = 10**9
DAY = 86_400
PACCT = {"parser": PARSER.label, "boot_id": None, "seen_by": '["acct"]', "source": "acct"}
Ask = Callable[..., dict[str, Any]]


def of_daemon(number: int, **columns: object) -> Record:
    start = (LOGGED_AT - 5) * NS
    known = {
        "start_ns": start,
        "end_ns": LOGGED_AT * NS,
        "elapsed_s": 5.0,
        "cpu_user_s": 2.0,
        "cpu_system_s": 0.5,
        "command": "solver",
    }
    key = f"{columns.get('host', 'node7')}/boot/{number}/{start}/1"
    return process(
        number, b"a program", **known | {"record_key": key, "user_id": 4242, "user_name": "alice", "parser": "procs/1"} | columns
    )


def of_accounting(number: int, **columns: object) -> Record:
    key = f"{columns.get('host', 'node7')}/acct/{LOGGED_AT - 5}/{number}/0"
    known = {"elapsed_s": 5.0, "cpu_user_s": 1.0, "cpu_system_s": 0.25, "command": "cc1", "minor_faults": 10, "user_id": 4242}
    return process(number, b"a program", **PACCT | known | {"record_key": key} | columns)


def load(store: Store, *records: Record) -> None:
    by_type = {PROCESS: [r for r in records if "processes" in r], PROCESS_GROUP: [r for r in records if "processes" not in r]}
    for number, (kind, some) in enumerate(by_type.items()):
        origin = Origin(f"from-{number}", kind.name, "test/1", f"/var/log/{number}")
        append(store, origin, parsed(some, record_type=kind), LOGGED_AT)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(report, [str(argument) for argument in arguments])


@pytest.fixture
def ask(database_url: str, store: Store, tmp_path: Path) -> Ask:
    configuration = tmp_path / "batchacct.toml"
    configuration.write_text(f'site = "S"\n[database]\nurl = "{database_url}"\n')

    def answer(*arguments: object) -> dict[str, Any]:
        done = run(*arguments, "--format", "json", "--config", configuration)
        assert done.exception is None, done.exception
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    return answer


def by_name(answer: dict[str, Any], *columns: str) -> dict[str, list[Any]]:
    return {row[answer["by"]]: [row[column] for column in columns] for row in answer["rows"]}


def test_of_a_host_that_both_tell_of_the_daemons_rows_count(ask: Ask, store: Store) -> None:
    load(
        store,
        of_daemon(1),
        of_daemon(2, command="sh", kind="fork", cpu_user_s=None, cpu_system_s=None),
        of_accounting(1),
        of_accounting(2),
        of_accounting(3, host="node8"),
        of_accounting(4, host="node8", ended_by="signal", exit_signal=9),
    )
    answer = ask("--by", "host")
    assert by_name(answer, "processes", "cpu_user_s", "killed") == {"node7": [2, 2.0, 0], "node8": [2, 2.0, 1]}
    told = " ".join(answer["notes"])
    assert "by the node daemon: 1; by BSD accounting alone: 1" in told
    assert "several sources told of (node7), on each day (UTC) what the daemon told counts, else BSD accounting" in told
    assert "the others: 2 rows do not" in told
    assert by_name(ask("--by", "command"), "processes", "forks") == {"solver": [1, 0], "sh*": [1, 1], "cc1": [2, 0]}


def test_what_counts_of_a_day_is_the_same_whatever_period_is_asked(ask: Ask, store: Store) -> None:
    """30 days of accounting, of 10 s each; on the last the daemon tells of a gap alone, on another of a process, too."""
    days = [LOGGED_AT - back * DAY for back in range(30)]
    daily = [
        of_accounting(number, logged_at=at, started_at=at - 5, cpu_user_s=10.0, record_key=f"node7/acct/{at}/1/0")
        for number, at in enumerate(days, 1)
    ]
    gone = of_daemon(71, logged_at=days[5], started_at=days[5] - 5, kind="gap", processes=0, ended_by="unknown", cpu_user_s=None)
    load(store, *daily, of_daemon(70, kind="gap", processes=0, ended_by="unknown", cpu_user_s=None), gone)
    assert by_name(ask("--by", "host"), "processes", "cpu_user_s") == {"node7": [30, 300.0]}
    at = days[9]
    load(store, of_daemon(72, logged_at=at, started_at=at - 5, record_key="node7/boot/72/1/1"))
    whole = by_name(ask("--by", "host"), "processes", "cpu_user_s")
    assert whole == {"node7": [30, 292.0]}
    by_day = by_name(ask("--by", "day"), "cpu_user_s")
    assert len(by_day) == 30
    assert sorted(by_day.values())[:2] == [[2.0], [10.0]]
    noon = at // DAY * DAY + DAY // 2
    parts = [ask("--by", "host", "--to", noon - 1), ask("--by", "host", "--from", noon)]
    assert sum(row["cpu_user_s"] for part in parts for row in part["rows"]) == 292.0


def test_of_others_only_what_neither_told_of_that_day_counts(ask: Ask, store: Store) -> None:
    def other(number: int, host: str) -> Record:
        return of_daemon(number, host=host, parser="ogrt/1", command="ogrt", cpu_user_s=None, cpu_system_s=None)

    load(store, of_daemon(1), other(2, "node7"), of_accounting(3, host="node8"), other(4, "node8"), other(5, "node9"))
    answer = ask("--by", "host")
    assert by_name(answer, "processes") == {"node7": [1], "node8": [1], "node9": [1]}
    assert "(node7, node8)" in " ".join(answer["notes"])


def test_rows_that_are_no_longer_in_force_tell_of_no_day(ask: Ask, store: Store) -> None:
    load(store, of_daemon(1), of_accounting(2))
    with store.writing() as connection:
        rows = store_process.c
        connection.execute(update(store_process).where(rows.parser == "procs/1").values(superseded_by=rows.id))
    assert by_name(ask("--by", "command"), "processes") == {"cc1": [1]}


def test_on_a_day_of_which_the_daemon_told_nothing_accounting_counts(ask: Ask, store: Store) -> None:
    earlier = LOGGED_AT - 10 * 86_400
    load(store, of_daemon(1), of_accounting(2, logged_at=earlier, started_at=earlier - 5))
    assert by_name(ask("--by", "host"), "processes") == {"node7": [2]}
    answer = ask("--by", "host", "--to", earlier + 60)
    assert by_name(answer, "processes", "cpu_user_s") == {"node7": [1, 1.0]}
    assert "by the node daemon: 0; by BSD accounting alone: 1" in answer["notes"][0]


def test_by_job_user_day_and_terminal(ask: Ask, store: Store) -> None:
    load(
        store,
        of_daemon(1, join_id="77", lrms_job_id="77"),
        of_daemon(2, join_id="77", lrms_job_id="77", user_name="bob", user_id=5, terminal="pts/3"),
        of_daemon(3),
    )
    assert by_name(ask("--by", "job"), "processes", "cpu_user_s", "cpu_system_s") == {
        "77": [2, 4.0, 1.0],
        "(no job)": [1, 2.0, 0.5],
    }
    assert by_name(ask("--by", "user"), "processes") == {"alice": [2], "bob": [1]}
    assert by_name(ask("--by", "user", "--numeric"), "processes") == {"4242": [2], "5": [1]}
    assert by_name(ask("--by", "terminal"), "processes") == {"(none)": [2], "pts/3": [1]}
    assert by_name(ask("--by", "day"), "processes") == {"2026-09-21": [3]}
    assert by_name(ask("--by", "job", "--user", "bob"), "processes") == {"77": [1]}
    assert by_name(ask("--by", "job", "--terminal", "pts/3"), "processes") == {"77": [1]}
    assert by_name(ask("--by", "job", "--command", "solv*"), "processes") == {"77": [2], "(no job)": [1]}
    assert ask("--by", "job", "--command", "SOLV*")["rows"] == []


def test_job_ids_of_several_clusters_are_told_apart(ask: Ask, store: Store) -> None:
    load(store, of_daemon(1, join_id="77"), of_daemon(2, join_id="77", cluster="pbs2"))
    assert by_name(ask("--by", "job"), "processes") == {"lsf1:77": [1], "pbs2:77": [1]}


def test_groups_of_processes(ask: Ask, store: Store) -> None:
    """Of one process number at different times, and of accounting, which knows no boot and only seconds; one may be in several."""
    start, end = (LOGGED_AT - 5) * NS, LOGGED_AT * NS

    def member(number: int, group: str, **columns: object) -> Record:
        known = {"start_ns": start, "joined_ns": start, "left_ns": end, "group_id": group, "group_name": f"name{group}"}
        host = columns.get("host", "node7")
        return membership(
            number,
            b"a membership",
            **known | {"record_key": f"{host}/boot/{group}/{number}/{columns.get('start_ns', start)}"} | columns,
        )

    hour = 3600 * NS
    load(
        store,
        of_daemon(1),
        of_daemon(2, boot_id="another"),
        of_daemon(3),
        of_accounting(4, host="node8"),
        of_accounting(5, host="node8"),
        member(1, "7"),
        member(1, "8", joined_ns=end - NS),
        member(1, "9", start_ns=start - hour, joined_ns=start - hour, left_ns=end - hour, left_at=LOGGED_AT - 3600),
        member(2, "7"),
        member(4, "7", host="node8", start_ns=start + NS // 2, joined_ns=start + NS // 2),
        member(5, "7", host="node8", start_ns=start + hour, joined_ns=start + hour, left_ns=end + hour, left_at=LOGGED_AT + 3600),
    )
    assert by_name(ask("--by", "group"), "processes", "cpu_user_s") == {
        "node7:7 (name7)": [1, 2.0],
        "node7:8 (name8)": [1, 2.0],
        "node8:7 (name7)": [1, 1.0],
        "(no group)": [3, 5.0],
    }


def test_a_process_added_to_a_group_again_costs_once(ask: Ask, store: Store) -> None:
    start = (LOGGED_AT - 5) * NS
    known: dict[str, Any] = {"start_ns": start, "left_ns": LOGGED_AT * NS}
    load(
        store,
        of_daemon(1),
        membership(1, **known, joined_ns=start, record_key=f"node7/boot/7/1/{start}"),
        membership(1, **known, joined_ns=start + NS, record_key=f"node7/boot/7/1/{start}/again"),
    )
    assert by_name(ask("--by", "group"), "processes", "cpu_user_s") == {"node7:7": [1, 2.0]}


def test_gaps_are_told_and_not_counted(ask: Ask, store: Store) -> None:
    load(store, of_daemon(1), of_daemon(2, kind="gap", processes=0, lost_events=1234, ended_by="unknown", cpu_user_s=None))
    answer = ask()
    assert by_name(answer, "processes") == {"alice": [1]}
    assert "1,234 events of the kernel were lost" in " ".join(answer["notes"])


def test_rows_of_many_executions(ask: Ask, store: Store) -> None:
    load(store, of_daemon(1), of_daemon(2, processes=1000, cpu_user_s=7.5, kind="fork"))
    assert by_name(ask(), "processes", "forks", "cpu_user_s") == {"alice": [1001, 1000, 9.5]}


def test_the_list_of_the_store(ask: Ask, store: Store, database_url: str, tmp_path: Path) -> None:
    load(
        store,
        of_daemon(1, core_dumped=1, exit_signal=11, ended_by="signal", join_id="77"),
        of_accounting(2, host="node8", exit_code=3),
    )
    done = run("--list", "--format", "csv", "--config", tmp_path / "batchacct.toml")
    rows = sorted(csv.DictReader(io.StringIO(done.stdout)), key=lambda row: row["pid"])
    assert [(row["command"], row["user"], row["flags"], row["ended"], row["job"]) for row in rows] == [
        ("solver", "alice", "DX", "signal 11", "77"),
        ("cc1", "4242", "", "exit 3", ""),
    ]
    assert "node daemon: 1" in done.stderr


def test_an_empty_store(ask: Ask) -> None:
    assert ask()["rows"] == []


# --- files -----------------------------------------------------------------------------------------------------------------------


def test_several_files_and_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "pacct").write_bytes(v3(pid=3) + v3(pid=4, flags=0xFF) + v3(pid=5))
    (tmp_path / "pacct.1").write_bytes(v3(pid=1) + v3(pid=2, big=True))
    done = run(tmp_path / "pacct*", "--format", "csv", "--numeric")
    assert isinstance(done.exception, IncompleteError)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["user"], row["processes"]) == ("1000", "4")
    assert f"{tmp_path}/pacct:64: rejected: flags 0xff" in done.stderr


def test_the_same_content_under_two_names_counts_once(tmp_path: Path) -> None:
    """As while a file is being compressed, or where an older copy lies beside it: the longer one counts."""
    content = b"".join(v3(pid=pid) for pid in range(1, 200))
    (tmp_path / "pacct").write_bytes(content)
    (tmp_path / "pacct.1.gz").write_bytes(gzip.compress(content))
    (tmp_path / "pacct.old").write_bytes(content[: 64 * 50])
    done = run(tmp_path / "pacct.old", tmp_path / "pacct.1.gz", tmp_path / "pacct", "--format", "csv", "--numeric")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["processes"] == "199"
    assert done.stderr.count("left out, as what is in it is in ") == 2
    assert f"{tmp_path}/pacct.old: left out" in done.stderr


def test_swaps_are_read_where_a_kernel_counted_them(tmp_path: Path) -> None:
    (tmp_path / "pacct").write_bytes(v3(swaps=7) + v3(pid=2, swaps=5, big=True))
    row = next(csv.DictReader(io.StringIO(run(tmp_path / "pacct", "--format", "csv").stdout)))
    assert row["swaps"] == "12"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--by", "job"), "the batch job of a process is in no accounting file: ask the store"),
        (("--by", "group"), "give --groups-file"),
        (("--list", "--by", "user"), "leave out --by"),
        (("--user", "no-such-account"), "this host knows no such account"),
        (("--from", "2026-11-02", "--to", "2026-11-01"), "nothing can have ended between them"),
        (("--from", "the other day"), "is no date"),
    ],
)
def test_what_cannot_be_asked_of_files(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "pacct").write_bytes(v3())
    done = run(tmp_path / "pacct", *arguments)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("nothing of the sort\n" * 100)
    done = run(tmp_path / "log")
    assert isinstance(done.exception, PluginError)
    assert "is no file of BSD process accounting" in str(done.exception)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "pacct").touch()
    done = run(tmp_path / "pacct")
    assert done.exit_code == 0
    assert "Processes by user: there are none to sum." in done.stdout and "┃" not in done.stdout
    assert f"{tmp_path}/pacct holds no record of a process" in done.stderr


def test_minutes_that_are_few_are_not_nothing(tmp_path: Path) -> None:
    (tmp_path / "pacct").write_bytes(v3(user=3, system=0))
    assert "0.0005" in run(tmp_path / "pacct").stdout


@pytest.mark.parametrize("line", ["1 2 3 4", "1\t2\t3", "1\tx\t3\t4", "1\t2\t3\tnever", "\t2\t3\t4"])
def test_a_groups_file_that_is_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "pacct").write_bytes(v3())
    (tmp_path / "groups").write_text(f"# fine\n1\t2\t3\t-\n{line}\n")
    done = run(tmp_path / "pacct", "--groups-file", tmp_path / "groups")
    assert isinstance(done.exception, ConfigError)
    assert f"groups, line 3: {line!r}" in str(done.exception)


def test_the_table_and_its_notes(tmp_path: Path) -> None:
    (tmp_path / "pacct").write_bytes(v3(name=b"cc1", user=0x1FFF) + v3(pid=2, flags=1, name=b"bash"))
    told = run(tmp_path / "pacct", "--by", "command").stdout
    assert "Processes by command" in told
    assert "1.37" in told, "81.91 s, in minutes"
    assert "bash*" in told
    assert "Told by BSD accounting" in told
    listed = run(tmp_path / "pacct", "--list", "--limit", "1").stdout
    assert "bash" in listed
    assert "cc1" not in listed
    assert "the last 1 of 2" in listed
