"""Which file is which: by content, through renaming, copying, compressing, growing; and a stop where content contradicts."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import zstandard

from batchacct.collector import Collected, Collector, collect_once
from batchacct.errors import CheckpointError
from batchacct.following import Position, locate
from batchacct.model import content_hash
from batchacct.parsing import Outcome, Source, unit_parser
from batchacct.store import Store, known_positions
from batchacct.store.tables import job as job_table
from tests.records import NOW, rows


@unit_parser("numbers", "job", lrms="Test")
def numbers(unit: bytes, source: Source) -> Outcome:
    """A line of any text is a job of its own; the same line is the same job."""
    name = f"{content_hash(unit):x}"
    return {"record_key": name, "lrms_job_id": name, "join_id": name, "logged_at": NOW, "state": "completed"}


@dataclass
class Followed:
    """A folder of logs and a store they are collected into."""

    store: Store
    folder: Path

    def collect(self, *from_start: Path) -> Collected:
        collector = Collector(numbers, Source("farm"), (f"{self.folder}/acct*",))
        return collect_once(self.store, collector, lambda: NOW, from_start=frozenset(map(str, from_start)))

    def stored(self) -> list[bytes]:
        return [bytes(cast("bytes", row["native"])) for row in rows(self.store, job_table)]

    def positions(self) -> list[tuple[str, int]]:
        return [(Path(p.path).name, p.offset) for p in known_positions(self.store, "farm")]

    @property
    def acct(self) -> Path:
        return self.folder / "acct"


@pytest.fixture
def followed(sqlite_store: Store, tmp_path: Path) -> Followed:
    folder = tmp_path / "logs"
    folder.mkdir()
    return Followed(sqlite_store, folder)


def log(first: int, last: int, name: str = "job") -> bytes:
    return b"".join(b"%s %07d ended, as it should\n" % (name.encode(), n) for n in range(first, last))


def grow(path: Path, more: bytes) -> None:
    with path.open("ab") as file:
        file.write(more)


SIZES = pytest.mark.parametrize("lines", [1, 5, 50, 130, 1000], ids=lambda n: f"{n} lines")
"""A line is 32 bytes: the head of 4 KiB is full after 128 of them, the 256 bytes before the position after 8."""


@SIZES
def test_an_unchanged_file_is_not_read_again(followed: Followed, lines: int) -> None:
    followed.acct.write_bytes(log(0, lines))
    assert followed.collect().counts["recorded"] == lines
    assert followed.collect().counts["units"] == 0
    assert followed.positions() == [("acct", 32 * lines)]


@SIZES
def test_a_file_that_grows_is_read_on(followed: Followed, lines: int) -> None:
    for size in (lines, lines + 1, lines + 4, lines + 200, lines + 201):
        followed.acct.write_bytes(log(0, size))
        followed.collect()
        assert followed.stored() == log(0, size).splitlines()
    assert followed.positions() == [("acct", 32 * (lines + 201))]


def test_the_head_grows_with_the_file_until_it_is_whole(followed: Followed) -> None:
    lengths = []
    for size in (1, 3, 100, 127, 128, 500):
        followed.acct.write_bytes(log(0, size))
        followed.collect()
        (position,) = known_positions(followed.store, "farm")
        lengths.append((position.head_length, position.tail_length))
        fresh = Position("farm", "x", 0, 0, 0).moved(position.offset, log(0, size)[:4096], b"")
        assert position.head_hash == fresh.head_hash
    assert lengths == [(32, 32), (96, 96), (3200, 256), (4064, 256), (4096, 256), (4096, 256)]


def test_a_half_written_line_waits(followed: Followed) -> None:
    followed.acct.write_bytes(log(0, 2)[:-10])
    assert followed.collect().counts["recorded"] == 1
    followed.acct.write_bytes(log(0, 2))
    assert followed.collect().counts["recorded"] == 1
    assert followed.stored() == log(0, 2).splitlines()


@SIZES
def test_a_renamed_file_is_read_to_its_end_before_the_new_one(followed: Followed, lines: int) -> None:
    followed.acct.write_bytes(log(0, lines))
    followed.collect()
    grow(followed.acct, log(lines, lines + 3))
    followed.acct.rename(followed.folder / "acct.1")
    followed.acct.write_bytes(log(0, 3, "new"))
    done = followed.collect()
    assert (done.errors, done.counts["known"], done.counts["recorded"]) == ([], 0, 6)
    assert followed.stored() == [*log(0, lines + 3).splitlines(), *log(0, 3, "new").splitlines()]
    assert sorted(followed.positions()) == [("acct", 96), ("acct.1", 32 * (lines + 3))]


@SIZES
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_file_is_known_again_when_it_is_compressed(followed: Followed, lines: int, compress: Callable[[bytes], bytes]) -> None:
    followed.acct.write_bytes(log(0, lines))
    followed.collect()
    (followed.folder / "acct.1.gz").write_bytes(compress(log(0, lines + 2)))
    followed.acct.write_bytes(log(0, 1, "new"))
    done = followed.collect()
    assert (done.errors, done.counts["recorded"], done.counts["known"]) == ([], 3, 0)


@SIZES
def test_a_copy_is_no_new_file(followed: Followed, lines: int) -> None:
    followed.acct.write_bytes(log(0, lines))
    followed.collect()
    shutil.copy(followed.acct, followed.folder / "acct.1")
    done = followed.collect()
    assert (done.errors, done.counts["units"], len(followed.positions())) == ([], 0, 1)


def test_copied_and_truncated(followed: Followed) -> None:
    """What logrotate's copytruncate does: same name and inode, other content."""
    followed.acct.write_bytes(log(0, 1000))
    followed.collect()
    grow(followed.acct, log(1000, 1003))
    shutil.copy(followed.acct, followed.folder / "acct.1")
    followed.acct.write_bytes(b"")
    assert followed.collect().counts["recorded"] == 3
    grow(followed.acct, log(0, 5, "new"))
    done = followed.collect()
    assert (done.errors, done.counts["recorded"], done.counts["known"]) == ([], 5, 0)


