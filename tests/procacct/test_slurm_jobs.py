"""Batch jobs of a real Slurm cluster with the sensor and the node daemon: what ran is in the store, and joined to its job."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from batchacct.cli.main import group
from batchacct.collector import Collector, collect_once
from batchacct.feeding import feed
from batchacct.parsing import Source, registry
from batchacct.store import Store
from batchacct.store.tables import job, object_, process
from procacct.linker_search import install
from procacct.sensor.building import build
from tests.procacct.node_daemon import Node, need_kernel, running
from tests.services.slurm import NAME, USERS, SlurmCluster, until

USER = USERS[0]
UNSENT = "sensors could not send"

BURN = "perl -e '1 while (times)[0] < 2'"
SCRIPTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "timeout": ("/bin/sleep 601", ("--time=1",)),
    "cancelled": ("/bin/sleep 602; /bin/true", ()),
    "pipeline": ("seq 1 20000 | sort -rn | awk '{s+=$1} END {print s}' | cat; /bin/true; ls no-such-file", ()),
    "steps": ("srun --ntasks=2 sh -c 'sleep 0.3; /bin/true'; srun false; srun sh -c 'exec sleep 0.2'; exit 0", ("--ntasks=2",)),
    "array": ("sleep 0.3; exit $SLURM_ARRAY_TASK_ID", ("--array=0,3",)),
    "burning": (f"{BURN}; {BURN} & {BURN}; wait", ("--cpus-per-task=2",)),
    "daemon": ("setsid sh -c 'sleep 4; sleep 1.25 & sleep 1.5' </dev/null >/dev/null 2>&1 & exit 0", ()),
    "crashes": ("sh -c 'kill -SEGV $$'; sh -c 'kill -KILL $$'; bash -c 'exec sh -c \"exec sleep 0.2\"'; (exit 7); exit 3", ()),
    "compile": ("echo 'int main(void) { return 5; }' > five.c; gcc -static -o five five.c && ./five; exit 0", ()),
    "signed": ("echo 'int main(void) { return 6; }' > six.c; COMPILER_PATH=$LINKERS gcc -o six six.c && ./six; exit 0", ()),
    "many": ("for n in $(seq 1 500); do /bin/true; done", ()),
}
"""Script and options of a job of each kind; what a user's shell does otherwise is not looked at: see `own`."""


@dataclass
class Farm:
    """The jobs, by kind, what the daemon wrote, and a store with both."""

    jobs: dict[str, int]
    store: Store
    config: Path
    status: dict[str, Any]

    def rows(self, kind: str, array_index: int | None = None) -> list[Any]:
        """What ran in a job, by time."""
        p = process.c
        asked = select(process).where(p.join_id == str(self.jobs[kind]), p.superseded_by.is_(None), p.kind != "gap")
        if array_index is not None:
            asked = asked.where(p.array_index == array_index)
        with self.store.reading() as connection:
            return list(connection.execute(asked.order_by(p.start_ns, p.record_key)))

    @property
    def unsent(self) -> int:
        """Datagrams that sensors could not send."""
        asked = select(func.sum(process.c.lost_events)).where(process.c.kind == "gap", process.c.command == UNSENT)
        with self.store.reading() as connection:
            return int(connection.scalar(asked) or 0)

    def say(self, *words: str) -> str:
        result = CliRunner().invoke(group, [*words, "--config", str(self.config)])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output


def called(row: Any) -> str:
    """A program as its caller named it; of a static one, which tells nothing itself, as the kernel does."""
    return Path(json.loads(row.arguments)[0] if row.arguments else row.command).name


def programs(rows: list[Any]) -> Counter[str]:
    """How often each program ran."""
    return Counter(called(row) for row in rows if row.kind == "program")


def one(rows: list[Any], name: str) -> Any:
    (found,) = [row for row in rows if row.kind == "program" and called(row) == name]
    return found


