"""Samples of the SGE family, parsed, and their parts put together as the core does it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from pathlib import Path

from batchacct.parsing import Block, Parsed, Row, Source, UnitParser, Whole
from loccol.sge import PARSER
from loccol.sge_parallel import complete

SAMPLES = Path(__file__).parent.parent / "samples" / "sge"
SOURCE = Source("sge-test", site="SITE", cluster="cell")
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def lines(name: str) -> list[bytes]:
    """The lines of a sample that are no comment."""
    return [line for line in sample(name).split(b"\n") if line and not line.startswith(b"#")]


def parse(data: bytes, parser: UnitParser = CAREFUL) -> Parsed:
    return parser.parse_block(Block(data, 0), SOURCE)


def stored(row: Row) -> Row:
    """A row as the store gives it back: instants as Unix seconds."""
    return {name: int(value.timestamp()) if isinstance(value, dt.datetime) else value for name, value in row.items()}


def wholes(*parsed: Parsed) -> list[Whole]:
    """The wholes of all parts, oldest first."""
    parts = [stored(part) for one in parsed for part in one.parts.to_pylist()]
    parts.sort(key=lambda part: (str(part["part_key"]), str(part["logged_at"]), str(part["record_key"])))
    return [Whole(key, tuple(group)) for key, group in itertools.groupby(parts, lambda part: str(part["part_key"]))]


def rows(data: bytes, parser: UnitParser = CAREFUL) -> list[Row]:
    """All jobs of a log: those that stand in one line, and those made of parts; instants as Unix seconds."""
    parsed = parse(data, parser)
    alone = [stored(row) for row in parsed.records.to_pylist()]
    return alone + [completed.record for whole in wholes(parsed) for completed in complete(whole)]


def job(line: bytes, parser: UnitParser = CAREFUL) -> Row:
    """The one job of one line; columns without a value may be absent."""
    [row] = rows(line, parser)
    return row
