"""Files into the store: workers parse, this process appends, block by block with the position behind each, as a collector does.

So a later collection of the same files knows them, and what was collected already is not read again. Whoever kills it starts it
again, and it goes on at the positions.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from batchacct.backfill.engines import process_pool, told_of_death
from batchacct.backfill.pieces import Piece, Told, parser_named, plan, shown, unfinished
from batchacct.backfill.to_parquet import Progress, silent
from batchacct.collector.collecting import noting_tails
from batchacct.collector.running import lock_name
from batchacct.completing import Rule, complete_parts
from batchacct.crashpoints import crash_point
from batchacct.errors import CheckpointError, ParseError, SourceError
from batchacct.following import KnownPositions, Likeness, MovedOnError, OpenFile, Position, locate_open, shorter_copy
from batchacct.model import text_of
from batchacct.parsing import Block, Parsed, Parser, Source
from batchacct.parsing.adapters import GeneratorParser
from batchacct.parsing.contract import UnitParser
from batchacct.parsing.framing import WholeFiles, unit_bytes
from batchacct.parsing.reading import BLOCK_BYTES, UpToError, read_blocks, source_errors
from batchacct.store import Counts, Origin, Store, append, known_positions, note_damage, note_offset, note_place

_WHOLE_FILES = 1 << 62
AHEAD = 2
"""So many blocks for each worker are under way at a time."""


@dataclass
class Stored:
    """What came of it: units as in the loads, files read, those of which nothing was new, and what went wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    files: int = 0
    known_files: int = 0
    completed: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, counts: Counts) -> None:
        for name in ("units", "recorded", "merged", "known", "revised", "skipped", "rejected"):
            self.counts[name] += getattr(counts, name)


class Parsing(Protocol):
    """Who parses blocks: results come in the order of the blocks."""

    def parse(self, parser: Parser, name: str, blocks: Iterable[Block], source: Source) -> Iterator[Parsed]:
        """`name` is the parser's in the registry."""


class InThisProcess:
    """One core."""

    def parse(self, parser: Parser, name: str, blocks: Iterable[Block], source: Source) -> Iterator[Parsed]:
        yield from parser.parse(blocks, source)


class InProcesses:
    """Processes of this machine; blocks and batches go through pipes, batches as Arrow writes them."""

    def __init__(self, pool: ProcessPoolExecutor, workers: int) -> None:
        self._pool, self._workers = pool, workers

    def parse(self, parser: Parser, name: str, blocks: Iterable[Block], source: Source) -> Iterator[Parsed]:
        if not is_block_by_block(parser):
            yield from parser.parse(blocks, source)
            return
        ahead: deque[Future[Parsed]] = deque()
        try:
            for block in blocks:
                ahead.append(self._pool.submit(parse_block, name, block, source))
                if len(ahead) > AHEAD * self._workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


def is_block_by_block(parser: Parser) -> bool:
    """Whether what a block becomes depends on no block before it (in sacct's output a header line may)."""
    return type(parser).parse in (UnitParser.parse, GeneratorParser.parse)


def parse_block(name: str, block: Block, source: Source) -> Parsed:
    """In a worker."""
    (parsed,) = parser_named(name).parse([block], source)
    return parsed


@contextlib.contextmanager
def parsing(workers: int) -> Iterator[Parsing]:
    """Parsing by so many processes."""
    if workers == 1:
        yield InThisProcess()
        return
    with process_pool(workers) as pool, told_of_death():
        yield InProcesses(pool, workers)


