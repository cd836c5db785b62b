"""The control socket: who may ask what, and that nobody, whatever he sends, keeps it from answering others."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchacct.errors import BatchacctError, BusyError, ConfigError
from procacct.node import group_processes as proc
from procacct.node.control import CHUNK, LONGEST_REQUEST, ControlServer, Limits, Reply
from procacct.node.control_client import NoDaemonError, RefusedError, ask, asked
from procacct.node.control_requests import MOST_GROUPS_OF_A_PROCESS, MOST_GROUPS_OF_A_USER
from procacct.node.group_memory import GroupMemory
from tests.procacct.control_server import BOOT, Served, served
from tests.procacct.open_folder import open_folder

NOBODY, DAEMON = 65534, 1
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


@pytest.fixture
def here() -> Iterator[Served]:
    with open_folder() as folder, served(folder) as one:
        yield one


@pytest.fixture
def of_nobody() -> Iterator[int]:
    yield from _running(NOBODY)


@pytest.fixture
def of_root() -> Iterator[int]:
    yield from _running(0)


def _running(user_id: int) -> Iterator[int]:
    with subprocess.Popen(["sleep", "1000"], user=user_id if os.geteuid() == 0 else None) as one:
        yield one.pid
        one.kill()


def as_user(user_id: int, path: Path, do: str, **request: object) -> dict[str, Any]:
    """The answer to a request that another user makes: a process of that user connects."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(user_id, user_id, user_id)
            os.setresuid(user_id, user_id, user_id)
            try:
                with asked(path, do, **request) as (answer, lines):
                    answer["file"] = lines.read().decode().splitlines()
            except BatchacctError as error:
                answer = {"ok": False, "error": error.message}
            os.write(tell, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        text = file.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text)
    return found


