"""A new configuration for a daemon that runs (SIGHUP): taken over, or refused in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from batchacct.errors import BatchacctError
from batchacct.notify import Notifier

log = logging.getLogger(__name__)


def reload(take_over: Callable[[], None], notifier: Notifier) -> None:
    """Calls `take_over`, which goes on by the configuration of now, or raises a BatchacctError and goes on as before."""
    notifier.reloading()
    try:
        take_over()
    except BatchacctError as error:
        log.error("the configuration stays as it was: %s. Mend it, then send SIGHUP again", error.message.rstrip("."))  # noqa: TRY400
    else:
        log.info("configuration read again")
    notifier.ready()


def tell_for_the_start(keys: list[str]) -> None:
    """Tells of keys that are not as they were when the daemon began, and cannot be changed while it runs."""
    if keys:
        log.warning("%s changed: that is for the next start; until then the former value holds", " and ".join(keys))
