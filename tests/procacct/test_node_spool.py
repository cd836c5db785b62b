"""The spool: whole lines, a bound, and what is said of that which did not fit."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

from batchacct.errors import BusyError
from batchacct.parsing import Block, Source
from procacct.node.aggregation import Aggregation
from procacct.node.losses import Losses
from procacct.node.rows import Row, Rows
from procacct.node.spool import BACKLOG_BYTES, GROUPS, OBJECTS, PROCESSES, Spool
from procacct.records import PROCESSES as PARSER

BOOT = "0123abcd-0000-0000-0000-000000000000"
NOW = time.time_ns()


def made(folder: Path, rotate: int = 10_000, most: int = 1 << 30, keep_s: int = 0) -> Spool:
    return Spool(folder, BOOT, rotate_bytes=rotate, rotate_s=3600, most_bytes=most, keep_s=keep_s)


def row(number: int, size: int = 80) -> Row:
    return {"v": 1, "record_key": f"k{number}", "ended_by": "exit", "end_ns": number, "command": "x" * size}


def keys(folder: Path, kind: str = PROCESSES) -> list[str]:
    return [json.loads(line)["record_key"] for path in sorted(folder.glob(f"{kind}-*")) for line in path.read_bytes().splitlines()]


def test_files_are_of_whole_lines_and_follow_each_other(tmp_path: Path) -> None:
    spool = made(tmp_path)
    for number in range(1000):
        spool.add(PROCESSES, row(number))
        if number % 7 == 0:
            spool.flush(NOW)
    spool.add(OBJECTS, row(1))
    spool.add(GROUPS, row(2))
    spool.close()
    assert keys(tmp_path) == [f"k{number}" for number in range(1000)]
    files = sorted(tmp_path.glob("processes-*"))
    assert len(files) > 10
    assert [path.name for path in files] == [f"processes-0123abcd-{number:06d}.jsonl" for number in range(1, len(files) + 1)]
    assert all(path.read_bytes().endswith(b"}\n") and path.stat().st_size < 10_000 + 200 for path in files)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    assert (keys(tmp_path, OBJECTS), keys(tmp_path, GROUPS)) == (["k1"], ["k2"])


def test_a_file_is_followed_by_the_next_one_at_its_age(tmp_path: Path) -> None:
    spool = made(tmp_path)
    for hour in range(3):
        spool.add(PROCESSES, row(hour))
        spool.flush(NOW + hour * 3601 * 10**9)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_start_begins_a_new_file_and_cuts_off_what_is_torn(tmp_path: Path) -> None:
    spool = made(tmp_path)
    spool.add(PROCESSES, row(1))
    spool.flush(NOW)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"v":1,"record_key":"to')
    assert spool._held is not None
    os.close(spool._held)  # as if it were killed
    again = made(tmp_path)
    again.add(PROCESSES, row(2))
    again.close()
    assert file.read_bytes() == whole
    assert keys(tmp_path) == ["k1", "k2"]


def test_beyond_the_bound_the_oldest_goes_and_a_gap_tells_how_many(tmp_path: Path) -> None:
    spool = made(tmp_path, most=40_000)
    losses = Losses(Rows("n", BOOT, lambda _: None), spool, NOW, ["connector"])
    for number in range(3000):
        spool.add(PROCESSES, row(number))
        spool.flush(NOW)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40_000 + 200
    left = keys(tmp_path)
    assert left == [f"k{number}" for number in range(3000 - len(left), 3000)]
    gap = losses.of_spool(time.time_ns())
    assert gap is not None
    assert (gap["kind"], gap["lost_events"], gap["processes"]) == ("gap", 3000 - len(left), 0)
    assert losses.of_spool(time.time_ns()) is None


def test_what_others_put_into_the_folder_leads_nowhere(tmp_path: Path) -> None:
    """A link to a file that a root's daemon could mend to death, and a FIFO nobody writes to."""
    folder = tmp_path / "spool"
    spool = made(folder, most=40_000)
    spool.close()
    foreign = tmp_path / "shadow"
    foreign.write_bytes(b'{"record_key":"x","ended_by":"exit"}\nno newline at the end')
    before = foreign.read_bytes()
    (folder / "processes-0123abcd-000007.jsonl").symlink_to(foreign)
    os.mkfifo(folder / "groups-0123abcd-000009.jsonl")
    again = made(folder, most=40_000)
    assert foreign.read_bytes() == before
    assert again.written_since(BOOT, (0, 0)) == {}
    for number in range(1000):
        again.add(PROCESSES, row(number))
        again.flush(NOW)
    again.close()
    assert foreign.read_bytes() == before
    told = again.take_untold()
    assert told is not None
    assert len(keys(folder)) + told[0] == 1000