def test_an_empty_file_is_a_file_not_begun(followed: Followed) -> None:
    followed.acct.write_bytes(b"")
    assert (followed.collect().errors, followed.positions()) == ([], [])
    followed.acct.write_bytes(log(0, 1))
    assert followed.collect().counts["recorded"] == 1


@pytest.mark.parametrize("kept", [200, 999])
def test_a_truncated_file_stops_its_collection(followed: Followed, kept: int) -> None:
    followed.acct.write_bytes(log(0, 1000))
    followed.collect()
    followed.acct.write_bytes(log(0, kept))
    (followed.folder / "acct.other").write_bytes(log(0, 2, "other"))
    done = followed.collect()
    (error,) = done.errors
    assert isinstance(error, CheckpointError)
    assert "was read up to byte 32000, but is another file before that byte, or shorter" in error.message
    assert f"--from-start {followed.acct}" in error.message
    assert (done.counts["units"], done.files) == (0, 0), "nothing of this source is read any more"
    assert followed.collect(followed.acct).counts["known"] == kept
    assert followed.collect().errors == []


def test_a_file_truncated_to_less_than_its_head_is_read_as_new_and_nothing_is_doubled(followed: Followed) -> None:
    followed.acct.write_bytes(log(0, 1000))
    followed.collect()
    followed.acct.write_bytes(log(0, 5))
    done = followed.collect()
    assert (done.errors, done.counts["known"], done.counts["recorded"]) == ([], 5, 0)


def test_a_file_edited_before_its_position_stops_its_collection(followed: Followed) -> None:
    followed.acct.write_bytes(log(0, 1000))
    followed.collect()
    edited = bytearray(log(0, 1010))
    edited[32 * 1000 - 5 : 32 * 1000 - 2] = b"???"
    followed.acct.write_bytes(edited)
    (error,) = followed.collect().errors
    assert isinstance(error, CheckpointError)
    assert len(followed.stored()) == 1000
    done = followed.collect(followed.acct)
    assert (done.errors, done.counts["known"], done.counts["recorded"]) == ([], 999, 11)


