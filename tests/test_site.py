"""The site of `make docs`: every page is in it, no link leads nowhere, nothing comes from another host; its picture is true."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from batchacct.store.tables import metadata
from docs.build import ROOT, build, problems
from docs.conf import contents_of
from docs.draw_architecture import BOXES, PICTURE, picture

INDEX = ROOT / "docs" / "index.md"
HEAD = '<html><head><link rel="stylesheet" href="{style}"></head><body>'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    assert build(folder) == "", "every warning is an error, and nothing else is said"
    return folder


def test_every_link_of_the_site_leads_somewhere_and_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    assert problems(site) == []


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))]
    assert all((site / path.relative_to(ROOT)).with_suffix(".html").is_file() for path in pages)
    assert (site / "index.html").is_file()


def test_a_page_can_be_read_without_a_mouse_and_by_ear(site: Path) -> None:
    page = (site / "docs/how-to/slurm.html").read_text(encoding="utf-8")
    for shown in ("<pre", '<p class="caption"'):
        assert page.count(shown) > 0, "the theme writes something else by now"
    assert page.count("<pre") == page.count('<pre tabindex="0"')
    assert page.count("table-wrapper") == page.count('<div tabindex="0" class="table-wrapper') > 0
    assert page.count('role="heading"') == page.count('role="heading" aria-level="2"') > 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('<a href="two.html">', "two.html leads nowhere"),
        ('<a href="#below">', "#below leads to no place of that page"),
        ('<a href="one.html#above">', "one.html#above leads to no place of that page"),
        ('<a href="http://[::1">', "http://[::1 is no URL: Invalid IPv6 URL"),
        ('<a href="https:/example.org/">', "https:/example.org/ leads to no host"),
        ('<script src="https://cdn.example.org/x.js"></script>', "fetches https://cdn.example.org/x.js"),
        ('<img src="style.css">', "style.css has no text for those who do not see it"),
        ('<p id="here"><a href="one.html#here"><a href="#here"><a href="https://example.org/">', None),
    ],
)
def test_what_is_wrong_with_a_page_is_told(tmp_path: Path, body: str, told: str | None) -> None:
    (tmp_path / "style.css").write_text("a {}")
    (tmp_path / "one.html").write_text(HEAD.format(style="style.css") + body)
    assert problems(tmp_path) == ([f"one.html: {told}"] if told else [])


@pytest.mark.parametrize(
    "text", ["@import '//fonts.example.org/x'", "a { b: url(https://fonts.example.org/x) }", "fetch('http://x.org')"]
)
def test_what_a_style_or_script_fetches_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.css").write_text(text)
    (told,) = problems(tmp_path)
    assert told.startswith("x.css: fetches ")


def test_the_contents_are_the_lists_of_the_index() -> None:
    text = INDEX.read_text(encoding="utf-8")
    contents = contents_of(text)
    listed = re.findall(r"^- \[[^\]]+\]\((\S+\.md)\)$", text, re.MULTILINE)
    assert re.findall(r"^\S+\.md$", contents, re.MULTILINE) == listed
    assert {":caption: Tutorial", ":caption: How-to: databases", ":caption: Reference", ":caption: Explanation"} <= set(
        contents.splitlines()
    )


def test_the_picture_is_fresh_and_names_tables_that_exist() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run `python -m docs.draw_architecture`"
    (store,) = (box for box in BOXES if box.kind == "store")
    listed = [names for line in store.lines for names in re.findall(r"^[a-z_, ]+(?=:|$)", line)]
    named = {name for names in listed for name in names.split(", ")}
    assert {"job", "identity", "process", "part", "reject", "load", "followed_file", "usage", "message"} <= named
    assert {name for name in named if " " not in name} <= set(metadata.tables)


def test_the_picture_can_be_read_by_everybody() -> None:
    root = ET.fromstring(picture())
    space = {"svg": "http://www.w3.org/2000/svg"}
    texts = {part.get("id"): part.text for part in root.findall("*") if part.get("id")}
    assert root.get("role") == "img"
    assert all(texts[name] for name in (root.get("aria-labelledby") or "").split())
    width = float(root.get("width") or 0)
    assert all(0 <= float(text.get("x") or 0) <= width for text in root.iterfind("svg:text", space))


@pytest.mark.parametrize("page", [INDEX, ROOT / "docs/explanation/architecture.md"], ids=lambda path: path.name)
def test_who_does_not_see_the_picture_is_told_what_is_in_it(page: Path) -> None:
    (text,) = re.findall(r"!\[([^\]]+)\]\(\S*architecture\.svg\)", page.read_text(encoding="utf-8"))
    assert {"collector", "parsers", "store", "join", "formats", "transports", "receivers", "archive", "portal"} <= set(
        re.findall(r"\w+", text)
    )
