"""What a report on paper is made of: headings, paragraphs, lists, tables, pictures, lines to sign on; not how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One or more sentences; `warns` if they must not be overlooked."""

    text: str
    warns: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names the rows. With `has_total` the last row is the sum."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    has_total: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, as SVG and as PNG, and what it shows, in words."""

    svg: Path
    png: Path
    title: str
    described: str


@dataclass(frozen=True, slots=True)
class Signatures:
    """Lines to be filled in by hand."""

    labels: Sequence[str]


Block = Heading | Paragraph | Bullets | Table | Picture | Signatures


@dataclass(frozen=True, slots=True)
class Document:
    """A title, what is below it, and the blocks in order; `footer` says by what it was made, and when."""

    title: str
    subtitle: str
    blocks: Sequence[Block]
    footer: str


def cell_text(cell: Cell) -> str:
    """As a table shows it: thousands apart, one digit behind the point, a dash for what is not known."""
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.1f}"
