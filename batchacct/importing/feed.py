"""The rows of a foreign table as a feed: answers of some thousand rows in the order of their time, each row a line of JSON.

The cursor is the time up to which everything is stored: an import that was killed goes on from there, and what of it is known is
skipped. A row's source is the import's, its file names the database, the table and the times of the answer, and the row itself is
its unit, so that it leads back to the key it has there.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

from batchacct.feeding import Answer
from batchacct.importing.foreign import Foreign, Question
from batchacct.parsing.rows import RowValues, plain, unit_of

ROWS_PER_ANSWER = 10_000
"""An answer ends where the time changes after so many rows."""

_TIME = "at"
"""The label of the time among the columns of a query; no table has such a one."""

Progress = Callable[[int], None]
"""Told how many rows were handed out since the last call."""


def values_of(foreign: Foreign, question: Question) -> Iterator[RowValues]:
    """What every row says, in whatever order.  Raises: SourceError."""
    with foreign.reading() as connection:
        for row in foreign.rows(connection, question.query):
            yield RowValues(question.table, plain(row))


@dataclass(frozen=True, slots=True)
class TableFeed:
    """What a question asks for; it ends when there are no more rows."""

    foreign: Foreign
    question: Question
    progress: Progress = lambda rows: None
    rows_per_answer: int = ROWS_PER_ANSWER

    def ask(self, cursor: str | None, now: int) -> Iterator[Answer]:
        """All rows from the cursor on (None or empty: from the first).  Raises: SourceError."""
        del now
        for lines, first, following in self._answers(cursor):
            until = f"to before {following}" if following else "on"
            where = f"{self.foreign.shown_url} {self.question.where}: rows from {first} {until}"
            yield Answer(where, nullcontext(io.BytesIO(b"".join(lines))), following or first)
            self.progress(len(lines))

    def _answers(self, cursor: str | None) -> Iterator[tuple[list[bytes], str, str | None]]:
        """Lines, the time of the first, and that of the first behind them (None: there are none)."""
        question = self.question
        query = question.query.add_columns(question.time.label(_TIME)).order_by(question.time, *question.key)
        if cursor:
            query = query.where(question.time >= self.foreign.instant(cursor))
        lines: list[bytes] = []
        first = last = ""
        with self.foreign.reading() as connection:
            for row in self.foreign.rows(connection, query):
                at = str(row.pop(_TIME))
                if len(lines) >= self.rows_per_answer and at != last:
                    yield lines, first, at
                    lines = []
                first, last = first if lines else at, at
                lines.append(unit_of(question.table, row))
        if lines:
            yield lines, first, None
