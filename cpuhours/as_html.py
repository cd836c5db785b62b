"""A document as one HTML file: nothing is fetched, nothing runs, and what users have named things is text and nothing else."""

from __future__ import annotations

import html
import re

from batchacct.cli.common import harmless, is_numeric
from cpuhours.document import Block, Bullets, Document, Heading, Paragraph, Picture, Signatures, Table, cell_text

_STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0 0.2rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; border-bottom: 1px solid #767676; }
.subtitle, footer { color: #444; }
.warns { border-left: 0.4rem solid #b00020; padding: 0.4rem 0.8rem; font-weight: 600; }
.wide { overflow-x: auto; margin: 0.8rem 0; }
.wide:focus-visible { outline: 3px solid #0072b2; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #c4c4c4; }
th, td { text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #444; vertical-align: bottom; }
tbody th { font-weight: 400; min-width: 7rem; overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
thead .number { white-space: normal; }
.total > * { border-top: 2px solid #444; font-weight: 600; }
figure { margin: 1rem 0; }
figure svg { width: 100%; height: auto; }
.sign { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: 3rem 2rem; margin-top: 3.5rem; }
.sign p { border-top: 1px solid #1a1a1a; margin: 0; padding-top: 0.2rem; }
footer { margin-top: 2rem; font-size: 0.85rem; }
@media print {
  body { max-width: none; font-size: 9pt; }
  .wide { overflow: visible; }
  h2, tr, figure, .sign { break-inside: avoid; }
}
"""


def as_html(document: Document) -> str:
    """The whole file, in UTF-8 without a byte-order mark."""
    body = "".join(_block(block, number) for number, block in enumerate(document.blocks))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{_text(document.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_text(document.title)}</h1>
<p class="subtitle">{_text(document.subtitle)}</p>
{body}</main>
<footer><p>{_text(document.footer)}</p></footer>
</body>
</html>
"""


def _text(text: str) -> str:
    return html.escape(harmless(text))


def _block(block: Block, number: int) -> str:
    if isinstance(block, Heading):
        return f"<h2>{_text(block.text)}</h2>\n"
    if isinstance(block, Paragraph):
        mark = ' class="warns"' if block.warns else ""
        return f"<p{mark}>{_text(block.text)}</p>\n"
    if isinstance(block, Bullets):
        return "<ul>\n" + "".join(f"<li>{_text(item)}</li>\n" for item in block.items) + "</ul>\n"
    if isinstance(block, Table):
        return _table(block, number)
    if isinstance(block, Picture):
        return _picture(block, number)
    assert isinstance(block, Signatures)
    return '<div class="sign">\n' + "".join(f"<p>{_text(label)}</p>\n" for label in block.labels) + "</div>\n"


def _table(table: Table, number: int) -> str:
    """A table that can be scrolled by keyboard where it is wider than the page."""
    right = [' class="number"' if is_numeric(table.rows, column) else "" for column in range(len(table.columns))]
    head = "".join(f'<th scope="col"{mark}>{_text(name)}</th>' for name, mark in zip(table.columns, right, strict=True))
    rows = []
    for place, row in enumerate(table.rows):
        first, *rest = row
        cells = "".join(f"<td{mark}>{_text(cell_text(cell))}</td>" for cell, mark in zip(rest, right[1:], strict=True))
        total = ' class="total"' if table.has_total and place == len(table.rows) - 1 else ""
        rows.append(f'<tr{total}><th scope="row">{_text(cell_text(first))}</th>{cells}</tr>\n')
    body = "".join(rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-labelledby="caption{number}">\n'
        f'<table>\n<caption id="caption{number}">{_text(table.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def _picture(picture: Picture, number: int) -> str:
    """The picture in the page itself, without the metadata and the declarations that only a file of its own has."""
    svg = picture.svg.read_text(encoding="utf-8")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    title, described = f"title{number}", f"described{number}"
    opening = f'<svg role="img" aria-labelledby="{title} {described}"'
    texts = f'<title id="{title}">{_text(picture.title)}</title><desc id="{described}">{_text(picture.described)}</desc>'
    head, rest = svg.removeprefix("<svg").split(">", 1)
    return f"<figure>\n{opening}{head}>{texts}{rest.strip()}\n</figure>\n"
