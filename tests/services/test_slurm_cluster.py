"""Every route out of a real Slurm: each run's figures are those that Slurm's own programs print.

Where a route cannot say what happened, the test says so: in `ROUTES`, and beside the check.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from batchacct.collector import Collector, collect_once
from batchacct.completing import complete_parts, rules_of
from batchacct.errors import SourceError
from batchacct.feeding import feed
from batchacct.parsing import Source, registry
from batchacct.parsing.reading import read_blocks
from batchacct.store import Store, stored_cursor
from batchacct.store.tables import job as job_table
from loccol.slurm_sacct_layout import RECOMMENDED
from tests.servers import free_port
from tests.services.slurm import NAME, USERS, SlurmCluster
from tests.services.slurm_jobs import BURNT_CPU_S, BURNT_KIB, ODD_NAME
from tests.services.slurm_truth import WHOLE_DAY, Key, Run, at, latest_runs, runs

pytestmark = pytest.mark.slow

SOURCE = Source("farm", "SITE", NAME)

STATES = {
    "timeout": ["timeout"],
    "plain": ["completed"],
    "burning": ["completed"],
    "parallel": ["completed"],
    "steps": ["completed"],
    "array": ["completed", "failed", "failed", "failed"],
    "failed": ["failed"],
    "killed": ["failed"],
    "high exit": ["failed"],
    "no command": ["failed"],
    "odd name": ["completed"],
    "two lines": ["completed"],
    "gpu": ["completed"],
    "het": ["completed", "completed"],
    "deadline": ["never_started"],
    "held": [],
    "cancelled": ["cancelled"],
    "cancelled early": ["never_started"],
    "requeued": ["requeued", "completed"],
    "suspended": ["completed"],
    "resized": ["unknown", "completed"],
    "preempted": ["preempted", "completed"],
    "other user": ["completed"],
    "released": ["completed"],
    "urgent": ["completed"],
    "node failed": ["node_fail"],
}
"""What became of each kind of job, run by run in the order of their ends. (RESIZING says that a run goes on elsewhere.)"""


@dataclass(frozen=True)
class Taken:
    """What a route gave: records by run, and the rejects."""

    records: dict[Key, dict[str, Any]]
    rejects: list[bytes]


def taken(parser_name: str, answer: bytes) -> Taken:
    parser = registry.parser(parser_name)
    rows: list[dict[str, Any]] = []
    rejects: list[bytes] = []
    for parsed in parser.parse(read_blocks(io.BytesIO(answer), parser.framing), SOURCE):
        rows += parsed.records.to_pylist()
        rejects += [reject.unit for reject in parsed.rejects]
    records = {(row["lrms_job_id"], row["array_index"], row["end_at"]): row for row in rows}
    assert len(records) == len(rows) == len({row["record_key"] for row in rows})
    return Taken(records, rejects)


@dataclass(frozen=True)
class Route:
    """How the accounts are had, and what this route cannot tell."""

    parser: str
    has_usage: bool = True
    has_exit_code: bool = True

    def answer(self, name: str, cluster: SlurmCluster) -> bytes:
        if name == "jobcomp":
            return cluster.jobcomp.read_bytes()
        if name == "json":
            return cluster.run("sacct", *WHOLE_DAY, "--json").encode()
        if name == "sacct":
            return cluster.run("sacct", *WHOLE_DAY, "-P", "-o", RECOMMENDED).encode()
        answers = feed("sacct", SOURCE, [], {"cluster": NAME, "since": "1h"}).ask(None, now(cluster))
        texts = []
        for asked in answers:
            with asked.opened as stream:
                texts.append(stream.read())
        return b"".join(texts)


ROUTES = {
    "sacct": Route("slurm"),
    "feed": Route("slurm"),
    "json": Route("slurm-json", has_exit_code=False),  # 22.05 prints SUCCESS and 0 for every exit code
    "jobcomp": Route("slurm-jobcomp", has_usage=False),
}


def now(cluster: SlurmCluster) -> int:
    return int(cluster.run("date", "+%s"))


@pytest.fixture(scope="module")
def truth(slurm_cluster: SlurmCluster, slurm_jobs: dict[str, int]) -> dict[Key, Run]:
    return runs(slurm_cluster)


@pytest.fixture(autouse=True)
def configuration(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What sacct needs to find the cluster, when the feed runs it."""
    monkeypatch.setenv("SLURM_CONF", slurm_cluster.environment["SLURM_CONF"])


@pytest.fixture(scope="module", params=ROUTES)
def taken_by(request: pytest.FixtureRequest, slurm_cluster: SlurmCluster, truth: dict[Key, Run]) -> tuple[str, Taken]:
    """Each route in turn: its name, and what it gave."""
    name: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", slurm_cluster.environment["SLURM_CONF"])
        return name, taken(ROUTES[name].parser, ROUTES[name].answer(name, slurm_cluster))


def told(runs_there: dict[Key, Run], name: str, jobs: dict[str, int]) -> dict[Key, Run]:
    """The runs a route can tell of: a newline in a name breaks the line of jobcomp before everything that matters."""
    return {key: run for key, run in runs_there.items() if name != "jobcomp" or key[0] != str(jobs["two lines"])}


