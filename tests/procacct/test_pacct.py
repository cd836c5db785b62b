"""BSD accounting records: what each field becomes, held against GNU dump-acct's reading of the samples."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from batchacct.parsing import Block, Parsed, Source
from batchacct.parsing.framing import BinaryFraming
from procacct.pacct import PARSER, recognise
from procacct.pacct_fast import PARTIAL
from procacct.pacct_layout import comp2_t, comp_t, decode, terminal_name
from tests.procacct.gnu_acct import Dumped, dumped
from tests.procacct.pacct_records import v3

SAMPLES = Path(__file__).parents[1] / "samples" / "pacct"
SOURCE = Source("s", "SITE", "c1", host="node01")
DUMPED = sorted(path.name.removesuffix(".dump-acct.txt") for path in SAMPLES.glob("*.dump-acct.txt"))
Row = dict[str, Any]


def parsed(data: bytes) -> Parsed:
    return PARSER.parse_block(Block(data, 0), SOURCE)


def rows(data: bytes) -> list[Row]:
    return parsed(data).records.to_pylist()


def one(**fields: Any) -> Row:
    (row,) = rows(v3(**fields))
    return row


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.bin").read_bytes()


def compare(row: Row, line: Dumped) -> None:
    """Asserts that a record is as dump-acct has it, as far as that has it right."""
    assert (row["command"], row["user_id"], row["group_id"]) == (line.command, line.user_id, line.group_id)
    ticks = [round(row[name] * 100, 2) for name in ("cpu_user_s", "cpu_system_s")]
    assert ticks == [line.user_ticks, line.system_ticks]
    exact = line.elapsed_ticks if line.version != 1 else pytest.approx(line.elapsed_ticks, rel=1 / 2048)
    assert round(row["elapsed_s"] * 100, 2) == exact, "of version 1 it reads the short elapsed time"
    assert int(row["started_at"].timestamp()) == line.began
    assert (row["pid"], row["parent_pid"] or 0) == (line.pid, line.parent_pid)
    assert (row["memory_virtual_kib"] or 0) == line.memory_kib
    assert row["terminal"] == (None if line.terminal == "__" else line.terminal)
    assert ("S" in line.flags, "F" in line.flags) == (bool(row["superuser"]), row["kind"] == "fork")
    if row["exit_signal"] is None:
        assert row["exit_code"] == line.exit_code
    else:
        assert line.exit_code == 0, "dump-acct knows no signals"
        assert "X" in line.flags


@pytest.mark.parametrize("name", DUMPED)
def test_every_sample_is_read_as_gnu_reads_it(name: str) -> None:
    data = sample(name)
    lines = dumped((SAMPLES / f"{name}.dump-acct.txt").read_text())
    found = parsed(data)
    assert not found.rejects
    assert found.units == len(lines) == len(data) // 64
    whole = [line for line, unit in zip(lines, units(data), strict=True) if not decode(unit).is_partial]
    assert sum(found.skipped.values()) == len(lines) - len(whole)
    for row, line in zip(found.records.to_pylist(), whole, strict=True):
        compare(row, line)


def units(data: bytes) -> list[bytes]:
    return [data[at : at + 64] for at in range(0, len(data), 64)]


@pytest.mark.parametrize("name", ["pacct.v0", "pacct.v1", "pacct.v2", "pacct.v2.ahz1024", "pacct.v3.bigendian"])
def test_every_version_holds_the_same_processes(name: str) -> None:
    """The three processes that the synthetic files were written from; see ORIGIN of the samples."""
    first, second, third = rows(sample(f"{name}.synthetic"))
    ahz = 1024 if "1024" in name else 100
    pids = (1001, 1002, 1003) if "v3" in name else (0, 0, 0)
    assert tuple(row["pid"] for row in (first, second, third)) == pids
    assert (first["command"], first["terminal"], first["superuser"], first["exit_code"]) == ("a.out", "pts/1", 1, 0)
    assert (first["cpu_user_s"], first["cpu_system_s"], first["elapsed_s"]) == (123 / ahz, 45 / ahz, 678 / ahz)
    assert (first["memory_virtual_kib"], first["minor_faults"], first["major_faults"]) == (2048, 300, 2)
    assert (second["command"], second["ended_by"], second["exit_signal"], second["exit_code"]) == ("longsolver", "signal", 15, None)
    assert (second["user_id"], second["group_id"]) == ((65534, 65534) if "v0" in name else (70000, 70001))
    assert second["elapsed_s"] == (8638464 if "v0" in name else 8640000) / ahz, "comp_t holds 13 bits, comp2_t 20, a float 24"
    assert second["minor_faults"] == 5_001_216
    assert second["parent_pid"] == (1001 if "v3" in name else None)
    assert (third["kind"], third["terminal"], third["exit_code"], third["cpu_system_s"]) == ("fork", "tty3", 1, 1 / ahz)
    assert third["memory_virtual_kib"] is None


def test_versions_and_byte_orders_are_mixed_in_one_file() -> None:
    names = ["pacct.v3", "pacct.v1.synthetic", "pacct.v3.bigendian.synthetic", "pacct.v0.synthetic", "pacct.v2.synthetic"]
    apart = [row for name in names for row in rows(sample(name))]
    together = rows(b"".join(sample(name) for name in names))
    of_place = ("source_offset", "record_key")
    assert [{k: v for k, v in row.items() if k not in of_place} for row in together] == [
        {k: v for k, v in row.items() if k not in of_place} for row in apart
    ]
    assert [row["source_offset"] % 64 for row in together] == [0] * len(together)


def test_what_the_kernel_wrote_of_all_kinds_of_ends() -> None:
    found = {row["pid"]: row for row in rows(sample("pacct.v3"))}
    killed, dumped_core, threaded, forked = found[9], found[11], found[15], found[13]
    assert (killed["ended_by"], killed["exit_signal"], killed["exit_code"], killed["core_dumped"]) == ("signal", 15, None, 0)
    assert (dumped_core["exit_signal"], dumped_core["core_dumped"]) == (11, 1)
    assert decode(threaded["native"]).flags & 0x10, "AXSIG, of a thread that lived when the program ended"
    assert (threaded["ended_by"], threaded["exit_signal"], threaded["exit_code"]) == ("exit", None, 0)
    assert (forked["kind"], forked["command"], forked["parent_pid"]) == ("fork", "bash", 12)
    assert found[8]["elapsed_s"] == 2.3
    assert found[20]["command"] == "a_program_with_", "the kernel keeps 15 characters"
    assert found[18]["terminal"] == "pts/0"
    assert all(row["seen_by"] == '["acct"]' and row["processes"] == 1 and row["boot_id"] is None for row in found.values())


def test_the_process_that_switches_counts_once() -> None:
    """What it is at the switch is skipped; the record of its end is the first in the new file."""
    old, new = parsed(sample("pacct.v3")), parsed(sample("pacct.v3.second"))
    assert (old.skipped, new.skipped) == ({PARTIAL: 1}, {PARTIAL: 1})
    assert [row["pid"] for row in old.records.to_pylist()].count(21) == 0
    assert [row["pid"] for row in new.records.to_pylist()].count(21) == 1


def test_a_partial_record_is_no_kernel_thread_and_no_process_without_cpu() -> None:
    nothing: Row = {"status": 0, "user": 0, "system": 0, "memory": 0, "minor": 0, "major": 0}
    assert parsed(v3(flags=0, **nothing)).skipped == {PARTIAL: 1}
    assert one(flags=1, **nothing)["memory_virtual_kib"] is None
    assert one(flags=0, **nothing | {"memory": 591})["cpu_user_s"] == 0
    assert one(flags=0, **nothing | {"status": 9})["exit_signal"] == 9
    assert one(flags=0, **nothing | {"minor": 1})["minor_faults"] == 1


def test_io_is_not_taken_for_anything() -> None:
    """The kernel of the samples puts something like CPU time into ac_io, others leave it at 0."""
    (quiet,), (busy,) = rows(v3(io=0)), rows(v3(io=12345, blocks=77))
    differing = {name for name in quiet if quiet[name] != busy[name]}
    assert differing == {"content_hash", "native", "record_key"}
    assert (busy["read_bytes"], busy["written_bytes"], busy["memory_real_kib"]) == (None, None, None)


def test_times_are_those_of_the_kernel() -> None:
    """ac_btime is the time of day at the end, less the elapsed time, each in whole seconds: together they are that time again."""
    row = one(began=1_700_000_000, elapsed=399.0)
    assert (row["started_at"].timestamp(), row["logged_at"].timestamp(), row["elapsed_s"]) == (1_700_000_000, 1_700_000_003, 3.99)
    assert (row["start_ns"], row["end_ns"]) == (None, None), "nothing so fine is known"
    assert one(user=0x1FFF)["cpu_user_s"] == 81.91, "1/100 s whatever HZ is"


def test_compressed_numbers() -> None:
    assert [comp_t(n) for n in (0, 1, 0x1FFF, 0x2400, 0x883D, 0xFFFF)] == [0, 1, 8191, 8192, 8638464, 0x1FFF << 21]
    assert [comp2_t(n) for n in (0, 1, 0x7FFFF, 0x80000, 0x283D60)] == [0, 1, 0x7FFFF, 0x80000, 8640000]


@pytest.mark.parametrize("value", [1, 7, 81, 8191, 8192, 10_007, 999_999, 123_456_789, (1 << 34) - 12345])
def test_compressed_numbers_are_near_what_was_compressed(value: int) -> None:
    """As `encode_comp_t` of kernel/acct.c is described: shifted until it fits, rounded by the last bit that is lost."""
    fraction, exponent, rounding = value, 0, 0
    while fraction > 0x1FFF:
        rounding, fraction, exponent = fraction & 4, fraction >> 3, exponent + 1
    fraction += bool(rounding)
    if fraction > 0x1FFF:
        fraction, exponent = fraction >> 3, exponent + 1
    assert abs(comp_t(exponent << 13 | fraction) - value) <= value / 2048


def test_a_terminal_by_its_number() -> None:
    assert terminal_name(0) is None
    numbers = {
        0x8800: "pts/0",
        0x88FF: "pts/255",
        0x892C: "pts/300",
        0x0401: "tty1",
        0x0440: "ttyS0",
        0x0501: "console",
        0x0C03: "12:3",
    }
    assert {number: terminal_name(number) for number in numbers} == numbers


DAMAGE: dict[str, dict[str, Any]] = {
    "version 5 of a record": {"version": 5},
    "flags 0x40": {"flags": 0x40},
    "a name without an end": {"name": b"abcdefghijklmnop"},
    "exit status 0x10000": {"status": 0x10000},
    "exit status 0x7f": {"status": 0x7F},
    "process id 0": {"pid": 0},
    "process id 4194305": {"pid": (1 << 22) + 1},
    "parent's process id": {"parent": 1 << 31},
    "elapsed time of nan": {"elapsed": math.nan},
    "elapsed time of inf": {"elapsed": math.inf},
    "elapsed time of -1": {"elapsed": -1.0},
    "a process from 0 ": {"began": 0},
    "a process from 4200000000": {"began": 4_200_000_000},
    "a process from 1795187667 to 1": {"elapsed": 1e18},
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_damage_is_a_reject_and_costs_no_neighbour(reason: str) -> None:
    good = v3(pid=7)
    found = parsed(good + v3(**DAMAGE[reason]) + good)
    assert [row["source_offset"] for row in found.records.to_pylist()] == [0, 128]
    (reject,) = found.rejects
    assert reason in reject.reason
    assert (reject.offset, reject.length) == (64, 64)


def test_what_is_lost_and_what_is_torn() -> None:
    good = v3(pid=7)
    found = parsed(good + bytes(64) + good + good[:40])
    assert [row["source_offset"] for row in found.records.to_pylist()] == [0, 128]
    assert [(reject.offset, reject.length) for reject in found.rejects] == [(64, 64), (192, 40)]
    assert "nothing but NUL" in found.rejects[0].reason
    assert "cut short" in found.rejects[1].reason


@pytest.mark.parametrize("name", [b"\xc3\x28", b"a\xff\x01b", "é".encode(), b" spaced out", b"a|b", b'"\\\n'])
def test_a_name_may_be_any_bytes(name: bytes) -> None:
    row = one(name=name)
    assert row["command"] == name.decode("utf-8", "backslashreplace")
    assert one(name=b"")["command"] is None
    assert one(name=b"short\0behind")["command"] == "short", "what stands behind its end is no part of it"


def test_the_framing_takes_whole_records_only() -> None:
    framing = BinaryFraming(64)
    assert [framing.cut(bytes(n), final=False) for n in (0, 63, 64, 127, 128)] == [0, 0, 64, 64, 128]
    assert framing.cut(bytes(70), final=True) == 70
    assert list(framing.spans(bytes(70))) == [(0, 64), (64, 70)]


def test_keys_tell_processes_apart() -> None:
    """Process ids come again, and below version 3 there are none: two processes may be alike in everything."""
    same = v3(pid=7, began=1_700_000_000)
    keys = [row["record_key"] for row in rows(same + same + v3(pid=7, began=1_700_000_000, minor=3) + v3(pid=8))]
    assert len(set(keys)) == 3, "the same record twice is one process"
    assert re.fullmatch(r"node01/acct/1700000000/7/[0-9a-f]{16}", keys[0])
    old = sample("pacct.v0.synthetic")[:64]
    assert len({row["record_key"] for row in rows(old + old)}) == 2


def test_a_file_is_recognised_by_all_of_its_beginning() -> None:
    assert recognise(v3())
    assert recognise(v3() * 300)
    assert not recognise(b"")
    assert not recognise(v3()[:63])
    assert not recognise(v3() + v3(version=9))
    assert not recognise(v3(began=1000))
    assert not recognise(bytes(640))


def test_a_login_record_is_no_accounting() -> None:
    """wtmp is binary too, and its records are 384 bytes, six times as many."""
    login = struct.pack(
        "<hxxi32s4s32s256shhiii16s20s", 7, 1234, b"pts/1", b"ts/1", b"root", b"", 0, 0, 0, 1_795_187_667, 0, b"", b""
    )
    boot = struct.pack("<hxxi32s4s32s256shhiii16s20s", 2, 0, b"~", b"~~", b"reboot", b"6.18", 0, 0, 0, 1_795_187_667, 0, b"", b"")
    assert len(login) == 384
    assert not recognise(login * 20)
    assert not recognise(boot + login * 20)
