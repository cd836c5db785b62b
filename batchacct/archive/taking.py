"""`db archive`: closed months leave the database for files, each in one step that may be killed anywhere.

A file is written beside what is in force, and noted as a leftover before its first byte. It is read back, and what it comes to is
compared with what the database says of the rows, under the turn of who appends, in the very transaction that deletes them and puts
the file in force. So there is one moment at which a month leaves the database; before it the file is a leftover, which the next run
removes, and after it the rows are gone. Records that came in between (late ones, of another month's load) make the comparison
fail; then the file is written anew. A month that was archived and has rows again (late, recalled) gets a new file with all of it.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Select, case, delete, func, select, true

from batchacct.archive import closing, durations
from batchacct.archive.holdings import (
    Archived,
    archived,
    batches_of,
    note_place,
    recalled_ids,
    schema_of,
    store_archived,
    without_ids,
)
from batchacct.archive.layout import HASH_BITS, Manifest, MonthWriter, Sums, month_folder, sums_of, verify
from batchacct.archive.leftovers import (
    claim,
    drop_leftover,
    locked,
    note_leftover,
    require,
    require_in_force,
    tidy,
    unless_overtaken,
)
from batchacct.archive.months import month_name
from batchacct.config import Config
from batchacct.crashpoints import crash_point
from batchacct.errors import ArchiveError
from batchacct.model import JOB, RECORD_TYPES, RecordType
from batchacct.store import HeldLocks, Store, partitions
from batchacct.store.months import Month
from batchacct.store.spans import IS_OF_IDENTITY_OF_MANY, IS_OF_JOB
from batchacct.store.tables import RECORD_TABLES, benchmark, identity, job, recalled, usage, vo_mapping
from batchacct.store.vos import VO

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 8_192
TRIES = 3
"""So often a month is written anew because records came meanwhile; then it is left for the next run."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became, or in a dry run would become, of a month of a record type; `sums` are those of the records that leave."""

    record_type: str
    month: int
    sums: Sums
    file: Path | None


@dataclass
class Report:
    """A run: months taken out, and those held, each with its reasons."""

    taken: list[Taken] = field(default_factory=list)
    held: dict[int, list[str]] = field(default_factory=dict)


class BusyMonthError(Exception):
    """So much happens to a month that it cannot be archived now; nothing of it was deleted, and the next run tries again."""


class _ChangedError(Exception):
    """The rows of a month, or what the ledger says of them, are not those that were written."""


Ledger = Counter[str | None]
"""What the ledger says of some jobs: how many there are of each outcome, and the sums of the numbers it refers to."""
_REFERENCES = ("identity_id", "mapping_id", "benchmark_id")


@dataclass(frozen=True, slots=True)
class _Written:
    """A file that is to be in force: how many of its records are revisions, and what of it came from the table.

    `back` are those of the file in force that do not count there, as they were recalled.
    """

    manifest: Manifest
    revisions: int
    from_table: Sums
    ledger: Ledger
    back: list[int]


def archive(
    store: Store, config: Config, now: int, *, before: int | None = None, dry_run: bool = False, trust_clock: bool = False
) -> Report:
    """Takes the closed months out, those with nothing left to happen in them.

    Raises: ArchiveError, BusyError, IncompleteError if the clock cannot be right, StoreError.
    """
    limit = closing.closed_limit(now, config.retention.keep, before)
    report = Report()
    with locked(store) as locks:
        with store.reading() as connection:
            if not trust_clock:
                closing.check_clock(connection, now)
            months = closing.month_with_records(connection, limit)
            report.held = {month: reasons for month in months if (reasons := closing.why_held(connection, month))}
        if not dry_run:
            tidy(store, config.archive.path, now)
        jobs = closing.jobs_that_stay(limit, report.held) if dry_run else true()
        for record_type in RECORD_TYPES.values():
            for month in (m for m in months if m not in report.held):
                going = closing.going(record_type, config.join, month, limit, jobs)
                taker = Taker(store, config.archive.path, record_type, month, going, now, locks)
                try:
                    taken = taker.count() if dry_run else taker.take()
                except BusyMonthError as error:
                    report.held[month] = [str(error)]
                    continue
                report.taken += [taken] if taken.sums.rows else []
        if not dry_run:
            drop_empty_partitions(store, config, limit, now, locks)
    return report


def drop_empty_partitions(store: Store, config: Config, limit: int, now: int, locks: HeldLocks) -> None:
    """Drops the partitions of archived months in which nothing is left, where the database has partitions."""
    if store.dialect.partitions is None:
        return
    for record_type in RECORD_TYPES.values():
        with store.reading() as connection:
            there = {month.start for month in partitions.months(store, connection, record_type.name)}
            months = [one.month for one in archived(connection, record_type) if one.month in there and one.month < limit]
        for month in months:
            Taker(store, config.archive.path, record_type, month, true(), now, locks).drop_empty_partition()


