"""The SSM outgoing directory: read back with dirq, and what happens when the file system or the process fails."""

from __future__ import annotations

import os
import random
import re
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batchacct.errors import PublishError
from pub.transports.contract import Message, Refusal
from pub.transports.ssm_directory import SsmDirectory, SsmDirectoryOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from dirq.QueueSimple import QueueSimple

ROOT = Path(__file__).parents[2]
CREATED_AT = 1_700_000_123
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")

SENDER = """\
import os, random, signal, sys, time
from pathlib import Path
from pub.transports.contract import Message
from pub.transports.ssm_directory import SsmDirectory, SsmDirectoryOptions

def send(path, count):
    folder = SsmDirectory(SsmDirectoryOptions(path=path))
    for number in range(count):
        folder.put(Message(number, 1_700_000_000 + number // 7, b"message %d\\n" % number * 400))

def child(work, *args):
    pid = os.fork()
    if not pid:
        work(*args)
        os._exit(0)
    return pid

path = Path(sys.argv[1])
"""
"""Sends messages as `sent` lists them; `child` does its work in another process, to be killed."""


def directory(path: Path) -> SsmDirectory:
    return SsmDirectory(SsmDirectoryOptions(path=path))


def message(number: int, created_at: int = CREATED_AT) -> Message:
    return Message(number, created_at, b"message %d\n" % number * 400)


def sent(count: int) -> list[bytes]:
    return [message(number).payload for number in range(count)]


def taken_by_the_sender(path: Path) -> list[bytes]:
    """What the SSM sender reads, in its order; the folder is empty afterwards."""
    queue = QueueSimple(str(path))
    payloads = []
    name = queue.first()
    while name:
        assert queue.lock(name)
        payloads.append(queue.get(name))
        queue.remove(name)
        name = queue.next()
    return payloads


def leftovers(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file() and not re.fullmatch("[0-9a-f]{14}", p.name)]


def test_dirq_reads_what_was_sent(tmp_path: Path) -> None:
    folder = directory(tmp_path / "outgoing")
    receipts = [folder.put(message(number)) for number in range(3)]
    assert receipts[2] == f"{CREATED_AT - CREATED_AT % 60:08x}/{CREATED_AT:08x}000002"
    assert QueueSimple(str(folder.path)).count() == 3
    assert taken_by_the_sender(folder.path) == [message(number).payload for number in range(3)]
    assert leftovers(folder.path) == []


def test_what_a_sender_of_text_would_stop_at_is_refused_alone(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    accented = Message(2, CREATED_AT, "Zoë".encode())
    outcomes = list(folder.send([message(1), accented, Message(3, CREATED_AT, b""), message(4)]))
    assert [outcome.message_id for outcome in outcomes] == [1, 2, 3, 4]
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)]
    assert reasons == ["byte 2 of the message, 0xc3, is not ASCII", "the message is empty"]
    assert taken_by_the_sender(tmp_path) == [message(1).payload, message(4).payload]


def test_the_group_may_take_what_was_sent(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        receipt = directory(tmp_path / "outgoing").put(message(1))
    finally:
        os.umask(before)
    element = tmp_path / "outgoing" / receipt
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (element, element.parent, element.parent.parent)]
    assert modes == [0o640, 0o2770, 0o2770]


