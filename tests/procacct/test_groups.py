"""Groups of processes: who is in which, from when to when, whatever becomes of pids, events and the daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batchacct.errors import ConfigError
from procacct.node import group_processes as proc
from procacct.node.group_memory import ENDED, OLDER, STATE, EndedLines, GroupMemory
from procacct.node.group_model import Group, Member
from procacct.node.group_rules import GroupRule
from procacct.node.groups import Groups, JobFile

BOOT = "1f3a9c2e-0000-4000-8000-000000000000"
OTHER_BOOT = "2b7d11aa-0000-4000-8000-000000000000"
SECOND = proc.SECOND_NS
ABSENT = 1 << 22
"""No pid is as large: the kernel's are smaller."""


@pytest.fixture(autouse=True)
def memories(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes what a test opened."""
    opened: list[GroupMemory] = []
    begin = GroupMemory.__init__

    def remembered(self: GroupMemory, *args: Any, **more: Any) -> None:
        begin(self, *args, **more)
        opened.append(self)

    monkeypatch.setattr(GroupMemory, "__init__", remembered)
    yield
    for one in opened:
        one.close()


def groups_with(*pids: int, start_ns: int = 5) -> tuple[Groups, Group]:
    """Groups with one, of processes that are only told of."""
    groups = Groups(BOOT, "node1")
    group = groups.create("work", 0, 1)
    for pid in pids:
        groups.join(Member(pid, start_ns), group, 10, inherited=False)
    return groups, group


@contextmanager
def process(*argv: str, **more: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended afterwards."""
    with subprocess.Popen(argv or ("sleep", "1000"), **more) as running:  # type: ignore[call-overload]
        try:
            yield running
        finally:
            running.kill()


def test_a_child_joins_every_group_of_its_parent() -> None:
    groups, work = groups_with(10)
    logins = groups.create("logins", 0, 2)
    groups.join(groups.of[10], logins, 11, inherited=False)
    groups.on_fork(10, 11, 20)
    groups.on_fork(11, 12, 30)
    groups.on_fork(99, 13, 40)
    assert groups.groups_of(12) == (work.id, logins.id)
    assert groups.groups_of(13) == ()
    assert work.pids == logins.pids == {10, 11, 12}


def test_nobody_leaves_when_its_parent_does() -> None:
    groups, work = groups_with(10)
    groups.on_fork(10, 11, 20)
    (first,) = groups.on_exit(10, 30)
    assert first["pid"] == 10
    groups.on_fork(11, 12, 40)
    assert work.pids == {11, 12}


def test_the_record_of_a_membership() -> None:
    groups, work = groups_with(10)
    groups.on_fork(10, 11, 2 * SECOND)
    assert groups.on_exit(11, 7 * SECOND) == [
        {
            "record_key": f"node1/{BOOT}/{work.id}/11/{2 * SECOND}",
            "host": "node1",
            "boot_id": BOOT,
            "group_id": work.id,
            "group_name": "work",
            "made_by": "hand",
            "owner": "root",
            "pid": 11,
            "start_ns": 2 * SECOND,
            "joined_ns": 2 * SECOND,
            "left_ns": 7 * SECOND,
            "left_at": 7,
            "inherited": 1,
        }
    ]
    (by_hand,) = groups.on_exit(10, 8 * SECOND)
    assert (by_hand["inherited"], by_hand["start_ns"], by_hand["joined_ns"]) == (0, 5, 10)


def test_a_pid_that_comes_again_is_another_process() -> None:
    groups, work = groups_with(10)
    groups.on_fork(10, 11, 20)
    groups.on_exit(11, 30)
    groups.on_fork(99, 11, 40)
    assert groups.groups_of(11) == ()
    groups.on_fork(10, 11, 50)
    assert [one.start_ns for one, _ in groups.members_of(work)] == [5, 50]


def test_the_pid_of_a_member_whose_end_was_lost() -> None:
    """The successor of jobd drops such a fork; here the former one has ended, nobody knows when."""
    groups, work = groups_with(10)
    groups.on_fork(10, 11, 20)
    groups.on_fork(99, 11, 9 * SECOND)
    assert groups.groups_of(11) == ()
    (lost,) = groups.take_records()
    assert (lost["pid"], lost["start_ns"], lost["left_at"]) == (11, 20, 9)
    assert "left_ns" not in lost
    groups.on_fork(10, 11, 10 * SECOND)
    groups.on_fork(10, 11, 11 * SECOND)
    assert [record["start_ns"] for record in groups.on_exit(11, 12 * SECOND)] == [10 * SECOND, 11 * SECOND]
    assert work.pids == {10}


def test_a_fork_that_is_told_late() -> None:
    """The process was put into a group, and perhaps taken in with its parent, before its own fork was read from the kernel."""
    before = time.time_ns()
    with process() as one:
        groups = Groups(BOOT, "node1")
        mine, other = (groups.create(name, 0, 1) for name in ("mine", "other"))
        groups.add(mine, one.pid, time.time_ns())
        groups.join(Member(10, 5), other, 10, inherited=False)
        for _ in range(2):
            groups.on_fork(10, one.pid, before + 1_000_000)
        assert groups.groups_of(one.pid) == (mine.id, other.id)
        assert groups.take_records() == []


def test_who_comes_again_has_another_key() -> None:
    with process() as one:
        groups = Groups(BOOT, "node1")
        group = groups.create("work", 0, 1)
        for at in (100, 200):
            assert groups.add(group, one.pid, at)
            assert not groups.add(group, one.pid, at + 1)
            assert groups.remove(group, one.pid, at + 50)
        first, second = groups.take_records()
        assert first["record_key"] != second["record_key"]
        assert abs(first["start_ns"] - second["start_ns"]) < 2 * proc.TICK_NS
        assert group.members == 2


def test_records_of_those_who_left_by_hand_come_with_the_next_end() -> None:
    groups, work = groups_with(10, 11)
    groups.remove(work, 11, 20)
    assert [record["pid"] for record in groups.on_exit(77, 30)] == [11]
    groups.dissolve(work, 40)
    assert groups.by_id == {}
    assert [record["pid"] for record in groups.on_exit(77, 50)] == [10]
    assert groups.on_exit(10, 60) == []


def test_the_start_that_whoever_follows_events_knows_is_taken() -> None:
    with process() as one:
        groups = Groups(BOOT, "node1", start_of={one.pid: 4711}.get)
        group = groups.create(None, 0, 1)
        groups.add(group, one.pid, 5000)
        assert groups.on_exit(one.pid, 6000)[0]["start_ns"] == 4711


def test_a_start_from_proc_is_that_of_the_process() -> None:
    before = time.time_ns()
    with process() as one:
        after = time.time_ns()
        groups = Groups(BOOT, "node1")
        groups.add(groups.create(None, 0, 1), one.pid, after)
        assert before - 2 * proc.TICK_NS <= groups.of[one.pid].start_ns <= after


def test_no_process_no_member() -> None:
    groups, work = groups_with()
    assert not groups.add(work, ABSENT, 5)
    ended = subprocess.Popen(["true"])
    while (found := proc.running(ended.pid)) is not None and not found.has_ended:
        time.sleep(0.01)
    assert not groups.add(work, ended.pid, 5), "it has ended, and waits to be waited for"
    ended.wait()


steps = st.lists(
    st.tuples(
        st.sampled_from(["fork", "exit", "join", "leave", "dissolve"]), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2)
    ),
    max_size=60,
)


