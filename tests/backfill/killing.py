"""Backfills again and again in children that are killed, and once more until it is done: `python -m tests.backfill.killing JSON`.

This process only imports, so that it has no threads when it forks, and a child costs no start of Python.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchacct.backfill import to_store
from batchacct.backfill.engines import LocalEngine
from batchacct.backfill.pieces import Told
from batchacct.backfill.to_parquet import Sizes, backfill_to_parquet
from batchacct.completing import rules_of
from batchacct.parsing import registry
from batchacct.store import Store
from cecol import blah  # noqa: F401 - imported before the first child
from loccol import lsf, pbs  # noqa: F401

NOW = 1_900_000_000
SIZES = Sizes(piece_bytes=40_000, block_bytes=9000, pending_bytes=40_000, bucket_rows=150, whole_rows=100)


def work_of(task: dict[str, Any]) -> Callable[[], None]:
    """What a child does."""
    told = Told(task.get("parser"), "logs", "SITE", "c1")

    def to_folder() -> None:
        backfill_to_parquet([task["logs"]], told, Path(task["out"]), LocalEngine(1), NOW, sizes=SIZES)

    def into_store() -> None:
        store = Store(task["store"])
        rules = rules_of([("logs", registry.parser(task["parser"]))])
        done = to_store.backfill_to_store(
            store, [task["logs"]], told, to_store.InThisProcess(), lambda: NOW, rules=rules, block_bytes=9000
        )
        assert not done.problems, done.problems
        store.close()

    return into_store if "store" in task else to_folder


def in_child(work: Callable[[], None], crash_at: str | None = None) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if crash_at is not None:
                os.environ["BATCHACCT_CRASH_AT"] = crash_at
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - a forked child must not go on
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def main(task: dict[str, Any]) -> None:
    work, rng = work_of(task), random.Random(task["seed"])
    killed = 0
    for point in task.get("points", ()):
        status = os.waitstatus_to_exitcode(os.waitpid(in_child(work, point), 0)[1])
        assert status in (0, -signal.SIGKILL), status
        killed += status != 0
    began = time.monotonic()
    if task.get("kills"):
        assert os.waitpid(in_child(lambda: None), 0)[1] == 0
    takes_s = float(task.get("takes_s", 1.5))
    for _ in range(task.get("kills", 0)):
        child = in_child(work)
        time.sleep(rng.random() * takes_s)
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    assert os.waitpid(in_child(work), 0)[1] == 0
    print(json.dumps({"killed": killed, "took_s": time.monotonic() - began}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
