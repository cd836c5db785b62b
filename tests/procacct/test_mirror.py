"""The mirror of spool files: byte for byte, each once, whatever order ranges come in, however often, and whenever it is killed."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from procacct.shipping.ahead import Full
from procacct.shipping.mirror import Mirror, Outcome
from procacct.shipping.ranges import Range, SpoolName, Unusable
from procacct.shipping.tidy import Old, take_away
from tests.procacct.spools import line, mirrored

NAME = SpoolName("processes", "0a1b2c3d", 1)
ROOM = 10_000_000


def whole(host: str, rows: int = 200) -> bytes:
    return b"".join(line(host, n) for n in range(rows))


def cut(content: bytes, numbers: random.Random, host: str = "n1", name: SpoolName = NAME) -> list[Range]:
    """Ranges of whole lines, of any number of them, that are all of it."""
    ranges: list[Range] = []
    lines, at = content.splitlines(keepends=True), 0
    while lines:
        some = b"".join(lines[: (count := numbers.randrange(1, 12))])
        ranges.append(Range(host, name, at, some, len(ranges) + 1))
        lines, at = lines[count:], at + len(some)
    return ranges


@pytest.mark.parametrize("seed", range(6))
def test_any_order_any_cut_any_repetition(tmp_path: Path, seed: int) -> None:
    """Two nodes with the same file names, cut in two ways each, shuffled, with repetitions, a new process now and then."""
    numbers = random.Random(seed)
    contents = {host: whole(host) for host in ("n1", "n2.example.org")}
    ranges = [one for host, content in contents.items() for _ in range(2) for one in cut(content, numbers, host)]
    ranges += numbers.sample(ranges, 20)
    numbers.shuffle(ranges)
    mirror = Mirror(tmp_path / "m", ROOM)
    for one in ranges:
        mirror.take(one)
        if numbers.random() < 0.3:
            mirror.sync()
        if numbers.random() < 0.1:
            mirror.sync()
            mirror = Mirror(tmp_path / "m", ROOM)
    mirror.sync()
    for host, content in contents.items():
        assert mirrored(tmp_path / "m", host) == {str(NAME): content}
    assert mirror.ahead.waiting() == {}
    assert list((tmp_path / "m").glob("*/.ahead/*")) == []


def test_what_is_known_is_not_written(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, ROOM)
    one = Range("n1", NAME, 0, line("n1", 1), 1)
    assert mirror.take(one) is Outcome.WRITTEN
    mirror.sync()
    before = (tmp_path / "n1" / str(NAME)).stat().st_mtime_ns
    assert mirror.take(one) is Outcome.KNOWN
    mirror.sync()
    assert (tmp_path / "n1" / str(NAME)).stat().st_mtime_ns == before


def test_half_a_range_from_a_process_that_was_killed(tmp_path: Path) -> None:
    content = whole("n1", 20)
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / str(NAME)).write_bytes(content[:777])
    mirror = Mirror(tmp_path, ROOM)
    assert mirror.take(Range("n1", NAME, 0, content, 1)) is Outcome.WRITTEN
    mirror.sync()
    assert mirrored(tmp_path, "n1") == {str(NAME): content}


def test_zeros_that_a_power_failure_left(tmp_path: Path) -> None:
    content = whole("n1", 20)
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / str(NAME)).write_bytes(content[:777] + bytes(200_000))
    mirror = Mirror(tmp_path, ROOM)
    mirror.take(Range("n1", NAME, 0, content, 1))
    mirror.sync()
    assert mirrored(tmp_path, "n1") == {str(NAME): content}


def test_other_bytes_than_before_are_refused(tmp_path: Path) -> None:
    """At the same place, in what overlaps, and nothing is changed by it."""
    mirror = Mirror(tmp_path, ROOM)
    mine, other = whole("n1", 5), whole("n2", 5)
    mirror.take(Range("n1", NAME, 0, mine, 1))
    for offset, content in ((0, other), (10, mine[11:] + b"more\n")):
        with pytest.raises(Unusable, match=r"other bytes at \d+ than came before. Have two nodes the name n1"):
            mirror.take(Range("n1", NAME, offset, content, 2))
    mirror.sync()
    assert mirrored(tmp_path, "n1") == {str(NAME): mine}


def test_what_is_kept_ahead_are_so_many_ranges_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short they are: each is a file. What had room comes in order."""
    monkeypatch.setattr("procacct.shipping.ahead.MOST_RANGES", 20)
    mirror = Mirror(tmp_path, ROOM)
    for number in random.Random(1).sample(range(1, 21), 20):
        assert mirror.take(Range("n1", NAME, 2 * number, b"x\n", 1)) is Outcome.AHEAD
    for again in (mirror, Mirror(tmp_path, ROOM)):
        with pytest.raises(Full):
            again.take(Range("n1", NAME, 100, b"x\n", 1))
        assert again.take(Range("n1", NAME, 2, b"x\nx\n", 1)) is Outcome.AHEAD, "it is no range more"
        assert again.take(Range("n2", NAME, 100, b"x\n", 1)) is Outcome.AHEAD
        again.sync()
    mirror = Mirror(tmp_path, ROOM)
    assert mirror.take(Range("n1", NAME, 0, b"x\n", 1)) is Outcome.WRITTEN
    mirror.sync()
    assert mirrored(tmp_path, "n1") == {str(NAME): b"x\n" * 21}
    assert mirror.take(Range("n1", NAME, 100, b"x\n", 1)) is Outcome.AHEAD


