"""How far a collector is, and that it is quick: what `status` shows of one that catches up, and when a new line is in the store."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.catchup import TURNS, turned_five_times
from tests.faults.farm import Farm, source_table
from tests.faults.writer import Log, Style
from tests.forks import Forked

LINES = 4000
LOOSE_S = 10.0
"""The bound of a single line here, where others use the machine, too; `make soak` measures."""


def looked_at(farm: Farm, process: Forked) -> dict[str, Any]:
    """What `status` says of the source, while the collector is held."""
    process.send(signal.SIGSTOP)
    told = farm.status()
    process.send(signal.SIGCONT)
    (source,) = told["following"]
    (units,) = told["sources"]
    assert told["balanced"]
    return {**source, "units": units["units"]}


def test_status_during_catch_up_through_five_rotations(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    log = farm.log()
    log.append(100)
    with farm.start():
        farm.until_stored(log)
    turned_five_times(log, LINES)
    (before,) = farm.status()["following"]
    assert (before["unread_files"], before["file"]) == (1 + len(TURNS), f"{log.path}.5.gz")
    process = farm.start()
    looks = []
    for share in (0.05, 0.4, 0.7):
        farm.until(f"{share:.0%} are stored", lambda share=share: farm.count() >= share * len(log.written))  # type: ignore[misc]
        looks.append(looked_at(farm, process))
    farm.until_stored(log)
    looks.append(looked_at(farm, process))
    assert process.terminate() == 0
    for earlier, later in pairwise(looks):
        assert earlier["unread_bytes"] > later["unread_bytes"]
        assert earlier["unread_files"] >= later["unread_files"]
        assert earlier["units"] < later["units"] <= len(log.written)
    files = [look["file"].removeprefix(str(log.path)) for look in looks]
    assert files == sorted(files, key=["", *(f".{n}{end}" for n in range(1, 6) for end in ("", ".gz"))].index, reverse=True)
    last = looks[-1]
    size = log.path.stat().st_size
    assert (last["file"], last["offset"], last["size"]) == (str(log.path), size, size)
    assert (last["unread_bytes"], last["unread_files"], last["lag_s"], last["units"]) == (0, 0, 0, len(log.written))
    farm.check(log)


@pytest.mark.parametrize("watch", ["inotify", "poll"])
def test_a_new_line_is_in_the_store_within_a_moment(farm: Farm, watch: str) -> None:
    farm.configure(source_table("lsf", "lsf", farm.logs / "lsb.acct*"), collect={"watch": watch})
    log = farm.log()
    log.append()
    with farm.start():
        farm.until_stored(log)
        took = sorted(_seconds(farm, log) for _ in range(20 if watch == "inotify" else 6))
    assert took[len(took) // 2] < LOOSE_S / 2
    assert took[-1] < LOOSE_S
    farm.check(log)


def _seconds(farm: Farm, log: Log) -> float:
    began = time.monotonic()
    log.append()
    farm.until_stored(log)
    return time.monotonic() - began


STEP_S = 400 * 86_400


def test_the_clock_is_stepped_back_and_forth(farm: Farm) -> None:
    """By more than a year each time. Only a moment of the clock is ever told, no pause is made of it."""
    clock = farm.folder / "clock"
    now = int(time.time())
    clock.write_text(str(now), encoding="ascii")
    log = farm.log()
    process = farm.start(clock=clock)
    log.append(20)
    farm.until_stored(log)
    for step, style in ((STEP_S, Style.RENAME), (-STEP_S, Style.SHIFT), (STEP_S, Style.COPY), (0, Style.COMPRESS)):
        clock.write_text(str(now + step), encoding="ascii")
        log.append(20)
        log.begin()
        process.has_ended(within_s=0.1)
        log.rotate(style, late=3)
        log.append(20)
        assert farm.until_stored(log) < 3 * LOOSE_S
    farm.until("no error is left", lambda: farm.state().get("last_error") is None)
    assert process.terminate() == 0
    assert "ERROR" not in farm.said()
    farm.check(log)


def test_files_that_were_written_in_the_far_past_and_in_the_future(farm: Farm) -> None:
    """As by a host whose clock is wrong: their times only say which of them changed."""
    log = farm.log()
    with farm.start():
        for at in (1, 2**31 - 1, 10**9, 4 * 10**9):
            log.append(20)
            farm.until_stored(log)
            os.utime(log.path, (at, at))
            log.rotate(Style.SHIFT)
            log.append(20)
            os.utime(log.path, (at, at))
            farm.until_stored(log)
    farm.check(log)
