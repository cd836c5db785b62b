"""Records of OGRT, XALT and app-accounting: what their samples become, and XALT's pieces through the store in any order."""

from __future__ import annotations

import binascii
import json
import random
import zoneinfo
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from batchacct.completing import complete_parts, rules_of
from batchacct.ledger.books import read_books
from batchacct.parsing import Block, Parsed, Reject, Source, UnitParser
from batchacct.store import Origin, Store, append
from batchacct.store.tables import RECORD_TABLES
from procacct import app_accounting, ogrt, xalt
from procacct.ogrt_datagrams import DatagramsOrLines, process_info
from tests.records import NOW

SAMPLES = Path(__file__).parents[1] / "samples"
END = (SAMPLES / "xalt" / "run_mpi_end.json").read_bytes().strip()
START = (SAMPLES / "xalt" / "run_mpi_start.json").read_bytes().strip()
SCALAR = (SAMPLES / "xalt" / "run_scalar_end.json").read_bytes().strip()
BLOCKS = (SAMPLES / "xalt" / "syslog.txt").read_bytes().splitlines()
DATAGRAM = (SAMPLES / "ogrt" / "processinfo.bin").read_bytes()


def parsed(parser: UnitParser, data: bytes, source: Source | None = None) -> Parsed:
    (one,) = parser.parse([Block(data, 0)], source or Source("s", "SITE", "c1"))
    return one


def known(row: dict[str, object]) -> dict[str, object]:
    dull = ("content_hash", "site", "cluster", "native", "source", "source_offset", "parser", "record_key")
    return {name: value for name, value in row.items() if value is not None and name not in dull}


def test_datagram_of_ogrt() -> None:
    (row,) = parsed(ogrt.PARSER, DATAGRAM).records.to_pylist()
    time = row.pop("logged_at")
    assert (time.timestamp(), row.pop("started_at")) == (1795188059, time)
    assert known(row) == {
        "host": "node042.example.org", "pid": 3565, "parent_pid": 3458, "user_name": "daemon", "kind": "program",
        "lrms_job_id": "4711.ce01.example.org", "join_id": "4711", "job_from": "environment", "program": "/home/alice/src/app",
        "arguments": '["./app -n 8 input.dat"]', "ended_by": "unknown", "signature": "71580393-1617-42da-afa9-964104de3fb8",
        "modules": '["gcc/12.2.0","openmpi/4.1.5"]', "processes": 1, "seen_by": '["sensor"]',
    }  # fmt: skip


def test_json_of_ogrt() -> None:
    """The same process has the same key, whichever way it came; times in milliseconds; a task of an array; no job."""
    found = parsed(ogrt.PARSER, (SAMPLES / "ogrt" / "lines.jsonl").read_bytes())
    first, second, third = found.records.to_pylist()
    assert first["record_key"] == parsed(ogrt.PARSER, DATAGRAM).records.to_pylist()[0]["record_key"]
    assert json.loads(first["environment"]) == {"LANG": "C", "OMP_NUM_THREADS": "8", "EMPTY": ""}
    assert (second["lrms_job_id"], second["join_id"], second["array_index"]) == ("4712.ce01.example.org", "4712", 3)
    assert second["logged_at"] == third["logged_at"]
    assert second["record_key"] != third["record_key"]
    assert third["lrms_job_id"] is third["job_from"] is None
    assert [reject.reason.partition(":")[0] for reject in found.rejects] == ["binpath", "time"]


def test_datagrams_and_lines_of_ogrt_in_one_file() -> None:
    """A damaged length costs one datagram, a cut one itself."""
    line = b'{"binpath":"/bin/true","pid":2,"parent_pid":1,"time":1795188059}\n'
    damaged = DATAGRAM[:4] + b"\xff" + DATAGRAM[5:]
    found = parsed(ogrt.PARSER, DATAGRAM + DATAGRAM + line + damaged + DATAGRAM + line + DATAGRAM[:-1])
    assert found.records.num_rows == 5
    assert len(found.rejects) >= 2
    assert sum(len(reject.unit) for reject in found.rejects) <= len(damaged) + len(DATAGRAM)


