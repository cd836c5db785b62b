"""Files as blocks: every compression, every way of cutting, units too long, files cut short, and the order of files."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pwd
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from batchacct.errors import SourceError
from batchacct.following.files import folders, stamps
from batchacct.model import JOB, PART
from batchacct.parsing import LINES, Block, Framing, Parsed
from batchacct.parsing.compressed import is_compressed
from batchacct.parsing.contract import in_order
from batchacct.parsing.json_framing import JsonElements
from batchacct.parsing.reading import LONGEST_UNIT_BYTES, UpToError, expand, open_stream, read_blocks, reading_order

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}
LOG = b"".join(b"%d job %d finished\n" % (n * 7919 % 100_003, n) for n in range(20_000))
Unit = tuple[int, bytes]


def content(path: Path) -> bytes:
    pieces = []
    with open_stream(str(path)) as stream:
        while piece := stream.read(100_000):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_file_is_read_by_its_content_not_its_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "acct"
    path.write_bytes(COMPRESS[kind](LOG))
    assert content(path) == LOG
    assert is_compressed(str(path))


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_file_of_several_members_is_read_to_its_end(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "acct"
    path.write_bytes(b"".join(COMPRESS[kind](LOG[start : start + 150_000]) for start in range(0, len(LOG), 150_000)))
    assert content(path) == LOG


def test_a_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "acct.gz"
    path.write_bytes(LOG)
    assert content(path) == LOG
    assert not is_compressed(str(path))


@pytest.mark.parametrize("kind", COMPRESS)
def test_an_empty_compressed_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "acct"
    path.write_bytes(COMPRESS[kind](b""))
    assert content(path) == b""


def broken(path: Path, size: int) -> tuple[bytes, str]:
    """What can be read of a file, so much at a time, before the error; and that."""
    pieces = []

    def read() -> None:
        with open_stream(str(path)) as stream:
            while piece := stream.read(size):
                pieces.append(piece)

    with pytest.raises(SourceError) as told:
        read()
    return b"".join(pieces), told.value.message


@pytest.mark.parametrize("kept", ["half", "all but 1", "all but 10", "7 bytes"])
@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_file_that_is_cut_short_is_an_error(tmp_path: Path, kind: str, kept: str) -> None:
    """Else its last line, cut in the middle, would be taken for a unit, and what follows it never be read. All before is read."""
    path = tmp_path / "acct"
    whole = COMPRESS[kind](LOG)
    path.write_bytes(whole[: {"half": len(whole) // 2, "all but 1": -1, "all but 10": -10, "7 bytes": 7}[kept]])
    read, told = broken(path, 2 << 20)
    assert f"{path} cannot be read to its end: it is cut short at byte {len(read):,} of its content." in told
    assert "Put the whole file in its place" in told
    assert LOG.startswith(read)
    least = {"half": 100_000, "all but 1": len(LOG), "all but 10": 100_000, "7 bytes": 0}[kept]
    assert kind in {"bz2", "zst"} or len(read) >= least, "these decode whole blocks"
    assert broken(path, 1000) == (read, told), "however it is read"


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_damaged_compressed_file_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "acct"
    whole = bytearray(COMPRESS[kind](LOG))
    whole[len(whole) // 2 : len(whole) // 2 + 500] = b"\xff" * 500
    path.write_bytes(whole)
    read, told = broken(path, 2 << 20)
    assert f"{path} cannot be read to its end: it is damaged at byte {len(read):,} of its content, or before (" in told
    assert "Put a good copy in its place" in told
    assert broken(path, 1000) == (read, told)


def test_of_a_file_with_a_wrong_checksum_all_is_read(tmp_path: Path) -> None:
    path = tmp_path / "acct.gz"
    for size in (100, 1000, len(LOG)):
        whole = bytearray(gzip.compress(LOG[:size]))
        whole[-6] ^= 1
        path.write_bytes(whole)
        read, told = broken(path, 2 << 20)
        assert read == LOG[:size]
        assert f"it is damaged at byte {size:,} of its content, or before (" in told and "incorrect data check" in told


@pytest.mark.parametrize("kind", COMPRESS)
def test_what_stands_behind_the_end(tmp_path: Path, kind: str) -> None:
    """NUL bytes, as tapes fill blocks with, are nothing; anything else is damage: a member whose beginning is destroyed."""
    path = tmp_path / "acct"
    for padding in (b"\0", b"\0" * 100_000):
        path.write_bytes(COMPRESS[kind](LOG) + padding)
        assert content(path) == LOG
        path.write_bytes(COMPRESS[kind](LOG) + padding + COMPRESS[kind](LOG))
        assert content(path) == LOG + LOG
    path.write_bytes(COMPRESS[kind](LOG) + b"damaged" + COMPRESS[kind](LOG))
    read, told = broken(path, 2 << 20)
    assert read == LOG
    assert f"it is damaged at byte {len(LOG):,} of its content" in told


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_hole_of_many_megabytes_is_read_a_piece_at_a_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "acct"
    path.write_bytes(COMPRESS[kind](bytes(64 << 20) + LOG))
    tracemalloc.start()
    try:
        with open_stream(str(path)) as stream:
            count = 0
            while piece := stream.read(1 << 20):
                count += len(piece)
        assert count == (64 << 20) + len(LOG)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_read_before_an_error_is_parsed(workers: int) -> None:
    """However many blocks are parsed ahead."""

    def read() -> Iterator[Block]:
        for number in range(5):
            yield Block(b"%d\n" % number, 2 * number)
        raise SourceError("the disk failed")

    def parse_block(block: Block) -> Parsed:
        return Parsed(JOB.empty(), PART.empty(), (), {}, block.offset, block.end_offset)

    blocks = UpToError(read())
    assert [parsed.start_offset for parsed in in_order(parse_block, blocks, workers)] == [0, 2, 4, 6, 8]
    with pytest.raises(SourceError, match="the disk failed"):
        blocks.check()


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"missing does not exist: check the path"), open_stream(str(tmp_path / "missing")):
        pass
    with pytest.raises(SourceError, match="is a folder: name the files in it"), open_stream(str(tmp_path)):
        pass


# --- cutting ------------------------------------------------------------------------------------------------------------


def blocks_of(
    data: bytes, framing: Framing = LINES, *, final: bool = True, block_bytes: int = 4 << 20, offset: int = 0
) -> list[Block]:
    return list(read_blocks(io.BytesIO(data), framing, final=final, block_bytes=block_bytes, offset=offset))


def units_of(blocks: list[Block], framing: Framing = LINES) -> list[Unit]:
    """(offset, content) of each unit; of one too long, its length in place of its content."""
    units: list[Unit] = []
    for block in blocks:
        if block.dropped:
            units.append((block.offset, b"%d bytes" % (len(block.data) + block.dropped)))
        else:
            units += [(block.offset + start, block.data[start:end]) for start, end in framing.spans(block.data)]
    return units


def expected(data: bytes, *, final: bool, longest: int) -> list[Unit]:
    units = []
    offset = 0
    for line in data.splitlines(keepends=True) if b"\r" not in data else data.replace(b"\r", b"\0").splitlines(keepends=True):
        whole = line.endswith(b"\n") or final
        unit = line.removesuffix(b"\n").replace(b"\0", b"\r").removesuffix(b"\r")
        if whole and len(line.removesuffix(b"\n").replace(b"\0", b"\r")) > longest:
            units.append((offset, b"%d bytes" % len(unit)))
        elif whole and unit.strip():
            units.append((offset, unit))
        offset += len(line)
    return units


lines = st.lists(
    st.sampled_from([b"", b"a", b"bb ccc", b"\r", b"dd\r", b"  ", b"x" * 39, b"y" * 40, b"z" * 41, b"w" * 95]), max_size=12
)


@given(lines=lines, ended=st.booleans(), final=st.booleans(), block_bytes=st.integers(1, 60))
@example(lines=[b"z" * 41, b"z" * 41, b"a"], ended=True, final=True, block_bytes=1000)
@example(lines=[b"a", b"z" * 41], ended=False, final=False, block_bytes=1000)
def test_however_a_stream_is_cut_its_units_are_the_same(lines: list[bytes], ended: bool, final: bool, block_bytes: int) -> None:
    """Units of more than 40 bytes are too long here."""
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchacct.parsing.reading.LONGEST_UNIT_BYTES", 40)
        blocks = blocks_of(data, final=final, block_bytes=block_bytes)
    assert units_of(blocks) == expected(data, final=final, longest=40)
    assert [b.offset for b in blocks] == [0, *(b.end_offset for b in blocks)][: len(blocks)]
    if final:
        assert (blocks[-1].end_offset if blocks else 0) == len(data)


def test_offsets_begin_where_the_stream_stands() -> None:
    assert units_of(blocks_of(b"a\nb\n", offset=500)) == [(500, b"a"), (502, b"b")]


def test_a_partial_last_line_is_held_back_until_it_is_whole() -> None:
    (block,) = blocks_of(b"whole\nhal", final=False)
    assert (block.data, block.end_offset) == (b"whole\n", 6)
    assert units_of(blocks_of(b"half\n", offset=block.end_offset, final=False)) == [(6, b"half")]
    assert units_of(blocks_of(b"whole\nhal", final=True)) == [(0, b"whole"), (6, b"hal")]


def test_a_line_of_ten_megabytes_is_a_unit() -> None:
    long = b"x" * 10_000_000
    assert units_of(blocks_of(b"a\n" + long + b"\nb\n")) == [(0, b"a"), (2, long), (10_000_003, b"b")]


@pytest.mark.parametrize("more", [1, 3 << 20, 20 << 20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_unit_too_long_costs_only_itself(more: int, end: bytes) -> None:
    length = LONGEST_UNIT_BYTES + more
    blocks = blocks_of(b"before\n" + b"x" * length + end + b"after\n")
    assert units_of(blocks) == [(0, b"before"), (7, b"%d bytes" % length), (7 + length + len(end), b"after")]
    assert [len(b.data) for b in blocks if b.dropped] == [65_536]


# --- units that are no lines ---------------------------------------------------------------------------------------------

JSON = JsonElements("jobs", first_key="a")
SMALL = [{"a": number, "text": "x" * number} for number in range(12)]


def test_a_document_in_one_line_may_be_longer_than_a_unit() -> None:
    """Its framing alone knows where its units end; a line of 20 MiB would be dropped."""
    document = json.dumps({"jobs": [{"a": number, "text": "x" * (1 << 20)} for number in range(20)]}).encode()
    units = units_of(blocks_of(document, JSON, block_bytes=2 << 20), JSON)
    assert [json.loads(unit)["a"] for _, unit in units[1:-1]] == list(range(20))


@given(block_bytes=st.integers(1, 700), closed=st.booleans(), final=st.booleans())
def test_a_unit_too_long_is_told_by_its_framing_and_costs_itself_alone(*, block_bytes: int, closed: bool, final: bool) -> None:
    document = json.dumps({"jobs": [*SMALL, {"a": 99, "text": "x" * 500}, *SMALL]}).encode()
    begins = document.index(b'{"a": 99')
    ends = document.index(b', {"a": 0', begins)
    if not closed:
        document = document[: ends - 2] + b"xx" + document[ends:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchacct.parsing.reading.LONGEST_UNIT_BYTES", 300)
        units = units_of(blocks_of(document, JSON, block_bytes=block_bytes, final=final), JSON)
    whole = [json.loads(unit) for _, unit in units if unit.startswith(b'{"a"') and unit.endswith(b"}")]
    assert [one for one in whole if one["a"] != 99] == SMALL * 2
    assert [offset for offset, _ in units][len(SMALL) + 1] == begins
    assert len(units) == 2 * len(SMALL) + 3


def test_a_unit_too_long_that_may_go_on_is_held_back() -> None:
    document = json.dumps({"jobs": [*SMALL, {"a": 99, "text": "x" * 500}]}).encode()[:-3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchacct.parsing.reading.LONGEST_UNIT_BYTES", 300)
        held = blocks_of(document, JSON, block_bytes=50, final=False)
        final = blocks_of(document, JSON, block_bytes=50)
    begins = document.index(b'{"a": 99')
    assert held[-1].end_offset == begins
    assert (final[-1].offset, final[-1].end_offset) == (begins, len(document))


# --- which files --------------------------------------------------------------------------------------------------------


def test_rotated_files_come_before_the_newer_ones() -> None:
    numbered = ["/l/acct.10.gz", "/l/acct.2.gz", "/l/acct.1", "/l/acct"]
    dated = ["/l/acct-20251231.gz", "/l/acct-20260101", "/l/acct-20260102.zst", "/l/acct"]
    daily = ["/l/blahp.log-20251231.gz", "/l/blahp.log-20260101"]
    for wanted in (numbered, dated, daily):
        assert sorted(sorted(wanted), key=reading_order) == wanted


def test_patterns_and_paths_name_each_file_once(tmp_path: Path) -> None:
    for name in ("acct", "acct.1", "acct.2.gz", "odd[1]"):
        (tmp_path / name).touch()
    (tmp_path / "acct.d").mkdir()
    wanted = [f"{tmp_path}/{name}" for name in ("acct.2.gz", "acct.1", "acct")]
    assert expand([f"{tmp_path}/acct*"]) == wanted
    assert expand([f"{tmp_path}/acct", f"{tmp_path}/acct*", f"{tmp_path}/acct.1"]) == wanted
    assert expand([f"{tmp_path}/none*"]) == []
    assert expand([f"{tmp_path}/none"]) == [f"{tmp_path}/none"], "a path is named though it is missing, so that this is told"
    assert expand([f"{tmp_path}/odd[1]"]) == [f"{tmp_path}/odd[1]"], "a file that is there is no pattern"


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not enter, with a log in it: root becomes nobody for a while."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "acct").touch()
    folder.chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield folder
    finally:
        os.seteuid(was)
        folder.chmod(0o700)


@pytest.mark.parametrize("name", ["acct", "acct*", "a[bc]*"])
def test_what_may_not_be_looked_at_is_named_and_told_when_it_is_opened(forbidden: Path, name: str) -> None:
    path = f"{forbidden}/{name}"
    assert expand([path]) == [path]
    assert stamps([path], set()) == {path: None}
    assert str(forbidden) in folders([path], [path])
    with pytest.raises(SourceError, match="may not be read by this user"), open_stream(path):
        pass
