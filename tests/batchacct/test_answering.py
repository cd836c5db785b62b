"""What systemd hears of a daemon that answers in threads of its own."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from batchacct.answering import answer_until_told
from batchacct.notify import Notifier
from batchacct.signals import Signals


def test_who_takes_no_connections_any_more_is_not_said_to_live(tmp_path: Path) -> None:
    steps = iter([True, False, False])

    def accepts() -> bool:
        accepting = next(steps, None)
        if accepting is None:
            os.kill(os.getpid(), signal.SIGTERM)
        return bool(accepting)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening, Signals() as signals:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        answer_until_told(signals, Notifier(str(tmp_path / "notify"), watchdog_s=0.01), lambda: None, accepts)
        told = [listening.recv(4096) for _ in range(3)]
        assert told == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
