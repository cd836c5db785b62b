"""Holes in the sequence of job ids: numbers the batch system gave, and of which no log has told, though they should have ended.

A number is settled once later numbers were submitted so long ago that the longest queue and run time seen would have brought it.
Of settled numbers some are always missing (jobs deleted while they waited, numbers spent on what is no job): a hole is where so
many more are missing than is usual for this counter that chance does not explain it. docs/explanation/gaps.md has the whole rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]

NUMBERS_NEEDED = 200
"""Of fewer numbers nothing is said."""
FEWEST_MISSING = 20
CERTAINTY = 25.0
"""How much likelier, as a natural logarithm, a loss has to be than what is usual: e^25, against chance in millions of jobs."""
USUAL_HOLES = 10
"""Where there are so many holes, holes are usual: only one twice as telling as the tenth is told."""
LEAST_USUAL = 0.002
MOST_USUAL = 0.9
TIMES = 64
"""Numbers, in the order they were submitted, over which it is judged whether the counter began anew."""
MOST_ROUNDS = 12
LEAST_ROUND = 5000
"""No batch system begins anew after fewer numbers."""
NEIGHBOURS = 16
FOREVER = 2**62
HOUR = 3600
DAY = 86_400
WEEK = 7 * DAY
JUMP = 10_000
JUMP_FACTOR = 10


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers `first` to `last`, of which `missing` were never seen; submitted between two instants (Unix seconds).

    All is about so where only some of the numbers were looked at.
    """

    first: int
    last: int
    missing: int
    after_at: int
    before_at: int

    def of_every(self, every: int) -> Span:
        """The same of all numbers, if one in `every` was looked at, divided by it."""
        first, last = (self.first - 1) * every + 1, (self.last + 1) * every - 1
        return Span(first, last, self.missing * every, self.after_at, self.before_at)


def find_holes(numbers: Ints, submitted: Ints, settled_at: int) -> list[Span]:
    """The holes of one counter, by the numbers seen and about when each was submitted, as far as they are settled."""
    if len(numbers) < NUMBERS_NEEDED:
        return []
    # of numbers submitted at one time the highest come before the lowest: if it has both, the counter began anew between them
    quarter = int(numbers.max()) // 4 if numbers.max() >= LEAST_ROUND else 0
    order = np.lexsort(((numbers < quarter).astype(np.int8) - (numbers > 3 * quarter), submitted))
    numbers, submitted = numbers[order], submitted[order]
    bounds = _rounds(numbers)
    if len(bounds) - 1 > MOST_ROUNDS:
        return []
    holes: list[Span] = []
    later: tuple[Ints, Ints] | None = None
    for begin, end in reversed(list(itertools.pairwise(bounds))):
        if begin == end:
            continue
        known, at, is_stray = _in_order(numbers[begin:end], submitted[begin:end])
        settled = int(np.searchsorted(at, settled_at, side="right"))
        if settled >= NUMBERS_NEEDED and (later is None or _is_kept_apart(known, at, *later)):
            holes += _holes(known[:settled], at[:settled], is_stray[:settled])
        later = known, at
    return sorted(holes, key=lambda hole: (hole.after_at, hole.first))


def _rounds(numbers: Ints) -> list[int]:
    """Where, in the order of submission, the counter began anew: bounds of rounds, the two ends included.

    Single numbers out of order (a requeued job) do not matter: what counts is the middle one of many.
    """
    whole = len(numbers) // TIMES * TIMES
    middle = np.median(numbers[:whole].reshape(-1, TIMES), axis=1)
    fell = np.flatnonzero((middle[2:] < middle[:-2] / 2) & (middle[:-2] > LEAST_ROUND / 2))
    bounds = [0]
    for run in np.split(fell, np.flatnonzero(np.diff(fell) > 1) + 1) if len(fell) else ():
        before, behind = int(run[0]), int(run[-1]) + 2
        first = before * TIMES
        is_new = numbers[first : (behind + 1) * TIMES] < (middle[before] + middle[behind]) / 2
        wrong = np.cumsum(np.where(is_new, 1, -1))
        bounds.append(first + int(np.argmin(wrong)) + 1)
    return [*bounds, len(numbers)]


