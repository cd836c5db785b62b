"""Farms for tests of gaps: when jobs are submitted, how the batch system numbers them, and which never come into a log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchacct.ledger.holes import Bools, Ints

DAY = 86_400
HOUR = 3600
BEGIN = 1_789_344_000
"""2026-09-14 00:00Z, a Monday."""
PATTERNS = ("steady", "bursts", "nights off", "weekends off", "arrays of one user")


@dataclass(frozen=True, slots=True)
class Farm:
    """Jobs in the order of submission: their numbers, when they were submitted and logged, and which are logged at all."""

    numbers: Ints
    submitted: Ints
    logged: Ints
    is_logged: Bools
    run_s: int = 0
    """A typical run time."""

    @property
    def longest_s(self) -> int:
        return int((self.logged - self.submitted)[self.is_logged].max())


def farm(
    seed: int, *, days: int, jobs_a_day: int, pattern: str, never_logged: float = 0.0, run_h: float = 2.0, last_number: int = 10**9
) -> Farm:
    """A farm at work; `never_logged` of its jobs leave no trace, numbers begin at 1 again after `last_number`."""
    random = np.random.default_rng(seed)
    count = int(random.poisson(jobs_a_day * days))
    at = random.uniform(0, days * DAY, count)
    if pattern == "bursts":
        at = np.repeat(random.uniform(0, days * DAY, max(count // 40, 1)), 40)
    if pattern in {"nights off", "weekends off"}:
        at = at[(at % DAY > 7 * HOUR) & (at % DAY < 20 * HOUR)]
    if pattern == "weekends off":
        at = at[at // DAY % 7 < 5]
    if pattern == "arrays of one user":
        at = np.concatenate((at[::2], np.repeat(random.uniform(0, days * DAY, max(count // 1000, 1)), 500)))
    submitted = (np.sort(at) + BEGIN).astype(np.int64)
    first = int(random.integers(1, last_number // 2 + 1))
    numbers = (first + np.arange(len(submitted)) - 1) % last_number + 1
    waited = random.exponential(HOUR, len(submitted))
    ran = np.minimum(random.lognormal(np.log(run_h * HOUR), 1.0, len(submitted)), 10 * run_h * HOUR)
    is_logged = random.uniform(size=len(submitted)) >= never_logged
    return Farm(numbers.astype(np.int64), submitted, submitted + (waited + ran).astype(np.int64), is_logged, int(run_h * HOUR))
