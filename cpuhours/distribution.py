"""The distribution of wall times: how many jobs ran how long, as a histogram that the database makes.

Bins are as wide as in 2012, by how long the longest job shown ran: under half an hour 10 s, under three hours 1 min, under a day
10 min, else 1 h. A bin holds its begin and not its end. The database is asked twice, for the longest job and for the histogram,
so that no more comes out of it than there are bins, however many jobs there are. Months in the archive are asked likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Double, Select, and_, case, cast, func, literal, not_, select, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from batchacct.store.spans import Period
from batchacct.store.tables import job
from batchacct.usage.asking import Source, rows_of
from batchacct.usage.bins import HOUR_S
from cpuhours.series_2012 import conditions_2012

BINS_S = ((HOUR_S // 2, 10), (3 * HOUR_S, 60), (24 * HOUR_S, 600))
"""Under how many seconds of the longest job a bin is how wide; longer ones have bins of an hour."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Jobs by wall time, in seconds (times host factor and factor where that was asked for).

    `jobs` is begin of a bin -> number of jobs, of bins that have any; `right_s` is where the last bin ends, and `beyond` how many
    jobs ran that long or longer. Left out are `unknown_cpu`, of unknown CPU time, as in 2012; of the others `without_factor`, which
    cannot be normalised, and `negative`, which ended before they started.
    """

    bin_s: int
    right_s: int
    jobs: Mapping[int, int]
    beyond: int = 0
    without_factor: int = 0
    negative: int = 0
    unknown_cpu: int = 0

    @property
    def total(self) -> int:
        """All jobs, those beyond the last bin as well."""
        return sum(self.jobs.values()) + self.beyond

    def cropped(self, crop_s: int) -> Distribution:
        """The same up to `crop_s`, rounded up to a whole bin."""
        right_s = min(self.right_s, _whole_bins(crop_s, self.bin_s))
        kept = {at: count for at, count in self.jobs.items() if at < right_s}
        beyond = self.total - sum(kept.values())
        return replace(self, right_s=right_s, jobs=kept, beyond=beyond)

    def cumulative(self) -> list[tuple[int, int]]:
        """The corners of the curve of how many jobs ran less than so many seconds, from (0, 0) to the right edge."""
        corners, reached = [(0, 0)], 0
        for at, count in sorted(self.jobs.items()):
            if at > corners[-1][0]:
                corners.append((at, reached))
            reached += count
            corners.append((at + self.bin_s, reached))
        return corners if corners[-1][0] == self.right_s else [*corners, (self.right_s, reached)]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Of which jobs: those that ended from `begin` to before `end` (Unix seconds) and fulfil `only`.

    `factor`: multiply each wall time by it and the host factor; None: seconds as they are.
    """

    begin: int
    end: int
    factor: float | None = None
    only: Sequence[ColumnElement[bool]] = field(default=())


def bins_for(longest_s: float, crop_s: int | None = None) -> tuple[int, int]:
    """Width of a bin and right edge of the last one, in seconds, for the longest job and where the picture is to end."""
    shown_s = longest_s if crop_s is None else min(longest_s, crop_s)
    whole_hours = (HOUR_S, (int(shown_s) // HOUR_S + 1) * HOUR_S)
    bin_s, right_s = next(((bin_s, under_s) for under_s, bin_s in BINS_S if shown_s < under_s), whole_hours)
    return bin_s, right_s if crop_s is None else min(right_s, _whole_bins(crop_s, bin_s))


def _whole_bins(seconds: int, bin_s: int) -> int:
    """Rounded up."""
    return -(-seconds // bin_s) * bin_s


def wall_times(source: Source, chosen: Chosen, crop_s: int | None = None) -> Distribution:
    """The distribution up to `crop_s` seconds, or of all.  Raises: StoreError, ArchiveError."""
    longest_s = 0.0
    left_out = [0, 0, 0]
    for most, *counts in rows_of(source, extent(chosen), chosen.begin, chosen.end):
        longest_s = max(longest_s, float(most or 0))
        left_out = [before + int(count or 0) for before, count in zip(left_out, counts, strict=True)]
    bin_s, right_s = bins_for(longest_s, crop_s)
    jobs: dict[int, int] = {}
    for number, count in rows_of(source, histogram(chosen, bin_s, right_s), chosen.begin, chosen.end):
        at = int(number) * bin_s
        jobs[at] = jobs.get(at, 0) + int(count)
    beyond = jobs.pop(right_s, 0)
    return Distribution(bin_s, right_s, dict(sorted(jobs.items())), beyond, *left_out)


def extent(chosen: Chosen) -> Callable[[Period], Select[Any]]:
    """The longest wall time; how many jobs have no host factor, ended before they started, are of unknown CPU time: one row."""

    def statement(period: Period) -> Select[Any]:
        measured, known = _measured(chosen, period)
        left_out = (and_(known, measured.is_(None)), and_(known, measured < 0), not_(known))
        counts: list[ColumnElement[Any]] = [cast(func.sum(case((one, 1), else_=0)), BigInteger) for one in left_out]
        return select(func.max(case((known, measured))), *counts)

    return statement


def histogram(chosen: Chosen, bin_s: int, right_s: int) -> Callable[[Period], Select[Any]]:
    """Number of a bin and of its jobs; what is at the right edge or beyond is in the bin that would begin there."""

    def statement(period: Period) -> Select[Any]:
        measured, known = _measured(chosen, period)
        shown = case((measured >= right_s, literal(right_s, measured.type)), else_=measured)
        number = shown // bin_s if chosen.factor is None else _Floor(shown / literal(float(bin_s), Double()))
        one = select(number.label("bin")).where(known, measured >= 0).subquery()
        return select(one.c.bin, func.count()).group_by(one.c.bin)

    return statement


def _measured(chosen: Chosen, period: Period) -> tuple[ColumnElement[Any], ColumnElement[bool]]:
    """Seconds of jobs, null where there is no host factor to multiply them by; and whether their CPU time is known."""
    seconds: ColumnElement[Any] = job.c.end_at - job.c.start_at
    if chosen.factor is not None:
        seconds = type_coerce(seconds, Double()) * job.c.host_factor * literal(chosen.factor, Double())
    conditions = conditions_2012(job.c.end_at, chosen.begin, chosen.end, chosen.only)
    columns = (seconds.label("measured"), job.c.cpu_duration_s.label("cpu"))
    jobs = select(*columns).where(*conditions, period.logged.has(job.c.logged_at)).subquery()
    return jobs.c.measured, jobs.c.cpu.is_not(None)


class _Floor(FunctionElement[float]):
    """The whole number below one that is not negative."""

    type = Double()
    inherit_cache = True
    name = "floor"


@compiles(_Floor)
def _floor(element: _Floor, compiler: Any, **words: Any) -> str:
    return f"FLOOR({compiler.process(element.clauses, **words)})"


@compiles(_Floor, "sqlite")
def _floor_sqlite(element: _Floor, compiler: Any, **words: Any) -> str:
    """SQLite has FLOOR since 3.35 only, and not in every build."""
    return f"CAST({compiler.process(element.clauses, **words)} AS INTEGER)"
