"""No room, no folder, no permission: it is said, nothing counts as done, and a later run with room does all of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchacct.errors import PublishError, StoreError
from tests.crash.conftest import MakeSite
from tests.crash.site import Outcome, Site
from tests.forks import Forks
from tests.pristine import with_schema

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


def mount(path: Path, size: str, how: str = "size") -> None:
    options = f"{how}={size}" if how == "size" else f"remount,size={size}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=False, capture_output=True).returncode:
        pytest.skip("may not mount")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount(path, "64k")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def make_larger(path: Path) -> None:
    mount(path, "64m", "remount")


@NEEDS_ROOT
def test_an_outgoing_folder_without_room(new_site: MakeSite, small: Path, uninterrupted: tuple[Outcome, float]) -> None:
    site = new_site(outgoing=small)
    status, told = site.run()
    assert status == PublishError.exit_code
    assert "The file system is full: make room" in told
    there, (confirmed, messages) = site.messages(), site.confirmed()
    assert confirmed == len(there) < messages
    make_larger(small)
    status, told = site.run("publish")
    assert status == 0, told
    assert there.items() <= site.messages().items()
    assert site.outcome() == uninterrupted[0]


@pytest.mark.parametrize("wrong", ["no parent", "a file"])
def test_an_outgoing_folder_that_is_none(new_site: MakeSite, uninterrupted: tuple[Outcome, float], wrong: str) -> None:
    site = new_site()
    in_place = site.outgoing
    hindered = in_place / "below" if wrong == "no parent" else in_place
    text = site.configuration.read_text()
    site.configuration.write_text(text.replace(f'path = "{in_place}"', f'path = "{hindered}"'))
    if wrong == "a file":
        in_place.write_text("in the way")
    status, told = site.run()
    assert (status, site.confirmed()[0]) == (PublishError.exit_code, 0), told
    assert site.confirmed()[1] > 10
    in_place.unlink(missing_ok=True)
    site.configuration.write_text(text)
    status, told = site.run("publish")
    assert status == 0, told
    assert site.outcome() == uninterrupted[0]


@NEEDS_ROOT
def test_a_database_without_room(tmp_path: Path, logs: Path, forks: Forks, uninterrupted: tuple[Outcome, float]) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount(folder, "900k")
    try:
        site = Site(tmp_path / "site", logs, f"sqlite:///{folder}/batchacct.db", forks, outgoing=tmp_path / "outgoing")
        status, told = site.run("collect")
        assert status == StoreError.exit_code
        assert "Traceback" not in told
        assert "full. Make room; nothing was lost, it goes on where it stopped" in told
        make_larger(folder)
        status, told = site.run()
        assert status == 0, told
        assert site.outcome() == uninterrupted[0]
        site.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@NEEDS_ROOT
def test_not_even_room_to_read_a_database(tmp_path: Path) -> None:
    """SQLite, which needs a file beside it for that, calls it an error of the disk."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount(folder, "4m")
    try:
        store = with_schema(f"sqlite:///{folder}/batchacct.db")
        with (folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(StoreError, match=r"disk I/O error\. If its disk is full, make room"):
            store.check()
        (folder / "ballast").unlink()
        store.check()
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
