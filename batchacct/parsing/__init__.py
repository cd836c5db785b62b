"""Parsers: their contract, framing, registry, and reading of files."""

from batchacct.parsing.contract import (
    Block,
    Completed,
    Completion,
    Outcome,
    Parsed,
    Parser,
    Part,
    Regular,
    Reject,
    RejectedUnit,
    Row,
    Skip,
    Source,
    UnitParser,
    Whole,
    unit_parser,
)
from batchacct.parsing.framing import LINES, Framing, LineFraming

__all__ = [
    "LINES",
    "Block",
    "Completed",
    "Completion",
    "Framing",
    "LineFraming",
    "Outcome",
    "Parsed",
    "Parser",
    "Part",
    "Regular",
    "Reject",
    "RejectedUnit",
    "Row",
    "Skip",
    "Source",
    "UnitParser",
    "Whole",
    "unit_parser",
]
