"""Bytes that a broker has lost: told, and given up where nobody has them any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batchacct.errors import BusyError, ConfigError
from batchacct.parsing import Block, Source
from procacct.records import PROCESSES
from procacct.shipping.commands import group
from procacct.shipping.locking import held
from procacct.shipping.mirror import Mirror, Outcome
from procacct.shipping.ranges import Range, SpoolName
from tests.procacct.spools import BOOT, NOW_S, line, mirrored

NAME = SpoolName("processes", BOOT, 1)
ROOM = 10_000_000
PIECES = [b"".join(line("n1", 10 * piece + row) for row in range(10)) for piece in range(4)]
OFFSETS = [sum(map(len, PIECES[:number])) for number in range(5)]


def piece(number: int, host: str = "n1", file: SpoolName = NAME) -> Range:
    return Range(host, file, OFFSETS[number], PIECES[number], number)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of a central host to which the second quarter of a file has not come."""
    mirror = Mirror(tmp_path / "m", ROOM)
    for number in (0, 3, 2):
        mirror.take(piece(number))
    mirror.sync()
    path = tmp_path / "batchacct.toml"
    path.write_text(
        f'site = "TEST"\ndatabase.url = "sqlite:///{tmp_path}/db"\nreceive.brokers = ["mq:1"]\nreceive.folder = "{tmp_path}/m"\n'
    )
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(group, ["missing", "--config", str(config), *words], catch_exceptions=False, standalone_mode=False)


def test_what_has_not_come_is_told_while_the_receiver_works(config: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "m/n1/.ahead/unfinished.new"
    unfinished.write_bytes(b"x")
    with held(tmp_path / "m/.lock", "procacct receive"):
        told = run(config).output
    assert all(word in told for word in ("n1", str(NAME), f"{OFFSETS[1]:,}", f"{OFFSETS[2]:,}", f"{OFFSETS[4] - OFFSETS[2]:,}"))
    assert unfinished.exists()


def test_given_up_is_a_gap_row_and_the_rest_goes_on(config: Path, tmp_path: Path) -> None:
    lost = OFFSETS[2] - OFFSETS[1]
    assert f"without the {lost} bytes" in run(config, "--give-up", "n1", str(NAME)).output
    found = mirrored(tmp_path / "m", "n1")
    gap = found.pop("processes-given-up.jsonl")
    rest = f"processes-{BOOT}-000001.from-{OFFSETS[2]}.jsonl"
    assert found == {str(NAME): PIECES[0], rest: PIECES[2] + PIECES[3]}
    (parsed,) = PROCESSES.parse([Block(gap, 0)], Source("spool", "SITE", "cluster1"))
    assert not parsed.rejects
    (row,) = parsed.records.to_pylist()
    assert (row["kind"], row["host"], row["lost_events"], row["command"]) == (
        "gap", "n1", 1, "bytes of the node were lost on their way",
    )  # fmt: skip
    assert (row["start_ns"], row["end_ns"]) == ((NOW_S + 9 + 1) * 10**9, (NOW_S + 20 + 1) * 10**9)
    mirror = Mirror(tmp_path / "m", ROOM)
    assert mirror.ahead.waiting() == {}
    assert mirror.take(piece(1)) is Outcome.KNOWN, "it is given up"
    more = line("n1", 99)
    assert mirror.take(Range("n1", NAME, OFFSETS[4], more, 9)) is Outcome.WRITTEN
    mirror.sync()
    assert mirrored(tmp_path / "m", "n1")[rest] == PIECES[2] + PIECES[3] + more
    with pytest.raises(ConfigError, match="waits for nothing"):
        run(config, "--give-up", "n1", str(NAME))


def test_of_a_file_of_which_the_beginning_is_lost(config: Path, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "m", ROOM)
    mirror.take(piece(2, "n2"))
    mirror.sync()
    run(config, "--give-up", "n2", str(NAME))
    found = mirrored(tmp_path / "m", "n2")
    assert sorted(found) == [f"processes-{BOOT}-000001.from-{OFFSETS[2]}.jsonl", "processes-given-up.jsonl"]


def test_killed_in_between_it_is_called_again(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(Mirror, "take", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(config, "--give-up", "n1", str(NAME))
    run(config, "--give-up", "n1", str(NAME))
    found = mirrored(tmp_path / "m", "n1")
    assert found.pop("processes-given-up.jsonl").count(b"\n") == 1
    assert sorted(found.values()) == sorted([PIECES[0], PIECES[2] + PIECES[3]])


def test_not_while_the_receiver_works(config: Path, tmp_path: Path) -> None:
    with held(tmp_path / "m/.lock", "procacct receive"), pytest.raises(BusyError, match="another procacct receive is running"):
        run(config, "--give-up", "n1", str(NAME))