class TestRequests:
    """Each kind, by root."""

    def test_create_add_show_remove(self, here: Served, of_root: int) -> None:
        group = ask(here.path, "create", name="build")["group"]
        assert (group["name"], group["owner"], group["made_by"], group["processes"]) == ("build", "root", "hand", 0)
        assert ask(here.path, "add", group="build", pids=[of_root, of_root])["added"] == [of_root]
        again = ask(here.path, "add", group=group["id"], pids=[of_root])
        assert (again["added"], again["there"]) == ([], [of_root])
        (member,) = ask(here.path, "show", group=group["id"].partition(".")[2])["members"]
        assert (member["pid"], member["inherited"]) == (of_root, False)
        assert [one["processes"] for one in ask(here.path, "list")["groups"]] == [1]
        assert ask(here.path, "remove", group="build", pids=[of_root])["removed"] == [of_root]
        assert ask(here.path, "remove", group="build")["removed"] is None
        assert ask(here.path, "list")["groups"] == []

    def test_what_is_told_is_on_the_disk(self, here: Served, of_root: int) -> None:
        ask(here.path, "create", name="build", pids=[of_root])
        state = json.loads((here.path.parent / "state" / "groups.json").read_bytes())
        assert [group[1] for group in state["groups"]] == ["build"]
        assert [member[0] for member in state["members"]] == [of_root]

    def test_what_could_not_be_written_is_told(self, here: Served) -> None:
        (here.path.parent / "state" / ".groups.json.new").mkdir()
        assert "could not be written" in ask(here.path, "create")["warning"]

    def test_tree(self, here: Served) -> None:
        script = "sleep 1000 & (sleep 1000; :) & echo ready; wait"
        with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as one:
            assert one.stdout is not None and one.stdout.readline() == b"ready\n"
            deadline = time.monotonic() + 60
            while sum(found.session == one.pid for found in proc.all_running()) < 4 and time.monotonic() < deadline:
                time.sleep(0.01)
            ask(here.path, "create", name="tree")
            assert len(ask(here.path, "add", group="tree", pids=[one.pid], tree=True)["added"]) == 4
            os.killpg(one.pid, 9)

    def test_dump(self, here: Served, of_root: int) -> None:
        group = ask(here.path, "create", name="build", pids=[of_root])["group"]
        with asked(here.path, "dump") as (_, lines):
            comment, line = lines.read().decode().splitlines()
        assert comment == f"# group {group['id']} build made by hand, of root"
        assert line.split("\t")[:2] == [group["id"], str(of_root)]
        assert abs(int(line.split("\t")[2]) - time.time()) < 60
        assert line.endswith("\t-")

    def test_a_long_dump_keeps_nobody_waiting(self, here: Served, of_root: int) -> None:
        ask(here.path, "create", name="build", pids=[of_root])
        with here.lock:
            for pid in range(5_000_000, 5_200_000):
                here.groups.on_fork(of_root, pid, 5)
                here.groups.on_exit(pid, 6)
        with asked(here.path, "dump") as (_, lines):
            first = lines.readline()
            assert ask(here.path, "list")["ok"]
            assert first.startswith(b"#")
            assert sum(1 for _ in lines) == 200_001

    def test_a_dump_that_finds_little_lets_the_loop_go_on(self, tmp_path: Path) -> None:
        """Of a job file with many lines of others no more than a thousand are read a turn."""
        memory = GroupMemory(tmp_path / "state")
        for n in range(20_000):
            memory.note_ended("a.1", n, 5, 6, 0)
        memory.note_ended("a.2", 7, 5, 6, NOBODY)
        lines = memory.ended(NOBODY)
        server = ControlServer(tmp_path / "control", lambda _request, _caller: Reply({"ok": True}, lines, lines.close))
        try:
            with _connected(tmp_path / "control") as client:
                client.sendall(b"{}\n")
                client.setblocking(False)
                got, turns, ended = b"", 0, False
                while not ended:
                    server.turn()
                    turns += 1
                    with contextlib.suppress(BlockingIOError):
                        while piece := client.recv(CHUNK):
                            got += piece
                        ended = True
                assert got.splitlines()[1:] == [b"a.2\t7\t5\t6"]
                assert turns >= 20
        finally:
            server.close()
            memory.close()

    def test_status_and_stop(self, here: Served) -> None:
        told = ask(here.path, "status")
        assert (told["boot_id"], told["groups"], told["members"], told["spooled"], told["gaps"]) == (BOOT, 0, 0, 7, [])
        ask(here.path, "stop")
        assert here.ended.is_set()

    @pytest.mark.parametrize(
        ("request_", "told"),
        [
            ({"do": "create", "name": "two words"}, "a name is of 1 to 64"),
            ({"do": "create", "name": "12"}, "a name is of 1 to 64"),
            ({"do": "create", "name": "1f3a9c2e.5"}, "a name is of 1 to 64"),
            ({"do": "create", "name": "x" * 65}, "a name is of 1 to 64"),
            ({"do": "create", "name": 5}, "a name is of 1 to 64"),
            ({"do": "create", "name": "there"}, "you have a group there already"),
            ({"do": "create", "pids": [4_194_304]}, "there is no process 4194304"),
            ({"do": "add", "group": "there", "pids": [0]}, "whole numbers from 1 to"),
            ({"do": "add", "group": "there", "pids": [True]}, "whole numbers from 1 to"),
            ({"do": "add", "group": "there", "pids": ["1"]}, "whole numbers from 1 to"),
            ({"do": "add", "group": "there", "pids": []}, "is a list of at most"),
            ({"do": "add", "group": "there", "pids": list(range(1, 5000))}, "is a list of at most"),
            ({"do": "add", "group": "there"}, "is a list of at most"),
            ({"do": "add", "group": "gone", "pids": [1]}, "you have no group 'gone'"),
            ({"do": "add", "pids": [1]}, "is the id, the number or the name"),
            ({"do": "remove", "group": "there", "pids": [1]}, "process 1 is not in group"),
            ({"do": "remove", "group": "\ud800"}, "you have no group"),
            ({"do": "show", "group": ["there"]}, "is the id, the number or the name"),
            ({"do": "fly"}, "one of create, add"),
            ({"do": []}, "one of create, add"),
            ({}, "one of create, add"),
            ([], "one of create, add"),
            (None, "one of create, add"),
        ],
    )
    def test_refused(self, here: Served, request_: object, told: str) -> None:
        ask(here.path, "create", name="there")
        answer = json.loads(_sent(here.path, json.dumps(request_).encode() + b"\n"))
        assert answer["ok"] is False
        assert told in answer["error"]
        assert [one["processes"] for one in ask(here.path, "list")["groups"]] == [0]

    def test_an_ambiguous_name(self, here: Served) -> None:
        with here.lock:
            for user_id in (0, 1):
                here.groups.create("twice", user_id, 1)
        with pytest.raises(RefusedError, match="2 groups are called twice: give one's id"):
            ask(here.path, "show", group="twice")