def test_what_is_old_goes_quietly(tmp_path: Path) -> None:
    spool = made(tmp_path, keep_s=60)
    spool.add(PROCESSES, row(1))
    spool.flush(NOW)
    spool.add(PROCESSES, row(2))
    spool.flush(NOW + 3601 * 10**9)
    assert keys(tmp_path) == ["k2"]
    assert spool.take_untold() is None


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small file system cannot be mounted here: it needs root")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_full_disk_is_waited_out_and_nothing_is_torn(small: Path) -> None:
    spool = made(small / "spool", rotate=1 << 20)
    for number in range(2000):
        spool.add(PROCESSES, row(number))
        spool.flush(NOW + number)
    assert spool.failing is not None
    assert spool.backlog_rows > 500
    (file,) = (small / "spool").iterdir()
    assert file.read_bytes().endswith(b"}\n")
    subprocess.run(["mount", "-o", "remount,size=1m", small], check=True)
    spool.flush(NOW + 10**9)
    assert spool.failing is not None, "it is tried once a second"
    spool.flush(NOW + 3 * 10**9)
    assert not spool.failing
    assert spool.backlog_rows == 0
    assert keys(small / "spool") == [f"k{number}" for number in range(2000)]


def test_a_read_only_disk_is_waited_out(small: Path) -> None:
    spool = made(small / "spool")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    spool.add(PROCESSES, row(1))
    spool.flush(NOW)
    assert spool.failing == "Read-only file system"
    subprocess.run(["mount", "-o", "remount,rw", small], check=True)
    spool.add(PROCESSES, row(2))
    spool.close()
    assert keys(small / "spool") == ["k1", "k2"]


def test_a_full_disk_with_room_again_has_every_row_once(small: Path) -> None:
    spool = made(small / "spool", rotate=1 << 20)
    ballast = small / "ballast"
    ballast.write_bytes(bytes(40 << 10))
    for number in range(300):
        spool.add(PROCESSES, row(number))
        spool.flush(NOW + number * 10**9)
    assert spool.failing is not None
    ballast.unlink()
    spool.close()
    assert keys(small / "spool") == [f"k{number}" for number in range(300)]
    assert not spool.failing
    assert spool.dropped == 0


def test_what_does_not_fit_into_memory_either_is_counted(tmp_path: Path) -> None:
    spool = made(tmp_path / "spool")
    (tmp_path / "spool").rmdir()
    (tmp_path / "spool").write_bytes(b"in the way")
    rows = BACKLOG_BYTES // 100_000 + 20
    for number in range(rows):
        spool.add(PROCESSES, row(number, 100_000))
        spool.flush(NOW)
    assert spool.dropped == rows - spool.backlog_rows >= 20
    (tmp_path / "spool").unlink()
    (tmp_path / "spool").mkdir()
    spool.close()
    assert len(keys(tmp_path / "spool")) == rows - spool.dropped
    assert spool.take_untold() == (spool.dropped, NOW)


