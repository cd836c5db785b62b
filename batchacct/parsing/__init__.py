"""Parsers: their contract, framing, registry, and reading of files."""

from batchacct.parsing.contract import (
    Block,
    Outcome,
    Parsed,
    Parser,
    Part,
    Regular,
    Reject,
    RejectedUnit,
    Skip,
    Source,
    UnitParser,
    unit_parser,
)
from batchacct.parsing.framing import LINES, Framing, LineFraming

__all__ = [
    "LINES",
    "Block",
    "Framing",
    "LineFraming",
    "Outcome",
    "Parsed",
    "Parser",
    "Part",
    "Regular",
    "Reject",
    "RejectedUnit",
    "Skip",
    "Source",
    "UnitParser",
    "unit_parser",
]
