"""Without the kernel's events: sensors' messages and /proc alone.

A start is a process, or another program of one that is known; an end is its end, whose status no sensor can see. Who ends without
a word (killed, `_exit`) is found gone in /proc; nobody forks but by executing. A daemon that may not listen to the kernel, of a
user on a host of others, still has rows of what runs with the sensor.
"""

from __future__ import annotations

from procacct.node.looking import Looking
from procacct.node.processes import SENSOR, Ended, Process
from procacct.node.told import START, Told
from procacct.node.tree import Tree


class Alone:
    """Makes processes of a tree out of messages."""

    def __init__(self, tree: Tree, looking: Looking) -> None:
        self._tree, self._looking, self._clocks = tree, looking, looking.clocks

    def take(self, messages: list[Told]) -> None:
        for message in messages:
            if message.kind == START:
                self._start(message)
            else:
                self._end(message)

    def _start(self, message: Told) -> None:
        at_ns = message.start_ns + self._clocks.to_real_ns
        process = self._tree.processes.get(message.pid)
        if process is None:
            process = Process(message.pid, None, 0, at_ns, SENSOR)
            self._tree.started += 1
        elif process.told is not None and process.told.start_ns == message.start_ns:
            return
        else:
            self._tree.close(process, Ended("exec", at_ns, at_ns, is_last=False), message.start_ns)
        process.execute(message.start_ns, at_ns)
        self._tree.executed += 1
        self._tree.processes[message.pid] = process
        process.user_id, process.group_id, process.weight = message.user_id, message.group_id, message.weight
        if self._looking.look(process):
            process.parent_pid = self._looking.parent_of(process.pid)
        if process.start_ticks is not None:
            process.fork_mono = self._clocks.monotonic(process.start_ticks)
        process.fork_mono = process.fork_mono or message.start_ns
        process.told, process.seen = message, process.seen | SENSOR
        process.belonging.add_environment(self._looking.job_told(message))
        if process.belonging.found is None:
            process.belonging.settle(None, self._looking.job_told(message))

    def _end(self, message: Told) -> None:
        process = self._tree.processes.get(message.pid)
        if process is None or process.told is None or process.told.start_ns != message.start_ns:
            self._start(message)
            process = self._tree.processes[message.pid]
        process.told_end = message
        self._tree.end(process, None, message.at_ns)
