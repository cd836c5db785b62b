"""Events to rows: what each order of forks, executions, threads and ends comes to.

The events are made here, of processes that no host has.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from procacct.node.alone import Alone
from procacct.node.batch_jobs import BatchJob
from procacct.node.clocks import Clocks
from procacct.node.connector import EXEC, EXIT, FORK, UID, Event
from procacct.node.group_hooks import NoGroups
from procacct.node.looking import Looking
from procacct.node.proc_files import Stat
from procacct.node.processes import PROC, Belonging, Process
from procacct.node.rescan import Rescan
from procacct.node.rows import Rows
from procacct.node.state import _kept, _process
from procacct.node.taskstats import Task
from procacct.node.told import END, START, Told
from procacct.node.tree import Tree
from procacct.node.waiting import MOST_TOLD_OF_ONE

P = 5_000_000
"""Beyond the largest pid there is."""
S = 1_000_000_000
BASE_NS = time.monotonic_ns()


class Out:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def process(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def groups(self, records: list[dict[str, Any]]) -> None:
        raise AssertionError(records)


def made() -> tuple[Tree, Out]:
    out = Out()
    rows = Rows("n", "boot", {0: "root"}.get)
    return Tree(rows, Looking(Clocks(), "all"), NoGroups(), out, hears_ends=False), out


def fork(parent: int, child: int, at: int, thread_of: int | None = None) -> Event:
    return (0, FORK, 0, BASE_NS + at, P + parent, P + parent, P + child, P + (child if thread_of is None else thread_of), 0, 0)


def exec_(pid: int, at: int) -> Event:
    return (0, EXEC, 0, BASE_NS + at, P + pid, P + pid, 0, 0, 0, 0)


def exit_(pid: int, at: int, status: int = 0, tgid: int | None = None) -> Event:
    return (0, EXIT, 0, BASE_NS + at, P + pid, P + (pid if tgid is None else tgid), status, 17, 0, 0)


def shape(out: Out) -> list[tuple[Any, ...]]:
    """Pid, number, kind, how it ended, start and end after the beginning."""
    offset = Clocks().to_real_ns + BASE_NS
    found = []
    for row in out.rows:
        number = int(row["record_key"].rpartition("/")[2])
        start_ns, end_ns = row["start_ns"] - offset, row.get("end_ns")
        end = None if end_ns is None else round((end_ns - offset) / S)
        found.append((row["pid"] - P, number, row["kind"], row["ended_by"], round(start_ns / S), end))
    return found


def test_a_chain_of_executions_is_a_row_each() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), exec_(2, 1 * S), exec_(2, 3 * S), exit_(2, 6 * S, 7 << 8)])
    assert shape(out) == [(2, 1, "program", "exec", 1, 3), (2, 2, "program", "exit", 3, 6)]
    assert "exit_code" not in out.rows[0]
    assert out.rows[1]["exit_code"] == 7
    assert out.rows[0]["record_key"].split("/")[:4] == out.rows[1]["record_key"].split("/")[:4]


def test_a_fork_that_never_executes_is_one() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), exec_(2, 1 * S), fork(2, 3, 2 * S), exit_(3, 4 * S, 9), exit_(2, 5 * S, 0x8B)])
    assert shape(out) == [(3, 0, "fork", "signal", 2, 4), (2, 1, "program", "signal", 1, 5)]
    assert [(row["exit_signal"], row["core_dumped"]) for row in out.rows] == [(9, 0), (11, 1)]


def test_threads_are_no_processes_and_the_last_one_ends_it() -> None:
    tree, out = made()
    started = [fork(1, 2, 0), exec_(2, 1 * S), fork(1, 3, 2 * S, thread_of=2), fork(1, 4, 2 * S, thread_of=2)]
    tree.events([*started, exit_(3, 3 * S, tgid=2), exit_(2, 4 * S, 5 << 8)])
    assert out.rows == []
    tree.events([exit_(4, 9 * S, tgid=2)])
    assert shape(out) == [(2, 1, "program", "exit", 1, 9)]
    assert (out.rows[0]["exit_code"], out.rows[0]["threads"]) == (5, 3)
    assert tree.processes == {}


def test_threads_that_proc_counted_are_not_counted_again() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), exec_(2, 1 * S)])
    process = tree.processes[P + 2]
    process.count(Stat(P + 2, "a", "S", 1, 0, 0, 2, 0, BASE_NS + 5 * S))
    early = [fork(1, thread, 2 * S, thread_of=2) for thread in (3, 4)]
    tree.events([*early, exit_(4, 3 * S, tgid=2), fork(1, 5, 6 * S, thread_of=2), exit_(5, 7 * S, tgid=2), exit_(2, 8 * S)])
    assert out.rows == []
    tree.events([exit_(3, 9 * S, tgid=2)])
    assert shape(out) == [(2, 1, "program", "exit", 1, 9)]


def test_a_thread_that_executes_takes_the_leaders_place() -> None:
    """The old leader's end is told before the execution, and the thread's never (fs/exec.c, de_thread)."""
    tree, out = made()
    tree.events([fork(1, 2, 0), exec_(2, 1 * S), fork(1, 3, 2 * S, thread_of=2), exit_(2, 3 * S), exec_(2, 4 * S), exit_(2, 6 * S)])
    assert shape(out) == [(2, 1, "program", "exec", 1, 4), (2, 2, "program", "exit", 4, 6)]


def test_a_pid_that_comes_again_is_another_process() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), exit_(2, 1 * S), fork(1, 2, 2 * S), exec_(2, 3 * S), exit_(2, 4 * S)])
    assert shape(out) == [(2, 0, "fork", "exit", 0, 1), (2, 1, "program", "exit", 3, 4)]
    assert len({row["record_key"] for row in out.rows}) == 2


def test_a_fork_of_a_pid_that_is_known_says_that_an_end_was_lost() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), exec_(2, 1 * S), fork(1, 2, 5 * S), exit_(2, 6 * S)])
    assert shape(out) == [(2, 1, "program", "unknown", 1, None), (2, 0, "fork", "exit", 5, 6)]
    assert (tree.ends_unknown, "elapsed_s" in out.rows[0]) == (1, False)


def test_an_end_without_a_start_is_dated_by_what_the_task_says() -> None:
    tree, out = made()
    tree.waiting.add_tasks([task(2, elapsed_us=3_000_000, flag=0)])
    tree.events([exit_(2, 8 * S, 2)])
    assert shape(out) == [(2, 1, "program", "signal", 5, 8)]
    assert (tree.starts_unknown, out.rows[0]["command"], out.rows[0]["parent_pid"]) == (1, "prog", 1)


def test_an_execution_without_a_fork_is_a_program_whose_fork_is_unknown() -> None:
    tree, out = made()
    tree.events([exec_(2, 1 * S), exit_(2, 2 * S)])
    assert shape(out) == [(2, 1, "program", "exit", 1, 2)]
    assert tree.starts_unknown == 1


def test_users_are_inherited_and_change() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), (0, UID, 0, BASE_NS + 1, P + 2, P + 2, 0, 0, 0, 0), fork(2, 3, 2), fork(3, 4, 3)])
    tree.events([(0, UID, 0, BASE_NS + 4, P + 4, P + 4, 42, 42, 0, 0), exit_(3, 5), exit_(4, 6)])
    assert [(row.get("user_id"), row.get("user_name")) for row in out.rows] == [(0, "root"), (42, None)]


def test_the_job_goes_down_to_children_also_where_it_is_found_after_they_were_forked() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), exec_(2, 1), fork(2, 3, 2), exec_(3, 3), fork(3, 4, 4)])
    tree.processes[P + 2].belonging.settle(BatchJob("Slurm", "7", "7", "7", None, "0"), None)
    tree.events([exit_(4, 5), exit_(3, 6), exit_(2, 7)])
    assert [(row["pid"] - P, row["join_id"], row["job_from"]) for row in out.rows] == [
        (4, "7", "parent"), (3, "7", "parent"), (2, "7", "cgroup"),
    ]  # fmt: skip


def test_who_moves_into_a_job_leaves_its_parent_and_elder_siblings_outside() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), exec_(2, 1), fork(2, 3, 2), fork(2, 4, 3), exec_(4, 4), fork(4, 5, 5)])
    tree.processes[P + 4].belonging.settle(BatchJob("PBS", "7", "7.s", "7"), None)
    tree.events([exit_(5, 6), exit_(4, 7), exit_(3, 8), exit_(2, 9)])
    assert [(row["pid"] - P, row.get("join_id")) for row in out.rows] == [(5, "7"), (4, "7"), (3, None), (2, None)]


def test_what_a_sensor_says_goes_to_the_program_it_was_said_in() -> None:
    tree, out = made()
    tree.waiting.add_told([told(2, START, 2 * S, "/a"), told(2, START, 4 * S, "/b", JOB), told(2, END, 4 * S, "/b")])
    tree.events([fork(1, 2, 0), exec_(2, 1 * S), exec_(2, 3 * S), exit_(2, 6 * S)])
    assert [(row["program"], row.get("join_id"), row.get("job_from")) for row in out.rows] == [
        ("/a", None, None), ("/b", "9", "environment"),
    ]  # fmt: skip
    assert (out.rows[1]["cpu_user_s"], out.rows[1]["memory_real_kib"], out.rows[1]["read_bytes"]) == (1.5, 900, 1024)
    assert "cpu_user_s" not in out.rows[0]
    assert out.rows[1]["seen_by"] == ["connector", "sensor"]


def test_a_message_that_comes_before_its_events_waits_for_them() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0)])
    tree.waiting.add_told([told(2, START, 2 * S, "/a")])
    tree.settle(BASE_NS + S, all_read=True)
    tree.events([exec_(2, 1 * S), exit_(2, 6 * S)])
    assert out.rows[0]["program"] == "/a"


def test_messages_of_processes_of_which_no_event_came_are_rows_of_their_own() -> None:
    tree, out = made()
    tree.waiting.now_ns = BASE_NS
    tree.waiting.add_told([told(2, START, 2 * S, "/a"), told(2, END, 2 * S, "/a"), told(3, START, 3 * S, "/c")])
    tree.waiting.now_ns = BASE_NS + 31 * S
    tree.settle(BASE_NS + 31 * S, all_read=True)
    assert [(row["program"], row["ended_by"], row["seen_by"]) for row in out.rows] == [
        ("/a", "exit", ["sensor"]), ("/c", "unknown", ["sensor"]),
    ]  # fmt: skip
    assert tree.orphans == 2


def test_a_task_of_which_no_event_came_is_a_row() -> None:
    tree, out = made()
    tree.waiting.add_tasks([task(2, elapsed_us=10)])
    tree.waiting.now_ns = BASE_NS + 31 * S
    tree.settle(BASE_NS + 31 * S, all_read=True)
    assert [(row["pid"] - P, row["seen_by"], row["cpu_user_s"]) for row in out.rows] == [(2, ["taskstats"], 0.5)]


def test_a_task_that_lived_longer_than_its_process_is_anothers() -> None:
    tree, out = made()
    tree.waiting.add_tasks([task(2, elapsed_us=60_000_000), task(2, elapsed_us=1_000_000)])
    tree.events([fork(1, 2, 0), exit_(2, 1 * S)])
    assert out.rows[0]["minor_faults"] == 1_000_000 % 97


def test_who_was_found_before_its_events_were_read_begins_anew() -> None:
    """A process found in /proc whose fork and execution wait to be read: both are told once."""
    tree, out = made()
    at = Clocks()
    for pid, events in ((2, [fork(1, 2, 0), exec_(2, 1)]), (3, [exec_(3, 1)])):
        found = Process(P + pid, P + 1, BASE_NS, BASE_NS + at.to_real_ns, PROC)
        found.start_ticks, found.executed, found.n, found.read_mono = at.ticks(BASE_NS)[0] + 1, True, 1, BASE_NS + 100
        found.program = "/found"
        tree.processes[P + pid] = found
        tree.events([*events, exit_(pid, 2 * S)])
    assert shape(out) == [(2, 1, "program", "exit", 0, 2), (3, 1, "program", "exit", 0, 2)]
    assert out.rows[1]["program"] == "/found"
    assert (tree.ends_unknown, tree.starts_unknown) == (0, 0)


def test_what_proc_said_after_an_execution_is_not_said_of_the_program_before() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0), exec_(2, 1 * S)])
    process = tree.processes[P + 2]
    process.seen, process.program, process.read_mono = process.seen | PROC, "/second", BASE_NS + 3 * S
    tree.events([exec_(2, 2 * S), exit_(2, 4 * S)])
    assert "program" not in out.rows[0]


def test_time_is_right_though_the_clock_was_set_back() -> None:
    tree, out = made()
    tree.events([fork(1, 2, 0)])
    tree._clocks.to_real_ns -= 3600 * S
    tree.events([exit_(2, 5 * S)])
    assert (out.rows[0]["elapsed_s"], out.rows[0]["end_ns"] >= out.rows[0]["start_ns"]) == (5.0, True)


def test_who_floods_is_bounded_and_counted() -> None:
    tree, _ = made()
    for number in range(MOST_TOLD_OF_ONE + 10):
        tree.waiting.add_told([told(2, START, number, "/a")])
    assert tree.waiting.refused == 10
    tree.waiting.now_ns = BASE_NS + 31 * S
    tree.settle(BASE_NS + 31 * S, all_read=True)
    tree.waiting.add_told([told(2, START, 1, "/a")])
    assert tree.waiting.refused == 10


def test_a_belonging_without_anything_is_no_job() -> None:
    above = Belonging(None)
    assert Belonging(Belonging(above)).job is None


def task(pid: int, elapsed_us: int, flag: int = 1) -> Task:
    return Task(
        pid=P + pid, tgid=P + pid, status=0, flag=flag, cpu_ns=500_000_000, comm="prog", user_id=0, group_id=0, parent_pid=1,
        elapsed_us=elapsed_us, user_us=0, system_us=0, minor_faults=elapsed_us % 97, major_faults=0, resident_kib=1, virtual_kib=2,
        read_bytes=0, written_bytes=0, process_elapsed_us=elapsed_us, device=None, inode=None,
    )  # fmt: skip


JOB = {"PBS_JOBID": "9.srv"}


def told(pid: int, kind: int, start: int, program: str, variables: dict[str, str] | None = None) -> Told:
    message = Told(kind, P + pid, 0, 0, BASE_NS + start, BASE_NS + start + kind, columns={"program": program})
    message.variables = variables or {}
    if kind == END:
        message.rusage = (1_500_000, 0, 900, 1, 0, 2, 0, 0, 0)
    return message


def test_what_is_kept_over_a_restart_has_what_ended_threads_used_and_what_the_sensor_told() -> None:
    tree, _ = made()
    tree.events([fork(1, 2, 0), exec_(2, 1 * S)])
    process = tree.processes[P + 2]
    tree._use(process, task(2, elapsed_us=10))
    process.told = told(2, END, 2 * S, "/a", JOB)
    again = _process(json.loads(json.dumps(_kept(process))))
    assert (again.usage, again.told) == (process.usage, process.told)


def test_whose_leader_ended_and_who_is_gone_ends_though_a_threads_end_was_lost() -> None:
    tree, out = made()
    rescan = Rescan(tree, tree._rows, tree._looking)
    tree.events([fork(1, 2, 0), exec_(2, 1 * S), fork(1, 3, 2 * S, thread_of=2), exit_(2, 4 * S)])
    rescan.check_leaders()
    rescan.settle(BASE_NS + 9 * S + tree._clocks.to_real_ns)
    assert shape(out) == [(2, 1, "program", "unknown", 1, None)]
    assert tree.processes == {}


def test_what_is_left_over_of_a_process_that_has_its_row_is_no_second_one() -> None:
    tree, out = made()
    tree.waiting.now_ns = BASE_NS
    tree.events([fork(1, 2, 0), exec_(2, 1 * S), exit_(2, 2 * S)])
    tree.waiting.add_tasks([task(2, elapsed_us=2_000_000)])
    tree.waiting.add_told([told(2, END, 3 * S, "/a", JOB)])
    tree.waiting.now_ns = BASE_NS + 31 * S
    tree.settle(BASE_NS + 31 * S, all_read=True)
    assert (len(out.rows), tree.orphans, tree.waiting.late) == (1, 0, 2)


def test_that_a_process_ended_is_known_for_a_minute_or_two() -> None:
    tree, _ = made()
    for at_s, pid in ((0, 1), (59, 2), (61, 3), (100, 4), (122, 5)):
        tree.waiting.now_ns = BASE_NS + at_s * S
        tree.waiting.ended(pid)
    assert [pid for pid in range(1, 6) if tree.waiting.is_late(pid)] == [3, 4, 5]


def test_what_an_unknown_process_says_it_used_is_not_believed() -> None:
    tree, out = made()
    tree.waiting.now_ns = BASE_NS
    tree.waiting.add_told([told(2, END, 2 * S, "/a", {"SLURM_JOB_ID": "77"})])
    tree.waiting.now_ns = BASE_NS + 31 * S
    tree.settle(BASE_NS + 31 * S, all_read=True)
    assert [("cpu_user_s" in row, "read_bytes" in row) for row in out.rows] == [(False, False)]


def test_alone_nobody_has_more_cpu_than_the_host() -> None:
    tree, out = made()
    message = told(2, END, 0, "/a", {"SLURM_JOB_ID": "77"})
    message.at_ns, message.rusage = BASE_NS + 3 * S, (10**17, 10**17, 0, 0, 0, 0, 0, 0, 0)
    Alone(tree, tree._looking).take([message])
    (row,) = out.rows
    assert 3 <= row["cpu_user_s"] + row["cpu_system_s"] <= 3.02 * (os.cpu_count() or 1)
