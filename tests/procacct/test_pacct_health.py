"""Whether accounting is written at all: the kernel pauses it where space is short, which nothing but its log tells."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from batchacct.clock import unix_now
from batchacct.collector import Collector, collect_once
from batchacct.parsing import Source
from batchacct.store import Store
from batchacct.store.tables import source_state
from procacct.pacct import PARSER
from procacct.pacct_health import Limits, Space, told, trouble
from tests.procacct.accounted import namespace
from tests.procacct.gnu_acct import missing
from tests.procacct.pacct_records import v3

LIMITS = Limits(resume=4, suspend=2, every_s=30)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        missing("mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, percent_free: float) -> None:
    """Leaves so much of a file system free."""
    state = os.statvfs(folder)
    count = state.f_bavail - int(state.f_blocks * percent_free / 100)
    (folder / "ballast").write_bytes(bytes(count * state.f_frsize))


PAUSED, NEAR = "the kernel has paused", "process accounting into"


@pytest.mark.parametrize(("available", "beginning"), [(0, PAUSED), (200, PAUSED), (201, NEAR), (400, NEAR), (401, None)])
def test_the_kernels_limits(available: int, beginning: str | None) -> None:
    message = told("/var/account/pacct", Space(10_000, available), LIMITS)
    assert message is None if beginning is None else message is not None and message.startswith(beginning)
    if message is not None:
        assert "/proc/sys/kernel/acct" in message
        assert "Free some space" in message


def test_a_host_without_accounting(tmp_path: Path) -> None:
    path = tmp_path / "pacct"
    path.touch()
    assert "has no process accounting" in (trouble(str(path), tmp_path / "acct") or "")
    (tmp_path / "acct").write_text("what is this")
    assert "cannot be read" in (trouble(str(path), tmp_path / "acct") or "")
    (tmp_path / "acct").write_text("4\t2\t30\n")
    assert "cannot be read" not in (trouble(str(path), tmp_path / "acct") or "")
    assert trouble(str(tmp_path / "nowhere"), tmp_path / "acct") is None


def test_the_kernel_does_pause_where_this_says_so(small: Path) -> None:
    """Truth by the kernel: where free space is told to be too little it writes nothing, elsewhere it does."""
    path = small / "pacct"
    path.touch()
    assert trouble(str(path)) is None
    with namespace() as shell:
        shell.run(f"accton {path}; /bin/true; accton off")
        before = path.stat().st_size
        assert before == 3 * 64
        fill(small, 1)
        assert (trouble(str(path)) or "").startswith("the kernel has paused")
        shell.run(f"accton {path}; /bin/true; /bin/true; accton off")
        assert path.stat().st_size == before


def test_a_collector_warns(small: Path, sqlite_store: Store) -> None:
    path = small / "pacct"
    path.write_bytes(v3())
    here = Collector(PARSER, Source("acct", "SITE", "c1"), (str(path),))
    assert collect_once(sqlite_store, here, unix_now).warnings == []
    fill(small, 1)
    (warning,) = collect_once(sqlite_store, here, unix_now).warnings
    assert f"paused process accounting into {path}" in warning
    with sqlite_store.reading() as connection:
        assert connection.scalar(select(source_state.c.warning)) == warning
    elsewhere = Collector(PARSER, Source("other", "SITE", "c1", host="node07.example.org"), (str(path),))
    assert collect_once(sqlite_store, elsewhere, unix_now).warnings == [], "it is another host that has to have space"
