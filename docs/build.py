"""`make docs`: writes the generated pages, makes the site of all pages in build/docs, and follows every link in it.

The site asks nothing of another host: no script, font, style or picture. Links that lead to other hosts are for people to follow,
and the syntax alone is looked at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docs import generate

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "docs"
LOADED = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src", "object": "data", "embed": "src"}
"""What a browser fetches without being asked: tag and attribute."""
FETCHED = re.compile(r"""(?:url\(\s*["']?|@import\s+["']|\b(?:fetch|import|importScripts)\(\s*["'])(?:https?:)?//[^"')\s]*""")
"""The same in a style or script; what an inline picture names its grammar by is none."""


def build(site: Path) -> str:
    """Makes the site anew, every warning an error.  Returns: what Sphinx said.  Raises: SystemExit with that, if it has failed."""
    shutil.rmtree(site, ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-E", "-d", f"{site}.doctrees", "-c", "docs"]
    command = [sys.executable, "-m", "sphinx", *options, ".", str(site)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{done.stdout}The pages are to be mended where it says so.")
    return done.stdout


class _Page(HTMLParser):
    """What can be linked to in a page, and what it links to and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors = {""}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.unnamed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if LOADED.get(tag) in given:
            self.loaded.append(given[LOADED[tag]])
        if tag == "img" and not given.get("alt", "").strip():
            self.unnamed.append(given.get("src", ""))


def problems(site: Path) -> list[str]:
    """Links and anchors that lead nowhere, what is fetched from elsewhere, and pictures without a text, of a whole site."""
    pages = {path.resolve(): _read(path) for path in sorted(site.rglob("*.html"))}
    found = [f"{path.relative_to(site)}: {what}" for path, page in pages.items() for what in _of_page(path, page, pages)]
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.js")]):
        fetched = FETCHED.findall(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: fetches {what}" for what in fetched]
    return found


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _of_page(path: Path, page: _Page, pages: dict[Path, _Page]) -> Iterator[str]:
    for target in page.loaded:
        if urlsplit(target).netloc:
            yield f"fetches {target}"
    for picture in page.unnamed:
        yield f"{picture} has no text for those who do not see it"
    for target in (*page.links, *page.loaded):
        try:
            to = urlsplit(target)
        except ValueError as error:
            yield f"{target} is no URL: {error}"
            continue
        if to.scheme or to.netloc:
            if to.scheme not in {"http", "https", "data"} or (to.scheme != "data" and "." not in to.netloc):
                yield f"{target} leads to no host"
            continue
        there = (path.parent / unquote(to.path)).resolve() if to.path else path
        if not there.is_file():
            yield f"{target} leads nowhere"
        elif to.fragment and there in pages and unquote(to.fragment) not in pages[there].anchors:
            yield f"{target} leads to no place of that page"


def main() -> None:
    """Generates, builds, checks.  Raises: SystemExit with everything that is wrong."""
    generate.write()
    build(SITE)
    if found := problems(SITE):
        raise SystemExit("\n".join([*found, f"{len(found)} links or pictures are to be mended"]))
    print(f"{SITE}/index.html")  # noqa: T201 - for who runs make


if __name__ == "__main__":
    main()
