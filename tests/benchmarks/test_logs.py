"""The logs that parsers are measured on: nothing in them is rejected, and what comes out is what went in."""

from __future__ import annotations

import io
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from batchacct.errors import PluginError
from batchacct.model import JOB
from batchacct.parsing import Parser, Source, registry
from batchacct.parsing.reading import read_blocks
from benchmarks import logs, parsers
from benchmarks.logs import FORMATS, LARGE, NOT_MEASURED
from benchmarks.logs.batch import PE_SLOTS
from benchmarks.logs.jobs import ARRAY_TASKS, GRID_QUEUE, Job, jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Expected = tuple[int, int, int]
"""Records, parts, units skipped."""

COUNT = 400
SOURCE = Source("bench", "BENCH-SITE", "c1")


@pytest.fixture(scope="module")
def made() -> list[Job]:
    return list(islice(jobs(7), COUNT))


def content(name: str, of: Sequence[Job]) -> bytes:
    return b"".join(piece for piece, _ in FORMATS[name].pieces(of, 1 << 30))


def pbs(of: Sequence[Job]) -> Expected:
    """Q of all, S of those that ran, D of the others."""
    return started(of), 2 * len(of), 0


def sge(of: Sequence[Job]) -> Expected:
    """Parallel jobs and their tasks are parts; one of three that never started has a line."""
    ran = [job for job in of if job.start_at is not None]
    alone, parallel, _ = sge_json(ran)
    tasks = sum(job.host_count - 1 for job in ran if job.slots == PE_SLOTS)
    return alone, parallel + tasks, sum(job.start_at is None and job.number % 3 == 0 for job in of)


def sge_json(of: Sequence[Job]) -> Expected:
    """Parallel jobs that ran are parts."""
    parallel = sum(job.processors > 1 and job.start_at is not None for job in of)
    return len(of) - parallel, parallel, 0


def from_the_grid(of: Sequence[Job]) -> int:
    return sum(job.queue.startswith(GRID_QUEUE) for job in of)


def started(of: Sequence[Job]) -> int:
    return sum(job.start_at is not None for job in of)


EXPECTED: dict[str, Callable[[Sequence[Job]], Expected]] = {
    "arc-db": lambda of: (len(of), 0, 0),
    "arc-joblog": lambda of: (len(of), 0, len(of)),
    "gram": lambda of: (0, 3 * len(of), len(of)),
    "gram-audit": lambda of: (len(of), 0, 0),
    "htcondor": lambda of: (len(of), 0, 0),
    "htcondor-apel": lambda of: (started(of), 0, 0),
    "htcondor-ce": lambda of: (from_the_grid(of), 0, len(of) - from_the_grid(of)),
    "htcondor-ce-audit": lambda of: (0, 2 * len(of), len(of)),
    "htcondor-ce-json": lambda of: (from_the_grid(of), 0, len(of) - from_the_grid(of) + 2),
    "htcondor-json": lambda of: (len(of), 0, 2),
    "lcmaps": lambda of: (0, sum(1 + len(job.fqans) for job in of), 2 * len(of)),
    "pbs": pbs,
    "pbs-ends": lambda of: (started(of), 0, 0),
    "sge": sge,
    "sge-json": sge_json,
    "slurm": lambda of: (len(of), 0, 0),
    "slurm-apel-list": lambda of: (len(of), 0, 0),
    "slurm-jobcomp": lambda of: (len(of), 0, 0),
    "slurm-jobcomp-json": lambda of: (len(of), 0, 0),
    "slurm-json": lambda of: (len(of), 0, 2),
    "voms-accounting": lambda of: (0, len(of), 0),
}
TOLD_OF_USE = ("htcondor", "htcondor-apel", "htcondor-json", "pbs-ends", "slurm", "slurm-apel-list", "slurm-json")
"""Logs with wallclock and CPU of every job in records of their own."""
THOSE_THAT_RAN = ("htcondor-apel", "pbs-ends")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_all_of_it_is_read(name: str, made: list[Job]) -> None:
    parser = _installed(name)
    blocks = read_blocks(io.BytesIO(content(name, made)), parser.framing, block_bytes=1 << 16)
    parsed = list(parser.parse(blocks, SOURCE))
    assert not [reject for block in parsed for reject in block.rejects]
    records = pa.Table.from_batches([block.records for block in parsed])
    parts, skipped = sum(block.parts.num_rows for block in parsed), sum(sum(block.skipped.values()) for block in parsed)
    assert (records.num_rows, parts, skipped) == EXPECTED[name](made)
    assert len(set(records["record_key"].to_pylist())) == records.num_rows
    if name in TOLD_OF_USE:
        assert parser.record_type is JOB
        walls = sorted(value or 0 for value in records["wall_duration_s"].to_pylist())
        assert walls == sorted(job.wall_s for job in made if job.start_at is not None or name not in THOSE_THAT_RAN)
        cpu = sum(value or 0 for value in records["cpu_duration_s"].to_pylist())
        assert cpu == pytest.approx(sum(job.cpu_s for job in made), rel=1e-4)


def test_every_parser_is_measured_or_said_why_not() -> None:
    measured = {*LARGE, *(form.parser for form in FORMATS.values())}
    assert set(registry.names(registry.PARSERS)) - set(NOT_MEASURED) <= measured


def test_jobs_are_of_every_kind(made: list[Job]) -> None:
    assert [job.end_at for job in made] == sorted(job.end_at for job in made)
    assert len({(job.number, job.index) for job in made}) == COUNT
    assert {job.index for job in made} > {None, 0, 1}
    assert all(job.number % ARRAY_TASKS == 0 for job in made if job.index is not None)
    for happens in (
        lambda job: job.host_count > 1,
        lambda job: job.start_at is None,
        lambda job: job.gpus,
        lambda job: job.exit_code,
        lambda job: job.exit_signal,
        lambda job: job.queue.startswith(GRID_QUEUE),
    ):
        assert 0 < sum(bool(happens(job)) for job in made) < COUNT / 2


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_seed_gives_the_same_bytes(name: str, made: list[Job]) -> None:
    assert content(name, made[:50]) == content(name, list(islice(jobs(7), 50)))
    assert content(name, made[:50]) != content(name, list(islice(jobs(8), 50)))


@pytest.mark.parametrize("name", ["sge", "slurm-json"])
def test_a_log_has_as_many_units_as_were_asked_for_and_is_kept(name: str, tmp_path: Path) -> None:
    log = logs.made(name, tmp_path, 1_000, 7)
    wanted = 1_000 * FORMATS[name].share
    assert wanted <= log.units <= wanted + 3
    kept = log.path.stat().st_mtime_ns
    assert logs.made(name, tmp_path, 1_000, 7) == log
    assert log.path.stat().st_mtime_ns == kept
    if log.unit == logs.LINES:
        assert log.path.read_bytes().count(b"\n") == log.units


def test_large_logs_are_measured_too(tmp_path: Path) -> None:
    lsf, blah = (logs.made(name, tmp_path, 500, 7) for name in ("lsf", "blah"))
    assert (lsf.units, lsf.apel) == (500, "lsf")
    assert 100 < blah.units < 300


def test_names_are_those_of_installed_parsers() -> None:
    assert parsers.names(["lsf", "sge"]) == ["lsf", "sge"]
    assert "pbs-ends" in parsers.names(["pbs"])


def _installed(name: str) -> Parser:
    try:
        return registry.parser(FORMATS[name].parser)
    except PluginError:
        pytest.skip(f"parser {FORMATS[name].parser} is not installed")