@pytest.fixture(scope="module")
def farm(slurm_cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    need_kernel()
    folder = slurm_cluster.folder / "procacctd"
    with running(folder, f'cluster = "{NAME}"') as node:
        folder.chmod(0o755)
        sensor = build(slurm_cluster.folder / "sensor", policy=folder / "policy", socket=folder / "sensor")
        jobs = run_jobs(slurm_cluster, sensor, linkers_in(slurm_cluster.folder / "linkers"))
        time.sleep(7)  # what the job `daemon` left behind has ended then
        node.settle()
        status = node.status()
        node.stop()
        yield stored(slurm_cluster, node, jobs, tmp_path_factory.mktemp("farm"), status)


def linkers_in(folder: Path) -> Path:
    """batchacct-ld, run by a Python that users of jobs may run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/usr/bin/python3")
        install(folder, {"PATH": "/usr/bin:/bin"}, every=False)
    return folder


def run_jobs(cluster: SlurmCluster, sensor: Path, linkers: Path) -> dict[str, int]:
    """Runs one of each kind, with the sensor in its environment; they have ended, as the accounting database knows."""
    exported = f"--export=ALL,LD_PRELOAD={sensor},LINKERS={linkers},BATCHACCT_SIGNATURES=no"
    jobs = {kind: cluster.submit(script, exported, *options) for kind, (script, options) in SCRIPTS.items()}
    cluster.wait(jobs["cancelled"], "RUNNING")
    time.sleep(2)
    cluster.run("scancel", jobs["cancelled"])
    until("the accounting database knows all jobs, ended", lambda: _ended(cluster, jobs), patience_s=400)
    return jobs


def _ended(cluster: SlurmCluster, jobs: dict[str, int]) -> bool:
    chosen = ("--starttime=now-1hour", f"--jobs={','.join(map(str, jobs.values()))}")
    rows = cluster.run("sacct", "--allusers", "--duplicates", "--noheader", "-P", "-o", "JobIDRaw,State,End", *chosen).splitlines()
    return set(map(str, jobs.values())) <= {row.partition("|")[0] for row in rows} and not any(
        row.endswith("|Unknown") for row in rows
    )


def stored(cluster: SlurmCluster, node: Node, jobs: dict[str, int], folder: Path, status: dict[str, Any]) -> Farm:
    store = Store(f"sqlite:///{folder}/batchacct.db")
    store.create()
    now = int(time.time())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        source = Source("slurm", "TEST", NAME)
        asking = feed("sacct", source, [], {"cluster": NAME, "since": "1h"})
        assert collect_once(store, Collector(registry.parser("slurm"), source, (), asking), lambda: now).errors == []
    for parser, kind in (("procs", "processes"), ("procs-objects", "objects")):
        paths = (f"{node.folder}/spool/{kind}-*.jsonl",)
        done = collect_once(store, Collector(registry.parser(parser), Source(kind, "TEST", NAME), paths), lambda: now)
        assert (done.errors, done.counts["rejected"]) == ([], 0)
    config = folder / "batchacct.toml"
    config.write_text(f'site = "TEST"\ndatabase.url = "{store.engine.url}"\n[[cluster]]\nname = "{NAME}"\n', encoding="utf-8")
    return Farm(jobs, store, config, status)


RAN: dict[str, dict[str, int]] = {
    "timeout": {"sh": 1, "sleep": 1},
    "pipeline": {"sh": 1, "seq": 1, "sort": 1, "awk": 1, "cat": 1, "true": 1, "ls": 1},
    "steps": {"sh": 5, "srun": 3, "sleep": 4, "true": 2, "false": 2},
    "array": {"sh": 2, "sleep": 2},
    "burning": {"sh": 1, "perl": 3},
    "daemon": {"sh": 2, "setsid": 1, "sleep": 3},
    "crashes": {"sh": 4, "bash": 1, "sleep": 1},
    "compile": {"sh": 1, "gcc": 1, "cc1": 1, "as": 1, "collect2": 1, "ld": 1, "five": 1},
    "many": {"sh": 1, "seq": 1, "true": 500},
}


@pytest.mark.parametrize("kind", RAN)
def test_all_that_ran_in_a_job_and_nothing_else(farm: Farm, kind: str) -> None:
    rows = farm.rows(kind)
    assert programs(rows) == RAN[kind]
    assert {(row.lrms, row.cluster, row.host, row.user_name, row.processes) for row in rows} == {("Slurm", NAME, "node1", USER, 1)}
    seen = [(row, set(json.loads(row.seen_by))) for row in rows]
    assert all({"connector"} | ({"taskstats"} if row.ended_by != "exec" else set()) <= sources for row, sources in seen)
    silent = {called(row) for row, sources in seen if row.kind == "fork" or called(row) == "five" if "sensor" in sources}
    assert silent == set(), "a fork and a static program have no sensor"
    unheard = [row for row, sources in seen if row.kind == "program" and called(row) != "five" and "sensor" not in sources]
    assert not unheard or farm.unsent, "that a sensor could not send, as on a busy host, is told"


def test_nothing_else_was_lost(farm: Farm) -> None:
    """Else the counts of the other tests would be right by chance."""
    with farm.store.reading() as connection:
        gaps = connection.execute(select(process.c.command, process.c.lost_events).where(process.c.kind == "gap")).all()
    assert {row.command for row in gaps} <= {UNSENT}


def test_a_job_killed_by_the_time_limit(farm: Farm) -> None:
    sleep = one(farm.rows("timeout"), "sleep")
    assert sleep.exit_signal in {15, 9}
    assert sleep.elapsed_s >= 59
    number = farm.jobs["timeout"]
    assert f"job {number} on {NAME}: timeout" in farm.say("why", str(number))


def test_a_job_that_was_cancelled(farm: Farm) -> None:
    rows = farm.rows("cancelled")
    assert programs(rows) - Counter({"true": 1}) == {"sh": 1, "sleep": 1}, "the shell may have got the signal after its child"
    assert one(rows, "sleep").exit_signal in {15, 9}


def test_ends(farm: Farm) -> None:
    assert one(farm.rows("pipeline"), "ls").exit_code == 2
    rows = farm.rows("crashes")
    shells = Counter(
        (row.ended_by, row.exit_code, row.exit_signal) for row in rows if called(row) == "sh" and row.kind == "program"
    )
    assert shells == {("exit", 3, None): 1, ("signal", None, 11): 1, ("signal", None, 9): 1, ("exec", None, None): 1}
    assert [row.exit_code for row in rows if row.kind == "fork"] == [7]
    assert one(farm.rows("compile"), "five").exit_code == 5


def test_a_chain_of_execs_is_one_process(farm: Farm) -> None:
    rows = farm.rows("crashes")
    chain = [row for row in rows if row.pid == one(rows, "bash").pid]
    assert [(called(row), row.ended_by, row.cpu_user_s is None) for row in chain] == [
        ("bash", "exec", True), ("sh", "exec", True), ("sleep", "exit", False),
    ]  # fmt: skip


def test_steps_of_srun(farm: Farm) -> None:
    rows = [row for row in farm.rows("steps") if row.step_id is not None]
    by_step = Counter((row.step_id, called(row)) for row in rows)
    assert by_step == {("0", "sh"): 2, ("0", "sleep"): 2, ("0", "true"): 2, ("1", "false"): 2, ("2", "sh"): 2, ("2", "sleep"): 2}
    ranks = sorted((row.step_id, row.mpi_rank, row.mpi_size) for row in rows if called(row) in {"false", "true"})
    assert ranks == [("0", 0, 2), ("0", 1, 2), ("1", 0, 2), ("1", 1, 2)]


def test_elements_of_an_array(farm: Farm) -> None:
    for index in (0, 3):
        rows = farm.rows("array", index)
        assert programs(rows) == {"sh": 1, "sleep": 1}
        assert one(rows, "sh").exit_code == index


def test_what_a_job_leaves_behind_is_still_of_it(farm: Farm) -> None:
    rows = farm.rows("daemon")
    script = next(row for row in rows if called(row) == "sh" and len(json.loads(row.arguments)) > 1)
    last = max(row.end_ns for row in rows if called(row) == "sleep")
    assert last - script.end_ns > 4 * 10**9
    assert {row.job_from for row in rows} <= {"environment", "parent"}


def test_cpu_is_what_slurm_measured(farm: Farm) -> None:
    """Its own word, sampled by another program: to the second, and the last moments of a process it may not see."""
    with farm.store.reading() as connection:
        (measured,) = connection.execute(select(job.c.cpu_duration_s).where(job.c.join_id == str(farm.jobs["burning"]))).one()
    seen = sum((row.cpu_user_s or 0) + (row.cpu_system_s or 0) for row in farm.rows("burning"))
    assert seen >= 6
    assert seen == pytest.approx(measured, abs=1.0)


def test_objects_are_known(farm: Farm) -> None:
    sort = one(farm.rows("pipeline"), "sort")
    with farm.store.reading() as connection:
        paths = connection.execute(select(object_.c.path).where(object_.c.object_set == sort.object_set)).scalars()
        assert any(Path(path).name.startswith("libc.so") for path in paths)


def test_what_batchacct_ld_has_linked_in_a_job_bears_its_signature(farm: Farm, slurm_cluster: SlurmCluster) -> None:
    six = one(farm.rows("signed"), "six")
    assert six.exit_code == 6
    shown = CliRunner().invoke(group, ["procs", "show-signature", str(slurm_cluster.folder / "work/six")]).output
    assert re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", six.signature)
    assert six.signature in shown
    top = json.loads(farm.say("procs", "top", "--by", "signature", "--user", USER, "--format", "json"))
    assert six.signature in {row["signature"] for row in top["rows"]}


def test_procs_top(farm: Farm) -> None:
    asked = json.loads(farm.say("procs", "top", "--user", USER, "--limit", "100", "--format", "json"))
    rows = {row["program"]: row for row in asked["rows"]}
    perl = select(process.c.join_id).where(process.c.program == "/usr/bin/perl", process.c.user_name == USER).distinct()
    with farm.store.reading() as connection:
        jobs = set(connection.execute(perl).scalars())
    assert str(farm.jobs["burning"]) in jobs
    assert rows["/usr/bin/perl"]["executions"] >= 3, "another cluster on this host may run some for that user, too"
    assert rows["/usr/bin/perl"]["jobs"] == len(jobs)
    assert rows["/usr/bin/true"]["executions"] >= 503


def test_procs_programs(farm: Farm) -> None:
    told = farm.say("procs", "programs", str(farm.jobs["compile"]))
    tree = [line.strip("│ ").split("│")[0].rstrip() for line in told.splitlines() if line.startswith("│")]
    assert [Path(line).name for line in tree if "collect2" in line or "ld.bfd" in line] == ["collect2", "x86_64-linux-gnu-ld.bfd"]
    assert "7 executions" in told


def test_why_tells_of_the_programs_of_a_job(farm: Farm) -> None:
    told = farm.say("why", str(farm.jobs["burning"]))
    assert "4 executions" in told
    assert "/usr/bin/perl: 3 executions" in told
    assert "of the" in told and "that the batch system measured" in told
    assert "2 executions" in farm.say("why", f"{farm.jobs['array']}[3]")
