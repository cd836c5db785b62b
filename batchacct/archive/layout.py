"""Where archived records stand, and how they come to stand there whole: a folder a month, Parquet files with a manifest each.

    ARCHIVE/<record type>/month=2026-11/<name>.parquet
    ARCHIVE/<record type>/month=2026-11/<name>.json      its manifest
    ARCHIVE/job/month=2026-11/<name>.sums                sums of its jobs, where `batchacct.usage.beside` keeps any

A record belongs to the month (UTC) of its time column. A file is written under a temporary name, synced, and renamed; its manifest
follows in the same way. A file without a manifest that agrees with it is not believed: it is what somebody left who was stopped.
Columns are those of the record type's schema, after `id`, `revision` and `superseded_by` (null where there never was a database);
more columns may follow. Parquet knows no seconds: instants come back as milliseconds, and are to be cast to the schema's type.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchacct.archive import durations
from batchacct.archive.durations import SECOND_US
from batchacct.archive.months import month_name
from batchacct.durable import sync_folder
from batchacct.errors import ArchiveError
from batchacct.model import INSTANT, INTEGER, RecordType

ROWS_PER_GROUP = 32_768
HASH_BITS = 32
"""Hashes are summed modulo two to this, so that no database's sum of them overflows."""
DATABASE_PREFIX = "db-"
"""Names of files that a database has archived begin so."""
_SUFFIX, _MANIFEST, _SUMS, _UNFINISHED = ".parquet", ".json", ".sums", ".unfinished"
_CHUNK = 1 << 20

KEY_FIELDS = (pa.field("id", INTEGER), pa.field("revision", INTEGER), pa.field("superseded_by", INTEGER))
"""What stands before the columns of a record: its number in the database, and what is known of its revisions."""


def archived_schema(record_type: RecordType, more: tuple[pa.Field[Any], ...] = ()) -> pa.Schema:
    """The columns of an archived file: the key fields, the record's, and `more`."""
    return pa.schema([*KEY_FIELDS, *record_type.schema, *more])


@dataclass(frozen=True, slots=True)
class Sums:
    """What a set of records comes to; two sets with equal sums are taken for the same.

    Wallclock and CPU are in microseconds (see `durations`); `hash_sum` adds up the content hashes, each modulo 2^32 with the sign
    of the hash.
    """

    rows: int = 0
    wall_us: int = 0
    cpu_us: int = 0
    hash_sum: int = 0

    @property
    def wall_s(self) -> int:
        return self.wall_us // SECOND_US

    @property
    def cpu_s(self) -> int:
        return self.cpu_us // SECOND_US

    @property
    def told(self) -> tuple[int, int, int, int]:
        """As a manifest, and the books of the archive, have them: in whole seconds, rounded down."""
        return self.rows, self.wall_s, self.cpu_s, self.hash_sum

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Sums)))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file holds: so many rows, their sums, their first and last instant (Unix seconds), its size and checksum."""

    record_type: str
    month: str
    file: str
    rows: int
    wall_s: int
    cpu_s: int
    hash_sum: int
    first_at: int | None
    last_at: int | None
    bytes: int
    sha256: str

    @property
    def sums(self) -> Sums:
        return Sums(self.rows, self.wall_s * SECOND_US, self.cpu_s * SECOND_US, self.hash_sum)


def month_folder(archive: Path, record_type: RecordType, month: int) -> Path:
    """The folder of a month (see `months`) of a record type."""
    return archive / record_type.name / f"month={month_name(month)}"


def sums_of(record_type: str, batch: pa.RecordBatch) -> Sums:
    """The sums of some records; what has no durations adds none."""
    wall, cpu = durations.of_batch(record_type, batch)
    hashes = batch.column("content_hash").to_numpy(zero_copy_only=False).astype(np.int64)
    return Sums(batch.num_rows, wall, cpu, int(np.fmod(hashes, 1 << HASH_BITS).sum()))


class MonthWriter:
    """Writes one file of one month: `write` batches, then `finish`. Left without `finish`, nothing of it stays.

    Raises: ArchiveError where the file system fails.
    """

    def __init__(self, archive: Path, record_type: RecordType, month: int, name: str, schema: pa.Schema | None = None) -> None:
        self._record_type, self._month = record_type, month
        self._schema = schema or archived_schema(record_type)
        self._folder = month_folder(archive, record_type, month)
        self._path = self._folder / f"{name}{_SUFFIX}"
        self._unfinished = _unfinished(self._path)
        self._sums = Sums()
        self._times: list[int] = []
        with told_of(self._folder):
            _make_folder(self._folder)
        with told_of(self._unfinished):
            self._stream: IO[bytes] = self._unfinished.open("wb")
            self._writer = pq.ParquetWriter(
                self._stream, self._schema, compression="zstd", write_page_checksum=True, write_statistics=True
            )

    def __enter__(self) -> MonthWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._stream.closed:
            with contextlib.suppress(Exception):  # it is given up, whatever else is wrong
                self._writer.close()
            with contextlib.suppress(OSError):
                self._stream.close()
        self._unfinished.unlink(missing_ok=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds records; their columns are those of the schema, in whatever order."""
        if not batch.num_rows:
            return
        ordered = batch.select(self._schema.names).cast(self._schema)
        with told_of(self._unfinished):
            self._writer.write_batch(ordered, row_group_size=ROWS_PER_GROUP)
        self._sums += sums_of(self._record_type.name, ordered)
        times = ordered.column(self._record_type.time_column).cast(pa.int64())
        self._times = [
            min([*self._times[:1], pc.min(times).as_py()]),
            max([*self._times[1:], pc.max(times).as_py()]),
        ]

    def finish(self) -> Manifest:
        """Puts the file and its manifest in place, safe on disk."""
        with told_of(self._unfinished):
            self._writer.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            size, checksum = size_and_checksum(self._unfinished)
        first, last = self._times or (None, None)
        manifest = Manifest(
            self._record_type.name, month_name(self._month), self._path.name, *self._sums.told,
            first_at=first, last_at=last, bytes=size, sha256=checksum,
        )  # fmt: skip
        with told_of(self._path):
            self._unfinished.rename(self._path)
            write_synced(manifest_path(self._path), json.dumps(asdict(manifest), indent=1) + "\n")
        return manifest


