"""Sums kept beside files of jobs, in a folder that has no database: of each file what a database keeps of its days.

They stand in a file of their own, whose name ends with `.sums`: Parquet, with the rows of `usage_pack` by kind, and in its metadata
those of `usage_day` and the checksum of the file they are of. What is kept of another file, or in another way, is not looked at.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batchacct.archive.layout import Manifest, countable_files, sums_path, told_of, write_synced
from batchacct.archive.querying import rows_of_files, tables_of_files
from batchacct.clock import shown
from batchacct.errors import ArchiveError
from batchacct.model import INTEGER, JOB, TEXT
from batchacct.store.spans import ANYTIME, DAY, Period, Span
from batchacct.usage.jobs import FACTS_SCHEMA, facts_in_tables, records_in_tables
from batchacct.usage.keeping import Made, Progress, Read, compared, counted, made_of, portions, records_by_day, records_of
from batchacct.usage.packs import unpacked_each

log = logging.getLogger(__name__)

VERSION = 1
"""Of what is kept, and how: sums of another one are made anew."""
_ABOUT = b"batchacct.usage"
_COLUMNS: Mapping[str, pa.DataType] = {"day": INTEGER, "kind": TEXT, "piece": INTEGER, "packed": pa.large_binary()}
_SCHEMA = pa.schema(list(_COLUMNS.items()))


@dataclass(frozen=True, slots=True)
class Beside:
    """What is kept beside a file: rows of `usage_day`, and the kinds of sums in the order in which they stand in the file."""

    path: Path
    days: Sequence[Mapping[str, Any]]
    kinds: Sequence[str]

    @classmethod
    def of(cls, file: Path, manifest: Manifest) -> Beside | None:
        """None if nothing is kept of the file as it is."""
        path = sums_path(file)
        if not path.exists():
            return None
        try:
            about = json.loads((pq.read_schema(path).metadata or {}).get(_ABOUT, b"{}"))
        except (pa.ArrowException, OSError, ValueError):
            log.warning("%s cannot be read, and is passed over: `batchacct db summarise --archive` writes it anew", path)
            return None
        if (about.get("version"), about.get("sha256")) != (VERSION, manifest.sha256):
            return None
        return cls(path, about["days"], about["kinds"])

    def pieces(self, kind: str, days: Collection[int], names: Collection[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """The pieces of some days, each after its day; or some columns of them.  Raises: ArchiveError if they are damaged."""
        if kind not in self.kinds or not days:
            return
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                found = file.read_row_group(self.kinds.index(kind), columns=["day", "packed"])
        except (pa.ArrowException, OSError) as error:
            told = str(error).split("\n")[0]
            raise ArchiveError(f"{self.path} is damaged ({told}): delete it, and run `batchacct db summarise --archive`") from error
        every: Iterable[Any] = found.column("day").to_pylist()
        contents = ((day, content.as_py()) for day, content in zip(every, found.column("packed"), strict=True) if day in days)
        yield from unpacked_each(kind, contents, names)


def summarise(folder: Path, told: Progress = lambda done, of: None, *, rebuild: bool = False) -> int:
    """Keeps the sums of each file of jobs that has none; how many files these were.

    `rebuild`: of all files. Raises: ArchiveError as `countable_files`, if a file is damaged, or where the file system fails.
    """
    files = countable_files(folder, JOB)
    summed = 0
    for number, (file, manifest) in enumerate(files, start=1):
        if rebuild or Beside.of(file, manifest) is None:
            made = made_of_file(file, manifest)
            with told_of(sums_path(file)):
                write_synced(sums_path(file), written(made, manifest))
            summed += 1
        told(number, len(files))
    return summed


def differing(folder: Path, told: Progress = lambda done, of: None) -> tuple[int, dict[str, list[str]]]:
    """How many files have sums beside them, and those whose sums are not what their rows come to, with the kinds that differ.

    Raises: ArchiveError as `summarise`.
    """
    files = [(file, manifest, beside) for file, manifest in countable_files(folder, JOB) if (beside := Beside.of(file, manifest))]
    found: dict[str, list[str]] = {}
    for number, (file, manifest, beside) in enumerate(files, start=1):
        kept = {row["day"]: row["jobs"] for row in beside.days}
        for days in portions(kept):
            should = _reader(file, manifest)(Span(days[0], days[-1] + DAY - 1)).kept()
            pieces = {kind: list(beside.pieces(kind, days)) for kind in should}
            for kinds in compared(should, pieces.__getitem__, days).values():
                found[str(file)] = sorted({*found.get(str(file), []), *kinds})
        told(number, len(files))
    return len(files), found


def made_of_file(file: Path, manifest: Manifest) -> Made:
    """What is kept of a file: of all days from its first to its last but those whose sums have more than 64 bits."""
    records = counted(rows_of_files([(file, manifest)], records_by_day(ANYTIME)))
    jobs = {day: records.get(day, 0) for day in range(min(records), max(records) + DAY, DAY)} if records else {}
    all_of_it = Made([], [])
    for some in portions(jobs):
        for made in _of_days(_reader(file, manifest), some, jobs):
            all_of_it.days.extend(made.days)
            all_of_it.packs.extend(made.packs)
    return all_of_it


def _of_days(read: Callable[[Span], Read], days: Sequence[int], jobs: Mapping[int, int]) -> Iterator[Made]:
    try:
        yield made_of(read, days, jobs)
    except duckdb.DataError:
        if len(days) == 1:
            log.warning("day=%s: its sums do not fit into 64 bits, and it is always summed from its rows", shown(days[0]))
            return
        for day in days:
            yield from _of_days(read, [day], jobs)


def _reader(file: Path, manifest: Manifest) -> Callable[[Span], Read]:
    """Reads what is kept of the jobs of a file that were logged in a span."""
    files = [(file, manifest)]

    def read(span: Span) -> Read:
        facts = [table.cast(FACTS_SCHEMA) for table in tables_of_files(files, facts_in_tables(Period(span)))]
        return Read(pa.concat_tables(facts), records_of(rows_of_files(files, records_in_tables(Period(span)))))

    return read


def written(made: Made, manifest: Manifest) -> bytes:
    """The file of sums: a row group a kind."""
    ordered = sorted(made.packs, key=lambda pack: (pack["kind"], pack["day"], pack["piece"]))
    by_kind = {kind: list(packs) for kind, packs in itertools.groupby(ordered, key=lambda pack: pack["kind"])}
    about = {"version": VERSION, "sha256": manifest.sha256, "days": made.days, "kinds": list(by_kind)}
    schema = _SCHEMA.with_metadata({_ABOUT: json.dumps(about).encode()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="none", use_dictionary=False, write_page_checksum=True) as writer:
        for packs in by_kind.values():
            writer.write_table(pa.Table.from_pylist(packs, schema))
    return sink.getvalue().to_pybytes()
