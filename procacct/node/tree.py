"""The processes of a node as the kernel's events tell them: each fork, each program executed, each end becomes part of a row.

The end of a process is that of its last thread: a leader that ends before its threads takes its status along. Threads are told as
forks whose child's pid is not its process (include/uapi/linux/cn_proc.h); they count, and are no processes.
"""

from __future__ import annotations

from typing import Protocol

from procacct.node.clocks import SECOND_NS
from procacct.node.connector import COMM, EXEC, EXIT, FORK, GID, UID, Event, comm_of
from procacct.node.group_hooks import GroupHooks
from procacct.node.looking import Looking
from procacct.node.processes import CONNECTOR, SENSOR, TASKSTATS, Ended, Process
from procacct.node.rows import Row, Rows
from procacct.node.taskstats import Task, Usage
from procacct.node.told import END, Told
from procacct.node.waiting import Waiting

KERNEL_PARENT = 2
"""kthreadd: what it forks are threads of the kernel, until they execute a program."""
AFORK = 1
"""ac_flag (include/uapi/linux/acct.h): it forked and never executed a program."""


class Out(Protocol):
    """Where rows go."""

    def process(self, row: Row) -> None: ...

    def groups(self, records: list[Row]) -> None: ...


class Tree:
    """All processes that are known. Rows of programs that ended are handed to `out`."""

    def __init__(self, rows: Rows, looking: Looking, groups: GroupHooks, out: Out, *, hears_ends: bool) -> None:
        """`hears_ends`: taskstats tells what was used, so that a process without that is counted."""
        self.processes: dict[int, Process] = {}
        self.waiting = Waiting()
        self.started = self.executed = self.ended = self.threads = 0
        self.ends_unknown = self.starts_unknown = self.without_usage = self.orphans = 0
        self._rows, self._looking, self._clocks, self._groups = rows, looking, looking.clocks, groups
        self._out = out
        self._hears_ends = hears_ends
        self._to_look_at: dict[int, Process] = {}

    def events(self, events: list[Event]) -> None:
        """Takes in a batch of the kernel's events, in the order they came."""
        for event in events:
            what, pid = event[1], event[4]
            if what == FORK:
                if event[6] == event[7]:
                    self._fork(event[5], event[7], event[3])
                else:
                    self._thread(event[7], event[3])
            elif what == EXIT:
                if pid == event[5]:
                    self._leader_ended(pid, event[6], event[3])
                else:
                    self._thread_ended(pid, event[5], event[3])
            elif what == EXEC:
                self._exec(event[5], event[3])
            elif what in (UID, GID, COMM):
                self._changed(event)

    def _fork(self, parent_pid: int, pid: int, at_mono: int) -> None:
        at_ns = at_mono + self._clocks.to_real_ns
        before = self.processes.get(pid)
        if before is not None and not self._is_its_fork(before, at_mono):
            self.lose(before, at_ns)
        self.started += 1
        process = Process(pid, parent_pid, at_mono, at_ns, CONNECTOR)
        parent = self.processes.get(parent_pid)
        if parent is not None:
            process.inherit(parent)
        process.is_kernel = parent_pid == KERNEL_PARENT
        self.processes[pid] = process
        self._groups.on_fork(parent_pid, pid, at_ns)

    def _is_its_fork(self, process: Process, at_mono: int) -> bool:
        """Whether it was found in /proc before its fork was read: then all its events are still to come, and it begins anew."""
        first, last = self._clocks.ticks(at_mono)
        is_found = process.start_ticks is not None and not process.seen & CONNECTOR
        return is_found and process.start_ticks is not None and first <= process.start_ticks <= last

    def _thread(self, tgid: int, at_mono: int) -> None:
        self.threads += 1
        process = self.processes.get(tgid)
        if process is not None and at_mono > process.counted_mono:
            process.threads += 1
            process.live_threads += 1

    def _exec(self, pid: int, at_mono: int) -> None:
        at_ns = at_mono + self._clocks.to_real_ns
        process = self.processes.get(pid)
        if process is None:
            process = self._found_late(pid, None, at_mono)
        if process.executed and not process.seen & CONNECTOR and at_mono <= process.read_mono:
            process.start_mono, process.start_ns, process.seen = at_mono, at_ns, process.seen | CONNECTOR
            return  # it was found in /proc after this execution
        process.doubt(at_mono)
        if process.executed:
            self.close(process, Ended("exec", at_ns, at_ns, is_last=False), at_mono)
        self.executed += 1
        process.execute(at_mono, at_ns)
        process.seen |= CONNECTOR
        self._to_look_at[pid] = process

    def _found_late(self, pid: int, parent_pid: int | None, at_mono: int) -> Process:
        """A process whose fork was not told."""
        self.starts_unknown += 1
        process = Process(pid, parent_pid, at_mono, at_mono + self._clocks.to_real_ns, CONNECTOR)
        process.fork_mono = 0
        parent = None if parent_pid is None else self.processes.get(parent_pid)
        if parent is not None:
            process.inherit(parent)
        self.processes[pid] = process
        return process

    def _leader_ended(self, pid: int, status: int, at_mono: int) -> None:
        process = self.processes.get(pid)
        if process is None:
            process = self._found_late(pid, None, at_mono)
            task = self.waiting.task(pid, None)
            _date_by(process, task)
        else:
            lifetime_us = (at_mono - process.fork_mono) // 1000 if process.fork_mono else None
            task = self.waiting.task(pid, lifetime_us)
        self._use(process, task)
        process.live_threads -= at_mono > process.counted_mono
        if process.live_threads > 0:
            process.leader_status = status
        else:
            self.end(process, status, at_mono)

    def _thread_ended(self, pid: int, tgid: int, at_mono: int) -> None:
        process = self.processes.get(tgid)
        task = self.waiting.task(pid, None)
        if process is None:
            return
        self._use(process, task)
        if process.live_threads > 1:
            process.live_threads -= at_mono > process.counted_mono
        elif process.leader_status is not None:
            self.end(process, process.leader_status, at_mono)

    def _use(self, process: Process, task: Task | None) -> None:
        if task is None:
            self.without_usage += self._hears_ends
            return
        if process.usage is None:
            process.usage = Usage()
        process.usage.add(task)
        process.seen |= TASKSTATS
        if task.pid == process.pid:
            process.command = task.comm or process.command
            process.user_id, process.group_id = task.user_id, task.group_id
            if process.parent_pid is None:
                process.parent_pid = task.parent_pid
            if process.program is None and task.device is not None and task.inode is not None:
                process.program = self._looking.program_known_as(task.device, task.inode)

    def end(self, process: Process, status: int | None, at_mono: int) -> None:
        """A process ended, with this wait status if anybody knows."""
        at_ns = at_mono + self._clocks.to_real_ns
        if status is not None:
            process.seen |= CONNECTOR
        self.close(process, Ended("exit", at_ns, at_ns, status), at_mono)
        self._forget(process, at_ns)

    def lose(self, process: Process, found_ns: int) -> None:
        """A process is gone whose end nobody told."""
        self.ends_unknown += 1
        self.close(process, Ended("unknown", None, found_ns), found_ns - self._clocks.to_real_ns)
        self._forget(process, found_ns)

    def _forget(self, process: Process, at_ns: int) -> None:
        self.ended += 1
        self.processes.pop(process.pid, None)
        self.waiting.ended(process.pid)
        self._to_look_at.pop(process.pid, None)
        if records := self._groups.on_exit(process.pid, at_ns):
            self._out.groups(records)

    def close(self, process: Process, ended: Ended, at_mono: int) -> None:
        """The row of the program that ran until now."""
        self._attach(process, at_mono)
        if process.belonging.found is None and process.owns_job:
            told = process.told
            process.belonging.settle(None, None if told is None else self._looking.job_told(told))
        if not process.is_kernel:
            self._out.process(self._rows.process(process, ended, at_mono))

    def _attach(self, process: Process, until_mono: int) -> None:
        """What the sensor said of the program that a process runs."""
        start, end = self.waiting.told(process.pid, process.start_mono, until_mono)
        if start is None and end is None:
            return
        process.seen |= SENSOR
        if start is not None and process.told is None:
            process.told = start
            belonging = process.belonging
            if process.owns_job and belonging.found is None:
                belonging.settle(None, self._looking.job_told(start))
            elif process.owns_job and (not belonging.environment or belonging.job is None):
                belonging.add_environment(self._looking.job_told(start))
        if end is not None:
            process.told_end = end
            process.told = process.told or end

    def _changed(self, event: Event) -> None:
        process = self.processes.get(event[5])
        if process is None:
            return
        what = event[1]
        if what == UID:
            process.user_id = event[6]
        elif what == GID:
            process.group_id = event[6]
        elif event[4] == event[5]:
            process.command = comm_of(event)

    def settle(self, now_mono: int, *, all_read: bool) -> None:
        """After a batch: looks at what was executed and runs, gives the sensor's messages to what runs, gives up what waits too
        long."""
        for process in self._to_look_at.values():
            self._looking.look(process)
            self._groups.on_exec(process.pid, process.program, process.start_ns)
        self._to_look_at.clear()
        for pid in self.waiting.pids_told:
            running = self.processes.get(pid)
            if running is not None:
                self._attach(running, now_mono)
        if all_read:
            tasks, told = self.waiting.too_old()
            for task in tasks:
                self._orphan_task(task)
            self._orphans_told(told)

    def _orphan_task(self, task: Task) -> None:
        """A task whose end was not told: if its process is known, it is over; if that has a row, no second one is made; else the
        row is made of what the task used."""
        process = self.processes.get(task.pid)
        if process is not None:
            self._use(process, task)
            return
        if task.tgid not in (None, task.pid) or self.waiting.is_late(task.pid):
            return
        self.orphans += 1
        now_mono = self._clocks.take()
        now_ns = now_mono + self._clocks.to_real_ns
        lost = Process(task.pid, task.parent_pid, now_mono, now_ns, 0)
        _date_by(lost, task)
        self._use(lost, task)
        self._out.process(self._rows.process(lost, Ended("exit", now_ns, now_ns, task.status), now_mono))

    def _orphans_told(self, messages: list[Told]) -> None:
        """Sensors' messages of processes whose events were lost: what they said is all there is of them, but for what was used:
        nobody vouches for that."""
        starts: dict[tuple[int, int], Process] = {}
        ends: dict[tuple[int, int], Told] = {}
        for message in messages:
            if self.waiting.is_late(message.pid):
                continue
            key = (message.pid, message.start_ns)
            message.rusage = None
            if message.kind == END:
                ends[key] = message
            starts.setdefault(key, self._of_told(message))
        for key, process in starts.items():
            self.orphans += 1
            end = ends.get(key)
            process.told_end = end
            at_ns = None if end is None else end.at_ns + self._clocks.to_real_ns
            process.belonging.settle(None, self._looking.job_told(process.told))
            ended = Ended("unknown" if end is None else "exit", at_ns, process.start_ns if at_ns is None else at_ns)
            self._out.process(self._rows.process(process, ended, process.start_mono if end is None else end.at_ns))

    def _of_told(self, message: Told) -> Process:
        start_ns = message.start_ns + self._clocks.to_real_ns
        process = Process(message.pid, message.parent_pid, 0, start_ns, SENSOR)
        process.execute(message.start_ns, start_ns)
        process.seen |= SENSOR
        process.user_id, process.group_id, process.told = message.user_id, message.group_id, message
        return process

    def seconds_open(self, now_ns: int) -> float:
        """For how long the oldest process that is known runs."""
        return max((now_ns - one.fork_ns for one in self.processes.values()), default=0) / SECOND_NS


def _date_by(process: Process, task: Task | None) -> None:
    """A process of which nothing but its end was told: it began so long before as its task says, and executed a program or not."""
    process.executed = task is None or not task.flag & AFORK
    process.n = int(process.executed)
    if task is not None:
        process.fork_ns = process.start_ns = process.fork_ns - 1000 * task.elapsed_us
        process.start_mono -= 1000 * task.elapsed_us
