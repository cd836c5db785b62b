"""What a folder of logs must come to in the store: the memory that random histories are compared with.

A `Log` is one stream of bytes as its writer made it: it begins when a file is made, or truncated to nothing, and every copy,
renamed or compressed file of it is the same log. Its lines are the units of the parser `numbered`; each has one place, the byte
at which it was written, and may come into the store once, from there. What it must bring is what stood in some file of the source
while a look at it was completed.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import select

from batchacct.ledger.books import read_books
from batchacct.model import content_hash
from batchacct.parsing import Outcome, Reject, Skip, Source, unit_parser
from batchacct.store import Store
from batchacct.store.tables import ROWS_PER_LOAD, job, load, reject, source_state
from tests.records import NOW

HEADER = b"# accounting log, format 1"
"""How each file begins, of some logs: two files of which there is no more yet are the same file."""

LONGEST_UNIT = 20_000
"""A longer line is a reject of its first bytes: so short for these tests that such a line is quickly written."""

_WHOLE = re.compile(rb"job \d{6} [\d.]*end")


@unit_parser("numbered", "job", lrms="Test")
def numbered(unit: bytes, source: Source) -> Outcome:
    """A whole line is a job of its own; a comment is skipped; all else, half a line or two that run together, is rejected."""
    if unit.startswith(b"#"):
        return Skip("comment")
    if not _WHOLE.fullmatch(unit):
        raise Reject("not a whole line")
    name = f"{content_hash(unit):x}"
    return {"record_key": name, "lrms_job_id": name, "join_id": name, "logged_at": NOW, "state": "completed"}


@dataclass(eq=False)
class Log:
    """`hole`: bytes that are NUL before its content; `due`: up to where it must be in the store; `cuts`: where copies of it end."""

    hole: int = 0
    content: bytearray = field(default_factory=bytearray)
    due: int = 0
    cuts: set[int] = field(default_factory=set)

    @property
    def end(self) -> int:
        return self.hole + len(self.content)

    def between(self, start: int, end: int) -> bytes:
        return bytes(self.content[max(start - self.hole, 0) : max(end - self.hole, 0)])

    def whole_lines(self, end: int) -> int:
        """Where the last line ends that is whole before `end`."""
        return self.hole + self.content.rfind(b"\n", 0, max(end - self.hole, 0)) + 1

    def lines(self) -> Iterator[tuple[int, int]]:
        """Start and end of each line, without what ends it; the last may be unfinished."""
        start = self.hole
        while start < self.end:
            newline = self.content.find(b"\n", start - self.hole)
            end = self.end if newline < 0 else self.hole + newline
            yield start, end
            start = end + 1


@dataclass(eq=False)
class File:
    """An inode: which log, how much of it, since when (by the clock, and in ticks).

    A compressed one is `whole` or cut short, a denied one may not be read.
    """

    log: Log
    length: int = 0
    modified: float = 0
    ticks: float = 0
    compressed: bool = False
    whole: bool = True
    denied: bool = False


Stored = tuple[str, int, bytes, int]
"""What a unit is in the store: job or reject, its offset, its bytes (the first ones, if it is too long), its length."""


@dataclass(frozen=True)
class Slot:
    """One line of one log: what it may be stored as (of a copy cut short, half of it), and whether it has to be; or a comment."""

    variants: tuple[Stored, ...]
    required: bool


def slots(log: Log, kept: int) -> Iterator[Slot]:
    """The lines of a log of which the first `kept` bytes are still there."""
    reach = max(log.due, kept)
    for start, end in log.lines():
        ends = [end] if log.due > end else [end, *(cut for cut in log.cuts if start < cut < end)]
        variants = tuple(_stored(start, unit) for e in ends if (unit := log.between(start, e)).strip())
        if variants:
            yield Slot(variants, bool(log.between(start, reach).strip()) and reach > start)


def _stored(offset: int, unit: bytes) -> Stored:
    if unit.startswith(b"#") and len(unit) <= LONGEST_UNIT:
        return "skip", offset, unit, len(unit)
    is_job = _WHOLE.fullmatch(unit) and len(unit) <= LONGEST_UNIT
    return "job" if is_job else "reject", offset, unit[:LONGEST_UNIT], len(unit)


@dataclass
class Compared:
    """What became of the lines of a history. `lost` and `doubled` are to be empty; `destroyed` is what nobody could read."""

    lines: int = 0
    destroyed: int = 0
    destroyed_bytes: int = 0
    told_bytes: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        lost = [f"LOST {told}" for told in self.lost[:4]]
        doubled = [f"DOUBLED {told}" for told in self.doubled[:4]]
        return [f"{len(self.lost)} lost, {len(self.doubled)} doubled", *lost, *doubled, *self.wrong] if self._any else []

    @property
    def _any(self) -> bool:
        return bool(self.lost or self.doubled or self.wrong)


def compare(store: Store, logs: Iterable[Log], kept: Mapping[Log, int], seen: Mapping[Log, int]) -> Compared:
    """The store against the logs; `kept`: how much of each can be read still; `seen`: how much the collector knows there was."""
    found, must_tell = Compared(), 0
    there = _stored_units(store)
    comments = Counter[bool]()
    for log in logs:
        reached = log.hole
        for slot in sorted(slots(log, kept.get(log, 0)), key=lambda slot: not slot.required):
            found.lines += 1
            if slot.variants[0][0] == "skip":
                comments[slot.required and slot.variants[0][2] != HEADER] += 1
                continue
            stored = next((variant for variant in slot.variants if there[variant]), None)
            if stored is not None:
                there[stored] -= 1
                reached = max(reached, stored[1] + stored[3])
            elif slot.required:
                found.lost.append(_told(slot.variants[0]))
            else:
                found.destroyed += 1
        found.destroyed_bytes += max(log.end - reached, 0)
        must_tell += 0 if log in kept else max(seen.get(log, 0) - max(reached + 1, log.due), 0)
    found.doubled += [f"{count} x {_told(stored)}" for stored, count in (+there).items()]
    found.wrong += _books(store, comments)
    with store.reading() as connection:
        found.told_bytes = connection.scalar(select(source_state.c.lost_bytes)) or 0
    if found.told_bytes > found.destroyed_bytes:
        found.wrong.append(f"{found.told_bytes} bytes are told to be lost, of {found.destroyed_bytes} that can be")
    if found.told_bytes < must_tell:
        found.wrong.append(f"{found.told_bytes} bytes are told to be lost, of {must_tell} that were seen, and are nowhere")
    return found


def _told(stored: Stored) -> str:
    kind, offset, unit, length = stored
    return f"{kind} at byte {offset}, {length} bytes: {unit[:24]!r}..{unit[-8:]!r}"


def _stored_units(store: Store) -> Counter[Stored]:
    """Every job and reject there is; what is there twice is counted twice."""
    with store.reading() as connection:
        jobs = connection.execute(select(job.c.source_offset, job.c.native)).all()
        rejects = connection.execute(select(reject.c.source_offset, reject.c.unit, reject.c.length)).all()
    found = Counter[Stored](("job", offset, bytes(unit), len(unit)) for offset, unit in jobs)
    found.update(("reject", offset, bytes(unit), length) for offset, unit, length in rejects)
    return found


def _books(store: Store, comments: Counter[bool]) -> Iterator[str]:
    """What is wrong with the books: nothing is read twice, and every unit is accounted for."""
    with store.reading() as connection:
        problems = read_books(connection).problems
        of_jobs = connection.execute(select(job.c.id // ROWS_PER_LOAD, job.c.source_offset)).all()
        loads = [dict(row) for row in connection.execute(select(load).order_by(load.c.file_id, load.c.start_offset)).mappings()]
    yield from problems
    spans = {row["id"]: range(cast("int", row["start_offset"]), cast("int", row["end_offset"])) for row in loads}
    if astray := [offset for number, offset in of_jobs if offset not in spans[number]]:
        yield f"jobs from byte {astray[0]} are not of what their load has read"
    sums = {name: sum(cast("int", row[name]) for row in loads) for name in ("known", "revised", "merged", "skipped")}
    if sums["known"] or sums["revised"] or sums["merged"]:
        yield f"units were read again: {sums}"
    if not comments[True] <= sums["skipped"] <= comments.total():
        yield f"{sums['skipped']} comments were skipped, not {comments[True]} to {comments.total()}"
    for one, other in itertools.pairwise(loads):
        if one["file_id"] == other["file_id"] and one["end_offset"] > other["start_offset"]:
            yield f"bytes {other['start_offset']} to {one['end_offset']} of {one['path']} were read twice"