def _is_kept_apart(known: Ints, at: Ints, later: Ints, later_at: Ints) -> bool:
    """Whether the next round came to the same numbers so late that the store has both: it keeps one of a number and week."""
    again = int(np.searchsorted(later, known[0]))
    return again == len(later) or int(later_at[again] - at[0]) > WEEK + DAY


def _in_order(numbers: Ints, submitted: Ints) -> tuple[Ints, Ints, Bools]:
    """Each number once, in order, with about when it was submitted, in order too; and whether that had to be made up.

    A time that does not fit between those of the numbers before and behind it (a requeued job, a clock that was wrong, the first
    few numbers of a counter that has just begun anew) is moved there: the middle one of sixteen neighbours decides.
    """
    known, first = np.unique(numbers, return_index=True)
    at = submitted[first]
    whole = len(known) // NEIGHBOURS
    middle = np.median(at[: whole * NEIGHBOURS].reshape(-1, NEIGHBOURS), axis=1).astype(np.int64)
    middle = np.minimum.accumulate(middle[::-1])[::-1]
    chunk = np.arange(len(known)) // NEIGHBOURS
    earliest = np.concatenate(([middle[0] if whole else 0], middle, middle[-1:]))[chunk]
    latest = np.concatenate((middle[1:], [FOREVER, FOREVER, FOREVER]))[chunk]
    likely = np.clip(at, np.minimum(earliest, latest), latest)
    return known, np.minimum.accumulate(likely[::-1])[::-1], np.abs(at - likely) > DAY


def _holes(known: Ints, at: Ints, is_stray: Bools) -> list[Span]:
    missing = np.diff(known) - 1
    missing[_jumps(missing, at) | is_stray[1:] | is_stray[:-1]] = 0
    usual = _usual_share(missing)
    found = list(_dense(missing, usual))
    if len(found) >= USUAL_HOLES:
        telling = sorted((score for _, _, score in found), reverse=True)
        found = [one for one in found if one[2] > 2 * telling[USUAL_HOLES - 1]]
    return [
        Span(
            int(known[first]) + 1, int(known[last + 1]) - 1, int(missing[first : last + 1].sum()), int(at[first]), int(at[last + 1])
        )
        for first, last, _ in found
    ]


def _jumps(missing: Ints, at: Ints) -> Bools:
    """Where more numbers are left out than could have been submitted meanwhile: somebody has set the counter forward."""
    most_an_hour = int(np.bincount((at - at[0]) // HOUR).max())
    could: np.ndarray[tuple[int], np.dtype[np.float64]] = JUMP_FACTOR * most_an_hour * (np.diff(at) / HOUR + 1)
    return (missing > JUMP) & (missing > could)


def _usual_share(missing: Ints) -> float:
    """What share of the numbers is usually missing: in three of four stretches it is no more than this."""
    ends = np.cumsum(missing + 1)
    length = max(int(ends[-1]) // 50, NUMBERS_NEEDED)
    stretch = (ends - 1) // length
    seen = np.bincount(stretch)
    gone = np.bincount(stretch, weights=missing)
    shares = gone[seen > 0] / (seen + gone)[seen > 0]
    return float(np.clip(np.quantile(shares, 0.75), LEAST_USUAL, MOST_USUAL))


def _dense(missing: Ints, usual: float) -> Iterator[tuple[int, int, float]]:
    """Stretches in which numbers are missing beyond what is usual: (first gap, last gap, how telling it is).

    A cumulative sum: each missing number adds to the evidence that half of what is usually seen is lost, each seen one takes from
    it.
    """
    lost = (1 + usual) / 2
    gone, there = math.log(lost / usual), math.log((1 - lost) / (1 - usual))
    total = best = 0.0
    first = last = begun = 0
    before = 0
    for gap in np.flatnonzero(missing).tolist():
        total += there * (gap - before)
        before = gap
        if total <= 0 or total < best - CERTAINTY:
            if _tells(best, missing, first, last):
                yield first, last, best
            total = best = 0.0
            begun = gap
        total += gone * int(missing[gap])
        if total > best:
            best, first, last = total, begun, gap
    if _tells(best, missing, first, last):
        yield first, last, best


def _tells(score: float, missing: Ints, first: int, last: int) -> bool:
    return score >= CERTAINTY and int(missing[first : last + 1].sum()) >= FEWEST_MISSING
