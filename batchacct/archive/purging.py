"""`db purge`: what the policy says is too old goes, in steps that may be killed anywhere and are harmless when repeated.

Files of the archive are deleted after `archive_for`; what they came to stays in the books. Names of people are taken out after
`personal_data`, of the tables (some thousand rows a step), of the files (each written anew, and put in force like an archived one),
and of whatever else keeps them: rejected units, payloads of messages, heads of files, mappings to VOs. No number changes.
A month without names takes no more records: reading its logs once more would bring the names back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, case, delete, func, select, update

from batchacct.archive import closing, durations
from batchacct.archive.anonymising import (
    PREFIX,
    Pseudonym,
    anonymous_batch,
    anonymous_row,
    is_personal,
    personal_columns,
    pseudonyms,
)
from batchacct.archive.durations import SECOND_US
from batchacct.archive.holdings import Archived, archived, batches_of, recalled_ids, store_archived
from batchacct.archive.layout import Manifest, damaged, verify
from batchacct.archive.leftovers import locked, note_leftover, require, require_in_force, tidy, unless_overtaken
from batchacct.archive.months import month_name, next_month
from batchacct.archive.taking import Taker
from batchacct.config import Config
from batchacct.crashpoints import crash_point
from batchacct.model import JOB, RECORD_TYPES, RecordType
from batchacct.store import HeldLocks, Store
from batchacct.store.changed_days import forget
from batchacct.store.columns import hash_of
from batchacct.store.spans import DAY
from batchacct.store.tables import (
    RECORD_TABLES,
    followed_file,
    load,
    message,
    recalled,
    reject,
    usage,
    vo_mapping,
)

ROWS_PER_STEP = 5_000
PURGED = "purged: a reason may quote what was rejected"


@dataclass(frozen=True, slots=True)
class Gone:
    """What went, or in a dry run would go: so many records of a month (None: of no month) of a table, or of a kind of file."""

    what: str
    month: int | None
    records: int


@dataclass
class Report:
    gone: list[Gone] = field(default_factory=list)
    held: dict[int, list[str]] = field(default_factory=dict)


def purge(store: Store, config: Config, now: int, *, dry_run: bool = False, trust_clock: bool = False) -> Report:
    """Does what [retention] says.  Raises: ArchiveError, BusyError, IncompleteError if the clock cannot be right, StoreError."""
    report = Report()
    with locked(store) as locks:
        with store.reading() as connection:
            if not trust_clock:
                closing.check_clock(connection, now)
        if not dry_run:
            tidy(store, config.archive.path, now)
        purger = _Purger(store, config, now, dry_run, locks)
        kept_from = 0
        if config.retention.archive_for is not None:
            kept_from = closing.closed_limit(now, config.retention.archive_for)
            report.gone += purger.files(kept_from)
        if config.retention.personal_data is not None:
            limit = closing.closed_limit(now, config.retention.personal_data)
            with store.reading() as connection:
                months = closing.month_with_records(connection, limit)
                report.held = {month: reasons for month in months if (reasons := closing.why_held(connection, month))}
            for month in months:
                if month not in report.held:
                    report.gone += purger.rows(month)
            report.gone += purger.archived(kept_from, limit)
            report.gone += purger.other_tables(limit)
    report.gone = [one for one in report.gone if one.records]
    return report


@dataclass(frozen=True, slots=True)
class _Purger:
    store: Store
    config: Config
    now: int
    dry_run: bool
    locks: HeldLocks

    def _pseudonym(self) -> Pseudonym:
        with self.store.writing() as connection:
            return pseudonyms(connection, self.now)

    # --- files that are too old -----------------------------------------------------------------------------------------

    def files(self, limit: int) -> Iterator[Gone]:
        """Deletes the files of the months before `limit`; their sums stay."""
        with self.store.reading() as connection:
            months = [m for kind in RECORD_TYPES.values() for m in archived(connection, kind) if m.file and m.month < limit]
        for month in months:
            with self.store.reading() as connection:
                back = recalled_ids(connection, month.record_type, month.month)
            yield Gone(f"file of {month.record_type.name} records", month.month, month.sums.rows - len(back))
            if not self.dry_run:
                self._drop_file(month)

    def _drop_file(self, month: Archived) -> None:
        """Books what is in a file as purged, in one transaction; what of it was recalled is in its table, and no part of that."""
        assert month.file is not None
        name, record_type, sums = month.file.name, month.record_type, month.sums
        mine = (recalled.c.record_type == record_type.name, recalled.c.month == month.month)
        with self.store.appending() as connection:
            require(self.locks)
            require_in_force(connection, record_type, month.month, month)
            table = RECORD_TABLES[record_type.name]
            back = select(func.count(), func.sum(case((table.c.revision > 0, 1), else_=0)), *durations.of_table(table))
            row = connection.execute(back.where(table.c.id.in_(select(recalled.c.id).where(*mine)))).one()
            wall_us, cpu_us = durations.microseconds(table.name, *row[2:])
            of_back = (int(row[0]), int(row[1] or 0), wall_us // SECOND_US, cpu_us // SECOND_US)
            of_file = (sums.rows, month.revisions, sums.wall_s, sums.cpu_s)
            gone = [old + whole - kept for old, whole, kept in zip(month.purged, of_file, of_back, strict=True)]
            connection.execute(delete(recalled).where(*mine))
            nothing = Manifest(record_type.name, month_name(month.month), "", 0, 0, 0, 0, None, None, 0, "")
            purged = (gone[0], gone[1], gone[2], gone[3])
            store_archived(connection, dataclasses.replace(month, file=None, revisions=0, manifest=nothing, purged=purged))
            _forget_sums(connection, record_type, month.month)
            note_leftover(connection, record_type, month.month, name)
            require(self.locks)
            crash_point("purge.file-before-commit")
        self._taker(record_type, month.month).drop_leftover(name)

    def _taker(self, record_type: RecordType, month: int) -> Taker:
        going = closing.of_month(record_type, month)
        return Taker(self.store, self.config.archive.path, record_type, month, going, self.now, self.locks)

    # --- names ----------------------------------------------------------------------------------------------------------

    def rows(self, month: int) -> Iterator[Gone]:
        """Takes the names out of the rows of a month, in the tables; from then on it takes no records."""
        for record_type in RECORD_TYPES.values():
            of_month = and_(closing.of_month(record_type, month), is_personal(record_type))
            with self.store.reading() as connection:
                count = connection.scalar(select(func.count()).where(of_month)) or 0
            yield Gone(f"names in table {record_type.name}", month, count)
            if count and not self.dry_run:
                with self.store.appending() as connection:
                    self._close(connection, record_type, month)
                    _forget_sums(connection, record_type, month)
                self._anonymise(record_type, of_month)

    def _close(self, connection: Connection, record_type: RecordType, month: int) -> None:
        """Has the month take no more records."""
        if all(one.month != month for one in archived(connection, record_type)):
            nothing = Manifest(record_type.name, month_name(month), "", 0, 0, 0, 0, None, None, 0, "")
            store_archived(connection, Archived(record_type, month, None, 0, nothing, self.now, self.now))

    def _anonymise(self, record_type: RecordType, which: ColumnElement[bool]) -> None:
        table = RECORD_TABLES[record_type.name]
        pseudonym = self._pseudonym()
        columns = [table.c.id, *(table.c[name] for name in personal_columns(record_type))]
        last = -1
        while True:
            some = select(*columns).where(which, table.c.id > last).order_by(table.c.id).limit(ROWS_PER_STEP)
            with self.store.writing() as connection:
                rows = connection.execute(some).mappings().all()
                if not rows:
                    return
                changed = [{"of_id": row["id"], **anonymous_row(record_type, dict(row), pseudonym)} for row in rows]
                connection.execute(update(table).where(table.c.id == bindparam("of_id")), changed)
                require(self.locks)
                crash_point("purge.rows-before-commit")
            last = rows[-1]["id"]

    def archived(self, first: int, limit: int) -> Iterator[Gone]:
        """Writes the files of the months from `first` to before `limit` anew, without names."""
        with self.store.reading() as connection:
            months = [m for kind in RECORD_TYPES.values() for m in archived(connection, kind) if m.file and m.month < limit]
        for month in (m for m in months if m.month >= first and m.anonymised_at is None):
            yield Gone(f"names in file of {month.record_type.name} records", month.month, month.sums.rows)
            if not self.dry_run:
                self._rewrite(month)

    def _rewrite(self, month: Archived) -> None:
        assert month.file is not None
        taker, pseudonym = self._taker(month.record_type, month.month), self._pseudonym()
        with self.store.writing() as connection:
            _, name = taker.begin(connection)
        file = month.file.with_name(name)
        with unless_overtaken(self.locks):
            with taker.writer(name) as writer:
                for batch in batches_of(month):
                    writer.write(anonymous_batch(month.record_type, batch, pseudonym))
                crash_point("purge.writing")
                manifest = writer.finish()
            if manifest.sums != month.sums:
                raise damaged(month.file, f"its records come to {manifest.sums}, not {month.sums}")
            verify(file, manifest, month.record_type.time_column)
        crash_point("purge.written")
        with taker.replacing(name, month) as connection:
            store_archived(connection, dataclasses.replace(month, file=file, manifest=manifest, anonymised_at=self.now))
            _forget_sums(connection, month.record_type, month.month)
            crash_point("purge.before-commit")
        taker.drop_leftover(month.file.name)

    # --- what else keeps names --------------------------------------------------------------------------------------------

    def other_tables(self, limit: int) -> Iterator[Gone]:
        loads = select(load.c.id).where(load.c.loaded_at < limit)
        units = and_(func.length(reject.c.unit) > 0, reject.c.load_id.in_(loads))
        yield self._blanked("units of rejects", reject, units, {"unit": b"", "reason": PURGED})
        sent = and_(message.c.confirmed_at < limit, func.length(message.c.payload) > 0)
        yield self._blanked("payloads of messages", message, sent, {"payload": b""})
        heads = and_(followed_file.c.modified_at < limit, func.length(followed_file.c.head) > 0)
        yield self._blanked("beginnings of files", followed_file, heads, {"head": b""})
        yield self._mappings(limit)

    def _blanked(self, what: str, table: Table, which: ColumnElement[bool], values: dict[str, object]) -> Gone:
        with self.store.writing() as connection:
            count = connection.scalar(select(func.count()).select_from(table).where(which)) or 0
            if count and not self.dry_run:
                connection.execute(update(table).where(which).values(values))
                crash_point("purge.table-before-commit")
        return Gone(what, None, count)

    def _mappings(self, limit: int) -> Gone:
        """Accounts and token subjects that were mapped to a VO for no job since; of others a new row is made when they come."""
        in_use = select(usage.c.mapping_id).where(usage.c.logged_at >= limit, usage.c.mapping_id.is_not(None))
        c = vo_mapping.c
        named = (~c.user_name.startswith(PREFIX, autoescape=True)) & ((c.user_name != "") | (c.subject != ""))
        with self.store.writing() as connection:
            rows = connection.execute(select(vo_mapping).where(named, c.id.not_in(in_use))).mappings().all()
            if self.dry_run or not rows:
                return Gone("accounts mapped to VOs", None, len(rows))
            pseudonym = pseudonyms(connection, self.now)
            for row in rows:
                user = f"{pseudonym(row['user_name'])}-{row['id']}"
                subject = pseudonym(row["subject"]) if row["subject"] else ""
                own = {
                    name: user if row[name] == row["user_name"] and row[name] else row[name] for name in ("group_name", "project")
                }
                asked = hash_of(row["rules_hash"], user, own["group_name"], own["project"], row["issuer"], subject)
                rule = row["rule"].replace(row["user_name"], user) if row["user_name"] else row["rule"]
                values = {"user_name": user, "subject": subject, **own, "rule": rule, "asked_hash": asked}
                connection.execute(update(vo_mapping).where(c.id == row["id"]).values(values))
            crash_point("purge.mappings-before-commit")
        return Gone("accounts mapped to VOs", None, len(rows))


def _forget_sums(connection: Connection, record_type: RecordType, month: int) -> None:
    """Drops what is kept of a month's jobs for sums: names are in it, and jobs that go. Nobody sums while the locks are held."""
    if record_type is JOB:
        forget(connection, range(month, next_month(month), DAY))