@given(st.binary(max_size=80))
def test_any_message_of_ogrt_is_read_or_refused(message: bytes) -> None:
    try:
        found = process_info(b"\0\0\0\x0c" + len(message).to_bytes(4, "big") + message)
    except Reject as reject:
        assert reject.reason
    else:
        assert isinstance(found, dict)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([DATAGRAM, b"\0\0\0\x0c", b"\0", b"\n", b'{"a":1}\n', b"\0\0\0\x0c\0\0\0\3ab\n", b"\xff" * 9]), max_size=8
    )
)
def test_units_of_ogrt_are_found_piece_by_piece(pieces: list[bytes]) -> None:
    """Bytes that come one after the other make the same units."""
    data, framing = b"".join(pieces), DatagramsOrLines()
    whole = [data[start:end] for start, end in framing.spans(data)]
    found, waiting = [], b""
    for position in range(len(data) + 1):
        final = position == len(data)
        waiting += data[position : position + 1]
        cut = framing.cut(waiting, final=final)
        ready, waiting = waiting[:cut], waiting[cut:]
        found += [ready[start:end] for start, end in framing.spans(ready)]
    assert found == whole


def test_messages_of_app_accounting() -> None:
    """With their exit statuses, which its server took for signals; in the zone of the host that ran them."""
    data = (SAMPLES / "app-accounting" / "messages.yaml").read_bytes()
    source = Source("s", "SITE", "c1", zone=zoneinfo.ZoneInfo("Europe/Zurich"))
    rows = parsed(app_accounting.PARSER, data, source).records.to_pylist()
    seen = [(r["program"], r["ended_by"], r["exit_code"], r["exit_signal"], r["user_id"], r["elapsed_s"]) for r in rows]
    assert seen == [
        ("/bin/ls", "exit", 0, None, 0, 0.0),
        ("/bin/sh", "exit", 3, None, 0, 0.0),
        ("/bin/sh", "signal", None, 9, 0, 0.0),
    ]
    assert {r["logged_at"].timestamp() for r in rows} == {1795188126 - 3600}
    assert rows[0]["start_ns"] == (1795188126 - 3600) * 10**9


def test_equal_messages_of_app_accounting_are_as_many_programs() -> None:
    message = (SAMPLES / "app-accounting" / "message0.yaml").read_bytes()
    assert message.endswith(b"\0")
    for between in (b"\0", b""):
        rows = parsed(app_accounting.PARSER, (message[:-1] + between) * 5).records.to_pylist()
        assert len({row["record_key"] for row in rows}) == 5


def test_a_message_of_app_accounting_that_was_cut() -> None:
    message = (SAMPLES / "app-accounting" / "message0.yaml").read_bytes()
    long = message.replace(b"/bin/ls", b"/" + b"x" * 400)[:499]
    found = parsed(app_accounting.PARSER, long + b"\0" + message)
    assert found.records.num_rows == 1
    assert "500 bytes" in found.rejects[0].reason


def with_crc(record: bytes) -> bytes:
    """A record of XALT with the CRC that it has; computed bit by bit, and not as the parser does."""
    at = record.index(b'"crc":"') + 7
    text = record[:at] + b"0xFFFF" + record[at + 6 :]
    crc = 0xFFFF
    for byte in text:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return record[:at] + f"0x{crc:04X}".encode() + record[at + 6 :]


def blocks_of(record: bytes, key: str, size: int = 100) -> list[bytes]:
    """Syslog lines of a record, as XALT cuts it."""
    crc = record[record.index(b'"crc":"') + 7 :][:6].decode()
    values = [record[at : at + size] for at in range(0, len(record), size)]
    head = f"<14>Nov 20 15:21:26 XALT_LOGGING_local: V:4 kind:run syshost:local key:{key} crcStr:{crc} nb:{len(values):02}"
    return [f"{head} idx:{index:02} value:".encode() + value for index, value in enumerate(values)]


def in_store(store: Store, loads: Iterable[Sequence[bytes]]) -> list[dict[str, object]]:
    """The processes in force after each load of lines was taken and completed."""
    offset = 0
    for lines in loads:
        data = b"".join(line + b"\n" for line in lines)
        append(store, Origin("s", "process", xalt.PARSER.label, "/log/xalt"), parsed_at(data, offset), NOW)
        complete_parts(store, rules_of([("s", xalt.PARSER)]), NOW)
        offset += len(data)
    table = RECORD_TABLES["process"]
    with store.reading() as connection:
        assert read_books(connection).problems == []
        return [dict(row) for row in connection.execute(select(table).where(table.c.superseded_by.is_(None))).mappings()]


def parsed_at(data: bytes, offset: int) -> Parsed:
    (one,) = xalt.PARSER.parse([Block(data, offset)], Source("s", "SITE", "c1"))
    return one


