"""What a sensor said of the process it is in, as far as it is believed.

The kernel vouches for pid, user and group alone (SCM_CREDENTIALS, unix(7)); everything else is the word of the process itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

START, END = 1, 2
RUSAGE_NAMES = ("user_us", "system_us", "resident_kib", "minor_faults", "major_faults", "in_blocks", "out_blocks")
BLOCK_BYTES = 512
"""Of ru_inblock and ru_oublock (getrusage(2))."""


@dataclass(slots=True)
class Told:
    """One message. Times are ns of CLOCK_MONOTONIC; `start_ns` is that of the program's start, in its end's message, too."""

    kind: int
    pid: int
    user_id: int
    group_id: int
    start_ns: int
    at_ns: int
    weight: int = 1
    parent_pid: int | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    """Columns of the row that it fills: program, arguments, environment, modules, build_id, signature, object_set."""
    variables: dict[str, str] = field(default_factory=dict)
    """Those of the batch systems and of MPI."""
    rusage: tuple[int, ...] | None = None
