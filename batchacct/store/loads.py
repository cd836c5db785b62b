"""Loads: the books of what was read, and a part of every record's id.

A load grows. The blocks of a followed file that come one after the other are one load, until it is joined or has
`ROWS_TO_GROW_TO` rows: a collector that follows a log stores a few lines many times a second, for years. `next_row` is how much of
the load's range of ids is handed out; completing has looked at the rows before `completed_to`, and `completed_at` is null while
there are others.

Who does what with a load at the same time (SQLite lets one transaction write at a time; PostgreSQL locks rows):

- Who adds to a load (appending, and completing for what it makes) takes it FOR UPDATE, and passes over one that is locked: it
  begins a new load then, and never waits for a step of the join.
- Who joins loads takes them FOR KEY SHARE (`hold`) before it reads their rows: it waits for those that are added to just then,
  sees what was added, and nobody adds to them from then on until it ends. Completing may mark them meanwhile.
- Who marks loads as joined takes them FOR NO KEY UPDATE before (`mark`). Who completes takes them so from the beginning, as far as
  nobody has locked them (`unlocked`): MariaDB and MySQL know FOR UPDATE alone, and there a load that is being joined is completed
  the next time; a collector does not wait for that.

The order in which locks are waited for: the dialect's `append_alone`, then the rows of `load` by their ids. Whoever keeps to that
cannot be in a deadlock.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select, update

from batchacct.store.tables import load

ROWS_TO_GROW_TO = 10_000
"""A load with more rows is one block's. Steps of the join and of completing take several loads of this size."""

LOADS_PER_UPDATE = 1000
TIMES = ("last_record_at", "first_row_at", "last_row_at", "first_end_at", "last_end_at")
"""Columns of a load that are the first or the last of the times of what is in it."""

_ADDED = ("units", "recorded", "merged", "completed", "known", "revised", "skipped", "rejected")


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """A load that rows are being added to: its number, the place of the first in its range of ids, and what it had before."""

    id: int
    first_row: int
    skip_reasons: str | None = None
    times: Mapping[str, int | None] = field(default_factory=dict)


def open_load(connection: Connection, values: Mapping[str, Any], rows: int) -> OpenLoad:
    """The load that `rows` more rows go into: the one of their file that ends where they begin, if it may grow, else a new one.

    `values`: source, record_type, file_id, path, start_offset and end_offset. What is made of parts is of no bytes: both offsets
    are 0. `close_load` follows, in the same transaction, in which the dialect's `append_alone` was called.
    """
    found = _growing(connection, values, rows)
    if found is not None:
        return OpenLoad(found.id, found.next_row, found.skip_reasons, {name: getattr(found, name) for name in TIMES})
    zeros = dict.fromkeys((*_ADDED, "next_row", "completed_to", "loaded_at"), 0)
    key = connection.execute(insert(load).values(zeros | dict(values))).inserted_primary_key
    assert key is not None
    return OpenLoad(int(key[0]), 0)


def _growing(connection: Connection, values: Mapping[str, Any], rows: int) -> Row[Any] | None:
    """Of a file's loads the newest that ends where the rows begin, locked; None if they need a new one."""
    if values["file_id"] is None:
        return None
    ends_here = (load.c.file_id == values["file_id"], load.c.end_offset == values["start_offset"])
    newest = select(load.c.id).where(*ends_here).order_by(load.c.id.desc()).limit(1).scalar_subquery()
    found = connection.execute(select(load).where(load.c.id == newest, *ends_here).with_for_update(skip_locked=True)).one_or_none()
    if found is None or found.joined_at is not None or found.next_row + rows > ROWS_TO_GROW_TO:
        return None
    has_bytes = found.end_offset > 0, values["end_offset"] > 0
    same = (getattr(found, name) == values[name] for name in ("source", "record_type", "path"))
    return found if has_bytes[0] == has_bytes[1] and all(same) else None


def close_load(connection: Connection, opened: OpenLoad, rows: int, now: int, added: Mapping[str, int], **values: Any) -> None:
    """Books what came into a load: `rows` of its range of ids, and the counts `added` to those it has.

    `values` replace what stands there; `skip_reasons` (reason to count) and `TIMES` are put together with it.
    """
    values |= {name: load.c[name] + count for name, count in added.items() if count}
    if skipped := values.pop("skip_reasons", None):
        reasons = Counter(json.loads(opened.skip_reasons or "{}"))
        reasons.update(skipped)
        values["skip_reasons"] = json.dumps(reasons, sort_keys=True)
    for name in TIMES:
        times = [time for time in (opened.times.get(name), values.get(name)) if time is not None]
        values[name] = (min if name.startswith("first_") else max)(times, default=None)
    values |= {"next_row": opened.first_row + rows, "loaded_at": now}
    connection.execute(update(load).where(load.c.id == opened.id).values(values))


def hold(connection: Connection, numbers: Sequence[int]) -> None:
    """Has nobody add to some loads until this transaction ends; what statements read from now on is all of their rows."""
    held = select(load.c.id).where(load.c.id.in_(numbers)).order_by(load.c.id)
    connection.execute(held.with_for_update(read=True, key_share=True)).all()


def unlocked(query: Select[Any]) -> Select[Any]:
    """A query of loads that may be marked until the transaction ends: without those that another one has locked."""
    return query.with_for_update(key_share=True, skip_locked=True)


def mark(connection: Connection, which: ColumnElement[bool], **values: object) -> None:
    """Sets columns of the loads that `which` says."""
    locked = select(load.c.id).where(which).order_by(load.c.id).with_for_update(key_share=True)
    if connection.execute(locked).all():
        connection.execute(update(load).where(which).values(values))


def mark_unlocked(connection: Connection, which: ColumnElement[bool], **values: object) -> None:
    """As `mark`, without those loads that another transaction has locked."""
    free = connection.scalars(unlocked(select(load.c.id).where(which).order_by(load.c.id))).all()
    for first in range(0, len(free), LOADS_PER_UPDATE):
        connection.execute(update(load).where(load.c.id.in_(free[first : first + LOADS_PER_UPDATE])).values(values))
