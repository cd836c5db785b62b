"""What a sender makes of a spool: whole lines, finished files, files that were cut short or replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from procacct.shipping import spool as spool_module
from procacct.shipping.ranges import SpoolName
from procacct.shipping.sent_state import SentState
from procacct.shipping.spool import Cursor, Replaced, Spool, TooLong
from tests.procacct.spools import BOOT, LATER_BOOT, line

NAME = SpoolName("processes", BOOT, 1)


def spool_of(folder: Path, **files: bytes) -> Spool:
    for name, content in files.items():
        (folder / f"{name.replace('_', '-')}.jsonl").write_bytes(content)
    return Spool(folder, BOOT)


def test_which_files_nobody_writes_to(tmp_path: Path) -> None:
    names = [f"{kind}_{boot}_{number:06d}" for kind in ("processes", "objects") for boot in (BOOT, "ffff0000") for number in (1, 2)]
    spool = spool_of(tmp_path, **dict.fromkeys([*names, f"groups_{BOOT}_000001"], b""))
    for other in ("processes-0a1b2c3d-000001-2.jsonl", ".processes-0a1b2c3d-000003.jsonl", "state.json"):
        (tmp_path / other).touch()
    assert len(spool.names()) == 9
    writing = set(spool.names()) - spool.finished(spool.names())
    assert writing == {SpoolName(kind, BOOT, number) for kind, number in (("processes", 2), ("objects", 2), ("groups", 1))}


def test_whole_lines_and_no_more_than_asked_for(tmp_path: Path) -> None:
    lines = [line("n1", n) for n in range(10)]
    spool = spool_of(tmp_path, **{f"processes_{BOOT}_000001": b"".join(lines) + b'{"v":1,"hos'})
    cursor, found = Cursor(), []
    while (read := spool.read(NAME, cursor, 1000, is_finished=False)).content:
        found.append(read.content)
        cursor = cursor.after(read.content, read.before)
    assert b"".join(found) == b"".join(lines)
    assert all(len(one) <= 1000 and one.endswith(b"\n") for one in found)
    assert spool.read(NAME, cursor, 1000, is_finished=True).content == b'{"v":1,"hos'


def test_a_line_that_is_longer_than_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = b"x" * 50_000 + b"\n"
    spool = spool_of(tmp_path, **{f"processes_{BOOT}_000001": long + b"short\n"})
    assert spool.read(NAME, Cursor(), 1000, is_finished=False).content.startswith(long)
    monkeypatch.setattr(spool_module, "LARGEST_RANGE", 20_000)
    with pytest.raises(TooLong):
        spool.read(NAME, Cursor(), 1000, is_finished=False)


@pytest.mark.parametrize("content", [b"", line("n1", 1)[:50], line("n1", 7) * 3])
def test_cut_short_or_replaced(tmp_path: Path, content: bytes) -> None:
    spool = spool_of(tmp_path, **{f"processes_{BOOT}_000001": line("n1", 1) + line("n1", 2)})
    read = spool.read(NAME, Cursor(), 10_000, is_finished=False)
    cursor = Cursor().after(read.content, read.before)
    (tmp_path / str(NAME)).write_bytes(content)
    with pytest.raises(Replaced):
        spool.read(NAME, cursor, 10_000, is_finished=False)


class TestState:
    def test_there_and_back(self, tmp_path: Path) -> None:
        path = tmp_path / "state.json"
        state = SentState(path, BOOT)
        state.seq = 9
        state.files = {NAME: Cursor(40, "ab" * 16, 2), SpoolName("groups", LATER_BOOT, 3): Cursor()}
        state.save()
        again = SentState(path, BOOT)
        assert (again.seq, again.files) == (9, state.files)
        assert [one.name for one in tmp_path.iterdir()] == ["state.json"]

    def test_a_number_that_comes_again_is_another_file(self, tmp_path: Path) -> None:
        """As where a daemon is started anew once all files are gone."""
        state = SentState(tmp_path / "state.json", BOOT)
        first, second = NAME, SpoolName("processes", BOOT, 2)
        groups = SpoolName("groups", BOOT, 1)
        state.meet([first, second])
        assert set(state.files.values()) == {Cursor()}
        state.meet([second, groups])
        assert set(state.files) == {second, groups}
        state.meet([])
        state.save()
        state = SentState(tmp_path / "state.json", BOOT)
        state.meet([first, second, groups])
        assert state.files == dict.fromkeys([first, second, groups], Cursor(again=2))

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"version": 2}', b'{"version": 1, "seq": 1, "files": {"x": 1}}', b"\xff"])
    def test_an_unreadable_one_is_put_aside(self, tmp_path: Path, text: bytes) -> None:
        path = tmp_path / "state.json"
        path.write_bytes(text)
        state = SentState(path, BOOT)
        assert (state.files, state.seq) == ({}, 0)
        assert (tmp_path / "state.json.unreadable").read_bytes() == text
