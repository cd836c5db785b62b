"""What a report of programs asks of the room that knows the processes, under the entry point group `batchacct.program_figures`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from batchacct.config import Config
from batchacct.store import Store

FIGURES = "batchacct.program_figures"

Span = tuple[int, int]
"""Unix seconds, the end exclusive."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Processes that ended in a period, summed by one of `ProgramFigures.by`.

    `bins` are those that overlap the period, whole. `vo` are alternatives; `cluster` and `user` are names.
    """

    by: str
    period: Span
    bins: Sequence[Span] = ()
    vo: tuple[str, ...] = ()
    cluster: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Sums:
    """What processes come to: executions, the jobs and users they were of, seconds; executions of unknown CPU add nothing to it."""

    executions: int
    jobs: int
    users: int
    cpu_s: float
    elapsed_s: float
    cpu_unknown_executions: int


@dataclass(frozen=True, slots=True)
class Ran(Sums):
    """What ran of a program, or whatever it is summed by."""

    name: str


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of the whole period and of each bin, as far as it is in the period; all of one state of the database.

    `no_data`: the UTC days (Unix seconds of their midnight) of the period without any record of a process, nor of a loss, on the
    cluster that is asked about.
    """

    whole: Sequence[Ran]
    bins: Sequence[tuple[Span, Sequence[Ran]]]
    no_data: Sequence[int]
    notes: Sequence[str]


class ProgramFigures(Protocol):
    """Anything registered under `FIGURES`."""

    by: Sequence[str]
    overlapping: frozenset[str]
    """Those of `by` whose rows do not add up, as a process may be in several."""

    def ends(self, store: Store) -> Span | None:
        """When the first and the last process ended that is known; None if there is none.  Raises: StoreError."""

    def __call__(self, store: Store, config: Config, asked: Asked) -> Found:
        """Raises: ConfigError, StoreError, ArchiveError."""
