"""Telling systemd: to a real datagram socket, as it would listen at one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchacct.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket, and the address of it in the environment."""
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        if request.param == "path":
            server.bind(name)
            address = name
        else:
            server.bind(f"\0{name}")
            address = f"@{name}"
        server.settimeout(30)
        yield server, address


def test_what_is_told(listening: tuple[socket.socket, str]) -> None:
    server, address = listening
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    notifier.ready()
    assert server.recv(4096) == b"READY=1"
    notifier.status("12 sources,\nlag 3 s in /log/\udcff")
    assert server.recv(4096) == b"STATUS=12 sources, lag 3 s in /log/?"
    notifier.watchdog()
    assert server.recv(4096) == b"WATCHDOG=1"
    notifier.stopping()
    assert server.recv(4096) == b"STOPPING=1"


def test_reloading_names_its_instant(listening: tuple[socket.socket, str]) -> None:
    server, address = listening
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier.from_environment({"NOTIFY_SOCKET": address}).reloading()
    first, second = server.recv(4096).decode("ascii").split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert before <= int(second.partition("=")[2]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative/path"])
def test_nothing_where_nobody_listens(address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"WATCHDOG_USEC": "10000000"} | ({} if address is None else {"NOTIFY_SOCKET": address})
    notifier = Notifier.from_environment(environment)
    assert notifier.watchdog_s is None
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("no socket is needed"))
    notifier.ready()


def test_a_listener_that_is_gone_is_no_error(
    listening: tuple[socket.socket, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "batchacct.notify")
    server, address = listening
    server.close()
    (tmp_path / "notify").unlink(missing_ok=True)
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.status("x" * 1_000_000)
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"]
    assert "systemd was not told" in caplog.text


def test_a_listener_that_does_not_read_holds_up_nothing(
    listening: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, address = listening
    monkeypatch.setattr("batchacct.notify.SEND_WITHIN_S", 0.01)
    limit = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text(encoding="ascii"))
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    for _ in range(limit + 5):
        notifier.watchdog()
    server.settimeout(0)
    told = 0
    with pytest.raises(BlockingIOError):
        while server.recv(4096) == b"WATCHDOG=1":
            told += 1
    assert 0 < told < limit + 5


@pytest.mark.parametrize(
    ("watchdog", "expected"),
    [
        ({"WATCHDOG_USEC": "120000000"}, 60.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_how_often_the_watchdog_wants_to_hear(watchdog: dict[str, str], expected: float | None) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "/run/systemd/notify", **watchdog}).watchdog_s == expected


def test_the_environment_of_the_process_is_the_default(
    listening: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, address = listening
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    notifier = Notifier.from_environment()
    notifier.ready()
    assert (server.recv(4096), notifier.watchdog_s) == (b"READY=1", 1.0)
