"""What runs, compared with what is known: at the daemon's start, and after events were lost.

Whoever is known and gone has ended at a time nobody knows; but the event of its end may wait to be read still, so that this is
decided only after all that waits was read. Whoever runs and is not known is taken in: its start is what /proc says, to the clock
tick.
"""

from __future__ import annotations

from typing import NamedTuple

from procacct.node.looking import Looking
from procacct.node.proc_files import NEVER_EXECUTED, TICK_NS, Stat, pids, program_of, stat_of
from procacct.node.processes import PROC, Belonging, Ended, Process
from procacct.node.rows import Row, Rows
from procacct.node.spool import Written
from procacct.node.tree import Tree

SAME_FORK_NS = 3 * TICK_NS
"""/proc and an event tell of the same fork when they are no further apart: ticks are cut off, and both clocks are read for it."""


class Rescan:
    """Looks around for one tree."""

    def __init__(self, tree: Tree, rows: Rows, looking: Looking) -> None:
        self._tree, self._rows, self._looking, self._clocks = tree, rows, looking, looking.clocks
        self._suspects: list[Process] = []
        self._begun: dict[int, list[_Begun]] = {}
        self.taken_in = 0

    def take_up(self, saved: list[Process], written: dict[str, Written], now_ns: int) -> None:
        """At the start: processes of an earlier daemon in this boot; `written` are the rows it wrote after it saved them.

        What runs still is taken up; what does not, and has no row yet, gets one.
        """
        running = _running()
        for process in saved:
            if _has_ended(self._rows, process, written):
                continue
            stat = running.get(process.pid)
            self._tree.processes[process.pid] = process
            if stat is None or not self._is_same(process, stat):
                self._tree.lose(process, now_ns)
            else:
                process.count(stat)
        self._begun = _begun(self._rows, written)
        self.look_around(now_ns)
        self._begun = {}

    def look_around(self, now_ns: int) -> None:
        """Takes in who is not known; who is gone is decided by `settle`, once all events were read."""
        running = _running()
        known = self._tree.processes
        for pid in sorted(running, key=lambda one: running[one].start_ticks):
            process = known.get(pid)
            if process is None:
                self._take_in(running[pid])
            elif not process.is_kernel and self._is_same(process, running[pid]):
                process.count(running[pid])
                self._check_program(process, now_ns)
        gone = (process for process in known.values() if self._is_gone(process, running.get(process.pid)))
        self._suspects = [*self._suspects, *gone]

    def settle(self, now_ns: int) -> None:
        """After all events that waited were read: suspects whose end was not among them are gone, nobody knows when."""
        suspects, self._suspects = self._suspects, []
        for process in suspects:
            if self._tree.processes.get(process.pid) is process:
                self._tree.lose(process, now_ns)

    def check_gone(self) -> None:
        """Where no events tell of ends: who is gone becomes a suspect."""
        for process in self._tree.processes.values():
            if self._is_gone(process, stat_of(process.pid)):
                self._suspects.append(process)

    def check_leaders(self) -> None:
        """Whose leader ended, and the end of whose last thread was not told: who is gone becomes a suspect."""
        for process in self._tree.processes.values():
            if process.leader_status is not None and self._is_gone(process, stat_of(process.pid)):
                self._suspects.append(process)

    def _is_gone(self, process: Process, stat: Stat | None) -> bool:
        return stat is None or stat.is_gone or not self._is_same(process, stat)

    def _is_same(self, process: Process, stat: Stat) -> bool:
        if process.start_ticks is not None:
            return process.start_ticks == stat.start_ticks
        if not process.fork_mono:
            return True
        first, last = self._clocks.ticks(process.fork_mono)
        return first <= stat.start_ticks <= last

    def _take_in(self, stat: Stat) -> None:
        if stat.is_gone:
            return
        self.taken_in += 1
        fork_mono = self._clocks.monotonic(stat.start_ticks)
        process = Process(stat.pid, stat.parent_pid, fork_mono, fork_mono + self._clocks.to_real_ns, 0)
        process.start_ticks, process.is_kernel = stat.start_ticks, stat.is_kernel_thread
        parent = self._tree.processes.get(stat.parent_pid)
        if parent is not None:
            process.inherit(parent)
        process.count(stat)
        process.executed = not stat.flags & NEVER_EXECUTED
        process.n = int(process.executed)
        self._go_on(process)
        process.belonging, process.owns_job = Belonging(process.belonging), True
        self._tree.processes[stat.pid] = process
        if not process.is_kernel:
            self._looking.look(process)

    def _go_on(self, process: Process) -> None:
        """With the program after those of which rows were written: it was forked after the processes were last saved."""
        same = [one for one in self._begun.get(process.pid, []) if abs(one.fork_ns - process.fork_ns) <= SAME_FORK_NS]
        if same:
            last = max(same)
            process.n, process.fork_ns, process.executed = last.n + 1, last.fork_ns, True
            process.start_ns, process.start_mono = last.end_ns, process.fork_mono + last.end_ns - last.fork_ns

    def _check_program(self, process: Process, now_ns: int) -> None:
        """An execution that was lost: it runs another program than the one that was known."""
        if not process.seen & PROC or process.identity is None:
            self._looking.look(process)
            return
        program, identity = program_of(process.pid)
        if program is None or identity is None or identity == process.identity:
            return
        now_mono = now_ns - self._clocks.to_real_ns
        self._tree.close(process, Ended("exec", None, now_ns, is_last=False), now_mono)
        process.execute(now_mono, now_ns)
        self._looking.look(process)


class _Begun(NamedTuple):
    """A program of a process that went on to another one, by its row: its number, the fork, and its end (Unix ns)."""

    n: int
    fork_ns: int
    end_ns: int


def _begun(rows: Rows, written: dict[str, Written]) -> dict[int, list[_Begun]]:
    """By pid: the rows that the next program of the same process follows."""
    found: dict[int, list[_Begun]] = {}
    for key, row in written.items():
        if row.ended_by == "exec" and row.end_ns is not None and (numbers := rows.numbers_in(key)) is not None:
            pid, fork_ns, n = numbers
            found.setdefault(pid, []).append(_Begun(n, fork_ns, row.end_ns))
    return found


def rows_of_another_boot(rows: Rows, saved: list[Process], written: dict[str, Written], now_ns: int) -> list[Row]:
    """Of processes that ran when the host went down: they ended, nobody knows how. `rows` are those of that boot."""
    found = [process for process in saved if not process.is_kernel and not _has_ended(rows, process, written)]
    return [rows.process(process, Ended("unknown", None, now_ns), process.start_mono) for process in found]


def _has_ended(rows: Rows, process: Process, written: dict[str, Written]) -> bool:
    """Whether its end was written; brings it to the program after the last one that was."""
    while (row := written.get(rows.key(process))) is not None:
        if row.ended_by != "exec":
            return True
        at_ns = row.end_ns or process.start_ns
        process.execute(process.start_mono + at_ns - process.start_ns, at_ns)
    return False


def _running() -> dict[int, Stat]:
    return {pid: stat for pid in pids() if (stat := stat_of(pid)) is not None}