def manifest_path(file: Path) -> Path:
    return file.with_suffix(_MANIFEST)


def sums_path(file: Path) -> Path:
    """Where sums of the jobs of a file are kept, if there are any."""
    return file.with_suffix(_SUMS)


def _unfinished(path: Path) -> Path:
    """The name that a file has until it is whole."""
    return path.with_name(f".{path.name}{_UNFINISHED}")


def read_manifest(file: Path) -> Manifest:
    """The manifest of a file.  Raises: ArchiveError if there is none that can be read."""
    path = manifest_path(file)
    with told_of(path):
        text = path.read_text(encoding="utf-8")
    try:
        return Manifest(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise ArchiveError(f"archive: {path} is no manifest ({error}): restore it and its file from a backup") from error


def finished_files(archive: Path, record_type: RecordType) -> Iterator[tuple[Path, Manifest]]:
    """Every file of a record type that has its manifest and the size that this says, month by month."""
    for file in sorted((archive / record_type.name).glob(f"month=*/*{_SUFFIX}")):
        if not file.name.startswith(".") and manifest_path(file).is_file():
            manifest = read_manifest(file)
            if file.stat().st_size == manifest.bytes:
                yield file, manifest


def countable_files(archive: Path, record_type: RecordType) -> list[tuple[Path, Manifest]]:
    """The finished files of a record type, for whoever counts without a database what is in them.

    Raises: ArchiveError if a month could be counted twice: a database has one file of it in force, and without its books nobody
    can tell which of two that is, or whether another database, or back-filled logs, have the same records.
    """
    found = list(finished_files(archive, record_type))
    by_folder: dict[Path, list[str]] = {}
    for file, _ in found:
        by_folder.setdefault(file.parent, []).append(file.name)
    for folder, names in by_folder.items():
        if len(names) > 1 and any(name.startswith(DATABASE_PREFIX) for name in names):
            raise ArchiveError(
                f"archive: {folder} has {len(names)} files ({', '.join(names)}) which may hold the same records: if a run of "
                "`batchacct db archive` is at work or was interrupted, run it (again), and it removes what is not in force; "
                "to be counted from its files, each database, and what was back-filled, needs a folder of its own"
            )
    return found


def verify(file: Path, expected: Manifest, time_column: str) -> None:
    """Reads a file back whole, its bytes and its records.  Raises: ArchiveError unless it is what the manifest says."""
    with told_of(file):
        size, checksum = size_and_checksum(file)
    if (size, checksum) != (expected.bytes, expected.sha256):
        raise damaged(file, f"it has {size:,} bytes with the checksum {checksum[:16]}..., not {expected.bytes:,} and "
                      f"{expected.sha256[:16]}...")  # fmt: skip
    sums, times = Sums(), []
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            names = ["content_hash", time_column, *durations.columns_of(expected.record_type)]
            for batch in parquet.iter_batches(ROWS_PER_GROUP, columns=names):
                sums += sums_of(expected.record_type, batch)
                at = batch.column(time_column).cast(INSTANT).cast(pa.int64())
                times += [pc.min(at).as_py(), pc.max(at).as_py()]
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, str(error).split("\n")[0]) from error
    if (sums.told, min(times, default=None), max(times, default=None)) != (expected.sums.told, expected.first_at, expected.last_at):
        raise damaged(file, f"its records come to {sums}, not {expected.sums}")


def damaged(file: Path, what: str) -> ArchiveError:
    return ArchiveError(f"archive file {file} is damaged: {what}. Restore it from a backup; nothing was changed")


def size_and_checksum(file: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def remove(file: Path) -> None:
    """Takes a file away with its manifest and sums, and what was left unfinished of it. Harmless when repeated."""
    with told_of(file):
        for path in (manifest_path(file), sums_path(file), file):
            path.unlink(missing_ok=True)
            _unfinished(path).unlink(missing_ok=True)


def write_synced(path: Path, content: str | bytes) -> None:
    """A small file, whole and safe on disk under its name, or not there."""
    unfinished = _unfinished(path)
    try:
        with unfinished.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.rename(path)
        sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Makes a folder, for nobody but its owner and group: what is in it names people."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o750, exist_ok=True)
        sync_folder(path.parent)


@contextlib.contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Raises: ArchiveError, saying what to do, for every error of the file system in the body."""
    try:
        yield
    except OSError as error:
        advice = {
            "FileNotFoundError": "It was moved or deleted: restore it from a backup, or correct [archive] path",
            "PermissionError": "Give this user permission on the archive's folder",
        }.get(type(error).__name__, "Make room, or mend the file system; nothing was deleted from the database")
        raise ArchiveError(f"archive: {path}: {error.strerror or error}. {advice}") from error
