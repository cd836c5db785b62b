"""Parsing pieces: their rows into Arrow files beside the output, apart by month and range of keys, and what is to be told of them.

    <key>.job.arrow         rows of one record type in batches of one month and one range of keys each
    <key>.whole-pbs.part.arrow, <key>.whole-pbs.job.arrow    rows that may belong to wholes of a family, by range of whole
    <key>.rejects.jsonl     one line a reject
    <key>.json              the result: written last, and with it the pieces are done

Every file is written under a temporary name, synchronised and renamed: whoever parses them again replaces it by the same.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from batchacct.backfill.keys import MONTH_BITS, WHOLE_BITS, Hashes, Ints, key_hashes, months_of, subs_of, times_of, whole_hashes
from batchacct.backfill.pieces import Piece, Told, opened, parser_named, shown, unfinished
from batchacct.crashpoints import crash_point
from batchacct.errors import SourceError
from batchacct.following.opened import MovedOnError
from batchacct.model import PART, RECORD_TYPES, RecordType
from batchacct.parsing import Parsed, Parser, RejectedUnit
from batchacct.parsing.compressed import UndecodableError
from batchacct.parsing.reading import BLOCK_BYTES, UpToError, read_blocks
from batchacct.store.keys import with_strange_rejected

VERSION = "1"
"""Of what is staged: what an older program left is parsed again."""

AS_IN = "sqlite"
"""What is too long to be a key in this database is a reject here as well."""

PENDING_BYTES = 12 << 20
"""So much of a view is sorted out at a time."""

HIGH, LOW, WHOLE, FILE = "_high", "_low", "_whole", "_file"
PATH = pa.field("path", pa.string())
"""The file a record was read from: a column more than the archive has of what was in a database."""
OTHER_PATH = pa.field("read_from", pa.string())
"""The same, of records that have a column of that name themselves: the path of a loaded object."""
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
    """Pieces to parse (one, or several small ones), and where their files go."""

    pieces: tuple[Piece, ...]
    told: Told
    folder: str
    key: str
    block_bytes: int = BLOCK_BYTES
    pending_bytes: int = PENDING_BYTES

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


@dataclass(slots=True)
class PieceResult:
    """What came of pieces: rows tell the file they are of by its place in `paths`; units are counted by parser in `parsers`."""

    key: str
    paths: list[str]
    units: int = 0
    rejected: int = 0
    parsers: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    size: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    views: dict[str, list[Batch]] = field(default_factory=dict)


def parse_pieces(task: PieceTask) -> PieceResult:
    """Parses pieces; what could be read of a damaged file is kept.  Raises: OSError if the output cannot be written."""
    result = PieceResult(task.key, [shown(piece.file.path) for piece in task.pieces], size=task.size)
    with contextlib.ExitStack() as files:
        views = _Views(task, files)
        rejects = files.enter_context(Written(file_of(task.folder, task.key, "rejects.jsonl")))
        for number in range(len(task.pieces)):
            _parse_piece(task, number, result, views, rejects)
        result.views = views.close()
    crash_point("backfill.parsed-piece")
    with Written(file_of(task.folder, task.key, "json")) as book:
        book.stream.write(json.dumps(asdict(result)).encode())
    return result


def _parse_piece(task: PieceTask, number: int, result: PieceResult, views: _Views, rejects: Written) -> None:
    piece = task.pieces[number]
    parser = parser_named(piece.parser)
    path, at = result.paths[number], piece.start
    skipped: Counter[str] = Counter(result.skipped)
    try:
        with opened(piece) as (stream, head, begin):
            at = begin
            blocks = UpToError(read_blocks(stream, parser.framing, offset=begin, final=piece.final, block_bytes=task.block_bytes))
            for raw in parser.parse(blocks, task.told.source(piece.file.path, head)):
                parsed = with_strange_rejected(parser.record_type, raw, AS_IN)
                result.units += parsed.units
                result.rejected += len(parsed.rejects)
                result.parsers[parser.label] = result.parsers.get(parser.label, 0) + parsed.units
                skipped.update(parsed.skipped)
                views.add(parser, parsed, number)
                rejects.stream.writelines(_reject_line(path, parser.label, reject) for reject in parsed.rejects)
                at = parsed.end_offset
                crash_point("backfill.parsed-block")
            blocks.check()
    except SourceError as error:
        told = "" if isinstance(error.__cause__, UndecodableError) else f" (what was read before byte {at:,} counts)"
        result.problems.append(error.message + told)
    except MovedOnError:
        result.problems.append(f"{path} was changed while it was read, at byte {at:,}: do it again")
    else:
        if piece.end is not None and at < piece.end and not piece.final:
            result.notes.append(unfinished(path, piece.end - at))
    result.skipped = dict(skipped)


def stored_result(folder: str, key: str) -> PieceResult | None:
    """What came of pieces that are parsed already; None if they are not, or not to their ends: it is tried again."""
    try:
        values = json.loads(file_of(folder, key, "json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    values["views"] = {name: [Batch(**batch) for batch in batches] for name, batches in values["views"].items()}
    result = PieceResult(**values)
    return None if result.problems else result


def _reject_line(path: str, parser: str, reject: RejectedUnit) -> bytes:
    unit = base64.b64encode(reject.unit).decode("ascii")
    told = {"file": path, "offset": reject.offset, "length": reject.length, "reason": reject.reason, "parser": parser, "unit": unit}
    return json.dumps(told).encode() + b"\n"


def file_of(folder: str, key: str, name: str) -> Path:
    """A staged file."""
    return Path(folder) / f"{key}.{name}"


def rejects_of(folder: str, key: str) -> Path:
    """The rejects of a piece."""
    return file_of(folder, key, "rejects.jsonl")


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


def path_field(columns: Container[str]) -> pa.Field[Any]:
    """What the path is called beside some columns of records."""
    return OTHER_PATH if PATH.name in columns else PATH


def family_view(family: str, record_type: RecordType) -> str:
    """The view with the rows of wholes of a family, or of records its rule may amend."""
    return f"whole-{family}.{record_type.name}"


def made_view(family: str, record_type: RecordType) -> str:
    """The view with the records made of the parts of a family."""
    return f"made-{family}.{record_type.name}"


def type_of_view(view: str) -> RecordType:
    return RECORD_TYPES[view.rpartition(".")[2]]


def staged_schema(view: str) -> pa.Schema:
    """The columns of a view: those of its records, the file (the path, of what is made of parts), and the hashes."""
    path = [PATH] if view.startswith("made-") else [pa.field(FILE, pa.int32())]
    whole = [pa.field(WHOLE, pa.uint64())] if view.startswith("whole-") else []
    return pa.schema([*type_of_view(view).schema, *path, *_HASHES, *whole])


class _Views:
    """What is being staged of a piece, by view."""

    def __init__(self, task: PieceTask, files: contextlib.ExitStack) -> None:
        self._task, self._files = task, files
        self._open: dict[str, StagedWriter] = {}

    def add(self, parser: Parser, parsed: Parsed, file: int) -> None:
        rule = parser.completion
        for record_type, batch in ((parser.record_type, parsed.records), (PART, parsed.parts)):
            if not batch.num_rows:
                continue
            hashes = key_hashes(record_type, batch)
            of_file = pa.repeat(pa.scalar(file, pa.int32()), batch.num_rows)
            self._view(record_type.name).add(batch, of_file, hashes)
            if rule is not None and (record_type is PART or rule.amends):
                self._view(family_view(rule.family, record_type)).add(batch, of_file, hashes)

    def _view(self, name: str) -> StagedWriter:
        if name not in self._open:
            path = file_of(self._task.folder, self._task.key, f"{name}.arrow")
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

    def add(self, batch: pa.RecordBatch, files: pa.Array[Any], hashes: Hashes) -> None:
        """Rows of the record type, the file or path of each, and the hashes of their keys."""
        columns = [*batch.columns, files, pa.array(hashes[:, 0]), pa.array(hashes[:, 1])]
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
        for month, sub, rows in _apart(months, subs_of(high, WHOLE_BITS if self._by_whole else MONTH_BITS)):
            self._batches.append(Batch(len(self._batches), month, sub, len(rows)))
            self._file.write_batch(together.take(rows))


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
        with pa.OSFile(self.path, "rb") as raw:
            options = None
            if columns is not None:
                schema = pa.ipc.open_file(raw).schema
                options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
            file = pa.ipc.open_file(raw, options=options) if options else pa.ipc.open_file(raw)
            for number in self.batches:
                yield file.get_batch(number)


def staged_in(file: Path, batches: Iterable[Batch], month: int, subs: Container[int]) -> Staged | None:
    """What there is in a staged file of a month in some ranges; None if there is nothing."""
    numbers = tuple(batch.number for batch in batches if batch.month == month and batch.sub in subs)
    return Staged(str(file), numbers) if numbers else None
