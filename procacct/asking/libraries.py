"""What ran by the libraries it had loaded: sums of each set of shared objects, and then, for each object, of the sets it is in.

There are far fewer sets than runs of them. A database that joined each run's sums with the thirty or so objects of a set, to count
the runs of each object, had twenty million rows to sort for a million processes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Row, Select, select

from batchacct.program_figures import Sums
from batchacct.store.spans import Span
from batchacct.store.tables import object_
from procacct.asking.top_rows import TopRow

NO_LIBRARIES = "(libraries not known)"

Numbers = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Loaded:
    """What the processes with one set come to; `jobs` and `users` are numbers of them, which may come several times."""

    executions: int = 0
    cpu_s: float = 0.0
    elapsed_s: float = 0.0
    cpu_unknown: int = 0
    jobs: array[int] = field(default_factory=lambda: array("q"))
    users: array[int] = field(default_factory=lambda: array("q"))


def by_library(connection: Connection, by_run: Select[Any], told: Span) -> Iterator[TopRow]:
    """A row an object, of the sums by `object_set`, run and user; objects are those of the sets that were told of in `told`.

    However often a set was told of, it is one; what has none, or one that nobody told of, is under `NO_LIBRARIES`.
    """
    sets, jobs, users = _sums_of_sets(connection.execution_options(yield_per=10_000).execute(by_run))
    objects = _objects_of_sets(connection, told)
    in_sets: dict[str, list[str | None]] = {}
    for name in sets:
        for path in objects.get(name or "", (NO_LIBRARIES,)):
            in_sets.setdefault(path, []).append(name)
    count_jobs, count_users = (_Distinct(number) for number in (jobs, users))
    job_numbers, user_numbers = ({name: _distinct(getattr(of, what)) for name, of in sets.items()} for what in ("jobs", "users"))
    alike: dict[tuple[str | None, ...], Sums] = {}
    for path, names in in_sets.items():
        key = tuple(names)
        if key not in alike:
            of = [sets[name] for name in names]
            alike[key] = Sums(
                sum(one.executions for one in of),
                count_jobs.of([job_numbers[name] for name in names]),
                count_users.of([user_numbers[name] for name in names]),
                sum(one.cpu_s for one in of),
                sum(one.elapsed_s for one in of),
                sum(one.cpu_unknown for one in of),
            )
        yield TopRow(path, alike[key])


def _sums_of_sets(rows: Iterable[Row[Any]]) -> tuple[dict[str | None, _Loaded], int, int]:
    """What each set comes to, and how many jobs and users there are, which are numbered from 0."""
    sets: dict[str | None, _Loaded] = {}
    jobs: dict[int | str, int] = {}
    users: dict[str, int] = {}
    for row in rows:
        of = sets.get(row.object_set)
        if of is None:
            of = sets[row.object_set] = _Loaded()
        of.executions += int(row.executions)
        of.cpu_s += float(row.cpu_s)
        of.elapsed_s += float(row.elapsed_s)
        of.cpu_unknown += int(row.cpu_unknown)
        of.users.append(users.setdefault(row.who, len(users)))
        job = row.job_without_record if row.run_id is None else row.run_id
        if job is not None:
            of.jobs.append(jobs.setdefault(job, len(jobs)))
    return sets, len(jobs), len(users)


def _objects_of_sets(connection: Connection, told: Span) -> dict[str, list[str]]:
    asked = select(object_.c.object_set, object_.c.path).where(object_.c.superseded_by.is_(None), told.has(object_.c.seen_at))
    found: dict[str, list[str]] = {}
    for name, path in connection.execution_options(yield_per=10_000).execute(asked.distinct()):
        found.setdefault(name, []).append(path)
    return found


def _distinct(numbers: array[int]) -> Numbers:
    return np.unique(np.frombuffer(numbers, np.int64))


class _Distinct:
    """Counts the distinct ones of several lists of numbers below a bound, without sorting them."""

    def __init__(self, bound: int) -> None:
        self._seen_by = np.zeros(bound, np.int64)
        self._question = 0

    def of(self, lists: Sequence[Numbers]) -> int:
        """How many numbers are in any of the lists, in each of which they are distinct."""
        self._question += 1
        count = 0
        for numbers in lists:
            fresh = numbers[self._seen_by[numbers] != self._question]
            self._seen_by[fresh] = self._question
            count += len(fresh)
        return count
