"""What `batchacct report` tells: usage by group and bin, with what is not in the figures.

A bin of which nothing is known is a row without figures, never one of zeros. `cpuhours.showing` prints it, `cpuhours.drawing`
draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from batchacct.clock import shown
from batchacct.config_reports import Capacity, Energy
from batchacct.errors import ConfigError, IncompleteError
from batchacct.store import Store
from cpuhours.figures import Figures, StoreFigures
from cpuhours.gathering import days_of, gather, offered, total_of, with_groups
from cpuhours.notes import notes_of
from cpuhours.query import Gaps
from cpuhours.question import TIMES, Question, heading, hyphened, of_text
from cpuhours.spans import bin_begin, bins_between, period_text
from cpuhours.top import Others, keep_top
from cpuhours.validity import without_days


@dataclass(frozen=True)
class Report:
    """The answer: rows of figures, their sum, those of the period before if compared, days without records, and notes.

    `usage` has the columns of `question.keys` (`bin` in Unix seconds) and those of `gathering.gather`. `names`: the groups, largest
    first. Groups of the period before have rows in both, and `before` is NaN if nothing is known of that period. `capacity` is
    without the days of which nothing is known.
    """

    question: Question
    period: tuple[int, int]
    names: list[str]
    usage: pd.DataFrame
    total: pd.DataFrame
    before: pd.DataFrame | None
    others: Others | None
    gaps: Gaps
    notes: tuple[str, ...]
    capacity: tuple[Capacity, ...] = ()

    @cached_property
    def bins(self) -> list[tuple[int, int]]:
        """All bins that overlap the period; empty where rows are not by bin."""
        question = self.question
        return bins_between(question.size, question.zone, *self.period) if question.size else []

    @cached_property
    def no_data(self) -> set[int]:
        """Begins of the bins of which nothing is known: no job is in them, and they touch a day without any record."""
        known = set(self.usage["bin"]) if self.question.size else set()
        missing = set(self.gaps.days)
        empty = [(begin, end) for begin, end in self.bins if begin not in known]
        return {begin for begin, end in empty if not missing.isdisjoint(days_of(begin, end))}

    @property
    def title(self) -> str:
        question = self.question
        of = f" of {of_text(question.where)}" if question.where else ""
        by = heading(question.by) + (f" and {question.bins}" if question.bins else "")
        return f"Usage{of} by {by}, {self.days_text}"

    @property
    def days_text(self) -> str:
        """`2026-11-01 to 2026-11-30`, days of the zone; with a time of day where the period does not begin or end with a day."""
        return period_text(*self.period, self.question.zone)


def make_report(
    store: Store | Figures,
    question: Question,
    *,
    capacity: Sequence[Capacity] = (),
    energy: Sequence[Energy] = (),
    with_notes: bool = True,
) -> Report:
    """Asks the store, or who else has figures; `with_notes`: for the notes, too, which may take as long as the rest.

    Raises: ConfigError, StoreError, IncompleteError if there is nothing to report.
    """
    figures = StoreFigures(store) if isinstance(store, Store) else store
    _check(figures, question, capacity, energy)
    begin, end = _period(figures, question)
    usage, gaps, there = _known(figures, question, (begin, end), capacity, energy)
    total = total_of(usage).assign(capacity_core_s=offered(question, (begin, end), there))
    before = gaps_before = None
    if question.compare:
        earlier = (2 * begin - end, begin)
        before, gaps_before, then = _known(figures, question, earlier, capacity, energy)
        before = with_groups(before, usage[question.group], question, earlier, then)
        usage = with_groups(usage, before[question.group], question, (begin, end), there)
    names, usage, before, others = keep_top(question, usage, before)
    if before is not None and gaps_before is not None and gaps_before.days == tuple(days_of(2 * begin - end, begin)):
        before = before.assign(**{name: float("nan") for name in before.columns if name != question.group})
    notes: list[str] = []
    if with_notes:
        notes = notes_of(
            figures, question, (begin, end), gaps=gaps, gaps_before=gaps_before, total=total, capacity=capacity, energy=energy
        )
    return Report(question, (begin, end), names, usage, total, before, others, gaps, tuple(notes), tuple(there))


def _known(
    figures: Figures, question: Question, period: tuple[int, int], capacity: Sequence[Capacity], energy: Sequence[Energy]
) -> tuple[pd.DataFrame, Gaps, list[Capacity]]:
    """The figures of a period, the days of which nothing is known, and the capacity without these."""
    gaps = figures.collection_gaps(*period)
    there = without_days(capacity, gaps.days)
    return gather(figures, question, period, capacity=there, energy=energy, missing=gaps.days), gaps, there


def _check(figures: Figures, question: Question, capacity: Sequence[Capacity], energy: Sequence[Energy]) -> None:
    """Raises: ConfigError for what cannot be asked together, or not of this site."""
    if question.normalise is not None and question.normalise not in (known := figures.benchmark_types()):
        raise ConfigError(f"no job was given a benchmark {question.normalise}: there are {', '.join(known) or 'none'}")
    if question.bins and question.by in TIMES:
        raise ConfigError(
            f"--by {hyphened(question.by)} has bins of its own: leave out --bins, or say by what else, such as --by vo"
        )
    if question.top is not None and question.group is None:
        by = hyphened(question.by)
        raise ConfigError(f"--top is for groups, and --by {by} has none: leave it out, or say --by vo --bins {by}")
    if question.compare and question.size:
        raise ConfigError("--compare is for whole periods: leave out --bins, and group by VO, queue or the like")
    if "utilisation" in question.measures and not capacity:
        raise ConfigError("utilisation needs to know what the clusters have: give [[capacity]] in the configuration")
    if "co2e" in question.measures and not energy:
        raise ConfigError("CO2e needs the grams a kWh: give [[energy]] in the configuration")


def _period(figures: Figures, question: Question) -> tuple[int, int]:
    """As asked for; what was left open is the day on which the first job ended (or started, where that counts), and the end of the
    day on which the last one ended."""
    if question.begin is None or question.end is None:
        known = figures.ends()
        if known is None:
            raise IncompleteError("there is nothing to report: the store holds no job that started and ended")
        start = figures.first_start() if question.counts_from_start else None
        first = bin_begin("day", question.zone, known[0] if start is None else min(start, known[0]))
        last = bins_between("day", question.zone, known[1], known[1] + 1)[0][1]
        begin = first if question.begin is None else question.begin
        end = last if question.end is None else question.end
        if begin >= end and question.begin is not None:
            raise IncompleteError(f"there is nothing to report: the last job ended {shown(known[1])}, before --begin")
        if begin >= end:
            raise IncompleteError(f"there is nothing to report: the first job ended {shown(known[0])}, not before --end")
        return begin, end
    if question.begin >= question.end:
        raise ConfigError(
            f"--begin {shown(question.begin)} is not before --end {shown(question.end)}: the end is not included; "
            "for a whole day, week or month say --period"
        )
    return question.begin, question.end
