"""Named places at which a test may kill the process, to prove that a restart makes everything right.

`BATCHACCT_CRASH_AT=append.before-commit:3` kills the process (SIGKILL) the third time it comes there; unset, a crash point does
nothing.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Dies here if the environment asks for it."""
    wanted = os.environ.get("BATCHACCT_CRASH_AT")
    if not wanted:
        return
    place, _, times = wanted.partition(":")
    if place == name:
        _passed[name] += 1
        if _passed[name] == int(times or 1):
            os.kill(os.getpid(), signal.SIGKILL)
