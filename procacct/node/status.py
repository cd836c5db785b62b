"""What the daemon tells of itself: counts since its start, and how it stands; for `jobmng status`, and as a file for Prometheus."""

from __future__ import annotations

import logging
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from procacct.node.clocks import SECOND_NS

if TYPE_CHECKING:
    from procacct.node.daemon import Daemon

log = logging.getLogger(__name__)


class Status:
    """Of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._begun = time.monotonic()
        self.lag_ns = 0

    def as_dict(self) -> dict[str, Any]:
        """`lag_s`: how old the oldest event was that was read last."""
        one = self._daemon
        tree, spool, sources = one.tree, one.spool, one.sources
        used = resource.getrusage(resource.RUSAGE_SELF)
        connector, taskstats = sources.connector, sources.taskstats
        return {
            "running_s": round(time.monotonic() - self._begun, 3),
            "own_cpu_s": round(used.ru_utime + used.ru_stime, 3),
            "own_memory_kib": _most_memory_kib(),
            "lag_s": self.lag_ns / SECOND_NS,
            "hears_events": connector is not None,
            "hears_taskstats": taskstats is not None,
            "processes_open": len(tree.processes),
            "processes_started": tree.started,
            "programs_executed": tree.executed,
            "processes_ended": tree.ended,
            "threads_started": tree.threads,
            "starts_unknown": tree.starts_unknown,
            "ends_unknown": tree.ends_unknown,
            "without_usage": tree.without_usage,
            "orphans": tree.orphans,
            "looked_at": one.looking.looked,
            "gone_before_looked_at": one.looking.missed,
            "lost_events": 0 if connector is None else connector.lost,
            "event_overruns": 0 if connector is None else connector.overruns,
            "taskstats_overruns": 0 if taskstats is None else taskstats.overruns,
            "taskstats_refused": 0 if taskstats is None else taskstats.refused,
            "sensor_messages": sources.sensors.received,
            "sensor_unreadable": sources.sensors.unreadable,
            "sensor_unsent": sources.reader.unsent,
            "sensor_other_pid": sources.reader.other_pids,
            "sensor_refused": tree.waiting.refused,
            "left_over_late": tree.waiting.late,
            "fields_left_out": one.rows.left_out,
            "sensor_ahead": sources.reader.ahead,
            "sensor_cut": sources.reader.cut,
            "object_sets": one.objects.sets,
            "object_sets_untold": one.objects.untold,
            "rows_written": spool.written,
            "rows_waiting": spool.backlog_rows,
            "rows_dropped": spool.dropped,
            "rows_summed": one.sums.summed,
            "rows_outside_jobs_left_out": one.out.left_out,
            "gaps_told": one.losses.gaps,
            "spool_failing": spool.failing,
            "state_unsaved": one.state.unsaved,
        }


def _most_memory_kib() -> int:
    """The most this process ever had resident: not `ru_maxrss`, which begins with that of the process it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)


class Prometheus:
    """A file for the textfile collector of node_exporter, replaced as a whole."""

    def __init__(self, path: Path, status: Status) -> None:
        self._path, self._status = path, status
        self._is_failing = False

    def write(self) -> None:
        lines: list[str] = []
        for name, value in self._status.as_dict().items():
            number = int(value) if isinstance(value, bool) else value if isinstance(value, (int, float)) else int(value is not None)
            lines += [f"# TYPE procacctd_{name} gauge", f"procacctd_{name} {number}"]
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            temporary.write_text("\n".join(lines) + "\n", encoding="ascii")
            temporary.replace(self._path)
        except OSError as error:
            if not self._is_failing:
                log.warning("the metrics cannot be written to %s: %s", self._path, error.strerror)
            self._is_failing = True
        else:
            self._is_failing = False