@needs_root
class TestRights:
    """What users may, and may not."""

    def test_own_processes_into_own_groups(self, here: Served, of_nobody: int) -> None:
        made = as_user(NOBODY, here.path, "create", name="mine", pids=[of_nobody])
        assert made["added"] == [of_nobody]
        assert made["group"]["owner"] == "nobody"
        assert as_user(NOBODY, here.path, "remove", group="mine", pids=[of_nobody])["ok"]
        assert as_user(NOBODY, here.path, "add", group="mine", pids=[of_nobody])["ok"]
        assert as_user(NOBODY, here.path, "remove", group="mine")["ok"]

    def test_no_process_of_another(self, here: Served, of_root: int, of_nobody: int) -> None:
        as_user(NOBODY, here.path, "create", name="mine")
        for request in (
            {"do": "create", "pids": [of_nobody, of_root]},
            {"do": "add", "group": "mine", "pids": [of_nobody, of_root]},
        ):
            answer = as_user(NOBODY, here.path, **request)  # type: ignore[arg-type]
            assert answer["error"] == f"process {of_root} is not yours: only root may put it into a group"
        with here.lock:
            assert here.groups.of == {}, "nothing was done, not by half"

    def test_no_group_of_another(self, here: Served, of_nobody: int) -> None:
        made = ask(here.path, "create", name="of-root", pids=[of_nobody])["group"]
        for request in (
            {"do": "add", "group": made["id"], "pids": [of_nobody]},
            {"do": "remove", "group": made["id"], "pids": [of_nobody]},
            {"do": "remove", "group": "of-root"},
            {"do": "show", "group": made["id"]},
        ):
            assert "you have no group" in as_user(NOBODY, here.path, **request)["error"]
        assert as_user(NOBODY, here.path, "list")["groups"] == []

    def test_a_name_is_each_users_own(self, here: Served) -> None:
        for user_id in (NOBODY, DAEMON):
            assert as_user(user_id, here.path, "create", name="build")["ok"]
            assert as_user(user_id, here.path, "show", group="build")["ok"]

    def test_dump_is_of_own_groups(self, here: Served, of_nobody: int) -> None:
        ask(here.path, "create", name="of-root", pids=[of_nobody])
        made = as_user(NOBODY, here.path, "create", name="mine", pids=[of_nobody])
        with here.lock:
            here.groups.on_exit(of_nobody, 5)
        assert [one.split("\t")[0] for one in as_user(NOBODY, here.path, "dump")["file"] if one[0] != "#"] == [made["group"]["id"]]
        with asked(here.path, "dump") as (_, lines):
            assert sum(not line.startswith(b"#") for line in lines) == 2

    def test_only_root_stops(self, here: Served) -> None:
        assert as_user(NOBODY, here.path, "stop")["error"] == "only root may stop the daemon"
        assert not here.ended.is_set()

    def test_groups_by_rule_are_roots(self, here: Served, of_nobody: int) -> None:
        with here.lock:
            group = here.groups.create("login", NOBODY, 1, made_by="rule:login")
            here.groups.add(group, of_nobody, 2)
        assert "only root may change it" in as_user(NOBODY, here.path, "remove", group="login", pids=[of_nobody])["error"]
        assert ask(here.path, "remove", group="login", pids=[of_nobody])["ok"]

    def test_bounds(self, here: Served, of_nobody: int) -> None:
        with here.lock:
            full = [here.groups.create(f"n{n}", NOBODY, n) for n in range(MOST_GROUPS_OF_A_USER)]
            for group in full:
                here.groups.add(group, os.getpid(), 5)
        assert "remove some" in as_user(NOBODY, here.path, "create")["error"]
        with here.lock:
            here.groups.remove(full[3], os.getpid(), 6)
        assert as_user(NOBODY, here.path, "create", name="new")["ok"]
        with here.lock:
            assert full[3].id not in here.groups.by_id, "the empty one made way"
            for group in full[10 : 10 + MOST_GROUPS_OF_A_PROCESS]:
                here.groups.add(group, of_nobody, 7)
        assert "cannot be in more" in as_user(NOBODY, here.path, "add", group="new", pids=[of_nobody])["error"]

    def test_places_of_a_user(self) -> None:
        with open_folder() as folder, served(folder, Limits(connections=4, of_a_user=0)) as here:
            assert "too many ask at once" in as_user(NOBODY, here.path, "list")["error"]
            assert ask(here.path, "list")["ok"]


