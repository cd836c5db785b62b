"""The books of a period: what was logged in it, what became of that, what was published, what is missing, whether it adds up.

A record belongs to the period in which the batch system (or the computing element) logged it; of jobs only the newest revision
counts. Every figure of jobs is a sum over the same cells (source, in force, outcome, reason, VO), read at once. What is checked
against them is counted apart: the jobs of the period, and the rows of the ledger. What was published is looked at row by row
(`ledger.outgoing`). The books as a whole are checked, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, literal, select

from batchacct.archive.holdings import archived, told_purged
from batchacct.archive.months import next_month
from batchacct.archive.querying import archived_rows
from batchacct.ledger.books import read_books
from batchacct.ledger.gaps import Gaps, Watched, gaps_between
from batchacct.ledger.missing import missing, replaced_by_none, unfitting, wrong_of_loads
from batchacct.ledger.outgoing import read_outgoing
from batchacct.ledger.reading_rows import Reader
from batchacct.ledger.rereading import Reread, reread
from batchacct.model import JOB, RECORD_TYPES, SOURCE_TYPES
from batchacct.store.sent import GO_OUT
from batchacct.store.spans import ANYTIME, IS_OF_IDENTITY_OF_MANY, IS_OF_JOB, Span, when_logged
from batchacct.store.tables import (
    RECORD_TABLES,
    identity,
    job,
    load,
    reject,
    source_state,
    usage,
    usage_history,
    vo_mapping,
)
from batchacct.store.vos import IS_UNMAPPED, VO

NOT_JOINED = "not joined yet"
NO_VO = "(none)"
KeyT = TypeVar("KeyT")


@dataclass(frozen=True, slots=True)
class Sums:
    """Jobs and their times in seconds; `core_s` is wallclock times processors (one, where nobody says how many).

    `unknown_cpu`: jobs that ran and whose CPU time is not known.
    """

    jobs: int
    wall_s: int
    core_s: int
    cpu_s: int
    unknown_cpu: int

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.jobs + other.jobs,
            self.wall_s + other.wall_s,
            self.core_s + other.core_s,
            self.cpu_s + other.cpu_s,
            self.unknown_cpu + other.unknown_cpu,
        )


NOTHING = Sums(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class SourceAudit:
    """One source: its records of the period, those replaced by newer ones among them, its rejects, and bytes lost for ever.

    `rejects` are units that no parser could read yet, of loads stored in the period; when they were logged nobody can say.
    """

    name: str
    record_type: str
    records: int
    replaced: int
    first_at: int | None
    last_at: int | None
    rejects: int
    lost_bytes: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The books of the period from `since` to before `until` (Unix seconds); `problems` are what does not add up.

    `unmapped`: local jobs whose VO is the default as no rule fits them, by local group. `published`: for each destination the
    records by state; `stranded` tells of sent ones that nothing stands for any more, `purged`
    of months that are in none of the figures. `reread`: what came of holding the records against their units, if they were.
    """

    since: int
    until: int
    sources: list[SourceAudit]
    in_force: Sums
    outcomes: dict[tuple[str, str], Sums]
    vos: dict[str, Sums]
    unmapped: dict[str, int]
    published: dict[str, dict[str, int]]
    corrections: dict[str, int]
    gaps: Gaps
    stranded: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    purged: list[str] = field(default_factory=list)
    reread: Reread | None = None

    @property
    def balanced(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Cell:
    """Jobs that have everything in common that is told apart."""

    source: str
    is_replaced: bool
    outcome: str | None
    reason: str
    vo: str
    first_at: int
    last_at: int
    sums: Sums


def read_audit(
    connection: Connection,
    watched: Sequence[Watched],
    since: int,
    until: int,
    now: int,
    *,
    readers: Mapping[str, Reader] | None = None,
) -> Audit:
    """The books of a period, from one state of the database; gaps are looked for in the `watched` sources.

    With `readers` records are held against the units they were read from.
    """
    cells = _cells(connection, since, until)
    in_force = [cell for cell in cells if not cell.is_replaced]
    going_out = [cell for cell in in_force if cell.outcome in GO_OUT]
    out = read_outgoing(connection, since, until)
    again = None if readers is None else reread(connection, readers, since, until)
    corrected = select(usage_history.c.why, func.count()).where(usage_history.c.replaced_at.between(since, until - 1))
    return Audit(
        since,
        until,
        _sources(connection, cells, since, until),
        sum((cell.sums for cell in in_force), NOTHING),
        _by(in_force, lambda cell: (cell.outcome or NOT_JOINED, cell.reason)),
        _by(going_out, lambda cell: cell.vo),
        _unmapped(connection, since, until),
        out.states,
        {row[0]: int(row[1]) for row in connection.execute(corrected.group_by(usage_history.c.why).order_by(usage_history.c.why))},
        gaps_between(connection, watched, since, until, now),
        out.stranded,
        [*_problems(connection, cells, since, until), *out.problems, *(again.problems if again else [])],
        told_purged(connection, since, until),
        again,
    )


_WALL = func.coalesce(job.c.wall_duration_s, 0)


def _cells_query(since: int, until: int, recorded: Span = ANYTIME) -> Select[Any]:
    """... of jobs whose identities were recorded in that span."""
    keys: tuple[ColumnElement[Any], ...] = (
        job.c.source.label("source"),
        case((job.c.superseded_by.is_not(None), 1), else_=0).label("is_replaced"),
        usage.c.outcome.label("outcome"),
        func.coalesce(usage.c.reason, "").label("reason"),
        func.coalesce(VO, NO_VO).label("vo"),
    )
    values: tuple[ColumnElement[Any], ...] = (
        literal(1).label("jobs"),
        _WALL.label("wall_s"),
        (_WALL * func.coalesce(job.c.processors, 1)).label("core_s"),
        func.coalesce(job.c.cpu_duration_s, 0).label("cpu_s"),
        case((and_(job.c.cpu_duration_s.is_(None), job.c.start_at.is_not(None)), 1), else_=0).label("unknown_cpu"),
        job.c.logged_at,
    )
    joined = (
        job.outerjoin(usage, IS_OF_JOB)
        .outerjoin(identity, and_(IS_OF_IDENTITY_OF_MANY, recorded.has(identity.c.recorded_at)))
        .outerjoin(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
    )
    one = select(*keys, *values).select_from(joined).where(job.c.logged_at.between(since, until - 1)).subquery()
    names = ("jobs", "wall_s", "core_s", "cpu_s", "unknown_cpu")
    sums = [*(func.sum(one.c[name]).label(name) for name in names), func.min(one.c.logged_at).label("first_at")]
    together = [one.c[key.name] for key in keys]
    return select(*together, *sums, func.max(one.c.logged_at).label("last_at")).group_by(*together)


def _cells(connection: Connection, since: int, until: int) -> list[_Cell]:
    query = _cells_query(since, until, when_logged(connection, since, until).identities)
    asked = _cells_query(since, until)
    rows = [*connection.execute(query), *archived_rows(connection, asked, first=since, last=until - 1)]
    return [
        _Cell(source, bool(is_replaced), outcome, reason, vo, first_at, last_at, Sums(*map(int, sums)))
        for source, is_replaced, outcome, reason, vo, *sums, first_at, last_at in rows
    ]


def _by(cells: Sequence[_Cell], key: Callable[[_Cell], KeyT]) -> dict[KeyT, Sums]:
    """The sums of cells by what they have in common, in order."""
    found: dict[KeyT, Sums] = {}
    for cell in cells:
        found[key(cell)] = found.get(key(cell), NOTHING) + cell.sums
    return dict(sorted(found.items(), key=lambda pair: str(pair[0])))


def _unmapped(connection: Connection, since: int, until: int) -> dict[str, int]:
    """By the ledger, which has archived jobs as well; those of files that were purged are in no figure."""
    replaced = exists().where(IS_OF_JOB, job.c.logged_at.between(since, until - 1), job.c.superseded_by.is_not(None))
    gone = [month.month for month in archived(connection, JOB, since, until) if month.file is None and month.purged[0]]
    there = and_(usage.c.logged_at.between(since, until - 1), *(~usage.c.logged_at.between(m, next_month(m) - 1) for m in gone))
    query = select(func.coalesce(vo_mapping.c.group_name, NO_VO).label("group"), func.count())
    query = query.select_from(usage.join(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)).where(there, IS_UNMAPPED, ~replaced)
    return {str(group): int(jobs) for group, jobs in connection.execute(query.group_by(vo_mapping.c.group_name))}


def _sources(connection: Connection, cells: Sequence[_Cell], since: int, until: int) -> list[SourceAudit]:
    states = {row.name: row for row in connection.execute(select(source_state))}
    rejects = select(load.c.source, load.c.record_type, func.count()).join(reject, reject.c.load_id == load.c.id)
    rejects = rejects.where(load.c.loaded_at.between(since, until - 1), reject.c.replayed_by.is_(None))
    grouped = connection.execute(rejects.group_by(load.c.source, load.c.record_type))
    unread = {(row[0], row[1]): int(row[2]) for row in grouped}
    records: dict[tuple[str, str], tuple[int, int, int | None, int | None]] = dict.fromkeys(
        [*unread, *((state.name, state.record_type) for state in states.values())], (0, 0, None, None)
    )
    for cell in cells:
        count, replaced, first, last = records.get((cell.source, "job"), (0, 0, None, None))
        records[cell.source, "job"] = (
            count + cell.sums.jobs,
            replaced + cell.sums.jobs * cell.is_replaced,
            cell.first_at if first is None else min(first, cell.first_at),
            cell.last_at if last is None else max(last, cell.last_at),
        )
    for record_type in (one for one in SOURCE_TYPES.values() if one is not JOB):
        of_type = RECORD_TABLES[record_type.name].c
        replaced_ones = func.sum(case((of_type.superseded_by.is_not(None), 1), else_=0))
        at = of_type[record_type.time_column]
        of_period = select(of_type.source, func.count(), replaced_ones, func.min(at), func.max(at))
        of_period = of_period.where(at.between(since, until - 1)).group_by(of_type.source)
        rows = [*connection.execute(of_period), *archived_rows(connection, of_period, record_type, first=since, last=until - 1)]
        for source, told, newer, begin, end in rows:
            count, replaced, first, last = records.get((source, record_type.name), (0, 0, None, None))
            records[source, record_type.name] = (
                count + told,
                replaced + int(newer),
                begin if first is None else min(first, begin),
                end if last is None else max(last, end),
            )
    return [
        SourceAudit(name, kind, *told, unread.get((name, kind), 0), states[name].lost_bytes if name in states else 0)
        for (name, kind), told in sorted(records.items())
    ]


def _problems(connection: Connection, cells: Sequence[_Cell], since: int, until: int) -> list[str]:
    problems = []
    jobs = sum(cell.sums.jobs for cell in cells)
    logged = select(func.count()).where(job.c.logged_at.between(since, until - 1))
    there = _one(connection, logged) + sum(row[0] for row in archived_rows(connection, logged, first=since, last=until - 1))
    if jobs != there:
        problems.append(f"of {there:,} job records of the period {jobs:,} are accounted for")
    ledger = sum(cell.sums.jobs for cell in cells if cell.outcome is not None)
    rows = _one(connection, select(func.count()).where(usage.c.logged_at.between(since, until - 1)))
    rows -= _purged(connection, since, until)
    if rows != ledger:
        problems.append(f"the ledger has {rows:,} rows of the period, of which {ledger:,} are of jobs that there are")
    problems += missing(connection, since, until)
    problems += unfitting(connection, since, until)
    books = read_books(connection)
    problems += [f"the books as a whole: {problem}" for problem in books.problems]
    for name, (said, there) in books.records_by_type.items():
        record_type = RECORD_TYPES[name]
        problems += replaced_by_none(connection, record_type, since, until)
        problems += wrong_of_loads(connection, record_type, *((since, until) if said == there else ()))
    return problems


def _purged(connection: Connection, since: int, until: int) -> int:
    """How many rows the ledger has of jobs in the period whose records were purged."""
    count = 0
    for month in archived(connection, JOB):
        first, last = max(month.month, since), min(next_month(month.month), until) - 1
        if month.purged[0] and first <= last:
            within = usage.c.logged_at.between(first, last)
            count += _one(connection, select(func.count()).where(within, ~exists().where(job.c.id == usage.c.job_id)))
            in_file = archived_rows(connection, select(func.count()).select_from(usage).where(within), first=first, last=last)
            count -= sum(row[0] for row in in_file)
    return count


def _one(connection: Connection, query: Select[Any]) -> int:
    return int(connection.scalar(query) or 0)