def test_a_folder_of_the_administrator_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "outgoing"
    path.mkdir()
    path.chmod(0o750)
    directory(path).put(message(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_sending_again_changes_nothing(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    assert folder.put(message(5)) == folder.put(message(5)) == directory(tmp_path).put(message(5))
    assert taken_by_the_sender(tmp_path) == [message(5).payload]


def test_sends_while_the_sender_has_it_locked(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    receipt = folder.put(message(5))
    queue = QueueSimple(str(tmp_path))
    assert queue.lock(receipt)
    assert folder.put(message(5)) == receipt
    queue.remove(receipt)
    assert queue.count() == 0


def test_another_message_of_the_same_name_is_refused(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    receipt = folder.put(message(5))
    with pytest.raises(PublishError, match=f"Message {5 + 16**6} .*{receipt} is there and holds something else"):
        folder.put(message(5 + 16**6))
    assert taken_by_the_sender(tmp_path) == [message(5).payload]
    assert leftovers(tmp_path) == []


def test_names_sort_in_the_order_of_the_outbox(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    messages = [message(number, CREATED_AT + number // 9 * 37) for number in range(1, 120)]
    shuffled = random.Random(7).sample(messages, len(messages))
    receipts = {m.id: folder.put(m) for m in shuffled}
    assert sorted(receipts.values()) == [receipts[m.id] for m in messages]
    assert taken_by_the_sender(tmp_path) == [m.payload for m in messages]


def test_a_temporary_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    element = tmp_path / folder.put(message(1))
    element.with_name(f"{element.name}.tmp").write_bytes(b"half")
    other = element.with_name(f"{CREATED_AT:08x}000002.tmp")
    other.write_bytes(b"half")
    folder.put(message(1))
    folder.put(message(2))
    assert taken_by_the_sender(tmp_path) == [message(1).payload, message(2).payload]
    assert leftovers(tmp_path) == []


def test_the_sender_removes_empty_directories_meanwhile(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    folder.put(message(1))
    folder.put(message(2, CREATED_AT + 60))
    taken_by_the_sender(tmp_path)
    QueueSimple(str(tmp_path)).purge()
    folder.put(message(3, CREATED_AT + 60))
    folder.put(message(4))
    assert sorted(taken_by_the_sender(tmp_path)) == [message(3).payload, message(4).payload]


def test_a_missing_parent(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="Create the folder that is missing"):
        directory(tmp_path / "no" / "outgoing").put(message(1))


@pytest.mark.parametrize("place", ["outgoing", f"outgoing/{CREATED_AT - CREATED_AT % 60:08x}"])
def test_a_file_in_place_of_a_directory(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    with pytest.raises(PublishError, match="no folder stands in its place"):
        directory(tmp_path / "outgoing").put(message(1))


def run(program: str, path: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SENDER + program, str(path)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    """As root the mode bits do not bind: another user tries, in the folder above, as it may search none before."""
    tmp_path.chmod(0o755)
    (tmp_path / "outgoing").mkdir()
    (tmp_path / "outgoing").chmod(0o555)
    done = run("os.geteuid() or os.setuid(65534)\nsend(path, 1)", Path("outgoing"), cwd=tmp_path)
    assert "PublishError" in done.stderr
    assert "Let the user that publishes write there" in done.stderr


def test_a_file_size_limit_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run("import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\nsend(path, 1)", tmp_path)
    assert "PublishError" in done.stderr
    assert "raise its file size limit" in done.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@NEEDS_ROOT
def test_a_full_file_system_leaves_nothing_behind(small: Path) -> None:
    folder = directory(small)
    sent = 0
    with pytest.raises(PublishError, match="The file system is full"):
        while True:
            folder.put(message(sent))
            sent += 1
    assert leftovers(small) == []
    assert taken_by_the_sender(small) == [message(number).payload for number in range(sent)]
    folder.put(message(sent))
    assert taken_by_the_sender(small) == [message(sent).payload]


@NEEDS_ROOT
def test_a_read_only_file_system(small: Path) -> None:
    folder = directory(small)
    folder.put(message(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    for again in (folder, directory(small), directory(small / "new")):
        with pytest.raises(PublishError, match="read-only"):
            again.put(message(2))


KILLED_AT_RANDOM = """
moments = random.Random(3)
for _ in range(60):
    pid = child(send, path, 120)
    time.sleep(moments.uniform(0, 0.1))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
send(path, 120)
"""


def test_killed_at_random_moments_then_sent_again(tmp_path: Path) -> None:
    done = run(KILLED_AT_RANDOM, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert taken_by_the_sender(tmp_path) == sent(120)
    assert leftovers(tmp_path) == []


KILLED_AFTER_A_CALL = """
calls = 0

def counted(function, last):
    def call(*args, **kwargs):
        global calls
        result = function(*args, **kwargs)
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

def send_until(last, path):
    for name in ("open", "fsync", "fchmod", "link", "unlink", "mkdir", "chmod"):
        setattr(os, name, counted(getattr(os, name), last))
    send(path, 1)

step, status = 0, signal.SIGKILL
while status:
    step += 1
    folder = path / f"{step:02d}"
    status = os.waitpid(child(send_until, step, folder), 0)[1]
    send(folder, 2)
print(step)
"""


def test_killed_after_each_call_then_sent_again(tmp_path: Path) -> None:
    """Whichever of the calls that change the folder is the last one, the next run mends it."""
    done = run(KILLED_AFTER_A_CALL, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 12
    for step in range(1, int(done.stdout) + 1):
        path = tmp_path / f"{step:02d}"
        assert taken_by_the_sender(path) == sent(2)
        assert leftovers(path) == []
        assert {stat.S_IMODE(p.stat().st_mode) for p in path.iterdir()} == {0o2770}
