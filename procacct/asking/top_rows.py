"""Rows of what ran most: what each thing comes to, and the order they are shown in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from batchacct.errors import ConfigError
from batchacct.program_figures import Sums

SORTS = ("cpu", "executions", "elapsed", "jobs", "users")


@dataclass(frozen=True, slots=True)
class TopRow:
    """One program, or whatever is asked by, and what ran of it."""

    name: str
    sums: Sums


def ordered(rows: Iterable[TopRow], sort: str) -> list[TopRow]:
    """The most of one of `SORTS` first.  Raises: ConfigError."""
    if sort not in SORTS:
        raise ConfigError(f"what ran is sorted by {', '.join(SORTS)}, not by {sort!r}")
    measure = _MEASURE[sort]
    return sorted(rows, key=lambda row: (-measure(row.sums), row.name))


_MEASURE: Mapping[str, Callable[[Sums], float]] = {
    "cpu": lambda sums: sums.cpu_s,
    "executions": lambda sums: sums.executions,
    "elapsed": lambda sums: sums.elapsed_s,
    "jobs": lambda sums: sums.jobs,
    "users": lambda sums: sums.users,
}