def test_what_the_controller_says_of_the_last_runs(slurm_cluster: SlurmCluster, truth: dict[Key, Run]) -> None:
    """The measure is itself measured: sacct and scontrol agree about times and ends."""
    latest = latest_runs(slurm_cluster)
    compared = 0
    for (number, index, end), run in truth.items():
        values = latest[number, index]
        if at(values["EndTime"]) == end and run.started:
            compared += 1
            assert run.row["State"].split()[0] == values["JobState"]
            assert run.row["Elapsed"] == values["RunTime"].removeprefix("0-")
            assert run.row["NCPUS"] == values["NumCPUs"]
            code, signal = run.exit
            if values["JobState"] in {"COMPLETED", "FAILED"}:  # of others the controller has 0:15, the database 0:0
                told_code, told_signal = map(int, values["ExitCode"].split(":"))
                assert (code, signal or 0) == (told_code - 128 if told_code > 128 else told_code, told_signal)
    assert compared == len(truth) - len(["cancelled early", "deadline", "requeued", "resized", "preempted"])


def test_every_run_is_there_once(taken_by: tuple[str, Taken], truth: dict[Key, Run], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    assert set(route.records) == set(told(truth, name, slurm_jobs))


def test_states(taken_by: tuple[str, Taken], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    assert set(slurm_jobs) == set(STATES)
    for kind, number in slurm_jobs.items():
        of_job = sorted(
            (key[2], key[1] or 0, row["state"]) for key, row in route.records.items() if key[0].split("+")[0] == str(number)
        )
        expected = [] if (name, kind) == ("jobcomp", "two lines") else STATES[kind]
        assert sorted(state for *_, state in of_job) == sorted(expected), kind
        if kind != "array":
            assert [state for *_, state in of_job] == expected, kind


def test_times_and_wallclock(taken_by: tuple[str, Taken], truth: dict[Key, Run], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    for key, run in told(truth, name, slurm_jobs).items():
        row = route.records[key]
        if key[0] == str(slurm_jobs["resized"]):
            continue
        assert row["submit_at"] == at(run.row["Submit"])
        assert row["start_at"] == (at(run.row["Start"]) if run.started else None)
        suspended = 0 if name != "jobcomp" else at("1970-01-01T" + run.row["Suspended"]).timestamp()  # it does not tell
        assert row["wall_duration_s"] == (run.wall_s + suspended if run.started else None)


def test_a_resized_job_is_not_counted_twice(taken_by: tuple[str, Taken], truth: dict[Key, Run], slurm_jobs: dict[str, int]) -> None:
    """sacct has the same Start in both rows, and the time before the resize in both Elapsed; jobcomp does not have it at all."""
    name, route = taken_by
    number = str(slurm_jobs["resized"])
    first, last = (run for key, run in sorted(truth.items(), key=lambda found: found[0][2]) if key[0] == number)
    resized_at = at(first.row["End"])
    assert first.row["Start"] == last.row["Start"]
    assert resized_at == at(last.row["Submit"])
    before, after = (route.records[run.key] for run in (first, last))
    assert (before["processors"], after["processors"]) == (2, 1)
    assert after["wall_duration_s"] == (at(last.row["End"]) - resized_at).total_seconds()
    assert before["wall_duration_s"] == (first.wall_s if name != "jobcomp" else 0)


def test_usage(taken_by: tuple[str, Taken], truth: dict[Key, Run], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    for key, run in told(truth, name, slurm_jobs).items():
        row = route.records[key]
        if not ROUTES[name].has_usage or not run.cpu_s:
            assert row["cpu_duration_s"] is row["cpu_user_s"] is row["cpu_system_s"] is None, key
        else:
            assert row["cpu_user_s"] + row["cpu_system_s"] == pytest.approx(run.cpu_s, abs=0.002 * len(run.steps))
            assert row["cpu_duration_s"] == pytest.approx(run.cpu_s, abs=0.51)
        if name in {"sacct", "feed"} and key[0] == str(slurm_jobs["two lines"]):
            assert row["memory_real_kib"] is None, "its steps are parts, by which the store completes it: see below"
        else:
            assert row["memory_real_kib"] == (run.memory_kib if ROUTES[name].has_usage else None)


def test_usage_is_what_was_really_used(taken_by: tuple[str, Taken], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    [burnt] = [row for key, row in route.records.items() if key[0] == str(slurm_jobs["burning"])]
    if ROUTES[name].has_usage:
        assert 2 * BURNT_CPU_S <= burnt["cpu_duration_s"] <= burnt["wall_duration_s"] + 1
        assert BURNT_KIB <= burnt["memory_real_kib"] <= 5 * BURNT_KIB


def test_what_was_allocated(taken_by: tuple[str, Taken], truth: dict[Key, Run], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    for key, run in told(truth, name, slurm_jobs).items():
        row = route.records[key]
        if not run.started:
            assert row["processors"] is row["node_count"] is row["exec_hosts"] is None
            continue
        tres = dict(amount.split("=") for amount in run.row["AllocTRES"].split(","))
        assert row["processors"] == int(run.row["NCPUS"]) == int(tres["cpu"])
        assert row["node_count"] == int(run.row["NNodes"]) == int(tres["node"])
        if name != "jobcomp":  # it has what was asked for
            assert row["gpu_count"] == (int(tres["gres/gpu"]) if "gres/gpu" in tres else None)
            assert row["gpu_model"] == ("a100" if "gres/gpu" in tres else None)


def test_who_and_where(taken_by: tuple[str, Taken], truth: dict[Key, Run], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    for key, run in told(truth, name, slurm_jobs).items():
        row = route.records[key]
        expected = (run.row["User"], run.row["Group"], run.row["Account"], run.row["Partition"], key[0].split("+")[0])
        assert (row["user_name"], row["group_name"], row["project"], row["queue"], row["join_id"]) == expected
    assert {row["user_name"] for row in route.records.values()} == set(USERS)


def test_exits(taken_by: tuple[str, Taken], truth: dict[Key, Run], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    for key, run in told(truth, name, slurm_jobs).items():
        if not run.started:
            continue
        row = route.records[key]
        code: int | None
        code, signal = run.exit
        if key[0] == str(slurm_jobs["high exit"]):
            assert code == 200 - 128, "slurmdbd takes 128 off"
            code = 200 if name == "jobcomp" else code
        assert row["exit_signal"] == signal
        if not ROUTES[name].has_exit_code:
            code = 0 if row["state"] == "completed" else None
        assert row["exit_code"] == code


def test_names(taken_by: tuple[str, Taken], slurm_jobs: dict[str, int]) -> None:
    name, route = taken_by
    names = {key[0]: row["job_name"] for key, row in route.records.items()}
    by_database = ODD_NAME.replace('"', "`")  # slurmdbd's own way of quoting
    assert names[str(slurm_jobs["odd name"])] == (ODD_NAME if name == "jobcomp" else by_database)
    if name == "json":
        assert names[str(slurm_jobs["two lines"])] == "first\nsecond"
        assert not route.rejects
    elif name == "jobcomp":
        assert [reject.split(b" ")[0] for reject in route.rejects] == [b"JobId=%d" % slurm_jobs["two lines"], b"second"]
    else:
        assert names[str(slurm_jobs["two lines"])] == "first"
        assert route.rejects == [b"second"]


def test_the_feed_brings_every_run_into_the_store_once(
    slurm_cluster: SlurmCluster, truth: dict[Key, Run], slurm_jobs: dict[str, int], sqlite_store: Store
) -> None:
    """Asked again, what overlaps is known; a sacct that fails in between costs nothing."""
    collector = asking(slurm_cluster, {"since": "1h", "window": "10m", "overlap": "30m"})
    began = now(slurm_cluster)
    first = collect_once(sqlite_store, collector, lambda: began)
    assert (first.errors, first.counts["recorded"], first.counts["rejected"]) == ([], len(truth), 1)
    assert stored_cursor(sqlite_store, "farm") == str(began)
    failed = collect_once(sqlite_store, asking(slurm_cluster, {"states": "ODD"}), lambda: began + 9)
    assert "unrecognized job state value 'ODD'" in failed.errors[0].message
    assert stored_cursor(sqlite_store, "farm") == str(began)
    again = collect_once(sqlite_store, collector, lambda: began + 10)
    assert (again.errors, again.counts["recorded"], again.counts["revised"]) == ([], 0, 0)
    assert again.counts["known"] >= len(truth)
    assert stored_cursor(sqlite_store, "farm") == str(began + 10)
    complete_parts(sqlite_store, rules_of([("farm", collector.parser)]), began + 10)
    columns = [job_table.c[name] for name in ("lrms_job_id", "array_index", "end_at", "memory_real_kib")]
    with sqlite_store.reading() as connection:
        rows = connection.execute(select(*columns).where(job_table.c.superseded_by.is_(None))).fetchall()
    expected = {(number, index, int(end.timestamp())): run.memory_kib for (number, index, end), run in truth.items()}
    assert {(number, index, end): memory for number, index, end, memory in rows} == expected
    assert len(rows) == len(expected)


def asking(cluster: SlurmCluster, options: dict[str, str]) -> Collector:
    return Collector(registry.parser("slurm"), SOURCE, (), feed("sacct", SOURCE, [], {"cluster": NAME} | options))


def test_a_database_that_does_not_answer(slurm_cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(slurm_cluster.environment["SLURM_CONF"]).read_text(encoding="utf-8")
    elsewhere = tmp_path / "slurm.conf"
    elsewhere.write_text(re.sub(r"(?m)^AccountingStoragePort=.*", f"AccountingStoragePort={free_port()}", text), encoding="utf-8")
    monkeypatch.setenv("SLURM_CONF", str(elsewhere))
    with pytest.raises(SourceError, match="Problem talking to the database: Connection refused"):
        list(feed("sacct", SOURCE, [], {}).ask(None, now(slurm_cluster)))
