"""`jobmng` at work, on groups that follow the kernel's events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from batchacct.errors import BatchacctError, BusyError, ConfigError, IncompleteError
from procacct.jobmng import jobmng
from procacct.node import group_processes as proc
from procacct.node.control_client import NoDaemonError, RefusedError
from tests.procacct import event_log
from tests.procacct.control_server import Served, served
from tests.procacct.event_log import EXIT, FORK, Event, listening
from tests.procacct.node_daemon import wait_for
from tests.procacct.open_folder import open_folder
from tests.servers import REQUIRED


@pytest.fixture
def here() -> Iterator[Served]:
    """Groups of what really runs on this host."""
    if not REQUIRED and not event_log.works():
        pytest.skip("the kernel tells no process events to this user, or in this container")
    with open_folder() as folder, served(folder) as one:
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)

        def tell(event: Event) -> None:
            with one.lock:
                if event.what == FORK and event.pid == event.thread:
                    one.groups.on_fork(event.parent, event.pid, event.at_ns + offset)
                elif event.what == EXIT and event.pid == event.thread:
                    one.records += one.groups.on_exit(event.pid, event.at_ns + offset)

        with listening(tell):
            yield one


def run(here: Served, *words: str) -> str:
    """What it prints; errors are raised as they are."""
    result: Result = CliRunner().invoke(jobmng, ["--socket", str(here.path), *words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


SCRIPT = f"(sleep 1000 & sleep 1000 & wait) & sleep 1000 & {sys.executable} -c 'import time; time.sleep(1000)' & echo ready; wait"


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[bytes]]:
    """A shell that waits for a line, and then runs a tree of processes."""
    with subprocess.Popen(
        ["bash", "-c", f"read; {SCRIPT}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as one:
        yield one
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)


def go(shell: subprocess.Popen[bytes]) -> None:
    assert shell.stdin is not None and shell.stdout is not None
    shell.stdin.write(b"\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == b"ready\n"


def members(here: Served, group: str, number: int) -> list[int]:
    """Pids, once there are so many."""
    deadline = time.monotonic() + 60
    while True:
        pids = [one["pid"] for one in json.loads(run(here, "show", group, "--json"))["members"]]
        if len(pids) == number:
            return pids
        assert time.monotonic() < deadline, pids
        time.sleep(0.02)


def test_what_a_shell_starts_is_of_its_group(here: Served, shell: subprocess.Popen[bytes]) -> None:
    group = run(here, "create", "build", "--pid", str(shell.pid)).strip()
    go(shell)
    pids = members(here, "build", 6)
    assert pids[0] == shell.pid or shell.pid in pids
    assert f"Group {group} build" in run(here, "show", group)
    assert "rule" not in run(here, "list")
    (told,) = json.loads(run(here, "list", "--json"))["groups"]
    assert (told["processes"], told["processes_ever"]) == (6, 6)


def test_kill_and_wait(here: Served, shell: subprocess.Popen[bytes]) -> None:
    run(here, "create", "build", "--pid", str(shell.pid))
    go(shell)
    members(here, "build", 6)
    with pytest.raises(BusyError, match=r"6 processes of group .* run still"):
        run(here, "wait", "build", "--timeout", "0.1")
    run(here, "kill", "build", "--signal", "KILL")
    assert shell.wait(10) == -signal.SIGKILL
    run(here, "wait", "build", "--timeout", "10")
    assert len(here.records) == 6
    assert all(record["left_ns"] >= record["joined_ns"] for record in here.records)
    assert sorted(record["inherited"] for record in here.records) == [0, 1, 1, 1, 1, 1]


def test_the_shell_that_calls_may_be_in_the_group(here: Served) -> None:
    """`jobmng kill` spares itself."""
    command = f"{sys.executable} -m procacct.jobmng --socket {here.path}"
    script = f"trap : TERM; {command} create mine --pid $$ >/dev/null; sleep 1000 & {command} kill mine; echo $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.strip() == "0", done.stderr
    assert len(here.records) >= 2


def test_add_remove(here: Served, shell: subprocess.Popen[bytes]) -> None:
    run(here, "create", "build")
    go(shell)
    wait_for(lambda: sum(found.session == shell.pid for found in proc.all_running()) == 6, "all of them to run")
    assert ": 6 of its processes: added" in run(here, "add", "build", str(shell.pid), "--tree")
    group = json.loads(run(here, "list", "--json"))["groups"][0]["id"]
    assert run(here, "add", "build", str(shell.pid)) == f"already a member of group {group}: {shell.pid}\n"
    assert ": 1 of its processes: removed" in run(here, "remove", "build", str(shell.pid))
    members(here, "build", 5)
    assert run(here, "remove", "build").strip().endswith(": removed")
    assert json.loads(run(here, "list", "--json"))["groups"] == []
    assert shell.poll() is None


def test_dump(here: Served, shell: subprocess.Popen[bytes], tmp_path: Path) -> None:
    group = run(here, "create", "build", "--pid", str(shell.pid)).strip()
    go(shell)
    members(here, "build", 6)
    os.killpg(shell.pid, signal.SIGKILL)
    run(here, "wait", "build", "--timeout", "10")
    run(here, "dump", str(tmp_path / "jobs"))
    lines = [line.split("\t") for line in (tmp_path / "jobs").read_text().splitlines() if not line.startswith("#")]
    assert [line[0] for line in lines] == [group] * 6
    assert str(shell.pid) in [line[1] for line in lines]
    assert all(0 <= int(end) - int(start) < 60 for _, _, start, end in lines)
    assert run(here, "dump", "-") == (tmp_path / "jobs").read_text()
    with pytest.raises(ConfigError, match="cannot be written"):
        run(here, "dump", str(tmp_path / "no" / "jobs"))


def test_status_and_stop(here: Served) -> None:
    told = run(here, "status")
    assert "host: node1\n" in told
    assert "unsaved: -\n" in told
    with here.lock:
        here.groups.lost(0, 1_000_000_000)
    assert "Between 1970-01-01 00:00:00Z and 1970-01-01 00:00:01Z events are missing" in run(here, "status")
    run(here, "stop")
    assert here.ended.is_set()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_kill_of_what_is_not_ones_own(here: Served) -> None:
    with subprocess.Popen(["sleep", "1000"]) as of_root:
        with here.lock:
            group = here.groups.create("mine", 65534, 1)
            here.groups.add(group, of_root.pid, time.time_ns())
        told, tell = os.pipe()
        if not (child := os.fork()):
            os.setresuid(65534, 65534, 65534)
            try:
                run(here, "kill", "mine")
            except BatchacctError as error:
                os.write(tell, f"{type(error).__name__} {error.message}".encode())
            os._exit(0)
        os.close(tell)
        os.waitpid(child, 0)
        with os.fdopen(told) as file:
            assert file.read().startswith(f"{IncompleteError.__name__} 1 processes are not yours")
        assert of_root.poll() is None
        of_root.kill()


def test_errors(here: Served, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="you have no group 'gone'"):
        run(here, "show", "gone")
    with pytest.raises(ConfigError, match="there is no signal fly"):
        run(here, "kill", "gone", "--signal", "fly")
    with pytest.raises(click.UsageError):
        run(here, "add", "gone", "0")
    with pytest.raises(NoDaemonError):
        run(Served(tmp_path / "nothing", here.groups), "list")


def test_exit_statuses(here: Served, tmp_path: Path) -> None:
    for socket_, status in ((here.path, RefusedError.exit_code), (tmp_path / "nothing", NoDaemonError.exit_code)):
        done = subprocess.run(
            [sys.executable, "-m", "procacct.jobmng", "--socket", socket_, "show", "x"], capture_output=True, text=True, check=False
        )
        assert done.returncode == status
        assert done.stderr.startswith("jobmng: ")


def test_every_command_and_option_has_help() -> None:
    for name, command in jobmng.commands.items():
        assert command.help, name
        assert all(option.help for option in command.params if isinstance(option, click.Option)), name


def test_it_starts_at_once() -> None:
    """It is called in scripts: no database library is imported for it."""
    script = "import procacct.jobmng, sys; print([m for m in ('sqlalchemy', 'pyarrow', 'pydantic', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
