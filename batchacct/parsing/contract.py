"""What a parser is: a generator from blocks of bytes to Arrow batches, parts and rejects. It touches no file, clock or database.

The usual parser is a `UnitParser`: one readable function from a unit (a line, mostly) to a record, which is its specification
(the careful lane), and, where speed asks for it, a second function that takes a whole block's regular units at once (the fast
lane) and leaves the rest to the first. A property test holds the two equal.
"""

from __future__ import annotations

import csv
import datetime as dt
import fnmatch
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from batchacct.errors import ConfigError, RecordError
from batchacct.model import PART, SOURCE_TYPES, Record, RecordType, content_hash, text_of
from batchacct.parsing.framing import LINES, Framing

REJECT_BYTES_KEPT = 65_536
"""Of a unit longer than this a reject keeps the beginning; source, offset and length lead to the rest."""


UNFORESEEN = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, StopIteration, TypeError, ValueError,
    csv.Error, struct.error,
)  # fmt: skip
"""What a gap in a careful lane raises on an odd unit: the unit is rejected, kept, and replayed once the parser is mended.

A time out of range can be an OSError, JSON nested too deep is a RuntimeError, and a `next` without default a StopIteration.
"""


Row = Mapping[str, object]
"""A stored row: column name to value."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the configuration knows and the log does not: where a log comes from.

    `cluster` is None where only `ce_clusters` decides: patterns of CE ids (`ce01.example.org:8443/*`) to cluster, in order.
    `zone` is that of the host which wrote the log; formats that state theirs (LSF, BLAH: UTC) do not look at it.
    `head` is the beginning of the very file that is read, wherever in it reading begins: a header line may stand there.
    """

    name: str
    site: str | None = None
    cluster: str | None = "default"
    zone: dt.tzinfo = dt.UTC
    ce_clusters: tuple[tuple[str, str], ...] = ()
    head: bytes = b""

    def cluster_of_ce(self, ce_id: str | None) -> str:
        """The cluster behind a computing element.  Raises: Reject where neither `[ce]` nor the source names one."""
        for pattern, cluster in self.ce_clusters if ce_id else ():
            if fnmatch.fnmatchcase(ce_id or "", pattern):
                return cluster
        if self.cluster is None:
            raise Reject(f"no cluster is configured for CE {ce_id}: add it to [ce], then replay this reject")
        return self.cluster


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes of whole units, and where they begin in the uncompressed stream.

    `dropped` is set on a block that is the beginning of one single unit too long to be taken: how many bytes more it had.
    """

    data: bytes
    offset: int
    dropped: int = 0

    @property
    def end_offset(self) -> int:
        return self.offset + len(self.data) + self.dropped


class Reject(Exception):  # noqa: N818 - it is the outcome of one unit, not an error of the program
    """A unit that should have been readable and was not; raised by a careful lane, stored as a `RejectedUnit`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RejectedUnit:
    """A reject with its origin: byte offset in the uncompressed source, whole length, first bytes, reason."""

    offset: int
    length: int
    unit: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Skip:
    """A unit that is well formed and holds no record: another event, a comment. `reason` is counted, so keep it constant."""

    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """Columns of a `part` record, without what the contract fills in: origin, hash, site, lrms, family and record type."""

    record: Record


Outcome = Record | Part | Skip


@dataclass(frozen=True, slots=True)
class Whole:
    """What is known of one whole: its parts, oldest first, and the records in force of the same job (where a rule asks for them).

    Both are rows as stored: column name to value, instants as Unix seconds, null as None. `usage` of a part is JSON text.
    """

    key: str
    parts: tuple[Row, ...]
    records: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Completed:
    """A record made of parts: its own columns, and the row (a part's or a record's) whose origin it bears.

    `record_key` and the time column must follow from that one row, so that parts which come later revise the record and do not
    double it. Columns of the origin that `record` leaves out (site, cluster, lrms, native, source, ...) are taken over.
    """

    record: Record
    origin: Row


