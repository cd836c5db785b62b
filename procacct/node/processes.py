"""The processes of a node as they are known now: what each runs, since when, and for which job."""

from __future__ import annotations

from dataclasses import dataclass

from procacct.node.batch_jobs import NOTHING, PARENT, BatchJob, Found, found_job
from procacct.node.proc_files import Facts, Stat
from procacct.node.taskstats import Usage
from procacct.node.told import Told
from procacct.program_files import Marks

NO_MARKS = Marks()
CONNECTOR, PROC, SENSOR, TASKSTATS = 1, 2, 4, 8
SOURCES = ((CONNECTOR, "connector"), (SENSOR, "sensor"), (TASKSTATS, "taskstats"), (PROC, "proc"))
SEEN_BY = tuple([name for bit, name in SOURCES if seen & bit] for seen in range(16))
"""By the bits of the sources that saw a process, their names."""


class Belonging:
    """The job of a program and of what it forks: found once the program was looked at; before that, and if nothing is found, the
    one of what executed it."""

    __slots__ = ("_above", "environment", "found")

    def __init__(self, above: Belonging | None) -> None:
        self._above = above
        self.found: Found | None = None if above is not None else NOTHING
        self.environment = False
        """Whether the environment was asked."""

    @property
    def job(self) -> BatchJob | None:
        return self.resolved().job

    def resolved(self) -> Found:
        """What is known now."""
        at, chain = self, []
        while at.found is None:
            chain.append(at)
            assert at._above is not None
            at = at._above
        found = at.found
        if chain and found.job is not None:
            return Found(found.job, PARENT)
        return found

    def settle(self, cgroup: BatchJob | None, environment: BatchJob | None) -> Found:
        """Decides it by what was found, and by what executed it."""
        parent = self._above.resolved().job if self._above is not None else None
        self.found = found_job(cgroup, parent, environment)
        self._above = None
        return self.found

    def add_environment(self, environment: BatchJob | None) -> None:
        """What the sensor tells after it was settled counts where nothing better is known, and says more of the same job."""
        self.environment = True
        if environment is None or self.found is None:
            return
        before = self.found
        if before.job is None:
            self.found = found_job(None, None, environment)
        elif before.job_from is not None and before.job != environment:
            by_cgroup = before.job if before.job_from == "cgroup" else None
            by_parent = before.job if before.job_from == PARENT else None
            if by_cgroup is not None or by_parent is not None:
                self.found = found_job(by_cgroup, by_parent, environment)


class Process:
    """One process. Times named `_mono` are CLOCK_MONOTONIC, ns; `fork_ns` (Unix ns) and `n`, how many programs it executed, are
    in the keys of its rows."""

    __slots__ = (
        "arguments", "belonging", "command", "counted_mono", "executed", "fork_mono", "fork_ns", "group_id", "identity",
        "is_kernel", "leader_status", "live_threads", "marks", "n", "owns_job", "parent_pid", "pid", "program", "read_mono", "seen",
        "start_mono", "start_ns", "start_ticks", "terminal", "threads", "told", "told_end", "usage", "user_id", "weight",
    )  # fmt: skip

    def __init__(self, pid: int, parent_pid: int | None, fork_mono: int, fork_ns: int, seen: int) -> None:
        self.pid = pid
        self.parent_pid = parent_pid
        self.fork_mono = self.start_mono = fork_mono
        self.fork_ns = self.start_ns = fork_ns
        self.seen = seen
        self.n = 0
        self.executed = False
        self.is_kernel = False
        self.user_id: int | None = None
        self.group_id: int | None = None
        self.program: str | None = None
        self.identity: tuple[int, int] | None = None
        self.marks = NO_MARKS
        self.command: str | None = None
        self.arguments: tuple[str, ...] | None = None
        self.terminal: str | None = None
        self.belonging: Belonging = ROOTLESS
        self.owns_job = False
        self.threads = 1
        self.live_threads = 1
        self.counted_mono = 0
        """When /proc told how many threads live: those that came or went before are in that number."""
        self.leader_status: int | None = None
        self.start_ticks: int | None = None
        self.read_mono = 0
        """Until when /proc was read for this program: an execution before that makes what was read doubtful."""
        self.told: Told | None = None
        self.told_end: Told | None = None
        self.usage: Usage | None = None
        self.weight = 1

    def inherit(self, parent: Process) -> None:
        """What a child has of its parent when it is forked."""
        self.user_id, self.group_id = parent.user_id, parent.group_id
        self.program, self.identity, self.command = parent.program, parent.identity, parent.command
        self.marks = parent.marks
        self.belonging, self.terminal = parent.belonging, parent.terminal

    def count(self, stat: Stat) -> None:
        """The threads that live, as /proc says; a leader that ended is there until the last of them has."""
        self.live_threads = stat.threads - (stat.state in "ZX")
        self.threads = max(self.threads, stat.threads)
        self.counted_mono = stat.read_mono

    def execute(self, at_mono: int, at_ns: int) -> None:
        """It runs another program from now on."""
        self.n += 1
        self.executed = True
        self.start_mono, self.start_ns = at_mono, at_ns
        self.program = self.identity = self.command = self.arguments = None
        self.marks = NO_MARKS
        self.belonging, self.owns_job = Belonging(self.belonging), True
        self.threads = self.live_threads = 1
        self.counted_mono = 0
        self.leader_status = None
        self.told = self.told_end = None
        self.seen &= CONNECTOR | TASKSTATS
        self.is_kernel = False

    def learn(self, facts: Facts, read_mono: int) -> None:
        """What /proc says of it."""
        stat = facts.stat
        self.start_ticks, self.read_mono = stat.start_ticks, read_mono
        self.seen |= PROC
        self.program = facts.program or self.program
        self.identity = facts.identity or self.identity
        self.command = stat.comm
        self.arguments = facts.arguments
        if facts.user_id is not None:
            self.user_id, self.group_id = facts.user_id, facts.group_id

    def doubt(self, until_mono: int) -> None:
        """Forgets what /proc said, if that was read after or just before `until_mono`, when it executed another program: it may
        be of that one, as an execution is told at its end (fs/exec.c), and has changed the program before.
        """
        if self.seen & PROC and self.read_mono >= until_mono - EXECUTION_NS and self.executed:
            self.program = self.identity = self.command = self.arguments = None
            self.marks = NO_MARKS
            self.seen &= ~PROC


EXECUTION_NS = 50_000_000
"""An execution takes so long at most, on a host that is busy."""

ROOTLESS = Belonging(None)
"""Of processes that nothing is known of: no job."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the program of a process ended: at `at_ns` (Unix ns; None if nobody knows), found out at `found_ns`."""

    by: str
    at_ns: int | None
    found_ns: int
    status: int | None = None
    is_last: bool = True
