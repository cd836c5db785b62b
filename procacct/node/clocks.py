"""From the kernel's clocks to the time of day, and to the ticks in which /proc tells when a process began.

Events have CLOCK_MONOTONIC, which stands still in suspension; /proc/PID/stat has CLOCK_BOOTTIME, which does not. Both distances are
taken anew for each batch: a distance taken once is wrong after the clock was set (clock_gettime(2)).
"""

from __future__ import annotations

import time

from procacct.node.proc_files import TICK_NS

SLACK_TICKS = 1
SECOND_NS = 1_000_000_000


class Clocks:
    """The distances between the clocks, as of the last `take`."""

    def __init__(self) -> None:
        self.take()

    def take(self) -> int:
        """Takes them anew; now, by CLOCK_MONOTONIC."""
        before = time.monotonic_ns()
        real, boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        now = time.monotonic_ns()
        middle = (before + now) // 2
        self.to_real_ns = real - middle
        self._to_boot_ns = max(boot - middle, 0)
        return now

    def ticks(self, monotonic_ns: int) -> tuple[int, int]:
        """Between which ticks since boot a process began that was forked then."""
        exact = (monotonic_ns + self._to_boot_ns) // TICK_NS
        return exact - SLACK_TICKS, exact + SLACK_TICKS

    def monotonic(self, start_ticks: int) -> int:
        """When that was, by CLOCK_MONOTONIC, to the tick."""
        return start_ticks * TICK_NS - self._to_boot_ns
