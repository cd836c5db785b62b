"""What was told of a process beside the kernel's events, until the events it belongs to were read: ended tasks, sensor messages.

A task's ending message and a sensor's messages are in their sockets before the event of the process's end is. So whoever reads
the events first and the others after that has everything of a process that ended; what is left over belongs to events that are
still to come, or that were lost.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from procacct.node.taskstats import Task
from procacct.node.told import END, START, Told

Kept = TypeVar("Kept")

ROUNDS = 3
"""A leftover of so many rounds, in which all events that there were have been read, belongs to lost ones."""
SLACK_US = 20_000
KEPT_US = 30_000_000
"""A task ends at most so long before its process's end is told: memory is given back in between."""


class Waiting:
    """By pid, in the order they came."""

    def __init__(self) -> None:
        self._tasks: dict[int, deque[tuple[int, Task]]] = {}
        self._told: dict[int, deque[tuple[int, Told]]] = {}
        self._round = 0

    def add_tasks(self, tasks: list[Task]) -> None:
        waiting, now = self._tasks, self._round
        for task in tasks:
            queue = waiting.get(task.pid)
            if queue is None:
                waiting[task.pid] = deque([(now, task)])
            else:
                queue.append((now, task))

    def add_told(self, messages: list[Told]) -> None:
        for message in messages:
            self._told.setdefault(message.pid, deque()).append((self._round, message))

    def task(self, pid: int, lifetime_us: int | None) -> Task | None:
        """The ended task of this pid; `lifetime_us` is how long it lived, if known: one that lived longer is another."""
        queue = self._tasks.get(pid)
        if queue is None:
            return None
        found = None
        while queue and found is None:
            task = queue.popleft()[1]
            if lifetime_us is None or task.elapsed_us - SLACK_US <= lifetime_us <= task.elapsed_us + KEPT_US:
                found = task
        if not queue:
            del self._tasks[pid]
        return found

    def told(self, pid: int, start_mono: int, end_mono: int) -> tuple[Told | None, Told | None]:
        """Start and end as the sensor told them of the program that ran between these times; what is older is given up."""
        queue = self._told.get(pid)
        start = end = None
        while queue and queue[0][1].start_ns <= end_mono:
            message = queue.popleft()[1]
            if message.start_ns >= start_mono:
                if message.kind == START:
                    start = start or message
                elif message.kind == END:
                    end = message
        if queue is not None and not queue:
            del self._told[pid]
        return start, end

    @property
    def pids_told(self) -> list[int]:
        return list(self._told)

    def next_round(self) -> tuple[list[Task], list[Told]]:
        """After all events were read: what waits for too long, which is given up here."""
        self._round += 1
        old = self._round - ROUNDS
        return _older(self._tasks, old), _older(self._told, old)


def _older(waiting: dict[int, deque[tuple[int, Kept]]], round_: int) -> list[Kept]:
    """What came in this round or before."""
    found: list[Kept] = []
    for pid in [pid for pid, queue in waiting.items() if queue[0][0] <= round_]:
        queue = waiting[pid]
        while queue and queue[0][0] <= round_:
            found.append(queue.popleft()[1])
        if not queue:
            del waiting[pid]
    return found
