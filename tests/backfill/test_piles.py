"""Piles of logs into a folder: whatever is in the pile, in whatever order and cut, each record is there once."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from batchacct.backfill.folder import Folder
from batchacct.backfill.pieces import found, plan
from batchacct.backfill.to_parquet import Sizes
from batchacct.errors import ArchiveError, BusyError
from tests.backfill.folders import NOW, SMALL, TOLD, backfill, comparable, rejects_in, rows_in
from tests.cli.site import DAY, ENDED, lsf

LSF = replace(TOLD, parser="lsf")
ALL = [lsf(n, end=ENDED + n * 7000, submit=ENDED - 9000, start=ENDED - 8000) for n in range(1, 401)]
"""Jobs of 32 days."""
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress,
}  # fmt: skip


def write(path: Path, lines: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(COMPRESSIONS[path.suffix if path.suffix in COMPRESSIONS else ""](b"".join(lines)))
    return path


@pytest.fixture
def whole(tmp_path: Path) -> list[tuple[object, ...]]:
    """What all jobs in one file, read in one go, become."""
    path = write(tmp_path / "whole" / "acct", ALL)
    books = backfill([path], tmp_path / "whole-out", LSF, sizes=Sizes())
    assert (books.recorded, books.known, books.problems) == (400, 0, [])
    return comparable(rows_in(tmp_path / "whole-out"), ("path", "source_offset"))


@pytest.mark.parametrize("seed", range(3))
def test_any_splits_copies_and_orders_come_to_the_same(seed: int, tmp_path: Path, whole: list[tuple[object, ...]]) -> None:
    rng = random.Random(seed)
    rest, number, given = list(ALL), 0, 0
    while rest:
        count = rng.randint(1, 150)
        some, rest = rest[:count], rest[count:]
        for _ in range(rng.choice((1, 1, 2, 3))):
            lines = rng.sample(some, len(some)) if rng.random() < 0.3 else some
            name = f"{rng.choice('abcdef')}/acct.{number}{rng.choice(list(COMPRESSIONS))}"
            write(tmp_path / "logs" / name, lines)
            number, given = number + 1, given + len(some)
    sizes = replace(SMALL, piece_bytes=rng.choice((3000, 20_000)), bucket_rows=rng.choice((20, 100, 1000)))
    books = backfill([tmp_path / "logs"], tmp_path / "out", LSF, sizes=sizes)
    assert (books.units, books.recorded, books.known) == (given, 400, given - 400)
    assert comparable(rows_in(tmp_path / "out"), ("path", "source_offset")) == whole
    again = backfill([tmp_path / "logs"], tmp_path / "out", LSF, sizes=sizes)
    assert (again.recorded, again.known) == (0, given)
    assert comparable(rows_in(tmp_path / "out"), ("path", "source_offset")) == whole


def test_processes_come_to_the_same_as_one(tmp_path: Path, whole: list[tuple[object, ...]]) -> None:
    write(tmp_path / "logs" / "acct", ALL)
    backfill([tmp_path / "logs"], tmp_path / "out", LSF, sizes=replace(SMALL, piece_bytes=60_000), workers=2)
    assert comparable(rows_in(tmp_path / "out"), ("path", "source_offset")) == whole


def test_a_later_version_is_in_force(tmp_path: Path) -> None:
    """As in the store: of a job that was logged twice with other figures the later line counts, in this run and in the next."""
    first, second = lsf(1), lsf(1).replace(b" 590.0 ", b" 591.0 ")
    third = lsf(1).replace(b" 590.0 ", b" 592.0 ")
    write(tmp_path / "logs" / "acct.2", [first])
    write(tmp_path / "logs" / "acct.1", [second, first])
    books = backfill([tmp_path / "logs"], tmp_path / "out", LSF)
    assert (books.recorded, books.revised, books.known) == (2, 1, 1)
    rows = sorted(rows_in(tmp_path / "out"), key=lambda row: row["revision"])
    assert [(row["revision"], row["cpu_user_s"], row["superseded_by"]) for row in rows] == [
        (0, 590.0, rows[1]["content_hash"]),
        (1, 591.0, None),
    ]
    write(tmp_path / "logs" / "acct", [third])
    backfill([tmp_path / "logs" / "acct"], tmp_path / "out", LSF)
    rows = sorted(rows_in(tmp_path / "out"), key=lambda row: row["revision"])
    assert [row["superseded_by"] for row in rows] == [rows[2]["content_hash"]] * 2 + [None]
    assert [row["path"].rpartition("/")[2] for row in rows] == ["acct.2", "acct.1", "acct"]


def test_other_months_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "acct", ALL)
    backfill([tmp_path / "logs"], tmp_path / "out", LSF)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "job").rglob("*.parquet")}
    write(tmp_path / "more" / "acct", [lsf(9001, end=ENDED + 100 * DAY, start=ENDED + 99 * DAY)])
    backfill([tmp_path / "more"], tmp_path / "out", LSF)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "job").rglob("*.parquet")}
    assert before.items() < after.items()
    assert len(rows_in(tmp_path / "out")) == 401


def test_rejects_and_skips(tmp_path: Path) -> None:
    bad = b'"JOB_FINISH" "10.1" 1 2 \xff3\n'
    path = write(tmp_path / "logs" / "acct", [lsf(1), bad, b"# a comment\n", lsf(2)])
    books = backfill([path], tmp_path / "out", LSF)
    assert (books.units, books.recorded, books.skipped, books.rejected) == (4, 2, 1, 1)
    (reject,) = rejects_in(tmp_path / "out", books)
    assert reject["unit"] == bad[:-1]
    assert (reject["file"], reject["offset"], reject["length"]) == (str(path), len(lsf(1)), len(bad) - 1)
    assert "an integer is due" in reject["reason"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_damaged_file_costs_no_other(tmp_path: Path, suffix: str) -> None:
    """What could be read of it counts; once it is whole, the same command takes the rest."""
    lines = [lsf(n, user=os.urandom(190).hex().encode()) for n in range(1000, 9000)]
    damaged = write(tmp_path / "logs" / f"bad{suffix}", lines)
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) * 2 // 3])
    write(tmp_path / "logs" / "good", ALL[:10])
    books = backfill([tmp_path / "logs"], tmp_path / "out", LSF, sizes=Sizes())
    (problem,) = books.problems
    assert f"bad{suffix} cannot be read to its end" in problem and "byte " in problem
    assert books.files == 2 and 10 < books.recorded < 8010
    damaged.write_bytes(content)
    books = backfill([tmp_path / "logs"], tmp_path / "out", LSF, sizes=Sizes())
    assert books.problems == [] and len(rows_in(tmp_path / "out")) == 8010


def test_what_is_no_log_is_told(tmp_path: Path) -> None:
    """Empty files, a pipe, what no parser knows, what is not there, links and names of odd bytes."""
    logs = tmp_path / "logs"
    write(logs / "acct", ALL[:5])
    write(logs / "empty", [])
    write(logs / "blank", [b"\n\n \n"])
    write(logs / "letter", [b"Dear all,\nthis is no log.\n"])
    os.mkfifo(logs / "pipe")
    (logs / "link").symlink_to(logs / "acct")
    (logs / "loop").symlink_to(logs)
    (logs / "nowhere").symlink_to(tmp_path / "none")
    os.link(logs / "acct", logs / "hard")
    odd = os.fsencode(logs) + b"/odd-\xff-[x]*\n.acct"
    Path(os.fsdecode(odd)).write_bytes(b"".join(ALL[5:8]))
    books = backfill([logs, logs / "pipe", logs / "none.log", os.fsdecode(odd)], tmp_path / "out", replace(TOLD, parser=None))
    assert (books.recorded, books.files) == (8, 4)
    assert sorted(p.split(": ")[0].rpartition("/")[2].split(" ")[0] for p in books.problems) == ["letter", "none.log", "pipe"]
    assert len(books.again) == 2
    assert sum("odd-\\xff-[x]*\n.acct" in row["path"] for row in rows_in(tmp_path / "out")) == 3


def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    write(tmp_path / "logs" / "acct", ALL[:5])
    write(tmp_path / "logs" / "secret", ALL[5:7]).chmod(0)
    books = backfill([tmp_path / "logs"], tmp_path / "out", LSF)
    assert books.recorded == 5
    (problem,) = books.problems
    assert "secret may not be read by this user" in problem


def test_a_file_being_written_keeps_its_last_line(tmp_path: Path) -> None:
    path = write(tmp_path / "acct", [*ALL[:3], ALL[3][:100]])
    books = backfill([path], tmp_path / "out", LSF, now=path.stat().st_mtime)
    assert (books.recorded, books.rejected) == (3, 0)
    (note,) = books.notes
    assert "the last 100 bytes are no whole unit" in note
    books = backfill([path], tmp_path / "out", LSF, now=path.stat().st_mtime + 4000)
    assert (books.known, books.rejected, books.notes) == (3, 1, [])


def test_pieces_are_the_whole_file_and_begin_with_units(tmp_path: Path) -> None:
    path = write(tmp_path / "acct", ALL)
    pieces = plan([str(path)], LSF, NOW, 3000).pieces
    assert len(pieces) > 50
    content = path.read_bytes()
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == len(content)
    assert all(content[piece.start :].startswith(b'"JOB_FINISH" "') for piece in pieces)


def test_older_files_come_first(tmp_path: Path) -> None:
    names = ["acct", "acct.1", "acct.2.gz", "b/acct-20260101.gz", "b/acct-20260102"]
    for name in names:
        write(tmp_path / name, ALL[:1])
    assert [str(Path(p).relative_to(tmp_path)) for p in found([str(tmp_path)])] == [
        "acct.2.gz", "acct.1", "acct", "b/acct-20260101.gz", "b/acct-20260102",
    ]  # fmt: skip


def test_two_at_once_in_one_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "acct", ALL[:5])
    with Folder(tmp_path / "out"), pytest.raises(BusyError, match="another backfill is at work"):
        backfill([path], tmp_path / "out", LSF)
    backfill([path], tmp_path / "out", LSF)


def test_it_goes_on_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at any write: nothing is published by halves, and the same call finishes the work."""
    write(tmp_path / "logs" / "acct", ALL)
    real, left = os.fsync, threading.local()
    left.count = 0

    def fsync(descriptor: int) -> None:
        left.count -= 1
        if left.count == 0:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    failed = 0
    for number in range(1, 60, 7):
        left.count = number
        try:
            books = backfill([tmp_path / "logs"], tmp_path / "out", LSF, sizes=replace(SMALL, bucket_rows=200))
        except ArchiveError as error:
            assert "No space left on device" in error.message
            failed += 1
        else:
            break
    assert failed > 2
    left.count = 0
    books = backfill([tmp_path / "logs"], tmp_path / "out", LSF, sizes=replace(SMALL, bucket_rows=200))
    assert books.recorded + books.known == 400 and len(rows_in(tmp_path / "out")) == 400
