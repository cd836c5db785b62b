"""The demo farm: the same bytes every time, every oddity in them, and nothing unreadable but what is meant to be."""

from __future__ import annotations

import gzip
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from batchacct.demo.farm import VO_MAP, Summary, write_logs
from benchmarks.large_logs import write_large
from tests.demo.independent import read_logs

if TYPE_CHECKING:
    from pathlib import Path

END_AT = 1_331_208_000
KINDS = (
    "array", "arrays", "comment", "compressed_hosts", "damaged_blah",
    "damaged_lsf", "done", "double_blank", "duplicate_blah", "duplicate_lsf",
    "half_second", "identity_late", "identity_lost", "identity_pending", "identity_without_job",
    "inversions", "killed", "multi_host", "never_started", "newline",
    "odd_command", "over_1000h", "over_24h", "range_record", "reservation",
    "reused_id", "reused_id_grid_twice", "unknown_cpu", "zero_length",
)  # fmt: skip
FRAGMENTS = (
    b'"JOB_FINISH" "7.06" ', b'"JOB_FINISH" "9.13" ', b'"JOB_FINISH" "10.1" ', b'"EVENT_ADRSV_FINISH"', b"\n# ",
    b'6160  ""', b'"sim[1-', b'"16*lxb', b" 36608 ",
    b'"""exec"" ""sh""', b"it's", b"\\\" ", b"(a[0] ", "Müller".encode(), b" \xa1 ",
    b"first line\nsecond", b" -1.000000 -1.000000 -1 ", b' "/x_FOO/', b' "/atlasgrp/', b' "/x_NOWHERE/',
    b"-1 1 678 1000 1 ",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("farm")


@pytest.fixture(scope="module")
def summary(folder: Path) -> Summary:
    return write_logs(folder, seed=3, end_at=END_AT)


def _acct(folder: Path) -> bytes:
    parts = [gzip.decompress((folder / "lsb.acct.2.gz").read_bytes())]
    return b"".join([*parts, (folder / "lsb.acct.1").read_bytes(), (folder / "lsb.acct").read_bytes()])


def test_same_seed_same_bytes(folder: Path, summary: Summary, tmp_path: Path) -> None:
    again = write_logs(tmp_path, seed=3, end_at=END_AT)
    assert again.counts == summary.counts
    assert [path.name for path in again.paths] == [path.name for path in summary.paths]
    assert [path.read_bytes() for path in again.paths] == [path.read_bytes() for path in summary.paths]


def test_other_seed_other_bytes(summary: Summary, tmp_path: Path) -> None:
    assert write_logs(tmp_path, seed=4, end_at=END_AT).paths[-1].read_bytes() != summary.paths[-1].read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_occurs(summary: Summary, kind: str) -> None:
    assert summary.counts[kind] > 0


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_every_oddity_is_in_the_log(folder: Path, summary: Summary, fragment: bytes) -> None:
    assert fragment in _acct(folder)


def test_default_size(summary: Summary) -> None:
    assert summary.counts["jobs"] == 3000
    assert 0.38 < summary.counts["grid"] / summary.counts["jobs"] < 0.48


@pytest.mark.parametrize(("jobs", "seed", "days"), [(3000, 3, 14), (500, 1, 14), (1200, 2, 10), (6000, 5, 30)])
def test_books_balance(tmp_path: Path, jobs: int, seed: int, days: int) -> None:
    counts = write_logs(tmp_path, jobs=jobs, seed=seed, end_at=END_AT, days=days).counts
    reading = read_logs(tmp_path, VO_MAP, END_AT)
    found = reading.counts
    assert found["lsf_jobs"] == counts["jobs"] == jobs
    assert found["lsf_rejected"] == counts["damaged_lsf"]
    assert found["lsf_skipped"] == counts["comment"] + counts["reservation"]
    assert found["lsf_duplicates"] == counts["duplicate_lsf"]
    assert found["identities"] == counts["identities"]
    assert found["identity_rejected"] == counts["damaged_blah"]
    assert found["identity_duplicates"] == counts["duplicate_blah"]
    assert found["identities_unused"] == counts["identity_without_job"]
    assert found["never_started"] == counts["never_started"]
    assert found["unknown_cpu"] == counts["unknown_cpu"]
    assert found["waiting"] == counts["identity_pending"]
    assert sum(found[fate] for fate in ("never_started", "unknown_cpu", "joined", "waiting", "local")) == jobs
    assert sum(total.jobs for total in reading.totals.values()) == found["joined"] + found["local"]
    assert set(reading.totals) >= {"atlas", "cms", "lhcb", "local-foo", "local-atlas", "local-nonlcg"}


def test_a_join_by_id_alone_would_show(folder: Path, summary: Summary) -> None:
    right = read_logs(folder, VO_MAP, END_AT)
    with pytest.raises(AssertionError, match="another account"):
        read_logs(folder, VO_MAP, END_AT, window_s=10**9)
    assert right.counts["waiting"] == summary.counts["identity_pending"]


def test_ids_come_back_after_days(folder: Path, summary: Summary) -> None:
    submits: dict[int, set[int]] = {}
    for job_id, _, submit in read_logs(folder, VO_MAP, END_AT).fates:
        submits.setdefault(job_id, set()).add(submit)
    gaps = [later - earlier for times in submits.values() for earlier, later in pairwise(sorted(times))]
    assert len(gaps) > 100
    assert min(gaps) > 5 * 86_400


def test_without_grace_nothing_waits(folder: Path, summary: Summary) -> None:
    assert read_logs(folder, VO_MAP, END_AT + 2 * 86_400).counts["waiting"] == 0


def test_files_are_in_order_of_time(folder: Path, summary: Summary) -> None:
    times = [int(line.split()[2]) for line in _acct(folder).splitlines() if line.startswith(b'"JOB_FINISH"')]
    assert times == sorted(times)
    assert END_AT - 14 * 86_400 <= times[0] <= times[-1] <= END_AT


@pytest.mark.parametrize(("jobs", "days"), [(499, 14), (3000, 9), (2_000_000, 14)])
def test_unfit_sizes_are_refused(tmp_path: Path, jobs: int, days: int) -> None:
    with pytest.raises(ValueError, match="give 500 to"):
        write_logs(tmp_path, jobs=jobs, end_at=END_AT, days=days)


def test_large_logs_are_readable(tmp_path: Path) -> None:
    acct, blah = write_large(tmp_path, 5000, seed=1)
    found = read_logs(tmp_path, VO_MAP, 2**31).counts
    assert acct.read_bytes().count(b"\n") == found["lsf_jobs"] == 5000
    assert blah.read_bytes().count(b"\n") == found["identities"]
    assert found["lsf_rejected"] == found["identity_rejected"] == found["identities_unused"] == 0
    assert 500 < acct.stat().st_size / 5000 < 640
    assert 0.40 < found["identities"] / 5000 < 0.46
