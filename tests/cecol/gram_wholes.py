"""What the tests of the Globus parsers share: both lanes over some bytes, any chunking, wholes made of parts, identities."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings

from batchacct.model import IDENTITY, PART
from batchacct.parsing.contract import Block, Parsed, Source, UnitParser, Whole
from batchacct.parsing.reading import read_blocks
from cecol.gram_parts import complete

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SAMPLES = Path(__file__).parent.parent / "samples" / "gram"
SOURCE = Source("gram", site="SITE", cluster="main")

Row = dict[str, Any]

FUZZED = settings(
    max_examples=int(os.environ.get("BATCHACCT_FUZZ", "70")), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
"""For a test over mutated lines: the number of examples is raised by BATCHACCT_FUZZ."""


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def parse(parser: UnitParser, data: bytes, source: Source = SOURCE) -> Parsed:
    """One block through both lanes, and once more through the careful one: they agree, and every unit is somewhere."""
    parsed = parser.parse_block(Block(data, 0), source)
    careful = dataclasses.replace(parser, fast_lane=None).parse_block(Block(data, 0), source)
    assert_same(parsed, careful)
    assert parsed.records.schema.equals(IDENTITY.schema, check_metadata=True)
    assert parsed.parts.schema.equals(PART.schema, check_metadata=True)
    assert parsed.units == len(list(parser.framing.spans(data)))
    return parsed


def assert_same(one: Parsed, other: Parsed) -> None:
    assert one.records.to_pylist() == other.records.to_pylist()
    assert one.parts.to_pylist() == other.parts.to_pylist()
    assert (one.rejects, one.skipped) == (other.rejects, other.skipped)


class Pieces:
    """A stream that gives as many bytes at a time as it is told to, over and over."""

    def __init__(self, data: bytes, sizes: Sequence[int]) -> None:
        self._data = data
        self._sizes = sizes
        self._reads = 0

    def read(self, size: int = -1, /) -> bytes:
        length = self._sizes[self._reads % len(self._sizes)]
        self._reads += 1
        piece, self._data = self._data[:length], self._data[length:]
        return piece


def in_pieces(parser: UnitParser, data: bytes, sizes: Sequence[int]) -> tuple[list[Row], list[Row], list[object], Counter[str]]:
    """Records, parts, rejects and skips of a stream that comes in pieces of these sizes."""
    records: list[Row] = []
    parts: list[Row] = []
    rejects: list[object] = []
    skipped: Counter[str] = Counter()
    for parsed in parser.parse(read_blocks(Pieces(data, sizes), parser.framing), SOURCE):
        records += parsed.records.to_pylist()
        parts += parsed.parts.to_pylist()
        rejects += parsed.rejects
        skipped.update(parsed.skipped)
    return records, parts, rejects, skipped


def parts_of(parser: UnitParser, data: bytes, source: Source = SOURCE) -> list[Row]:
    """The parts as the store gives them to a rule: instants are Unix seconds.  Nothing may be a reject."""
    parsed = parse(parser, data, source)
    assert not parsed.rejects, [reject.reason for reject in parsed.rejects]
    return [
        {name: int(v.timestamp()) if isinstance(v, dt.datetime) else v for name, v in row.items()}
        for row in parsed.parts.to_pylist()
    ]


def identities(parts: Iterable[Row]) -> list[Row]:
    """The identities of all wholes, as records that the store would take, in the order of their keys."""
    wholes: dict[str, list[Row]] = {}
    for part in parts:
        assert part["family"] == "gram" and part["record_type"] == "identity"
        wholes.setdefault(part["part_key"], []).append(part)
    made = []
    for key, of_whole in wholes.items():
        oldest_first = sorted(of_whole, key=lambda part: part["logged_at"])
        completed = complete(Whole(key, tuple(oldest_first)))
        records = tuple({**c.origin, **c.record} for c in completed)
        again = complete(Whole(key, tuple(oldest_first), records))
        assert again == completed, "given what it made, the rule makes the same"
        for one in completed:
            taken_over = {name: one.origin[name] for name in IDENTITY.names & one.origin.keys() if name not in one.record}
            made.append({**taken_over, **one.record})
    IDENTITY.batch(made)
    return sorted(made, key=lambda record: str(record["record_key"]))


def reasons(parser: UnitParser, data: bytes) -> list[str]:
    return [reject.reason for reject in parse(parser, data).rejects]


def utc(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp())