@dataclass(frozen=True, slots=True)
class Completion:
    """The rule by which parts become records: a pure function of a whole, whatever the order in which its parts came.

    complete(whole): the records the whole makes by now; none while it still waits for a part. Given what it returned before as
        `whole.records`, it returns the same again.
    amends: `whole.records` are looked up: the records in force, of the sources of this family, with the parts' cluster, join_id
        and array_index, which must then be what `part_key` is made of (`model.whole_key`).
    settled(whole): whether no record is to be waited for: the whole is of nothing that is accounted for.
    """

    family: str
    record_type: RecordType
    complete: Callable[[Whole], list[Completed]]
    amends: bool = False
    settled: Callable[[Whole], bool] = field(default=lambda whole: False)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one block became. units = records + parts + rejects + skipped, always."""

    records: pa.RecordBatch
    parts: pa.RecordBatch
    rejects: tuple[RejectedUnit, ...]
    skipped: Mapping[str, int]
    start_offset: int
    end_offset: int

    @property
    def units(self) -> int:
        return self.records.num_rows + self.parts.num_rows + len(self.rejects) + sum(self.skipped.values())


@dataclass(frozen=True, slots=True)
class Regular:
    """What a fast lane took of a block: complete records and parts, how many units it skipped, and the spans of those it left."""

    records: pa.RecordBatch
    left: list[tuple[int, int]]
    parts: pa.RecordBatch = field(default_factory=PART.empty)
    skipped: Mapping[str, int] = field(default_factory=dict)


class Parser(Protocol):
    """Anything registered under `batchacct.parsers`."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str:
        """Name and version, as every record it makes bears it: `lsf/1`."""

    @property
    def record_type(self) -> RecordType: ...
    @property
    def framing(self) -> Framing: ...
    @property
    def doc(self) -> str: ...
    @property
    def completion(self) -> Completion | None:
        """The rule for the parts it yields; None if it yields none."""

    def recognises(self, head: bytes) -> bool:
        """Whether a stream that begins with `head` (some KiB) is in this format."""

    def parse(self, blocks: Iterable[Block], source: Source, *, workers: int = 1) -> Iterator[Parsed]:
        """One `Parsed` a block, in the order of the blocks; at most `workers` threads."""


@dataclass(frozen=True)
class UnitParser:
    """A parser made of a function from one unit to its outcome, and optionally a fast lane.

    parse_unit(unit, source): the record's own columns (the contract adds site, lrms, hash, native, source, offset, parser), a
        Part, or a Skip.  Raises: Reject(reason).
    fast_lane(block, source, parser_label): see `Regular`.
    """

    name: str
    record_type: RecordType
    lrms: str | None
    version: int
    parse_unit: Callable[[bytes, Source], Outcome]
    doc: str
    framing: Framing = LINES
    fast_lane: Callable[[Block, Source, str], Regular] | None = None
    recognise: Callable[[bytes], bool] = field(default=lambda head: False)
    completion: Completion | None = None

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    def recognises(self, head: bytes) -> bool:
        return self.recognise(head)

    def parse(self, blocks: Iterable[Block], source: Source, *, workers: int = 1) -> Iterator[Parsed]:
        return in_order(lambda block: self.parse_block(block, source), blocks, workers)

    def parse_block(self, block: Block, source: Source) -> Parsed:
        """Both lanes over one block: the fast one first, the careful one over what it left."""
        if block.dropped:
            return too_long(self.record_type, block)
        if self.fast_lane is None:
            return self.parse_spans(block, self.framing.spans(block.data), source)
        regular = self.fast_lane(block, source, self.label)
        rest = self.parse_spans(block, regular.left, source)
        return Parsed(
            merge_by_offset(regular.records, rest.records),
            merge_by_offset(regular.parts, rest.parts),
            rest.rejects,
            Counter(regular.skipped) + Counter(rest.skipped),
            block.offset,
            block.end_offset,
        )

    def parse_spans(self, block: Block, spans: Iterable[tuple[int, int]], source: Source) -> Parsed:
        """The careful lane over some units of a block, one at a time: a bad one costs only itself."""
        records: list[Record] = []
        parts: list[Record] = []
        rejects: list[RejectedUnit] = []
        skipped: Counter[str] = Counter()
        for start, end in spans:
            unit = block.data[start:end]
            try:
                outcome = self.parse_unit(unit, source)
            except Reject as reject:
                rejects.append(rejected(unit, block.offset + start, reject.reason))
                continue
            except UNFORESEEN as error:
                reason = f"the parser does not foresee this unit ({type(error).__name__}: {error})"
                rejects.append(rejected(unit, block.offset + start, reason))
                continue
            if isinstance(outcome, Skip):
                skipped[outcome.reason] += 1
            elif isinstance(outcome, Part):
                parts.append(self._part(outcome, unit, block.offset + start, source))
            else:
                records.append(self._with_origin(outcome, unit, block.offset + start, source))
        return Parsed(
            batch_or_reject(self.record_type, records, rejects),
            batch_or_reject(PART, parts, rejects),
            tuple(sorted(rejects, key=lambda reject: reject.offset)),
            skipped,
            block.offset,
            block.end_offset,
        )

    def _part(self, part: Part, unit: bytes, offset: int, source: Source) -> Record:
        assert self.completion is not None, f"parser {self.name} yields parts and has no rule that completes records from them"
        whole: Record = {"family": self.completion.family, "record_type": self.completion.record_type.name}
        return self._with_origin(whole | part.record, unit, offset, source)

    def _with_origin(self, record: Record, unit: bytes, offset: int, source: Source) -> Record:
        return {
            "site": source.site,
            "cluster": source.cluster,
            "lrms": self.lrms,
            **record,
            "content_hash": content_hash(unit),
            "native": unit,
            "source": source.name,
            "source_offset": offset,
            "parser": self.label,
        }


