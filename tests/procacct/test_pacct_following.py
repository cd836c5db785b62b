"""Following accounting files: those the kernel is writing, through every rotation; and what can go wrong of such records alone."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from batchacct.clock import unix_now
from batchacct.collector import Collector, Follower
from batchacct.parsing import Source
from batchacct.parsing.reading import read_blocks
from batchacct.store import Store
from batchacct.store.tables import followed_file, process, reject
from procacct.pacct import PARSER
from procacct.pacct_layout import decode
from tests.pristine import with_schema
from tests.procacct.accounted import Namespace, namespace
from tests.procacct.pacct_records import v3

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "samples" / "pacct"
CONFIGURATION = """\
site = "TEST-SITE"
[database]
url = "{url}"
[[source]]
name = "node01-acct"
parser = "pacct"
paths = ["{folder}/pacct"]
cluster = "c1"
host = "node01"
[[cluster]]
name = "c1"
"""


@dataclass
class Site:
    """A folder of accounting files and a store."""

    store: Store
    folder: Path
    follower: Follower
    ticks: float = 0.0

    def look(self) -> int:
        """Looks twice, a copy's patience apart; how many processes are known then."""
        for _ in range(2):
            done = self.follower.look()
            assert done.errors == []
            self.ticks += 61
        return len(self.stored())

    def stored(self) -> list[tuple[int, str, int]]:
        """Process id, command and place in its file of every process."""
        asked = select(process.c.pid, process.c.command, process.c.source_offset).where(process.c.superseded_by.is_(None))
        with self.store.reading() as connection:
            return [(pid, command, offset) for pid, command, offset in connection.execute(asked.order_by(process.c.id))]

    def offsets(self) -> list[int]:
        with self.store.reading() as connection:
            return list(connection.scalars(select(followed_file.c.offset)))


