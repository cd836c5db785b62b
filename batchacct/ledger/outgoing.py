"""What went out of a period, row by row: a row of the ledger that goes out is in one message of a destination, or in none.

The books add up counts; this holds the rows themselves against the messages, and each message's payload against what it was
when it was built. What is wrong is told by job and message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, and_, case, exists, false, or_, select
from zstandard import ZstdError

from batchacct.archive.holdings import archived
from batchacct.archive.months import next_month
from batchacct.clock import shown
from batchacct.model import JOB
from batchacct.store import sent
from batchacct.store.payload import digest_of, unpacked
from batchacct.store.sent import Numbers, Place
from batchacct.store.spans import IS_OF_JOB
from batchacct.store.tables import job, kept_back, message, usage, usage_history

ROWS_AT_ONCE = 200_000
NAMED = 5
"""So many jobs are named of those something is wrong with."""

CONFIRMED, UNSENT, TO_COME = "confirmed", "unsent", "not in a message yet"
STATES = (CONFIRMED, UNSENT, sent.REFUSED, TO_COME)
"""What every destination is told of; the other kinds of `kept_back` only where there are any."""

LOST = "in no message, though the destination has come past them"
TWICE = "in several messages at once, or in one and kept back as well"
EARLY = "in a message, though the destination has not come to them"
NOT_TO_GO = "in a message, though by the ledger they are not to go out"
NEVER_SENT = "kept back as sent before, and are in no message"
_WRONG = (LOST, TWICE, EARLY, NOT_TO_GO, NEVER_SENT)

Mask = npt.NDArray[np.bool_]


@dataclass
class Outgoing:
    """Records of a period, for each destination by state; `problems` name what is wrong.

    `stranded` tells of records that were sent and have no successor: the receiver has them, by the ledger it should not.
    """

    states: dict[str, dict[str, int]] = field(default_factory=dict)
    stranded: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_outgoing(connection: Connection, since: int, until: int) -> Outgoing:
    """What went out of the jobs that were logged from `since` to before `until`."""
    found = Outgoing()
    places = sent.places(connection)
    counts: dict[str, Counter[str]] = {place.name: Counter() for place in places}
    wrong: dict[tuple[str, str], list[int]] = {}
    messages: dict[int, list[str]] = {}
    for rows in _rows(connection, since, until):
        for place in places:
            for state, mask in _states(connection, place, rows, messages):
                if not mask.any():
                    continue
                counts[place.name][state] += int(mask.sum())
                if state in _WRONG:
                    wrong.setdefault((place.name, state), []).extend(rows.jobs[mask].tolist())
    found.states = {name: dict.fromkeys(STATES, 0) | dict(states) for name, states in counts.items()}
    found.problems += [problem for _, problems in sorted(messages.items()) for problem in problems]
    for (name, state), some in wrong.items():
        found.problems.append(f"destination {name}: {len(some):,} records are {state}: {named(connection, some)}")
    for place in places:
        if some := _stranded(connection, place, since, until):
            told = "nothing stands for any more, and that a receiver cannot be told to drop"
            found.stranded.append(f"destination {place.name} was sent {len(some):,} records that {told}: {named(connection, some)}")
    return found


def _stranded(connection: Connection, place: Place, since: int, until: int) -> list[int]:
    """Jobs of which a record was sent, and of which none under the same key (id and end time) goes out any more."""
    newer = job.alias("newer")
    same_run = and_(newer.c.logged_at == job.c.logged_at, newer.c.record_key == job.c.record_key)
    same_site = newer.c.site.is_not_distinct_from(job.c.site)
    same_key = and_(newer.c.end_at == job.c.end_at, newer.c.lrms_job_id == job.c.lrms_job_id, same_site)
    of_newer = and_(usage.c.job_id == newer.c.id, sent.GOES_OUT, ~sent.is_kept(place.name, sent.NOT_FOR_IT))
    within, newer_within = (one.c.logged_at.between(since, until - 1) for one in (job, newer))
    stands = exists().where(same_run, same_key, of_newer, newer_within).correlate(job)
    of_period = and_(usage_history.c.logged_at.between(since, until - 1), place.passed(usage_history))
    maybe_sent = and_(of_period, ~sent.is_kept(place.name, rows=usage_history))
    of_job = and_(job.c.id == usage_history.c.job_id, job.c.logged_at == usage_history.c.logged_at)
    keys = job.c.site, job.c.cluster, job.c.lrms_job_id, job.c.array_index, job.c.end_at
    query = select(usage_history.c.step, usage_history.c.job_id, *keys).select_from(usage_history.join(job, of_job))
    found = connection.execute(query.where(maybe_sent, within, ~stands))
    rows = [((step, job_id), tuple(of_key)) for step, job_id, *of_key in found]
    if not rows:
        return []
    wanted = {row for row, _ in rows}
    first, last = min(job_id for _, job_id in wanted), max(job_id for _, job_id in wanted)
    overlapping = message.c.destination == place.name, message.c.first_job <= last, message.c.last_job >= first
    left: set[tuple[int, int]] = set()
    for one in sent.sent(connection, *overlapping, message.c.withdrawn_at.is_(None)):
        left |= wanted.intersection(zip(one.steps.tolist(), one.jobs.tolist(), strict=True))
    newest: dict[tuple[object, ...], int] = {}
    for (step, job_id), of_key in rows:
        if (step, job_id) in left:
            newest[of_key] = max(job_id, newest.get(of_key, 0))
    return sorted(newest.values())


class _Rows(NamedTuple):
    """Rows of the ledger in the order of their jobs: steps, jobs, and which go out."""

    steps: Numbers
    jobs: Numbers
    goes_out: Mask


def _rows(connection: Connection, since: int, until: int) -> Iterator[_Rows]:
    """The rows of a period; those of purged jobs are in no figure of it."""
    after = -1
    which = and_(usage.c.logged_at.between(since, until - 1), or_(~_is_purged(connection), _has_record(since, until)))
    goes_out = case((sent.GOES_OUT, 1), else_=0)
    query = select(usage.c.step, usage.c.job_id, goes_out).where(which).order_by(usage.c.job_id).limit(ROWS_AT_ONCE)
    while True:
        rows = np.array(connection.execute(query.where(usage.c.job_id > after)).all(), np.int64).reshape(-1, 3)
        if not len(rows):
            return
        yield _Rows(rows[:, 0], rows[:, 1], rows[:, 2] == 1)
        after = int(rows[-1, 1])


def _is_purged(connection: Connection) -> ColumnElement[bool]:
    """Whether a row of the ledger is of a month of which records were purged."""
    months = [month.month for month in archived(connection, JOB) if month.purged[0]]
    return or_(false(), *(usage.c.logged_at.between(month, next_month(month) - 1) for month in months))


def _has_record(since: int, until: int) -> ColumnElement[bool]:
    return exists().where(IS_OF_JOB, job.c.logged_at.between(since, until - 1))


def _states(connection: Connection, place: Place, rows: _Rows, messages: dict[int, list[str]]) -> Iterator[tuple[str, Mask]]:
    """Of some rows of the ledger, which are in which state; `messages` is what is wrong with each of theirs, looked for once."""
    steps, jobs, goes_out = rows
    first, last = int(jobs[0]), int(jobs[-1])
    times, confirmed, ever = np.zeros(len(jobs), np.int64), np.zeros(len(jobs), bool), np.zeros(len(jobs), bool)
    overlapping = message.c.destination == place.name, message.c.first_job <= last, message.c.last_job >= first
    withdrawn = set(connection.scalars(select(message.c.id).where(*overlapping, message.c.withdrawn_at.is_not(None))))
    for one in sent.sent(connection, *overlapping):
        if one.id not in messages:
            messages[one.id] = list(_wrong_with(connection, one))
        if one.id in withdrawn:
            continue
        at = np.minimum(np.searchsorted(jobs, one.jobs), len(jobs) - 1)
        ever[at[jobs[at] == one.jobs]] = True
        at = at[(jobs[at] == one.jobs) & (steps[at] == one.steps)]
        np.add.at(times, at, 1)
        confirmed[at] |= one.confirmed_at is not None
    yield NOT_TO_GO, ~goes_out & (times > 0)
    passed = goes_out & ((steps < place.step) | ((steps == place.step) & (jobs <= place.job_id)))
    kept = {kind: np.zeros(len(jobs), bool) for kind in sent.KINDS}
    of_rows = select(kept_back.c.kind, kept_back.c.step, kept_back.c.job_id)
    for kind, step, number in connection.execute(
        of_rows.where(kept_back.c.destination == place.name, kept_back.c.job_id.between(first, last))
    ):
        index = int(np.searchsorted(jobs, number))
        if index < len(jobs) and jobs[index] == number and steps[index] == step:
            kept[kind][index] = True
    is_kept = np.logical_or.reduce(list(kept.values()))
    one_message = passed & (times == 1) & ~is_kept
    yield CONFIRMED, one_message & confirmed
    yield UNSENT, one_message & ~confirmed
    for kind, mask in kept.items():
        yield kind, mask & (times == 0) & passed
    yield TO_COME, goes_out & ~passed & (times == 0)
    yield LOST, passed & (times == 0) & ~is_kept
    yield TWICE, passed & ((times > 1) | ((times == 1) & is_kept))
    yield NEVER_SENT, kept[sent.UNCHANGED] & ~ever
    yield EARLY, goes_out & ~passed & (times > 0)


def _wrong_with(connection: Connection, one: sent.Sent) -> Iterator[str]:
    """What is wrong with a message by itself."""
    where = f"message {one.id} to {one.destination}"
    if len(one.jobs) != one.records:
        yield f"{where}: it is said to have {one.records:,} records, and has {len(one.jobs):,} jobs"
    stored, digest, receipt = connection.execute(
        select(message.c.payload, message.c.digest, message.c.receipt).where(message.c.id == one.id)
    ).one()
    if one.confirmed_at is not None and receipt is None:
        yield f"{where}: it is said to be confirmed, {shown(one.confirmed_at)}, and has no receipt"
    if one.confirmed_at is None and receipt is not None:
        yield f"{where}: it has the receipt {receipt}, and is not said to be confirmed"
    if not stored or digest is None:
        return  # purged, or from before digests were kept
    try:
        payload = unpacked(bytes(stored))
    except ZstdError as error:
        yield f"{where}: its payload is damaged ({error})"
        return
    if digest_of(payload) != digest:
        yield f"{where}: its payload was changed since it was built"


def named(connection: Connection, jobs: Sequence[int]) -> str:
    """Jobs as a person looks for them."""
    some = jobs[:NAMED]
    rows = connection.execute(select(job.c.id, job.c.lrms_job_id, job.c.array_index).where(job.c.id.in_(some)))
    names = {row.id: row.lrms_job_id if row.array_index is None else f"{row.lrms_job_id}[{row.array_index}]" for row in rows}
    told = ", ".join(f"job {names[n]} (record {n})" if n in names else f"record {n}" for n in some)
    return told + (f" and {len(jobs) - NAMED:,} more" if len(jobs) > NAMED else "")
