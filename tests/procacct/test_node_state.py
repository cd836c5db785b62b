"""The state of a node daemon is on the disk when it is in its place, and the rows it counts on before it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from procacct.node.spool import PROCESSES, Spool
from procacct.node.state import State

BOOT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", BOOT, rotate_bytes=4096, rotate_s=60, most_bytes=65536, keep_s=0)
    yield spool
    spool.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state")
    yield state
    state.close()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was put on the disk, and what was renamed, in this order."""
    calls: list[str] = []

    def noted(name: str) -> None:
        real = getattr(os, name)

        def call(first: Any, *others: Any, **named: Any) -> Any:
            path = Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else Path(first)
            calls.append(f"{name} {path.name}")
            return real(first, *others, **named)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "fdatasync", "replace"):
        noted(name)
    return calls


def save(state: State, spool: Spool, now_ns: int, *, stopped: bool = False) -> None:
    state.save(BOOT, spool, [], now_ns, {}, stopped=stopped)


def until_saved(state: State, now_ns: int) -> None:
    until = time.monotonic() + 30
    while not (saved := state.load()) or saved.saved_ns != now_ns:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("stopped", [False, True])
def test_on_the_disk_are_the_rows_then_the_state_then_its_name(state: State, spool: Spool, done: list[str], stopped: bool) -> None:
    spool.add(PROCESSES, {"record_key": "one"})
    spool.flush(time.time_ns())
    save(state, spool, 1, stopped=stopped)
    until_saved(state, 1)
    state.wait()
    assert done == [
        "fdatasync processes-11111111-000001.jsonl",
        "fsync spool",
        "fsync .open.json.new",
        "replace .open.json.new",
        "fsync state",
    ]


def test_what_has_not_changed_is_not_written_each_time(state: State, spool: Spool, done: list[str]) -> None:
    save(state, spool, 1)
    until_saved(state, 1)
    state.wait()
    done.clear()
    save(state, spool, 2)
    assert not done
    save(state, spool, 3, stopped=True)
    saved = state.load()
    assert saved is not None
    assert (saved.saved_ns, saved.stopped) == (3, True)


def test_a_disk_that_takes_its_time_holds_nobody_up(
    state: State, spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, told = os.fsync, os.pipe()

    def slow(descriptor: int) -> None:
        os.read(told[0], 1)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    save(state, spool, 1)
    save(state, spool, 2)
    assert not (tmp_path / "state/open.json").exists()
    os.write(told[1], b"." * 9)
    until_saved(state, 1)
    save(state, spool, 3, stopped=True)
    assert json.loads((tmp_path / "state/open.json").read_bytes())["saved_ns"] == 3
    for one in told:
        os.close(one)