def too_long(record_type: RecordType, block: Block) -> Parsed:
    """What becomes of a block that is the beginning of one unit too long to be taken: a reject."""
    length = len(block.data) + block.dropped
    kept = block.data[:REJECT_BYTES_KEPT]
    reject = RejectedUnit(block.offset, length, kept, f"a unit of {length} bytes is longer than is read")
    return Parsed(record_type.empty(), PART.empty(), (reject,), {}, block.offset, block.end_offset)


def batch_or_reject(record_type: RecordType, records: list[Record], rejects: list[RejectedUnit]) -> pa.RecordBatch:
    """The records as a batch; one that does not fit the record type is added to `rejects` instead."""
    try:
        return record_type.batch(records)
    except RecordError:
        pass
    fitting = []
    for record in records:
        try:
            record_type.batch([record])
            fitting.append(record)
        except RecordError as error:
            unit, offset = record["native"], record["source_offset"]
            assert isinstance(unit, bytes) and isinstance(offset, int)
            rejects.append(rejected(unit, offset, error.message))
    return record_type.batch(fitting)


def rejected(unit: bytes, offset: int, reason: str) -> RejectedUnit:
    """The reject of a unit that begins at `offset`."""
    return RejectedUnit(offset, len(unit), unit[:REJECT_BYTES_KEPT], reason)


def unit_parser(
    name: str,
    record_type: str,
    *,
    lrms: str,
    version: int = 1,
    framing: Framing = LINES,
    completion: Completion | None = None,
) -> Callable[[Callable[[bytes, Source], Outcome]], UnitParser]:
    """Decorator: makes a parser of the one function a site has to write; its docstring is the parser's page."""

    def make(parse_unit: Callable[[bytes, Source], Outcome]) -> UnitParser:
        if record_type not in SOURCE_TYPES:
            raise ConfigError(f"parser {name}: record type {record_type!r} is none of {', '.join(SOURCE_TYPES)}")
        doc = parse_unit.__doc__ or ""
        return UnitParser(name, SOURCE_TYPES[record_type], lrms, version, parse_unit, doc, framing, completion=completion)

    return make


def merge_by_offset(one: pa.RecordBatch, other: pa.RecordBatch) -> pa.RecordBatch:
    """The rows of both batches, in the order their units stand in the source."""
    if not other.num_rows:
        return one
    if not one.num_rows:
        return other
    both = pa.Table.from_batches([one, other]).combine_chunks()
    return both.take(pc.sort_indices(both, [("source_offset", "ascending")])).combine_chunks().to_batches()[0]


def in_order(parse_block: Callable[[Block], Parsed], blocks: Iterable[Block], workers: int) -> Iterator[Parsed]:
    """`parse_block` over the blocks, results in their order; with `workers` > 1 in threads, that many blocks ahead at most."""
    if workers <= 1:
        for block in blocks:
            yield parse_block(block)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="parse") as pool:
        ahead: deque[Future[Parsed]] = deque()
        try:
            for block in blocks:
                ahead.append(pool.submit(parse_block, block))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


def printable(unit: bytes, most: int = 120) -> str:
    """The beginning of a unit for a message: valid text, control characters escaped, at most `most` characters."""
    text = text_of(unit[: 4 * most])
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return shown if len(shown) <= most else shown[:most] + "..."