@given(steps)
def test_memberships_are_those_of_a_plain_model(done: list[tuple[str, int, int, int]]) -> None:
    """Against sets of pairs; every membership that begins ends once, no earlier than it began."""
    groups = Groups(BOOT, "node1")
    ids = [groups.create(str(n), 0, 0).id for n in range(3)]
    model: set[tuple[int, str]] = set()
    begun = 0
    records = []
    for at, (what, pid, other, number) in zip(range(SECOND, 100 * SECOND, SECOND), done, strict=False):
        group = groups.by_id.get(ids[number])
        if what == "fork":
            model -= {pair for pair in model if pair[0] == other}
            new = {(other, held) for member, held in model if member == pid}
            begun += len(new)
            model |= new
            groups.on_fork(pid, other, at)
        elif what == "exit":
            model -= {pair for pair in model if pair[0] == pid}
            records += groups.on_exit(pid, at)
        elif what == "join" and group and pid not in group.pids:
            groups.join(groups.of.get(pid) or Member(pid, at), group, at, inherited=False)
            begun += 1
            model.add((pid, group.id))
        elif what == "leave" and group:
            assert groups.remove(group, pid, at) == ((pid, group.id) in model)
            model.discard((pid, group.id))
        elif what == "dissolve" and group and number == 2:
            groups.dissolve(group, at)
            model -= {pair for pair in model if pair[1] == group.id}
        assert {(pid, held) for pid in range(1, 7) for held in groups.groups_of(pid)} == model
    for pid in range(1, 7):
        records += groups.on_exit(pid, 100 * SECOND)
    assert len(records) == begun
    assert all(record.get("left_ns", record["joined_ns"]) >= record["joined_ns"] for record in records)
    assert groups.of == {}
    assert len({record["record_key"] for record in records}) == begun


