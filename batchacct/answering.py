"""The main thread of a daemon that answers in threads of its own: it waits for signals, and tells systemd."""

from __future__ import annotations

import logging
from collections.abc import Callable

from batchacct.notify import Notifier
from batchacct.signals import END, Signals

log = logging.getLogger(__name__)

TICK_S = 60.0


def answer_until_told(signals: Signals, notifier: Notifier, read_again: Callable[[], None], accepts: Callable[[], bool]) -> None:
    """Until SIGTERM or SIGINT; SIGHUP has the configuration read again by `read_again`, which raises nothing.

    systemd hears that the daemon lives as long as `accepts`: while the thread that takes connections runs.
    """
    tick_s = min(TICK_S, notifier.watchdog_s or TICK_S)
    notifier.ready()
    while (number := signals.wait(tick_s)) not in END:
        if number is not None:
            notifier.reloading()
            read_again()
            notifier.ready()
        if accepts():
            notifier.watchdog()
        else:
            log.error("nobody is answered any more: start it anew, if systemd does not")
    log.info("told to end")
    notifier.stopping()
