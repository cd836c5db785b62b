"""One step of `benchmarks.asking` in a process of its own: `python -m benchmarks.asked STEP CONFIG`.

It prints, as JSON, how long the step took, how much CPU time this process had, and the most memory it ever had resident.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path

from batchacct import memory
from batchacct.cli.collecting import collector_of
from batchacct.cli.main import group
from batchacct.collector import collect_once
from batchacct.config import load_config
from batchacct.store import Store
from benchmarks.farm import now
from benchmarks.processes import COMMON_LIBRARY, FIRST_JOB, SIGNATURE
from benchmarks.resident import peak_mb

LOAD = "load"
JOB = str(FIRST_JOB + 1)

QUESTIONS: dict[str, tuple[str, ...]] = {
    **{f"top by {by}": ("procs", "top", "--by", by) for by in ("library", "module", "signature", "user", "program")},
    "programs of a job": ("procs", "programs", JOB),
    "why": ("why", JOB),
    "jobs by library": ("procs", "jobs", "--library", COMMON_LIBRARY, "--format", "csv"),
    "jobs by signature": ("procs", "jobs", "--signature", SIGNATURE, "--format", "csv"),
}
"""The questions by name: the words after `batchacct`."""


def load(config_path: Path) -> int:
    """The spool files, from their bytes into the store; processes recorded.  Raises: RuntimeError if any could not be read."""
    config = load_config(config_path)
    store = Store(config.database.resolved())
    recorded = 0
    for keys in config.source:
        done = collect_once(store, collector_of(config, keys), now)
        if done.errors or done.counts["rejected"]:
            raise RuntimeError(f"the benchmark's own spool files cannot be read: {done.errors or done.counts}")
        recorded += done.counts["recorded"] if keys.parser == "procs" else 0
    store.close()
    return recorded


def ask(config_path: Path, words: tuple[str, ...]) -> int:
    """A question, as it is typed; lines of the answer.  Raises: what the command raises."""
    with contextlib.redirect_stdout(io.StringIO()) as answer:
        group.main([*words, "--config", str(config_path)], prog_name="batchacct", standalone_mode=False)
    return answer.getvalue().count("\n")


def main(step: str, path: Path) -> None:
    memory.keep_freed()  # as the commands do
    began, cpu_began = time.perf_counter(), time.process_time()
    rows = load(path) if step == LOAD else ask(path, QUESTIONS[step])
    elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    print(json.dumps({"rows": rows, "elapsed_s": elapsed_s, "cpu_s": cpu_s, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
