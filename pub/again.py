"""Rows of the ledger that are to be sent once more, unchanged: they get a new step, and the old rows go to the history."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, literal, or_, select, update

from batchacct.store import sent
from batchacct.store.sent import NOT_FOR_IT, NOT_THERE, REFUSED, UNCHANGED, Place
from batchacct.store.tables import destination, kept_back, usage, usage_history


def keep_replaced(connection: Connection, which: ColumnElement[bool], why: str, now: int) -> None:
    """Copies to the history those rows of the ledger that go out and that a destination has come to: they will be replaced."""
    places = sent.places(connection)
    if not places:
        return
    last = connection.scalar(select(func.max(usage_history.c.id))) or 0
    names = [c.name for c in usage.columns]
    rows = select(*(usage.c[n] for n in names), literal(now), literal(why))
    rows = rows.where(which, sent.GOES_OUT, or_(*(place.passed(usage) for place in places)))
    copied = connection.execute(insert(usage_history).from_select([*names, "replaced_at", "why"], rows))
    if copied.rowcount and len(places) > 1:
        for place in places:
            _note_missed(connection, place, last)


def _note_missed(connection: Connection, place: Place, last: int) -> None:
    """Rows in the history since `last` that a destination had not come to: it never will."""
    rows = usage_history.c.id > last, place.ahead(usage_history)
    missed = connection.scalar(select(func.count()).where(*rows))
    if missed:
        gone = exists().where(*rows, usage_history.c.job_id == kept_back.c.job_id, usage_history.c.step == kept_back.c.step)
        connection.execute(delete(kept_back).where(kept_back.c.destination == place.name, gone))
        of_this = destination.c.name == place.name
        connection.execute(update(destination).where(of_this).values(missed=destination.c.missed + missed))


def send_again(connection: Connection, which: ColumnElement[bool], why: str, now: int, *, only: str | None = None) -> int:
    """Has some rows that go out sent to every destination again, or only to one; how many there are.

    For the others their records stay what they are, where they have them.
    """
    step = sent.next_step(connection, now)
    keep_replaced(connection, which, why, now)
    for place in sent.places(connection):
        if only is not None and place.name != only:
            had = place.passed(usage), ~sent.is_kept(place.name, REFUSED, NOT_FOR_IT, NOT_THERE)
            columns = literal(place.name), usage.c.job_id, literal(step), literal(UNCHANGED), literal(why), literal(now)
            rows = select(*columns).where(which, sent.GOES_OUT, *had)
            names = ["destination", "job_id", "step", "kind", "reason", "since"]
            connection.execute(insert(kept_back).from_select(names, rows))
    return connection.execute(update(usage).where(which, sent.GOES_OUT).values(step=step)).rowcount
