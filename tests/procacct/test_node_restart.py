"""A daemon that is stopped, killed, or too slow: nothing is written twice, and what was lost is said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from batchacct.errors import BusyError, ConfigError
from procacct.node import control_client
from procacct.node.config import load_node_config
from procacct.node.losses import DOWN, HOST_DOWN, OVERFLOW
from tests.procacct.node_daemon import ROOT, Node, Row, need_kernel, running, wait_for

SMALL = "events = {buffer_bytes = 65536}\ntaskstats = {buffer_bytes = 65536}"

BEGINS_NOT = """
import sys
from pathlib import Path
from procacct.node.config import load_node_config
from procacct.node.daemon import Daemon
keys = load_node_config(Path(sys.argv[1]))
daemon = Daemon(keys.model_copy(update={"sensor": keys.sensor.model_copy(update={"opt_out": "~/.no"})}))
try:
    daemon.begin()
finally:
    daemon.end()
"""


@pytest.fixture(autouse=True)
def _kernel() -> None:
    need_kernel()


@contextmanager
def sleeping(seconds: str, count: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [subprocess.Popen(["/bin/sleep", seconds]) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(count: int) -> list[int]:
    pids = []
    for _ in range(count):
        process = subprocess.Popen(["/bin/true"])
        process.wait()
        pids.append(process.pid)
    return pids


def demand_each_once(node: Node) -> None:
    node.demand_readable()
    keys = Counter(row["record_key"] for row in node.rows())
    assert not [key for key, count in keys.items() if count > 1]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_runs_over_a_restart_is_one_row_and_the_time_between_is_a_gap(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path) as node, sleeping("60", 3) as (ends_before, ends_between, ends_after):
        began = time.monotonic()
        node.settle()
        early = run(20)
        ends_before.kill()
        ends_before.wait()
        node.until_saved()
        status = node.stop(how)
        assert status == (0 if how == signal.SIGTERM else -signal.SIGKILL)
        between = run(30)
        ends_between.kill()
        ends_between.wait()
        node.start()
        late = run(10)
        lasted_s = time.monotonic() - began
        ends_after.kill()
        ends_after.wait()
        node.settle()
        demand_each_once(node)
        assert len(node.rows_of(*early, *late)) == 30
        assert not node.rows_of(*between)
        (first,) = node.rows_of(ends_before.pid)
        (second,) = node.rows_of(ends_between.pid)
        (third,) = node.rows_of(ends_after.pid)
        assert (first["exit_signal"], third["exit_signal"]) == (9, 9)
        assert (second["ended_by"], "end_ns" in second, "exit_signal" in second) == ("unknown", False, False)
        assert third["elapsed_s"] > lasted_s - 0.1, "not the time since the restart"
        assert third["program"] == first["program"]
        (gap,) = node.gaps(DOWN)
        assert gap["lost_events"] >= 30, "the forks at least"
        assert gap["start_ns"] < second["logged_at"] * 10**9 + 10**9
        assert gap["processes"] == 0


def test_a_process_that_changed_its_program_while_nobody_listened(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        process = subprocess.Popen(["/bin/sh", "-c", "read line; exec sleep 30"], stdin=subprocess.PIPE)
        assert process.stdin is not None
        node.settle()
        node.stop()
        process.stdin.write(b"go\n")
        process.stdin.close()
        wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text(encoding="ascii") == "sleep\n", "the other program")
        node.start()
        process.kill()
        process.wait()
        node.settle()
        shell, sleep = node.rows_of(process.pid)
        assert (shell["ended_by"], "end_ns" in shell, shell["command"]) == ("exec", False, "sh")
        assert (sleep["ended_by"], sleep["command"], sleep["exit_signal"]) == ("signal", "sleep", 9)
        demand_each_once(node)


def test_a_process_forked_since_the_state_was_saved_goes_on_under_its_key(tmp_path: Path) -> None:
    """Also if it has executed other programs meanwhile: it is no second process, and no program has the time of another."""
    script = "read line; exec /bin/sh -c 'read line; exec sleep 30'"
    with running(tmp_path) as node:
        node.until_saved()
        process = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, bufsize=0)
        assert process.stdin is not None
        time.sleep(0.5)
        process.stdin.write(b"go\n")
        wait_for(lambda: any(row["n"] == 1 for row in numbered(node, process.pid)), "the first shell's row")
        node.stop(signal.SIGKILL)
        node.start()
        time.sleep(0.3)  # what /proc says just before an execution is not believed
        process.stdin.write(b"go\n")
        wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text(encoding="ascii") == "sleep\n", "the other program")
        process.kill()
        process.wait()
        process.stdin.close()
        node.settle()
        rows = [row for row in numbered(node, process.pid) if row["kind"] == "program"]
        assert [(row["n"], row["command"], row["ended_by"]) for row in rows] == [
            (1, "sh", "exec"),
            (2, "sh", "exec"),
            (3, "sleep", "signal"),
        ]
        assert len({row["record_key"].rpartition("/")[0] for row in rows}) == 1
        assert all(one["end_ns"] <= other["start_ns"] + 1 for one, other in pairwise(rows))
        demand_each_once(node)


def numbered(node: Node, pid: int) -> list[Row]:
    return sorted(({**row, "n": int(row["record_key"].rpartition("/")[2])} for row in node.rows_of(pid)), key=lambda row: row["n"])


def test_killed_again_and_again_under_load(tmp_path: Path) -> None:
    pids: list[int] = []
    with running(tmp_path) as node, sleeping("60", 5) as sleepers:
        for _ in range(4):
            pids += run(50)
            node.stop(signal.SIGKILL)
            torn = sorted((tmp_path / "spool").glob("processes-*"))[-1]
            with torn.open("ab") as stream:
                stream.write(b'{"v":1,"record_key":"torn')
            node.start()
        for process in sleepers:
            process.kill()
            process.wait()
        node.settle()
        demand_each_once(node)
        rows = node.rows_of(*[process.pid for process in sleepers])
        assert sorted(row["pid"] for row in rows) == sorted(process.pid for process in sleepers)
        assert {row["exit_signal"] for row in rows} == {9}
        told = len(node.rows_of(*pids))
        assert told == 200 or node.gaps(DOWN), "those of the last moments may be lost, and a gap says so"
        assert told >= 100


def test_another_boot_ends_all_that_ran(tmp_path: Path) -> None:
    with running(tmp_path) as node, sleeping("60") as (process,):
        node.settle()
        node.stop()
        state = tmp_path / "state/open.json"
        kept = json.loads(state.read_bytes())
        here, kept["boot_id"] = kept["boot_id"], "00000000-1111-2222-3333-444444444444"
        state.write_text(json.dumps(kept), encoding="ascii")
        node.start()
        node.settle()
        rows = [row for row in node.rows_of(process.pid) if row["boot_id"] != here]
        assert [(row["ended_by"], row["command"]) for row in rows] == [("unknown", "sleep")]
        assert rows[0]["record_key"].split("/")[1] == kept["boot_id"]
        assert not node.gaps(DOWN)
        process.kill()
        process.wait()
        node.settle()
        (now,) = [row for row in node.rows_of(process.pid) if row["boot_id"] == here]
        assert now["exit_signal"] == 9


def test_what_a_host_that_went_down_may_have_lost_is_a_gap(tmp_path: Path) -> None:
    """Up to the state that was saved last the rows are on the disk; of what came after nobody knows."""
    with running(tmp_path) as node:
        node.settle()
        node.stop(signal.SIGKILL)
        state = tmp_path / "state/open.json"
        kept = json.loads(state.read_bytes())
        state.write_text(json.dumps({**kept, "boot_id": "00000000-1111-2222-3333-444444444444"}), encoding="ascii")
        node.start()
        (gap,) = node.gaps()
    assert (gap["command"], gap["start_ns"], gap["lost_events"]) == (HOST_DOWN, kept["saved_ns"], 0)
    assert gap["end_ns"] >= gap["start_ns"]


def test_a_state_that_is_damaged_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        node.stop()
        for damage in (b"", b"{", b'{"format":1}', b"[]", b'{"format":1,"boot_id":1,"processes":[{}]}'):
            (tmp_path / "state/open.json").write_bytes(damage)
            (tmp_path / "state/alive.json").write_bytes(damage)
            node.start()
            assert node.stop() == 0
        assert node.errors().count("is given up") == 5
        assert len(node.gaps(DOWN)) == 5, "nobody knows what ran meanwhile"


def test_where_the_state_is_lost_the_time_is_a_gap(tmp_path: Path) -> None:
    """As after a power cut, which may leave a file empty that was put in the place of another."""
    with running(tmp_path) as node:
        node.stop()
        (tmp_path / "state/open.json").write_bytes(b"")
        node.start()
        node.stop()
        (gap,) = [row for row in node.rows() if row["kind"] == "gap"]
    assert (gap["command"], gap["lost_events"]) == ("the daemon did not run", 0)
    assert gap["start_ns"] < gap["end_ns"]


def test_lost_events_are_counted_and_told_and_what_runs_is_looked_at(tmp_path: Path) -> None:
    """The daemon is stopped in the midst of a storm, with a buffer for some hundred events."""
    with running(tmp_path, SMALL) as node, sleeping("60", 2) as (ends_unseen, stays):
        node.settle()
        node.send(signal.SIGSTOP)
        run(400)
        ends_unseen.kill()
        ends_unseen.wait()
        late = subprocess.Popen(["/bin/sleep", "60"])
        node.send(signal.SIGCONT)
        wait_for(lambda: bool(node.gaps(OVERFLOW)), "the gap")
        time.sleep(3.0)  # /proc is looked at two seconds after the one before at the earliest
        wait_for(lambda: node.status()["ends_unknown"] + node.status()["starts_unknown"] > 0, "what runs to be looked at")
        late.kill()
        late.wait()
        stays.kill()
        stays.wait()
        node.settle()
        status = node.status()
        assert status["lost_events"] > 500
        assert status["event_overruns"] >= 1
        assert sum(row["lost_events"] for row in node.gaps(OVERFLOW)) == status["lost_events"]
        (unseen,) = node.rows_of(ends_unseen.pid)
        assert unseen["ended_by"] == "unknown" or unseen["exit_signal"] == 9
        (seen,) = node.rows_of(stays.pid)
        assert seen["exit_signal"] == 9
        (known,) = node.rows_of(late.pid)
        assert (known["exit_signal"], known["command"]) == (9, "sleep")
        assert status["ends_unknown"] + status["starts_unknown"] > 0
        demand_each_once(node)
        assert node.stop() == 0


@pytest.mark.parametrize("shared", ["state", "sensor", "control"])
def test_a_second_daemon_does_not_start(tmp_path: Path, shared: str) -> None:
    with running(tmp_path / "first") as node:
        second = Node(tmp_path / "second")
        text = second.config.read_text(encoding="utf-8")
        second.config.write_text(text.replace(f"{second.folder}/{shared}", f"{node.folder}/{shared}"), encoding="utf-8")
        command = [sys.executable, "-m", "procacct.node.command", "--config", str(second.config)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == BusyError.exit_code
        assert "jobmng stop" in done.stderr
        assert node.status()["ok"]
        node.settle()


@pytest.mark.parametrize(
    "wrong", ['opt_out = "~/.no"', f"environment = {[f'VARIABLE_{number:04d}' for number in range(1000)]}"], ids=["opt_out", "long"]
)
def test_a_policy_that_cannot_be_written_down_is_an_error_of_the_configuration(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "procacctd.toml"
    path.write_text(f"[sensor]\n{wrong}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"procacctd\.toml: Policy of the sensor"):
        load_node_config(path)


def test_a_daemon_that_could_not_begin_leaves_what_the_one_before_it_kept(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        control_client.ask(tmp_path / "control", "create", name="mine")
        node.stop()
        kept = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
        assert b'"mine"' in kept[tmp_path / "state/groups/groups.json"]
        command = [sys.executable, "-c", BEGINS_NOT, str(node.config)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert "ConfigError: Policy of the sensor" in done.stderr
        assert {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()} == kept
