"""Killed while it follows, and the writer goes on: every line of the ledger is stored once, whatever was killed where.

`make crash` kills 500 times on each database (BATCHACCT_KILLS); the counts are told at the end of the run.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import batchacct
from batchacct.errors import BusyError
from tests.faults.farm import Farm, source_table
from tests.faults.writer import Load, Log, Style
from tests.fix_counts import RecordProperty, record_counts
from tests.forks import Forked

POINTS = (
    "append.after-position",
    "append.before-commit",
    "append.after-commit",
    "follow.located",
    "follow.before-parse",
    "follow.after-parse",
    "follow.after-append",
    "follow.state",
)
OTHER_POINTS = {
    *("join.before-commit", "build.before-commit", "send.sealed", "send.handed-over", "send.before-confirm"),
    *("migrate.step", "migrate.recorded", "migrate.before-commit", "partition.statement"),
    *("usage.summed", "usage.before-commit"),
}
"""Those of publishing, see test_kill.py and tests/faults/test_publisher_killed.py, of migrating, see test_kill_migrating.py, and of
summing, see tests/cli/test_summarise.py."""
OTHER_FOLDERS = ("archive", "backfill")
"""Their points are killed at in tests of their own: see tests/archive/test_kill.py and tests/backfill/test_kills.py."""
KILLS = int(os.environ.get("BATCHACCT_KILLS", "12"))
TURNS = [Style.RENAME, Style.SHIFT, Style.COMPRESS, Style.COPY]
SIGKILLED = -9


@contextmanager
def writing(farm: Farm, *, rate: int, turn_s: float, seed: int) -> Iterator[tuple[Load, list[Log]]]:
    """A farm at work: LSF's log, turned in every way, and a log of BLAH with a file a day (of a second or so)."""
    farm.configure(source_table("lsf", "lsf", farm.logs / "lsb.acct*"), source_table("blah", "blah", farm.logs / "blahp.log-*"))
    acct, blah = farm.log("lsb.acct"), farm.log("blahp.log-20240101")
    load = Load({acct: TURNS, blah: [Style.DAILY]}, rate=rate, turn_s=turn_s, seed=seed)
    load.start()
    try:
        yield load, [acct, blah]
    finally:
        load.finish()
        acct.close()
        blah.close()


def caught_up(farm: Farm, logs: list[Log]) -> dict[str, int]:
    """Lets a collector, started now, catch up with the logs, and ends it; what is counted then."""
    process = restarted(farm)
    farm.until_stored(*logs)
    began = time.monotonic()
    assert process.terminate() == 0, farm.said()
    assert time.monotonic() - began < 30
    assert "Traceback" not in farm.said()
    return farm.check(*logs)


def restarted(farm: Farm, crash_at: str = "") -> Forked:
    return farm.start(crash_at=crash_at)


def test_every_point_is_known() -> None:
    root = Path(batchacct.__file__).parents[1]
    modules = [path for room in ("batchacct", "loccol", "cecol", "pub") for path in (root / room).rglob("*.py")]
    modules = [path for path in modules if path.parent.name not in OTHER_FOLDERS]
    named = {name for path in modules for name in re.findall(r'crash_point\("([^"]+)"\)', path.read_text(encoding="utf-8"))}
    assert named == {*POINTS, *OTHER_POINTS}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_while_it_follows(farm: Farm, point: str) -> None:
    with writing(farm, rate=300, turn_s=0.4, seed=POINTS.index(point)) as (_, logs):
        for times in (1, 2):
            process = restarted(farm, f"{point}:{times}")
            assert process.wait() == SIGKILLED, farm.said()
    caught_up(farm, logs)


def test_killed_at_any_moment_while_it_follows(farm: Farm, record_property: RecordProperty) -> None:
    moments = random.Random(11)
    kills = refused = 0
    with writing(farm, rate=400, turn_s=0.7, seed=3) as (load, logs):
        while kills < KILLS:
            process = restarted(farm)
            if process.has_ended(within_s=moments.choice((0.05, 0.3, 0.8)) * moments.random()):
                # A server may notice only after its process was killed that the lock is free.
                assert process.wait() == BusyError.exit_code, farm.said()
                refused += 1
                assert refused < 10 + kills, farm.said()
                continue
            process.kill()
            kills += 1
            assert load.failed is None
    counts = {"kills": kills, "refused as the lock was still held": refused, **caught_up(farm, logs)}
    record_counts(record_property, f"kills under load on {farm.store.dialect.name}", counts)
