"""Killed at any instruction and started again, backfilling leaves what it would have left undisturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchacct.archive.layout import finished_files
from batchacct.backfill.folder import BOOKS
from batchacct.model import IDENTITY, JOB, PART
from batchacct.store import Store
from tests.backfill.folders import HOW_MADE, TOLD, backfill, comparable, rows_in, stored_rows
from tests.backfill.killing import SIZES
from tests.backfill.test_piles import ALL, write
from tests.parsing.test_every_parser import content, samples_of

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("BATCHACCT_KILLS", "12"))
POINTS = [
    "backfill.parsed-block:3",
    "backfill.parsed-piece:1",
    "backfill.parsed-piece:2",
    "backfill.completed:2",
    "backfill.before-bucket:3",
    "backfill.before-commit",
    "backfill.after-commit",
    "backfill.removed:1",
    "backfill.moved:2",
    "backfill.before-end",
]
WITHOUT = (*HOW_MADE, "source_offset")
"""Which of two copies a record was read from depends on which was there first."""


def pile(folder: Path) -> Path:
    """Jobs of a month by LSF, and by PBS jobs of many lines."""
    write(folder / "acct", ALL[:250])
    write(folder / "acct.1.gz", ALL[200:300])
    for sample in (
        path for path in samples_of("pbs") if path.name in ("gratia-torque-2006.log", "gratia-torque-20110908-extract.log")
    ):
        write(folder / f"pbs-{sample.stem}", [content(sample)[: 1 << 14]])
    return folder


def kill(**task: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.backfill.killing", json.dumps(task | {"seed": task.get("seed", 1)})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[object, ...]]]:
    """What it leaves undisturbed."""
    place = tmp_path_factory.mktemp("undisturbed")
    books = backfill([pile(place / "logs")], place / "out", replace(TOLD, parser=None), sizes=SIZES)
    assert books.problems == [] and books.completed > 0
    return {name: comparable(rows_in(place / "out", name), WITHOUT) for name in ("job", "part")}


def check(out: Path, expected: dict[str, list[tuple[object, ...]]]) -> None:
    assert {name: comparable(rows_in(out, name), WITHOUT) for name in expected} == expected
    assert sorted(path.name for path in (out / ".backfill").iterdir()) == ["lock"]
    every = {file for record_type in (JOB, IDENTITY, PART) for file, _ in finished_files(out, record_type)}
    assert set(out.rglob("*.parquet")) == every


def test_at_every_named_place(tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]) -> None:
    """One run that dies at each place in turn, over a folder in which some of it is already."""
    logs = pile(tmp_path / "logs")
    backfill([logs / "acct"], tmp_path / "out", replace(TOLD, parser=None), sizes=SIZES)
    told = kill(logs=str(logs), out=str(tmp_path / "out"), points=POINTS)
    assert told["killed"] == len(POINTS)
    check(tmp_path / "out", expected)
    (last,) = sorted((tmp_path / "out" / BOOKS).glob("2030*.json"))[-1:]
    books = json.loads(last.read_text())
    assert books["units"] == sum(books[name] for name in ("recorded", "merged", "known", "skipped", "rejected"))


def test_at_random_moments(tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]) -> None:
    logs = pile(tmp_path / "logs")
    told = kill(logs=str(logs), out=str(tmp_path / "out"), kills=KILLS, seed=KILLS)
    assert told["killed"] > 0
    check(tmp_path / "out", expected)


def test_into_a_store_at_random_moments(tmp_path: Path, sqlite_store: Store, sqlite_url: str) -> None:
    """Nothing is lost or doubled, and a collection afterwards would find nothing new: the positions are at the files' ends."""
    logs = tmp_path / "logs"
    write(logs / "acct", ALL)
    write(logs / "acct.1.gz", ALL[:200])
    told = kill(
        logs=str(logs), store=sqlite_url, parser="lsf", kills=KILLS, points=["append.before-commit:4", "append.after-commit:3"]
    )
    assert told["killed"] >= 2
    assert sorted(row["lrms_job_id"] for row in stored_rows(sqlite_store, "job")) == sorted(str(n) for n in range(1, 401))


def test_workers_end_with_who_is_killed(tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]) -> None:
    """The command is killed alone, with SIGKILL: its workers do not stay behind, and the next one does the work."""
    logs = pile(tmp_path / "logs")
    arguments = ["backfill", "--name", "logs", "--site", "SITE", "--cluster", "c1", "--workers", "2", "--to", str(tmp_path / "out")]
    command = [sys.executable, "-c", "from batchacct.cli import main; main()", *arguments, str(logs)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers: set[int] = set()
    deadline = time.monotonic() + 180
    while not workers and time.monotonic() < deadline and first.poll() is None:
        workers = _children(first.pid)
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    while time.monotonic() < deadline and any(_is_there(pid) for pid in workers):
        time.sleep(0.05)
    assert workers and not any(_is_there(pid) for pid in workers)
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    check(tmp_path / "out", expected)


def _children(pid: int) -> set[int]:
    try:
        return {int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def _is_there(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
