"""What the benchmarks of growth and of limits say follows from what was measured; their phases do the whole job."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from batchacct.config import load_config
from batchacct.store import Store
from benchmarks import growing, growth
from benchmarks.farm import Logs, configuration
from benchmarks.growth import Point
from benchmarks.limits import Side, Spent, table
from benchmarks.servers import tree_cpu_s
from benchmarks.totals import Totals, totals_of
from tests.apel_reader import read_message

if TYPE_CHECKING:
    from pathlib import Path

JOBS = 1000
SMALL = Point("postgresql", "load", 1_000, 1_000, 2.0, 1.5, 0.4, 200.0, "2026-11-26 22:05Z")
LARGE = replace(SMALL, jobs=10_000, rows=10_000, elapsed_s=40.0, cpu_s=8.0, server_cpu_s=30.0)


def test_the_phases_do_the_whole_job_and_totals_are_those_of_the_messages(tmp_path: Path) -> None:
    logs = Logs.made(tmp_path, JOBS, 1)
    config = load_config(configuration(tmp_path, logs, f"sqlite:///{tmp_path}/batchacct.db"))
    store = Store(config.database.resolved())
    store.create()
    rows = {phase: work(store, config) for phase, work in growing.PHASES.items()}
    store.close()
    assert rows["load"] == rows["join"] == JOBS
    assert 0 < rows["publish"] < rows["report"] < JOBS
    read = [job for path in sorted(config.publish.path.rglob("*")) if path.is_file() for job in read_message(path.read_bytes())]
    wall_s, cpu_s = (sum(int(str(job[name])) for job in read) for name in ("WallDuration", "CpuDuration"))
    totals = totals_of(config.publish.path)
    assert (totals.records, totals.wall_s, totals.cpu_s) == (len(read), wall_s, cpu_s) and len(read) == rows["publish"]
    assert 0 < totals.named < totals.records


def test_totals_tell_messages_apart(tmp_path: Path) -> None:
    assert totals_of(tmp_path) == Totals(0, 0, 0, 0)
    record = (
        b"WallDuration: 5\nCpuDuration: 3\nGlobalUserName: /CN=a\n%%\nWallDuration: 1\nCpuDuration: 0\nGlobalUserName: None\n%%\n"
    )
    (tmp_path / "0").write_bytes(b"APEL-individual-job-message: v0.3\n" + record)
    (tmp_path / "other").write_bytes(record)
    assert totals_of(tmp_path) == Totals(2, 6, 3, 1)


def test_growth_is_a_power_and_who_is_at_work_is_the_limit() -> None:
    assert growth.exponent(SMALL, LARGE) == pytest.approx(1.301, abs=0.001)
    assert growth.limit(SMALL) == "our process (0.75 cores)"
    assert growth.limit(LARGE) == "the server (0.75 cores)"
    assert growth.limit(replace(LARGE, server_cpu_s=1.0)) == "waiting"
    assert growth.limit(replace(SMALL, database="sqlite")) == "our process, SQLite in it (0.75 cores)"
    head, _, first, second = growth.table([SMALL, LARGE]).splitlines()
    assert first == "| PostgreSQL | load | 1,000 | 2.0 | 500 |  | 200 | 1.5 | 0.4 | our process (0.75 cores) |"
    assert [cell.strip() for cell in second.split("|")[4:7]] == ["40.0", "250", "1.30"]
    assert head.count("|") == first.count("|")


def test_figures_are_kept_in_place_of_earlier_ones_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "growth.json"
    growth.keep(path, [LARGE, SMALL])
    growth.keep(path, [replace(SMALL, elapsed_s=1.0), replace(SMALL, database="mariadb")])
    kept = growth.read(path)
    assert [(p.database, p.jobs, p.elapsed_s) for p in kept] == [
        ("postgresql", 1_000, 1.0), ("postgresql", 10_000, 40.0), ("mariadb", 1_000, 2.0)
    ]  # fmt: skip
    growth.draw(kept, tmp_path / "a.svg")
    growth.draw(kept, tmp_path / "b.png")
    drawn = (tmp_path / "a.svg").read_text()
    assert "<svg" in drawn and len(drawn) < 300_000
    assert (tmp_path / "b.png").stat().st_size < 200_000


def test_cpu_time_of_a_server_is_that_of_all_its_processes() -> None:
    work = "import subprocess, sys; sum(range(3_000_000)); subprocess.run([sys.executable, '-c', 'sum(range(9_000_000))'])"
    before = tree_cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", work], check=True)
    assert tree_cpu_s(os.getpid()) - before > 0.05


def test_the_limit_is_what_the_storing_thread_spends_most_with() -> None:
    spent = Spent("postgresql", 1000, Side(10.0, 4.0), Side(6.0, 1.0), Side(0.5, 0.0), process_cpu_s=9.0, server_cpu_s=5.5)
    assert (spent.parsing_cpu_s, spent.rest.wall_s, spent.rest.cpu_s, spent.rest.waited_s) == (5.0, 3.5, 3.0, 0.5)
    assert spent.limit() == "the database: waited for in its bulk path (50%)"
    assert replace(spent, bulk=Side(6.0, 5.5)).limit() == "the driver (rows on their way to the server) (55%)"
    assert replace(spent, database="sqlite", bulk=Side(6.0, 5.5)).limit() == "SQLite itself, in our process (55%)"
    assert replace(spent, storing=Side(20.0, 4.0)).limit() == "the parser: what stores waits for it (52%)"
    assert replace(spent, commit=Side(6.0, 0.0), storing=Side(15.0, 4.0)).limit() == "durable commits (40%)"
    assert len({line.count("|") for line in table([spent]).splitlines()}) == 1
