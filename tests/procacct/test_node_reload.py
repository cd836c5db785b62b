"""SIGHUP: a running daemon goes on by what its configuration says then, or as before where that cannot be used."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from procacct.node import control_client
from procacct.node.config import NodeConfig
from procacct.node.reloading import FOR_THE_START, merged
from tests.procacct.node_daemon import WAIT_S, Node, need_kernel, running, wait_for

RULE = '[[group]]\nname = "sleepers"\nprogram = ["*/sleep", "*/coreutils"]\n'


def reload(node: Node, changed: str, told: str) -> None:
    """Has the daemon read a configuration again, until it has told what became of that."""
    before = node.errors().count(told)
    node.config.write_text(changed, encoding="utf-8")
    node.send(signal.SIGHUP)
    wait_for(lambda: node.errors().count(told) > before, told)


class TestDaemon:
    @pytest.fixture(autouse=True)
    def _kernel(self) -> None:
        need_kernel()

    def test_rules_policy_and_bounds_are_taken_over(self, tmp_path: Path) -> None:
        with running(tmp_path) as node, subprocess.Popen(["/bin/sleep", "60"]) as already:
            node.settle()
            pid = node.pid
            text = node.config.read_text(encoding="utf-8")
            changed = "outside_jobs = false\n" + text.replace("[sensor]", "[sensor]\nactive = false") + RULE
            reload(node, changed, "configuration read again")
            assert node.pid == pid
            assert "active\tno" in (tmp_path / "policy").read_text(encoding="utf-8")
            with subprocess.Popen(["/bin/sleep", "60"]) as later:
                wait_for(lambda: members(node) >= {already.pid, later.pid}, "both to be in the group")
                later.kill()
            already.kill()
            wait_for(lambda: not members(node) & {already.pid, later.pid}, "both ends to be heard")
            assert not node.rows_of(already.pid, later.pid), "programs outside jobs are left out now"

    def test_one_with_an_error_is_refused_and_the_daemon_goes_on(self, tmp_path: Path) -> None:
        with running(tmp_path) as node:
            reload(node, "outside_jobs = 7\n", "the configuration stays as it was")
            assert "outside_jobs" in node.errors()
            process = subprocess.Popen(["/bin/true"])
            process.wait()
            node.settle()
            assert node.rows_of(process.pid)

    def test_what_needs_a_start_is_told_and_the_rest_is_taken_over(self, tmp_path: Path) -> None:
        with running(tmp_path) as node:
            text = node.config.read_text(encoding="utf-8")
            changed = text.replace(f"{tmp_path}/spool", f"{tmp_path}/other").replace('"node1"', '"node2"')
            reload(node, changed + RULE, "host and [spool] path changed: that is for the next start")
            with subprocess.Popen(["/bin/sleep", "60"]) as process:
                wait_for(lambda: process.pid in members(node), "the rule to hold")
                process.kill()
            node.settle()
            assert not (tmp_path / "other").exists()
            assert {row["host"] for row in node.rows()} == {"node1"}


def test_systemd_hears_that_it_lives_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(WAIT_S)
        with running(tmp_path / "node", '[events]\nuse = "no"\n[taskstats]\nuse = "no"') as node:
            assert [listening.recv(4096) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            node.send(signal.SIGHUP)
            while listening.recv(4096) != b"READY=1":
                pass
            assert listening.recv(4096) == b"WATCHDOG=1"


def members(node: Node) -> set[int]:
    """Pids of the group of the rule, while there is one."""
    for group in control_client.ask(node.folder / "control", "list")["groups"]:
        if group["name"] == "sleepers":
            told = control_client.ask(node.folder / "control", "show", group=group["id"])
            return {member["pid"] for member in told["members"]}
    return set()


def test_keys_that_need_a_start_are_named_in_the_docs() -> None:
    text = Path("docs/how-to/node-daemon.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"Only at a start: (.*?)\.\n", text, re.DOTALL)
    named = set(re.findall(r"`([^`]+)`", told))
    assert named == {f"[{table}] {name}" if table else name for table, names in FOR_THE_START.items() for name in names}


def test_tables_of_keys_that_need_a_start_are_there() -> None:
    before = NodeConfig()
    for table, names in FOR_THE_START.items():
        for name in names:
            getattr(getattr(before, table) if table else before, name)


def test_merged_keeps_what_needs_a_start() -> None:
    before, after = (
        NodeConfig(),
        NodeConfig.model_validate({"cluster": "other", "sum_s": 5.0, "events": {"use": "no", "drain_ms": 7}}),
    )
    keys, waiting = merged(before, after)
    assert waiting == ["cluster", "[events] use"]
    assert (keys.cluster, keys.events.use, keys.events.drain_ms, keys.sum_s) == (None, "auto", 7, 5.0)
