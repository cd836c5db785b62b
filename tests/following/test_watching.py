"""Waiting for changes: with the real inotify, its queue overflown, its limits reached, its folders unmounted; and by polling."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchacct.following import watching
from batchacct.following.file_systems import kind_of, kind_of_mount, mount_id, sees_every_change
from batchacct.following.watching import Watch
from tests.scripts_2012 import PATIENCE_S, ROOT, until

NOTHING: set[str] = set()
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of logs with one log in it."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "acct").write_bytes(b"1\n")
    (tmp_path / "elsewhere").mkdir()
    return logs


@contextlib.contextmanager
def watched(*folders: Path | str, how: str = "inotify", poll_interval_s: float = PATIENCE_S) -> Iterator[Watch]:
    """A watch on folders, past the look that each of them makes due; inotify is told, as these may lie on an overlay."""
    with Watch(how, poll_interval_s) as watch:  # type: ignore[arg-type]
        watch.follow([str(f) for f in folders])
        if not polled(watch):
            assert told(watch, 0) is None, "nobody has seen what changed before it was watched"
            assert told(watch, 0) == NOTHING
        yield watch


def told(watch: Watch, timeout_s: float = PATIENCE_S) -> set[str] | None:
    paths = watch.wait(timeout_s)
    return None if paths is None else set(paths)


def polled(watch: Watch) -> list[str]:
    return list(watch.polled)


def drain(watch: Watch) -> None:
    while told(watch, 0) != NOTHING:
        pass


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def append(path: Path, text: bytes = b"line\n") -> None:
    with path.open("ab") as file:
        file.write(text)


def test_a_file_that_is_written_to_is_named(folder: Path) -> None:
    with watched(folder) as watch:
        assert polled(watch) == []
        append(folder / "acct")
        assert told(watch) == {f"{folder}/acct"}
        assert told(watch, 0) == NOTHING


def test_a_file_that_stays_open_is_named_with_each_write(folder: Path) -> None:
    with watched(folder) as watch, (folder / "acct").open("ab", buffering=0) as writer:
        for _ in range(3):
            writer.write(b"piece")
            assert told(watch) == {f"{folder}/acct"}


def test_a_file_written_through_memory_is_named_once_it_is_closed(folder: Path) -> None:
    with watched(folder) as watch:
        with (folder / "acct").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[0:1] = b"2"
        assert told(watch) == {f"{folder}/acct"}


def test_a_burst_is_told_at_once(folder: Path) -> None:
    (folder / "other").touch()
    with watched(folder) as watch:
        for _ in range(500):
            append(folder / "acct")
            append(folder / "other")
        assert told(watch) == {f"{folder}/acct", f"{folder}/other"}
        assert told(watch, 0) == NOTHING


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: (f / "new").touch(), id="created"),
        pytest.param(lambda f: (f / "acct").rename(f / "acct.1"), id="renamed"),
        pytest.param(lambda f: (f / "acct").rename(f.parent / "elsewhere" / "acct"), id="moved-out"),
        pytest.param(lambda f: (f.parent / "coming").rename(f / "acct"), id="replaced"),
        pytest.param(lambda f: (f / "acct").unlink(), id="deleted"),
        pytest.param(lambda f: (f / "acct").chmod(0o600), id="permissions"),
        pytest.param(lambda f: f.chmod(0o700), id="permissions-of-the-folder"),
        pytest.param(lambda f: (f / "link.new").rename(f / "link"), id="link-switched"),
        pytest.param(lambda f: (f / "folder").mkdir(), id="folder-created"),
        pytest.param(lambda f: (f / "empty").rmdir(), id="folder-deleted"),
    ],
)
def test_what_is_not_writing_may_be_anything(folder: Path, change: Callable[[Path], object]) -> None:
    (folder.parent / "coming").write_bytes(b"2\n")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("acct")
    (folder / "link.new").symlink_to("acct.2")
    with watched(folder) as watch:
        change(folder)
        assert told(watch) is None
        append(folder / "acct")
        drain(watch)
        append(folder / "acct")
        assert told(watch) == {f"{folder}/acct"}


def test_a_file_cut_in_place_is_named(folder: Path) -> None:
    with watched(folder) as watch:
        os.truncate(folder / "acct", 0)
        assert told(watch) == {f"{folder}/acct"}


def test_reading_is_no_change(folder: Path) -> None:
    with watched(folder) as watch:
        (folder / "acct").read_bytes()
        list(folder.iterdir())
        assert told(watch, 0.05) == NOTHING


def test_the_wait_ends_in_time(folder: Path) -> None:
    with watched(folder) as watch:
        began = time.monotonic()
        assert told(watch, 0.2) == NOTHING
        assert 0.2 <= time.monotonic() - began < PATIENCE_S / 2


def test_waiting_costs_no_processor_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CHECK_S", 0.2)
    with watched(folder, folder.parent / "missing") as watch:
        assert told(watch, 0) is None
        spent = time.thread_time()
        assert told(watch, 1.0) == NOTHING
        assert time.thread_time() - spent < 0.1, "it goes round and round"


def test_folders_are_named_as_they_were_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with watched(str(folder), f"{folder}/../logs", ".", "") as watch:
        append(folder / "acct")
        assert told(watch) == {f"{folder}/acct", f"{folder}/../logs/acct", "./acct", "acct"}
        watch.follow(["."])
        append(folder / "acct")
        assert told(watch) == {"./acct"}


def test_a_name_that_is_no_text_is_spelled_as_python_does(folder: Path) -> None:
    strange = os.fsdecode(b"acct-\xff")
    (folder / strange).touch()
    with watched(folder) as watch:
        append(folder / strange)
        assert told(watch) == {f"{folder}/{strange}"}


def kernel_watches() -> int:
    """How many watches this process has."""
    count = 0
    for about in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += about.read_text(encoding="ascii").count("inotify wd:")
    return count


def test_other_folders_are_of_no_concern(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    before = kernel_watches()
    with watched(folder) as watch:
        append(elsewhere / "acct")
        assert told(watch, 0) == NOTHING
        watch.follow([str(elsewhere)])
        assert told(watch, 0) is None
        append(folder / "acct")
        assert told(watch, 0) == NOTHING
        append(elsewhere / "acct")
        assert told(watch) == {f"{elsewhere}/acct"}
        assert kernel_watches() == before + 1


def test_following_the_same_again_makes_nothing_due(folder: Path) -> None:
    with watched(folder) as watch:
        watch.follow([str(folder)])
        assert told(watch, 0) == NOTHING


def test_an_overflown_queue_may_be_anything(folder: Path) -> None:
    """The kernel joins equal events that follow each other, so two files take turns."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    with watched(folder) as watch:
        (folder / "other").touch()
        drain(watch)
        with (folder / "acct").open("ab", buffering=0) as one, (folder / "other").open("ab", buffering=0) as other:
            for _ in range(limit // 2 + 10):
                one.write(b"x")
                other.write(b"x")
            assert told(watch) is None
            drain(watch)
            one.write(b"x")
            assert told(watch) == {f"{folder}/acct"}


def test_woken_by_another_thread(folder: Path) -> None:
    with watched(folder) as watch:
        waker = threading.Timer(0.05, watch.wake)
        waker.start()
        began = time.monotonic()
        assert told(watch) == NOTHING
        assert time.monotonic() - began < PATIENCE_S / 2
        waker.join()


def test_woken_before_it_waits_and_only_once(folder: Path) -> None:
    with watched(folder) as watch:
        watch.wake()
        watch.wake()
        assert told(watch) == NOTHING
        append(folder / "acct")
        watch.wake()
        assert told(watch) == {f"{folder}/acct"}
        began = time.monotonic()
        assert told(watch, 0.1) == NOTHING
        assert time.monotonic() - began >= 0.1


def test_closing_frees_everything_and_waking_is_harmless_then(folder: Path) -> None:
    before = open_files()
    with watched(folder) as watch:
        assert len(open_files()) == len(before) + 2
    assert open_files() == before
    watch.wake()
    watch.close()


def test_polling_by_choice(folder: Path) -> None:
    with watched(folder, how="poll", poll_interval_s=0.2) as watch:
        assert polled(watch) == [str(folder)]
        assert told(watch, 0) is None, "it was never looked at"
        append(folder / "acct")
        began = time.monotonic()
        assert told(watch) is None
        assert time.monotonic() - began >= 0.2
        assert told(watch, 0.05) == NOTHING
        assert told(watch) is None


def test_a_busy_folder_does_not_keep_a_polled_one_waiting(folder: Path) -> None:
    with watched(folder, folder.parent / "missing", poll_interval_s=0.3) as watch:
        assert polled(watch) == [f"{folder.parent}/missing"]
        assert told(watch, 0) is None
        append(folder / "acct")
        assert told(watch) == {f"{folder}/acct"}

        def anything() -> bool:
            append(folder / "acct")
            return told(watch) is None

        until(anything)


def test_a_folder_vanishes_and_comes_back(folder: Path) -> None:
    with watched(folder, poll_interval_s=0.05) as watch:
        shutil.rmtree(folder)
        until(lambda: told(watch) is None and polled(watch) == [str(folder)])
        watch.follow([str(folder)])
        assert polled(watch) == [str(folder)]
        folder.mkdir()
        assert told(watch) is None
        watch.follow([str(folder)])
        assert polled(watch) == []
        assert told(watch, 0) is None
        append(folder / "acct")
        drain(watch)
        append(folder / "acct")
        assert told(watch) == {f"{folder}/acct"}


def test_another_folder_takes_the_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CHECK_S", PATIENCE_S)
    with watched(folder) as watch:
        folder.rename(folder.parent / "old")
        folder.mkdir()
        assert told(watch) is None
        watch.follow([str(folder)])
        assert told(watch, 0) is None
        append(folder.parent / "old" / "acct")
        assert told(watch, 0) == NOTHING
        (folder / "acct").touch()
        assert told(watch) is None


@pytest.mark.parametrize("what", ["folder-above-renamed", "link-switched"])
def test_a_path_that_leads_elsewhere_is_noticed(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No event tells of it: the folder that is watched did not change."""
    monkeypatch.setattr(watching, "CHECK_S", 0.05)
    (tmp_path / "above/logs").mkdir(parents=True)
    (tmp_path / "other/logs").mkdir(parents=True)
    (tmp_path / "work").symlink_to("above")
    folder = tmp_path / ("work" if what == "link-switched" else "above") / "logs"
    with watched(folder) as watch:
        assert told(watch, 0.2) == NOTHING
        if what == "link-switched":
            (tmp_path / "new").symlink_to("other")
            (tmp_path / "new").rename(tmp_path / "work")
        else:
            (tmp_path / "above").rename(tmp_path / "old")
            (tmp_path / "other").rename(tmp_path / "above")
        assert told(watch) is None
        assert polled(watch) == [str(folder)]
        watch.follow([str(folder)])
        assert (polled(watch), told(watch, 0)) == ([], None)
        (folder / "acct").touch()
        assert told(watch) is None


@contextlib.contextmanager
def mounted(folder: Path, *options: str, pass_fds: tuple[int, ...] = ()) -> Iterator[None]:
    subprocess.run(["mount", "-i", *options, str(folder)], check=True, pass_fds=pass_fds)
    try:
        yield
    finally:
        if folder.is_mount():
            subprocess.run(["umount", "-l", str(folder)], check=True)


@is_root
def test_an_unmounted_folder_is_polled(folder: Path) -> None:
    with mounted(folder, "-t", "tmpfs", "tmpfs"), watched(folder) as watch:
        assert polled(watch) == []
        subprocess.run(["umount", str(folder)], check=True)
        assert told(watch) is None
        assert polled(watch) == [str(folder)]
        watch.follow([str(folder)])
        assert (polled(watch), told(watch, 0)) == ([], None)
        append(folder / "acct")
        assert told(watch) == {f"{folder}/acct"}


@is_root
def test_something_is_mounted_over_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the collector starts before the file system of the logs is mounted."""
    monkeypatch.setattr(watching, "CHECK_S", 0.05)
    with watched(folder) as watch, mounted(folder, "-t", "tmpfs", "tmpfs"):
        assert told(watch) is None
        watch.follow([str(folder)])
        assert (polled(watch), told(watch, 0)) == ([], None)
        (folder / "new").touch()
        assert told(watch) is None
        watch.follow([])


# The limits of the kernel, each in a process of its own: that of instances and watches in a user namespace of its own, too.

LIMITED = """
import logging, os, resource, sys
from batchacct.following.watching import Watch
logging.basicConfig(format="%(levelname)s %(message)s")
limit, folders = sys.argv[1], sys.argv[2:]
with Watch("inotify", 0.05) as watch:
    if limit == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), 4096))
    else:
        open(f"/proc/sys/user/{limit}", "w").write("1" if limit.endswith("watches") else "0")
    for _ in range(3):
        watch.follow(folders)
        watch.wait(0)
        print("told" if watch.wait(10) is None else "nothing", len(watch.polled))
    if limit == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    else:
        open(f"/proc/sys/user/{limit}", "w").write("100")
    watch.follow(folders)
    print(len(watch.polled))
"""


def limited(limit: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """As little else as a daemon may have: no PATH, no folder for temporary files."""
    command = [sys.executable, "-c", LIMITED, limit, *map(str, folders)]
    if limit != "files":
        own_user = ["unshare", "--user", "--map-root-user"]
        if subprocess.run([*own_user, "true"], check=False, capture_output=True).returncode:
            pytest.skip("user namespaces are switched off here")
        command = own_user + command
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": "/nonexistent"}
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("limit", "count", "raise_it"),
    [
        ("max_inotify_instances", 2, "fs.inotify.max_user_instances"),
        ("max_inotify_watches", 1, "fs.inotify.max_user_watches"),
        ("files", 2, "LimitNOFILE="),
    ],
)
def test_what_the_kernel_refuses_is_polled_and_said_once(folder: Path, limit: str, count: int, raise_it: str) -> None:
    done = limited(limit, folder, folder.parent / "elsewhere")
    assert done.stdout.split("\n") == [f"told {count}"] * 3 + ["0", ""]
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("WARNING folders are polled") and raise_it in warning


# Which file systems see every change.

MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
36 27 0:40 / /nfs/a\\040b rw,relatime shared:90 master:3 - nfs4 server:/a - rw,vers=4.2
227 27 0:41 /logs /spool rw propagate_from:2 - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("number", "kind"), [(22, "proc"), (27, "ext4"), (36, "nfs4"), (227, "xfs"), (2, "unknown"), (7, "unknown")]
)
def test_the_kind_of_a_mount(number: int, kind: str) -> None:
    assert kind_of_mount(MOUNTINFO, number) == kind


def test_the_mount_of_an_open_file() -> None:
    assert mount_id("pos:\t0\nflags:\t012200000\nmnt_id:\t27\nino:\t260072\n") == 27
    with Path("/proc/self/mountinfo").open("rb") as file:
        assert kind_of(file.fileno()) == "proc"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs"])
def test_local_file_systems_are_watched(kind: str) -> None:
    assert sees_every_change(kind)


HIDING = (
    "nfs nfs4 cifs smb3 afs fuse fuse.sshfs fuse.glusterfs fuseblk lustre gpfs ceph beegfs 9p virtiofs overlay autofs ocfs2 gfs2 "
    "unknown not-yet-invented"
)


@pytest.mark.parametrize("kind", HIDING.split())
def test_whatever_may_hide_changes_is_polled(kind: str) -> None:
    assert not sees_every_change(kind)


@is_root
def test_a_server_that_does_not_answer_holds_up_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file system in user space whose server says nothing, as NFS without its server."""
    caplog.set_level(logging.INFO)
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no file systems in user space here: {error}")
    (folder / "acct").unlink()
    try:
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
        subprocess.run(["mount", "-i", "-t", "fuse.silent", "-o", options, "silent", folder], check=True, pass_fds=[server])
        try:
            with watched(folder, how="auto", poll_interval_s=0.05) as watch:
                assert polled(watch) == [str(folder)]
                assert told(watch, 0) is None
                assert told(watch) is None
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        os.close(server)
    assert f"folder={folder} is polled: on fuse.silent not every change is seen" in caplog.text


@is_root
def test_an_overlay_is_polled_unless_the_configuration_says_otherwise(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = folder.parent / "base"
    base.mkdir()
    with mounted(base, "-t", "tmpfs", "tmpfs"):
        layers = [base / name for name in ("lower", "upper", "work")]
        for layer in layers:
            layer.mkdir()
        options = "lowerdir={},upperdir={},workdir={}".format(*layers)
        with mounted(folder, "-t", "overlay", "-o", options, "overlay"):
            (folder / "acct").touch()
            with watched(folder, how="auto") as watch:
                assert polled(watch) == [str(folder)]
            monkeypatch.setattr(watching, "DOUBTFUL_S", 0.1)
            with watched(folder, how="inotify") as watch:
                assert polled(watch) == []
                append(folder / "acct")
                assert told(watch) == {f"{folder}/acct"}
                assert told(watch) is None, "and everything is looked at now and then"
                watch.follow([])
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == f"folder={folder} is watched as configured: on overlay what other hosts write is seen late"
