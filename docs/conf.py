"""How Sphinx builds the site of `make docs`: from the Markdown pages as they are, with nothing from another host.

The source is the whole repository, so that the links between README, CHANGELOG and the pages below docs/ are the same here and on a
code host. The table of contents is docs/index.md: each of its lists is a part of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchacct import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
INDEX = "docs/index"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")

project = "batchacct"
author = "the authors of batchacct"
copyright = author  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = INDEX
exclude_patterns = sorted({path.name for path in ROOT.iterdir()} - set(PAGES))
nitpicky = True
myst_heading_anchors = 6
highlight_language = "none"

html_theme = "furo"
html_title = f"batchacct {release}"
html_extra_path = ["site"]
html_copy_source = False
html_show_sphinx = False
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": [], "footer_icons": []}


def contents_of(index: str) -> str:
    """Hidden tables of contents, one for each heading with a list of pages below it, from the text of the index page."""
    blocks = []
    part = ""
    for heading, below in re.findall(r"^(#{2,3} .*)\n((?:(?!#).*\n?)*)", index, re.MULTILINE):
        depth, _, title = heading.partition(" ")
        part = title if depth == "##" else part
        pages = re.findall(r"^- \[.*?\]\((\S+?\.md)\)", below, re.MULTILINE)
        if pages:
            caption = title if depth == "##" else f"{part}: {title[:1].lower()}{title[1:]}"
            blocks.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]))
    return "\n".join(blocks)


def _add_contents(_: Sphinx, name: str, source: list[str]) -> None:
    if name == INDEX:
        source[0] += "\n" + contents_of(source[0])


def _let_everybody_read(_: Sphinx, _name: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """What is missing for those who use no mouse, or listen: what is wider than the page can be scrolled, captions have a level."""
    for part, without, having in (
        ("body", "<pre>", '<pre tabindex="0">'),
        ("body", '<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
        ("furo_navigation_tree", 'role="heading"', 'role="heading" aria-level="2"'),
    ):
        if part in context:
            context[part] = context[part].replace(without, having)


def setup(app: Sphinx) -> None:
    """Sphinx calls it."""
    app.connect("source-read", _add_contents)
    app.connect("html-page-context", _let_everybody_read, priority=900)
