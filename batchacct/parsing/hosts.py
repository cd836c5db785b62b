"""The host a log is of, where nothing else says it."""

from __future__ import annotations

import socket


def this_host() -> str:
    """The name of the host this is run on, as its kernel has it."""
    return socket.gethostname()
