"""A site's own parser in its smallest form: a generator that is given lines and yields a dictionary a record (that of 2012)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from batchacct.errors import ConfigError
from batchacct.model import IDENTITY, JOB, PART, Record, RecordType, content_hash, text_of
from batchacct.parsing.contract import (
    UNFORESEEN,
    Block,
    Completion,
    Parsed,
    Reject,
    RejectedUnit,
    Source,
    batch_or_reject,
    in_order,
    rejected,
    too_long,
)
from batchacct.parsing.framing import LINES, Framing

Lines = Iterator[str]
Generator = Callable[[Lines], Iterable[Mapping[str, object]]]

NO_RECORD = "no record was made of it"


def filled(record_type: RecordType, row: Mapping[str, object], key_prefix: str) -> Record:
    """A site's dictionary with what can be told for it: key from ids and times, `join_id` from `lrms_job_id`, `state` unknown."""
    ids = (row.get("lrms_job_id"), row.get("array_index"), row.get("start_at"), row.get(record_type.time_column))
    return {
        "lrms": "unknown",
        "join_id": row.get("lrms_job_id"),
        "record_key": ":".join([key_prefix, *("" if i is None else str(i) for i in ids)]),
        **({"state": "unknown"} if record_type is JOB else {"time_kind": "submit"}),
        **row,
    }


@dataclass(frozen=True)
class GeneratorParser:
    """A parser made of a generator: it is given an iterator of lines (text, without their ends), and what it yields is a record
    of the line it took last. A line of which nothing is yielded is skipped; one at which it fails is a reject, and it is begun
    anew at the next. It is begun anew for each block as well, so it must not remember lines: a header is not seen again.
    """

    name: str
    record_type: RecordType
    generator: Generator
    doc: str
    framing: Framing = LINES
    completion: Completion | None = None

    @property
    def label(self) -> str:
        return f"{self.name}/1"

    def recognises(self, head: bytes) -> bool:
        """No: such a parser is named in the configuration."""
        return False

    def parse(self, blocks: Iterable[Block], source: Source, *, workers: int = 1) -> Iterator[Parsed]:
        return in_order(lambda block: self._parse_block(block, source), blocks, workers)

    def _parse_block(self, block: Block, source: Source) -> Parsed:
        if block.dropped:
            return too_long(self.record_type, block)
        units = [(start, block.data[start:end]) for start, end in self.framing.spans(block.data)]
        lines = _Lines(units)
        records: dict[int, Record] = {}
        rejects: dict[int, str] = {}
        while lines.taken < len(units):
            before = lines.taken
            try:
                for row in self.generator(lines):
                    if not self._take(row, lines.taken - 1, records, rejects):
                        break
            except Reject as reject:
                rejects[lines.taken - 1] = reject.reason
            except UNFORESEEN as error:
                rejects[lines.taken - 1] = f"the parser does not foresee this line ({type(error).__name__}: {error})"
            if lines.taken == before:
                break
        kept = [self._with_origin(record, units[n], block, source) for n, record in sorted(records.items()) if n not in rejects]
        bad = [_rejected(units[max(n, 0)], block, reason) for n, reason in sorted(rejects.items())]
        batch = batch_or_reject(self.record_type, kept, bad)
        skipped = len(units) - batch.num_rows - len(bad)
        ordered = tuple(sorted(bad, key=lambda reject: reject.offset))
        return Parsed(batch, PART.empty(), ordered, {NO_RECORD: skipped} if skipped else {}, block.offset, block.end_offset)

    def _take(self, row: object, unit: int, records: dict[int, Record], rejects: dict[int, str]) -> bool:
        """Notes what was yielded for a line; whether the generator is to go on, which may yield for ever."""
        if unit < 0:
            raise ConfigError(f"parser {self.name} yields a record before it has taken a line: take one for each record")
        if not isinstance(row, Mapping):
            rejects[unit] = f"the parser yields a {type(row).__name__}, and not a dictionary of column name to value"
        elif unit in records:
            rejects[unit] = "the parser yields two records of one line"
            return False
        else:
            records[unit] = {str(name): value for name, value in row.items()}
        return True

    def _with_origin(self, row: Record, unit: tuple[int, bytes], block: Block, source: Source) -> Record:
        start, raw = unit
        return {
            "site": source.site,
            "cluster": source.cluster,
            **filled(self.record_type, row, f"{self.name}:{source.cluster}"),
            "content_hash": content_hash(raw),
            "native": raw,
            "source": source.name,
            "source_offset": block.offset + start,
            "parser": self.label,
        }


def _rejected(unit: tuple[int, bytes], block: Block, reason: str) -> RejectedUnit:
    return rejected(unit[1], block.offset + unit[0], reason)


class _Lines:
    """The lines of a block, and how many of them were taken."""

    def __init__(self, units: list[tuple[int, bytes]]) -> None:
        self._units = units
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.taken == len(self._units):
            raise StopIteration
        self.taken += 1
        return text_of(self._units[self.taken - 1][1])


def generator_parser(name: str, generator: Generator) -> GeneratorParser:
    """The parser a generator makes; its attribute `record_type` may say "identity", else its records are jobs.

    Raises: ConfigError for another record type.
    """
    wanted = getattr(generator, "record_type", "job")
    types = {"job": JOB, "identity": IDENTITY}
    if wanted not in types:
        raise ConfigError(f"parser {name}: record_type {wanted!r} is neither job nor identity")
    return GeneratorParser(name, types[wanted], generator, generator.__doc__ or "")
