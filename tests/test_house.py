"""Rules of the house that a machine can hold: directions of imports, exit statuses, docstrings, sizes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchacct.store.dialects  # noqa: F401 - defines an error of its own, which the walk below is to find
from batchacct.errors import BatchacctError, Permanent, Transient

ROOT = Path(__file__).parents[1]
CORE = "batchacct"
ROOMS = tuple(
    sorted(p.parent.name for p in ROOT.glob("*/__init__.py") if p.parent.name not in (CORE, "tests", "benchmarks", "docs"))
)
LONGEST_MODULE = 400


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imported_packages(path: Path) -> Iterator[str]:
    """The top-level packages a module imports, within functions and for type checkers too."""
    package = path.relative_to(ROOT).parts[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0] if not node.level else package


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_rooms() -> None:
    assert {"loccol", "cecol", "pub", "cpuhours", "procacct"} <= set(ROOMS)


@pytest.mark.parametrize("path", modules(CORE), ids=shown)
def test_the_core_imports_no_room(path: Path) -> None:
    assert not set(imported_packages(path)) & {*ROOMS, "tests", "benchmarks"}


@pytest.mark.parametrize("path", modules(*ROOMS), ids=shown)
def test_a_room_imports_the_core_alone(path: Path) -> None:
    others = {*ROOMS, "tests", "benchmarks"} - {path.relative_to(ROOT).parts[0]}
    assert not set(imported_packages(path)) & others


@pytest.mark.parametrize("path", modules(CORE, *ROOMS, "tests", "benchmarks"), ids=shown)
def test_a_module_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", modules(CORE, *ROOMS, "benchmarks"), ids=shown)
def test_a_module_is_not_long(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= LONGEST_MODULE


@pytest.mark.parametrize("path", modules(CORE, *ROOMS, "tests", "benchmarks"), ids=shown)
def test_pages_that_a_module_names_are_here(path: Path) -> None:
    """Whoever reads the module has them; those of others are named as `owner/repository:page`."""
    for name in re.findall(r"(?<![\w/.:-])[a-z][\w-]*(?:/[\w-]+)+\.md\b", path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (path.parent / name).exists() or (ROOT / "docs" / name).exists(), name


def errors(base: type[BatchacctError] = BatchacctError) -> Iterator[type[BatchacctError]]:
    yield base
    for error in base.__subclasses__():
        yield from errors(error)


def test_each_error_has_an_exit_status_of_its_own() -> None:
    ours = [error for error in errors() if error.__module__.partition(".")[0] in (CORE, *ROOMS)]
    assert "KnownRecordsError" in {error.__name__ for error in ours}
    statuses = [error.exit_code for error in ours]
    assert sorted(statuses) == sorted(set(statuses))
    assert not set(statuses) & {0, 2}, "0 is success, 2 is click's for a wrong command line"
    assert max(statuses) < 126, "the shell's own begin there"
    for error in ours[1:]:
        assert issubclass(error, Transient) != issubclass(error, Permanent), error