def test_truncated_behind_a_unit_too_long_to_be_read(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of such a unit no bytes are known by which the place could be found again; but how long the file was is."""
    monkeypatch.setattr("batchacct.parsing.reading.LONGEST_UNIT_BYTES", 5000)
    followed.acct.write_bytes(log(0, 200) + b"x" * 6000)
    followed.collect()
    grow(followed.acct, b"\n")
    assert followed.collect().counts["rejected"] == 1
    position = known_positions(followed.store, "farm")
    followed.acct.write_bytes(log(0, 200) + b"x" * 3000)
    (error,) = followed.collect().errors
    assert isinstance(error, CheckpointError)
    assert known_positions(followed.store, "farm") == position


def test_a_position_without_known_bytes_before_it_asks_for_a_file_that_long(tmp_path: Path) -> None:
    path = tmp_path / "acct"
    known = Position("farm", str(path), 0, 0, 0, id=1).moved(9000, log(0, 200), b"")
    path.write_bytes(log(0, 200))
    with pytest.raises(CheckpointError):
        locate("farm", str(path), [known])
    path.write_bytes(log(0, 200) + b"x" * 2600)
    assert locate("farm", str(path), [known]).id == 1


def test_two_files_that_begin_alike(followed: Followed) -> None:
    """Which one was read is not guessed; once both are known, each is told from the other."""
    one, other = followed.acct, followed.folder / "acct.other"
    one.write_bytes(log(0, 200) + log(0, 100, "one"))
    followed.collect()
    other.write_bytes(log(0, 200) + log(0, 100, "oth"))
    (error,) = followed.collect().errors
    assert isinstance(error, CheckpointError)
    done = followed.collect(other)
    assert (done.errors, done.counts["known"], done.counts["recorded"]) == ([], 200, 100)
    grow(one, log(100, 102, "one"))
    grow(other, log(100, 103, "oth"))
    done = followed.collect()
    assert (done.errors, done.counts["known"], done.counts["recorded"]) == ([], 0, 5)


def test_two_short_files_that_begin_alike(followed: Followed) -> None:
    """A comment at the head of each new file is all that was read of the first when the second comes."""
    followed.acct.write_bytes(log(0, 1))
    followed.collect()
    followed.acct.rename(followed.folder / "acct.1")
    grow(followed.folder / "acct.1", log(1, 3, "one"))
    followed.acct.write_bytes(log(0, 1) + log(1, 4, "oth"))
    for _ in range(2):
        assert followed.collect().errors == []
    wanted = [*log(0, 1).splitlines(), *log(1, 3, "one").splitlines(), *log(1, 4, "oth").splitlines()]
    assert sorted(followed.stored()) == sorted(wanted)


def test_reading_from_the_start_again_doubles_nothing(followed: Followed) -> None:
    followed.acct.write_bytes(log(0, 1000))
    followed.collect()
    done = followed.collect(followed.acct)
    assert (done.counts["known"], done.counts["recorded"], done.errors) == (1000, 0, [])
    assert followed.collect().counts["units"] == 0


def test_a_file_that_is_cut_short_is_read_on_when_it_is_whole(followed: Followed) -> None:
    whole = zstandard.compress(log(0, 1000))
    path = followed.folder / "acct.zst"
    path.write_bytes(whole[:-20])
    assert len(followed.collect().errors) == 1
    path.write_bytes(whole)
    assert followed.collect().errors == []
    assert followed.stored() == log(0, 1000).splitlines()


def test_of_several_that_fit_the_furthest_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "acct"
    path.write_bytes(log(0, 500))
    content = log(0, 500)
    known = [
        Position("farm", "elsewhere", 0, 0, 0, id=n).moved(offset, content, content[:offset])
        for n, offset in enumerate((3100, 9300, 6200))
    ]
    assert locate("farm", str(path), known).id == 1
    assert locate("farm", str(path), []).offset == 0
