"""docs/explanation/seed-systems.md: every feature has its line, every line its test, every test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TEXT = (HERE.parents[1] / "docs/explanation/seed-systems.md").read_text(encoding="utf-8")
FEATURES = [*(f"A{n}" for n in range(1, 18)), *(f"E{n}" for n in range(1, 16)), *(f"O{n}" for n in range(1, 19))]
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ") and "| feature |" not in line]
NAMED = re.compile(r"`((?:sensor/)?test_\w+\.py)::((?:Test\w+::)?test_\w+)`")


def test_every_feature_has_a_line() -> None:
    assert [row[0] for row in ROWS if re.fullmatch(r"[AEO]\d+", row[0])] == FEATURES


def test_every_line_has_a_test() -> None:
    assert [row for row in ROWS if row[0] != "where" and not NAMED.search(row[-1])] == []


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED.findall(TEXT)}))
def test_every_test_exists(file: str) -> None:
    there = set(_tests(ast.parse((HERE / file).read_text(encoding="utf-8"))))
    assert {name for named, name in NAMED.findall(TEXT) if named == file} <= there


def test_nothing_else_is_named() -> None:
    """What looks like a test is one that is checked here."""
    assert len(NAMED.findall(TEXT)) == len(re.findall(r"::test_\w+|::Test\w+::test_\w+", TEXT))


def _tests(tree: ast.Module) -> list[str]:
    found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found += [f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)]
    return found
