"""What the archive holds, by the books in the database: where each file is, and which of its records are in force."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from sqlalchemy import Connection, delete, func, insert, select, update

from batchacct.archive.layout import DATABASE_PREFIX, Manifest, Sums, archived_schema, damaged, month_folder
from batchacct.archive.months import month_name, next_month
from batchacct.errors import ArchiveError
from batchacct.model import INSTANT, INTEGER, JOB, REAL, RECORD_TYPES, TEXT, RecordType
from batchacct.store import Store
from batchacct.store.tables import PURGED, archived_month, recalled, setting

T = TypeVar("T")
TRIES = 3
"""So often the archive is asked while it is changed."""
_PATH, _NAME = "archive_path", "archive_name"

_MORE: dict[str, tuple[pa.Field[Any], ...]] = {
    "job": (
        *(pa.field(name, TEXT) for name in ("outcome", "reason")),
        *(pa.field(name, INTEGER) for name in ("identity_id", "mapping_id", "benchmark_id")),
        pa.field("vo", TEXT),
        pa.field("benchmark_type", TEXT),
        pa.field("benchmark_value", REAL),
        pa.field("per_host_factor", INTEGER),
        pa.field("ce_id", TEXT),
    ),
    "part": (pa.field("used_at", INSTANT),),
}


def schema_of(record_type: RecordType) -> pa.Schema:
    """The columns of the archive's files: a job has what the ledger says of it beside it, a part the time it was used."""
    return archived_schema(record_type, _MORE.get(record_type.name, ()))


@dataclass(frozen=True, slots=True)
class Archived:
    """A month of a record type in the archive; `file` is None once it was purged. `sums` are those of the file.

    `purged` are records, revisions, wall and CPU seconds of files that were purged.
    """

    record_type: RecordType
    month: int
    file: Path | None
    revisions: int
    manifest: Manifest
    archived_at: int
    anonymised_at: int | None = None
    purged: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def sums(self) -> Sums:
        return self.manifest.sums


def archive_path(connection: Connection) -> Path | None:
    """The folder of the archive; None as long as nothing was archived."""
    path = connection.scalar(select(setting.c.value).where(setting.c.name == _PATH))
    return None if path is None else Path(path)


def archive_name(connection: Connection) -> str | None:
    """What the names of this database's files begin with; None as long as nothing was archived."""
    name: str | None = connection.scalar(select(setting.c.value).where(setting.c.name == _NAME))
    return name


def note_place(connection: Connection, path: Path, now: int) -> str:
    """Notes where the archive is, and returns the name that this database's files bear."""
    if archive_name(connection) is None:
        connection.execute(insert(setting).values(name=_NAME, value=f"{DATABASE_PREFIX}{secrets.token_hex(4)}", since=now))
    known = archive_path(connection)
    if known is None:
        connection.execute(insert(setting).values(name=_PATH, value=str(path), since=now))
    elif known != path:
        connection.execute(update(setting).where(setting.c.name == _PATH).values(value=str(path), since=now))
    return str(archive_name(connection))


def archived(connection: Connection, record_type: RecordType, first: int | None = None, last: int | None = None) -> list[Archived]:
    """The archived months of a record type, oldest first; those with a record between two instants, if these are given."""
    place = archive_path(connection)
    if place is None:
        return []
    rows = select(archived_month).where(archived_month.c.record_type == record_type.name).order_by(archived_month.c.month)
    if first is not None:
        rows = rows.where(archived_month.c.last_at >= first)
    if last is not None:
        rows = rows.where(archived_month.c.first_at <= last)
    return [_archived(place, row) for row in connection.execute(rows)]


def _archived(place: Path, row: Any) -> Archived:
    record_type = RECORD_TYPES[row.record_type]
    manifest = Manifest(
        row.record_type, month_name(row.month), row.file_name or "", row.records, row.wall_s, row.cpu_s, row.hash_sum,
        row.first_at, row.last_at, row.file_bytes, row.sha256,
    )  # fmt: skip
    file = None if row.file_name is None else month_folder(place, record_type, row.month) / row.file_name
    purged = tuple(int(getattr(row, name)) for name in PURGED)
    return Archived(record_type, row.month, file, row.revisions, manifest, row.archived_at, row.anonymised_at, purged)  # type: ignore[arg-type]


def store_archived(connection: Connection, month: Archived) -> None:
    """Writes the books of a month, in the place of those it had."""
    manifest = month.manifest
    of_month = (archived_month.c.record_type == month.record_type.name, archived_month.c.month == month.month)
    connection.execute(delete(archived_month).where(*of_month))
    values = {
        "file_name": None if month.file is None else month.file.name,
        "records": manifest.rows,
        "revisions": month.revisions,
        "file_bytes": manifest.bytes,
        "archived_at": month.archived_at,
        "anonymised_at": month.anonymised_at,
        **dict(zip(PURGED, month.purged, strict=True)),
        **{name: getattr(manifest, name) for name in ("wall_s", "cpu_s", "hash_sum", "first_at", "last_at", "sha256")},
    }
    connection.execute(insert(archived_month).values(record_type=month.record_type.name, month=month.month, **values))


