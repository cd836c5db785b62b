"""Collecting: what is new in the files of a source, or in the answers of its feed, goes through its parser into the store."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from sqlalchemy import insert, update

from batchacct.errors import BatchacctError, CheckpointError, ParseError, SourceError
from batchacct.feeding import Feed
from batchacct.following import KnownPositions, locate, read_fully, skip
from batchacct.following.position import HEAD_BYTES, TAIL_BYTES
from batchacct.parsing import Block, Parser, Source
from batchacct.parsing.framing import WholeFiles
from batchacct.parsing.reading import expand, is_compressed, open_stream, read_blocks
from batchacct.store import Counts, Origin, Store, append, known_positions, note_place, store_cursor, stored_cursor
from batchacct.store.tables import source_state

log = logging.getLogger(__name__)

PARSE_THREADS = 2


@dataclass(frozen=True, slots=True)
class Collector:
    """One configured source with its parser; `feed` where it is asked rather than followed."""

    parser: Parser
    source: Source
    paths: tuple[str, ...]
    feed: Feed | None = None


@dataclass
class Collected:
    """What a collection did: unit counts as in the store's loads, files read, and what went wrong by file."""

    source: str
    counts: Counter[str] = field(default_factory=Counter)
    files: int = 0
    bytes_read: int = 0
    errors: list[BatchacctError] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """Files that were not empty, and of which not one unit was whole: what is at their end may be half written."""

    def add(self, counts: Counts) -> None:
        for name in ("units", "recorded", "merged", "known", "revised", "skipped", "rejected"):
            self.counts[name] += getattr(counts, name)


Progress = Callable[[int], None]
"""Told how many bytes (uncompressed) were read and stored since the last call."""


def collect_once(
    store: Store,
    collector: Collector,
    clock: Callable[[], int],
    *,
    from_start: frozenset[str] = frozenset(),
    progress: Progress = lambda count: None,
) -> Collected:
    """Reads what is there in every file of a source, oldest file first, and ends.

    A file that cannot be read is told in `errors` and does not keep the others from being read; only if there are files, and all
    were read to their ends, does the source count as read to its end: until then jobs wait for the identities it may bring.
    Raises: StoreError if the database fails.
    """
    done = Collected(collector.source.name)
    began = clock()
    if collector.feed is not None:
        _collect_answers(store, collector, collector.feed, clock, done=done, progress=progress)
        _note_state(store, collector, began, done.errors)
        return done
    paths = expand(collector.paths)
    if not paths:
        told = f"no file matches {', '.join(collector.paths)}: correct the source's `paths`, or wait for the first file"
        done.errors.append(SourceError(told))
    known = KnownPositions(known_positions(store, collector.source.name))
    for path in paths:
        try:
            of_path = KnownPositions() if path in from_start else known
            _collect_file(store, collector, path, clock, done, known=of_path, progress=progress)
            done.files += 1
        except (CheckpointError, ParseError, SourceError) as error:
            log.error("source=%s %s", collector.source.name, error.message)  # noqa: TRY400 - told to people, who need no traceback
            done.errors.append(error)
    _note_state(store, collector, began, done.errors)
    return done


def _collect_file(
    store: Store,
    collector: Collector,
    path: str,
    clock: Callable[[], int],
    done: Collected,
    *,
    known: KnownPositions,
    progress: Progress,
) -> None:
    parser, source = collector.parser, collector.source
    position = locate(source.name, path, known)
    with open_stream(path) as stream:
        head = read_fully(stream, HEAD_BYTES)
    note_place(store, position)
    with open_stream(path) as stream:
        skip(stream, position.offset)
        blocks = read_blocks(stream, parser.framing, offset=position.offset, final=_will_not_grow(parser, path))
        tails: dict[int, bytes] = {}
        for parsed in parser.parse(_noting_tails(blocks, tails), beginning(source, head), workers=PARSE_THREADS):
            moved = position.moved(parsed.end_offset, head, tails.pop(parsed.end_offset))
            origin = Origin(source.name, parser.record_type.name, parser.label, position.path, position)
            counts, stored = append(store, origin, parsed, clock(), moved)
            progress(parsed.end_offset - position.offset)
            done.bytes_read += parsed.end_offset - position.offset
            done.add(counts)
            assert stored is not None
            known.forget(position)
            known.add(stored)
            position = stored
    if head and not position.offset:
        done.held.append(path)


def _collect_answers(
    store: Store, collector: Collector, feed: Feed, clock: Callable[[], int], *, done: Collected, progress: Progress
) -> None:
    """Stores every answer of a feed, and the cursor behind each once the whole of it is stored."""
    parser, source = collector.parser, collector.source
    try:
        for answer in feed.ask(stored_cursor(store, source.name), clock()):
            origin = Origin(source.name, parser.record_type.name, parser.label, answer.question, asked=True)
            with answer.opened as stream:
                for parsed in parser.parse(read_blocks(stream, parser.framing), source, workers=PARSE_THREADS):
                    counts, _ = append(store, origin, parsed, clock())
                    progress(parsed.end_offset - parsed.start_offset)
                    done.bytes_read += parsed.end_offset - parsed.start_offset
                    done.add(counts)
            store_cursor(store, source.name, answer.cursor, clock())
            done.files += 1
    except (ParseError, SourceError) as error:
        log.error("source=%s %s", source.name, error.message)  # noqa: TRY400 - told to people, who need no traceback
        done.errors.append(error)


def beginning(source: Source, head: bytes) -> Source:
    """The source, told how the file begins that is read; a header line that the configuration gives goes before that."""
    return replace(source, head=source.head or head)


def _will_not_grow(parser: Parser, path: str) -> bool:
    return is_compressed(path) or (isinstance(parser.framing, WholeFiles) and parser.framing.files_are_complete)


def _noting_tails(blocks: Iterable[Block], tails: dict[int, bytes]) -> Iterator[Block]:
    """Passes blocks on, noting for each end offset the bytes before it, by which its file is known again."""
    tail = b""
    for block in blocks:
        tail = b"" if block.dropped else (tail + block.data[-TAIL_BYTES:])[-TAIL_BYTES:]
        tails[block.end_offset] = tail
        yield block


def _note_state(store: Store, collector: Collector, began: int, errors: list[BatchacctError]) -> None:
    name = collector.source.name
    values: dict[str, object] = {"record_type": collector.parser.record_type.name}
    if errors:
        values |= {"last_error": errors[-1].message, "last_error_at": began}
    else:
        values |= {"read_to_end_at": began, "last_error": None}
    with store.writing() as connection:
        known = connection.execute(update(source_state).where(source_state.c.name == name).values(values))
        if not known.rowcount:
            connection.execute(insert(source_state).values(name=name, **values))
