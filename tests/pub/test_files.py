"""The transport `file`: a folder of plain files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from batchacct.errors import PublishError
from pub.transports.contract import Message, Receipt, Refusal
from pub.transports.files import Files, FilesOptions

CREATED_AT = 1_700_000_123


def message(number: int) -> Message:
    return Message(number, CREATED_AT + number, b"message %d\xff\n" % number)


def test_a_file_a_message_in_order_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "records"
    outcomes = list(Files(FilesOptions(path=path, suffix=".jsonl")).send(message(n) for n in range(1, 4)))
    names = sorted(p.name for p in path.iterdir())
    assert [outcome.receipt for outcome in outcomes if isinstance(outcome, Receipt)] == names
    assert [(path / name).read_bytes() for name in names] == [message(n).payload for n in range(1, 4)]
    assert all(name.endswith(".jsonl") for name in names)
    assert list((tmp_path / "records.partial").iterdir()) == []
    assert stat.S_IMODE((path / names[0]).stat().st_mode) == 0o640


def test_sending_again_changes_nothing_and_another_of_that_name_is_left_alone(tmp_path: Path) -> None:
    files = Files(FilesOptions(path=tmp_path / "records"))
    (first,) = files.send([message(5)])
    assert list(Files(FilesOptions(path=tmp_path / "records")).send([message(5)])) == [first]
    other = Message(5, CREATED_AT + 5, b"something else")
    with pytest.raises(PublishError, match="holds something else"):
        list(files.send([other]))
    assert [p.read_bytes() for p in (tmp_path / "records").iterdir()] == [message(5).payload]


def test_what_a_killed_run_left_is_written_over(tmp_path: Path) -> None:
    files = Files(FilesOptions(path=tmp_path / "records"))
    list(files.send([message(1)]))
    (written,) = (tmp_path / "records").iterdir()
    written.rename(tmp_path / "records.partial" / written.name)
    (tmp_path / "records.partial" / written.name).write_bytes(b"half of a longer message than this one is")
    list(files.send([message(1)]))
    assert written.read_bytes() == message(1).payload
    assert list((tmp_path / "records.partial").iterdir()) == []


def test_an_empty_message_is_refused_alone(tmp_path: Path) -> None:
    outcomes = list(Files(FilesOptions(path=tmp_path / "records")).send([Message(1, CREATED_AT, b""), message(2)]))
    assert outcomes[0] == Refusal(1, "the message is empty")
    assert isinstance(outcomes[1], Receipt)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="Create the folder that is missing"):
        list(Files(FilesOptions(path=tmp_path / "no" / "records")).send([message(1)]))
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match="no folder stands in its place"):
        list(Files(FilesOptions(path=tmp_path / "file")).send([message(1)]))
    with pytest.raises(ValidationError):
        FilesOptions(path=tmp_path, suffix="/../x")
