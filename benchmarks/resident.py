"""Memory: each in a process of its own, `python -m benchmarks.resident collect|publish CONFIG`, which tells its peak."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from batchacct import memory
from batchacct.cli.collecting import collector_of
from batchacct.collector import collect_once
from batchacct.config import load_config
from batchacct.store import Store
from benchmarks.farm import SQLITE, Databases, Logs, now
from benchmarks.figures import Figures, seconds
from pub.command import publish_once

LIMIT_MB = 400


def measure_memory(figures: Figures, workdir: Path, databases: Databases, jobs: int, seed: int) -> None:
    """Peak resident memory of collecting and of publishing `jobs` jobs with SQLite."""
    logs = Logs.made(workdir, jobs, seed)
    with databases.empty(SQLITE, logs) as site:
        site.store.close()
        for what in ("collect", "publish"):
            told = _run(what, site.config_path)
            figures.add(f"peak memory, {what} {jobs:,} jobs", told["peak_mb"], "MB (less is better)", LIMIT_MB, "the limit")


def _run(what: str, config_path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.resident", what, str(config_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main(what: str, path: Path) -> None:
    memory.keep_freed()
    config = load_config(path)
    store = Store(config.database.resolved())
    elapsed_s = 0.0
    if what == "collect":
        for keys in config.source:
            collector = collector_of(config, keys)
            elapsed_s += seconds(lambda: collect_once(store, collector, now))  # noqa: B023
    else:
        elapsed_s = seconds(lambda: publish_once(store, config, now))
    store.close()
    print(json.dumps({"elapsed_s": elapsed_s, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Most memory this process ever had resident: not `ru_maxrss`, which begins with that of the process it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
