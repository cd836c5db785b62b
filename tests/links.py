"""Links of Markdown pages, as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Files that a page links to or shows, outside of code, and the heading in each, or ""; nothing of other hosts."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor


def dead(folder: Path) -> list[str]:
    """Links of the pages in a folder to what is not in it."""
    inside = folder.resolve()
    return [
        f"{page}: {linked}"
        for page in sorted(folder.rglob("*.md"))
        for linked, _ in links(page.resolve())
        if not linked.exists() or not linked.is_relative_to(inside)
    ]
