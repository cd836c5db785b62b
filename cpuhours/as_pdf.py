"""A document as PDF, on A4 across, drawn by matplotlib: the same document, the same bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

from batchacct.cli.common import harmless, is_numeric
from cpuhours.document import Block, Bullets, Document, Heading, Paragraph, Picture, Signatures, Table, cell_text
from cpuhours.plot import house_style

WIDTH_IN, HEIGHT_IN, MARGIN_IN = 11.69, 8.27, 0.6
LINE_IN = 0.165
SMALL = 7.0
"""Points of a fixed-width font: so many that a row of `ROW_CHARACTERS` fits."""
ROW_CHARACTERS = 174
TEXT_CHARACTERS = 165
MONO, SANS = "DejaVu Sans Mono", "DejaVu Sans"
CHARACTER_IN = SMALL * 1233 / 2048 / 72
"""Width of a character of that font."""

Line = list[tuple[int, str]]
"""The cells of a line: before how many characters each begins, and its text."""


class _Pages:
    """Lines from top to bottom, a new page where one is full."""

    def __init__(self, pdf: PdfPages, footer: str) -> None:
        self._pdf, self._footer = pdf, footer
        self._figure: Figure | None = None
        self._left_in = 0.0
        self._number = 0

    def is_full(self, height_in: float) -> bool:
        return self._figure is None or self._left_in < height_in

    def need(self, height_in: float) -> None:
        """A new page, unless so much of this one is left."""
        if self.is_full(height_in):
            self.end()
            self._number += 1
            self._figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
            FigureCanvasAgg(self._figure)
            self._left_in = HEIGHT_IN - 2 * MARGIN_IN
            self._write(f"{self._footer}  Page {self._number}", MARGIN_IN - 0.25, SMALL, color="#444444")

    def line(self, text: str, size: float = 9.0, *, font: str = SANS, bold: bool = False, height_in: float = LINE_IN) -> None:
        self.need(height_in)
        self._left_in -= height_in
        self._write(text, MARGIN_IN + self._left_in, size, font=font, bold=bold)

    def row(self, cells: Line, *, bold: bool = False) -> None:
        """Each cell a text of its own: in one with them, a name in a script written from the right would turn the figures round."""
        self.need(LINE_IN)
        self._left_in -= LINE_IN
        for before, text in cells:
            self._write(text, MARGIN_IN + self._left_in, SMALL, font=MONO, bold=bold, right_in=before * CHARACTER_IN)

    def _write(
        self,
        text: str,
        from_below_in: float,
        size: float,
        *,
        font: str = SANS,
        bold: bool = False,
        color: str = "#1a1a1a",
        right_in: float = 0.0,
    ) -> None:
        assert self._figure is not None
        weight = "bold" if bold else "normal"
        place = ((MARGIN_IN + right_in) / WIDTH_IN, from_below_in / HEIGHT_IN)
        self._figure.text(*place, harmless(text), fontsize=size, family=font, weight=weight, color=color, va="bottom")

    def rule(self, begin: float, end: float) -> None:
        """A line across a part of the page, 0 to 1 of what is between the margins."""
        assert self._figure is not None
        wide = WIDTH_IN - 2 * MARGIN_IN
        places = [(MARGIN_IN + share * wide) / WIDTH_IN for share in (begin, end)]
        height = (MARGIN_IN + self._left_in) / HEIGHT_IN
        self._figure.add_artist(Line2D(places, [height, height], color="#444444", linewidth=0.7))

    def space(self, height_in: float) -> None:
        self._left_in -= height_in

    def picture(self, picture: Picture) -> None:
        pixels = imread(picture.png)
        wide = WIDTH_IN - 2 * MARGIN_IN
        high = min(wide * pixels.shape[0] / pixels.shape[1], HEIGHT_IN - 2 * MARGIN_IN)
        self.need(high)
        self._left_in -= high
        assert self._figure is not None
        axes = self._figure.add_axes(
            (MARGIN_IN / WIDTH_IN, (MARGIN_IN + self._left_in) / HEIGHT_IN, wide / WIDTH_IN, high / HEIGHT_IN)
        )
        axes.imshow(pixels)
        axes.set_axis_off()

    def end(self) -> None:
        if self._figure is not None:
            self._pdf.savefig(self._figure)  # type: ignore[no-untyped-call]
        self._figure = None


def as_pdf(document: Document) -> bytes:
    """The whole file."""
    data = BytesIO()
    metadata = {"Title": document.title, "CreationDate": None, "Creator": None, "Producer": None}
    with house_style(), PdfPages(data, metadata=metadata) as pdf:
        pages = _Pages(pdf, document.footer)
        pages.line(document.title, 15, bold=True, height_in=0.32)
        for line in textwrap.wrap(document.subtitle, TEXT_CHARACTERS):
            pages.line(line)
        for block in document.blocks:
            _draw(pages, block)
        pages.end()
    return data.getvalue()


def _draw(pages: _Pages, block: Block) -> None:
    if isinstance(block, Heading):
        pages.need(1.2)
        pages.space(0.12)
        pages.line(block.text, 12, bold=True, height_in=0.3)
    elif isinstance(block, Paragraph):
        for line in textwrap.wrap(block.text, TEXT_CHARACTERS):
            pages.line(line, bold=block.warns)
    elif isinstance(block, Bullets):
        for item in block.items:
            for number, line in enumerate(textwrap.wrap(item, TEXT_CHARACTERS - 4)):
                pages.line(f"{'    ' if number else '-   '}{line}")
    elif isinstance(block, Table):
        _table(pages, block)
    elif isinstance(block, Picture):
        pages.picture(block)
    else:
        _signatures(pages, block)


def _table(pages: _Pages, table: Table) -> None:
    """Rows of fixed width; the head stands again on every page."""
    lines = _laid_out(table)
    pages.need(LINE_IN * (len(lines.head) + 4))
    pages.line(table.caption, 9, bold=True, height_in=0.24)
    _head(pages, lines.head)
    for number, row in enumerate(lines.rows):
        total = table.has_total and number == len(lines.rows) - 1
        if pages.is_full(LINE_IN * (len(row) + 1)):
            pages.need(HEIGHT_IN)
            _head(pages, lines.head)
        if total:
            pages.rule(0, 1)
        for line in row:
            pages.row(line, bold=total)
    pages.space(0.1)


def _head(pages: _Pages, head: Sequence[Line]) -> None:
    for line in head:
        pages.row(line, bold=True)
    pages.rule(0, 1)


class _Lines(NamedTuple):
    """A table as lines of a fixed-width font: those of its head, and of each row."""

    head: list[Line]
    rows: list[list[Line]]


def _laid_out(table: Table) -> _Lines:
    """Columns as wide as what is in them; a head of several words takes several lines, and so does a text too long for a page."""
    texts = [[harmless(cell_text(cell)).replace("\n", "\\n") for cell in row] for row in table.rows]
    numeric = [is_numeric(table.rows, column) for column in range(len(table.columns))]
    widths = []
    for column, name in enumerate(table.columns):
        words = max((len(word) for word in name.split()), default=1)
        cells = max((len(row[column]) for row in texts), default=1)
        widths.append(max(words, cells, 1))
    while sum(widths) + 2 * len(widths) > ROW_CHARACTERS:
        widths[widths.index(max(widths))] -= 1
    heads = [textwrap.wrap(name, width) or [""] for name, width in zip(table.columns, widths, strict=True)]
    return _Lines(_side_by_side(heads, widths, numeric, below=True), [_wrapped(row, widths, numeric) for row in texts])


def _wrapped(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> list[Line]:
    return _side_by_side([textwrap.wrap(text, width) or [""] for text, width in zip(row, widths, strict=True)], widths, numeric)


def _side_by_side(
    cells: Sequence[Sequence[str]], widths: Sequence[int], numeric: Sequence[bool], *, below: bool = False
) -> list[Line]:
    """Cells of several lines as the lines of a row; `below` puts them at its foot."""
    high = max(len(cell) for cell in cells)
    lines: list[Line] = [[] for _ in range(high)]
    begin = 0
    for cell, width, right in zip(cells, widths, numeric, strict=True):
        first = high - len(cell) if below else 0
        for number, text in enumerate(cell):
            lines[first + number].append((begin + (width - len(text) if right else 0), text))
        begin += width + 2
    return lines


def _signatures(pages: _Pages, block: Signatures) -> None:
    pages.need(1.0)
    pages.space(0.7)
    share = 1 / len(block.labels)
    for number in range(len(block.labels)):
        pages.rule(number * share, (number + 0.9) * share)
    wide = ROW_CHARACTERS // len(block.labels)
    pages.row([(number * wide, label) for number, label in enumerate(block.labels)])