def test_what_begins_within_a_line_is_refused(tmp_path: Path) -> None:
    """A row that comes in two pieces is none that anybody could look at."""
    mirror = Mirror(tmp_path, ROOM)
    mirror.take(Range("n1", NAME, 0, b'{"host":"n', 1))
    with pytest.raises(Unusable, match="begins within a line at 10"):
        mirror.take(Range("n1", NAME, 10, b'2"}\n', 2))
    assert mirror.take(Range("n1", NAME, 0, b'{"host":"n1"}\n', 3)) is Outcome.WRITTEN, "a line that was not whole before"
    mirror.sync()
    assert mirrored(tmp_path, "n1") == {str(NAME): b'{"host":"n1"}\n'}


def test_what_is_kept_ahead_is_bounded_for_each_host(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, 10_000)
    long, short = b"x" * 4_999 + b"\n", b"x" * 4_000
    for offset in (5_000, 20_000):
        assert mirror.take(Range("n1", NAME, offset, long, 1)) is Outcome.AHEAD
    assert mirror.take(Range("n1", NAME, 5_000, short, 1)) is Outcome.AHEAD, "it has it already"
    with pytest.raises(Full):
        mirror.take(Range("n1", NAME, 40_000, b"x", 1))
    assert mirror.take(Range("n2", NAME, 40_000, long, 1)) is Outcome.AHEAD
    mirror.sync()
    again = Mirror(tmp_path, 10_000)
    assert again.ahead.waiting() == {("n1", NAME): (5_000, 10_000), ("n2", NAME): (40_000, 5_000)}
    with pytest.raises(Full):
        again.take(Range("n1", NAME, 40_000, b"x", 1))
    assert again.take(Range("n1", NAME, 0, long, 1)) is Outcome.WRITTEN
    again.sync()
    assert (tmp_path / "n1" / str(NAME)).stat().st_size == 10_000
    assert again.ahead.waiting()["n1", NAME] == (20_000, 5_000)


def test_a_file_that_was_taken_away_is_known_and_goes_on(tmp_path: Path) -> None:
    """What comes after it is a file of its own, which can be taken away as well; nothing is refused."""
    (tmp_path / "n1").mkdir(parents=True)
    content = whole("n1", 30)
    cuts = [0, *(n for n in range(1, len(content)) if content[n - 1 : n] == b"\n"), len(content)]
    first, second = cuts[10], cuts[20]
    (tmp_path / "n1" / str(NAME)).write_bytes(content[:first])
    assert take_away(Old(tmp_path / "n1" / str(NAME), first, is_collected=True))
    mirror = Mirror(tmp_path, ROOM)
    assert mirror.take(Range("n1", NAME, cuts[4], content[cuts[4] : first], 1)) is Outcome.KNOWN
    assert mirrored(tmp_path, "n1") == {}
    assert mirror.take(Range("n1", NAME, cuts[15], content[cuts[15] : second], 2)) is Outcome.AHEAD
    assert mirror.take(Range("n1", NAME, cuts[4], content[cuts[4] : cuts[16]], 3)) is Outcome.WRITTEN
    rest = tmp_path / "n1" / f"processes-0a1b2c3d-000001.from-{first}.jsonl"
    assert not take_away(Old(rest, second - first, is_collected=True)), "it is written to"
    mirror.sync()
    assert mirrored(tmp_path, "n1") == {rest.name: content[first:second]}
    assert take_away(Old(rest, second - first, is_collected=True))
    assert mirror.take(Range("n1", NAME, 0, content, 4)) is Outcome.WRITTEN
    mirror.sync()
    assert mirrored(tmp_path, "n1") == {f"processes-0a1b2c3d-000001.from-{second}.jsonl": content[second:]}


def test_what_has_come_meanwhile_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "n1" / str(NAME)
    path.parent.mkdir()
    path.write_bytes(whole("n1", 5))
    assert not take_away(Old(path, 100, is_collected=True))
    assert path.exists()


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "m/n1").mkdir(parents=True)
    (tmp_path / "secret").write_text("")
    (tmp_path / "m/n1" / str(NAME)).symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        Mirror(tmp_path / "m", ROOM).take(Range("n1", NAME, 0, b"x\n", 1))
    assert (tmp_path / "secret").read_text() == ""


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """As on a disk that is full at that size."""
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """As much as went is right, and the rest is written when there is room; descriptors are not left open."""
    content = whole("n1", 100)
    mirror = Mirror(tmp_path, ROOM)
    half = content.index(b"\n", len(content) // 2) + 1
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with files_at_most(half + 100):
        mirror.take(Range("n1", NAME, 0, content[:half], 1))
        mirror.sync()
        for one in (Range("n1", NAME, half, content[half:], 2), Range("n1", NAME, len(content), b"x" * half * 2, 3)):
            with pytest.raises(OSError, match="too large"):
                mirror.take(one)
        mirror.abandon()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    assert content.startswith((tmp_path / "n1" / str(NAME)).read_bytes())
    mirror.take(Range("n1", NAME, half, content[half:], 2))
    mirror.sync()
    assert mirrored(tmp_path, "n1") == {str(NAME): content}