def backfill_to_store(
    store: Store, paths: Iterable[str], told: Told, by: Parsing, clock: Callable[[], int], *, rules: Iterable[Rule],
    progress: Progress = silent, block_bytes: int = BLOCK_BYTES,
) -> Stored:  # fmt: skip
    """Everything in the files that the source `told.name` has not got yet; one bad file costs no other.

    Raises: StoreError, BusyError if the source is being collected; what was stored before stays, and the same call goes on from it.
    """
    assert told.name is not None and told.parser is not None
    planned = plan(paths, told, clock(), _WHOLE_FILES)
    done = Stored(problems=[problem.message for problem in planned.problems])
    total = sum(piece.size for piece in planned.pieces)
    so_far = 0
    with store.lock(lock_name(told.name)):
        loader = _Loader(store, told, by, clock, done=done, block_bytes=block_bytes)
        for piece in planned.pieces:
            try:
                for moved in loader.file(piece):
                    progress("storing", min(so_far + moved, total), total)
            except (CheckpointError, ParseError, SourceError) as error:
                done.problems.append(error.message)
            so_far += piece.size
            progress("storing", so_far, total)
        done.completed = complete_parts(store, rules, clock())
    return done


class _Loader:
    def __init__(self, store: Store, told: Told, by: Parsing, clock: Callable[[], int], *, done: Stored, block_bytes: int) -> None:
        self._store, self._told, self._by, self._clock, self._done = store, told, by, clock, done
        self._name, self._block_bytes = str(told.name), block_bytes
        self._known = KnownPositions(known_positions(store, self._name))

    def file(self, piece: Piece) -> Iterator[int]:
        """Reads a file on from its position; yields how far that is.  Raises: StoreError, and what is wrong with the file."""
        path = piece.file.path
        length = unit_bytes(parser_named(piece.parser).framing)
        with source_errors(path), contextlib.closing(OpenFile(path, length)) as file:
            found = locate_open(self._name, file, self._known)
            if found.likeness is Likeness.CHANGED:
                self._done.problems.append(_contradicted(self._name, path, found.position))
                return
            if found.likeness is Likeness.SHORTER:
                self._done.notes.append(shorter_copy(shown(path), file.state.st_size, found.position))
                return
            self._done.files += 1
            if found.likeness is Likeness.PART:
                self._done.known_files += 1
                return
            if found.likeness is Likeness.MENDED:
                note_offset(self._store, self._known, found.position)
            yield from self._read(piece, file, found.position, found.before)

    def _read(self, piece: Piece, file: OpenFile, position: Position, before: bytes) -> Iterator[int]:
        parser = parser_named(piece.parser)
        framing = parser.framing
        begun_at = position.offset
        stream = file.from_(position.offset, before)
        blocks = UpToError(read_blocks(stream, framing, offset=position.offset, final=piece.final, block_bytes=self._block_bytes))
        tails: dict[int, bytes] = {}
        source = self._told.source(piece.file.path, file.head)
        try:
            for parsed in self._by.parse(parser, piece.parser, noting_tails(blocks, tails, before), source):
                crash_point("backfill.parsed-block")
                moved = position.moved(parsed.end_offset, file.head, tails.pop(parsed.end_offset), begin=file.begin)
                if isinstance(framing, WholeFiles) and framing.files_are_complete:
                    moved = replace(moved, head=b"")
                origin = Origin(self._name, parser.record_type.name, parser.label, position.path, position)
                counts, stored = append(self._store, origin, parsed, self._clock(), moved)
                assert stored is not None
                self._known.put(stored)
                self._done.add(counts)
                position = stored
                yield position.offset
            blocks.check()
        except SourceError as error:
            note_damage(self._store, self._known, position, error)
            raise
        except MovedOnError as error:
            raise SourceError(f"{shown(piece.file.path)} was changed while it was read: do it again") from error
        if position.offset == begun_at:
            self._done.known_files += 1
            note_place(self._store, position)
        if not file.is_compressed and position.offset < file.state.st_size:
            left = file.state.st_size - position.offset
            self._done.notes.append(unfinished(shown(piece.file.path), left))


def _contradicted(name: str, path: str, known: Position) -> str:
    which = "" if text_of(os.fsencode(path)) == known.path else f", as {known.path} does,"
    return (
        f"{shown(path)} begins like what source {name} has read up to byte {known.offset:,}{which} and differs from it before that "
        "byte: it was truncated or edited, and was not read. If its content is to be read as new, `batchacct collect --once "
        f"--from-start {shown(path)} {name}` does so (records known already are not doubled)"
    )
