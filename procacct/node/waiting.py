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

KEPT_NS = 30_000_000_000
"""What was told so long ago, while all events there were have been read, belongs to lost ones. A task's memory is given back
between its message and the event of its end, which takes seconds where it had much."""
SLACK_US = 20_000


MOST_TOLD, MOST_TOLD_OF_ONE = 50_000, 64
"""Messages that wait, of all and of one process: more are somebody's play, and are given up."""


ENDED_KEPT_NS = 60_000_000_000
"""So long, and at most twice as long, it is known that a process of a pid ended."""


class Waiting:
    """By pid, in the order they came."""

    def __init__(self) -> None:
        self._tasks: dict[int, deque[tuple[int, Task]]] = {}
        self._told: dict[int, deque[tuple[int, Told]]] = {}
        self._told_count = 0
        self.refused = 0
        self.late = 0
        """Tasks and messages given up, as a row of their process is written."""
        self._ended: set[int] = set()
        self._ended_before: set[int] = set()
        self._ended_since_ns = 0
        self.now_ns = 0
        """The time of the round (CLOCK_MONOTONIC), set by whoever makes it."""

    def add_tasks(self, tasks: list[Task]) -> None:
        waiting, now = self._tasks, self.now_ns
        for task in tasks:
            queue = waiting.get(task.pid)
            if queue is None:
                waiting[task.pid] = deque([(now, task)])
            else:
                queue.append((now, task))

    def add_told(self, messages: list[Told]) -> None:
        for message in messages:
            queue = self._told.get(message.pid, ())
            if len(queue) < MOST_TOLD_OF_ONE and self._told_count < MOST_TOLD:
                self._told.setdefault(message.pid, deque()).append((self.now_ns, message))
                self._told_count += 1
            else:
                self.refused += 1

    def task(self, pid: int, lifetime_us: int | None) -> Task | None:
        """The ended task of this pid; `lifetime_us` is how long it lived, if known: one that lived longer is another."""
        queue = self._tasks.get(pid)
        if queue is None:
            return None
        found = None
        while queue and found is None:
            task = queue.popleft()[1]
            if lifetime_us is None or task.elapsed_us - SLACK_US <= lifetime_us <= task.elapsed_us + KEPT_NS // 1000:
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
            self._told_count -= 1
            if message.start_ns >= start_mono:
                if message.kind == START:
                    start = start or message
                elif message.kind == END:
                    end = message
        if queue is not None and not queue:
            del self._told[pid]
        return start, end

    def ended(self, pid: int) -> None:
        """A process of this pid has its last row."""
        if self.now_ns - self._ended_since_ns >= ENDED_KEPT_NS:
            self._ended_before, self._ended, self._ended_since_ns = self._ended, set(), self.now_ns
        self._ended.add(pid)

    def is_late(self, pid: int) -> bool:
        """Whether what is left over of this pid belongs to a process that has its last row; counted if so."""
        is_late = pid in self._ended or pid in self._ended_before
        self.late += is_late
        return is_late

    @property
    def pids_told(self) -> list[int]:
        return list(self._told)

    def too_old(self) -> tuple[list[Task], list[Told]]:
        """What has waited too long, which is given up here. To be called when all events were read."""
        old_ns = self.now_ns - KEPT_NS
        told = _older(self._told, old_ns)
        self._told_count -= len(told)
        return _older(self._tasks, old_ns), told


def _older(waiting: dict[int, deque[tuple[int, Kept]]], old_ns: int) -> list[Kept]:
    """What came then or before."""
    found: list[Kept] = []
    for pid in [pid for pid, queue in waiting.items() if queue[0][0] <= old_ns]:
        queue = waiting[pid]
        while queue and queue[0][0] <= old_ns:
            found.append(queue.popleft()[1])
        if not queue:
            del waiting[pid]
    return found
