"""What is kept of jobs for sums, packed: a piece is a table as Arrow writes it, compressed, and all of one day and kind.

- `facts`: a row a job, what it can be grouped by and what is summed. Whatever can be asked can be summed from them.
- `day.*`: sums by everything a job can be grouped by but host, CE and exit, and by UTC day: where jobs ended, where they started,
  and what is spread.
- `quarter.*`: the same by quarter hours, and by less: most of what is asked often, in whatever zone.
- `records`: on which days there are records of a cluster's jobs, be they counted or not, so that it is known of which nothing is.

The sums are what the statements of `summing` come to over the facts, as they would over the tables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard
from sqlalchemy import Connection, select

from batchacct.model import TEXT
from batchacct.store.usage_tables import usage_pack
from batchacct.usage.bins import DAY_S, QUARTER_S, Bins
from batchacct.usage.dimensions import meant_by
from batchacct.usage.in_facts import Numbered
from batchacct.usage.jobs import KEPT, LEVEL
from batchacct.usage.narrowing import TIMES, narrowed, widened
from batchacct.usage.summing import BEGINNINGS, BESIDE_SPREAD, ENDINGS, WHOLES, Asked, Summed

FACTS, RECORDS = "facts", "records"
PIECES_AT_ONCE = 32
THREADS = 2
_WHOLES = (WHOLES, BESIDE_SPREAD)
"""What is taken from the same sums."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Sums that are kept: by these dimensions, the benchmark of a job, and units of so many seconds."""

    name: str
    dimensions: tuple[str, ...]
    bins: Bins

    def answers(self, asked: Asked) -> bool:
        """Whether what is asked for can be summed from them: units and bounds have to be made of whole ones of these."""
        seconds = (asked.unit_s, asked.begin or 0, asked.end or 0)
        return set(asked.needed) <= {*self.dimensions, *asked.levels} and not any(s % self.bins.unit_s for s in seconds)

    def kind(self, summed: Summed, asked: Asked) -> str:
        """Where the sums are that a question asks for."""
        how = "started" if asked.counted == "started" else "ended"
        return f"{self.name}.{how if summed in _WHOLES else 'starts' if summed is BEGINNINGS else 'stops'}"


BY_DAY = Kept("day", tuple(name for name in KEPT if name not in {"host", "ce", "exit"}), Bins("day"))
BY_QUARTER = Kept("quarter", ("vo", "site", "cluster", "queue", "state", "outcome"), Bins("quarter hour"))
EVERY_KEPT = (BY_DAY, BY_QUARTER)
assert (BY_DAY.bins.unit_s, BY_QUARTER.bins.unit_s) == (DAY_S, QUARTER_S)


def _statements(kept: Kept) -> Iterator[tuple[str, Asked, Summed]]:
    """What is kept: its kind, and the question and statement it is the answer to, by the day of the log, too."""
    ended = Asked(("day", *kept.dimensions), normalise="every benchmark", bins=kept.bins)
    for asked, summed in (
        (ended, WHOLES),
        (replace(ended, counted="started"), WHOLES),
        (replace(ended, counted="spread"), BEGINNINGS),
        (replace(ended, counted="spread"), ENDINGS),
    ):
        yield kept.kind(summed, asked), asked, summed


def kept_of(duck: duckdb.DuckDBPyConnection, table: pa.Table) -> dict[str, pa.Table]:
    """By kind all that is kept of some facts, each with `day`.  Raises: duckdb.DataError for more than 64 bits."""
    known = encoded(table)
    found = {FACTS: known}
    for kept in EVERY_KEPT:
        numbered = Numbered.of(known, ["day", *kept.dimensions, *LEVEL])
        found |= {kind: numbered.summed(duck, asked, summed) for kind, asked, summed in _statements(kept)}
    return found


def of_facts(duck: duckdb.DuckDBPyConnection, table: pa.Table, asked: Asked, wanted: Sequence[Summed]) -> list[pa.Table]:
    """What statements come to over some facts, encoded: columns are keys, levels, `unit` and sums of 64 bits."""
    numbered = Numbered.of(_of_names(table, asked), [*asked.keys, *asked.levels]).with_units(asked)
    return [numbered.answered(duck, asked, summed) for summed in wanted]


def packed(kind: str, table: pa.Table) -> bytes:
    """A piece: each text is in it once, and none that is of other pieces.

    Of facts, which are many, some columns can be read alone. Sums are compressed as one: that is quicker for the few rows of a day.
    """
    ready = encoded(decoded(table)).combine_chunks()
    ready = narrowed(ready) if kind == FACTS else ready
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if kind == FACTS else None)
    with pa.ipc.new_stream(sink, ready.schema, options=options) as stream:
        stream.write_table(ready)
    content = sink.getvalue()
    return content.to_pybytes() if kind == FACTS else zstandard.compress(content.to_pybytes())


