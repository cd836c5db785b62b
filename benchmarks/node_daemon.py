"""`python -m benchmarks.node_daemon`: what the node daemon costs, idle and under a storm of forks, and whether it loses any.

Needs root and the kernel's interfaces. A C program (`fork_storm.c`) forks at a steady rate; the daemon runs beside it in a folder
of its own. Rows of the storm are counted in the spool against what the storm says it forked.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from batchacct.errors import BatchacctError
from procacct.node import control_client
from procacct.sensor.building import build

ROOT = Path(__file__).parents[1]
CONFIG = """host = "bench"
state = "{0}/state"
[spool]
path = "{0}/spool"
[sensor]
socket = "{0}/sensor"
policy = "{0}/policy"
[control]
socket = "{0}/control"
[taskstats]
use = "{1}"
[events]
use = "yes"
"""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Running:
    """A daemon in a folder."""

    def __init__(self, folder: Path, taskstats: str) -> None:
        self.folder = folder
        config = folder / "procacctd.toml"
        config.write_text(CONFIG.format(folder, taskstats), encoding="utf-8")
        command = [sys.executable, "-m", "procacct.node.command", "--config", str(config)]
        self._process = subprocess.Popen(command, cwd=ROOT)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + 30
        while True:
            try:
                self.status()
            except BatchacctError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the daemon did not start") from error
                time.sleep(0.1)
            else:
                return

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    def status(self) -> dict[str, Any]:
        return dict(control_client.ask(self.folder / "control", "status"))

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def rows_of(self, parent_pid: int) -> int:
        """Processes in rows whose parent is the storm."""
        count = 0
        for path in (self.folder / "spool").glob("processes-*"):
            with path.open("rb") as stream:
                for line in stream:
                    row = json.loads(line)
                    count += row["processes"] if row.get("parent_pid") == parent_pid and row["ended_by"] != "exec" else 0
        return count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node_daemon", description="Measures the node daemon.")
    parser.add_argument("--rate", type=int, default=5000, help="forks a second; 0: as many as can be [5000]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the storm, and of idling [10]")
    parser.add_argument("--program", help="what the children execute [nothing]")
    parser.add_argument("--sensor", action="store_true", help="with the sensor in the program")
    parser.add_argument("--taskstats", choices=("yes", "no"), default="yes", help="[yes]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batchacct-bench-") as name:
        folder = Path(name)
        storm = folder / "storm"
        subprocess.run(["cc", "-O2", "-o", storm, ROOT / "benchmarks/fork_storm.c"], check=True)
        daemon = Running(folder, options.taskstats)
        try:
            measure(daemon, storm, options)
        finally:
            daemon.stop()


def measure(daemon: Running, storm: Path, options: argparse.Namespace) -> None:
    time.sleep(2)
    before, began = daemon.cpu_s(), time.monotonic()
    others = daemon.status()["processes_started"]
    time.sleep(options.seconds)
    others = (daemon.status()["processes_started"] - others) / options.seconds
    idle = (daemon.cpu_s() - before) / (time.monotonic() - began)
    command = [str(storm), str(options.rate), str(options.seconds), *([options.program] if options.program else [])]
    environment = dict(os.environ)
    if options.sensor:
        environment["LD_PRELOAD"] = str(build(daemon.folder, policy=daemon.folder / "policy", socket=daemon.folder / "sensor"))
    before, began = daemon.cpu_s(), time.monotonic()
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    told, _ = running.communicate()
    time.sleep(1.0)
    used = daemon.cpu_s() - before
    forked, took_s = int(told.split()[0]), float(told.split()[1])
    status = daemon.status()
    daemon.stop()
    print(f"idle: {100 * idle:.2f} % of a core, with {others:.0f} processes a second of others on the host")
    print(f"storm: {forked} forks in {took_s:.1f} s, {forked / took_s:.0f}/s; rows of them: {daemon.rows_of(running.pid)}")
    print(f"daemon: {used:.2f} s of CPU, {100 * used / took_s:.1f} % of a core, {1e6 * used / forked:.0f} us a process")
    shown = (
        "sensor_messages",
        "sensor_unsent",
        "sensor_refused",
        "lost_events",
        "event_overruns",
        "taskstats_overruns",
        "without_usage",
        "rows_dropped",
        "lag_s",
        "own_memory_kib",
        "orphans",
    )
    print("  ".join(f"{name} {status[name]}" for name in shown))


if __name__ == "__main__":
    main()