def test_a_process_in_no_group_costs_a_look() -> None:
    """A hundred times what it takes is allowed here: it is to show that nothing is read or searched for."""
    groups, _ = groups_with(1)
    begin = time.process_time()
    for pid in range(100_000, 150_000):
        groups.on_fork(2, pid, 5)
        groups.on_exec(pid, "/bin/true", 5)
        groups.on_exit(pid, 6)
    assert (time.process_time() - begin) / 50_000 < 100e-6


class TestRules:
    """Groups by rule, of real processes."""

    def test_by_program(self) -> None:
        groups = Groups(BOOT, "node1", rules=[GroupRule(name="sleepers", program=["*/sle?p"])])
        with process() as one:
            groups.on_exec(one.pid, "/usr/bin/sleep", 5)
            groups.on_exec(os.getpid(), "/usr/bin/python3", 5)
            (name,) = groups.groups_of(one.pid)
            assert groups.by_id[name].name == "sleepers"
            assert groups.groups_of(os.getpid()) == ()
            (record,) = groups.on_exit(one.pid, 6)
            assert (record["made_by"], record["owner"], record["inherited"]) == ("rule:sleepers", "root", 0)

    @pytest.mark.parametrize(
        ("rule", "fits"),
        [
            ({"user": ["nobody"]}, True),
            ({"user": ["no*"]}, True),
            ({"user": ["65534"]}, True),
            ({"user": ["root", "0"]}, False),
            ({"environment": {"SITE_PILOT": "p-*"}}, True),
            ({"environment": {"SITE_PILOT": "q-*"}}, False),
            ({"environment": {"SITE_PILOT": "*", "NOT_THERE": "*"}}, False),
            ({"program": ["/*/sleep"], "user": ["nobody"], "environment": {"SITE_PILOT": "p-17"}}, True),
            ({"program": ["/*/true"], "user": ["nobody"]}, False),
            ({"cgroup": ["/*"]}, True),
            ({"cgroup": ["/slurm/*"]}, False),
        ],
    )
    @pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
    def test_by_what_it_is(self, rule: dict[str, object], fits: bool) -> None:
        groups = Groups(BOOT, "node1", rules=[GroupRule.model_validate({"name": "some", **rule})])
        with process("sleep", "1000", user=65534, env={"SITE_PILOT": "p-17"}) as one:
            groups.on_exec(one.pid, proc.facts_of(one.pid).program, 5)  # type: ignore[union-attr]
            assert bool(groups.groups_of(one.pid)) == fits

    def test_what_runs_already_is_found_with_its_children(self) -> None:
        shell = "sleep 1000 & sleep 1000 & echo ready; wait"
        with process("bash", "-c", shell, stdout=subprocess.PIPE, env={**os.environ, "PILOT": "x"}, start_new_session=True) as one:
            assert one.stdout is not None and one.stdout.readline() == b"ready\n"
            groups = Groups(BOOT, "node1", rules=[GroupRule(name="shells", program=["*/bash"], environment={"PILOT": "x"})])
            groups.begin(time.time_ns())
            (group,) = groups.by_id.values()
            inherited = [held.inherited for _, held in groups.members_of(group)]
            os.killpg(one.pid, 9)
        assert len(inherited) == 3
        assert sorted(inherited) == [False, True, True]

    def test_each_is_a_group_of_its_own_and_ends_with_its_last(self) -> None:
        groups = Groups(BOOT, "node1", rules=[GroupRule(name="login", program=["*/sleep"], each=True)])
        with process() as one, process() as other:
            for pid in (one.pid, other.pid):
                groups.on_exec(pid, "/bin/sleep", 5)
            groups.on_fork(one.pid, ABSENT, 6)
            groups.on_exec(ABSENT, "/bin/sleep", 7)
            assert groups.groups_of(ABSENT) == groups.groups_of(one.pid) != groups.groups_of(other.pid)
            assert len(groups.by_id) == 2
            groups.on_exit(one.pid, 8)
            assert len(groups.by_id) == 2
            groups.on_exit(ABSENT, 9)
            assert len(groups.by_id) == 1

    def test_one_login_within_all_of_sshd(self) -> None:
        """Several groups a process: the example ELSA 0.4 was made for."""
        rules = [GroupRule(name="sshd", program=["/usr/sbin/sshd"]), GroupRule(name="login", program=["*/bash"], each=True)]
        groups = Groups(BOOT, "node1", rules=rules)
        with process() as daemon, process() as shell:
            groups.on_exec(daemon.pid, "/usr/sbin/sshd", 5)
            groups.inherit(groups.of[daemon.pid], Member(shell.pid, 6), 6)
            groups.on_exec(shell.pid, "/bin/bash", 7)
            assert [groups.by_id[one].name for one in groups.groups_of(shell.pid)] == ["sshd", "login"]

    def test_who_ends_before_a_rule_could_look_is_counted(self) -> None:
        groups = Groups(BOOT, "node1", rules=[GroupRule(name="some", user=["root"])])
        groups.on_exec(ABSENT, "/bin/true", 5)
        assert groups.undecided == 1

    def test_facts_that_are_known_are_not_read(self) -> None:
        groups = Groups(BOOT, "node1", rules=[GroupRule(name="some", cgroup=["/batch/*"])], start_of=lambda pid: 3)
        with process() as one:
            groups.on_exec(one.pid, "/bin/true", 5, proc.Facts(0, "/bin/true", ("/batch/7",)))
            assert len(groups.groups_of(one.pid)) == 1

    def test_a_rule_that_takes_everything_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="this rule would take every process"):
            GroupRule(name="all")
        with pytest.raises(ValidationError, match="name"):
            GroupRule(name="two words", program=["x"])


