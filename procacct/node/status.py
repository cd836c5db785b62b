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


MEANINGS = {
    "running_s": "since it was started, seconds",
    "own_cpu_s": "CPU time of the daemon itself, seconds",
    "own_memory_kib": "the most memory it ever had resident, KiB",
    "lag_s": "how old the oldest event was that was read last, seconds",
    "hears_events": "1 if the kernel tells it of forks, executions and ends",
    "hears_taskstats": "1 if the kernel tells it what was used",
    "processes_open": "processes that run and are known",
    "processes_started": "processes that were forked",
    "programs_executed": "programs that were executed",
    "processes_ended": "processes that ended",
    "threads_started": "threads that were started",
    "starts_unknown": "processes whose fork nobody told of",
    "ends_unknown": "processes that were gone, and whose end nobody told of",
    "without_usage": "ends for which taskstats told nothing of what was used",
    "orphans": "rows made of what taskstats or a sensor told alone, as the events were lost",
    "looked_at": "looks into /proc at a process",
    "gone_before_looked_at": "those of them that came too late",
    "lost_events": "events of the kernel that were lost, by its sequence",
    "event_overruns": "times the buffer of events ran over",
    "taskstats_overruns": "times the buffer of taskstats ran over",
    "taskstats_refused": "messages of taskstats that could not be read",
    "sensor_messages": "messages of sensors",
    "sensor_unreadable": "those of them that are not of the form",
    "sensor_unsent": "messages that sensors could not send, by their own count",
    "sensor_other_pid": "messages whose process is another one to the kernel, which counts: of another pid namespace, or forged",
    "sensor_refused": "messages given up, as too many waited",
    "left_over_late": "what was told of a process after its row was written, and given up",
    "fields_left_out": "values that did not fit a row, and were left out",
    "sensor_ahead": "messages refused, as their time is still to come: forged, or of a time namespace",
    "sensor_cut": "messages of which the sensor had to cut something",
    "object_sets": "sets of shared objects that were told",
    "object_sets_untold": "those that were not, as there were too many new ones in a minute",
    "rows_written": "rows that are in the spool",
    "rows_waiting": "rows that could not be written yet",
    "rows_dropped": "rows that were given up; a gap row tells of them",
    "rows_summed": "executions that went into a sum",
    "rows_outside_jobs_left_out": "rows of programs outside any batch job that were left out (`outside_jobs`)",
    "gaps_told": "gap rows: what is missing, and why",
    "spool_failing": "1 while the spool cannot be written",
    "state_unsaved": "1 while its state cannot be saved",
}
"""What each of its figures means, counted since its start where it counts."""


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
            lines += [f"# HELP procacctd_{name} {MEANINGS[name]}", f"# TYPE procacctd_{name} gauge", f"procacctd_{name} {number}"]
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
