"""The books: what came in, what became of it, and whether every stage adds up.

In units: units read = recorded + merged + already known + skipped + rejected; merged units are parts, from which records are
completed, or which wait for the others of their whole. In jobs: job records in force = joined + local +
waiting + excluded + not joined yet. For each destination: records to publish = confirmed + unsent + kept back + not in a message
yet, and records in messages = those of the ledger it has come to, and of its history, without what was kept back.

Archived records count as those in the tables do, whether their files are there or were purged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, select

from batchacct.archive.holdings import archived_counts
from batchacct.model import JOB, RECORD_TYPES
from batchacct.store import sent, tables
from batchacct.store.spans import of_load
from batchacct.store.tables import (
    ROWS_PER_LOAD,
    followed_file,
    job,
    kept_back,
    load,
    message,
    part,
    reject,
    source_state,
    usage,
    usage_history,
)

Found = Row[Any]
UNIT_COUNTS = ("units", "recorded", "merged", "completed", "known", "revised", "skipped", "rejected")


@dataclass(frozen=True, slots=True)
class SourceBooks:
    """One source: sums over its loads, and how far its files were read. `completed`: records made of parts, which are no units.

    `rejected` are the units that still are; `rejects` those that ever were, `open_rejects` those of them that were not replayed.
    `lost_bytes` were destroyed before anybody could read them.
    """

    name: str
    record_type: str
    units: int
    recorded: int
    merged: int
    completed: int
    known: int
    revised: int
    skipped: int
    rejected: int
    rejects: int
    open_rejects: int
    files: int
    bytes_read: int
    newest_file: str | None
    newest_offset: int | None
    newest_size: int | None
    last_record_at: int | None
    read_to_end_at: int | None
    last_error: str | None
    last_error_at: int | None
    warning: str | None
    lost_bytes: int

    @property
    def balanced(self) -> bool:
        return self.units == self.recorded + self.merged + self.known + self.skipped + self.rejected


@dataclass(frozen=True, slots=True)
class JobBooks:
    """Job records: stored, out of force (a newer revision replaced them), and outcomes of those in force, (outcome, reason): jobs.

    A job whose newer revision is not joined yet counts as not joined, whatever became of the older one.
    """

    stored: int
    superseded: int
    not_joined: int
    outcomes: dict[tuple[str, str], int]

    def total(self, outcome: str) -> int:
        return sum(jobs for (what, _), jobs in self.outcomes.items() if what == outcome)

    @property
    def in_force(self) -> int:
        return self.stored - self.superseded

    @property
    def balanced(self) -> bool:
        return self.in_force == sum(self.outcomes.values()) + self.not_joined


@dataclass(frozen=True, slots=True)
class DestinationBooks:
    """Records to publish to one destination: in confirmed messages, in unsent ones, and those in none.

    `confirmed` and `unsent` count what the ledger has now; `replaced` are records in messages that a correction has replaced, or
    that were sent again. `kept_back`: refused by its format, not for it, or standing as sent before, by (kind, reason).
    `in_messages` is how many the messages have by their own count, `in_ledger` how many the ledger says they should.
    """

    name: str
    publishable: int
    confirmed: int
    unsent: int
    kept_back: dict[tuple[str, str], int]
    not_in_message: int
    replaced: int
    in_messages: int
    in_ledger: int
    messages: int
    messages_unsent: int
    messages_refused: int
    last_confirmed_at: int | None
    last_error: str | None
    retired_at: int | None

    @property
    def refused(self) -> dict[str, int]:
        """Refused records by reason."""
        return {reason: count for (kind, reason), count in self.kept_back.items() if kind == sent.REFUSED}

    @property
    def not_for_it(self) -> int:
        return sum(count for (kind, _), count in self.kept_back.items() if kind == sent.NOT_FOR_IT)

    @property
    def balanced(self) -> bool:
        return self.in_messages == self.in_ledger


@dataclass(frozen=True, slots=True)
class Books:
    """Everything there is in the books.

    `parts_waiting`: parts of which there is no record yet, by family and kind (`pbs start`), and when the oldest was logged.
    """

    sources: list[SourceBooks]
    jobs: JobBooks
    destinations: list[DestinationBooks]
    left_out: dict[str, int]
    records_by_type: dict[str, tuple[int, int]]
    parts_waiting: dict[str, int]
    parts_oldest_at: dict[str, int]
    open_rejects: int
    problems: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        return not self.problems


def read_books(connection: Connection) -> Books:
    """The books as the database has them now."""
    sources, jobs, destinations = _sources(connection), _jobs(connection), _destinations(connection)
    counted = {name: _counts_of(connection, name) for name in tables.RECORD_TABLES}
    open_rejects = connection.scalar(select(func.count()).select_from(reject).where(reject.c.replayed_by.is_(None))) or 0
    problems = [f"source {s.name}: units read are not accounted for" for s in sources if not s.balanced]
    problems += [
        f"{name} records: loads say {said}, the table and the archive have {there}"
        for name, (said, there) in counted.items()
        if said != there
    ]
    if not jobs.balanced:
        problems.append("jobs: outcomes do not add up to the records in force")
    problems += [
        f"destination {d.name}: the messages hold {d.in_messages:,} records, by the ledger they should hold {d.in_ledger:,}"
        for d in destinations
        if not d.balanced
    ]
    left_out = {row.what: row.records for row in connection.execute(select(tables.left_out))}
    waiting, oldest_at = _parts_waiting(connection)
    return Books(sources, jobs, destinations, left_out, counted, waiting, oldest_at, open_rejects, problems)


def _sources(connection: Connection) -> list[SourceBooks]:
    sums = [func.coalesce(func.sum(load.c[name]), 0).label(name) for name in UNIT_COUNTS]
    last = func.max(load.c.last_record_at).label("last_record_at")
    loads: dict[tuple[str, str], Found | None] = {
        (row.source, row.record_type): cast("Found", row)
        for row in connection.execute(
            select(load.c.source, load.c.record_type, *sums, last).group_by(load.c.source, load.c.record_type)
        )
    }
    states = {row.name: row for row in connection.execute(select(source_state))}
    for state in states.values():
        loads.setdefault((state.name, state.record_type), None)
    files: dict[str, list[Found]] = {}
    for row in connection.execute(select(followed_file).order_by(followed_file.c.updated_at, followed_file.c.id)):
        files.setdefault(row.source, []).append(row)
    is_open = func.sum(case((reject.c.replayed_by.is_(None), 1), else_=0))
    rejected = {
        row[0]: (int(row[1]), int(row[2]))
        for row in connection.execute(select(reject.c.source, func.count(), is_open).group_by(reject.c.source))
    }
    return [
        _source(name, kind, row, states.get(name), files=files.get(name, []), rejects=rejected.get(name, (0, 0)))
        for (name, kind), row in sorted(loads.items())
    ]


def _source(
    name: str, kind: str, row: Found | None, state: Found | None, *, files: list[Found], rejects: tuple[int, int]
) -> SourceBooks:
    newest = files[-1] if files else None
    units: dict[str, int] = {count: int(getattr(row, count)) if row else 0 for count in UNIT_COUNTS}
    return SourceBooks(
        name=name,
        record_type=kind,
        **units,
        rejects=rejects[0],
        open_rejects=rejects[1],
        files=len(files),
        bytes_read=sum(f.offset for f in files),
        newest_file=newest.path if newest else None,
        newest_offset=newest.offset if newest else None,
        newest_size=newest.size if newest else None,
        last_record_at=row.last_record_at if row else None,
        read_to_end_at=state.read_to_end_at if state else None,
        last_error=state.last_error if state else None,
        last_error_at=state.last_error_at if state else None,
        warning=state.warning if state else None,
        lost_bytes=state.lost_bytes if state else 0,
    )


def _jobs(connection: Connection) -> JobBooks:
    """Nothing here reads the job table as a whole but the count of its rows: the rest is asked of the loads it concerns."""
    archived, revisions = archived_counts(connection, JOB)
    stored = _count(connection, select(func.count()).select_from(job)) + archived
    superseded = _count(connection, _jobs_of_loads(func.count()).where(load.c.revised > 0, job.c.revision > 0)) + revisions
    not_joined_yet = and_(load.c.joined_at.is_(None), load.c.record_type == "job")
    not_joined = _count(connection, _jobs_of_loads(func.count()).where(not_joined_yet, job.c.superseded_by.is_(None)))
    kinds = (usage.c.outcome, func.coalesce(usage.c.reason, ""))
    outcomes = Counter({(row[0], row[1]): int(row[2]) for row in connection.execute(select(*kinds, func.count()).group_by(*kinds))})
    older = job.alias("older")
    same = and_(older.c.logged_at == job.c.logged_at, older.c.record_key == job.c.record_key, older.c.id != job.c.id)
    out_of_force = (
        _jobs_of_loads(*kinds, func.count(usage.c.job_id.distinct()))
        .join(older, same)
        .join(usage, and_(usage.c.job_id == older.c.id, usage.c.logged_at == older.c.logged_at))
        .where(not_joined_yet, job.c.revision > 0)
        .group_by(*kinds)
    )
    outcomes.subtract({(row[0], row[1]): int(row[2]) for row in connection.execute(out_of_force)})
    return JobBooks(stored, superseded, not_joined, {kind: jobs for kind, jobs in outcomes.items() if jobs})


def _jobs_of_loads(*columns: ColumnElement[Any]) -> Select[Any]:
    """Of job records together with the load that brought them."""
    first = load.c.id * ROWS_PER_LOAD
    ids = job.c.id.between(first, first + (ROWS_PER_LOAD - 1))
    return select(*columns).select_from(load.join(job, and_(ids, of_load(job.c.logged_at))))


def _destinations(connection: Connection) -> list[DestinationBooks]:
    """Of each destination; where nothing was published yet, of the one there will be."""
    publishable = _count(connection, select(func.count()).where(sent.GOES_OUT))
    return [
        _destination(connection, place, publishable) for place in sent.places(connection) or [sent.Place("main", 0, 0, 0, None)]
    ]


def _destination(connection: Connection, place: sent.Place, publishable: int) -> DestinationBooks:
    mine = message.c.destination == place.name
    behind = _count(connection, select(func.count()).where(sent.GOES_OUT, place.passed(usage)))
    history = _count(connection, select(func.count()).select_from(usage_history)) - place.missed
    kept = kept_back.c.destination == place.name
    of_row = and_(usage.c.job_id == kept_back.c.job_id, usage.c.step == kept_back.c.step)
    keys = kept_back.c.kind, kept_back.c.reason
    current = select(*keys, func.count()).select_from(kept_back.join(usage, of_row)).where(kept, place.passed(kept_back))
    kept_now = {(row[0], row[1]): int(row[2]) for row in connection.execute(current.group_by(*keys))}
    of_old = and_(usage_history.c.job_id == kept_back.c.job_id, usage_history.c.step == kept_back.c.step)
    was_kept = select(func.count()).select_from(kept_back.join(usage_history, of_old)).where(kept, place.passed(kept_back))
    kept_before = _count(connection, was_kept)
    sums = select(func.count(), func.sum(message.c.records), func.max(message.c.confirmed_at)).where(mine)
    messages, records, last_confirmed_at = connection.execute(sums).one()
    unsent, open_messages = _unsent(connection, place)
    error = (
        select(message.c.last_error).where(mine, sent.IS_OPEN, message.c.last_error.is_not(None)).order_by(message.c.id).limit(1)
    )
    in_message = behind - sum(kept_now.values())
    return DestinationBooks(
        name=place.name,
        publishable=publishable,
        confirmed=in_message - unsent,
        unsent=unsent,
        kept_back=kept_now,
        not_in_message=publishable - behind,
        replaced=history - kept_before,
        in_messages=int(records or 0),
        in_ledger=in_message + history - kept_before,
        messages=messages,
        messages_unsent=open_messages,
        messages_refused=_count(connection, select(func.count()).where(mine, sent.IS_OPEN, message.c.refused_at.is_not(None))),
        last_confirmed_at=last_confirmed_at,
        last_error=connection.scalar(error),
        retired_at=place.retired_at,
    )


def _unsent(connection: Connection, place: sent.Place) -> tuple[int, int]:
    """Records of the ledger in messages that are not confirmed, and those messages."""
    of_open = sent.IS_OPEN, message.c.destination == place.name
    messages, records = connection.execute(select(func.count(), func.sum(message.c.records)).where(*of_open)).one()
    old = select(usage_history.c.step, usage_history.c.job_id).where(place.passed(usage_history))
    replaced = {(step, job_id) for step, job_id in connection.execute(old)} if messages else set()
    if replaced:
        jobs = np.array(sorted({job_id for _, job_id in replaced}), np.int64)
        for one in sent.sent(connection, *of_open):
            maybe = np.isin(one.jobs, jobs)
            records -= sum(row in replaced for row in zip(one.steps[maybe].tolist(), one.jobs[maybe].tolist(), strict=True))
    return int(records or 0), messages


def parts_waiting(connection: Connection) -> dict[str, int]:
    """How many parts of which there is no record yet, by family and kind."""
    return _parts_waiting(connection)[0]


def _parts_waiting(connection: Connection) -> tuple[dict[str, int], dict[str, int]]:
    """... and when the oldest was logged."""
    columns = (part.c.family, part.c.kind, func.count(), func.min(part.c.logged_at))
    waiting = select(*columns).where(part.c.used_at.is_(None), part.c.superseded_by.is_(None))
    rows = connection.execute(waiting.group_by(part.c.family, part.c.kind).order_by(part.c.family, part.c.kind)).all()
    names = [f"{family} {kind}" for family, kind, _, _ in rows]
    return dict(zip(names, (row[2] for row in rows), strict=True)), dict(zip(names, (row[3] for row in rows), strict=True))


def _counts_of(connection: Connection, record_type: str) -> tuple[int, int]:
    """Records of a type as the loads say, and as the table and the archive have them."""
    said = load.c.merged if record_type == "part" else load.c.recorded + load.c.completed
    of_type = select(func.coalesce(func.sum(said), 0))
    if record_type != "part":
        of_type = of_type.where(load.c.record_type == record_type)
    there = _count(connection, select(func.count()).select_from(tables.RECORD_TABLES[record_type]))
    return _count(connection, of_type), there + archived_counts(connection, RECORD_TYPES[record_type])[0]


def _count(connection: Connection, query: Select[Any]) -> int:
    return int(connection.scalar(query) or 0)
