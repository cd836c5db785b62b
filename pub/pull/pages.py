"""Pages of usage records, out of the ledger: made anew for each request, and nothing is written by that.

A page is what the outbox would put into a message from a place on: the records that go out, that the filter of the destination lets
through, and that the format takes. It is read from one state of the database, in pieces, so that memory does not grow with the
ledger; it ends where it is full, or has taken long enough, with what it has.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sqlalchemy import Connection, Select, and_, or_, select, union_all

from batchacct.config import Config, Destination
from batchacct.errors import ConfigError
from batchacct.model import INTEGER
from batchacct.store import Store
from batchacct.store.imports import published_elsewhere
from batchacct.store.sent import GO_OUT, Numbers, last_step
from batchacct.store.tables import usage
from pub.destinations import Mask, is_for
from pub.formats.contract import Format, Rendered
from pub.outbox import NO_JOB, Batch, Outbox, fixed_templates, numbers, ranges, slices
from pub.pull.cursor import AGAIN_AT_MOST, Cursor, digest

PIECE_ROWS = 5_000
"""So many rows of the ledger at most are made into records at a time."""
LOOKED_AT = 100_000
"""A page ends after so many rows, though it is not full: few may be of its period."""
LONGEST_S = 20.0
"""... or after so long."""

_SOUGHT = pa.schema([("step", INTEGER), ("job_id", INTEGER), ("logged_at", INTEGER)])


class NotThereError(Exception):
    """The ledger does not reach as far as a cursor."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: the records of a destination in a format, of jobs that ended from `since` to before `until`."""

    destination: Destination
    format: Format
    since: int | None = None
    until: int | None = None

    def digest(self) -> bytes:
        return digest(self.destination.name, self.format.name, str(self.since), str(self.until))

    def ended(self, at: npt.NDArray[np.int64]) -> Mask:
        mask = np.ones(len(at), bool)
        if self.since is not None:
            mask &= at >= self.since
        if self.until is not None:
            mask &= at < self.until
        return mask