def encoded(table: pa.Table) -> pa.Table:
    """With the number of each text in its place."""
    columns: list[Any] = [column.dictionary_encode() if _is_text(column) else column for column in table.columns]
    return pa.table(columns, table.column_names)


def _is_text(column: Any) -> bool:
    return any(is_so(column.type) for is_so in (pa.types.is_string, pa.types.is_string_view))


def unpacked(kind: str, content: bytes, names: Collection[str] | None = None) -> pa.Table:
    """A piece, or some of its columns."""
    if kind == FACTS:
        return _unpacked_facts(pa.py_buffer(content), names)
    table = pa.ipc.open_stream(zstandard.decompress(content)).read_all()
    return table if names is None else table.select([name for name in table.column_names if name in names])


def _unpacked_facts(content: pa.Buffer, names: Collection[str] | None) -> pa.Table:
    if names is None:
        return widened(pa.ipc.open_stream(content).read_all())
    needed = TIMES.union(names) if TIMES.intersection(names) else names
    places = [place for place, name in enumerate(pa.ipc.open_stream(content).schema.names) if name in needed]
    options = pa.ipc.IpcReadOptions(included_fields=places, use_threads=False)  # pieces are unpacked two at a time
    found = widened(pa.ipc.open_stream(content, options=options).read_all())
    return found.select([name for name in found.column_names if name in names])


def unpacked_each(
    kind: str, contents: Iterable[tuple[int, bytes]], names: Collection[str] | None
) -> Iterator[tuple[int, pa.Table]]:
    """Pieces after their days, or some columns of them: of facts a few ahead, by threads, while more of them are fetched."""
    if kind != FACTS:
        yield from ((day, unpacked(kind, content, names)) for day, content in contents)
        return
    with ThreadPoolExecutor(THREADS) as threads:
        waiting: deque[tuple[int, Future[pa.Table]]] = deque()
        for day, content in contents:
            waiting.append((day, threads.submit(unpacked, kind, content, names)))
            if len(waiting) > PIECES_AT_ONCE:
                done, piece = waiting.popleft()
                yield done, piece.result()
        yield from ((day, piece.result()) for day, piece in waiting)


def pieces(
    connection: Connection, kind: str, days: Collection[int], names: Collection[str] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """The pieces of some days, each after its day, oldest first; or some columns of them."""
    if not days:
        return
    c = usage_pack.c
    query = select(c.day, c.packed).where(c.kind == kind, c.day.between(min(days), max(days))).order_by(c.day, c.piece)
    found = connection.execute(query.execution_options(yield_per=PIECES_AT_ONCE, in_binary=True))
    yield from unpacked_each(kind, ((day, bytes(content)) for day, content in found if day in days), names)


def added_up(tables: Iterable[pa.Table], asked: Asked, summed: Summed) -> pa.Table | None:
    """What is asked for, from sums that are kept: keys, levels, `unit` and sums; None where nothing is."""
    found = list(tables)
    if not found:
        return None
    table = _of_names(pa.concat_tables(found).unify_dictionaries(), asked)
    if summed in _WHOLES:
        table = _of_period(table, asked)
    keys = [*asked.keys, *asked.levels, "unit"]
    sums: Any = table.group_by(keys).aggregate([(name, "sum") for name in summed.columns])
    named: pa.Table = sums.select([*keys, *(f"{name}_sum" for name in summed.columns)]).rename_columns([*keys, *summed.columns])
    return named


def _of_names(table: pa.Table, asked: Asked) -> pa.Table:
    """The rows of the names that are meant; which hosts are is seen when they are named."""
    for name in asked.where.dimensions:
        if name == "host":
            continue
        chunks: list[Any] = table.column(name).chunks
        meant = meant_by(asked.where.of[name])
        texts = chunks[0].dictionary.to_pylist() if chunks else []
        fits = pa.array([place for place, text in enumerate(texts) if meant(text)], pa.int32())
        places = pa.chunked_array([chunk.indices for chunk in chunks], pa.int32())
        table = table.filter(pc.is_in(places, value_set=fits))
    return table


def _of_period(table: pa.Table, asked: Asked) -> pa.Table:
    """The rows of the units that are in the period; all in one unit where there are no bins."""
    unit = table.column("unit")
    within = [] if asked.begin is None else [pc.greater_equal(unit, pa.scalar(asked.begin // asked.unit_s))]
    within += [] if asked.end is None else [pc.less(unit, pa.scalar(asked.end // asked.unit_s))]
    if within:
        table = table.filter(reduce(pc.and_, within))  # an expression would be put to each piece by itself
    if asked.bins is None:
        table = table.set_column(table.column_names.index("unit"), "unit", pa.array(np.zeros(len(table), np.int64)))
    return table


def decoded(table: pa.Table) -> pa.Table:
    """With its texts themselves in the place of their numbers."""
    types = [TEXT if _is_text(f) or pa.types.is_dictionary(f.type) else f.type for f in table.schema]
    return table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))
