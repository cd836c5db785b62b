"""What backfilling made, to compare: records of a folder, and of a store into which the same files were appended one by one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select

from batchacct.archive.layout import finished_files, verify
from batchacct.backfill.engines import LocalEngine
from batchacct.backfill.folder import BOOKS, Books
from batchacct.backfill.pieces import Told, shown
from batchacct.backfill.to_parquet import Sizes, backfill_to_parquet
from batchacct.completing import complete_parts, rules_of
from batchacct.model import RECORD_TYPES
from batchacct.parsing import registry
from batchacct.parsing.reading import open_stream, read_blocks
from batchacct.store import Origin, Store, append
from batchacct.store.tables import RECORD_TABLES

NOW = 1_900_000_000
TOLD = Told(name="logs", site="SITE", cluster="c1")
SMALL = Sizes(piece_bytes=40_000, block_bytes=9000, pending_bytes=40_000, bucket_rows=400, whole_rows=300)
"""So small that some thousand lines are in several pieces, batches and buckets."""

Key = tuple[str, ...]
HOW_MADE = ("content_hash", "path", "read_from", "id", "superseded_by", "used_at")
"""What differs between a folder and a database, or between copies of one log."""


def backfill(
    paths: Iterable[object], folder: Path, told: Told = TOLD, *, sizes: Sizes = SMALL, workers: int = 1, now: float = NOW
) -> Books:
    """Backfills, and checks that the books balance and every file is what its manifest says."""
    books = backfill_to_parquet([str(path) for path in paths], told, folder, LocalEngine(workers), now, sizes=sizes)
    check_folder(folder, books)
    return books


def check_folder(folder: Path, books: Books) -> None:
    assert books.balance, books
    assert sorted(p.name for p in (folder / ".backfill").iterdir()) == ["lock"]
    for record_type in RECORD_TYPES.values():
        for file, manifest in finished_files(folder, record_type):
            verify(file, manifest, record_type.time_column)
    every = set(folder.rglob("*.parquet"))
    assert every == {file for t in RECORD_TYPES.values() for file, _ in finished_files(folder, t)}
    (book,) = (p for p in (folder / BOOKS).glob("*.json") if json.loads(p.read_text())["name"] == books.name)
    assert json.loads(book.read_text())["units"] == books.units
    assert len(rejects_in(folder, books)) == books.rejected


def rejects_in(folder: Path, books: Books) -> list[dict[str, Any]]:
    """The rejects of a run, their bytes decoded."""
    path = folder / BOOKS / f"{books.name}.rejects.jsonl"
    if not path.exists():
        return []
    rejects = [json.loads(line) for line in path.read_text().splitlines()]
    return [reject | {"unit": base64.b64decode(reject["unit"])} for reject in rejects]


def rows_in(folder: Path, type_name: str = "job") -> list[dict[str, Any]]:
    """All rows of a record type, instants as Unix seconds."""
    rows: list[dict[str, Any]] = []
    for file, manifest in finished_files(folder, RECORD_TYPES[type_name]):
        table = pq.read_table(file)
        columns = [
            c.cast(pa.timestamp("s", tz="UTC")).cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in table.columns
        ]
        rows += pa.table(columns, names=table.schema.names).to_pylist()
        assert manifest.month == file.parent.name.removeprefix("month=")
    return rows


def comparable(rows: Iterable[Mapping[str, Any]], without: Sequence[str] = HOW_MADE) -> list[tuple[object, ...]]:
    """Rows in force, in an order of their own, without what is to differ."""
    in_force = (row for row in rows if row["superseded_by"] is None)
    return sorted((tuple(sorted((n, repr(v)) for n, v in row.items() if n not in without)) for row in in_force), key=repr)


def stored_rows(store: Store, type_name: str) -> list[dict[str, Any]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(select(RECORD_TABLES[type_name])).mappings()]


def append_files(store: Store, files: Sequence[tuple[Path, str]], told: Told = TOLD) -> dict[str, int]:
    """Each file whole, one after the other, as a source without positions; then records of parts. The books, summed."""
    books: dict[str, int] = {}
    for path, name in files:
        parser = registry.parser(name)
        origin = Origin(told.name or shown(str(path)), parser.record_type.name, parser.label, str(path))
        with open_stream(str(path)) as stream:
            head = stream.read(4096)
        with open_stream(str(path)) as stream:
            source = told.source(str(path), head)
            for parsed in parser.parse(read_blocks(stream, parser.framing), source):
                counts, _ = append(store, origin, parsed, NOW)
                for column in ("units", "recorded", "merged", "known", "revised", "skipped", "rejected"):
                    books[column] = books.get(column, 0) + getattr(counts, column)
    names = [told.name or shown(str(path)) for path, _ in files]
    complete_parts(store, rules_of({n: registry.parser(p) for n, (_, p) in zip(names, files, strict=True)}.items()), NOW)
    return books


def guessing(told: Told) -> Told:
    return replace(told, parser=None)