@dataclass(frozen=True, slots=True)
class Taker:
    """Takes the records that are `going` out of the table of a record type, of one month."""

    store: Store
    path: Path
    record_type: RecordType
    month: int
    going: ColumnElement[bool]
    now: int
    locks: HeldLocks

    def count(self) -> Taken:
        """What would be taken."""
        with self.store.reading() as connection:
            return self._taken(self._table_sums(connection)[0], None)

    def take(self) -> Taken:
        """Raises: BusyMonthError, with nothing deleted; ArchiveError, StoreError."""
        changed: _ChangedError | None = None
        for _ in range(TRIES):
            with self.store.reading() as connection:
                sums, _ = self._table_sums(connection)
            if not sums.rows:
                return self._taken(sums, None)
            with self.store.writing() as connection:
                old, name = self.begin(connection)
            crash_point("archive.begun")
            file = month_folder(self.path, self.record_type, self.month) / name
            with unless_overtaken(self.locks):
                written = self._write(old, name)
                crash_point("archive.written")
                verify(file, written.manifest, self.record_type.time_column)
            purged = (0, 0, 0, 0) if old is None else old.purged
            new = Archived(self.record_type, self.month, file, written.revisions, written.manifest, self.now, purged=purged)
            try:
                self._put_in_force(new, old, written)
            except _ChangedError as error:
                log.info("%s of the %s records: %s; it is written anew", month_name(self.month), self.record_type.name, error)
                self.drop_leftover(name)
                changed = error
                continue
            crash_point("archive.in-force")
            if old is not None and old.file is not None:
                self.drop_leftover(old.file.name)
            return self._taken(written.from_table, file)
        raise BusyMonthError(f"its {self.record_type.name} records changed each of the {TRIES} times they were written: {changed}")

    def _taken(self, sums: Sums, file: Path | None) -> Taken:
        return Taken(self.record_type.name, self.month, sums, file)

    # --- the file ------------------------------------------------------------------------------------------------------

    def begin(self, connection: Connection) -> tuple[Archived | None, str]:
        """The file in force, if there is one, and the name of the next, noted as a leftover until that is in force."""
        require(self.locks)
        prefix = note_place(connection, self.path, self.now)
        old = next((m for m in archived(connection, self.record_type) if m.month == self.month), None)
        name = f"{prefix}-{secrets.token_hex(6)}.parquet"
        note_leftover(connection, self.record_type, self.month, name)
        return old, name

    def writer(self, name: str) -> MonthWriter:
        """Writes the file of that name."""
        return MonthWriter(self.path, self.record_type, self.month, name.removesuffix(".parquet"), schema_of(self.record_type))

    def _write(self, old: Archived | None, name: str) -> _Written:
        """Writes all of a month, what is in force and what leaves the table."""
        schema = schema_of(self.record_type)
        revisions, from_table, ledger = 0, Sums(), Ledger()
        back: list[int] = []
        with (
            self.writer(name) as writer,
            self.store.reading() as connection,
        ):
            if old is not None and old.file is not None:
                kept = 0
                back = recalled_ids(connection, self.record_type, self.month)
                for batch in batches_of(old):
                    still = without_ids(batch, back)
                    writer.write(still)
                    kept += still.num_rows
                    revisions += _revisions(still)
                if kept != old.sums.rows - len(back):
                    raise ArchiveError(
                        f"archive file {old.file}: of {old.sums.rows:,} records {kept:,} are left without {len(back):,}"
                    )
            for batch in rows_of(connection, self._query(), schema):
                writer.write(batch)
                from_table += sums_of(self.record_type.name, batch)
                ledger.update(self._ledger_of(batch))
                revisions += _revisions(batch)
            crash_point("archive.writing")
            return _Written(writer.finish(), revisions, from_table, ledger, back)

    def _query(self) -> Select[Any]:
        table = RECORD_TABLES[self.record_type.name]
        order = (table.c[self.record_type.time_column], table.c.record_key, table.c.revision)
        return records_with_ledger(self.record_type).where(self.going).order_by(*order)

    # --- the database --------------------------------------------------------------------------------------------------

    def _table_sums(self, connection: Connection) -> tuple[Sums, int]:
        """What the rows that leave come to, as the database says, and how many of them are revisions."""
        table = RECORD_TABLES[self.record_type.name]
        columns = table.c
        hashes = func.sum(columns.content_hash % (1 << HASH_BITS))
        revised = func.sum(case((columns.revision > 0, 1), else_=0))
        row = connection.execute(select(func.count(), revised, hashes, *durations.of_table(table)).where(self.going)).one()
        count, revisions, hash_sum = (int(value or 0) for value in row[:3])
        wall_us, cpu_us = durations.microseconds(table.name, *row[3:])
        return Sums(count, wall_us, cpu_us, hash_sum), revisions

    def _ledger_of(self, batch: pa.RecordBatch) -> Ledger:
        if self.record_type is not JOB:
            return Ledger()
        counts: Ledger = Counter(batch.column("outcome").to_pylist())
        for name in _REFERENCES:
            numbers = batch.column(name).fill_null(0).to_numpy()
            counts[name] = int((numbers % (1 << HASH_BITS)).sum())
        return counts

    def _table_ledger(self, connection: Connection) -> Ledger:
        """What the ledger says of the jobs that leave."""
        if self.record_type is not JOB:
            return Ledger()
        counts = Ledger()
        sums = [func.sum(usage.c[name] % (1 << HASH_BITS)) for name in _REFERENCES]
        found = select(usage.c.outcome, func.count(), *sums).select_from(job.outerjoin(usage, IS_OF_JOB)).where(self.going)
        for outcome, jobs, *references in connection.execute(found.group_by(usage.c.outcome)):
            counts += Counter(
                {outcome: jobs} | {name: int(value or 0) for name, value in zip(_REFERENCES, references, strict=True)}
            )
        return counts

    def _put_in_force(self, new: Archived, old: Archived | None, written: _Written) -> None:
        """Deletes what was written, and has the file count in its place: the one step in which a month leaves the database.

        Raises: _ChangedError if the rows are not those that were written, StoreError if another process has taken over.
        """
        of_month = (recalled.c.record_type == self.record_type.name, recalled.c.month == self.month)
        assert new.file is not None
        with self.replacing(new.file.name, old) as connection:
            there, _ = self._table_sums(connection)
            if there != written.from_table:
                raise _ChangedError(f"the database says {there}, the file {written.from_table}")
            if (ledger := self._table_ledger(connection)) != written.ledger:
                raise _ChangedError(f"the ledger says {dict(ledger)}, the file {dict(written.ledger)}")
            if recalled_ids(connection, self.record_type, self.month) != written.back:
                raise _ChangedError("other records were recalled meanwhile")
            if closing.has_open_loads(connection, self.record_type, self.month):
                raise _ChangedError("there are records that are not joined yet")
            crash_point("archive.compared")
            self._leave(connection, there.rows)
            connection.execute(delete(recalled).where(*of_month))
            store_archived(connection, new)
            crash_point("archive.before-commit")

    @contextmanager
    def replacing(self, name: str, old: Archived | None) -> Iterator[Connection]:
        """A transaction that puts one's own file in force, in the place of an old one, if there is one, which is a leftover then.

        Raises: StoreError if the locks were lost, or another process has been at the month.
        """
        with self.store.appending() as connection:
            require(self.locks)
            claim(connection, self.record_type, self.month, name)
            require_in_force(connection, self.record_type, self.month, old)
            yield connection
            if old is not None and old.file is not None:
                note_leftover(connection, self.record_type, self.month, old.file.name)
            require(self.locks)

    def _leave(self, connection: Connection, records: int) -> None:
        """Deletes the rows that were written; with their partition, where that holds nothing else, and in this very transaction."""
        table, month = RECORD_TABLES[self.record_type.name], Month.at(self.month)
        if not self.store.dialect.commits_ddl and month in partitions.months(self.store, connection, table.name):
            all_of_month = closing.of_month(self.record_type, self.month)
            if connection.scalar(select(func.count()).select_from(table).where(all_of_month)) == records:
                partitions.drop(self.store, connection, table.name, month)
                return
        deleted = connection.execute(delete(table).where(self.going)).rowcount
        if deleted != records:
            raise _ChangedError(f"{deleted:,} of {records:,} records were to be deleted")

    def drop_empty_partition(self) -> None:
        """Drops the partition of the month if nothing is left in it: nothing comes into it any more."""
        table, month = RECORD_TABLES[self.record_type.name], Month.at(self.month)
        all_of_month = closing.of_month(self.record_type, self.month)
        with self.store.appending() as connection:
            if month in partitions.months(self.store, connection, table.name):
                if connection.scalar(select(func.count()).select_from(table).where(all_of_month)) == 0:
                    partitions.drop(self.store, connection, table.name, month)
                crash_point("archive.partition")

    def drop_leftover(self, name: str) -> None:
        """Removes a file that is not in force."""
        drop_leftover(self.store, self.path, self.record_type, self.month, name)


def _revisions(batch: pa.RecordBatch) -> int:
    return int((batch.column("revision").to_numpy(zero_copy_only=False) > 0).sum())


def records_with_ledger(record_type: RecordType) -> Select[Any]:
    """The records of a table with the columns of the archive's files."""
    table = RECORD_TABLES[record_type.name]
    if record_type is not JOB:
        return select(*table.columns)
    ledger = (usage.c.outcome, usage.c.reason, *(usage.c[name] for name in _REFERENCES))
    said = (
        VO.label("vo"),
        benchmark.c.type.label("benchmark_type"),
        benchmark.c.value.label("benchmark_value"),
        benchmark.c.per_host_factor.label("per_host_factor"),
        identity.c.ce_id.label("ce_id"),
    )
    joined = (
        job.outerjoin(usage, IS_OF_JOB)
        .outerjoin(identity, IS_OF_IDENTITY_OF_MANY)
        .outerjoin(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
        .outerjoin(benchmark, benchmark.c.id == usage.c.benchmark_id)
    )
    return select(*table.columns, *ledger, *said).select_from(joined)


def rows_of(connection: Connection, query: Select[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a query as batches of a schema, so many at a time."""
    for rows in connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)).partitions():
        columns = zip(*rows, strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
