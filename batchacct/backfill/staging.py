"""Parsing a piece: its rows into Arrow files beside the output, sorted out by month and range of key, and what is to be told of it.

    <key>.job.arrow         rows of one record type in batches of one month and one range of keys each
    <key>.whole-pbs.part.arrow, <key>.whole-pbs.job.arrow    rows that may belong to wholes of a family, by range of whole
    <key>.rejects.jsonl     one line a reject
    <key>.json              the result: written last, and with it the piece is done

Every file is written under a temporary name, synchronised and renamed: whoever parses a piece again replaces it by the same.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from batchacct.backfill.keys import Hashes, Ints, key_hashes, months_of, subs_of, times_of, whole_hashes
from batchacct.backfill.pieces import Piece, Told, opened, parser_of, shown
from batchacct.crashpoints import crash_point
from batchacct.errors import SourceError
from batchacct.following.opened import MovedOnError
from batchacct.model import PART, RECORD_TYPES, RecordType
from batchacct.parsing import Parsed, RejectedUnit
from batchacct.parsing.reading import BLOCK_BYTES, read_blocks
from batchacct.store.keys import without_long_keys

VERSION = "1"
"""Of what is staged: what an older program left is parsed again."""

PENDING_BYTES = 24 << 20
"""So much of a view is sorted out at a time."""

HIGH, LOW, WHOLE = "_high", "_low", "_whole"
_HASHES = [pa.field(HIGH, pa.uint64()), pa.field(LOW, pa.uint64())]
_WRITE = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of a staged file: which, of what month (0 in views of wholes) and range, and how many rows."""

    number: int
    month: int
    sub: int
    rows: int


@dataclass(frozen=True, slots=True)
class PieceTask:
    """A piece to parse, and where its files go."""

    piece: Piece
    told: Told
    folder: str
    key: str
    block_bytes: int = BLOCK_BYTES
    pending_bytes: int = PENDING_BYTES


@dataclass(slots=True)
class PieceResult:
    """What came of a piece. `problem`: why it could not be read to its end; `unread`: bytes that may get an end still."""

    key: str
    path: str
    parser: str = ""
    units: int = 0
    records: int = 0
    parts: int = 0
    rejected: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    size: int = 0
    unread: int = 0
    problem: str | None = None
    views: dict[str, list[Batch]] = field(default_factory=dict)


def parse_piece(task: PieceTask) -> PieceResult:
    """Parses a piece; what could be read of a damaged file is kept.  Raises: OSError if the output cannot be written."""
    piece = task.piece
    parser = parser_of(piece)
    result = PieceResult(task.key, shown(piece.file.path), parser.label, size=piece.size)
    skipped: Counter[str] = Counter()
    at = piece.start
    with contextlib.ExitStack() as files:
        views = _Views(task, files)
        reject_file = files.enter_context(Written(_file_of(task.folder, task.key, "rejects.jsonl")))
        try:
            with opened(piece) as (stream, head, offset):
                at = offset
                blocks = read_blocks(stream, parser.framing, offset=offset, final=piece.final, block_bytes=task.block_bytes)
                for raw in parser.parse(blocks, task.told.source(piece.file.path, head)):
                    parsed = without_long_keys(parser.record_type, raw)
                    _count(result, parsed, skipped)
                    views.add(parser, parsed)
                    reject_file.stream.writelines(_reject_line(result.path, parser.label, reject) for reject in parsed.rejects)
                    at = parsed.end_offset
                    crash_point("backfill.parsed-block")
        except SourceError as error:
            result.problem = f"{error.message} (what was read before byte {at:,} counts)"
        except MovedOnError:
            result.problem = f"{result.path} was changed while it was read, at byte {at:,}: do it again"
        if piece.end is not None and result.problem is None:
            result.unread = max(piece.end - at, 0)
        result.skipped = dict(skipped)
        result.views = views.close()
    crash_point("backfill.parsed-piece")
    with Written(_file_of(task.folder, task.key, "json")) as book:
        book.stream.write(json.dumps(asdict(result)).encode())
    return result