@dataclass
class Page:
    """A page so far. Counted are records looked at for it: `refused`, by reason; `not_for_it` by the filter; `elsewhere`, which
    another program has published, as they are kept back from messages; values `left_out`.

    `again`: rows refused on the way to it, to be tried again; `given_up`: how many could not be named for that.
    """

    cursor: Cursor
    records: int = 0
    texts: list[pa.Array[Any]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    not_for_it: int = 0
    elsewhere: int = 0
    given_up: int = 0
    more: bool = False

    def content(self, form: Format) -> bytes:
        """The page as one message; nothing if there are no records, as no format has a message without any."""
        return form.message(pa.concat_arrays(self.texts)) if self.texts else b""


def read_page(store: Store, config: Config, question: Question, cursor: Cursor, most: int, *, now: int) -> Page:
    """The page after a place.

    Raises: NotThereError; ConfigError if records are named in another way than those that went out; StoreError.
    """
    with store.reading() as connection:
        _require(connection, config, cursor)
        reader = _Reader(connection, Outbox(config, question.destination, store.dialect, question.format, now), question, most)
        return reader.read(cursor)


def _require(connection: Connection, config: Config, cursor: Cursor) -> None:
    if cursor.step > last_step(connection):
        raise NotThereError
    fixed = fixed_templates(connection)
    now = [config.publish.local_job_id, config.publish.local_job_id_array]
    if fixed is not None and fixed != now:
        raise ConfigError(
            f"[publish] local_job_id and local_job_id_array are {now[0]!r} and {now[1]!r}, and were {fixed[0]!r} and {fixed[1]!r} "
            "when records were last published: set them back, or let `batchacct publish --once` say whether they may change"
        )


class _Reader:
    """Reads one page, on one connection."""

    def __init__(self, connection: Connection, outbox: Outbox, question: Question, most: int) -> None:
        self._connection, self._outbox, self._question, self._most = connection, outbox, question, most
        self._is_fit_left = False

    def read(self, cursor: Cursor) -> Page:
        page = Page(cursor)
        end = time.monotonic() + LONGEST_S
        steps, jobs = self._try_again(page, cursor)
        again = [(steps, jobs)]
        step, job_id, looked = cursor.step, cursor.job_id, 0
        page.more = True
        while page.more and page.records < self._most and looked < LOOKED_AT and time.monotonic() < end:
            # few of the rows may be what is asked for: then more are looked at with each time
            rows = min(self._most - page.records + looked, PIECE_ROWS)
            found = self._ahead(step, job_id, rows)
            page.more = len(found[0]) == rows
            for first, last in slices(found[0], rows):
                sought = (found[0][first:last], found[1][first:last], found[2][first:last])
                taken, refused = self._take(page, *sought)
                again.append(refused)
                looked += taken
                if taken:
                    step, job_id = int(sought[0][taken - 1]), int(sought[1][taken - 1])
                if taken < last - first or page.records == self._most:
                    page.more = True
                    break
        if page.more:
            page.more = bool(len(self._ahead(step, job_id, 1)[0]))
        page.more |= self._is_fit_left
        steps, jobs = (np.concatenate([one[n] for one in again]) for n in (0, 1))
        page.given_up = max(len(jobs) - AGAIN_AT_MOST, 0)
        page.cursor = Cursor(step, job_id, steps[:AGAIN_AT_MOST], jobs[:AGAIN_AT_MOST])
        return page

    def _ahead(self, step: int, job_id: int, rows: int) -> tuple[Numbers, Numbers, Numbers]:
        """The next rows behind a place that go out, in order: steps, jobs, when they were logged."""
        found = self._outbox.dialect.fetch(self._connection, ahead(step, job_id, rows), _SOUGHT)
        steps, jobs, logged = (numbers(found, name) for name in _SOUGHT.names)
        order = np.lexsort((jobs, steps))
        return steps[order], jobs[order], logged[order]

    def _gathered(self, which: Any, steps: Numbers, jobs: Numbers) -> Batch:
        return self._outbox.gathered(lambda: nullcontext(self._connection), which, (steps, jobs), None)

    def _try_again(self, page: Page, cursor: Cursor) -> tuple[Numbers, Numbers]:
        """Takes the records that were refused and fit now; returns the rows of those that do not, or do not fit on the page."""
        if not len(cursor.jobs):
            return cursor.steps, cursor.jobs
        batch = self._gathered(usage.c.job_id.in_(cursor.jobs.tolist()), cursor.steps, cursor.jobs)
        named = set(zip(cursor.steps.tolist(), cursor.jobs.tolist(), strict=True))
        stands = np.array([row in named for row in zip(batch.steps.tolist(), batch.jobs.tolist(), strict=True)], bool)
        steps, jobs, records = batch.steps[stands], batch.jobs[stands], batch.records.filter(pa.array(stands))
        wanted = self._wanted(records)
        steps, jobs, records = steps[wanted], jobs[wanted], records.filter(pa.array(wanted))
        fits = self._render(records).records.is_valid().to_numpy(zero_copy_only=False)
        taken = fits & (np.cumsum(fits) <= self._most)
        self._is_fit_left = bool((fits & ~taken).any())
        self._add(page, self._render(records.filter(pa.array(taken))))
        return steps[~taken], jobs[~taken]

    def _take(self, page: Page, steps: Numbers, jobs: Numbers, logged: Numbers) -> tuple[int, tuple[Numbers, Numbers]]:
        """Takes what is asked for of some rows until the page is full: how many rows were looked at, and which were refused."""
        batch = self._gathered(or_(*ranges(steps, jobs)), steps, jobs)
        at = np.flatnonzero(~np.isin(jobs, batch.missing[1]))
        of_period = self._question.ended(batch.records.column("end_at").fill_null(-1).to_numpy(zero_copy_only=False))
        ours = ~np.isin(batch.jobs, list(published_elsewhere(self._connection, batch.jobs)))
        wanted = of_period & ours & self._wanted(batch.records)
        rendered = self._render(batch.records.filter(pa.array(wanted)))
        fits = np.zeros(len(at), bool)
        fits[wanted] = rendered.records.is_valid().to_numpy(zero_copy_only=False)
        room = self._most - page.records
        full = np.flatnonzero(np.cumsum(fits) == room)
        taken = len(jobs) if not len(full) else int(at[full[0]]) + 1
        looked = at < taken
        page.refused.update(filter(None, rendered.reasons.filter(pa.array(looked[wanted])).to_pylist()))
        page.elsewhere += int((of_period & ~ours & looked).sum())
        page.not_for_it += int((of_period & ours & ~wanted & looked).sum())
        gone = np.isin(jobs[:taken], batch.missing[1]) & self._question.ended(logged[:taken])
        page.refused.update({NO_JOB: int(gone.sum())} if gone.any() else {})
        if looked.all():
            self._add(page, rendered)
        elif (fits & looked).any():
            self._add(page, self._render(batch.records.filter(pa.array(fits & looked))))
        refused = wanted & ~fits & looked
        return taken, (batch.steps[refused], batch.jobs[refused])

    def _wanted(self, records: pa.RecordBatch) -> Mask:
        wanted = is_for(self._question.destination, records)
        return np.ones(records.num_rows, bool) if wanted is None else wanted

    def _render(self, records: pa.RecordBatch) -> Rendered:
        return self._question.format.render(records, self._outbox.now)

    def _add(self, page: Page, rendered: Rendered) -> None:
        """Puts what the format took on the page."""
        texts = rendered.records.drop_null()
        if len(texts):
            page.texts.append(texts)
            page.records += len(texts)
        page.left_out.update(rendered.left_out)


def ahead(step: int, job_id: int, rows: int) -> Select[Any]:
    """The next rows behind a place that go out: the rest of that step, and the steps after it.

    Four walks along the index, each of so many rows: of a union a database may sort all there is before it gives the first.
    """
    columns = select(usage.c.step, usage.c.job_id, usage.c.logged_at)
    parts = and_(usage.c.step == step, usage.c.job_id > job_id), usage.c.step > step
    walks = [columns.where(usage.c.outcome == outcome, part) for outcome in GO_OUT for part in parts]
    short = [select(walk.order_by(usage.c.step, usage.c.job_id).limit(rows).subquery()) for walk in walks]
    together = union_all(*short).subquery()
    return select(together).order_by(together.c.step, together.c.job_id).limit(rows)
