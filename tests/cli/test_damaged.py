"""Compressed logs that are cut short or damaged: one rule for all that read them, and what a mended copy makes of it."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import random
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.backfill.folders import rows_in
from tests.cli.runner import Done
from tests.cli.site import Site, lsf

COUNT = 2500
CHANCE = random.Random(1)
LOG = b"".join(lsf(number, user=CHANCE.randbytes(190).hex().encode()) for number in range(1, COUNT + 1))
"""Of several blocks, and nothing that could be compressed much."""
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress,
}  # fmt: skip


def cut(whole: bytes) -> bytes:
    return whole[: len(whole) * 4 // 5]


def with_wrong_checksum(whole: bytes) -> bytes:
    return whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]


def damaged(whole: bytes) -> bytes:
    at = len(whole) * 4 // 5
    return whole[:at] + b"\xff" * 400 + whole[at + 400 :]


DAMAGES = [("gz", with_wrong_checksum), ("gz", damaged), *((kind, cut) for kind in COMPRESS)]
Damage = Callable[[bytes], bytes]


def told_byte(done: Done) -> str:
    """At which byte it is said to be damaged."""
    match = re.search(r"cannot be read to its end: it is (?:damaged|cut short) at byte ([0-9,]+) of its content", done.err)
    assert match is not None, done
    return match[1]


def in_force(site: Site) -> tuple[int, int]:
    """Jobs in force, and others."""
    with contextlib.closing(sqlite3.connect(site.folder / "batchacct.db")) as database:
        found = dict(database.execute("SELECT superseded_by IS NULL, count(*) FROM job GROUP BY 1").fetchall())
    return found.get(1, 0), found.get(0, 0)


def collect(site: Site, path: Path) -> Done:
    del path
    return site.run("collect", "--once")


def backfill(site: Site, path: Path) -> Done:
    return site.run("backfill", "--source", "lsf", "--workers", 1, path)


def to_folder(site: Site, path: Path) -> Done:
    return site.run("backfill", "--parser", "lsf", "--cluster", "lsf1", "--workers", 1, "--to", site.folder / "out", path)


@pytest.mark.parametrize(
    ("into_store", "kind", "damage"),
    [*((collect, *one) for one in DAMAGES), (backfill, "gz", with_wrong_checksum), (backfill, "xz", cut)],
)
def test_whoever_reads_it_takes_the_same(site: Site, kind: str, damage: Damage, into_store: Any) -> None:
    """What could be decoded, in whole lines; the byte is told, and what to do."""
    path = site.lsf_log.with_name(f"lsb.acct.1.{kind}")
    path.write_bytes(damage(COMPRESS[kind](LOG)))
    parsed = site.run("parse", "--parser", "lsf", path)
    stored = into_store(site, path)
    written = to_folder(site, path)
    assert (parsed.status, stored.status, written.status) == (10, 13, 13)
    assert told_byte(parsed) == told_byte(stored) == told_byte(written)
    count = parsed.output.count(b"\n")
    assert in_force(site) == (count, 0)
    assert len(rows_in(site.folder / "out")) == count
    assert count == COUNT if damage is with_wrong_checksum else COUNT // 2 < count < COUNT
    assert f"{count} records, 0 parts" in parsed.err
    if into_store is collect:
        assert f"WARNING: source lsf, last error (0 s ago): {path} cannot be read to its end" in site.run("status").out


@pytest.mark.parametrize(("kind", "damage"), DAMAGES[:4])
@pytest.mark.parametrize("into_store", [collect, backfill])
def test_a_mended_one_counts_once(site: Site, kind: str, damage: Damage, into_store: Any) -> None:
    path = site.lsf_log.with_name(f"lsb.acct.1.{kind}")
    whole = COMPRESS[kind](LOG)
    path.write_bytes(damage(whole))
    for _ in range(2):
        assert into_store(site, path).status == 13
    units = site.source("lsf")["units"]
    path.write_bytes(whole)
    for _ in range(2):
        done = into_store(site, path)
        assert done.status == 0, done
        assert in_force(site) == (COUNT, 0)
    assert site.status()["balanced"]
    source = site.source("lsf")
    assert (source["recorded"], source["known"]) == (COUNT, 0 if damage is cut else units), "it is read on, or again"


@pytest.mark.parametrize("again", [collect, backfill])
def test_what_was_wrong_in_a_damaged_one_is_corrected(site: Site, again: Any) -> None:
    """A digit is wrong, which only the checksum at the end tells."""
    path = site.lsf_log.with_name("lsb.acct.1.gz")
    whole = gzip.compress(LOG, 0)
    at = whole.index(b" 590.0 ", len(whole) // 2)
    path.write_bytes(whole[:at] + b" 591.0 " + whole[at + 7 :])
    for _ in range(2):
        assert collect(site, path).status == to_folder(site, path).status == 13
    assert in_force(site) == (COUNT, 0)
    path.write_bytes(whole)
    assert again(site, path).status == to_folder(site, path).status == 0
    assert in_force(site) == (COUNT, 1)
    (wrong,) = [row for row in rows_in(site.folder / "out") if row["superseded_by"] is not None]
    assert wrong["cpu_user_s"] == 591.0
    assert collect(site, path).status == 0
    assert in_force(site) == (COUNT, 1)


def test_a_damaged_copy_of_what_was_read_is_told_and_changes_nothing(site: Site) -> None:
    site.lsf_log.write_bytes(LOG)
    assert collect(site, site.lsf_log).status == 0
    copy = site.lsf_log.with_name("lsb.acct.1.gz")
    copy.write_bytes(with_wrong_checksum(gzip.compress(LOG)))
    for _ in range(2):
        done = collect(site, copy)
        assert done.status == 13
        assert told_byte(done) == f"{len(LOG):,}"
    copy.unlink()
    assert collect(site, site.lsf_log).status == 0
    assert (site.source("lsf")["units"], in_force(site)) == (COUNT, (COUNT, 0))


def test_parts_before_the_damage_become_records(site: Site) -> None:
    """`parse` of one file alone, too."""
    log = b"".join(Path("tests/samples/pbs/gratia-torque-2006.log").read_bytes().splitlines(keepends=True)[:200])
    path = site.folder / "20060607.gz"
    path.write_bytes(gzip.compress(log))
    whole = site.run("parse", "--parser", "pbs", path)
    path.write_bytes(with_wrong_checksum(gzip.compress(log)))
    done = site.run("parse", "--parser", "pbs", path)
    assert done.status == 10
    assert done.output == whole.output != b""
