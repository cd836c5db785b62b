"""From the spools of two nodes into the store of the central host: each row once, sums equal, whatever is killed on the way."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from batchacct.collector import Collector, collect_once
from batchacct.parsing import Source, registry
from batchacct.store import Store
from batchacct.store.tables import followed_file, process
from procacct.shipping.mirror import REMOVED
from procacct.shipping.tidy import old_files, take_away
from tests.procacct.spools import NOW_S, line
from tests.procacct.way import Program, Way
from tests.services.brokers import Broker

ROWS = 100_000
SUMS = (func.count(), func.count(process.c.record_key.distinct()), func.sum(process.c.processes), func.sum(process.c.exit_code),
        func.sum(process.c.pid), func.sum(process.c.end_ns - process.c.start_ns))  # fmt: skip


def collected(store: Store, folder: Path) -> None:
    """What `batchacct collect --once` does with a source of parser procs on the mirror."""
    collector = Collector(registry.parser("procs"), Source("nodes", "TEST", "lsf1"), (f"{folder}/*/processes-*.jsonl",))
    done = collect_once(store, collector, lambda: NOW_S + 10**6)
    assert done.errors == []
    assert done.counts["rejected"] == 0


def stored(store: Store, host: str) -> tuple[int, ...]:
    with store.reading() as connection:
        return tuple(int(value) for value in connection.execute(select(*SUMS).where(process.c.host == host)).one())


def told(written: dict[str, bytes]) -> tuple[int, ...]:
    """The same of what was written into the spool."""
    rows = [json.loads(row) for content in written.values() for row in content.splitlines()]
    return (len(rows), len({row["record_key"] for row in rows}), sum(row["processes"] for row in rows),
            sum(row["exit_code"] for row in rows), sum(row["pid"] for row in rows),
            sum(row["end_ns"] - row["start_ns"] for row in rows))  # fmt: skip


@pytest.fixture
def way(rabbitmq: Broker, tmp_path: Path) -> Way:
    return Way(tmp_path, [f"127.0.0.1:{rabbitmq.port}"], f"/queue/test.store.{time.time_ns()}")


@pytest.mark.slow
def test_a_hundred_thousand_rows(way: Way, sqlite_store: Store) -> None:
    for host in ("n1", "n2"):
        node = way.node(host, message_bytes=262_144)
        node.spool.rotate_bytes = 8 << 20
        node.spool.write(ROWS // 2)
        began = time.monotonic()
        node.ship()
        print(f"shipped {node.spool.rows / (time.monotonic() - began):,.0f} rows/s")
    began = time.monotonic()
    counts = way.receive(idle_s=1.5).counts
    print(f"received {ROWS / (time.monotonic() - began - 1.5):,.0f} rows/s: {dict(counts)}")
    way.assert_mirrored()
    collected(sqlite_store, way.mirror)
    for host, node in way.nodes.items():
        assert stored(sqlite_store, host) == told(node.spool.written)
    assert sum(node.spool.rows for node in way.nodes.values()) >= ROWS


def test_collected_while_it_comes_and_both_sides_are_killed(way: Way, sqlite_store: Store) -> None:
    """The collector sees what a killed receiver left half written, and each row is in the store once."""
    node = way.node("n1")
    central = way.central_config()
    for point in ("receive.written", "receive.synced", "receive.acknowledged:2"):
        node.spool.write(300)
        Program(way.folder / "log", "ship", "--config", node.config, crash_at="ship.receipt:9").ended()
        assert Program(way.folder / "log", "receive", "--config", central, crash_at=point).ended() == -9
        collected(sqlite_store, way.mirror)
    node.ship()
    way.receive(idle_s=3)
    way.assert_mirrored()
    collected(sqlite_store, way.mirror)
    assert stored(sqlite_store, "n1") == told(node.spool.written)


def test_tidy_takes_away_what_is_collected_and_old(way: Way, sqlite_store: Store) -> None:
    node = way.node("n1", remove=False)
    node.spool.write(400)
    node.ship()
    way.receive()
    files = sorted((way.mirror / "n1").glob("*.jsonl"))
    assert [old.is_collected for old in old_files(way.mirror, sqlite_store, 0)] == [False] * len(files)
    collected(sqlite_store, way.mirror)
    assert list(old_files(way.mirror, sqlite_store, 3600)) == []
    for old in old_files(way.mirror, sqlite_store, 0):
        assert old.is_collected
        take_away(old)
    assert [path.name for path in (way.mirror / "n1").iterdir()] == [REMOVED]
    (way.folder / "n1/sent.json").unlink()
    node.ship()
    counts = way.receive().counts
    assert (counts["written"], counts["refused"]) == (0, 0)
    assert counts["known"] > 5
    assert stored(sqlite_store, "n1") == told(node.spool.written)
    with sqlite_store.reading() as connection:
        assert connection.execute(select(func.count()).select_from(followed_file)).scalar_one() == len(files)


def test_a_number_of_a_deleted_file_says_nothing_of_another(tmp_path: Path, sqlite_store: Store) -> None:
    """The collector read a file of the same device and inode to a larger offset; this one it never saw."""
    (tmp_path / "n1").mkdir()
    file = tmp_path / "n1" / "processes-0a1b2c3d-000001.jsonl"
    lines = [line("n1", n) for n in range(30)]
    file.write_bytes(b"".join(lines))
    collected(sqlite_store, tmp_path)
    assert [old.is_collected for old in old_files(tmp_path, sqlite_store, 0)] == [True]
    for others in (lines[10:], lines[::-1]):
        file.write_bytes(b"".join(others))
        assert [old.is_collected for old in old_files(tmp_path, sqlite_store, 0)] == [False]
