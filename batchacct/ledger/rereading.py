"""Records held against the raw units they were read from: each unit is given to its parser again, what comes out is compared.

All columns that a parser makes are compared, and the hash of the unit. What cannot be compared is counted with the reason, and is
no problem: a source that is not configured any more, a parser that is not installed or reads otherwise in its version of now, an
answer of a feed, which is not kept whole. Of a month in the archive the checksum of the file is compared.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, func, select

from batchacct.archive.anonymising import PREFIX
from batchacct.archive.holdings import archived
from batchacct.archive.layout import verify
from batchacct.collector import beginning
from batchacct.errors import PluginError
from batchacct.ledger.outgoing import NAMED
from batchacct.ledger.reading_rows import LoadRead, Reader, has_several_headers, head_now, loads, pages
from batchacct.ledger.remaking import made_again
from batchacct.ledger.telling import difference, name_of, place_of
from batchacct.ledger.units import Differences, any_of, differences, read_again, stored_form
from batchacct.model import IDENTITY, JOB, PROCESS, PROCESS_GROUP, RECORD_TYPES, RecordType, content_hash
from batchacct.parsing import Parser, Source, registry
from batchacct.parsing.adapters import GeneratorParser
from batchacct.store.spans import Span
from batchacct.store.tables import ROWS_PER_LOAD, ROWS_PER_LOAD_BITS, usage

NOT_CONFIGURED = "its source is not configured"
BY_HAND = "put in by hand"
GENERATOR = "read by a generator, which may remember lines"
NO_UNIT = "its unit is not kept (names were taken out)"
BY_ITSELF = "its unit cannot be read by itself"
OTHER_PLACE = "read under another site, cluster or [ce] than the configuration has now"
SEVERAL_HEADERS = "reads differently, and which of several header lines it stood under is not known"
BY_CHECKSUM = "archived: the checksum of the file is compared"

_APART = frozenset(("native", "source", "source_offset", "parser"))
"""Columns that are not the parser's, or are compared in another way."""
_INSERTED = "insert"


@dataclass
class Reread:
    """What came of it: records compared, by type; those not compared, by type and reason; `problems` name what differs."""

    compared: dict[str, int] = field(default_factory=dict)
    not_compared: dict[str, dict[str, int]] = field(default_factory=dict)
    differing: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def reread(connection: Connection, readers: Mapping[str, Reader], since: int, until: int) -> Reread:
    """The records that were logged from `since` to before `until`, and the identities of then and of those jobs.

    Raises: ArchiveError if a file of the archive is missing or damaged.
    """
    found = Reread()
    period = Span(since, until - 1)
    recorded = select(func.min(usage.c.identity_at), func.max(usage.c.identity_at)).where(period.has(usage.c.logged_at))
    first, last = connection.execute(recorded).one()
    identities = Span(min(since, first or since), max(until - 1, last or 0))
    for record_type in RECORD_TYPES.values():
        span = identities if record_type is IDENTITY else period
        one = _Rereader(connection, readers, record_type, found)
        for rows in pages(connection, record_type, span):
            one.page(rows)
        for month in archived(connection, record_type, span.first, span.last):
            if month.file is not None:
                verify(month.file, month.manifest, record_type.time_column)
                one.not_compared[BY_CHECKSUM] += month.sums.rows
        one.end()
    return found


_OF_ROW = ("id", "source", "source_offset", "parser", "native", "content_hash")


class _Row(NamedTuple):
    """Where a row is of, and its unit."""

    id: int
    source: str
    offset: int
    parser: str
    unit: bytes | None
    content_hash: int


