"""Backfilling and reporting on a real standalone cluster: row for row what one machine makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchacct.demo.farm import write_logs
from batchacct.store import Store
from tests.backfill.folders import NOW, comparable, rows_in, stored_rows
from tests.cli.runner import batchacct
from tests.services.spark import BRIEFLY

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
OPTIONS = ("--name", "logs", "--site", "SITE", "--cluster", "lsf1")
LIMIT_MIB = 400


@dataclass(frozen=True, slots=True)
class Ran:
    """What the commands left and wrote."""

    folder: Path
    statuses: list[int]
    peak_mib: int
    outputs: list[str]


def config(folder: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f'site = "SITE"\n[database]\nurl = "sqlite:///{folder}/{name}.db"\n')
    store = Store(f"sqlite:///{folder}/{name}.db")
    store.create()
    store.close()
    return path


@pytest.fixture(scope="module")
def ran(spark_master: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The commands on the cluster, once, and the same on this machine."""
    folder = tmp_path_factory.mktemp("spark")
    write_logs(folder / "logs", jobs=1500, end_at=NOW)
    jobs = [str(path) for path in sorted((folder / "logs").glob("lsb*"))]
    on_spark = ["--master", spark_master]
    engine = ["--engine", "spark", *on_spark]
    reported = ["report", "--archive", str(folder / "on-spark"), *on_spark, "--format", "json", "--by"]
    stored = ["--parser", "lsf", "--config", str(config(folder, "on-spark"))]
    commands = [
        ["backfill", *OPTIONS, *engine, "--to", str(folder / "on-spark"), str(folder / "logs")],
        ["backfill", *OPTIONS, *engine, *stored, *jobs],
        [*reported, "queue"],
    ]
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", **BRIEFLY}
    command = [sys.executable, "-m", "tests.services.spark_driver", json.dumps(commands)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = done.stdout.split("--- end of ")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["statuses"] == [13, 0, 0], (done.stdout, done.stderr[-3000:])
    here = batchacct("backfill", *OPTIONS, "--to", folder / "here", folder / "logs")
    assert here.status == 13, here
    into_store = batchacct("backfill", *OPTIONS, "--parser", "lsf", "--config", config(folder, "here"), *jobs)
    assert into_store.status == 0, into_store
    return Ran(folder, told["statuses"], told["peak_mib"], outputs)


@pytest.mark.parametrize("record_type", ["job", "identity"])
def test_the_folders_are_the_same_row_for_row(ran: Ran, record_type: str) -> None:
    rows = [sorted(rows_in(ran.folder / name, record_type), key=repr) for name in ("on-spark", "here")]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 500


def test_the_rejects_are_the_same(ran: Ran) -> None:
    rejects = [next((ran.folder / name).glob("backfills/*.jsonl")).read_bytes() for name in ("on-spark", "here")]
    assert rejects[0] == rejects[1]


def test_the_stores_are_the_same(ran: Ran) -> None:
    rows = []
    for name in ("on-spark", "here"):
        store = Store(f"sqlite:///{ran.folder}/{name}.db")
        rows.append(comparable(stored_rows(store, "job"), ()))
        store.close()
    assert rows[0] == rows[1]
    assert len(rows[0]) > 500


def test_the_reports_are_the_same(ran: Ran) -> None:
    """Of the folder, by Spark and on this machine, and of the store, into which the same jobs went."""
    on_spark = json.loads(ran.outputs[2].partition("\n")[2])
    here = batchacct("report", "--config", ran.folder / "here.toml", "--by", "queue", "--format", "json")
    expected: dict[str, Any] = json.loads(here.out)
    assert on_spark == expected
    folder = batchacct("report", "--archive", ran.folder / "on-spark", "--by", "queue", "--format", "json")
    assert json.loads(folder.out) == expected
    assert len(on_spark["rows"]) > 3


def test_no_worker_is_large(ran: Ran) -> None:
    assert 0 < ran.peak_mib < LIMIT_MIB