def stored_result(folder: str, key: str) -> PieceResult | None:
    """What came of a piece that is parsed already; None if it is not, or not to its end: it is tried again."""
    try:
        values = json.loads(_file_of(folder, key, "json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    values["views"] = {name: [Batch(**batch) for batch in batches] for name, batches in values["views"].items()}
    result = PieceResult(**values)
    return None if result.problem else result


def _count(result: PieceResult, parsed: Parsed, skipped: Counter[str]) -> None:
    result.units += parsed.units
    result.records += parsed.records.num_rows
    result.parts += parsed.parts.num_rows
    result.rejected += len(parsed.rejects)
    skipped.update(parsed.skipped)


def _reject_line(path: str, parser: str, reject: RejectedUnit) -> bytes:
    unit = base64.b64encode(reject.unit).decode("ascii")
    told = {"file": path, "offset": reject.offset, "length": reject.length, "reason": reject.reason, "parser": parser, "unit": unit}
    return json.dumps(told).encode() + b"\n"


def _file_of(folder: str, key: str, name: str) -> Path:
    return Path(folder) / f"{key}.{name}"


def rejects_of(folder: str, key: str) -> Path:
    """The rejects of a piece."""
    return _file_of(folder, key, "rejects.jsonl")


class Written:
    """A file to write, as `stream`; renamed into its place once it is whole and on the disk, gone if that failed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}.tmp")

    def __enter__(self) -> Written:
        self.stream = self._temporary.open("wb")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.stream.flush()
                os.fsync(self.stream.fileno())
            self.stream.close()
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                self.stream.close()
            self._temporary.unlink(missing_ok=True)


_numbers = itertools.count()


def family_view(family: str, record_type: RecordType) -> str:
    """The view with the rows of wholes of a family, or of records its rule may amend."""
    return f"whole-{family}.{record_type.name}"


def type_of_view(view: str) -> RecordType:
    return RECORD_TYPES[view.rpartition(".")[2]]


def staged_schema(view: str) -> pa.Schema:
    """The columns of a view: those of its records, and the hashes."""
    extra = [*_HASHES, pa.field(WHOLE, pa.uint64())] if view.startswith("whole-") else _HASHES
    return pa.schema([*type_of_view(view).schema, *extra])


class _Views:
    """What is being staged of a piece, by view."""

    def __init__(self, task: PieceTask, files: contextlib.ExitStack) -> None:
        self._task, self._files = task, files
        self._open: dict[str, StagedWriter] = {}

    def add(self, parser: Any, parsed: Parsed) -> None:
        rule = parser.completion
        for record_type, batch in ((parser.record_type, parsed.records), (PART, parsed.parts)):
            if not batch.num_rows:
                continue
            hashes = key_hashes(record_type, batch)
            self._view(record_type.name).add(batch, hashes)
            if rule is not None and (record_type is PART or rule.amends):
                self._view(family_view(rule.family, record_type)).add(batch, hashes)

    def _view(self, name: str) -> StagedWriter:
        if name not in self._open:
            path = _file_of(self._task.folder, self._task.key, f"{name}.arrow")
            self._open[name] = self._files.enter_context(StagedWriter(path, name, self._task.pending_bytes))
        return self._open[name]

    def close(self) -> dict[str, list[Batch]]:
        return {name: writer.finish() for name, writer in self._open.items()}


class StagedWriter:
    """Writes one view's rows into an Arrow file, a batch for each month and range of hashes in what comes together."""

    def __init__(self, path: Path, view: str, pending_bytes: int = PENDING_BYTES) -> None:
        self._written = Written(path)
        self._schema, self._type = staged_schema(view), type_of_view(view)
        self._by_whole = view.startswith("whole-")
        self._most = pending_bytes
        self._pending: list[pa.RecordBatch] = []
        self._bytes = 0
        self._batches: list[Batch] = []

    def __enter__(self) -> StagedWriter:
        self._written.__enter__()
        self._file = pa.ipc.new_file(self._written.stream, self._schema, options=_WRITE)
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self._written.__exit__(kind, *rest)

    def add(self, batch: pa.RecordBatch, hashes: Hashes) -> None:
        """Rows of the record type, and the hashes of their keys."""
        columns = [*batch.columns, pa.array(hashes[:, 0]), pa.array(hashes[:, 1])]
        if self._by_whole:
            columns.append(pa.array(whole_hashes(batch, self._type)))
        self._pending.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._bytes += batch.nbytes
        if self._bytes >= self._most:
            self._flush()

    def finish(self) -> list[Batch]:
        """Writes what is left, and says what is in the file."""
        self._flush()
        self._file.close()
        return self._batches

    def _flush(self) -> None:
        if not self._pending:
            return
        together = pa.Table.from_batches(self._pending).combine_chunks().to_batches()[0]
        self._pending, self._bytes = [], 0
        high = cast("Hashes", together.column(WHOLE if self._by_whole else HIGH).to_numpy(zero_copy_only=False))
        months = np.zeros(len(high), np.int64) if self._by_whole else months_of(times_of(self._type, together))
        for month, sub, rows in _apart(months, subs_of(high)):
            self._batches.append(Batch(len(self._batches), month, sub, len(rows)))
            self._file.write_batch(together.take(pa.array(rows)))


def _apart(months: Ints, subs: Ints) -> Iterator[tuple[int, int, Ints]]:
    """(month, range, places of the rows, in their order)."""
    codes = (months << 16) | subs
    order = np.argsort(codes, kind="stable")
    ends = np.flatnonzero(np.diff(codes[order])) + 1
    for rows in np.split(order, ends):
        code = int(codes[rows[0]])
        yield code >> 16, code & 0xFFFF, rows


@dataclass(frozen=True, slots=True)
class Staged:
    """A staged file, and those of its batches that are asked for, in order."""

    path: str
    batches: tuple[int, ...]

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The batches, of these columns alone (None: all)."""
        with pa.OSFile(self.path) as raw:
            options = None
            if columns is not None:
                schema = pa.ipc.open_file(raw).schema
                options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
            file = pa.ipc.open_file(raw, options=options) if options else pa.ipc.open_file(raw)
            for number in self.batches:
                yield file.get_batch(number)


def staged(folder: str, results: Iterable[PieceResult], view: str, month: int, subs: Iterable[int]) -> tuple[Staged, ...]:
    """What the pieces have in a view of a month in some ranges, in the order of the pieces."""
    wanted = set(subs)
    chosen = []
    for result in results:
        numbers = tuple(b.number for b in result.views.get(view, ()) if b.month == month and b.sub in wanted)
        if numbers:
            chosen.append(Staged(str(_file_of(folder, result.key, f"{view}.arrow")), numbers))
    return tuple(chosen)
