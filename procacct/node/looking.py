"""Looks at processes in /proc: what they run, for which job; and knows programs by device and inode once it has seen them.

A process that ended before anybody looked left device and inode of its program with taskstats: if a program was seen under these,
and a look at its path still finds them, that is what it ran.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path

from procacct.node.batch_jobs import BatchJob, of_cgroup, of_environment, read_ad
from procacct.node.cgroups import job_of_cgroup
from procacct.node.clocks import Clocks
from procacct.node.proc_files import Arguments, Facts, environment_of, facts_of, stat_of, terminal_of
from procacct.node.processes import Process
from procacct.node.told import Told
from procacct.program_files import ProgramFiles

PROGRAMS_KEPT = 4096
SURE_FOR_NS = 1_000_000_000


class Looking:
    """`arguments`: how much of command lines is kept."""

    def __init__(self, clocks: Clocks, arguments: Arguments) -> None:
        self.clocks, self.arguments = clocks, arguments
        self._programs: OrderedDict[tuple[int, int], tuple[str, int]] = OrderedDict()
        self._files = ProgramFiles()
        self.looked = self.missed = 0

    def look(self, process: Process) -> bool:
        """Reads what /proc says of a process that runs, and decides its job; whether it was there to be looked at."""
        facts = facts_of(process.pid, self._start(process), self.arguments)
        self.looked += 1
        if facts is None:
            self.missed += 1
        else:
            process.learn(facts, time.monotonic_ns())
            process.terminal = terminal_of(facts.stat.device)
            if facts.program is not None:
                process.marks = self._files.marks(f"/proc/{process.pid}/exe")
            self._remember(facts)
        if process.owns_job and process.belonging.found is None:
            self._settle(process, facts)
        return facts is not None

    def parent_of(self, pid: int) -> int | None:
        stat = stat_of(pid)
        return None if stat is None else stat.parent_pid

    def _start(self, process: Process) -> tuple[int, int]:
        """Between which ticks it was forked: if nobody told, before it executed its program."""
        if process.start_ticks is not None:
            return process.start_ticks, process.start_ticks
        if process.fork_mono:
            return self.clocks.ticks(process.fork_mono)
        return 0, self.clocks.ticks(process.start_mono)[1]

    def _settle(self, process: Process, facts: Facts | None) -> None:
        """The job of a program that was just executed; its environment is read only where it can say something new."""
        if facts is None:
            return
        named = job_of_cgroup(facts.cgroup) if facts.cgroup else None
        cgroup = None if named is None else of_cgroup(named)
        above = process.belonging.resolved().job
        environment = None
        if above is None or (cgroup is not None and not cgroup.is_same(above)):
            variables = environment_of(process.pid)
            after = stat_of(process.pid)
            if variables and after is not None and after.start_ticks == process.start_ticks:
                environment = of_environment(variables, lambda path: read_ad(path, process.user_id))
                process.belonging.environment = True
        process.belonging.settle(cgroup, environment)

    def job_told(self, told: Told | None) -> BatchJob | None:
        """The job that the sensor's variables name."""
        if told is None or not told.variables:
            return None
        return of_environment(told.variables, lambda path: read_ad(path, told.user_id))

    def program_known_as(self, device: int, inode: int) -> str | None:
        """Path of the program with this device and inode, if it was seen and is there still."""
        identity = (device, inode)
        known = self._programs.get(identity)
        if known is None:
            return None
        path, sure_until = known
        now = time.monotonic_ns()
        if now < sure_until:
            return path
        try:
            found = Path(path).stat()
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != identity:
            del self._programs[identity]
            return None
        self._programs[identity] = path, now + SURE_FOR_NS
        return path

    def _remember(self, facts: Facts) -> None:
        if facts.program is None or facts.identity is None:
            return
        if facts.identity not in self._programs and len(self._programs) >= PROGRAMS_KEPT:
            self._programs.popitem(last=False)
        self._programs[facts.identity] = facts.program, 0