def recalled_ids(connection: Connection, record_type: RecordType, month: int) -> list[int]:
    """The records of an archived month that are back in their table."""
    of_month = (recalled.c.record_type == record_type.name, recalled.c.month == month)
    return list(connection.scalars(select(recalled.c.id).where(*of_month).order_by(recalled.c.id)))


def archived_counts(connection: Connection, record_type: RecordType) -> tuple[int, int]:
    """How many records of a type are in the archive (or were, before it was purged), and how many of them replaced another."""
    c = archived_month.c
    sums = select(func.sum(c.records + c.purged_records), func.sum(c.revisions + c.purged_revisions))
    rows, revisions = connection.execute(sums.where(archived_month.c.record_type == record_type.name)).one()
    back = select(func.count()).where(recalled.c.record_type == record_type.name)
    return (
        int(rows or 0) - (connection.scalar(back) or 0),
        int(revisions or 0) - (connection.scalar(back.where(recalled.c.revision > 0)) or 0),
    )


def told_purged(
    connection: Connection, since: int | None = None, until: int | None = None, record_type: RecordType = JOB
) -> list[str]:
    """A sentence for each month of records (jobs, or processes) that was purged and overlaps a period: it is in no figures."""
    told = []
    for one in archived(connection, record_type):
        records, _, wall_s, cpu_s = one.purged
        if records and (until is None or one.month < until) and (since is None or next_month(one.month) > since):
            told.append(
                f"{month_name(one.month)} was purged from the archive: {records:,} {record_type.name} records of "
                f"{wall_s // 3600:,} hours of wallclock and {cpu_s // 3600:,} of CPU are not in these figures."
            )
    return told


def dataset_of(month: Archived) -> ds.Dataset:
    """The file of a month, to be read by columns.  Raises: ArchiveError if it is missing, or is not the one that was written."""
    file, name = month.file, f"{month.manifest.month} of the {month.record_type.name} records"
    if file is None:
        raise ArchiveError(f"{name} was purged, as [retention] archive_for says: only its sums are known")
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ArchiveError(
            f"{name} is archived in {file}, which cannot be read ({error.strerror}): restore it from a backup; if the archive was "
            "moved, correct [archive] path and run `batchacct db archive`"
        ) from error
    if size != month.manifest.bytes:
        raise damaged(file, f"it has {size:,} bytes, not {month.manifest.bytes:,}")
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=False)
    try:
        return ds.dataset(
            file, schema=schema_of(month.record_type), format=ds.ParquetFileFormat(default_fragment_scan_options=options)
        )
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, str(error).split("\n")[0]) from error


def despite_archiving(store: Store, ask: Callable[[], T]) -> T:
    """What is asked of the archive; asked again if a month was archived anew, or purged, meanwhile: its file is another then.

    Raises: ArchiveError if a file is missing or damaged, or if that happens again and again.
    """
    for _ in range(TRIES):
        before = _files_in_force(store)
        try:
            return ask()
        except ArchiveError as error:
            if _files_in_force(store) == before:
                raise
            failed = error
    raise ArchiveError(f"the archive was changed each of the {TRIES} times it was asked: run it again, later") from failed


def _files_in_force(store: Store) -> list[tuple[str, int, str | None]]:
    c = archived_month.c
    with store.reading() as connection:
        rows = connection.execute(select(c.record_type, c.month, c.file_name).order_by(c.record_type, c.month))
        return [(row[0], row[1], row[2]) for row in rows]


def batches_of(
    month: Archived, columns: Sequence[str] | None = None, where: pc.Expression | None = None
) -> Iterator[pa.RecordBatch]:
    """The records of a file, some at a time.  Raises: ArchiveError as `dataset_of`, and where it is damaged inside."""
    try:
        yield from dataset_of(month).to_batches(
            columns=None if columns is None else list(columns), filter=where, batch_size=8192, batch_readahead=1, use_threads=False
        )
    except (pa.ArrowException, OSError) as error:
        assert month.file is not None
        raise damaged(month.file, str(error).split("\n")[0]) from error


def without_ids(batch: pa.RecordBatch, ids: Sequence[int]) -> pa.RecordBatch:
    """The rows of a batch but those of some numbers."""
    if not ids:
        return batch
    return batch.filter(pc.invert(pc.is_in(batch.column("id"), value_set=pa.array(ids, INTEGER))))