class TestBadClients:
    """The server answers others, and goes on."""

    def test_whoever_says_nothing_is_cut_off(self, tmp_path: Path) -> None:
        with served(tmp_path, Limits(request_s=0.2)) as here, _connected(here.path) as silent:
            assert ask(here.path, "list")["ok"]
            silent.settimeout(5)
            assert silent.recv(1) == b""

    def test_whoever_takes_nothing_is_cut_off(self, tmp_path: Path) -> None:
        with served(tmp_path, Limits(answer_s=0.3)) as here:
            with here.lock:
                group = here.groups.create("many", 0, 1)
                here.groups.add(group, os.getpid(), 2)
                for pid in range(5_000_000, 5_100_000):
                    here.groups.on_fork(os.getpid(), pid, 5)
                    here.groups.on_exit(pid, 6)
            with _connected(here.path) as lazy:
                lazy.sendall(b'{"do":"dump"}\n')
                time.sleep(0.8)
                assert ask(here.path, "list")["ok"]
                lazy.settimeout(5)
                got = 0
                while piece := lazy.recv(1 << 20):
                    got += len(piece)
                assert got < 1_000_000

    def test_places(self, tmp_path: Path) -> None:
        with served(tmp_path, Limits(connections=3)) as here:
            waiting = [_connected(here.path) for _ in range(3)]
            with pytest.raises(RefusedError, match="too many ask at once"):
                ask(here.path, "list")
            waiting.pop().close()
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert ask(here.path, "list")["ok"]
                    break
                except RefusedError:
                    assert time.monotonic() < deadline
            for one in waiting:
                one.close()

    def test_a_request_without_a_newline(self, here: Served) -> None:
        assert json.loads(_sent(here.path, b'{"do":"list"}'))["ok"]

    def test_a_request_in_pieces(self, here: Served) -> None:
        with _connected(here.path) as slow:
            for byte in b'{"do":"list"}\n':
                slow.send(bytes([byte]))
                time.sleep(0.003)
            assert json.loads(slow.recv(10_000))["ok"]

    @pytest.mark.parametrize(
        "sent",
        [
            b"\n",
            b"\0\n",
            b"{\n",
            b"[" * 60_000 + b"\n",
            b"9" * 60_000 + b"\n",
            b'{"do":"list"}x\n',
            b"\xff\xfe\n",
            b"NaN\n",
            b'"list"\n',
        ],
    )
    def test_no_request(self, here: Served, sent: bytes) -> None:
        assert json.loads(_sent(here.path, sent))["ok"] is False
        assert ask(here.path, "list")["ok"]

    def test_too_long(self, here: Served) -> None:
        with _connected(here.path) as long:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                long.sendall(b"x" * (4 * LONGEST_REQUEST))
            answer = json.loads(long.recv(10_000))
        assert "at most 65536 bytes" in answer["error"]

    def test_noise(self, here: Served) -> None:
        """Thousands of damaged requests: each is answered or cut off, and the next one is answered."""
        made = ask(here.path, "create", name="work", pids=[os.getpid()])["group"]
        dice = random.Random(20261127)
        good = [
            json.dumps({"do": do, "group": made["id"], "pids": [1], "name": "n"}).encode() + b"\n"
            for do in ("create", "add", "remove", "list", "show", "dump", "status")
        ]
        for _ in range(3000):
            sent = bytearray(dice.choice(good))
            for _ in range(dice.randint(1, 6)):
                at = dice.randrange(len(sent))
                kind = dice.random()
                if kind < 0.5:
                    sent[at] = dice.randrange(256)
                elif kind < 0.8:
                    del sent[at : at + dice.randint(1, 8)]
                else:
                    sent[at:at] = dice.randbytes(dice.randint(1, 8))
                sent = sent or bytearray(b"\n")
            answer = _sent(here.path, bytes(sent))
            if answer:
                assert isinstance(json.loads(answer.splitlines()[0])["ok"], bool)
        assert ask(here.path, "list")["ok"]

    @pytest.mark.parametrize("value", [None, [], {}, 0, -1, 1.5, "x", True, [None], [[]], {"a": 1}, 2**70, "\0", [2**63], ["1"]])
    def test_values_of_any_kind(self, here: Served, value: object) -> None:
        """An error of the program would be told as such."""
        for do in ("create", "add", "remove", "list", "show", "dump", "status"):
            for key in ("group", "pids", "name", "tree"):
                request = {"do": do, "group": "work", "pids": [1], key: value}
                answer = json.loads(_sent(here.path, json.dumps(request).encode() + b"\n").splitlines()[0])
                assert "failed" not in answer.get("error", "")

    def test_an_error_of_the_program_is_told_and_survived(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        def broken(request: object, caller: object) -> Reply:
            raise ZeroDivisionError

        server = ControlServer(tmp_path / "control", broken)
        with _connected(server.path) as client:
            client.sendall(b"{}\n")
            for _ in range(3):
                server.turn()
            assert "its log says how" in json.loads(client.recv(1000))["error"]
        assert caplog.records[0].exc_info is not None
        server.close()

    def test_clients_that_reset(self, here: Served) -> None:
        for _ in range(50):
            with _connected(here.path) as one:
                one.sendall(b'{"do":"dump"}\n')
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert ask(here.path, "list")["ok"]

    def test_nothing_is_left_open(self, here: Served) -> None:
        ask(here.path, "list")
        before = _descriptors()
        for _ in range(200):
            _sent(here.path, b"x\n")
        time.sleep(0.2)
        assert _descriptors() <= before


class TestSocket:
    """The file of the socket."""

    def test_everybody_may_connect(self, here: Served) -> None:
        assert here.path.stat().st_mode & 0o777 == 0o666

    def test_one_that_a_killed_daemon_left_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "control"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        ControlServer(path, _nothing).close()
        assert not path.exists()

    def test_one_that_lives_is_left_alone(self, here: Served) -> None:
        with pytest.raises(BusyError, match="stop it first"):
            ControlServer(here.path, _nothing)
        assert ask(here.path, "list")["ok"]

    def test_what_is_no_socket_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "control").write_text("mine")
        with pytest.raises(ConfigError, match="something that is no socket"):
            ControlServer(tmp_path / "control", _nothing)
        assert (tmp_path / "control").read_text() == "mine"

    def test_a_folder_that_is_missing_is_made_for_everybody_to_look_into(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            ControlServer(tmp_path / "run" / "batchacct" / "control", _nothing).close()
        finally:
            os.umask(before)
        assert (tmp_path / "run" / "batchacct").stat().st_mode & 0o777 == 0o755

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match=r"cannot be made: .*\. Make its folder"):
            ControlServer(tmp_path / "file" / "control", _nothing)

    def test_no_daemon(self, tmp_path: Path) -> None:
        with pytest.raises(NoDaemonError, match="Does it run on this host"):
            ask(tmp_path / "control", "list")


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _nothing(request: object, caller: object) -> Reply:
    return Reply({"ok": True})


def _connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(10)
    client.connect(str(path))
    return client


def _sent(path: Path, request: bytes) -> bytes:
    """All that comes back to some bytes."""
    with _connected(path) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as file:
            return file.read()
