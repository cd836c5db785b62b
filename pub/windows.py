"""Which identities a job may belong to by id and time (docs/explanation/join.md), and how little has to be read for that.

An identity's time is that of the submission, of the CE's acceptance or of the job's end, give or take what `[join]` of the
configuration allows. A job whose time of submission is not known may have ended, as with the APEL client, from a day before the
identity until 28 days after it.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, or_

from batchacct.config import Join
from batchacct.store.spans import ANYTIME, DAY, NEVER, Span, of_rows, since
from batchacct.store.tables import identity
from pub.requeues import first_submit
from pub.scratch import todo

DAYS_OF_A_JOB = 28
"""For so long an identity is that of a job whose time of submission is not known."""


def could_belong(keys: Join, jobs: FromClause, submit_at: ColumnElement[int]) -> ColumnElement[bool]:
    """Same cluster, same id, and the identity's time in the window of its kind around the job's."""
    j, i = jobs.c, identity.c
    after_submit = i.recorded_at - submit_at
    windows = or_(
        and_(i.time_kind == "submit", after_submit.between(-keys.submit_window, keys.submit_window)),
        and_(i.time_kind == "accept", after_submit.between(-keys.accept_before, keys.accept_after)),
        and_(i.time_kind == "end", (i.recorded_at - j.end_at).between(-keys.end_window, keys.end_window)),
        and_(i.time_kind != "end", j.submit_at.is_(None), (j.end_at - i.recorded_at).between(-DAY, DAYS_OF_A_JOB * DAY - 1)),
    )
    same_element = or_(i.array_index.is_(None), i.array_index == j.array_index)
    return and_(i.join_id == j.join_id, i.cluster == j.cluster, i.superseded_by.is_(None), same_element, windows)


def recorded_around(keys: Join, jobs: FromClause, submit_at: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether an identity was recorded in any of the windows around a job: as much of it as an index of ids and times can tell.

    Ids come again after weeks or days; identities of other times need not be read then.
    """
    end_at = jobs.c.end_at
    before, after = _widest(keys)
    first = case(
        (submit_at.is_(None), end_at - max(DAYS_OF_A_JOB * DAY, before)),
        (end_at < submit_at, end_at - before),
        else_=submit_at - before,
    )
    last = case((submit_at.is_(None), end_at + max(DAY, after)), (end_at > submit_at, end_at + after), else_=submit_at + after)
    return identity.c.recorded_at.between(first, last)


def when_recorded(connection: Connection, keys: Join) -> Span:
    """When identities were recorded that could belong to the jobs of `todo`."""
    submitted = of_rows(connection, todo, todo.c.submit_at), of_rows(connection, first_submit, first_submit.c.submit_at)
    ended = of_rows(connection, todo, todo.c.end_at)
    if ended is ANYTIME:
        return ANYTIME
    before, after = _widest(keys)
    around = [(one, before, after) for one in submitted]
    around.append((ended, max(before, DAYS_OF_A_JOB * DAY), max(after, DAY)))
    known = [
        (one.first - before, one.last + after)
        for one, before, after in around
        if one != NEVER and one.first is not None and one.last is not None
    ]
    return Span(min(first for first, _ in known), max(last for _, last in known)) if known else NEVER


def logged_since(connection: Connection, keys: Join, identities: Span) -> Span:
    """When jobs were logged that such identities could belong to: they may have run for as long as they liked."""
    return ANYTIME if identities.first is None else since(connection, identities.first - max(*_widest(keys), DAY))


def _widest(keys: Join) -> tuple[int, int]:
    """The most that an identity may be before and after the time it is compared with."""
    return max(keys.submit_window, keys.accept_before, keys.end_window), max(keys.submit_window, keys.accept_after, keys.end_window)