@dataclass(slots=True)
class _Outcome:
    """What became of a group of rows: those that are as their units say, what others should be, and why some could not be read.

    Rows are numbered within the group; `wrong` has the columns that differ, each with what the unit says.
    """

    right: set[int] = field(default_factory=set)
    wrong: dict[int, dict[str, object]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def take(self, rows: Sequence[int], other: _Outcome) -> None:
        """Puts what became of some rows (in their order there) in the place of what is known of them."""
        for at, row in enumerate(rows):
            if at in other.right:
                self.right.add(row)
                self.wrong.pop(row, None)
                self.refused.pop(row, None)
            elif at in other.wrong:
                self.wrong[row] = other.wrong[at]
                self.refused.pop(row, None)
            elif row not in self.wrong:
                self.refused[row] = other.refused[at]

    @property
    def left(self) -> list[int]:
        return sorted({*self.wrong, *self.refused})


class _Rereader:
    """Compares the records of one type, a page at a time, in the order of their numbers."""

    def __init__(self, connection: Connection, readers: Mapping[str, Reader], record_type: RecordType, found: Reread) -> None:
        self._connection, self._readers, self._record_type, self._found = connection, readers, record_type, found
        self._names = [c.name for c in record_type.columns if c.name not in _APART]
        self._loads: dict[int, LoadRead] = {}
        self._ends: dict[int, tuple[int, int]] = {}
        self._agreed: set[int] = set()
        self._several_headers: dict[tuple[int | None, str], bool] = {}
        self._unreadable = ""
        self._heads: dict[str, bytes] = {}
        self._compared_rows = self._differing = 0
        self.not_compared: Counter[str] = Counter()

    def page(self, rows: pa.RecordBatch) -> None:
        stored = [_Row(*values) for values in zip(*(rows.column(name).to_pylist() for name in _OF_ROW), strict=True)]
        self._loads = loads(self._connection, sorted({row.id >> ROWS_PER_LOAD_BITS for row in stored}))
        groups: dict[tuple[str, str, bool], list[int]] = {}
        named = self._named_people(rows)
        for place, row in enumerate(stored):
            of = self._loads.get(row.id >> ROWS_PER_LOAD_BITS)
            if of is None:
                continue  # of no load at all: told as missing
            is_made = of.completed > 0
            if (odd := self._out_of_place(row, of, is_made=is_made)) is not None:
                self._tell(rows, place, of, odd)
            elif row.unit is None and named[place]:
                self._tell(rows, place, of, "its unit is not there any more, though the names are")
            elif row.unit is None:
                self._not_compared(NO_UNIT)
            elif not is_made and content_hash(row.unit) != row.content_hash:
                self._tell(rows, place, of, "its unit, or its content_hash, was changed: the hash of the unit is another")
            else:
                groups.setdefault((of.source, row.parser, is_made), []).append(place)
        last = stored[-1].id >> ROWS_PER_LOAD_BITS
        self._ends = {number: end for number, end in self._ends.items() if number == last}
        for (source, label, is_made), places in groups.items():
            self._group(rows.take(pa.array(places)), source, label, is_made=is_made)
        self._agreed &= {last}

    def end(self) -> None:
        """Books what was found."""
        name, found = self._record_type.name, self._found
        found.compared[name], found.differing[name] = self._compared_rows, self._differing
        found.not_compared[name] = dict(self.not_compared)
        if self._differing > NAMED:
            found.problems.append(f"... and {self._differing - NAMED:,} more {name} records are not as their units say")

    # --- rows by themselves ---------------------------------------------------------------------------------------------

    def _named_people(self, rows: pa.RecordBatch) -> list[bool]:
        """The rows with a name of a person in them that is no pseudonym."""
        name = {JOB: "user_name", IDENTITY: "dn", PROCESS: "user_name", PROCESS_GROUP: "owner"}.get(self._record_type)
        if name is None:
            return [False] * rows.num_rows
        return [value is not None and not value.startswith(PREFIX) for value in rows.column(name).to_pylist()]

    def _out_of_place(self, row: _Row, of: LoadRead, *, is_made: bool) -> str | None:
        """What is wrong with where a record stands: it is none of its load's, or not of bytes of its own that this has read."""
        if row.id % ROWS_PER_LOAD >= of.next_row:
            return f"it is none of the {of.next_row:,} rows that its load {of.id} stored"
        if row.source != of.source:
            return f"source is {row.source!r}, its load {of.id} is of {of.source!r}"
        if is_made or of.file_id is None:
            return None
        if not of.start_offset <= row.offset < of.end_offset:
            return f"source_offset is {row.offset:,}, its load {of.id} has read bytes {of.start_offset:,} to {of.end_offset:,}"
        end, earlier = self._ends.get(of.id, (0, 0))
        self._ends[of.id] = max((end, earlier), (row.offset + len(row.unit or b""), row.id))
        return f"its unit begins within that of record {earlier}, or before it" if row.offset < end else None

    # --- rows of one source and parser ----------------------------------------------------------------------------------

    def _group(self, rows: pa.RecordBatch, source: str, label: str, *, is_made: bool) -> None:
        """Compares rows that were read from one source by one version of a parser."""
        reader = self._readers.get(source)
        name = label.rpartition("/")[0]
        if name == _INSERTED:
            self._not_compared(BY_HAND, rows.num_rows)
            return
        if reader is None:
            self._not_compared(NOT_CONFIGURED, rows.num_rows)
            return
        if reader.why_not is not None and not (is_made and reader.parser):
            self._not_compared(reader.why_not, rows.num_rows)
            return
        parser = reader.parser
        if parser is None or parser.name != name:
            try:
                parser = registry.parser(name)
            except PluginError as error:
                self._not_compared(error.message, rows.num_rows)
                return
        if is_made:
            self._made(rows, parser, label)
        elif isinstance(parser, GeneratorParser):
            self._not_compared(GENERATOR, rows.num_rows)
        else:
            self._read(rows, parser, reader.source, label)

    def _read(self, rows: pa.RecordBatch, parser: Parser, source: Source, label: str) -> None:
        outcome = self._by_heads(rows, parser, source)
        now = f"read differently by parser {parser.label} now (then {label})"
        elsewhere = self._under_their_places(rows, parser, source, outcome) if label == parser.label else set()
        unsure = self._under_unknown_headers(rows, parser, source, outcome) if label == parser.label else set()
        numbers = cast("list[int]", rows.column("id").to_pylist())
        first_right: dict[int, int] = {}
        for row in sorted(outcome.right):
            first_right.setdefault(numbers[row] >> ROWS_PER_LOAD_BITS, numbers[row])
        self._compared_rows += len(outcome.right)
        for row in outcome.left:
            of = self._loads[numbers[row] >> ROWS_PER_LOAD_BITS]
            if label != parser.label:
                self._not_compared(now)
            elif row in outcome.refused:
                self._unreadable = self._unreadable or f"{BY_ITSELF}; such as record {numbers[row]}: {outcome.refused[row]}"
                self._not_compared(self._unreadable)
            elif row in elsewhere and of.id not in self._agreed and first_right.get(of.id, numbers[row]) >= numbers[row]:
                self._not_compared(OTHER_PLACE)
            elif row in unsure:
                self._not_compared(SEVERAL_HEADERS)
            else:
                self._tell_differences(rows, row, of, outcome.wrong[row], "its unit says")
        self._agreed |= set(first_right)

    def _by_heads(self, rows: pa.RecordBatch, parser: Parser, source: Source, *, only: Sequence[int] | None = None) -> _Outcome:
        """What the rows are to their units, each as its file begins: most parsers do not ask for that, so one for all is tried."""
        wanted = list(range(rows.num_rows)) if only is None else list(only)
        heads = [self._head_of(self._load_of(rows, row)) for row in wanted]
        outcome = _Outcome()
        outcome.take(wanted, self._compared(rows, wanted, parser, beginning(source, heads[0])))
        again: dict[bytes, list[int]] = {}
        for row, head in zip(wanted, heads, strict=True):
            if row not in outcome.right and head != heads[0]:
                again.setdefault(head, []).append(row)
        for head, some in again.items():
            for row in some:
                outcome.wrong.pop(row, None)
            outcome.take(some, self._compared(rows, some, parser, beginning(source, head)))
        return outcome

    def _compared(self, rows: pa.RecordBatch, wanted: Sequence[int], parser: Parser, source: Source) -> _Outcome:
        some = rows.take(pa.array(wanted, pa.int64()))
        units = cast("list[bytes]", some.column("native").to_pylist())
        again = read_again(parser, source, units, self._record_type)
        stored = some.take(pa.array(again.of, pa.int64()))
        outcome = _outcome(differences(stored, again.records, self._names), again.records, again.of.tolist())
        outcome.refused = dict(again.refused)
        return outcome

    def _under_their_places(self, rows: pa.RecordBatch, parser: Parser, source: Source, outcome: _Outcome) -> set[int]:
        """Of the rows that differ those that do not, once they are read under the site and the cluster they have."""
        moved: dict[tuple[str | None, str], list[int]] = {}
        sites, clusters = rows.column("site").to_pylist(), cast("list[str]", rows.column("cluster").to_pylist())
        for row, told in outcome.wrong.items():
            if told.keys() & {"site", "cluster"}:
                moved.setdefault((sites[row], clusters[row]), []).append(row)
        found: set[int] = set()
        for (site, cluster), some in moved.items():
            of_then = dataclasses.replace(source, site=site, cluster=cluster, ce_clusters=())
            found |= self._by_heads(rows, parser, of_then, only=some).right
        return found

    def _under_unknown_headers(self, rows: pa.RecordBatch, parser: Parser, source: Source, outcome: _Outcome) -> set[int]:
        """Of the rows that differ those that depend on a header line, where their file has several."""
        wanted = [row for row in outcome.wrong if not source.head and self._load_of(rows, row).head]
        if not wanted:
            return set()
        without = self._compared(rows, wanted, parser, source)
        needy = [row for at, row in enumerate(wanted) if without.wrong.get(at) != outcome.wrong[row]]
        found: set[int] = set()
        for row in needy:
            of = self._load_of(rows, row)
            key = (of.file_id, parser.name)
            if key not in self._several_headers:
                self._several_headers[key] = has_several_headers(self._connection, of, parser, source)
            found |= {row} if self._several_headers[key] else set()
        return found

    def _made(self, rows: pa.RecordBatch, parser: Parser, label: str) -> None:
        """Compares records that were made of parts."""
        rule = getattr(parser, "completion", None)
        if rule is None or self._record_type is not rule.record_type:
            self._not_compared(f"made of parts, for which parser {parser.label} has no rule", rows.num_rows)
            return
        sources = {name for name, one in self._readers.items() if one.has_family(rule.family)}
        made, refused = made_again(self._connection, self._record_type, rule, sources, rows.to_pylist())
        for reason in refused.values():
            self._not_compared(reason)
        numbers = cast("list[int]", rows.column("id").to_pylist())
        found = [(place, made[number]) for place, number in enumerate(numbers) if number in made]
        for place, record in found:
            if record is None:
                self._tell(rows, place, self._load_of(rows, place), "no parts make it")
        places = [place for place, record in found if record is not None]
        filled = [{**record, "content_hash": 0} for _, record in found if record is not None]
        if not places:
            return
        again = stored_form(self._record_type.batch(filled))
        names = [c.name for c in self._record_type.columns if c.name != "content_hash"]
        outcome = _outcome(differences(rows.take(pa.array(places)), again, names), again, places)
        self._compared_rows += len(outcome.right)
        for row, told in outcome.wrong.items():
            if label == parser.label:
                self._tell_differences(rows, row, self._load_of(rows, row), told, "what it was made of says")
            else:
                self._not_compared(f"read differently by parser {parser.label} now (then {label})")

    # --- telling ----------------------------------------------------------------------------------------------------------

    def _load_of(self, rows: pa.RecordBatch, row: int) -> LoadRead:
        return self._loads[int(rows.column("id")[row].as_py()) >> ROWS_PER_LOAD_BITS]

    def _head_of(self, of: LoadRead) -> bytes:
        """How the file of a load begins; of what is no followed file, as it is there now."""
        if of.file_id is None and of.path not in self._heads:
            self._heads[of.path] = head_now(of.path)
        return self._heads[of.path] if of.file_id is None else of.head

    def _not_compared(self, reason: str, records: int = 1) -> None:
        self.not_compared[reason] += records

    def _tell_differences(self, rows: pa.RecordBatch, row: int, of: LoadRead, told: Mapping[str, object], says: str) -> None:
        stored = rows.slice(row, 1).to_pylist()[0]
        columns = {c.name: c for c in self._record_type.columns}
        said = "; ".join(difference(columns[name], stored[name], value, says) for name, value in told.items())
        self._tell(rows, row, of, said)

    def _tell(self, rows: pa.RecordBatch, row: int, of: LoadRead, what: str) -> None:
        self._differing += 1
        if self._differing > NAMED:
            return
        stored = rows.slice(row, 1).to_pylist()[0]
        self._found.problems.append(f"{name_of(self._record_type, stored)}: {what} ({place_of(of.path, stored)})")


def _outcome(found: Differences, read: pa.RecordBatch, of: Sequence[int]) -> _Outcome:
    """The rows that are the same, and of the others which columns differ, and what was read; `of` are the rows' numbers."""
    outcome = _Outcome()
    differs = any_of(found, len(of))
    outcome.right = {of[at] for at in np.flatnonzero(~differs).tolist()}
    for at in np.flatnonzero(differs).tolist():
        outcome.wrong[of[at]] = {name: read.column(name)[at].as_py() for name, mask in found.items() if mask[at]}
    return outcome
