"""The document as PDF: what stands where on the page, as any reader of PDF shows it."""

from __future__ import annotations

import re
import zlib

from cpuhours.as_pdf import as_pdf
from cpuhours.document import Document, Table

HEBREW = "\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET} \N{HEBREW LETTER GIMEL}\N{HEBREW LETTER DALET}"


def texts(pdf: bytes) -> list[tuple[float, str]]:
    """How far to the right each text of Latin letters and figures begins (points), and what it is, in the order drawn."""
    found = []
    for packed in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        content = zlib.decompress(packed)
        for right, shown in re.findall(rb"1 0 -0 1 ([\d.]+) [\d.]+ cm\s+BT(.*?)ET", content, re.DOTALL):
            found.append((float(right), b"".join(re.findall(rb"\(([ -~]*?)\)", shown)).decode()))
    return found


def test_a_name_written_from_the_right_leaves_the_figures_of_its_row_where_they_are() -> None:
    rows = [("atlas" if n else HEBREW, 1234, 5.5, 6.25) for n in range(2)]
    document = Document("T", "of October", [Table("Usage", ("VO", "jobs", "CPU h", "wall h"), rows)], "Footer.")
    figures = [(right, text) for right, text in texts(as_pdf(document)) if text in {"1,234", "5.5", "6.2"}]
    assert [text for _, text in figures] == 2 * ["1,234", "5.5", "6.2"]
    assert figures[:3] == figures[3:]
    assert [right for right, _ in figures[:3]] == sorted(right for right, _ in figures[:3])