class TestRestart:
    """The daemon ends, is killed, and comes again."""

    def test_groups_are_those_of_before(self, tmp_path: Path) -> None:
        with process() as one:
            first = _started(tmp_path, BOOT)
            group = first.create("work", 0, time.time_ns())
            first.add(group, one.pid, time.time_ns())
            first.save(time.time_ns())
            start_ns = first.of[one.pid].start_ns
            again = _started(tmp_path, BOOT)
            assert again.groups_of(one.pid) == (group.id,)
            assert again.of[one.pid].start_ns == start_ns
            assert (again.by_id[group.id].name, again.by_id[group.id].members) == ("work", 1)
            assert again.create("next", 0, 1).id != group.id
            ((since, until),) = again.gaps
            assert since < until

    def test_who_was_forked_meanwhile_is_taken_in(self, tmp_path: Path) -> None:
        """A child of a member, a grandchild whose parent has ended but whose session tells; not a child from before it joined."""
        code = (
            "import os, sys, time, subprocess as s\n"
            "early = s.Popen(['sleep', '1000']); print(early.pid, flush=True); sys.stdin.readline()\n"
            "late = s.Popen(['sleep', '1000']); print(late.pid, flush=True)\n"
            "s.run(['bash', '-c', 'sleep 1000 >/dev/null & echo $!'])\n"
            "print(0, flush=True); time.sleep(1000)"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        with process(sys.executable, "-c", code, start_new_session=True, **pipes) as one:
            early = int(one.stdout.readline())  # type: ignore[union-attr]
            time.sleep(0.1)
            first = _started(tmp_path, BOOT)
            group = first.create("work", 0, time.time_ns())
            first.add(group, one.pid, time.time_ns())
            first.save(time.time_ns())
            one.stdin.write("\n")  # type: ignore[union-attr, call-overload]
            late, orphan = (int(one.stdout.readline()) for _ in range(2))  # type: ignore[union-attr]
            assert int(one.stdout.readline()) == 0  # type: ignore[union-attr]
            again = _started(tmp_path, BOOT)
            inherited = {member.pid: held.inherited for member, held in again.members_of(again.by_id[group.id])}
            os.killpg(one.pid, 9)
        assert proc.running(early) is None or early not in inherited
        assert inherited == {one.pid: False, late: True, orphan: True}

    def test_who_ended_meanwhile_ended_nobody_knows_when(self, tmp_path: Path) -> None:
        first = _started(tmp_path, BOOT)
        group = first.create("work", 0, time.time_ns())
        with process() as one:
            first.add(group, one.pid, time.time_ns())
            first.save(time.time_ns())
        again = _started(tmp_path, BOOT)
        (record,) = again.take_records()
        assert record["pid"] == one.pid
        assert "left_ns" not in record
        assert abs(record["left_at"] - time.time()) < 5
        assert again.by_id[group.id].pids == set()

    def test_a_pid_that_is_another_process_now(self, tmp_path: Path) -> None:
        with process() as one:
            first = _started(tmp_path, BOOT)
            first.add(first.create("work", 0, time.time_ns()), one.pid, time.time_ns())
            first.of[one.pid].ticks = 12345
            first.save(time.time_ns())
            again = _started(tmp_path, BOOT)
            assert again.groups_of(one.pid) == ()
            assert len(again.take_records()) == 1

    def test_another_boot_ends_all(self, tmp_path: Path) -> None:
        with process() as one:
            first = _started(tmp_path, BOOT)
            first.add(first.create("work", 0, time.time_ns()), one.pid, time.time_ns())
            first.save(at := time.time_ns() - 3600 * SECOND)
            again = _started(tmp_path, OTHER_BOOT)
            assert again.by_id == {}
            assert again.groups_of(one.pid) == ()
            assert again.gaps == []
            (record,) = again.take_records()
            assert (record["boot_id"], record["left_at"]) == (BOOT, at // SECOND)
            assert f"{one.pid}\t" in (tmp_path / ENDED).read_text()

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"format":1}', '{"format":2}', '{"format":1,"boot_id":1,"saved_ns":"x"}', "\0" * 100]
    )
    def test_a_state_that_cannot_be_used_is_told(self, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / STATE).write_text(text)
        groups = _started(tmp_path, BOOT)
        assert groups.by_id == {}
        assert len(caplog.records) == 1
        assert json.loads((tmp_path / STATE).read_bytes())["boot_id"] == BOOT

    def test_what_cannot_be_written_is_told_and_tried_again(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        groups = _started(tmp_path, BOOT)
        (tmp_path / f".{STATE}.new").mkdir()
        for _ in range(2):
            groups.create("work", 0, 1)
            groups.save(2)
        told = groups.unsaved
        assert told and ".groups.json.new" in told
        assert len(caplog.records) == 1
        (tmp_path / f".{STATE}.new").rmdir()
        groups.tick(60 * SECOND)
        assert not groups.unsaved
        assert len(json.loads((tmp_path / STATE).read_bytes())["groups"]) == 2

    def test_forks_are_written_now_and_then(self, tmp_path: Path) -> None:
        with process() as one:
            groups = _started(tmp_path, BOOT)
            groups.add(groups.create("work", 0, 1), one.pid, 1)
            groups.save(now := time.time_ns())
            groups.on_fork(one.pid, ABSENT, now)
            groups.tick(now + SECOND)
            assert len(json.loads((tmp_path / STATE).read_bytes())["members"]) == 1
            groups.tick(now + 11 * SECOND)
            assert len(json.loads((tmp_path / STATE).read_bytes())["members"]) == 2

    def test_lost_events(self, tmp_path: Path) -> None:
        with process("bash", "-c", "read; sleep 1000 & read; kill $!", stdin=subprocess.PIPE) as one:
            groups = _started(tmp_path, BOOT)
            groups.add(groups.create("work", 0, 1), one.pid, since := time.time_ns())
            groups.on_fork(one.pid, ABSENT, time.time_ns())
            one.stdin.write(b"\n")  # type: ignore[union-attr]
            one.stdin.flush()  # type: ignore[union-attr]
            while not (children := [p for p in proc.all_running() if p.parent_pid == one.pid]):
                time.sleep(0.01)
            groups.lost(since, time.time_ns())
            assert len(groups.groups_of(children[0].pid)) == 1
            assert groups.groups_of(ABSENT) == ()
            assert len(groups.gaps) == 1
            one.communicate(b"\n")


class TestJobFile:
    """What ELSA read: group, pid, start, end."""

    def test_lines(self, tmp_path: Path) -> None:
        with process() as one:
            groups = _started(tmp_path, BOOT)
            mine = groups.create("mine", 1, 5)
            other = groups.create(None, 2, 5)
            for group in (mine, other):
                groups.add(group, one.pid, time.time_ns())
            groups.on_fork(one.pid, ABSENT, 7 * SECOND)
            groups.on_exit(ABSENT, 9 * SECOND)
            groups.remove(other, one.pid, time.time_ns())
            start = groups.of[one.pid].start_ns // SECOND
            assert _text(groups.job_file()).splitlines() == [
                f"# group {mine.id} mine made by hand, of {mine.owner}",
                f"# group {other.id} - made by hand, of {other.owner}",
                f"{mine.id}\t{ABSENT}\t7\t9",
                f"{other.id}\t{ABSENT}\t7\t9",
                f"{mine.id}\t{one.pid}\t{start}\t-",
            ]
            assert _text(groups.job_file(2)).splitlines()[1:] == [f"{other.id}\t{ABSENT}\t7\t9"]

    def test_bound(self, tmp_path: Path) -> None:
        memory = GroupMemory(tmp_path, most_bytes=2000)
        for pid in range(1000, 1200):
            memory.note_ended("aaaaaaaa.1", pid, 5, 6, 0)
        told = _text(memory.ended()).splitlines()
        assert (tmp_path / OLDER).stat().st_size + (tmp_path / ENDED).stat().st_size <= 2000
        assert told[-1] == "aaaaaaaa.1\t1199\t5\t6"
        assert [int(line.split()[1]) for line in told] == list(range(1200 - len(told), 1200))

    def test_a_line_that_was_torn_is_left_out(self, tmp_path: Path) -> None:
        (tmp_path / ENDED).write_bytes(b"a.1\t1\t5\t6\t0\nnonsense\na.1\t2\t5\t6\t0\na.1\t3\t5")
        assert _text(GroupMemory(tmp_path).ended(0)) == "a.1\t1\t5\t6\na.1\t2\t5\t6\n"

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="cannot be written"):
            GroupMemory(tmp_path / "file" / "folder")


def _text(lines: JobFile | EndedLines) -> str:
    with closing(lines):
        return b"".join(lines).decode()


def _started(folder: Path, boot_id: str) -> Groups:
    groups = Groups(boot_id, "node1", memory=GroupMemory(folder))
    groups.begin(time.time_ns())
    return groups