def test_a_name_is_not_used_twice_also_where_files_are_shipped_and_gone(tmp_path: Path) -> None:
    spool = made(tmp_path)
    spool.add(PROCESSES, row(1))
    spool.close()
    for path in tmp_path.iterdir():
        path.unlink()
    again = made(tmp_path)
    again.number_from(spool.numbers)
    again.add(PROCESSES, row(2))
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == ["processes-0123abcd-000002.jsonl"]


def test_rows_after_a_position_are_found_again(tmp_path: Path) -> None:
    spool = made(tmp_path)
    for number in range(200):
        if number == 100:
            position = spool.position
        spool.add(PROCESSES, row(number))
        spool.flush(NOW)
    found = spool.written_since(BOOT, position)
    assert sorted(found) == sorted(f"k{number}" for number in range(100, 200))
    assert found["k150"].end_ns == 150
    assert spool.written_since("ffffffff-0", (0, 0)) == {}


def execution(number: int, command: str = "a", second: int = 100) -> Row:
    return {
        "v": 1, "record_key": f"n/b/{number}", "lrms": "Slurm", "lrms_job_id": "7", "join_id": "7", "host": "n", "boot_id": "b",
        "pid": number, "kind": "program", "command": command, "started_at": second, "start_ns": second * 10**9 + number,
        "end_ns": second * 10**9 + 500 + number, "elapsed_s": 0.5, "logged_at": second, "ended_by": "exit", "exit_code": number % 2,
        "cpu_user_s": 0.25, "minor_faults": 3, "memory_real_kib": number, "threads": 1, "processes": 1, "seen_by": ["connector"],
    }  # fmt: skip


def test_sums_add_up_exactly_to_the_executions() -> None:
    out: list[Row] = []
    sums = Aggregation(100, out.append)
    for number in range(100_000):
        sums.add(execution(number, "ab"[number % 3 == 0], 100 + number // 10_000))
    assert sum(one["processes"] for one in out) < 100_000
    sums.flush()
    assert sum(one["processes"] for one in out) == 100_000
    assert sum(one["cpu_user_s"] for one in out) == 25_000
    assert sum(one["minor_faults"] for one in out) == 300_000
    assert max(one["memory_real_kib"] for one in out) == 99_999
    assert len(out) < 500
    assert len({one["record_key"] for one in out}) == len(out)
    assert sum(one["processes"] for one in out if one["command"] == "b") == 33_334
    assert sum(one["processes"] for one in out if one["exit_code"] == 1) == 50_000
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in out)
    parsed = list(PARSER.parse([Block(lines, 0)], Source("spool", "SITE", "cluster1")))
    assert not any(one.rejects for one in parsed)
    assert sum(int(pc.sum(one.records.column("processes")).as_py()) for one in parsed) == 100_000


def test_sums_that_a_kill_would_lose_are_known() -> None:
    out: list[Row] = []
    sums = Aggregation(1, out.append)
    for number in range(10):
        sums.add(execution(number))
    pending = sums.pending
    assert sum(pending.values()) + len(out) == 10
    sums.flush()
    assert pending.keys() <= {one["record_key"] for one in out}
    assert sums.pending == {}


def test_below_the_rate_each_execution_is_a_row() -> None:
    out: list[Row] = []
    sums = Aggregation(100, out.append)
    rows = [execution(number, second=number // 50) for number in range(1000)]
    for one in rows:
        sums.add(one)
    assert out == rows
    by_default = Aggregation(0, out.append)
    by_default.add(execution(1))
    assert len(out) == 1001


def test_a_spool_is_one_daemons_and_a_name_that_is_taken_is_passed_over(tmp_path: Path) -> None:
    first = made(tmp_path)
    with pytest.raises(BusyError, match="already: stop it first"):
        made(tmp_path)
    taken = first._path_of(PROCESSES, 1)
    taken.write_bytes(b"of somebody else")
    first.add(PROCESSES, row(1))
    first.flush(time.time_ns())
    first.close()
    assert (taken.read_bytes(), first._path_of(PROCESSES, 2).stat().st_size > 0) == (b"of somebody else", True)
    made(tmp_path).close()
