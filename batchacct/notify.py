"""What systemd is told of a daemon: that it is ready, what it does, that it lives (sd_notify(3)).

Twenty lines of a stable protocol, since no pure Python library of it is kept up: sdnotify's last release is of 2017.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Self

log = logging.getLogger(__name__)

SEND_WITHIN_S = 2.0


class Notifier:
    """Tells systemd of this process; does nothing where nobody listens. That a message cannot be sent is no error.

    `watchdog_s`: call `watchdog` at least this often, else systemd ends and restarts the daemon; None: it does not watch.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """By NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as systemd sets them."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls(None)
        return cls(address, _watchdog_s(environment))

    def ready(self) -> None:
        """It has started, or has read its configuration anew."""
        self._send("READY=1")

    def reloading(self) -> None:
        """It reads its configuration anew; `ready` says that this is done."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line that `systemctl status` shows."""
        self._send("STATUS=" + " ".join(text.splitlines()))

    def watchdog(self) -> None:
        """It lives, and gets on."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        place = os.fsencode(self._address)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_WITHIN_S)
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), b"\0" + place[1:] if place[:1] == b"@" else place)
        except OSError as error:
            log.debug("systemd was not told: %s", error)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Half the time within which systemd wants to hear of this process, if it is this one that is watched."""
    period, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not period.isdecimal() or int(period) == 0 or process not in ("", str(os.getpid())):
        return None
    return int(period) / 2_000_000
