"""Checks of the database, and of the archive beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, select

from batchacct.archive.due import read_due
from batchacct.archive.holdings import archive_name, archive_path, archived
from batchacct.archive.layout import DATABASE_PREFIX, finished_files
from batchacct.doctor.contract import Examined, Finding, error, not_applicable, ok, warning
from batchacct.errors import BatchacctError
from batchacct.model import RECORD_TYPES
from batchacct.store import partitions, schema
from batchacct.store.months import Month
from batchacct.store.tables import archive_leftover

NAMED = 5


def database(examined: Examined) -> Iterator[Finding]:
    """Whether it answers, has this program's schema, and gives this account its rights; its size; whether the books balance."""
    try:
        store = examined.opened_store()
        store.check_rights()
    except BatchacctError as failed:
        yield error("database", failed.message, "do what it says; docs/how-to/databases.md has the rights that are needed")
        return
    size = store.size_bytes()
    told = "" if size is None else f", {size / (1 << 20):,.1f} MiB"
    yield ok("database", f"{store.shown_url}: schema {schema.head()}{told}")
    if store.dialect.name != "sqlite":
        yield not_applicable("room of the database", "a server does not tell how much is free: watch its disk there")
    books = examined.state.books
    if books.balanced:
        yield ok("books", "they balance at every stage")
    else:
        todo = "keep a copy of the database, run `batchacct audit` of the months, and report it: this must not happen"
        yield error("books", "they do not balance: " + "; ".join(books.problems), todo)


def month_partitions(examined: Examined) -> Iterator[Finding]:
    """Whether this month and the next have partitions, and no rows are in a catch-all."""
    store = examined.store
    if store.dialect.partitions is None:
        yield not_applicable("partitions", f"{store.dialect.name} has none")
        return
    todo = "run `batchacct db partition`, and enable batchacct-partition.timer, or put it into cron"
    soon = Month.at(examined.now) + 1
    missing: dict[str, list[Month]] = {}
    with store.reading() as connection:
        for table in partitions.TABLES:
            planned = partitions.plan(store, connection, table, examined.config.database.partitions_ahead, examined.now)
            lacking = [month for month in planned.wanted if month <= soon or month in planned.moved]
            if lacking:
                missing[table] = lacking
    for table, months in missing.items():
        told = f"there is none for {', '.join(map(str, months))}: rows go to the catch-all, and queries look through more"
        yield warning(f"partitions of table {table}", told, todo)
    if not missing:
        yield ok("partitions", f"every table has its own up to {soon}")


def archive(examined: Examined) -> Iterator[Finding]:
    """Whether the policy is followed, the files in force are there, and no other is beside them."""
    with examined.store.reading() as connection:
        due = read_due(connection, examined.config, examined.now)
        place = archive_path(connection)
        lost, strange, known = _files(connection, place or examined.config.archive.path)
    overdue = {what: count for what, count in due.overdue.items() if count}
    if lost:
        todo = f"mount the file system of {place}, or restore them from its backup; until then reports of these months fail"
        yield error("archive", f"{_named(lost)}: not there, or cut short, though the books count on it", todo)
    if strange:
        todo = (
            "if the database was restored from a backup, these were written after that, and their months are in the database: move "
            "them out of the archive (docs/how-to/backup.md)"
        )
        yield warning("archive", f"{_named(strange)}: of this database, which does not know of it", todo)
    if place is None and not strange:
        months = f"; {due.months} months are older than [retention] keep" if due.months else ""
        yield not_applicable("archive", f"nothing was ever archived{months}")
    elif not lost and not strange:
        yield ok("archive", f"{place}: {known} files in force, each there")
    if overdue and (place is not None or set(overdue) - {"jobs to archive", "processes to archive"}):
        told = ", ".join(f"{count:,} {what}" for what, count in overdue.items())
        yield warning("retention", f"past [retention]: {told}", "run `batchacct db archive`, then `batchacct db purge`, from cron")


def _files(connection: Connection, place: Path) -> tuple[list[Path], list[Path], int]:
    """Files in force that are not there as they should be, files of this database that it does not know, and how many are in force.

    A database that has archived nothing takes for its own what any database has: it may have been restored to before it did.
    """
    in_force = {
        month.file: month for kind in RECORD_TYPES.values() for month in archived(connection, kind) if month.file is not None
    }
    lost = [file for file, month in in_force.items() if not (file.is_file() and file.stat().st_size == month.manifest.bytes)]
    noted = set(connection.scalars(select(archive_leftover.c.file_name)))
    name = archive_name(connection) or DATABASE_PREFIX
    there = (file for kind in RECORD_TYPES.values() for file, _ in finished_files(place, kind))
    strange = [file for file in there if file.name.startswith(name) and file not in in_force and file.name not in noted]
    return lost, strange, len(in_force)


def _named(files: list[Path]) -> str:
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(map(str, files[:NAMED])) + more
