"""An import: each table's rows through their parser into the store, as the answers of a feed; then the totals of both sides."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from sqlalchemy import func, select

from batchacct.collector.collecting import Collected, Collector
from batchacct.collector.once import ask
from batchacct.collector.running import lock_name
from batchacct.importing.feed import Progress, TableFeed
from batchacct.importing.foreign import Foreign, Question
from batchacct.importing.totals import Cell, Sums, Totals, add, standing
from batchacct.model import JOB, LAST_INSTANT, RecordType
from batchacct.parsing import Parsed, Parser, Source, registry
from batchacct.parsing.reading import read_blocks
from batchacct.parsing.rows import row_of
from batchacct.store import Store, store_cursor, stored_cursor
from batchacct.store.imports import Import, note_import
from batchacct.store.twins import twins_of
from batchacct.usage.keeping import LOCK as PUBLISHING

MARGIN_S = 2 * 86_400
"""No local time is further from UTC, and no clock of a database is wrong by more."""
ROWS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Step:
    """One table, or the part of it that was published: its rows become records of a source by a parser.

    cell: of a row, in which the totals count it.
    """

    family: str
    source: Source
    parser_name: str
    question: Question
    cell: Cell
    published_by: str | None = None
    zone: str | None = None
    of_jobs: bool = False

    @property
    def parser(self) -> Parser:
        """Raises: PluginError if its room is not installed."""
        return registry.parser(self.parser_name)


@dataclass
class Tried:
    """What a dry run of a step found: rows, and why some would be rejected."""

    source: str
    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def run(store: Store, foreign: Foreign, steps: Sequence[Step], clock: Callable[[], int], progress: Progress) -> list[Collected]:
    """Imports what is not here yet. Whoever was killed says it again, and it goes on.

    Nothing is published meanwhile. Raises: StoreError, BusyError if it is under way already, or something is being published;
    PluginError; SourceError if the foreign database fails, HorizonError if rows are of archived months: what was stored stays.
    """
    with store.lock(PUBLISHING):
        return [_run_step(store, foreign, step, clock, progress) for step in steps]


def _run_step(store: Store, foreign: Foreign, step: Step, clock: Callable[[], int], progress: Progress) -> Collected:
    name = step.source.name
    with store.lock(lock_name(name)):
        with store.writing() as connection:
            note_import(connection, _import_of(foreign, step), clock())
        feed = TableFeed(foreign, step.question, progress)
        done = ask(store, Collector(step.parser, step.source, (), feed), feed, clock)
        if done.errors:
            raise done.errors[0]
        if stored_cursor(store, name):
            store_cursor(store, name, "", clock())  # the next import looks at all of it again
    return done


def _import_of(foreign: Foreign, step: Step) -> Import:
    question = step.question
    with foreign.reading() as connection:
        last = connection.scalar(
            question.query.with_only_columns(func.max(question.time), maintain_column_froms=True).order_by(None)
        )
    record_type, at = step.parser.record_type.name, 0
    if last is not None:
        try:
            at = int(dt.datetime.fromisoformat(str(last)).replace(tzinfo=dt.UTC).timestamp()) + MARGIN_S
        except ValueError:  # a row with what is no time: it will be a reject
            at = LAST_INSTANT
    return Import(step.source.name, step.family, record_type, at, step.zone, step.published_by, step.of_jobs)


def count(foreign: Foreign, steps: Sequence[Step]) -> int:
    """How many rows there are to import."""
    with foreign.reading() as connection:
        return sum(connection.scalar(select(func.count()).select_from(step.question.query.subquery())) or 0 for step in steps)


def dry_run(foreign: Foreign, steps: Sequence[Step], progress: Progress) -> list[Tried]:
    """What the rows would become; nothing is stored."""
    done = []
    for step in steps:
        tried = Tried(step.source.name)
        for parsed in _parsed(foreign, step, progress):
            tried.rows += parsed.units
            tried.rejected.update(reject.reason for reject in parsed.rejects)
        done.append(tried)
    return done


def from_logs(store: Store, foreign: Foreign, steps: Sequence[Step], record_type: RecordType) -> Totals:
    """What the records come to that were here before, from logs or another import, and stand for rows; by the cells of these."""
    found: Totals = {}
    for step in steps:
        if step.parser.record_type is record_type and not step.of_jobs:
            for parsed in _parsed(foreign, step, lambda rows: None):
                _add_twins(store, step, parsed.records, found)
    return found


def _add_twins(store: Store, step: Step, records: pa.RecordBatch, found: Totals) -> None:
    record_type = step.parser.record_type
    with store.reading() as connection:
        twins = twins_of(connection, record_type, records, step.source.name).stored
        sums = dict(standing(connection, twins.values())) if record_type is JOB else dict.fromkeys(twins.values(), Sums(1, 0, 0))
    units = records.column("native")
    for row, number in twins.items():
        add(found, step.cell(row_of(units[row].as_py(), step.question.table)), sums[number])


def _parsed(foreign: Foreign, step: Step, progress: Progress) -> Iterator[Parsed]:
    parser = step.parser
    for answer in TableFeed(foreign, step.question, progress).ask(None, 0):
        with answer.opened as stream:
            yield from parser.parse(read_blocks(stream, parser.framing), step.source)
