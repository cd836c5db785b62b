"""Both sides, record by record: what only one of them has, fields that differ, and the totals."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pub.shadow.record import KEY, LABELS, NOTHING, Record
from pub.shadow.spool import Spool
from pub.shadow.theirs import Theirs

Totals = dict[tuple[str, str], list[int]]
"""Jobs, wallclock and CPU time in seconds by month (UTC) and VO."""

IN_KEY = frozenset(KEY)


@dataclass
class Compared:
    """What was found. Records are told up to `most` of a kind, counted all.

    `differing`: records by the field that differs in them; `likely`: one of theirs and one of ours that may be the same job under
    two keys.
    """

    most: int
    same: int = 0
    different: int = 0
    only_there: int = 0
    only_here: int = 0
    differing: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[Record, dict[str, tuple[str, str]]]] = field(default_factory=list)
    there_alone: list[Record] = field(default_factory=list)
    here_alone: list[Record] = field(default_factory=list)
    likely: tuple[Record, Record] | None = None
    totals_there: Totals = field(default_factory=dict)
    totals_here: Totals = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        return not (self.different or self.only_there or self.only_here)


def compare(theirs: Theirs, ours: Spool, ignored: Collection[str], most: int) -> Compared:
    """Takes ours out of the spool for each of theirs; what is left is only here."""
    found = Compared(most)
    alone: list[Record] = []
    for one in theirs.records:
        _add(found.totals_there, one)
        other = ours.take(one)
        if other is None:
            found.only_there += 1
            if len(alone) < max(most, 1):
                alone.append(one)
            continue
        _add(found.totals_here, other)
        differing = {
            label: (one[label], other[label])
            for label in LABELS
            if label in theirs.labels and label not in ignored and label not in IN_KEY and one[label] != other[label]
        }
        _take(found, one, differing)
    found.there_alone = alone[:most]
    found.likely = next(((one, other) for one in alone if (other := ours.like(one)) is not None), None)
    for one in ours.left():
        _add(found.totals_here, one)
        found.only_here += 1
        if len(found.here_alone) < most:
            found.here_alone.append(one)
    return found


def _take(found: Compared, one: Record, differing: dict[str, tuple[str, str]]) -> None:
    if not differing:
        found.same += 1
        return
    found.different += 1
    found.differing.update(differing.keys())
    if len(found.examples) < found.most:
        found.examples.append((one, differing))


def _add(totals: Totals, record: Mapping[str, str]) -> None:
    month = f"{dt.datetime.fromtimestamp(int(record['EndTime']), dt.UTC):%Y-%m}"
    sums = totals.setdefault((month, record["VO"]), [0, 0, 0])
    sums[0] += 1
    for place, label in ((1, "WallDuration"), (2, "CpuDuration")):
        sums[place] += 0 if record[label] == NOTHING else int(record[label])
