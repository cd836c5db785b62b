"""Signals as something to wait for, in the main thread of a daemon.

Their numbers come through a pipe that the interpreter itself writes to: no Python code runs in the midst of other code, and no
signal is blocked, which a child process (`sacct`) would inherit.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import Self

END = frozenset({signal.SIGTERM, signal.SIGINT})
AWAITED = (*END, signal.SIGHUP)


class Signals:
    """While it is entered, SIGTERM, SIGINT and SIGHUP do nothing but being waited for."""

    def __enter__(self) -> Self:
        self._told, self._tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers = {number: signal.signal(number, _nothing) for number in AWAITED}
        self._descriptor = signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._descriptor)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._told)
        os.close(self._tell)

    def wait(self, within_s: float) -> signal.Signals | None:
        """The next one, as soon as it is there; None if there is none in this time."""
        ready, _, _ = select.select([self._told], [], [], within_s)
        while ready:
            try:
                number = os.read(self._told, 1)[0]
            except BlockingIOError:
                return None
            if number in AWAITED:
                return signal.Signals(number)
        return None


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass
