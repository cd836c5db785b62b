"""Silence: a source that tells of nothing for longer than its own rhythm explains.

The rhythm is what the eight weeks before a silence had: the longest silence in them, nights, weekends and holidays included. Twice
that and two hours are allowed, thrice while less than four weeks are known. What is too new for a rhythm (less than eight days, so
that a weekend may be missing), or tells too little (fewer than a hundred hours with anything in them), is never called silent.
docs/explanation/gaps.md says why.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HOUR = 3600
DAY = 86_400
REMEMBERED_S = 56 * DAY
KNOWN_AFTER_S = 8 * DAY
HOURS_NEEDED = 100
WELL_KNOWN_AFTER_S = 28 * DAY
SHORTEST_S = 2 * HOUR

Span = tuple[int, int]
"""First and last time (Unix seconds) of something a source told of, an hour each."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A source told of nothing between two instants; `allowed_s` is what its rhythm would have explained, in seconds."""

    source: str
    since: int
    until: int
    allowed_s: int
    goes_on: bool

    @property
    def lasted_s(self) -> int:
        return self.until - self.since


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How long a source has been silent, as of a moment, and how long it may be; None where no rhythm is known yet."""

    source: str
    last_at: int | None
    silent_s: int | None
    allowed_s: int | None

    @property
    def silence(self) -> Silence | None:
        """The silence that goes on, if it is longer than it may be."""
        if self.last_at is None or self.silent_s is None or self.allowed_s is None or self.silent_s <= self.allowed_s:
            return None
        return Silence(self.source, self.last_at, self.last_at + self.silent_s, self.allowed_s, goes_on=True)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in the order of time, none within another."""
    apart: list[Span] = []
    for first, last in sorted(spans):
        if apart and first <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(last, apart[-1][1]))
        else:
            apart.append((first, last))
    return apart


def rhythm(source: str, spans: Sequence[Span], until: int, allowed_s: int | None = None) -> Rhythm:
    """The rhythm of a source by its `merged` spans, as of `until`; a given `allowed_s` is the site's own word for it."""
    if not spans:
        return Rhythm(source, None, None, allowed_s)
    last_at = spans[-1][1]
    return Rhythm(source, last_at, max(until - last_at, 0), _allowed_s(spans, len(spans) - 1) if allowed_s is None else allowed_s)


def silences(source: str, spans: Sequence[Span], since: int, allowed_s: int | None = None) -> list[Silence]:
    """The silences that ended at `since` or later, and were longer than the rhythm before them explains."""
    found = []
    for index in range(max(bisect_left(spans, (since, since)), 1), len(spans)):
        begin, end = spans[index - 1][1], spans[index][0]
        if end - begin <= (SHORTEST_S if allowed_s is None else allowed_s):
            continue
        may = _allowed_s(spans, index - 1) if allowed_s is None else allowed_s
        if may is not None and end - begin > may:
            found.append(Silence(source, begin, end, may, goes_on=False))
    return found


def _allowed_s(spans: Sequence[Span], last: int) -> int | None:
    """How long the silence behind span number `last` may be; None where no rhythm is known yet."""
    end = spans[last][1]
    first = bisect_left(spans, (end - REMEMBERED_S, 0))
    known_s = end - spans[first][0]
    if known_s < KNOWN_AFTER_S or last + 1 - first < HOURS_NEEDED:
        return None
    longest = max(spans[i + 1][0] - spans[i][1] for i in range(first, last))
    return (2 if known_s >= WELL_KNOWN_AFTER_S else 3) * longest + SHORTEST_S
