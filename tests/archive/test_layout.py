"""Files of the archive: whole or not there, and known again by their bytes and sums."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchacct.archive.layout import (
    KEY_FIELDS,
    Manifest,
    MonthWriter,
    Sums,
    archived_schema,
    countable_files,
    finished_files,
    manifest_path,
    month_folder,
    read_manifest,
    verify,
)
from batchacct.archive.months import month_name, month_of, named_month, next_month
from batchacct.errors import ArchiveError, ConfigError
from batchacct.model import JOB, Record
from tests.records import LOGGED_AT, job

MONTH = month_of(LOGGED_AT)


def batch(*records: Record, first: int = 1) -> pa.RecordBatch:
    made = JOB.batch(records)
    numbers = pa.array(range(first, first + len(records)), pa.int64())
    nothing = pa.nulls(len(records), pa.int64())
    return pa.RecordBatch.from_arrays([numbers, nothing, nothing, *made.columns], schema=archived_schema(JOB))


def written(archive: Path, *records: Record, name: str = "x-1") -> tuple[Path, Manifest]:
    with MonthWriter(archive, JOB, MONTH, name) as writer:
        for record in records:
            writer.write(batch(record))
        manifest = writer.finish()
    return month_folder(archive, JOB, MONTH) / f"{name}.parquet", manifest


def test_months_are_those_of_the_calendar_in_utc() -> None:
    assert [month_name(m) for m in (named_month("1970-01"), month_of(LOGGED_AT))] == ["1970-01", "2026-09"]
    month = named_month("1999-12")
    for _ in range(400):
        assert month_of(month) == month_of(next_month(month) - 1) == month
        assert named_month(month_name(month)) == month
        month = next_month(month)
    assert month_name(month) == "2033-04"


@pytest.mark.parametrize("name", ["", "2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-01-01", "0000-01"])
def test_what_is_no_month(name: str) -> None:
    with pytest.raises(ConfigError, match="no month"):
        named_month(name)


def test_a_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    records = [job(n, b"unit %d" % n, wall_duration_s=100 * n, cpu_duration_s=None if n == 2 else n) for n in (1, 2, 3)]
    file, manifest = written(tmp_path, *records)
    assert file == tmp_path / "job" / "month=2026-09" / "x-1.parquet"
    assert (manifest.rows, manifest.wall_s, manifest.cpu_s) == (3, 600, 4)
    assert (manifest.first_at, manifest.last_at) == (LOGGED_AT, LOGGED_AT)
    assert read_manifest(file) == manifest
    assert list(finished_files(tmp_path, JOB)) == [(file, manifest)]
    verify(file, manifest, "logged_at")
    table = pq.read_table(file, partitioning=None)
    assert table.schema.names[:3] == [field.name for field in KEY_FIELDS]
    assert table.cast(archived_schema(JOB)).column("logged_at").cast(pa.int64()).to_pylist() == [LOGGED_AT] * 3
    assert table.column("native").to_pylist() == [b"unit 1", b"unit 2", b"unit 3"]
    assert sorted(p.name for p in file.parent.iterdir()) == ["x-1.json", "x-1.parquet"]
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"


def test_hashes_are_summed_without_overflow(tmp_path: Path) -> None:
    records = [job(n) | {"content_hash": hashed} for n, hashed in enumerate((-(2**63), 2**63 - 1, 2**63 - 1, 5))]
    _, manifest = written(tmp_path, *records)
    assert manifest.hash_sum == 2 * (2**32 - 1) + 5
    assert Sums(1, 2, 3, 4) + Sums(1, 2, 3, -5) == Sums(2, 4, 6, -1)


def test_nothing_stays_of_what_was_not_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyError), MonthWriter(tmp_path, JOB, MONTH, "x-1") as writer:
        writer.write(batch(job(1)))
        raise KeyError
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not list(finished_files(tmp_path, JOB))


def test_an_empty_month(tmp_path: Path) -> None:
    file, manifest = written(tmp_path)
    assert (manifest.sums, manifest.first_at, manifest.last_at) == (Sums(), None, None)
    verify(file, manifest, "logged_at")


@pytest.mark.parametrize("place", [4, 100, 200, 400, -200, -5])
def test_a_damaged_file_is_told(tmp_path: Path, place: int) -> None:
    file, manifest = written(tmp_path, *(job(n) for n in range(50)))
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"x-1\.parquet is damaged.*Restore it from a backup"):
        verify(file, manifest, "logged_at")


def test_another_file_of_the_same_name_is_told(tmp_path: Path) -> None:
    file, manifest = written(tmp_path / "one", job(1))
    other, its_own = written(tmp_path / "other", job(1, b"another"))
    file.write_bytes(other.read_bytes())
    with pytest.raises(ArchiveError, match="damaged"):
        verify(file, manifest, "logged_at")
    lying = dataclasses.replace(its_own, hash_sum=manifest.hash_sum)
    with pytest.raises(ArchiveError, match="its records come to"):
        verify(file, lying, "logged_at")


def test_a_missing_file_or_manifest_is_told(tmp_path: Path) -> None:
    file, manifest = written(tmp_path, job(1))
    file.unlink()
    with pytest.raises(ArchiveError, match=r"No such file.*restore it from a backup"):
        verify(file, manifest, "logged_at")
    manifest_path(file).write_text(json.dumps({"rows": 1}))
    with pytest.raises(ArchiveError, match="no manifest"):
        read_manifest(file)


def test_a_file_that_is_half_there_is_not_believed(tmp_path: Path) -> None:
    file, _ = written(tmp_path, job(1))
    with file.open("r+b") as stream:
        stream.truncate(100)
    assert not list(finished_files(tmp_path, JOB))
    manifest_path(file).unlink()
    assert not list(finished_files(tmp_path, JOB))


def test_files_of_a_month_that_may_hold_the_same_records(tmp_path: Path) -> None:
    written(tmp_path, job(1), name="backfill-1-0000")
    written(tmp_path, job(2), name="backfill-1-0001")
    assert len(countable_files(tmp_path, JOB)) == 2, "one for each share of the keys"
    written(tmp_path, job(1), name="db-1-a")
    with pytest.raises(ArchiveError, match=r"has 3 files \(backfill-1-0000\.parquet, .*a folder of its own"):
        countable_files(tmp_path, JOB)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], check=False).returncode:
        pytest.skip("may not mount a file system")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_is_told_and_nothing_stays(small: Path) -> None:
    with pytest.raises(ArchiveError, match=r"No space left.*Make room"):
        written(small, *(job(n, os.urandom(50_000)) for n in range(8)))
    assert not [path for path in small.rglob("*") if path.is_file()]
