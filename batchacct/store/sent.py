"""What went out: how far each destination has come in the ledger, and which rows of it a message holds.

Rows of the ledger are numbered by the step of the join that wrote them (a number that is its time, or follows the last one), and
within it by their jobs. A destination goes through them in that order, so that one place says what it has dealt with. Of what is
behind that place, a row that goes out is in one of its messages, unless `kept_back` has it; no row has to be written to when its
record leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from sqlalchemy import ColumnElement, Connection, and_, case, exists, insert, or_, select, update

from batchacct.errors import StoreError
from batchacct.store.tables import destination, kept_back, message, setting, usage

Numbers = npt.NDArray[np.int64]

GO_OUT = ("joined", "local")
"""Outcomes of jobs that are published."""
GOES_OUT = usage.c.outcome.in_(GO_OUT)

REFUSED, NOT_FOR_IT, UNCHANGED, NOT_THERE, ELSEWHERE = "refused", "not for it", "sent before", "not there", "published elsewhere"
"""Kinds of rows kept back: the format refuses the record; the destination is to have none; an earlier row's record stands; the
job's own record was archived when the destination came to it; the program it was imported from has published it.
"""
KINDS = (REFUSED, NOT_FOR_IT, UNCHANGED, NOT_THERE, ELSEWHERE)

IS_OPEN = and_(message.c.confirmed_at.is_(None), message.c.withdrawn_at.is_(None))
"""Messages that no receiver is known to have, and that are to get there."""

_NO_ROWS: Numbers = np.empty(0, np.int64)
_LAST_JOB = 2**62
_STEP = "step"
STEPS_PER_S = 1000
"""More than there ever are."""
_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Place:
    """How far a destination has come: all rows up to (`step`, `job_id`) are dealt with, but for `missed` ones.

    Those were replaced before it came to them. `retired_at`: since when it is not configured any more.
    """

    name: str
    step: int
    job_id: int
    missed: int
    retired_at: int | None

    def passed(self, rows: Any) -> ColumnElement[bool]:
        """Of rows of `usage`, or of its history, those that are behind it."""
        return or_(rows.c.step < self.step, and_(rows.c.step == self.step, rows.c.job_id <= self.job_id))

    def ahead(self, rows: Any) -> ColumnElement[bool]:
        """... and those that are before it."""
        return or_(rows.c.step > self.step, and_(rows.c.step == self.step, rows.c.job_id > self.job_id))


def places(connection: Connection) -> list[Place]:
    """Every destination there ever was, in the order of their names."""
    rows = connection.execute(select(destination).order_by(destination.c.name))
    return [Place(row.name, row.done_step, row.done_job, row.missed, row.retired_at) for row in rows]


def move_to(connection: Connection, name: str, step: int, job_id: int) -> None:
    """Everything up to there is dealt with."""
    connection.execute(update(destination).where(destination.c.name == name).values(done_step=step, done_job=job_id))


def move_to_end(connection: Connection, name: str) -> None:
    """Everything there is is dealt with."""
    move_to(connection, name, last_step(connection), _LAST_JOB)


def last_step(connection: Connection) -> int:
    """The number of the last step of the join; 0 before the first."""
    return int(connection.scalar(select(setting.c.value).where(setting.c.name == _STEP)) or 0)


def next_step(connection: Connection, now: int) -> int:
    """The number of the next step of the join: no number is used twice, whatever becomes of its rows.

    It is at least the time, in milliseconds. So a database that was restored from a backup does not use those again that it gave
    after the backup: a client that pulls would take new rows for some it has had.
    """
    step = max(last_step(connection) + 1, now * STEPS_PER_S)
    known = connection.execute(update(setting).where(setting.c.name == _STEP).values(value=str(step), since=now))
    if not known.rowcount:
        connection.execute(insert(setting).values(name=_STEP, value=str(step), since=now))
    return step


def is_kept(name: str, *kinds: str, rows: Any = usage) -> ColumnElement[bool]:
    """Whether a row of the ledger is kept back from a destination."""
    of_row = (kept_back.c.destination == name, kept_back.c.job_id == rows.c.job_id, kept_back.c.step == rows.c.step)
    return exists().where(*of_row, kept_back.c.kind.in_(kinds or KINDS))


def packed_rows(steps: Numbers, jobs: Numbers) -> bytes:
    """Rows of the ledger, in some order, as a message keeps them: a byte or two a row."""
    differences = np.stack([np.diff(steps, prepend=0), np.diff(jobs, prepend=0)]).astype("<i8")
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(differences.tobytes())


def unpacked_rows(number: int, packed: bytes) -> tuple[Numbers, Numbers]:
    """Steps and jobs of the rows of message `number`.  Raises: StoreError if they are damaged."""
    try:
        raw = zstandard.ZstdDecompressor().decompress(packed)
        differences = np.frombuffer(raw, "<i8").reshape(2, -1)
    except (zstandard.ZstdError, ValueError) as error:
        raise StoreError(
            f"which jobs are in message {number} is damaged in the database ({error}): restore the database from a backup"
        ) from error
    return np.cumsum(differences[0]), np.cumsum(differences[1])


@dataclass(frozen=True, slots=True)
class Sent:
    """A message and the rows of the ledger in it."""

    id: int
    destination: str
    format: str
    records: int
    confirmed_at: int | None
    refused_at: int | None
    steps: Numbers
    jobs: Numbers


def sent(connection: Connection, *which: ColumnElement[bool]) -> Iterator[Sent]:
    """Some messages, in the order of their numbers, read one after the other.  Raises: StoreError if one is damaged."""
    numbers: Sequence[int] = connection.scalars(select(message.c.id).where(*which).order_by(message.c.id)).all()
    names = ("id", "destination", "format", "records", "confirmed_at", "refused_at", "jobs")
    columns = [message.c[name] for name in names]
    for start in range(0, len(numbers), 100):
        some = select(*columns).where(message.c.id.in_(numbers[start : start + 100])).order_by(message.c.id)
        for row in connection.execute(some).all():
            steps, jobs = unpacked_rows(row.id, bytes(row.jobs)) if row.jobs else (_NO_ROWS, _NO_ROWS)
            yield Sent(row.id, row.destination, row.format, row.records, row.confirmed_at, row.refused_at, steps, jobs)


def messages_of(connection: Connection, job_id: int) -> list[tuple[Sent, int]]:
    """The messages a job is in, oldest first, each with the step of its row."""
    found = []
    for one in sent(connection, message.c.first_job <= job_id, message.c.last_job >= job_id):
        found += [(one, int(step)) for step in one.steps[one.jobs == job_id]]
    return found


def current_of(connection: Connection, one: Sent) -> list[int]:
    """The jobs of a message whose records are those that its destination is to have still.

    That is where its rows are those of the ledger, or later ones stand for the same record and no later message has the job.
    """
    steps = dict(zip(one.jobs.tolist(), one.steps.tolist(), strict=True))
    jobs = sorted(steps)
    later = message.c.destination == one.destination, message.c.id > one.id
    overlapping = message.c.first_job <= max(jobs, default=0), message.c.last_job >= min(jobs, default=0)
    newer: set[int] = set()
    for other in sent(connection, *later, *overlapping):
        newer |= steps.keys() & set(other.jobs.tolist())
    stands = case((is_kept(one.destination, UNCHANGED), 1), else_=0)
    current: list[int] = []
    for start in range(0, len(jobs), 1000):
        some = select(usage.c.job_id, usage.c.step, stands).where(usage.c.job_id.in_(jobs[start : start + 1000]), GOES_OUT)
        current += [
            job_id
            for job_id, step, is_unchanged in connection.execute(some)
            if steps[job_id] == step or (is_unchanged and job_id not in newer)
        ]
    return current
