"""What is read again: the rows of a period, page by page, the loads they came with, and how each source is read."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import pyarrow as pa
from sqlalchemy import Connection, and_, func, or_, select

from batchacct.config import Config
from batchacct.errors import PluginError, SourceError
from batchacct.following import HEAD_BYTES, read_fully
from batchacct.model import INSTANT, INTEGER, RecordType
from batchacct.parsing import Block, Parser, Source, registry
from batchacct.parsing.reading import open_stream
from batchacct.store.spans import Span
from batchacct.store.tables import RECORD_TABLES, ROWS_PER_LOAD_BITS, followed_file, load

ROWS_AT_ONCE = 5_000
LOADS_PER_QUERY = 500

ASKED = "the answer of a feed, which is not kept whole"

_KEYS = ("id", "revision", "superseded_by")


@dataclass(frozen=True, slots=True)
class Reader:
    """How the units of a source are read; `why_not`, if they cannot be."""

    source: Source
    parser: Parser | None
    why_not: str | None = None

    def has_family(self, family: str) -> bool:
        """Whether it brings parts of a family, or the records they amend."""
        rule = None if self.parser is None else getattr(self.parser, "completion", None)
        return rule is not None and rule.family == family


def readers_of(config: Config) -> dict[str, Reader]:
    """The configured sources by their names."""
    found = {}
    for keys in config.source:
        parser, why_not = None, ASKED if keys.feed is not None else None
        try:
            parser = registry.parser(keys.parser)
        except PluginError as error:
            why_not = error.message
        found[keys.name] = Reader(config.parser_source(keys), parser, why_not)
    return found


def _stored_schema(record_type: RecordType) -> pa.Schema:
    """The columns of a record's table: instants are Unix seconds."""
    types = ((c.name, INTEGER if c.type == INSTANT else c.type) for c in record_type.columns)
    return pa.schema([*((name, INTEGER) for name in _KEYS), *types])


def pages(connection: Connection, record_type: RecordType, span: Span) -> Iterator[pa.RecordBatch]:
    """The rows of a time, in the order of their numbers."""
    table, schema = RECORD_TABLES[record_type.name], _stored_schema(record_type)
    overlaps = and_(load.c.last_row_at >= span.first, load.c.first_row_at <= span.last)
    of_then = select(func.min(load.c.id), func.max(load.c.id)).where(or_(load.c.first_row_at.is_(None), overlaps))
    first, last = connection.execute(of_then).one()
    if first is None:
        return
    after, behind = (first << ROWS_PER_LOAD_BITS) - 1, (last + 1) << ROWS_PER_LOAD_BITS
    query = select(*(table.c[name] for name in schema.names)).where(span.has(table.c[record_type.time_column]))
    while True:
        some = query.where(table.c.id > after, table.c.id < behind).order_by(table.c.id).limit(ROWS_AT_ONCE)
        rows = connection.execute(some).all()
        if not rows:
            return
        arrays = [pa.array(values, kind.type) for values, kind in zip(zip(*rows, strict=True), schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        after = rows[-1][0]


@dataclass(frozen=True, slots=True)
class LoadRead:
    """A load, where its file is now, and how that begins."""

    id: int
    source: str
    path: str
    start_offset: int
    end_offset: int
    next_row: int
    completed: int
    file_id: int | None
    head: bytes


_OF_LOAD = [one.name for one in fields(LoadRead)]


def loads(connection: Connection, numbers: Sequence[int]) -> dict[int, LoadRead]:
    """Some loads by their numbers."""
    c = load.c
    path, head = func.coalesce(followed_file.c.path, c.path), followed_file.c.head
    columns = (c.id, c.source, path, c.start_offset, c.end_offset, c.next_row, c.completed, c.file_id, head)
    query = select(*columns).select_from(load.outerjoin(followed_file, followed_file.c.id == c.file_id))
    found = {}
    for start in range(0, len(numbers), LOADS_PER_QUERY):
        for row in connection.execute(query.where(c.id.in_(numbers[start : start + LOADS_PER_QUERY]))):
            values = dict(zip(_OF_LOAD, row, strict=True))
            found[row[0]] = LoadRead(**values | {"head": bytes(values["head"] or b"")})
    return found


def head_now(path: str) -> bytes:
    """How a file begins that no position is kept of; nothing if it is not there any more."""
    with contextlib.suppress(SourceError), open_stream(path) as stream:
        return read_fully(stream, HEAD_BYTES)
    return b""


def has_several_headers(connection: Connection, of: LoadRead, parser: Parser, source: Source) -> bool:
    """Whether more lines of a file than one were skipped for the reason for which its first line was."""
    first_line = of.head.partition(b"\n")[0] + b"\n"
    parsed = next(iter(parser.parse([Block(first_line, 0)], source)))
    counts: Counter[str] = Counter()
    for said in connection.scalars(select(load.c.skip_reasons).where(load.c.file_id == of.file_id)):
        counts.update(json.loads(said or "{}"))
    return any(counts[reason] > 1 for reason in parsed.skipped)
