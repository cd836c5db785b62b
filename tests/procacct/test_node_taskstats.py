"""What ended tasks used: captured messages, other versions of the struct, nonsense."""

from __future__ import annotations

import csv
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procacct.node import taskstats
from procacct.node.connector import MOST_EVENTS
from procacct.node.taskstats import Refused, Task, Taskstats, Usage, split_cpu, task_of

SAMPLES = Path(__file__).parent / "samples"
MESSAGES = [bytes.fromhex(line) for line in (SAMPLES / "taskstats.capture.hex").read_text(encoding="ascii").split()]
with (SAMPLES / "taskstats.capture.tsv").open(encoding="ascii", newline="") as stream:
    DECODED = [row for row in csv.DictReader(stream, delimiter="\t") if row["aggr_type"] == "4"]
COLUMNS = {
    "pid": "ac_pid", "tgid": "ac_tgid", "status": "ac_exitcode", "flag": "ac_flag", "cpu_ns": "cpu_run_virtual_total",
    "user_id": "ac_uid", "group_id": "ac_gid", "parent_pid": "ac_ppid", "elapsed_us": "ac_etime", "user_us": "ac_utime",
    "system_us": "ac_stime", "minor_faults": "ac_minflt", "major_faults": "ac_majflt", "resident_kib": "hiwater_rss",
    "virtual_kib": "hiwater_vm", "read_bytes": "read_bytes", "written_bytes": "write_bytes", "process_elapsed_us": "ac_tgetime",
    "device": "ac_exe_dev", "inode": "ac_exe_inode",
}  # fmt: skip


def decoded(message: bytes) -> Task:
    task = task_of(message)
    assert task is not None
    return task


def test_captured_messages_are_what_they_are() -> None:
    assert len(MESSAGES) == len(DECODED) == 8
    for message, expected in zip(MESSAGES, DECODED, strict=True):
        task = decoded(message)
        assert task.comm == expected["ac_comm"]
        assert {name: getattr(task, name) for name in COLUMNS} == {name: int(expected[theirs]) for name, theirs in COLUMNS.items()}


def test_a_process_is_the_sum_of_its_threads_and_its_memory_is_counted_once() -> None:
    usage = Usage()
    for message in MESSAGES:
        if (task := decoded(message)).tgid == 10858:
            usage.add(task)
    assert (usage.tasks, usage.resident_kib) == (3, 9164)
    assert usage.user_ns + usage.system_ns == 12_411_137 + 17_930_046 + 13_982_370
    assert usage.minor_faults == 8 + 3 + 976


def test_exact_time_is_divided_as_ticks_are() -> None:
    task = decoded(MESSAGES[7])
    user, system = split_cpu(task)
    assert user + system == 116_794_639
    assert system / (user + system) == pytest.approx(92 / 116, rel=1e-6)
    assert split_cpu(decoded(MESSAGES[0])) == (231_380, 0)
    assert split_cpu(task._replace(cpu_ns=0)) == (24_000_000, 92_000_000)


def with_version(version: int, length: int) -> bytes:
    """The first captured message as an older or newer kernel would send it: so many bytes of the struct."""
    message = MESSAGES[0]
    stats = message[36 : 36 + 560]
    body = (struct.pack("=H", version) + stats[2:]).ljust(length, b"\xee")[:length]
    nest = message[24:32] + struct.pack("=HH", 4 + length, 3) + body
    inner = struct.pack("=HH", 4 + len(nest), 0x8004) + nest
    return struct.pack("=I", 20 + len(inner)) + message[4:20] + inner


@pytest.mark.parametrize(
    ("version", "length", "has_process"),
    [(8, 328, False), (9, 344, False), (10, 352, False), (12, 400, True), (14, 432, True), (17, 600, True)],
)
def test_versions_with_the_fields_they_have(version: int, length: int, has_process: bool) -> None:
    task = decoded(with_version(version, length))
    assert (task.pid, task.comm, task.resident_kib, task.read_bytes) == (10854, "true", 1076, 8192)
    assert (task.tgid, task.inode) == ((10854, 260958) if has_process else (None, None))


@pytest.mark.parametrize("version", [15, 7])
def test_a_version_with_other_offsets_is_refused(version: int) -> None:
    with pytest.raises(Refused):
        task_of(with_version(version, 560))


def test_an_attribute_between_does_not_matter() -> None:
    """As 64-bit machines that need it put one there, to align the struct (kernel/taskstats.c)."""
    message = MESSAGES[0]
    nest = message[24:32] + struct.pack("=HH", 4, 6) + message[32:]
    inner = struct.pack("=HH", 4 + len(nest), 4) + nest
    assert task_of(message[:20] + inner) == task_of(message)


@given(st.integers(0, 600), st.binary(max_size=60), st.integers(0, 7))
def test_damaged_messages_are_tasks_or_nothing(at: int, damage: bytes, which: int) -> None:
    message = MESSAGES[which]
    damaged = message[:at] + damage + message[at + len(damage) :]
    for one in (damaged, damaged[:at], damage):
        try:
            task = task_of(one)
        except Refused:
            continue
        if task is not None:
            Usage().add(task)


def test_each_socket_is_drained_however_much_is_in_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of the last CPUs came never while the first ones were busy."""
    monkeypatch.setattr(taskstats, "MOST_MESSAGES", 8)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    source = Taskstats.__new__(Taskstats)
    source.overruns = source.refused = source.unreadable = 0
    source.sockets = [receiver for _, receiver in pairs]
    try:
        for sender, receiver in pairs:
            receiver.setblocking(False)
            for message in MESSAGES:
                sender.send(message)
        tasks, _ = source.drain()
        assert len(tasks) == 2 * len(MESSAGES)
        assert source.drain() == ([], True)
    finally:
        for pair in pairs:
            for one in pair:
                one.close()


def test_the_tasks_of_a_round_of_events_are_read_in_it() -> None:
    assert taskstats.MOST_MESSAGES >= MOST_EVENTS
