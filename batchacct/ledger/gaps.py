"""Gaps found in what was seen: sources that are silent, holes in job ids. No job is read for it: `store.seen` kept the essence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, func, select

from batchacct.clock import shown
from batchacct.ledger.holes import Ints, Span, find_holes
from batchacct.ledger.silence import HOUR, REMEMBERED_S, Rhythm, Silence, merged, rhythm, silences
from batchacct.store.seen import WEEK
from batchacct.store.tables import IDS_PER_BLOCK, IDS_PER_TIME, seen_hour, seen_ids, source_state

MOST_NUMBERS = 1_000_000
"""Of a counter with more numbers in the time that is looked at, every second, third, ... number is looked at."""
LONGEST_JOB_S = 180 * 86_400
"""What took longer from its submission to the log than half a year has a wrong time in it, and is no measure for others."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A configured source: up to when (Unix seconds) it was listened to, and how long it may be silent, if the site says so."""

    name: str
    until: int
    allowed_s: int | None = None


@dataclass(frozen=True, slots=True)
class Hole:
    """A hole in the numbers of a cluster's counter (`series`: of which schedd, empty where there is but one)."""

    cluster: str
    series: str
    span: Span

    @property
    def told(self) -> str:
        span, counter = self.span, f" ({self.series})" if self.series else ""
        return (
            f"cluster {self.cluster}{counter}: {span.missing:,} job ids between {span.first} and {span.last} are in no log, "
            f"though jobs of that time have ended (submitted {shown(span.after_at)} to {shown(span.before_at)}): part of a log "
            "may be lost, or they were deleted while they waited"
        )


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is missing; the rhythm of each source; `settled_at`: up to which time of submission job ids are judged, by cluster."""

    silences: list[Silence] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    rhythms: dict[str, Rhythm] = field(default_factory=dict)
    settled_at: dict[str, int] = field(default_factory=dict)

    @property
    def told(self) -> list[str]:
        """A sentence a gap."""
        return [*(told_silence(silence) for silence in self.silences), *(hole.told for hole in self.holes)]


def told_silence(silence: Silence) -> str:
    lasted, allowed = duration(silence.lasted_s), duration(silence.allowed_s)
    if silence.goes_on:
        return (
            f"source {silence.source} has been silent for {lasted}, since {shown(silence.since)}; its rhythm explains {allowed}: "
            "does the batch system still write this log?"
        )
    when = f"{shown(silence.since)} to {shown(silence.until)}"
    return f"source {silence.source} was silent for {lasted}, {when}; its rhythm explained {allowed}"


def duration(seconds: int) -> str:
    """`3 d 4 h`, `2 h 5 min`, `40 s`."""
    for unit, smaller, length, fraction in (("d", "h", 86_400, HOUR), ("h", "min", HOUR, 60), ("min", "s", 60, 1)):
        if seconds >= length:
            rest = seconds % length // fraction
            return f"{seconds // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


def gaps_now(connection: Connection, watched: Sequence[Watched], now: int) -> Gaps:
    """The silences that go on, and the holes among the job ids of the last eight weeks."""
    rhythms = {}
    for source in watched:
        spans = _spans(connection, source.name, now - 2 * REMEMBERED_S)
        rhythms[source.name] = rhythm(source.name, spans, source.until, source.allowed_s)
    settled = _settled(connection, [source.name for source in watched], now)
    holes = list(_holes(connection, settled, now - REMEMBERED_S))
    return Gaps([s for r in rhythms.values() if (s := r.silence)], holes, rhythms, settled)


def gaps_between(connection: Connection, watched: Sequence[Watched], since: int, until: int, now: int) -> Gaps:
    """The silences that reach into a period (Unix seconds, `until` excluded), and the holes among the job ids submitted in it."""
    found = []
    for source in watched:
        spans = _spans(connection, source.name, since - 2 * REMEMBERED_S)
        found += silences(source.name, spans, since, source.allowed_s)
        open_one = rhythm(source.name, spans, source.until, source.allowed_s).silence
        found += [open_one] if open_one else []
    settled = _settled(connection, [source.name for source in watched], now)
    holes = [hole for hole in _holes(connection, settled, since) if hole.span.after_at < until]
    return Gaps([s for s in found if s.since < until and s.until >= since], holes, settled_at=settled)


def _spans(connection: Connection, source: str, since: int) -> list[tuple[int, int]]:
    columns = select(seen_hour.c.first_at, seen_hour.c.last_at)
    rows = connection.execute(columns.where(seen_hour.c.source == source, seen_hour.c.hour >= since // HOUR))
    return merged((row.first_at, row.last_at) for row in rows)


def _settled(connection: Connection, sources: Sequence[str], now: int) -> dict[str, int]:
    """By cluster: what was submitted until then must have been logged by now, and all its logs were read.

    That is as long before the last reading as any job of eight weeks took from its submission to the log. Of a cluster with a
    source that never was read to its end nothing is known.
    """
    of_jobs = select(source_state.c.name, source_state.c.read_to_end_at).where(source_state.c.record_type == "job")
    read_at = {row.name: row.read_to_end_at for row in connection.execute(of_jobs) if row.name in set(sources)}
    recent = seen_hour.c.hour >= (now - REMEMBERED_S) // HOUR
    longest = select(seen_hour.c.source, seen_hour.c.cluster, func.max(seen_hour.c.longest_s).label("longest_s"))
    usual = seen_hour.c.longest_s <= LONGEST_JOB_S
    rows = connection.execute(longest.where(recent, usual).group_by(seen_hour.c.source, seen_hour.c.cluster)).all()
    settled: dict[str, int] = {}
    for cluster in {row.cluster for row in rows if row.source in read_at}:
        theirs = [row for row in rows if row.cluster == cluster and row.source in read_at]
        read = [read_at[row.source] for row in theirs]
        if None not in read:
            settled[cluster] = min(read) - max(row.longest_s for row in theirs) - HOUR
    return settled


def _holes(connection: Connection, settled: dict[str, int], since: int) -> Iterator[Hole]:
    """The holes among numbers submitted at `since` or later. What is usual is judged by the eight weeks before that, too."""
    if not settled:
        return
    columns = (seen_ids.c.cluster, seen_ids.c.series, seen_ids.c.week, seen_ids.c.block, seen_ids.c.seen, seen_ids.c.submitted)
    weeks = select(*columns).where(seen_ids.c.week >= (since - REMEMBERED_S) // WEEK, seen_ids.c.cluster.in_(settled))
    rows = connection.execute(weeks.order_by(seen_ids.c.cluster, seen_ids.c.series, seen_ids.c.week, seen_ids.c.block))
    for (cluster, series), blocks in itertools.groupby(rows, lambda row: (row.cluster, row.series)):
        numbers, submitted, every = _expanded([(row.block, bytes(row.seen), bytes(row.submitted)) for row in blocks])
        for span in find_holes(numbers, submitted, settled[cluster]):
            if span.before_at >= since:
                yield Hole(cluster, series, span.of_every(every))


def _expanded(blocks: list[tuple[int, bytes, bytes]]) -> tuple[Ints, Ints, int]:
    """The numbers seen, about when each was submitted, and of how many one was taken: of many millions a part tells as much.

    Where one in `every` was taken, they are divided by it.
    """
    every = -(-sum(int.from_bytes(seen).bit_count() for _, seen, _ in blocks) // MOST_NUMBERS) or 1
    numbers, submitted = [], []
    for block, seen, times in blocks:
        first = block * IDS_PER_BLOCK
        places = np.flatnonzero(np.unpackbits(np.frombuffer(seen, np.uint8))[-first % every :: every]) * every + -first % every
        numbers.append((first + places) // every)
        submitted.append(np.frombuffer(times, "<u4")[places // IDS_PER_TIME].astype(np.int64))
    nothing = np.array([], np.int64)
    return np.concatenate([nothing, *numbers]), np.concatenate([nothing, *submitted]), every