@pytest.fixture
def site(sqlite_store: Store, tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "account"
    folder.mkdir()
    collector = Collector(PARSER, Source("node01-acct", "SITE", "c1", host="node01"), (f"{folder}/pacct*",))
    ticking: list[Site] = []
    follower = Follower(sqlite_store, collector, unix_now, ticks=lambda: ticking[0].ticks)
    ticking.append(Site(sqlite_store, folder, follower))
    yield ticking[0]
    follower.close()


def whole(*units: bytes) -> list[int]:
    """Process ids of the records that are no partial ones."""
    return [record.pid or 0 for record in map(decode, units) if not record.is_partial]


def units_of(*paths: Path) -> list[bytes]:
    found = []
    for path in paths:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found += [data[at : at + 64] for at in range(0, len(data), 64)]
    return found


def test_a_file_that_begins_with_nul_begins_with_a_record(site: Site) -> None:
    """The first byte is the flags, which are 0 of most processes: NUL bytes at the beginning of a file are no hole here."""
    path = site.folder / "pacct"
    path.write_bytes(v3(pid=1) + v3(pid=2))
    assert site.look() == 2
    with path.open("ab") as stream:
        stream.write(v3(pid=3) + v3(pid=4)[:30])
    assert site.look() == 3
    with path.open("ab") as stream:
        stream.write(v3(pid=4)[30:])
    assert site.look() == 4
    assert [pid for pid, _, _ in site.stored()] == [1, 2, 3, 4]
    assert site.offsets() == [256]


def test_a_hole_ends_where_a_record_begins(site: Site) -> None:
    (site.folder / "pacct").write_bytes(bytes(64 * 100_000) + v3(pid=1) + v3(pid=2))
    assert site.look() == 2
    assert [offset for _, _, offset in site.stored()] == [6_400_000, 6_400_064]
    with site.store.reading() as connection:
        assert connection.execute(select(reject)).all() == []


def test_records_behind_a_torn_one_are_where_they_belong(tmp_path: Path) -> None:
    """What was taken as the end of a file once, and grows, goes on at the next multiple of 64."""
    path = tmp_path / "pacct"
    path.write_bytes(v3(pid=1) + v3(pid=2) + v3(pid=3) + v3(pid=4))
    with path.open("rb") as stream:
        stream.seek(100)
        blocks = list(read_blocks(stream, PARSER.framing, offset=100))
    assert [(block.offset, len(block.data)) for block in blocks] == [(100, 28), (128, 128)]
    with path.open("rb") as stream:
        stream.seek(250)
        assert [len(block.data) for block in read_blocks(stream, PARSER.framing, offset=250)] == [6]
        stream.seek(250)
        stream_of_4 = path.open("rb")
        stream_of_4.seek(250)
        path.write_bytes(path.read_bytes()[:254])
        assert list(read_blocks(stream_of_4, PARSER.framing, offset=250, final=False)) == []
        stream_of_4.close()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_record_costs_no_other(site: Site, suffix: str) -> None:
    data = b"".join(v3(pid=n, flags=0xFF if n == 40 else 0) for n in range(1, 100))
    (site.folder / "pacct").write_bytes(gzip.compress(data) if suffix else data)
    assert site.look() == 98
    with site.store.reading() as connection:
        (row,) = connection.execute(select(reject)).all()
    assert (row.source_offset, bytes(row.unit)) == (39 * 64, v3(pid=40, flags=0xFF))


@pytest.fixture
def accounted(site: Site) -> Iterator[Namespace]:
    with namespace() as shell:
        shell.run(f"cd {site.folder}; touch pacct; accton $PWD/pacct")
        yield shell


def some(count: int) -> str:
    return f"for i in {{1..{count}}}; do /bin/true; done"


def test_the_kernel_goes_on_in_a_renamed_file(site: Site, accounted: Namespace) -> None:
    """As logrotate and savelog do it: the kernel follows the inode until accounting is switched; then a new file, compressing."""
    current, first, second = (site.folder / name for name in ("pacct", "pacct.1", "pacct.2"))
    accounted.run(some(30))
    assert site.look() == 31, "with accton"
    current.rename(first)
    accounted.run(some(10))
    assert site.look() == 41
    current.touch()
    accounted.run(some(5))
    accounted.run("accton $PWD/pacct; " + some(20))
    assert site.look() == len(whole(*units_of(first, current))) == 41 + 5 + 21
    first.rename(second)
    second_gz = second.with_name("pacct.2.gz")
    second_gz.write_bytes(gzip.compress(second.read_bytes()))
    second.unlink()
    current.rename(first)
    current.touch()
    accounted.run("accton $PWD/pacct; " + some(7) + "; accton off")
    everything = units_of(second_gz, first, current)
    assert site.look() == len(whole(*everything))
    assert Counter(pid for pid, _, _ in site.stored()) == Counter(whole(*everything))
    assert Counter(command for _, command, _ in site.stored()) == {"true": 72, "accton": 3}
    assert len(everything) - len(whole(*everything)) == 3, "one partial record a switch"


def test_a_file_that_is_copied_and_truncated(site: Site, accounted: Namespace) -> None:
    current, first = site.folder / "pacct", site.folder / "pacct.1"
    accounted.run(some(40))
    shutil.copyfile(current, first)
    assert site.look() == 41
    os.truncate(current, 0)
    accounted.run(some(70) + "; accton off")
    assert site.look() == 41 + 70
    assert Counter(command for _, command, _ in site.stored()) == {"true": 110, "accton": 1}


def test_a_file_that_was_deleted_is_read_to_its_end(site: Site, accounted: Namespace) -> None:
    current = site.folder / "pacct"
    accounted.run(some(12))
    assert site.look() == 13
    current.unlink()
    accounted.run(some(8))
    current.touch()
    accounted.run("accton $PWD/pacct; " + some(3))
    site.follower.look()
    site.ticks += 61
    assert site.look() == 12 + 8 + 3 + 2


def test_killed_at_any_point_it_goes_on(tmp_path: Path, sqlite_url: str) -> None:
    """A collector as a process, killed again and again while the kernel writes: each record is there once, and none is missing."""
    configuration = tmp_path / "batchacct.toml"
    configuration.write_text(CONFIGURATION.format(url=sqlite_url, folder=tmp_path))
    store = with_schema(sqlite_url)

    def collect(crash_at: str | None = None) -> int:
        environment = {**os.environ, "BATCHACCT_CONFIG": str(configuration)}
        environment |= {"BATCHACCT_CRASH_AT": crash_at} if crash_at else {}
        command = [sys.executable, "-c", "from batchacct.cli import main; main()", "collect", "--once"]
        return subprocess.run(command, env=environment, check=False, capture_output=True, cwd=ROOT).returncode

    with namespace() as shell:
        shell.run(f"cd {tmp_path}; touch pacct; accton $PWD/pacct")
        points = ("append.before-commit", "append.after-commit", "follow.after-parse", "append.after-position")
        for number, point in enumerate(points):
            shell.run(some(20))
            assert collect(point) == -9, point
            if number == 1:
                (tmp_path / "pacct").rename(tmp_path / "pacct.1")
                (tmp_path / "pacct").touch()
                shell.run(some(5) + "; accton $PWD/pacct")
        shell.run("accton off")
    assert collect() == 0
    with store.reading() as connection:
        keys = list(connection.scalars(select(process.c.pid)))
    store.close()
    assert sorted(keys) == sorted(whole(*units_of(tmp_path / "pacct.1", tmp_path / "pacct")))
    assert len(keys) == 85 + 2, "of the last accton there is only the partial record"


def batchacct(configuration: Path, *arguments: object) -> str:
    """What a command says.  Raises: AssertionError if it fails."""
    command = [sys.executable, "-c", "from batchacct.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "BATCHACCT_CONFIG": str(configuration)}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_backfilled_and_traced(tmp_path: Path, sqlite_url: str) -> None:
    """Old files, compressed or not, are read once, whoever reads them; a record is found again by its place."""
    configuration = tmp_path / "batchacct.toml"
    configuration.write_text(CONFIGURATION.format(url=sqlite_url, folder=tmp_path))
    store = with_schema(sqlite_url)
    path = tmp_path / "pacct"
    path.write_bytes(b"".join(v3(pid=n) for n in range(1, 51)))
    (tmp_path / "pacct.1.gz").write_bytes(gzip.compress(b"".join(v3(pid=n, big=True) for n in range(100, 150))))
    batchacct(configuration, "backfill", "--source", "node01-acct", path, tmp_path / "pacct.1.gz")
    with path.open("ab") as stream:
        stream.write(v3(pid=51))
    batchacct(configuration, "collect", "--once")
    with store.reading() as connection:
        found = connection.execute(select(process.c.pid, process.c.host)).all()
    store.close()
    assert sorted(pid for pid, _ in found) == [*range(1, 52), *range(100, 150)]
    assert {host for _, host in found} == {"node01"}
    assert "read bytes 0 to 3264" in batchacct(configuration, "trace", "unit", path, 64)
    assert balanced(configuration)
    status = json.loads(batchacct(configuration, "status", "--json"))
    assert status["unread_bytes"] == {"node01-acct": 0}


def balanced(configuration: Path) -> bool:
    """Whether every record is as its unit says, as `audit` reads them all again."""
    audit = json.loads(batchacct(configuration, "audit", "--json", "--from", "2023-01-01", "--to", "2026-12-31"))
    compared: dict[str, int] = audit["reread"]["compared"]
    differing: dict[str, int] = audit["reread"]["differing"]
    assert compared["process"] > 0
    return bool(audit["balanced"]) and not any(differing.values())


def test_every_version_is_as_its_unit_says(tmp_path: Path, sqlite_url: str) -> None:
    """Also the records below version 3, in whose keys their places are, and those behind a damaged one."""
    configuration = tmp_path / "batchacct.toml"
    configuration.write_text(CONFIGURATION.format(url=sqlite_url, folder=tmp_path))
    store = with_schema(sqlite_url)
    every = b"".join(path.read_bytes() for path in sorted(SAMPLES.glob("*.bin")))
    (tmp_path / "pacct").write_bytes(every + v3(flags=0xFF) + every[-64 * 9 :])
    store.close()
    batchacct(configuration, "collect", "--once")
    assert balanced(configuration)


def test_parse_says_which_host(tmp_path: Path) -> None:
    (tmp_path / "pacct").write_bytes(v3(pid=5))
    command = [sys.executable, "-c", "from batchacct.cli import main; main()", "parse", "--parser", "pacct", "--host", "node07"]
    done = subprocess.run([*command, str(tmp_path / "pacct")], check=True, capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout)["host"] == "node07"