def test_run_of_xalt(store: Store) -> None:
    (row,) = in_store(store, [[SCALAR]])
    row.pop("id"), row.pop("load_id", None)
    seen = known(row)
    assert {name: seen[name] for name in ("lrms", "lrms_job_id", "join_id", "job_from", "host", "user_name", "parent_pid")} == {
        "lrms": "Slurm", "lrms_job_id": "4711", "join_id": "4711", "job_from": "environment", "host": "local", "user_name": "alice",
        "parent_pid": 3836,
    }  # fmt: skip
    assert (row["start_ns"], row["end_ns"], row["elapsed_s"]) == (1795188086150400000, 1795188086150700000, 0.0003)
    assert json.loads(str(row["arguments"])) == ["./hello", "-x", 'a "b"']
    assert json.loads(str(row["modules"])) == ["gcc/12.2.0", "xalt/3.2.4"]
    assert (row["ended_by"], row["processes"], row["threads"], row["mpi_size"]) == ("exit", 1, 4, None)
    assert row["signature"] == "01a1f98c-555b-7147-bb57-58bdf3043a47"


@pytest.mark.parametrize("order", [(START, END), (END, START), (START, START, END, END)], ids=["first", "last", "twice"])
def test_start_and_end_of_one_run_are_one_record(sqlite_store: Store, order: tuple[bytes, ...]) -> None:
    (row,) = in_store(sqlite_store, [[record] for record in order])
    assert (row["ended_by"], row["elapsed_s"], row["mpi_rank"], row["mpi_size"]) == ("exit", 0.0005, 0, 64)
    assert row["lrms"] is row["lrms_job_id"] is None


def test_a_run_of_which_only_the_start_is_known(sqlite_store: Store) -> None:
    (row,) = in_store(sqlite_store, [[START]])
    assert (row["ended_by"], row["elapsed_s"], row["end_ns"]) == ("unknown", None, None)


def test_blocks_of_syslog_in_any_order_and_any_loads(sqlite_store: Store) -> None:
    """Of two runs, mixed, with one block twice, and lines of other programs between."""
    lines = [*BLOCKS, *blocks_of(END, "run_fini_01a1f98c-5588-7747-ae5c-9c0b61009b45"), BLOCKS[2], b"<14>Nov 20 15:21:26 sshd: x"]
    random.Random(7).shuffle(lines)
    rows = in_store(sqlite_store, [lines[at : at + 4] for at in range(0, len(lines), 4)])
    assert sorted(str(row["user_name"]) + str(row["mpi_size"]) for row in rows) == ["alice64", "aliceNone"]
    (whole,) = in_store(sqlite_store, [[SCALAR]])[:1]
    assert whole["program"] == "/home/alice/src/hello"
    assert len(in_store(sqlite_store, [[SCALAR]])) == 2


def test_a_block_that_is_missing_leaves_the_start(sqlite_store: Store) -> None:
    end = blocks_of(END, "run_fini_01a1f98c-5588-7747-ae5c-9c0b61009b45")
    start = blocks_of(START, "run_strt_01a1f98c-5588-7747-ae5c-9c0b61009b45")
    (row,) = in_store(sqlite_store, [end[:-1], start])
    assert row["ended_by"] == "unknown"
    (row,) = in_store(sqlite_store, [end[-1:]])
    assert row["ended_by"] == "exit"


def test_damage_shows_by_the_crc(sqlite_store: Store) -> None:
    assert with_crc(SCALAR) == SCALAR
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1, "the check value of CRC-16/CCITT-FALSE"
    damaged = SCALAR.replace(b"alice", b"alicf")
    found = parsed(xalt.PARSER, damaged + b"\n" + with_crc(damaged) + b"\n" + SCALAR.replace(b'"crc":"0x533F",', b""))
    assert [reject.reason.partition(":")[0] for reject in found.rejects] == ["crc"]
    assert found.parts.num_rows == 2
    broken = [line.replace(b"alice", b"alicf") for line in BLOCKS]
    assert in_store(sqlite_store, [broken]) == []


def test_a_sampled_run_stands_for_many(sqlite_store: Store) -> None:
    sampled = with_crc(SCALAR.replace(b'"probability":1.0000', b'"probability":0.0001'))
    (row,) = in_store(sqlite_store, [[sampled]])
    assert row["processes"] == 10_000
    assert row["elapsed_s"] == pytest.approx(3.0)


def test_link_and_package_records_are_skipped() -> None:
    link = (SAMPLES / "xalt" / "link.json").read_bytes().strip()
    package = b'{"crc":"0x0000","package_name":"numpy","xalt_run_uuid":"01a1f98c-5588-7747-ae5c-9c0b61009b45"}'
    blocks = [
        b"XALT_LOGGING_x: V:4 kind:link syshost:x key:link_x crcStr:0x1 nb:01 idx:00 value:{",
        b"XALT_LOGGING_x: V:4 kind:run key",
    ]
    found = parsed(xalt.PARSER, b"\n".join([link, package, *blocks]))
    assert sum(found.skipped.values()) == 3
    assert len(found.rejects) == 1
